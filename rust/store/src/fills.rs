//! Recent requests for parts of large objects, and their cost to the origins. The rules are in
//! `edgerouter_core::cache::fill`; here are the tables, shared by the workers, and the keys of their hashes.

use std::{
    hash::BuildHasher,
    net::{IpAddr, Ipv6Addr},
};

use edgerouter_core::cache::fill::{Accounts, Sketch};

/// Objects that are remembered: 128 KiB.
const OBJECTS: usize = 16_384;
/// Accounts of addresses: 128 KiB.
const ADDRESSES: usize = 8_192;

/// Range requests by object and by address, in fixed tables: decides whether one may fill slices.
#[derive(Debug)]
pub struct Fills {
    objects: Sketch,
    accounts: Accounts,
    /// Clients choose the keys; the seed keeps them from choosing their slots.
    hasher: foldhash::fast::RandomState,
}

impl Default for Fills {
    fn default() -> Self {
        Self {
            objects: Sketch::new(OBJECTS),
            accounts: Accounts::new(ADDRESSES),
            hasher: foldhash::fast::RandomState::default(),
        }
    }
}

impl Fills {
    /// Notes a request for a part of an object, and returns whether there was one before.
    pub fn seen(&self, url_key: &[u8], now: u64) -> bool {
        self.objects.seen(self.hasher.hash_one(url_key), now)
    }

    /// True if this many bytes may be requested from the origin on behalf of this address.
    pub fn fetch(&self, client: IpAddr, bytes: u64, grant: u64, now: u64) -> bool {
        let account = self.hasher.hash_one(holder(client));
        self.accounts.fetch(account, bytes, grant, now)
    }

    /// Notes bytes that the address received.
    pub fn sent(&self, client: IpAddr, bytes: u64, now: u64) {
        let account = self.hasher.hash_one(holder(client));
        self.accounts.sent(account, bytes, now);
    }
}

/// A client with one IPv6 address usually has its network's 2⁶⁴.
fn holder(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_of_one_network_share_an_account() {
        let holder = |text: &str| holder(text.parse().unwrap());
        assert_eq!(holder("2001:db8::1"), holder("2001:db8::ffff:1"));
        assert_ne!(holder("2001:db8::1"), holder("2001:db8:0:1::1"));
        assert_eq!(holder("::ffff:192.0.2.1"), holder("192.0.2.1"));
        assert_ne!(holder("192.0.2.1"), holder("192.0.2.2"));
    }
}
