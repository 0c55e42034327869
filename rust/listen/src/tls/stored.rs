//! Sessions as rustls writes them for tickets and for the store, as far as the certificate of their client.
//!
//! Resumption does not look at the validity of a certificate. A session whose certificate has ended is not found, so
//! that the handshake is a full one: the client can show the certificate that it has by now.

use std::sync::Arc;

use edgerouter_core::tls::certificate_facts;
use rustls::server::StoresServerSessions;

use super::resumption::unix_now;

/// A store without the sessions whose certificates have ended.
#[derive(Debug)]
pub(super) struct ValidSessions(pub(super) Arc<dyn StoresServerSessions>);

impl StoresServerSessions for ValidSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0
            .get(key)
            .filter(|session| !has_ended(session, unix_now()))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0
            .take(key)
            .filter(|session| !has_ended(session, unix_now()))
    }

    fn can_cache(&self) -> bool {
        self.0.can_cache()
    }
}

/// True if the session is of a client whose certificate has ended at `now` (Unix seconds).
pub(super) fn has_ended(session: &[u8], now: u64) -> bool {
    let facts = first_certificate(session).and_then(certificate_facts);
    facts.is_some_and(|facts| u64::try_from(facts.valid.1).map_or(true, |end| end < now))
}

/// The certificate of the client, in DER, behind the name of the host, the version, the cipher suite and the secret.
/// `None`: there is none, or the form is another one; a test of resumption fails then.
fn first_certificate(session: &[u8]) -> Option<&[u8]> {
    let (has_name, rest) = session.split_first()?;
    let rest = if *has_name == 1 { behind(rest)? } else { rest };
    let [_, 1, _, _, _, a, b, c, rest @ ..] = behind(rest.get(4..)?)? else {
        return None;
    };
    rest.get(..u32::from_be_bytes([0, *a, *b, *c]) as usize)
}

/// The bytes behind a text with its length in front.
fn behind(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first()?;
    rest.get(usize::from(*length)..)
}
