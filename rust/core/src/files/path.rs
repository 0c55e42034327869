//! From the path of a request to the path of a file.

use crate::{http::percent, plan::FileFolder};

/// A path in a folder: names joined by `/`, none of which is empty, `.`, `..` or hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    /// Decoded, without `/` at its ends. Empty: the folder itself.
    pub names: Vec<u8>,
    /// The request's path ends with `/`: it is for a folder.
    pub is_folder: bool,
}

/// Why a path names no file of a folder. The answer is the same for all of them: 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoFile {
    /// It does not begin with the folder's prefix.
    #[error("the path is not below the prefix of the folder")]
    Outside,
    /// A `%` without two hexadecimal digits (RFC 3986 §2.1).
    #[error("a % in the path is not followed by two hexadecimal digits")]
    BadEscape,
    /// A control character, among them NUL, which would end the name for the system.
    #[error("a name in the path has a control character")]
    Control,
    /// `%2F`: it would become a separator.
    #[error("a name in the path has a / in it")]
    Separator,
    /// `//`: two paths for one file.
    #[error("a name in the path is empty")]
    Empty,
    /// `.` or `..`.
    #[error("a name in the path is . or ..")]
    Dots,
    /// It begins with a dot, as the names of configuration and repositories do.
    #[error("a name in the path begins with a dot; only .well-known may")]
    Hidden,
    /// No file system has longer names.
    #[error("a name in the path is longer than 255 bytes")]
    TooLong,
}

/// The one hidden name that is served (RFC 8615 §3).
const WELL_KNOWN: &[u8] = b".well-known";
/// Length of the longest name (`NAME_MAX`).
pub const LONGEST_NAME: usize = 255;

/// The file of the folder that a path stands for.
pub fn locate(folder: &FileFolder, path: &str) -> Result<FilePath, NoFile> {
    let rest = match path.strip_prefix(&*folder.prefix) {
        Some(rest) => rest,
        // The folder itself, without its `/`.
        None if folder.prefix.strip_suffix('/') == Some(path) => {
            return Ok(FilePath {
                names: Vec::new(),
                is_folder: false,
            });
        }
        None => return Err(NoFile::Outside),
    };
    let (rest, is_folder) = match rest.strip_suffix('/') {
        Some(rest) => (rest, true),
        None => (rest, rest.is_empty()),
    };
    let mut names = Vec::with_capacity(rest.len());
    if !rest.is_empty() {
        for name in rest.split('/') {
            if !names.is_empty() {
                names.push(b'/');
            }
            let start = names.len();
            decode(name, &mut names)?;
            check(names.get(start..).unwrap_or_default())?;
        }
    } else if is_folder && path.ends_with("//") {
        return Err(NoFile::Empty);
    }
    Ok(FilePath { names, is_folder })
}

fn decode(name: &str, into: &mut Vec<u8>) -> Result<(), NoFile> {
    into.extend(percent::strictly_decoded(name.as_bytes()).ok_or(NoFile::BadEscape)?);
    Ok(())
}

fn check(name: &[u8]) -> Result<(), NoFile> {
    if name.is_empty() {
        return Err(NoFile::Empty);
    }
    if name.contains(&b'/') {
        return Err(NoFile::Separator);
    }
    if name.iter().any(u8::is_ascii_control) {
        return Err(NoFile::Control);
    }
    if matches!(name, b"." | b"..") {
        return Err(NoFile::Dots);
    }
    if is_hidden(name) {
        return Err(NoFile::Hidden);
    }
    if name.len() > LONGEST_NAME {
        return Err(NoFile::TooLong);
    }
    Ok(())
}

/// True if a path can name such a file: lists have no others.
pub fn is_servable(name: &[u8]) -> bool {
    check(name).is_ok()
}

/// True if files of this name are never served.
pub fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b".") && name != WELL_KNOWN
}

impl FilePath {
    /// The last name; empty for the folder itself.
    pub fn name(&self) -> &[u8] {
        last_name(&self.names)
    }

    /// The path of a file in this folder.
    pub fn join(&self, name: &[u8]) -> Vec<u8> {
        let mut joined = Vec::with_capacity(self.names.len() + 1 + name.len());
        joined.extend_from_slice(&self.names);
        if !joined.is_empty() {
            joined.push(b'/');
        }
        joined.extend_from_slice(name);
        joined
    }
}

/// The last name of a path in a folder.
pub fn last_name(names: &[u8]) -> &[u8] {
    names
        .rsplit(|&byte| byte == b'/')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;

    fn folder(prefix: &str) -> FileFolder {
        FileFolder {
            root: Path::new("/srv/site").into(),
            prefix: prefix.into(),
            index: Some("index.html".into()),
            fallback: None,
            precompressed: true,
            listing: false,
            immutable: None,
        }
    }

    #[test]
    fn a_path_below_the_prefix_names_a_file() {
        for (prefix, path, names, is_folder) in [
            ("/", "/", "", true),
            ("/", "/a.js", "a.js", false),
            ("/assets/", "/assets", "", false),
            ("/assets/", "/assets/", "", true),
            ("/assets/", "/assets/a/b.js", "a/b.js", false),
            ("/assets/", "/assets/a/", "a", true),
            ("/assets/", "/assets/a%20b%25.txt", "a b%.txt", false),
            ("/assets/", "/assets/%C3%BC", "ü", false),
            ("/assets/", "/assets/a+b", "a+b", false),
            ("/assets/", "/assets/a%5Cb", "a\\b", false),
            ("/assets/", "/assets/a;v=1", "a;v=1", false),
            ("/assets/", "/assets/...a", "...a", false),
            ("/", "/.well-known/acme", ".well-known/acme", false),
        ] {
            let found = locate(&folder(prefix), path);
            let hidden = names.starts_with("...");
            let want = FilePath {
                names: names.as_bytes().to_vec(),
                is_folder,
            };
            let want = if hidden {
                Err(NoFile::Hidden)
            } else {
                Ok(want)
            };
            assert_eq!(found, want, "{path}");
        }
    }

    #[test]
    fn a_path_that_leads_out_of_the_folder_or_to_a_hidden_file_names_none() {
        for (path, want) in [
            ("/other", NoFile::Outside),
            ("/assetsx", NoFile::Outside),
            ("", NoFile::Outside),
            ("/assets/../etc/passwd", NoFile::Dots),
            ("/assets/%2e%2e/etc/passwd", NoFile::Dots),
            ("/assets/.", NoFile::Dots),
            ("/assets/a/%2E", NoFile::Dots),
            ("/assets/..%2f..%2fetc/passwd", NoFile::Separator),
            ("/assets/%2Fetc/passwd", NoFile::Separator),
            ("/assets//etc/passwd", NoFile::Empty),
            ("/assets/a//b", NoFile::Empty),
            ("/assets/a//", NoFile::Empty),
            ("/assets//", NoFile::Empty),
            ("/assets/a%00.txt", NoFile::Control),
            ("/assets/a%0a", NoFile::Control),
            ("/assets/a%7F", NoFile::Control),
            ("/assets/%", NoFile::BadEscape),
            ("/assets/%4", NoFile::BadEscape),
            ("/assets/%zz", NoFile::BadEscape),
            ("/assets/%+1", NoFile::BadEscape),
            ("/assets/.env", NoFile::Hidden),
            ("/assets/%2eenv", NoFile::Hidden),
            ("/assets/.git/config", NoFile::Hidden),
            ("/assets/a/.htpasswd", NoFile::Hidden),
            ("/assets/.well-known2", NoFile::Hidden),
            ("/assets/.WELL-KNOWN/a", NoFile::Hidden),
        ] {
            assert_eq!(locate(&folder("/assets/"), path), Err(want), "{path}");
        }
        let long = format!("/assets/{}", "a".repeat(256));
        assert_eq!(locate(&folder("/assets/"), &long), Err(NoFile::TooLong));
        // A literal dot segment after decoding twice is a name like any other: nothing is decoded twice.
        let twice = locate(&folder("/assets/"), "/assets/%252e%252e").unwrap();
        assert_eq!(twice.names, b"%2e%2e");
    }

    #[test]
    fn every_path_that_is_taken_is_relative_and_has_no_dots() {
        let mut random = 1u64;
        for _ in 0..20_000 {
            let mut path = String::from("/assets/");
            for _ in 0..6 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let parts = [
                    "..", ".", "/", "%2e", "%2F", "%00", "a", "%", "\\", "//", "%5c", ".w",
                ];
                path.push_str(parts.get((random >> 33) as usize % parts.len()).unwrap());
            }
            if let Ok(found) = locate(&folder("/assets/"), &path) {
                assert!(!found.names.starts_with(b"/"), "{path}");
                for name in found.names.split(|&byte| byte == b'/') {
                    assert!(name != b".." && name != b".", "{path}");
                    assert!(!name.contains(&0), "{path}");
                    assert!(found.names.is_empty() || !name.is_empty(), "{path}");
                }
            }
        }
    }
}
