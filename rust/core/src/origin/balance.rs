//! Load balancing: the order in which the members of a group get one request. The first of it is requested, and the
//! others stand in for it as [`super::attempts`] decides.
//!
//! *By turns* is smooth weighted round robin: each pick gives every member that may be picked its weight as credit,
//! takes the one with the most, and takes the sum of the weights from it. So a member of weight 3 beside one of weight
//! 1 gets three of four requests, and not three in a row. *By hash* is rendezvous hashing: each member has a number for
//! each key, and the highest one ranks first. A member that joins or leaves changes the first place of its own keys
//! only. With a weight w the number is `w / -ln(u)` for a u from the hash that is spread evenly over 0 to 1.

use std::{cmp::Reverse, net::IpAddr, num::NonZeroU64};

use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::attempts::Members;
use crate::{
    bounds::clients::Client,
    cache::key::{Base, Key},
    http::{Fields, PathAndQuery, cookie},
    plan::{Balance, CachePolicy, Group, GroupId, HashBy, MemberShare, OriginId, Plan, Scheme},
};

/// The members of a group in the order in which they get a request.
pub type MemberOrder = SmallVec<[OriginId; 4]>;

/// The number of a request by which a hash ranks the members of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKey(NonZeroU64);

impl HashKey {
    fn new(bytes: &[u8]) -> Self {
        Self(NonZeroU64::new(xxh3_64(bytes)).unwrap_or(NonZeroU64::MIN))
    }

    /// Of a URL as the cache's key has it, without scheme and port: both ways to a response lead to one member.
    pub fn of_url(host: &str, target: &PathAndQuery, policy: &CachePolicy) -> Self {
        let base = Base {
            scheme: Scheme::Http,
            host,
            port: None,
        };
        let key = Key::of(Vec::new(), base, target.path(), target.query(), policy);
        Self::new(key.url())
    }

    /// Of the part of a request that the group's balance names; `None`: the request does not have it. `headers` as
    /// viewer hooks left them.
    pub fn of(
        by: &HashBy,
        address: IpAddr,
        host: &str,
        target: &PathAndQuery,
        headers: &Fields,
        policy: &CachePolicy,
    ) -> Option<Self> {
        let value = match by {
            HashBy::Url => return Some(Self::of_url(host, target, policy)),
            HashBy::Address => {
                return Some(match Client::of(address) {
                    Client::V4(bits) => Self::new(&bits.to_be_bytes()),
                    Client::V6(bits) => Self::new(&bits.to_be_bytes()),
                });
            }
            HashBy::Header(name) => headers.get(name).map(|value| value.as_bytes()),
            HashBy::Cookie(name) => cookie::get(headers, name),
        };
        value.filter(|value| !value.is_empty()).map(Self::new)
    }
}

/// The seed of a member's numbers: its name alone, so that all workers and machines agree.
pub fn seed(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// The credits of the members of each group of a plan, kept by one worker.
#[derive(Debug, Default)]
pub struct Turns(Vec<Vec<i64>>);

impl Turns {
    /// `random` moves the first turn, so that workers do not begin with the same member.
    pub fn new(plan: &Plan, random: u64) -> Self {
        if !plan.groups.iter().any(|group| group.balance.is_spread()) {
            return Self::default();
        }
        let begun = |group: &Group| begun(group, random);
        Self(plan.groups.iter().map(begun).collect())
    }

    /// The order for one request. `key`: by hash, whatever the group's balance.
    pub fn order(
        &mut self,
        (id, group): (GroupId, &Group),
        key: Option<HashKey>,
        known: &impl Members,
    ) -> MemberOrder {
        match (key, self.0.get_mut(id.0 as usize)) {
            (Some(key), _) => ranked(group, key),
            (None, Some(credits)) => in_turn(group, credits, known),
            (None, None) => group.members.iter().copied().collect(),
        }
    }
}

/// The credits with which a worker begins, a few turns on.
fn begun(group: &Group, random: u64) -> Vec<i64> {
    let mut credits = vec![0; group.shares.len()];
    let has_turns = |at: usize| group.shares.get(at).is_some_and(|share| share.weight > 0);
    for _ in 0..random.checked_rem(credits.len() as u64).unwrap_or(0) {
        take_turn(&group.shares, &mut credits, has_turns);
    }
    credits
}

/// The members by their numbers for this key, and after them those of weight 0.
pub fn ranked(group: &Group, key: HashKey) -> MemberOrder {
    let number = |share: &MemberShare| {
        let hash = xxh3_64_with_seed(&key.0.get().to_le_bytes(), share.seed);
        // 53 bits are what a float has; the half keeps it away from 0 and 1.
        let even = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        f64::from(share.weight) / -even.ln()
    };
    let mut numbered: SmallVec<[(OriginId, f64); 4]> = group
        .members
        .iter()
        .zip(&group.shares)
        .map(|(member, share)| (*member, number(share)))
        .collect();
    numbered.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    numbered.into_iter().map(|(member, _)| member).collect()
}

/// The place of a member in the order, before its load and its credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Unhealthy: it gets the request only if that is its trial, or if no member is healthy.
    Trial,
    Chosen,
    Healthy,
    /// Of weight 0.
    Spare,
    SpareTrial,
}

fn in_turn(group: &Group, credits: &mut [i64], known: &impl Members) -> MemberOrder {
    let (members, shares) = (&group.members, &group.shares);
    let healthy: SmallVec<[bool; 8]> = members.iter().map(|id| known.is_healthy(*id)).collect();
    let is_healthy = |at: usize| healthy.get(at).copied().unwrap_or(false);
    let is_spare = |at: usize| shares.get(at).is_none_or(|share| share.weight == 0);
    let all = || 0..members.len();
    let any_healthy = all().any(|at| is_healthy(at) && !is_spare(at));
    let any_spare = all().any(|at| is_healthy(at) && is_spare(at));
    // A member of weight 0 has its turn where no other is healthy.
    let may = |at: usize| match (any_healthy, any_spare) {
        (true, _) => is_healthy(at) && !is_spare(at),
        (false, true) => is_healthy(at),
        (false, false) => !is_spare(at),
    };
    let counts = group.balance == Balance::LeastRequests;
    let load: SmallVec<[Load; 8]> = members
        .iter()
        .zip(shares)
        .map(|(id, share)| Load {
            requests: if counts { known.under_way(*id) } else { 0 },
            weight: if counts { share.weight.max(1) } else { 1 },
        })
        .collect();
    let load = |at: usize| load.get(at).copied().unwrap_or_default();
    let least = all().filter(|at| may(*at)).map(load).min();
    let chosen = take_turn(shares, credits, |at| {
        may(at) && least.is_none_or(|least| load(at) <= least)
    });
    let place = |at: usize| match (is_healthy(at), is_spare(at)) {
        _ if chosen == Some(at) => Place::Chosen,
        (true, false) => Place::Healthy,
        (true, true) => Place::Spare,
        (false, true) => Place::SpareTrial,
        // Without a healthy member the one in turn is the first, and not the first of the list.
        (false, false) if !any_healthy && !any_spare => Place::Healthy,
        (false, false) => Place::Trial,
    };
    let credit = |at: usize| Reverse(credits.get(at).copied().unwrap_or(0));
    let mut order: SmallVec<[usize; 8]> = all().collect();
    order.sort_by_key(|at| (place(*at), load(*at), credit(*at)));
    order
        .iter()
        .filter_map(|at| members.get(*at).copied())
        .collect()
}

/// Gives each member that may be picked its credit, and takes the one with the most.
fn take_turn(
    shares: &[MemberShare],
    credits: &mut [i64],
    may: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut total = 0_i64;
    let mut most: Option<(usize, i64)> = None;
    for (at, (share, credit)) in shares.iter().zip(credits.iter_mut()).enumerate() {
        if !may(at) {
            continue;
        }
        let weight = i64::from(share.weight.max(1));
        *credit = credit.saturating_add(weight);
        total = total.saturating_add(weight);
        if most.is_none_or(|(_, most)| *credit > most) {
            most = Some((at, *credit));
        }
    }
    let (chosen, _) = most?;
    if let Some(credit) = credits.get_mut(chosen) {
        *credit = credit.saturating_sub(total);
    }
    Some(chosen)
}

/// The requests under way at a member, for its weight.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    requests: usize,
    weight: u32,
}

impl Ord for Load {
    /// By what it would be with this request: (requests + 1) / weight, multiplied out.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let with = |load: &Self| load.requests as u128 + 1;
        let one = with(self) * u128::from(other.weight);
        one.cmp(&(with(other) * u128::from(self.weight)))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load {}

#[cfg(test)]
mod tests;
