//! Media types (RFC 9110 §8.3.1): of a file by its name, and which of them shrink when they are compressed.

/// The type of unknown bytes (RFC 2046 §4.5.1).
pub const UNKNOWN: &str = "application/octet-stream";

/// Extensions in lower case, sorted, with the types that IANA registers. Texts of the web are UTF-8.
const BY_EXTENSION: [(&str, &str); 95] = [
    ("3gp", "video/3gpp"),
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apk", "application/vnd.android.package-archive"),
    ("apng", "image/apng"),
    ("atom", "application/atom+xml"),
    ("avif", "image/avif"),
    ("bin", UNKNOWN),
    ("bmp", "image/bmp"),
    ("br", "application/x-brotli"),
    ("bz2", "application/x-bzip2"),
    ("cjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("doc", "application/msword"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("eot", "application/vnd.ms-fontobject"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("gz", "application/gzip"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("m4v", "video/mp4"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("mpeg", "video/mpeg"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    (
        "pptx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
    ("rdf", "application/rdf+xml"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("svg", "image/svg+xml"),
    // In gzip: see `is_gzipped`.
    ("svgz", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("ts", "video/mp2t"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("ttc", "font/collection"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("usdz", "model/vnd.usdz+zip"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xht", "application/xhtml+xml"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    (
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    ("xml", "application/xml"),
    ("xsl", "application/xslt+xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// The longest extension of the table.
const LONGEST: usize = 11;

/// The media type of a file, by the text after the last dot of its name.
pub fn of_file(name: &[u8]) -> &'static str {
    let Some(dot) = memchr::memrchr(b'.', name) else {
        return UNKNOWN;
    };
    let extension = name.get(dot + 1..).unwrap_or_default();
    if extension.len() > LONGEST {
        return UNKNOWN;
    }
    let lower = extension.to_ascii_lowercase();
    BY_EXTENSION
        .binary_search_by(|(known, _)| known.as_bytes().cmp(&lower))
        .ok()
        .and_then(|at| BY_EXTENSION.get(at))
        .map_or(UNKNOWN, |(_, kind)| kind)
}

/// True for a file whose content is that of its media type in gzip, by its name alone (SVG 1.1 §1.2).
pub fn is_gzipped(name: &[u8]) -> bool {
    let at = name.len().saturating_sub(5);
    name.get(at..)
        .is_some_and(|end| end.eq_ignore_ascii_case(b".svgz"))
}

/// Types that shrink and are neither `text/*` nor end in `+json` or `+xml`.
const SHRINKING: [&[u8]; 17] = [
    b"application/dash+xml",
    b"application/javascript",
    b"application/json",
    b"application/rtf",
    b"application/toml",
    b"application/vnd.apple.mpegurl",
    b"application/vnd.ms-fontobject",
    b"application/wasm",
    b"application/x-javascript",
    b"application/x-ndjson",
    b"application/xml",
    b"application/yaml",
    b"font/collection",
    b"font/otf",
    b"font/ttf",
    b"image/bmp",
    b"image/vnd.microsoft.icon",
];

/// True if content of this `Content-Type` usually shrinks when it is compressed: texts and uncompressed fonts and
/// images, not formats that are compressed already.
pub fn shrinks(content_type: &[u8]) -> bool {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let kind = content_type.get(..end).unwrap_or_default().trim_ascii();
    let starts = |with: &[u8]| {
        (kind.get(..with.len())).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let ends = |with: &[u8]| {
        let at = kind.len().saturating_sub(with.len());
        (kind.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(with))
    };
    starts(b"text/")
        || ends(b"+json")
        || ends(b"+xml")
        || SHRINKING
            .iter()
            .any(|known| known.eq_ignore_ascii_case(kind))
}

/// True for a page of HTML or XHTML.
pub fn is_page(content_type: &[u8]) -> bool {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let kind = content_type.get(..end).unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"text/html") || kind.eq_ignore_ascii_case(b"application/xhtml+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extensions_are_sorted_lower_case_and_none_is_longer_than_the_longest() {
        assert!(BY_EXTENSION.is_sorted_by(|a, b| a.0 < b.0));
        for (extension, kind) in BY_EXTENSION {
            assert!(extension.len() <= LONGEST, "{extension}");
            assert_eq!(extension.to_ascii_lowercase(), extension);
            assert!(kind.contains('/'), "{kind}");
        }
    }

    #[test]
    fn a_files_type_follows_from_the_text_after_the_last_dot_of_its_name() {
        for (name, kind) in [
            (&b"app.3f2a9c1b.js"[..], "text/javascript; charset=utf-8"),
            (b"INDEX.HTML", "text/html; charset=utf-8"),
            (b"logo.svg", "image/svg+xml"),
            (b"logo.SVGZ", "image/svg+xml"),
            (b"site.webmanifest", "application/manifest+json"),
            (b"archive.tar.gz", "application/gzip"),
            (b"data.json", "application/json"),
            (b"LICENSE", UNKNOWN),
            (b"a.", UNKNOWN),
            (b"", UNKNOWN),
            (b"a.\xff\xfe", UNKNOWN),
            (b"a.an-extension-that-is-too-long", UNKNOWN),
        ] {
            assert_eq!(of_file(name), kind, "{name:?}");
        }
    }

    #[test]
    fn texts_shrink_and_compressed_formats_do_not() {
        for (kind, want) in [
            (&b"text/html; charset=utf-8"[..], true),
            (b"TEXT/css", true),
            (b"application/json", true),
            (b"application/ld+json ; charset=utf-8", true),
            (b"image/svg+xml", true),
            (b"application/wasm", true),
            (b"font/ttf", true),
            (b"font/woff2", false),
            (b"image/png", false),
            (b"application/octet-stream", false),
            (b"video/mp4", false),
            (b"text", false),
            (b"", false),
        ] {
            assert_eq!(shrinks(kind), want, "{kind:?}");
        }
    }
}
