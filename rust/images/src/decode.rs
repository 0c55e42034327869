//! An image of a known format becomes pixels.

use std::io::Cursor;

use edgerouter_core::images::{Geometry, SourceFormat};
use image::{
    DynamicImage, ImageDecoder, ImageResult, Limits,
    codecs::{gif::GifDecoder, jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};

use memchr::memmem;

use super::{
    ImageError,
    reduced::{self, START_OF_SCAN},
};

/// Memory of a decoder for each pixel: up to four channels of 16 bits. Conversions take as much again.
const BYTES_PER_PIXEL: u64 = 8;
/// Memory of a decoder beside pixels, such as for colour profiles.
const BYTES_BESIDE: u64 = 16 << 20;
/// The marker at the end of a JPEG (T.81, table B.1).
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];
/// Columns or rows of an image: those of JPEG, at most.
const MOST_SIDE: u32 = 65_535;

/// Pixels, with what is still to be done with them.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// RGB or RGBA, 8 bits a channel.
    pub pixels: DynamicImage,
    /// How a viewer turns it.
    pub orientation: Orientation,
    /// The colour profile of its channels; `None`: sRGB.
    pub profile: Option<Vec<u8>>,
}

impl Decoded {
    /// Columns and rows as a viewer sees them.
    pub(crate) fn turned_size(&self) -> (u32, u32) {
        turned(
            (self.pixels.width(), self.pixels.height()),
            self.orientation,
        )
    }

    /// True without transparent pixels.
    pub(crate) fn is_opaque(&self) -> bool {
        !self.pixels.color().has_alpha()
    }
}

/// An image whose head was read, and none of its pixels.
pub(crate) struct Opened<'a> {
    bytes: &'a [u8],
    format: SourceFormat,
    decoder: Box<dyn ImageDecoder + 'a>,
    /// Columns and rows as they are stored.
    size: (u32, u32),
    orientation: Orientation,
}

/// Reads the head of an image. `most`: columns times rows, which the head may announce.
pub(crate) fn open(
    bytes: &[u8],
    format: SourceFormat,
    most: u64,
) -> Result<Opened<'_>, ImageError> {
    if format == SourceFormat::Jpeg && is_cut_off(bytes) {
        return Err(ImageError::Broken);
    }
    let limits = limits(most);
    let mut decoder = opened(bytes, format, &limits).map_err(|error| broken(&error))?;
    let (columns, rows) = decoder.dimensions();
    let got = u64::from(columns) * u64::from(rows);
    if got > most || columns > MOST_SIDE || rows > MOST_SIDE {
        return Err(ImageError::Pixels {
            got,
            limit: most,
            name: "limits.images.pixels",
        });
    }
    if got == 0 {
        return Err(ImageError::Broken);
    }
    decoder.set_limits(limits).map_err(|error| broken(&error))?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok(Opened {
        bytes,
        format,
        decoder,
        size: (columns, rows),
        orientation,
    })
}

impl Opened<'_> {
    /// Columns and rows as a viewer sees them.
    pub(crate) fn turned_size(&self) -> (u32, u32) {
        turned(self.size, self.orientation)
    }

    /// Decodes the pixels that a variant needs, of an animation those of the first frame.
    pub(crate) fn pixels(mut self, geometry: &Geometry) -> Result<Decoded, ImageError> {
        let orientation = self.orientation;
        let profile = self.decoder.icc_profile().unwrap_or_default();
        let by = geometry.reduction(self.turned_size());
        let reduced = match self.format {
            SourceFormat::Jpeg if by > 1 => reduced::decode(self.bytes, self.size, by),
            _ => None,
        };
        let pixels = match reduced {
            Some(pixels) => pixels,
            None => DynamicImage::from_decoder(self.decoder).map_err(|error| broken(&error))?,
        };
        Ok(Decoded {
            pixels: in_bytes(pixels),
            orientation,
            profile,
        })
    }
}

/// True for a JPEG whose last scan does not end in the end of the image: the decoder would fill what is missing with
/// grey. Thumbnails in the metadata have an end of their own, before that scan; coded data has neither marker.
fn is_cut_off(bytes: &[u8]) -> bool {
    memmem::rfind(bytes, &END_OF_IMAGE) < memmem::rfind(bytes, &START_OF_SCAN)
}

/// Exchanges columns and rows where an orientation does.
fn turned((columns, rows): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (rows, columns),
        _ => (columns, rows),
    }
}

fn limits(most: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_SIDE);
    limits.max_image_height = Some(MOST_SIDE);
    limits.max_alloc = Some(
        most.saturating_mul(BYTES_PER_PIXEL)
            .saturating_add(BYTES_BESIDE),
    );
    limits
}

fn opened<'a>(
    bytes: &'a [u8],
    format: SourceFormat,
    limits: &Limits,
) -> ImageResult<Box<dyn ImageDecoder + 'a>> {
    let reader = Cursor::new(bytes);
    Ok(match format {
        SourceFormat::Jpeg => Box::new(JpegDecoder::new(reader)?),
        SourceFormat::Webp => Box::new(WebPDecoder::new(reader)?),
        SourceFormat::Gif => Box::new(GifDecoder::new(reader)?),
        _ => Box::new(PngDecoder::with_limits(reader, limits.clone())?),
    })
}

fn broken(error: &image::ImageError) -> ImageError {
    tracing::debug!(%error, "an image cannot be decoded");
    ImageError::Broken
}

/// RGB, or RGBA where a pixel is transparent, of 8 bits a channel.
fn in_bytes(pixels: DynamicImage) -> DynamicImage {
    if !pixels.color().has_alpha() {
        return match pixels {
            DynamicImage::ImageRgb8(_) => pixels,
            other => DynamicImage::ImageRgb8(other.into_rgb8()),
        };
    }
    let pixels = pixels.into_rgba8();
    if pixels.pixels().any(|pixel| pixel.0[3] != u8::MAX) {
        return DynamicImage::ImageRgba8(pixels);
    }
    DynamicImage::ImageRgb8(DynamicImage::ImageRgba8(pixels).into_rgb8())
}
