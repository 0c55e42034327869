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
    head(out, name, kind(name), help);
    let _ = writeln!(out, "{name} {value}");
}

/// A family with a sample for each set of values of its labels: a counter if its name says so, otherwise a gauge.
pub fn labelled<const N: usize, S: AsRef<str>, V: Display>(
    out: &mut String,
    name: &str,
    help: &str,
    labels: [&str; N],
    samples: impl IntoIterator<Item = ([S; N], V)>,
) {
    head(out, name, kind(name), help);
    for (values, value) in samples {
        let pairs = labels.iter().zip(&values);
        let pairs = pairs.map(|(label, of)| format!("{label}=\"{}\"", escaped(of.as_ref())));
        let pairs = pairs.collect::<Vec<_>>().join(",");
        let _ = writeln!(out, "{name}{{{pairs}}} {value}");
    }
}

/// A histogram of durations, as a scrape has it.
#[derive(Debug, Clone, Copy)]
pub struct DurationSamples<'a> {
    /// The largest duration of each bucket but the last, in microseconds.
    pub bounds: &'a [u64],
    /// The count of each bucket alone.
    pub counts: &'a [u64],
    /// The sum of all durations, in microseconds.
    pub micros: u64,
}

impl DurationSamples<'_> {
    /// Writes the samples. `labels`: as they stand in braces, or empty.
    pub fn write(&self, out: &mut String, name: &str, labels: &str) {
        self.write_with(out, name, labels, |_| None::<&str>);
    }

    /// The same, with the text of an exemplar behind each bucket that has one.
    pub fn write_with<E: Display>(
        &self,
        out: &mut String,
        name: &str,
        labels: &str,
        exemplar: impl Fn(usize) -> Option<E>,
    ) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (index, count) in self.counts.iter().enumerate() {
            total += count;
            let bound = self.bounds.get(index).map_or_else(
                || "+Inf".to_owned(),
                |&micros| (micros as f64 / 1e6).to_string(),
            );
            let _ = writeln!(
                out,
                "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}{}",
                exemplar(index).map_or_else(String::new, |found| found.to_string())
            );
        }
        let braces = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let seconds = self.micros as f64 / 1e6;
        let _ = writeln!(
            out,
            "{name}_sum{braces} {seconds}\n{name}_count{braces} {total}"
        );
    }
}

fn kind(name: &str) -> &'static str {
    if name.ends_with("_total") {
        "counter"
    } else {
        "gauge"
    }
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

/// A sample of a bucket whose bound is a whole number. The bound is the last of its labels: names of others end so, too.
fn bound(line: &str) -> Option<String> {
    const LABEL: &str = "le=\"";
    let (name, _) = line.split_once('{')?;
    let at = line.rfind(LABEL).filter(|_| name.ends_with("_bucket"))? + LABEL.len();
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
