//! The client's address and scheme, behind proxies that the plan trusts.
//!
//! `X-Forwarded-For` grows to the right: each proxy appends the peer it saw. So it is read from the right, and only as
//! far as the addresses belong to trusted proxies; anything left of the first other address may be forged. `Forwarded`
//! (RFC 7239) is ignored: a request that has both could contradict itself, and the proxies in use write
//! `X-Forwarded-*`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::{
    http::{Fields, header},
    plan::Scheme,
};

/// More hops than this are a loop or an attack.
const MOST_HOPS: usize = 32;

/// The client of a request, and its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedClient {
    /// IPv4-mapped IPv6 addresses are given as IPv4.
    pub address: IpAddr,
    /// Of the viewer's connection: the edge's own, or what a trusted proxy says.
    pub scheme: Scheme,
    /// The connection comes from a trusted proxy: its `X-Forwarded-*` fields are kept.
    pub trusted_peer: bool,
}

/// The client of a request that came from `peer`, over TLS or not.
pub fn resolve(peer: IpAddr, headers: &Fields, trusted: &[IpNet], tls: bool) -> ResolvedClient {
    let peer = peer.to_canonical();
    let scheme = if tls { Scheme::Https } else { Scheme::Http };
    if trusted.is_empty() || !is_trusted(peer, trusted) {
        return ResolvedClient {
            address: peer,
            scheme,
            trusted_peer: false,
        };
    }
    ResolvedClient {
        address: forwarded_for(peer, headers, trusted),
        scheme: forwarded_proto(headers).unwrap_or(scheme),
        trusted_peer: true,
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The first address from the right that is not a trusted proxy's; the farthest known one if the list ends before, or
/// is unreadable.
fn forwarded_for(peer: IpAddr, headers: &Fields, trusted: &[IpNet]) -> IpAddr {
    let mut farthest = peer;
    let hops = headers
        .get_all(header::X_FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops.take(MOST_HOPS) {
        let Some(address) = parse(hop) else {
            return farthest;
        };
        farthest = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    farthest
}

/// An address, perhaps with brackets or a port, as proxies write it.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare
        .unwrap_or(text)
        .parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()?;
    Some(IpAddr::to_canonical(&address))
}

/// The scheme that the peer reports: the last member, which the peer itself wrote.
fn forwarded_proto(headers: &Fields) -> Option<Scheme> {
    let value = headers
        .get_all(&header::X_FORWARDED_PROTO)
        .iter()
        .next_back()?;
    let last = value.as_bytes().rsplit(|byte| *byte == b',').next()?;
    let last = last.trim_ascii();
    if last.eq_ignore_ascii_case(b"https") {
        Some(Scheme::Https)
    } else if last.eq_ignore_ascii_case(b"http") {
        Some(Scheme::Http)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_chain_is_read_from_the_right_through_trusted_proxies_only() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "2001:db8::/32"]
            .map(|net| net.parse().unwrap())
            .into();
        for (peer, fields, want) in [
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["203.0.113.7"], "203.0.113.7"),
            // The part that the client wrote itself is to the left.
            ("10.0.0.1", vec!["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", vec!["203.0.113.7, 10.9.9.9"], "203.0.113.7"),
            ("10.0.0.1", vec!["203.0.113.7", "10.9.9.9"], "203.0.113.7"),
            ("10.0.0.1", vec!["10.1.1.1,10.2.2.2"], "10.1.1.1"),
            // Not an address: the nearest known hop.
            (
                "10.0.0.1",
                vec!["203.0.113.7, unknown, 10.9.9.9"],
                "10.9.9.9",
            ),
            ("10.0.0.1", vec!["203.0.113.7, "], "10.0.0.1"),
            ("10.0.0.1", vec!["203.0.113.7:4711"], "203.0.113.7"),
            ("10.0.0.1", vec!["[2001:db9::1]:443"], "2001:db9::1"),
            ("10.0.0.1", vec!["[2001:db9::1]"], "2001:db9::1"),
            ("10.0.0.1", vec!["2001:db9::1"], "2001:db9::1"),
            (
                "10.0.0.1",
                vec!["198.51.100.1, ::ffff:10.2.2.2"],
                "198.51.100.1",
            ),
            ("::ffff:10.0.0.1", vec!["203.0.113.7"], "203.0.113.7"),
            // Only a trusted peer's field counts.
            ("192.0.2.1", vec!["203.0.113.7"], "192.0.2.1"),
            ("2001:db8::5", vec!["203.0.113.7"], "203.0.113.7"),
        ] {
            let lines: Vec<_> = fields.iter().map(|v| ("x-forwarded-for", *v)).collect();
            let client = resolve(
                peer.parse().unwrap(),
                &Fields::of_lines(&lines),
                &trusted,
                false,
            );
            assert_eq!(client.address.to_string(), want, "{peer} {fields:?}");
        }
    }

    #[test]
    fn without_trusted_proxies_only_the_connection_counts() {
        let lines = Fields::of_lines(&[
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=203.0.113.7;proto=https"),
        ]);
        let client = resolve("::ffff:10.0.0.1".parse().unwrap(), &lines, &[], false);
        assert_eq!(client.address.to_string(), "10.0.0.1");
        assert_eq!(client.scheme, Scheme::Http);
        assert!(!client.trusted_peer);
    }

    #[test]
    fn the_scheme_is_the_trusted_peers_word() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (peer, proto, tls, want) in [
            ("10.0.0.1", "https", false, Scheme::Https),
            ("10.0.0.1", "HTTPS", false, Scheme::Https),
            ("10.0.0.1", "http", true, Scheme::Http),
            ("10.0.0.1", "http, https", false, Scheme::Https),
            ("10.0.0.1", "https,http", false, Scheme::Http),
            ("10.0.0.1", "gopher", true, Scheme::Https),
            ("192.0.2.1", "https", false, Scheme::Http),
            ("192.0.2.1", "http", true, Scheme::Https),
        ] {
            let lines = Fields::of_lines(&[("x-forwarded-proto", proto)]);
            let client = resolve(peer.parse().unwrap(), &lines, &trusted, tls);
            assert_eq!(client.scheme, want, "{peer} {proto} {tls}");
        }
    }

    #[test]
    fn a_very_long_chain_is_given_up() {
        let chain = vec!["10.0.0.2"; 40].join(",");
        let mut map = Fields::new();
        map.append(
            "x-forwarded-for",
            http::HeaderValue::from_str(&format!("203.0.113.7,{chain}")).unwrap(),
        );
        let client = resolve(
            "10.0.0.1".parse().unwrap(),
            &map,
            &["10.0.0.0/8".parse().unwrap()],
            false,
        );
        assert_eq!(client.address.to_string(), "10.0.0.2");
    }
}
