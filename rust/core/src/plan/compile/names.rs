//! The things that the parts of a plan refer to by name or number.

use std::sync::Arc;

use super::{index, routes};
use crate::{
    geo::GeoNaming,
    guard::{rate::RateLimit, security::SecurityFields},
    plan::{
        Balance, CallableId, Group, GroupId, OriginId, Route,
        spec::{Problems, nearest, suggestion},
    },
};

/// The things that a route may refer to: the names for `to`, the callables, the plan's limits.
#[derive(Debug)]
pub(super) struct DeclaredNames {
    pub(super) origins: Vec<Arc<str>>,
    pub(super) groups: Vec<Group>,
    pub(super) declared: usize,
    pub(super) callables: usize,
    pub(super) token_bytes: usize,
    /// The site's fields for browsers.
    pub(super) security: Option<Arc<SecurityFields>>,
    /// The site's rate limits, which every route has.
    pub(super) site_limits: Vec<Arc<RateLimit>>,
    /// The rate limits of the site and of the routes so far.
    pub(super) limits: Vec<Arc<RateLimit>>,
    /// The names of the fields for places; `None`: none is looked up.
    pub(super) geo: Option<GeoNaming>,
    /// The names of the key-value stores.
    pub(super) key_values: Vec<Arc<str>>,
}

impl DeclaredNames {
    /// The group that a route's `to` names; a single origin gets a group of its own, once.
    pub(super) fn group(&mut self, name: &str, path: &str, problems: &Problems) -> Option<GroupId> {
        let declared = self
            .groups
            .iter()
            .take(self.declared)
            .position(|group| &*group.name == name);
        let known = declared.or_else(|| {
            let origin = self.origins.iter().position(|origin| &**origin == name)?;
            let id = OriginId(index(origin));
            let own = self
                .groups
                .iter()
                .skip(self.declared)
                .position(|group| group.members.first() == Some(&id));
            Some(own.map_or_else(
                || {
                    self.groups.push(Group {
                        name: name.into(),
                        members: vec![id],
                        balance: Balance::Order,
                        shares: Vec::new(),
                        failover_on: Vec::new(),
                        deadline: None,
                    });
                    self.groups.len() - 1
                },
                |own| self.declared + own,
            ))
        });
        if known.is_none() {
            let names: Vec<&str> = self
                .groups
                .iter()
                .take(self.declared)
                .map(|group| &*group.name)
                .chain(self.origins.iter().map(|name| &**name))
                .collect();
            let near = suggestion(nearest(name, &names));
            let message = match (near.is_empty(), names.is_empty()) {
                (_, true) => "names no origin or group: the plan has none".to_owned(),
                (true, _) => format!("names no origin or group; there are {}", names.join(", ")),
                _ => format!("names no origin or group{near}"),
            };
            problems.add(path, Some(format!("{name:?}")), message);
        }
        known.map(|known| GroupId(index(known)))
    }

    /// The routes of requests that functions make by the name of an origin or group, after the declared ones.
    pub(super) fn direct(&mut self, declared: usize, problems: &Problems) -> Vec<Route> {
        let groups = self.groups.iter().take(self.declared);
        let names = groups.map(|group| &group.name).chain(&self.origins);
        let names: Vec<Arc<str>> = names.cloned().collect();
        let route = |(at, name): (usize, Arc<str>)| {
            let group = self.group(&name, "", problems)?;
            routes::direct(declared + at, &name, group)
        };
        names.into_iter().enumerate().filter_map(route).collect()
    }

    pub(super) fn callable(
        &self,
        call: u64,
        path: &str,
        problems: &Problems,
    ) -> Option<CallableId> {
        match u32::try_from(call) {
            Ok(id) if (id as usize) < self.callables => Some(CallableId(id)),
            _ => {
                problems.add(
                    path,
                    Some(call.to_string()),
                    format!(
                        "is not the index of a callable; there are {}",
                        self.callables
                    ),
                );
                None
            }
        }
    }
}
