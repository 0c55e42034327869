//! Addresses of hosts that are not declared as origins: which of them the edge connects to.
//!
//! A name that somebody else controls may lead anywhere: into the networks of the edge, to the edge itself. So each
//! address is judged before it is connected to, in every form in which it can be written: as IPv4, as IPv6 that stands
//! for an IPv4 address, and as an address of the edge's own listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::guard::addresses::AddressSet;

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignRefusal {
    /// It stands for no host, or for several.
    #[error("is no address of one host")]
    NoHost,
    /// It is of a network that is not the Internet, and that the policy does not name.
    #[error("is of a private network that the policy does not name")]
    Private,
    /// A listener of the edge itself.
    #[error("is a listener of this edge")]
    Own,
}

/// Networks of special use that are no part of the Internet (RFC 6890 and its registries), in prefixes of IPv4.
const PRIVATE_V4: [([u8; 4], u32); 14] = [
    ([10, 0, 0, 0], 8),
    // Between a carrier and its customers (RFC 6598).
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    // 6to4 relays (RFC 7526).
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([240, 0, 0, 0], 4),
    ([0, 0, 0, 0], 8),
];

/// Of IPv6: only 2000::/3 is given out for the Internet (RFC 4291 §2.4), and these parts of it are not.
const PRIVATE_V6: [([u16; 4], u32); 6] = [
    // Teredo: an address of IPv4 behind a relay.
    ([0x2001, 0, 0, 0], 32),
    ([0x2001, 2, 0, 0], 48),
    ([0x2001, 0x10, 0, 0], 28),
    ([0x2001, 0x20, 0, 0], 28),
    ([0x2001, 0xdb8, 0, 0], 32),
    ([0x3fff, 0, 0, 0], 20),
];

/// The decision about an address. `networks`: private networks that the policy names; `own`: the edge's listeners;
/// `is_local`: the address is one of this machine.
pub fn judge(
    address: SocketAddr,
    networks: &AddressSet,
    own: &[SocketAddr],
    is_local: bool,
) -> Result<(), ForeignRefusal> {
    let given = address.ip().to_canonical();
    let inner = embedded(given);
    for ip in [Some(given), inner.map(IpAddr::V4)].into_iter().flatten() {
        if is_no_host(ip) {
            return Err(ForeignRefusal::NoHost);
        }
        if is_private(ip) && !networks.contains(ip) {
            return Err(ForeignRefusal::Private);
        }
        let is_listener = own.iter().any(|listener| {
            let bound = listener.ip().to_canonical();
            let reaches = bound == ip || (bound.is_unspecified() && (is_local || ip.is_loopback()));
            listener.port() == address.port() && reaches
        });
        if is_listener {
            return Err(ForeignRefusal::Own);
        }
    }
    Ok(())
}

/// The address of IPv4 that a translator would take one of IPv6 for: NAT64 (RFC 6052), 6to4 (RFC 3056), and the form
/// that once was "compatible" (RFC 4291 §2.5.5.1).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] => Some(of(g, h)),
        [0, 0, 0, 0, 0, 0] if !address.is_unspecified() && !address.is_loopback() => Some(of(g, h)),
        [0x2002, ..] => Some(of(b, c)),
        _ => None,
    }
}

fn is_no_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_unspecified() || address.is_multicast() || address.is_broadcast()
        }
        IpAddr::V6(address) => address.is_unspecified() || address.is_multicast(),
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => PRIVATE_V4.iter().any(|(network, bits)| {
            let network = u32::from_be_bytes(*network);
            (address.to_bits() ^ network).leading_zeros() >= *bits
        }),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    // The well-known prefix of NAT64 leads to the address of IPv4 that it holds, which is judged itself.
    let [a, b, c, d, e, f, ..] = address.segments();
    if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return false;
    }
    let is_global = a & 0xe000 == 0x2000;
    !is_global
        || PRIVATE_V6.iter().any(|([a, b, c, d], bits)| {
            let network = Ipv6Addr::new(*a, *b, *c, *d, 0, 0, 0, 0).to_bits();
            (address.to_bits() ^ network).leading_zeros() >= *bits
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn judged(address: &str, networks: &[&str]) -> Result<(), ForeignRefusal> {
        let networks: Vec<_> = networks.iter().map(|net| net.parse().unwrap()).collect();
        let address = SocketAddr::new(address.parse().unwrap(), 80);
        judge(address, &AddressSet::new(&networks), &[], false)
    }

    #[test]
    fn an_address_of_the_internet_is_connected_to_and_no_other() {
        use ForeignRefusal::{NoHost, Private};
        for (address, want) in [
            ("93.184.215.14", Ok(())),
            ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", Ok(())),
            ("0.0.0.0", Err(NoHost)),
            ("0.1.2.3", Err(Private)),
            ("10.0.0.1", Err(Private)),
            ("100.63.255.255", Ok(())),
            ("100.64.0.1", Err(Private)),
            ("100.127.255.255", Err(Private)),
            ("100.128.0.0", Ok(())),
            ("127.0.0.1", Err(Private)),
            ("127.255.255.254", Err(Private)),
            ("169.254.169.254", Err(Private)),
            ("172.15.255.255", Ok(())),
            ("172.16.0.1", Err(Private)),
            ("172.31.255.255", Err(Private)),
            ("172.32.0.0", Ok(())),
            ("192.0.0.8", Err(Private)),
            ("192.168.1.1", Err(Private)),
            ("198.19.255.255", Err(Private)),
            ("203.0.113.9", Err(Private)),
            ("224.0.0.1", Err(NoHost)),
            ("240.0.0.1", Err(Private)),
            ("255.255.255.255", Err(NoHost)),
            ("::", Err(NoHost)),
            ("::1", Err(Private)),
            ("::ffff:10.0.0.1", Err(Private)),
            ("::ffff:127.0.0.1", Err(Private)),
            ("::ffff:93.184.215.14", Ok(())),
            ("::127.0.0.1", Err(Private)),
            ("::93.184.215.14", Err(Private)),
            ("64:ff9b::10.0.0.1", Err(Private)),
            ("64:ff9b::169.254.169.254", Err(Private)),
            ("64:ff9b::224.0.0.1", Err(NoHost)),
            ("64:ff9b::93.184.215.14", Ok(())),
            ("64:ff9b:1::93.184.215.14", Err(Private)),
            ("2002:a00:1::", Err(Private)),
            ("2002:7f00:1::1", Err(Private)),
            ("2002:5db8:d70e::1", Ok(())),
            ("2001::1", Err(Private)),
            ("2001:db8::1", Err(Private)),
            ("2001:4860:4860::8888", Ok(())),
            ("fc00::1", Err(Private)),
            ("fdff::1", Err(Private)),
            ("fe80::1", Err(Private)),
            ("fec0::1", Err(Private)),
            ("ff02::1", Err(NoHost)),
            ("100::1", Err(Private)),
            ("3fff:fff::1", Err(Private)),
            ("5f00::1", Err(Private)),
        ] {
            assert_eq!(judged(address, &[]), want, "{address}");
        }
    }

    #[test]
    fn a_private_network_is_open_if_it_is_named_in_its_own_form() {
        use ForeignRefusal::{NoHost, Private};
        for (address, networks, want) in [
            ("10.1.2.3", &["10.1.0.0/16"][..], Ok(())),
            ("::ffff:10.1.2.3", &["10.1.0.0/16"], Ok(())),
            ("64:ff9b::10.1.2.3", &["10.1.0.0/16"], Ok(())),
            ("10.2.0.1", &["10.1.0.0/16"], Err(Private)),
            ("::1", &["::1/128"], Ok(())),
            ("::10.1.2.3", &["10.1.0.0/16"], Err(Private)),
            ("0.0.0.0", &["0.0.0.0/0"], Err(NoHost)),
            ("224.0.0.1", &["0.0.0.0/0"], Err(NoHost)),
            ("ff02::1", &["::/0"], Err(NoHost)),
        ] {
            assert_eq!(judged(address, networks), want, "{address} {networks:?}");
        }
    }

    #[test]
    fn the_edge_never_connects_to_itself() {
        let everything = AddressSet::new(&["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        let own: [SocketAddr; 3] = [
            "127.0.0.1:9090".parse().unwrap(),
            "0.0.0.0:80".parse().unwrap(),
            "[::]:443".parse().unwrap(),
        ];
        for (address, is_local, want) in [
            ("127.0.0.1:9090", true, Err(ForeignRefusal::Own)),
            ("[::ffff:127.0.0.1]:9090", true, Err(ForeignRefusal::Own)),
            ("[64:ff9b::127.0.0.1]:9090", false, Err(ForeignRefusal::Own)),
            ("127.0.0.2:9090", true, Ok(())),
            ("127.0.0.1:9091", true, Ok(())),
            ("127.0.0.3:80", false, Err(ForeignRefusal::Own)),
            ("10.0.0.1:80", true, Err(ForeignRefusal::Own)),
            ("10.0.0.1:80", false, Ok(())),
            ("10.0.0.1:443", true, Err(ForeignRefusal::Own)),
            ("[::1]:443", true, Err(ForeignRefusal::Own)),
        ] {
            let judged = judge(address.parse().unwrap(), &everything, &own, is_local);
            assert_eq!(judged, want, "{address}");
        }
    }
}
