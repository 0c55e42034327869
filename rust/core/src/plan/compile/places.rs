//! Places of clients: the facts that a route sends to its origin and has in its key, and the parts of a plan that need
//! any.

use super::DeclaredNames;
use crate::{
    geo::{GeoFact, RouteGeo},
    guard::addresses::AddressPolicy,
    http::FieldName,
    plan::{
        CachePolicy, ForwardPolicy, HeaderEdits, Select, Subject,
        spec::{Problems, RouteSpec},
    },
};

const NEEDED: &str = "needs geo on the edge: without it no client has a place";

/// Reports the parts of a route that depend on places, on a site that looks none up.
pub(super) fn fits(spec: &RouteSpec, names: &DeclaredNames, path: &str, problems: &Problems) {
    if names.geo.is_some() {
        return;
    }
    let forwards = (spec.forward.as_ref())
        .is_some_and(|forward| forward.geo.as_ref().is_some_and(|facts| !facts.is_empty()));
    for (field, needs) in [
        ("cache.geo", !spec.cache.key_geo.is_empty()),
        ("forward.geo", forwards),
        ("addresses", by_place(spec.guard.addresses.as_ref())),
    ] {
        if needs {
            problems.add(format!("{path}.{field}"), None, NEEDED);
        }
    }
    for (at, condition) in spec.when.iter().enumerate() {
        if condition.subject == Subject::Country {
            problems.add(format!("{path}.when[{at}].country"), None, NEEDED);
        }
    }
}

/// The same of the site's address policy.
pub(super) fn site_fits(
    addresses: Option<&AddressPolicy>,
    names: &DeclaredNames,
    problems: &Problems,
) {
    if names.geo.is_none() && by_place(addresses) {
        problems.add("addresses", None, NEEDED);
    }
}

fn by_place(policy: Option<&AddressPolicy>) -> bool {
    policy.is_some_and(|policy| policy.places.is_some())
}

/// The facts in the fields of a route's requests. A fact that the key has, or that goes to the origin of a route that
/// stores responses, is a key field like any other; one that is only keyed is removed on its way upstream.
pub(super) fn of_route(
    sent: Option<Vec<GeoFact>>,
    names: &DeclaredNames,
    (cache, forward, edits): (&mut CachePolicy, &mut ForwardPolicy, &mut HeaderEdits),
    fields: &mut Vec<FieldName>,
) -> Option<RouteGeo> {
    let naming = names.geo?;
    let key = if cache.enabled {
        cache.key_geo.clone()
    } else {
        Vec::new()
    };
    let sent = sent.unwrap_or_else(|| key.clone());
    let mut geo = RouteGeo::default();
    for (_, fact) in GeoFact::ALL {
        let (is_sent, is_key) = (sent.contains(&fact), key.contains(&fact));
        if !is_sent && !is_key {
            continue;
        }
        let field = fact.field(naming);
        let declared = !is_key && forward.unkeyed.fields.contains(&field);
        if cache.enabled && !declared && !cache.key_headers.contains(&field) {
            cache.key_headers.push(field.clone());
        }
        if is_sent {
            let name = field.as_str().into();
            match &mut forward.headers {
                Select::Only(chosen) if !chosen.contains(&name) => chosen.push(name),
                chosen @ Select::None => *chosen = Select::Only(vec![name]),
                _ => {}
            }
        } else {
            edits.remove.push(field.clone());
        }
        geo.settled.add(fact);
        fields.push(field.clone());
        geo.fields.push((fact, field));
    }
    (!geo.fields.is_empty()).then_some(geo)
}
