//! The ends of the certificates' validity.

use edgerouter_telemetry::text;

/// Each certificate's first name, and the Unix second until which it is valid.
#[derive(Debug, Default)]
pub(super) struct Expiries(Vec<(String, i64)>);

const DAY: i64 = 86_400;
/// Time before the end of a certificate from which a warning is logged: those that are renewed by programs are new by
/// then.
const SOON: i64 = 14 * DAY;

impl Expiries {
    /// Notes a certificate; of several with one name the first that ends counts.
    pub(super) fn note(&mut self, name: &str, end: i64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = end.min(*known),
            None => self.0.push((name.to_owned(), end)),
        }
    }

    /// Writes them, and those of certificates that were obtained.
    pub(super) fn render(&self, out: &mut String, obtained: &[(Box<str>, i64)]) {
        let given = self.0.iter().map(|(of, end)| (&**of, end));
        let obtained = obtained.iter().map(|(of, end)| (&**of, end));
        // A name that has one of each is known by the one that handshakes use.
        let obtained = obtained.filter(|(of, _)| self.0.iter().all(|(known, _)| known != of));
        text::labelled(
            out,
            "edgerouter_tls_certificate_expiry_timestamp_seconds",
            "Unix time until which the certificate of a listener is valid, by its first name.",
            ["name"],
            given.chain(obtained).map(|(of, end)| ([of], end)),
        );
    }

    pub(super) fn warn(&self, now: u64) {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        for (name, end) in &self.0 {
            let days = (end - now) / DAY;
            if *end < now {
                tracing::warn!(
                    "the certificate for {name} has expired: clients refuse it; renew it and reload"
                );
            } else if end - now < SOON {
                tracing::warn!(
                    "the certificate for {name} expires in {days} days; renew it and reload"
                );
            }
        }
    }
}
