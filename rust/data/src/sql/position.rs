//! Positions in the changes of a database, by which a read on a replica is known to see a write on the primary.

/// Domains of a MariaDB server that a position may have, so that a bookmark keeps its bound.
const MOST_DOMAINS: usize = 14;

/// The changes up to a place in the log of a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Position {
    /// Of PostgreSQL: bytes of the log (LSN).
    Postgres(u64),
    /// Of MariaDB: the number of the last change of each domain, in the order of the domains (GTID).
    Maria(Vec<(u32, u64)>),
}

impl Position {
    /// Reads `16/B374D848`.
    pub(super) fn of_postgres(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let high = u64::from(u32::from_str_radix(high, 16).ok()?);
        let low = u64::from(u32::from_str_radix(low, 16).ok()?);
        Some(Self::Postgres(high << 32 | low))
    }

    /// Reads `0-1-270,7-1-3`: domain, server, number. `None` also where there is no change, or are too many domains.
    pub(super) fn of_maria(text: &str) -> Option<Self> {
        let mut all = Vec::new();
        for one in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let mut parts = one.split('-');
            let (domain, _server, number) = (parts.next()?, parts.next()?, parts.next()?);
            all.push((domain.parse().ok()?, number.parse().ok()?));
        }
        Self::of_domains(all)
    }

    fn of_domains(mut all: Vec<(u32, u64)>) -> Option<Self> {
        all.sort_unstable();
        let doubled = all
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.0 == b.0));
        (!all.is_empty() && all.len() <= MOST_DOMAINS && !doubled).then_some(Self::Maria(all))
    }

    /// True if all changes up to `wanted` are among those up to here.
    pub(super) fn has(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Postgres(here), Self::Postgres(wanted)) => here >= wanted,
            (Self::Maria(here), Self::Maria(wanted)) => wanted.iter().all(|(domain, number)| {
                here.iter()
                    .any(|(known, last)| known == domain && last >= number)
            }),
            _ => false,
        }
    }

    /// The changes up to either; `None` where that cannot be said.
    pub(super) fn joined(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Postgres(one), Self::Postgres(other)) => Some(Self::Postgres(one.max(other))),
            (Self::Maria(mut all), Self::Maria(other)) => {
                for (domain, number) in other {
                    match all.iter_mut().find(|(known, _)| *known == domain) {
                        Some((_, last)) => *last = number.max(*last),
                        None => all.push((domain, number)),
                    }
                }
                Self::of_domains(all)
            }
            _ => None,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Postgres(bytes) => {
                out.push(b'p');
                out.extend(bytes.to_be_bytes());
            }
            Self::Maria(all) => {
                out.push(b'm');
                for (domain, number) in all {
                    out.extend(domain.to_be_bytes());
                    out.extend(number.to_be_bytes());
                }
            }
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            b'p' => Some(Self::Postgres(u64::from_be_bytes(rest.try_into().ok()?))),
            b'm' => {
                let entries = rest.chunks(12).map(|entry| {
                    let (domain, number) = entry.split_first_chunk::<4>()?;
                    let number = u64::from_be_bytes(number.try_into().ok()?);
                    Some((u32::from_be_bytes(*domain), number))
                });
                Self::of_domains(entries.collect::<Option<_>>()?)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_from_the_words_of_its_server() {
        let lsn = Position::of_postgres("16/B374D848");
        assert_eq!(lsn, Some(Position::Postgres(0x16_B374_D848)));
        let gtid = Position::of_maria("7-1-3,\n0-2-270");
        assert_eq!(gtid, Some(Position::Maria(vec![(0, 270), (7, 3)])));
        for text in ["", "16", "16/", "/1", "16/1/2", "1/g", "1/100000000"] {
            assert_eq!(Position::of_postgres(text), None, "{text}");
        }
        for text in ["", "0", "0-1", "0-1-x", "0-1-1,0-2-2", "-1-1"] {
            assert_eq!(Position::of_maria(text), None, "{text}");
        }
    }

    #[test]
    fn a_position_has_those_before_it_in_each_domain() {
        let maria = |text: &str| Position::of_maria(text).unwrap();
        assert!(Position::Postgres(2).has(&Position::Postgres(2)));
        assert!(!Position::Postgres(2).has(&Position::Postgres(3)));
        assert!(maria("0-1-5,1-1-1").has(&maria("0-9-5")));
        assert!(!maria("0-1-5").has(&maria("0-1-5,1-1-1")));
        assert!(!maria("0-1-4").has(&maria("0-1-5")));
        assert!(!Position::Postgres(2).has(&maria("0-1-1")));
        let joined = maria("0-1-5,2-1-1").joined(maria("0-1-4,1-1-7"));
        assert_eq!(joined, Some(maria("0-1-5,1-1-7,2-1-1")));
    }

    #[test]
    fn a_position_is_the_same_after_its_bytes() {
        let most: String = (0..14).map(|at| format!("{at}-1-{},", u64::MAX)).collect();
        for position in [
            Position::Postgres(u64::MAX),
            Position::of_maria("0-1-1").unwrap(),
            Position::of_maria(&most).unwrap(),
        ] {
            let mut bytes = Vec::new();
            position.encode(&mut bytes);
            assert_eq!(Position::decode(&bytes), Some(position));
            assert_eq!(Position::decode(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(Position::of_maria(&format!("{most}14-1-1")), None);
        for bytes in [&b""[..], b"p", b"m", b"x12345678"] {
            assert_eq!(Position::decode(bytes), None);
        }
    }
}
