//! Numbers: counts, seconds as HTTP counts them, time-outs.

use std::time::Duration;

use serde_json::Value;

use super::reader::{Fields, kind};

impl Fields<'_> {
    pub(super) fn whole_of(
        &self,
        name: &str,
        value: &Value,
        least: u64,
        most: u64,
        unit: &str,
    ) -> Option<u64> {
        // 30.0 is a whole number too: Python's durations are floats.
        let whole = value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|n| n.fract() == 0.0 && *n >= 0.0 && *n < 9_007_199_254_740_992.0)
                .map(|n| n as u64)
        });
        let sized = name.ends_with("bytes") || name == "size" || name == "bytes_per_minute";
        if let Value::String(text) = value
            && sized
        {
            let Some(bytes) = size(text) else {
                let message = "must be bytes, or a number with a unit such as \"10GiB\" or \"1GB\"";
                self.wrong(name, value, message);
                return None;
            };
            return self.whole_of(name, &Value::from(bytes), least, most, unit);
        }
        match (whole, value) {
            (Some(n), _) if (least..=most).contains(&n) => return Some(n),
            (_, Value::Number(n)) => {
                let number = n.as_f64().unwrap_or_default();
                let message = if number < least as f64 {
                    format!("must be ≥ {least}{unit}")
                } else if number > most as f64 {
                    format!("must be ≤ {most}{unit}")
                } else {
                    format!(
                        "must be a whole number{}{unit}",
                        if unit.is_empty() { "" } else { " of" }
                    )
                };
                self.wrong(name, value, message);
            }
            (_, other) => {
                self.wrong(
                    name,
                    value,
                    format!("must be a whole number, not {}", kind(other)),
                );
            }
        }
        None
    }

    /// A whole number within bounds.
    pub(super) fn whole(&mut self, name: &'static str, default: u64, least: u64, most: u64) -> u64 {
        match self.raw(name) {
            None => default,
            Some(value) => self
                .whole_of(name, value, least, most, "")
                .unwrap_or(default),
        }
    }

    /// Any number above one bound and up to another.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        default: f64,
        above: f64,
        most: f64,
    ) -> f64 {
        let Some(value) = self.raw(name) else {
            return default;
        };
        let message = match value.as_f64() {
            None => format!("must be a number, not {}", kind(value)),
            Some(number) if number <= above => format!("must be > {above}"),
            Some(number) if number > most => format!("must be ≤ {most}"),
            Some(number) => return number,
        };
        self.wrong(name, value, message);
        default
    }

    /// Whole seconds, as HTTP counts them (RFC 9111 §1.2.2).
    pub(super) fn delta(&mut self, name: &'static str, default: u32) -> u32 {
        match self.raw(name) {
            None => default,
            Some(value) => self.delta_of(name, value).unwrap_or(default),
        }
    }

    pub(super) fn maybe_delta(&mut self, name: &'static str, default: Option<u32>) -> Option<u32> {
        match self.raw(name) {
            None => default,
            Some(Value::Null) => None,
            Some(value) => self.delta_of(name, value),
        }
    }

    pub(super) fn delta_of(&self, name: &str, value: &Value) -> Option<u32> {
        const MOST: u64 = i32::MAX as u64;
        let seconds = self.whole_of(name, value, 0, MOST, " seconds")?;
        u32::try_from(seconds).ok()
    }

    /// A time-out in seconds, fractions allowed. `positive`: zero is refused, because it would always fail.
    pub(super) fn timeout(
        &mut self,
        name: &'static str,
        default: Duration,
        positive: bool,
    ) -> Duration {
        match self.raw(name) {
            None => default,
            Some(value) => self.timeout_of(name, value, positive).unwrap_or(default),
        }
    }

    /// The time between two rounds of work that repeats: a shorter one would do nothing else.
    pub(super) fn interval(&mut self, name: &'static str, default: Duration) -> Duration {
        const LEAST: Duration = Duration::from_millis(1);
        let interval = self.timeout(name, default, true);
        if interval >= LEAST {
            return interval;
        }
        if let Some(value) = self.raw(name) {
            self.wrong(name, value, "must be ≥ 0.001 seconds");
        }
        default
    }

    pub(super) fn maybe_timeout(&mut self, name: &'static str) -> Option<Duration> {
        let value = self.some(name)?;
        self.timeout_of(name, value, true)
    }

    fn timeout_of(&self, name: &str, value: &Value, positive: bool) -> Option<Duration> {
        const LONGEST: f64 = 86_400.0 * 7.0;
        let Value::Number(number) = value else {
            self.wrong(
                name,
                value,
                format!("must be a number of seconds, not {}", kind(value)),
            );
            return None;
        };
        let seconds = number.as_f64().unwrap_or(f64::NAN);
        let message = match seconds {
            s if s.is_nan() || s > LONGEST => "must be ≤ 604800 seconds (a week)",
            s if positive && s <= 0.0 => "must be > 0 seconds",
            s if s < 0.0 => "must be ≥ 0 seconds",
            // Clocks count nanoseconds: less is no time at all.
            s if positive && s < 1e-9 => "must be ≥ 0.000000001 seconds",
            s => return Duration::try_from_secs_f64(s).ok(),
        };
        self.wrong(name, value, message);
        None
    }
}

/// Bytes, from a number and a unit: `10GiB` and `10G` (1,024 to the next), `20GB` (1,000).
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim_start().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        "T" | "TIB" => 1 << 40,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let parts = fraction.parse::<u128>().ok()? * u128::from(factor);
    let parts = u64::try_from(parts / 10u128.pow(u32::try_from(fraction.len()).ok()?)).ok()?;
    whole.checked_mul(factor)?.checked_add(parts)
}

#[cfg(test)]
mod size_tests {
    use super::size;

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, want) in [
            ("0", Some(0)),
            ("1024", Some(1_024)),
            ("1GB", Some(1_000_000_000)),
            ("1 GiB", Some(1 << 30)),
            ("1.5g", Some(3 << 29)),
            ("64k", Some(65_536)),
            ("", None),
            ("GB", None),
            ("1.", None),
            ("1..5K", None),
            ("-1", None),
            ("1XB", None),
            ("99999999999999999999", None),
            ("18446744073709551615TB", None),
        ] {
            assert_eq!(size(text), want, "{text}");
        }
    }
}
