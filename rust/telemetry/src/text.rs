//! Prometheus' text format, version 0.0.4, in which each room writes its own metrics.

use std::fmt::{Display, Write as _};

/// A label's value, escaped.
pub fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The lines before a family.
pub fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A family of one sample: a counter if its name says so, otherwise a gauge.
pub fn one(out: &mut String, name: &str, help: &str, value: impl Display) {
    let counts = name.ends_with("_total");
    head(out, name, if counts { "counter" } else { "gauge" }, help);
    let _ = writeln!(out, "{name} {value}");
}
