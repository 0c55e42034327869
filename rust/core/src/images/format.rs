//! Formats of images, and how the bytes of one are recognised.

use crate::outcome::words;

words! {
    /// A format that the edge encodes.
    pub enum ImageFormat {
        Avif = "avif",
        Webp = "webp",
        Jpeg = "jpeg",
        Png = "png",
    }
}

impl ImageFormat {
    /// The format of a name; `jpg` is another name of `jpeg`.
    pub fn named(name: &str) -> Option<Self> {
        let name = if name == "jpg" { "jpeg" } else { name };
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Avif => "image/avif",
            Self::Webp => "image/webp",
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}

/// The format of an image as its origin sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFormat {
    /// JPEG.
    Jpeg,
    /// PNG, of whose animation the first frame counts.
    Png,
    /// WebP, the same.
    Webp,
    /// GIF, the same.
    Gif,
    /// AVIF, which is not decoded.
    Avif,
    /// SVG, which is not drawn.
    Svg,
}

/// Bytes at the start of a text that are searched for `<svg`.
const SVG_WITHIN: usize = 1_024;

impl SourceFormat {
    /// The format by the first bytes, whatever the media type says (WHATWG MIME Sniffing §6.1).
    pub fn recognise(bytes: &[u8]) -> Option<Self> {
        let is_riff = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
        if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if is_riff {
            Some(Self::Webp)
        } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
            Some(Self::Gif)
        } else if bytes.get(4..8) == Some(b"ftyp")
            && matches!(bytes.get(8..12), Some(b"avif" | b"avis"))
        {
            Some(Self::Avif)
        } else {
            is_svg(bytes).then_some(Self::Svg)
        }
    }

    /// True if the edge decodes it.
    pub fn is_decoded(self) -> bool {
        !matches!(self, Self::Avif | Self::Svg)
    }

    /// The format in which an image without a better choice is encoded.
    pub fn like(self) -> ImageFormat {
        match self {
            Self::Jpeg => ImageFormat::Jpeg,
            _ => ImageFormat::Png,
        }
    }
}

fn is_svg(bytes: &[u8]) -> bool {
    let start = bytes.get(..SVG_WITHIN).unwrap_or(bytes);
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    text.trim_ascii_start().starts_with(b"<") && text.windows(4).any(|part| part == b"<svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_recognised_by_its_first_bytes() {
        for (bytes, format) in [
            (&b"\xff\xd8\xff\xe0"[..], Some(SourceFormat::Jpeg)),
            (b"\x89PNG\r\n\x1a\n\0", Some(SourceFormat::Png)),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some(SourceFormat::Webp)),
            (b"RIFF\x10\0\0\0WAVEfmt ", None),
            (b"GIF89a", Some(SourceFormat::Gif)),
            (b"\0\0\0\x1cftypavif", Some(SourceFormat::Avif)),
            (b"\0\0\0\x1cftypmp42", None),
            (b"<?xml version=\"1.0\"?>\n<svg/>", Some(SourceFormat::Svg)),
            (b"\xef\xbb\xbf <svg", Some(SourceFormat::Svg)),
            (b"<html><body>", None),
            (b"svg <svg", None),
            (b"", None),
        ] {
            assert_eq!(SourceFormat::recognise(bytes), format, "{bytes:?}");
        }
    }
}
