//! The ends of the certificates' validity.

use edgerouter_telemetry::text;

/// By each certificate's first name the Unix second until which it is valid, and that of its response of OCSP.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    certificates: Vec<(String, i64)>,
    staples: Vec<(String, i64)>,
    /// By their subjects the authorities of clients' certificates.
    authorities: Vec<(String, i64)>,
}

const DAY: i64 = 86_400;
/// Time before the end of a certificate from which a warning is logged: those that are renewed by programs are new by
/// then.
const SOON: i64 = 14 * DAY;

impl Expiries {
    /// Notes a certificate; of several with one name the first that ends counts.
    pub(super) fn note(&mut self, name: &str, end: i64) {
        match self
            .certificates
            .iter_mut()
            .find(|(known, _)| known == name)
        {
            Some((_, known)) => *known = end.min(*known),
            None => self.certificates.push((name.to_owned(), end)),
        }
    }

    /// Notes a response of OCSP.
    pub(super) fn note_staple(&mut self, name: &str, end: i64) {
        self.staples.push((name.to_owned(), end));
    }

    /// Notes an authority of clients' certificates.
    pub(super) fn note_authority(&mut self, subject: String, end: i64) {
        self.authorities.push((subject, end));
    }

    /// Writes them, and those of certificates that were obtained.
    pub(super) fn render(&self, out: &mut String, obtained: &[(Box<str>, i64)]) {
        let given = self.certificates.iter().map(|(of, end)| (&**of, end));
        let obtained = obtained.iter().map(|(of, end)| (&**of, end));
        // A name that has one of each is known by the one that handshakes use.
        let is_given = |name: &str| self.certificates.iter().any(|(known, _)| known == name);
        let obtained = obtained.filter(|(of, _)| !is_given(of));
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
        for (name, end) in &self.certificates {
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
        for (subject, _) in self.authorities.iter().filter(|(_, end)| *end <= now) {
            tracing::warn!(
                "the authority {subject:?} in client_ca has expired: its file says that it is trusted, so clients with its \
                 certificates are let in; take it out of the file and reload, if it should not be"
            );
        }
        for (name, _) in self.staples.iter().filter(|(_, end)| *end <= now) {
            tracing::warn!(
                "the response of OCSP for {name} is out of date and is not stapled; fetch a new one and reload"
            );
        }
    }
}
