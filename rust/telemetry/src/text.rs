//! Prometheus' text format, version 0.0.4, in which each room writes its own metrics, and OpenMetrics made of it.

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

/// The same metrics as OpenMetrics 1.0: counters are named without `_total`, and information without `_info`, where
/// their type is said; bounds of buckets are written as floating-point numbers; the text has an end.
pub fn open_metrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.lines() {
        let comment = |kind| line.strip_prefix(kind)?.split_once(' ');
        if let Some((name, help)) = comment("# HELP ") {
            let help = help.replace('"', "\\\"");
            let _ = writeln!(out, "# HELP {} {help}", family(name).0);
        } else if let Some((name, kind)) = comment("# TYPE ") {
            let (family, own) = family(name);
            let _ = writeln!(out, "# TYPE {family} {}", own.unwrap_or(kind));
        } else {
            out.push_str(&bound(line).unwrap_or_else(|| line.to_owned()));
            out.push('\n');
        }
    }
    out.push_str("# EOF\n");
    out
}

/// The name of a family, and its type where the text format has none for it.
fn family(name: &str) -> (&str, Option<&'static str>) {
    match name.strip_suffix("_info") {
        Some(family) => (family, Some("info")),
        None => (name.strip_suffix("_total").unwrap_or(name), None),
    }
}

/// A sample of a bucket whose bound is a whole number.
fn bound(line: &str) -> Option<String> {
    const LABEL: &str = "le=\"";
    let at = line.find(LABEL)? + LABEL.len();
    let (before, after) = line.split_at_checked(at)?;
    let (bound, rest) = after.split_once('"')?;
    let is_whole = bound.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| format!("{before}{bound}.0\"{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_has_its_own_names_of_types_bounds_and_an_end() {
        let text = "# HELP a_total Said \"so\".\n# TYPE a_total counter\na_total{x=\"1\"} 2\n\
                    # HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
                    # HELP c C.\n# TYPE c histogram\nc_bucket{le=\"5\"} 1\nc_bucket{le=\"0.5\"} 1\nc_bucket{le=\"+Inf\"} 1\n";
        let want = "# HELP a Said \\\"so\\\".\n# TYPE a counter\na_total{x=\"1\"} 2\n\
                    # HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                    # HELP c C.\n# TYPE c histogram\nc_bucket{le=\"5.0\"} 1\nc_bucket{le=\"0.5\"} 1\nc_bucket{le=\"+Inf\"} 1\n\
                    # EOF\n";
        assert_eq!(open_metrics(text), want);
    }
}
