//! Bounds per client: which addresses count as one client, and which clients a bound applies to.

use std::net::IpAddr;

use ipnet::IpNet;

/// One client: an IPv4 address, or an IPv6 network of 64 bits, which is the size that a provider gives to one customer
/// (RFC 6177 §2, RFC 7421 §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Client {
    /// The whole address.
    V4(u32),
    /// The first half of the address.
    V6(u64),
}

impl Client {
    /// The client at an address.
    pub fn of(address: IpAddr) -> Self {
        // A socket for both families reports IPv4 clients as mapped IPv6 addresses (RFC 4291 §2.5.5.2).
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// A bound on each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerClient {
    /// The most that one client may have at a time.
    pub most: usize,
    /// Set explicitly: it applies to programs of this machine, too.
    pub set: bool,
}

impl PerClient {
    /// The bound for requests of a client.
    pub fn requests(self, address: IpAddr) -> Option<usize> {
        (self.set || !address.to_canonical().is_loopback()).then_some(self.most)
    }

    /// The bound for connections of a peer: none for a trusted proxy, which brings the requests of many clients.
    pub fn connections(self, peer: IpAddr, trusted: &[IpNet]) -> Option<usize> {
        let peer = peer.to_canonical();
        if trusted.iter().any(|net| net.contains(&peer)) {
            return None;
        }
        self.requests(peer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client(text: &str) -> Client {
        Client::of(text.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_customer_are_one_client() {
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("2001:db8:0:1::1"), client("2001:db8:0:1:ffff::9"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8:0:2::1"));
    }

    #[test]
    fn proxies_that_are_trusted_and_this_machine_are_excepted() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let unset = PerClient {
            most: 5,
            set: false,
        };
        let set = PerClient { most: 5, set: true };
        for (bound, peer, connections, requests) in [
            (unset, "192.0.2.1", Some(5), Some(5)),
            (unset, "10.1.1.1", None, Some(5)),
            (unset, "::ffff:10.1.1.1", None, Some(5)),
            (unset, "127.0.0.1", None, None),
            (unset, "::1", None, None),
            (unset, "::ffff:127.0.0.1", None, None),
            (set, "127.0.0.1", Some(5), Some(5)),
            (set, "10.1.1.1", None, Some(5)),
        ] {
            let address = peer.parse().unwrap();
            assert_eq!(bound.connections(address, &trusted), connections, "{peer}");
            assert_eq!(bound.requests(address), requests, "{peer}");
        }
    }
}
