//! Cache deception: a page under the name of a static file.
//!
//! Many servers answer `/account/x.css` with the page of `/account`. A cache that goes by the name would store a
//! visitor's own page for everybody. So a name that promises a static file keeps documents and data from being stored.

use crate::http::{Fields, header, list};

/// True if the last extension of a path is one of static files: with its path parameters or without them. Some servers
/// cut the name where they begin, so `/account;x.css` is the page of `/account` for these.
pub fn is_static(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let cut = name.split([';', ',']).next().unwrap_or_default();
    [name, cut].into_iter().any(has_static_extension)
}

fn has_static_extension(name: &str) -> bool {
    let Some((_, extension)) = name.rsplit_once('.') else {
        return false;
    };
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..extension.len()) else {
        return false;
    };
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    EXTENSIONS
        .binary_search_by(|known| known.as_bytes().cmp(lower))
        .is_ok()
}

const LONGEST: usize = 8;

/// In order. Neither pages nor data: `html`, `json`, `xml` and `txt` promise what may be personal.
const EXTENSIONS: [&str; 50] = [
    "7z", "aac", "apk", "avi", "avif", "bin", "bmp", "bz2", "class", "css", "cur", "dmg", "ejs",
    "eot", "eps", "exe", "flac", "flv", "gif", "gz", "ico", "iso", "jar", "jpeg", "jpg", "js",
    "m4a", "m4v", "map", "mid", "mjs", "mkv", "mov", "mp3", "mp4", "mpeg", "ogg", "otf", "png",
    "svg", "swf", "tar", "tif", "tiff", "ttf", "wasm", "webm", "webp", "woff", "woff2",
];

/// True if the response is a page or data, whatever its URL is called. Of several types browsers take the last one that
/// they can read (Fetch §2.2.2), and others the first one: each counts.
pub fn is_document(response: &Fields) -> bool {
    let lines = response.get_all(header::CONTENT_TYPE).iter();
    lines
        .flat_map(|line| list(line.as_bytes()))
        .any(is_type_of_document)
}

fn is_type_of_document(kind: &[u8]) -> bool {
    let kind = kind.split(|byte| *byte == b';').next();
    let kind = kind.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    matches!(
        &*kind,
        b"text/html" | b"application/xhtml+xml" | b"application/json" | b"text/json"
    ) || (kind.starts_with(b"application/") && kind.ends_with(b"+json"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_path_promises_a_static_file_by_its_last_extension() {
        assert!(EXTENSIONS.is_sorted());
        assert!(EXTENSIONS.iter().all(|one| one.len() <= LONGEST));
        for (path, want) in [
            ("/account/x.css", true),
            ("/account/x.CSS", true),
            ("/account.css/", false),
            ("/account/.css", true),
            ("/a.b.woff2", true),
            ("/account/x.css;jsessionid=1", true),
            ("/account;x.css", true),
            ("/account;.css", true),
            ("/account,x.css", true),
            ("/account;x.css;y", false),
            ("/account", false),
            ("/index.html", false),
            ("/data.json", false),
            ("/x.css.php", false),
            ("/x.", false),
            ("/x.averylongextension", false),
            ("/x.ä", false),
            ("", false),
        ] {
            assert_eq!(is_static(path), want, "{path}");
        }
    }

    #[test]
    fn pages_and_data_are_documents() {
        for (kind, want) in [
            (Some("text/html; charset=utf-8"), true),
            (Some("Text/HTML"), true),
            (Some("application/json"), true),
            (Some("application/problem+json"), true),
            (Some("text/css, text/html;charset=utf-8"), true),
            (Some("text/css"), false),
            (Some("image/svg+xml"), false),
            (Some("application/octet-stream"), false),
            (None, false),
        ] {
            let mut headers = Fields::new();
            if let Some(kind) = kind {
                headers.append(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
            }
            assert_eq!(is_document(&headers), want, "{kind:?}");
        }
    }
}
