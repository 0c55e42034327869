//! The paths that servers may read in one path: they decode `%2F`, `%5C` and `%3B`, once or repeatedly, drop path
//! parameters, take `\\` for `/`, merge slashes, and remove dot segments, each in an order of its own.
//!
//! The order matters, and none of the results is the most lenient: nginx reads `/x%2F%2F..%2Fapi` as `/api`, where RFC
//! 3986 has `/x/api`, and Tomcat reads `/api;%2F..%2Fx` as `/api`. So there is a reading for each order.

use std::collections::VecDeque;

use super::{
    percent,
    uri::{remove_dot_segments, rises_above_root},
};

/// Bounds on the readings of one path, for no request may cost much. Paths that sites use have two or three.
const MOST_READINGS: usize = 64;
const MOST_BYTES: usize = 64 << 10;

/// One reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) path: String,
    /// Dot segments were removed that the strict reading does not have.
    pub(crate) resolved: bool,
}

/// The strict reading of a normalised path, and all others.
#[derive(Debug)]
pub(crate) struct Readings {
    /// The strict one first.
    all: Vec<Reading>,
    climbs: bool,
    is_cut_off: bool,
}

impl Readings {
    pub(crate) fn of(path: &str) -> Self {
        let strict = Reading {
            path: path.to_owned(),
            resolved: false,
        };
        let mut found = Self {
            all: vec![strict.clone()],
            climbs: false,
            is_cut_off: false,
        };
        let mut bytes = path.len();
        let mut unread = VecDeque::from([strict]);
        while let Some(Reading { path, resolved }) = unread.pop_front() {
            let dotless = without_dots(&path);
            found.climbs |= dotless.is_some() && rises_above_root(&path);
            let next = [
                (decoded(&path), resolved),
                (without_parameters(&path), resolved),
                (with_slashes(&path), resolved),
                (merged(&path), resolved),
                (dotless, true),
            ];
            for (path, resolved) in next {
                let Some(path) = path else { continue };
                let reading = Reading { path, resolved };
                if found.all.contains(&reading) {
                    continue;
                }
                bytes += reading.path.len();
                if found.all.len() == MOST_READINGS || bytes > MOST_BYTES {
                    found.is_cut_off = true;
                    return found;
                }
                found.all.push(reading.clone());
                unread.push_back(reading);
            }
        }
        found
    }

    /// All but the strict one.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Reading> {
        self.all.iter().skip(1)
    }

    /// True if dot segments of a reading lead above the root.
    pub(crate) fn climbs(&self) -> bool {
        self.climbs
    }

    /// True if there are more than are looked at.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }
}

// Each of these gives `None` where nothing changes.

/// One level of escapes is decoded, as far as that matters: delimiters, unreserved characters, and `%` before two digits
/// of the next level.
fn decoded(path: &str) -> Option<String> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let Some((escaped, behind)) = (byte == b'%').then(|| percent::escaped(after)).flatten()
        else {
            out.push(byte);
            continue;
        };
        rest = behind;
        let decodes = match escaped {
            b'/' | b'\\' | b';' => true,
            b'%' => percent::escaped(rest).is_some(),
            other => percent::is_unreserved(other),
        };
        if decodes {
            out.push(escaped);
        } else {
            percent::escape(escaped, &mut out);
        }
    }
    changed(out, path)
}

fn without_parameters(path: &str) -> Option<String> {
    path.contains(';').then(|| {
        let segments = path.split('/');
        let names: Vec<&str> = segments
            .map(|segment| segment.split(';').next().unwrap_or_default())
            .collect();
        names.join("/")
    })
}

fn with_slashes(path: &str) -> Option<String> {
    path.contains('\\').then(|| path.replace('\\', "/"))
}

fn merged(path: &str) -> Option<String> {
    path.contains("//").then(|| {
        let mut out = String::with_capacity(path.len());
        for char in path.chars() {
            if char != '/' || !out.ends_with('/') {
                out.push(char);
            }
        }
        out
    })
}

fn without_dots(path: &str) -> Option<String> {
    path.contains("/.")
        .then(|| remove_dot_segments(path))
        .filter(|clean| clean != path)
}

fn changed(out: Vec<u8>, path: &str) -> Option<String> {
    String::from_utf8(out).ok().filter(|text| text != path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(path: &str) -> Vec<String> {
        let readings = Readings::of(path);
        readings
            .others()
            .map(|reading| reading.path.clone())
            .collect()
    }

    #[test]
    fn plain_paths_have_one_reading() {
        for path in [
            "/a/b",
            "/a%20b",
            "/caf%C3%A9",
            "/.well-known/x",
            "/100%25",
            "/%25zz",
            "/a/..b",
        ] {
            assert_eq!(paths(path), [""; 0], "{path}");
        }
    }

    #[test]
    fn each_order_of_a_lenient_server_is_a_reading() {
        for (path, server, want) in [
            ("//api/me", "nginx", "/api/me"),
            ("/x%2F..%2Fapi/me", "nginx", "/api/me"),
            ("/%25zz%2F..%2Fapi/me", "nginx", "/api/me"),
            ("/x%2F%2F..%2Fapi", "nginx", "/api"),
            ("/x%2F%2F..%2Fapi", "RFC 3986", "/x/api"),
            ("/x%2F..%2Fapi/..;/y", "nginx", "/api/..;/y"),
            ("/x%252F..%252Fapi/me", "two of them", "/api/me"),
            ("/x%2F..%2Fapi/%252E%252E%2Fy", "nginx", "/api/%2E%2E/y"),
            ("/a%252Fb%2F..%2Fx%252F..%252Fapi", "two of them", "/api"),
            ("/x%5C..%5Capi", "IIS", "/api"),
            ("/;v=1/api/me", "Tomcat", "/api/me"),
            ("/x/..;/api", "Tomcat", "/api"),
            ("/api;%2F..%2Fx/me", "Tomcat", "/api/me"),
            ("/x%3By/z", "Tomcat behind nginx", "/x/z"),
            ("/api%2F..%2Fx", "WSGI", "/api/../x"),
            ("/a//", "nginx", "/a/"),
            ("//", "nginx", "/"),
        ] {
            let found = paths(path);
            assert!(
                found.iter().any(|read| read == want),
                "{path} by {server}: {found:?}"
            );
        }
    }

    #[test]
    fn a_path_above_the_root_is_known() {
        for (path, want) in [
            ("/..%2Fx", true),
            ("/a/..%2F..%2Fx", true),
            ("/a/..%2Fx", false),
            ("/a%2F..%2F..%5Cx", true),
            ("/a;/..;/..;/x", true),
            ("/a/b%2F..", false),
        ] {
            assert_eq!(Readings::of(path).climbs(), want, "{path}");
        }
    }

    #[test]
    fn readings_have_a_bound() {
        let readings = Readings::of(&format!("/{}2F;a//b", "%25".repeat(3_000)));
        assert!(readings.is_cut_off());
        assert!(readings.all.len() <= MOST_READINGS);
        assert!(!Readings::of(&format!("/{}", "a%2Fb".repeat(3_000))).is_cut_off());
    }
}
