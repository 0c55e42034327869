//! A service worker made from the route table: the script that a browser runs in front of the site.
//!
//! The script's text is `script.js`; here are its settings, and the version that names its caches. It contains nothing
//! of a request, so it is a response like any fixed one.

use std::fmt::Write as _;

use crate::http::FieldName;
use aws_lc_rs::digest;
use http::HeaderValue;
use serde_json::json;

/// Marks responses that set a cookie, which a service worker cannot see: they are personal.
pub const PERSONAL: FieldName = FieldName::from_static("x-edge-personal");
/// The value of [`PERSONAL`].
pub const PERSONAL_VALUE: HeaderValue = HeaderValue::from_static("1");

const SCRIPT: &str = include_str!("script.js");
const SETTINGS: &str = "__EDGE__";

/// A service worker as the plan declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceWorker {
    /// URL path at which the script is served.
    pub path: String,
    /// The one host that serves it; `None`: any.
    pub host: Option<String>,
    /// The part of the site that it may control.
    pub scope: String,
    /// Paths that are fetched when it is installed.
    pub precache: Vec<String>,
    /// The page for navigations without network; always precached.
    pub offline: Option<String>,
    /// Globs of paths that are answered from the browser's cache first.
    pub api: Vec<String>,
    /// True if requests with `Authorization` may be answered from the cache.
    pub authorized: bool,
    /// Responses kept besides the precached ones.
    pub entries: u64,
}

impl ServiceWorker {
    /// The script, and its version: another one whenever the route table, the settings or the script itself change.
    /// `routes` is any text that changes with the table.
    pub fn script(&self, name: &str, routes: &str) -> (String, String) {
        let mut precache = self.precache.clone();
        if let Some(offline) = &self.offline
            && !precache.contains(offline)
        {
            precache.push(offline.clone());
        }
        let mut settings = json!({
            "name": name,
            "scope": self.scope,
            "precache": precache,
            "offline": self.offline,
            "api": self.api,
            "authorized": self.authorized,
            "entries": self.entries,
        });
        let mut hashed = digest::Context::new(&digest::SHA256);
        for part in [SCRIPT, &settings.to_string(), routes] {
            hashed.update(&(part.len() as u64).to_le_bytes());
            hashed.update(part.as_bytes());
        }
        let mut version = String::with_capacity(16);
        for byte in hashed.finish().as_ref().iter().take(8) {
            let _ = write!(version, "{byte:02x}");
        }
        if let Some(map) = settings.as_object_mut() {
            map.insert("version".to_owned(), json!(version));
        }
        (SCRIPT.replacen(SETTINGS, &settings.to_string(), 1), version)
    }

    /// The fields that the script is served with.
    pub fn fields(&self, version: &str) -> Vec<(&'static str, String)> {
        vec![
            ("content-type", "text/javascript; charset=utf-8".to_owned()),
            ("cache-control", "no-cache".to_owned()),
            ("etag", format!("\"{version}\"")),
            ("service-worker-allowed", self.scope.clone()),
            ("x-content-type-options", "nosniff".to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> ServiceWorker {
        ServiceWorker {
            path: "/sw.js".to_owned(),
            host: None,
            scope: "/".to_owned(),
            precache: vec![
                "/app.css".to_owned(),
                "/it's \"quoted\" __EDGE__".to_owned(),
            ],
            offline: Some("/offline.html".to_owned()),
            api: vec!["/api/*".to_owned()],
            authorized: false,
            entries: 50,
        }
    }

    #[test]
    fn the_settings_in_the_script_are_json_whatever_the_paths_hold() {
        let (script, version) = worker().script("shop", "routes");
        let line = script
            .lines()
            .find_map(|line| line.strip_prefix("const EDGE = "));
        let settings: Option<serde_json::Value> =
            line.and_then(|line| serde_json::from_str(line.trim_end_matches(';')).ok());
        assert_eq!(
            settings,
            Some(json!({
                "name": "shop",
                "version": version,
                "scope": "/",
                "precache": ["/app.css", "/it's \"quoted\" __EDGE__", "/offline.html"],
                "offline": "/offline.html",
                "api": ["/api/*"],
                "authorized": false,
                "entries": 50,
            }))
        );
    }

    #[test]
    fn the_version_is_the_same_for_the_same_table_and_another_for_any_change() {
        let version = |worker: &ServiceWorker, routes| worker.script("shop", routes).1;
        let first = version(&worker(), "routes");
        assert_eq!(first, version(&worker(), "routes"));
        assert_ne!(first, version(&worker(), "other routes"));
        let other = ServiceWorker {
            authorized: true,
            ..worker()
        };
        assert_ne!(first, version(&other, "routes"));
    }
}
