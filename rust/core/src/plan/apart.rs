//! Routes of a new version that may find responses that the running one has stored, and those that may not.
//!
//! A route that makes the same responses as its counterpart shares its entries. Every other one gets a tag in its keys,
//! so that neither version can be given a response of the other, and all entries of the new one are out of reach when
//! its tag is no longer in use.

use std::sync::Arc;

use serde_json::Value;

use super::{Plan, Route, Target, matcher::share_a_host};

/// Lists of a plan that are compared route by route, and values that no stored response depends on.
const OTHERWISE: [&str; 8] = [
    "routes",
    "origins",
    "groups",
    "hooks",
    "callables",
    "prefetch",
    "access_log",
    "tracing",
];

/// Values of a plan that a process cannot have twice.
const ONCE: [&str; 4] = ["name", "via", "listeners", "disk_cache"];

/// A plan and the data that it was compiled from.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    /// The compiled plan.
    pub plan: &'a Plan,
    /// Its data.
    pub data: &'a Value,
}

/// The first value of a plan that can only be changed for the whole process, and differs.
pub fn of_process(new: &Value, running: &Value) -> Option<&'static str> {
    ONCE.into_iter()
        .find(|name| present(new.get(name)) != present(running.get(name)))
}

/// An absent list is an empty one.
fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()))
}

/// Sets the routes of `plan` apart that may answer otherwise than those of the running version, by `tag`. Gives the
/// number of routes that are apart.
///
/// A route whose stored responses Python has a part in is always apart: two versions of a function are not known to be
/// equal, as it may read whatever it likes when it is imported.
pub fn set_apart(plan: &mut Plan, data: &Value, running: Version<'_>, tag: &Arc<str>) -> usize {
    let same_site = same_but(data, running.data, &OTHERWISE);
    let tags = {
        let new = Version { plan, data };
        relate(new.plan, running.plan, tag, |own, other| {
            same_site && same_route(new, running, (own, other))
        })
    };
    let count = tags.iter().filter(|own| own.as_ref() == Some(tag)).count();
    apply(plan, tags, tag);
    plan.apart = Some(Arc::clone(tag));
    count
}

/// Has a plan keep apart what its predecessor in the same process kept apart.
pub fn keep_apart(plan: &mut Plan, running: &Plan) {
    let Some(tag) = &running.apart else { return };
    let tags = relate(plan, running, tag, |_, _| true);
    apply(plan, tags, tag);
    plan.apart = Some(Arc::clone(tag));
}

/// `newest`: for the requests of functions by the name of an origin, which are always apart.
fn apply(plan: &mut Plan, tags: Vec<Option<Arc<str>>>, newest: &Arc<str>) {
    let direct = plan
        .direct
        .iter_mut()
        .map(|route| (route, Some(Arc::clone(newest))));
    for (route, tag) in plan.routes.iter_mut().zip(tags).chain(direct) {
        if let Some(tag) = &tag {
            let own = route.key_tag.as_deref().unwrap_or_default();
            route.key_tag = Some(format!("{tag}\n{own}").into());
        }
        route.apart = tag;
    }
}

/// The tag of each route: that of its counterpart where `same` holds for the two positions, and `fresh` otherwise.
fn relate(
    plan: &Plan,
    running: &Plan,
    fresh: &Arc<str>,
    same: impl Fn(usize, usize) -> bool,
) -> Vec<Option<Arc<str>>> {
    let mut met = vec![false; running.routes.len()];
    let mut last = None;
    let mut in_order = true;
    let mut tags: Vec<Option<Arc<str>>> = Vec::with_capacity(plan.routes.len());
    for (own, route) in plan.routes.iter().enumerate() {
        let found = (running.routes.iter().zip(&met).enumerate())
            .find(|(_, (other, met))| !**met && meets_the_same(route, other))
            .map(|(other, _)| other);
        let mut tag = Some(Arc::clone(fresh));
        if let Some(other) = found {
            if let Some(met) = met.get_mut(other) {
                *met = true;
            }
            in_order &= last.is_none_or(|last| last < other);
            last = Some(other);
            if same(own, other) {
                tag = running
                    .routes
                    .get(other)
                    .and_then(|other| other.apart.clone());
            }
        }
        tags.push(tag);
    }
    if !in_order {
        return vec![Some(Arc::clone(fresh)); plan.routes.len()];
    }
    // Other routes answer the URLs of one that is gone, and would find what it has stored.
    let gone = running.routes.iter().zip(met).filter(|(_, met)| !met);
    for (gone, _) in gone {
        for (route, tag) in plan.routes.iter().zip(&mut tags) {
            if share_a_host(route, gone) && route.path.intersects(&gone.path) {
                *tag = Some(Arc::clone(fresh));
            }
        }
    }
    tags
}

/// True if both take the same requests, as far as they themselves decide.
fn meets_the_same(left: &Route, right: &Route) -> bool {
    left.label == right.label
        && left.methods == right.methods
        && left.priority == right.priority
        && format!("{:?}", left.when) == format!("{:?}", right.when)
}

/// True if two routes make the same responses without Python.
fn same_route(new: Version<'_>, running: Version<'_>, (own, other): (usize, usize)) -> bool {
    let declared = |version: Version<'_>, at: usize| {
        let routes = version.data.get("routes")?.as_array();
        routes.and_then(|routes| routes.get(at)).cloned()
    };
    let calls = |version: Version<'_>, at: usize| {
        let route = version.plan.routes.get(at);
        route.is_none_or(|route| {
            let hooks = &route.hooks;
            // Hooks of the phase after storing have no part in what is stored.
            matches!(route.target, Target::Function(_))
                || !hooks.viewer_request.is_empty()
                || !hooks.origin_request.is_empty()
                || !hooks.origin_response.is_empty()
        })
    };
    let (left, right) = (declared(new, own), declared(running, other));
    if left.is_none() || left != right || calls(new, own) || calls(running, other) {
        return false;
    }
    let Some(left) = left else { return false };
    match left.get("to").and_then(Value::as_str) {
        Some(name) => sources(new.data, name) == sources(running.data, name),
        None => ["origins", "groups"]
            .into_iter()
            .all(|list| present(new.data.get(list)) == present(running.data.get(list))),
    }
}

/// The group of a name, and all origins: the origin of a name, or those of its members.
fn sources<'v>(data: &'v Value, name: &str) -> Vec<Option<&'v Value>> {
    let named = |list: &str, name: &str| {
        let values = data.get(list).and_then(Value::as_array);
        values.and_then(|values| {
            let mut values = values.iter();
            values.find(|value| value.get("name").and_then(Value::as_str) == Some(name))
        })
    };
    let group = named("groups", name);
    let mut found = vec![group, named("origins", name)];
    // Each text in a list of a group may be the name of a member.
    if let Some(fields) = group.and_then(Value::as_object) {
        let lists = fields.values().filter_map(Value::as_array).flatten();
        found.extend(
            lists
                .filter_map(Value::as_str)
                .map(|member| named("origins", member)),
        );
    }
    found
}

/// True if two objects are equal without these members.
fn same_but(left: &Value, right: &Value, without: &[&str]) -> bool {
    let (Some(left), Some(right)) = (left.as_object(), right.as_object()) else {
        return false;
    };
    let names = left.keys().chain(right.keys());
    names
        .filter(|name| !without.contains(&name.as_str()))
        .all(|name| present(left.get(name)) == present(right.get(name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use serde_json::json;

    use super::*;
    use crate::plan::compile;

    fn compiled(data: &Value) -> Plan {
        compile(data.to_string().as_bytes()).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn site() -> Value {
        json!({
            "version": 1,
            "name": "site",
            "origins": [{"name": "a", "url": "http://a.example"}, {"name": "b", "url": "http://b.example"}],
            "groups": [{"name": "both", "members": ["a", "b"]}],
            "callables": [{"name": "app.page"}],
            "routes": [
                {"pattern": "/fn", "function": 0, "cache": {}},
                {"pattern": "/a/*", "to": "a"},
                {"pattern": "/both/*", "to": "both"},
                {"pattern": "/*", "to": "b"},
            ],
        })
    }

    /// The patterns of the routes that are apart after an edit.
    fn apart(edit: impl FnOnce(&mut Value)) -> Vec<String> {
        let (old, mut new) = (site(), site());
        edit(&mut new);
        let (running, mut plan) = (compiled(&old), compiled(&new));
        let beside = Version {
            plan: &running,
            data: &old,
        };
        let count = set_apart(&mut plan, &new, beside, &"tag".into());
        let found: Vec<String> = (plan.routes.iter())
            .filter(|route| route.apart.is_some())
            .map(|route| route.label.to_string())
            .collect();
        assert_eq!(count, found.len());
        for route in &plan.routes {
            let tagged = route
                .key_tag
                .as_ref()
                .is_some_and(|tag| tag.starts_with("tag\n"));
            assert_eq!(tagged, route.apart.is_some(), "{}", route.label);
        }
        found
    }

    #[test]
    fn a_route_shares_its_entries_while_nothing_that_makes_them_differs() {
        let all = ["/fn", "/a/*", "/both/*", "/*"];
        assert_eq!(apart(|_| {}), ["/fn"]);
        assert_eq!(
            apart(|new| new["routes"][1]["cache"] = json!({"default_ttl": 5})),
            ["/fn", "/a/*"]
        );
        assert_eq!(
            apart(|new| new["origins"][0]["url"] = json!("http://c.example")),
            ["/fn", "/a/*", "/both/*"],
        );
        assert_eq!(
            apart(|new| new["groups"][0]["members"] = json!(["b", "a"])),
            ["/fn", "/both/*"],
        );
        assert_eq!(apart(|new| new["via"] = json!("other")), all);
        assert_eq!(apart(|new| new["access_log"] = json!({})), ["/fn"]);
        let hook = |phase| {
            move |new: &mut Value| {
                new["hooks"] = json!([{"phase": phase, "pattern": "/a/*", "call": 0}]);
            }
        };
        assert_eq!(apart(hook("viewer_response")), ["/fn"]);
        // It could run on the last route as well.
        assert_eq!(apart(hook("origin_response")), ["/fn", "/a/*", "/*"]);
    }

    #[test]
    fn urls_of_a_route_that_is_gone_are_found_by_no_other() {
        let gone = |new: &mut Value| {
            new["routes"].as_array_mut().unwrap().remove(1);
        };
        assert_eq!(apart(gone), ["/fn", "/*"]);
        let added = |new: &mut Value| {
            let routes = new["routes"].as_array_mut().unwrap();
            routes.insert(0, json!({"pattern": "/new/*", "to": "a"}));
        };
        assert_eq!(apart(added), ["/new/*", "/fn"]);
        let swapped = |new: &mut Value| new["routes"].as_array_mut().unwrap().swap(1, 3);
        assert_eq!(apart(swapped).len(), 4);
    }

    #[test]
    fn later_plans_of_the_process_keep_the_tags() {
        let (old, mut new) = (site(), site());
        new["routes"][1]["cache"] = json!({"default_ttl": 5});
        let running = compiled(&old);
        let mut promoted = compiled(&new);
        let beside = Version {
            plan: &running,
            data: &old,
        };
        set_apart(&mut promoted, &new, beside, &"one".into());
        let mut reloaded = compiled(&new);
        keep_apart(&mut reloaded, &promoted);
        let tags = |plan: &Plan| -> Vec<Option<Arc<str>>> {
            plan.routes
                .iter()
                .map(|route| route.apart.clone())
                .collect()
        };
        assert_eq!(tags(&reloaded), tags(&promoted));
        // The next version shares what it has in common with the promoted one, by its tag.
        let mut next = compiled(&new);
        let beside = Version {
            plan: &reloaded,
            data: &new,
        };
        assert_eq!(set_apart(&mut next, &new, beside, &"two".into()), 1);
        assert_eq!(tags(&next)[1..], tags(&promoted)[1..]);
        assert_eq!(tags(&next)[0].as_deref(), Some("two"));
        let mut plain = compiled(&old);
        keep_apart(&mut plain, &running);
        assert!(tags(&plain).iter().all(Option::is_none));
    }

    #[test]
    fn what_a_process_has_once_must_stay() {
        for (name, value) in [
            ("listeners", json!([{"address": "127.0.0.1:1"}])),
            ("disk_cache", json!({"path": "/tmp/x"})),
        ] {
            let mut new = site();
            new[name] = value;
            assert_eq!(of_process(&new, &site()), Some(name));
        }
        let mut empty = site();
        empty["listeners"] = json!([]);
        assert_eq!(of_process(&empty, &site()), None);
    }
}
