//! Routes: target, patterns, policies, and whether they fit together.

use std::sync::Arc;

use super::{
    DeclaredNames,
    experiments::experiments,
    files,
    fit::{cache_fits, compress, pages, predict_fits, preflight_fits, target_fits},
    guard, host, images, index,
    paths::{location, prefix, rewrite},
    pattern, places,
};
use crate::{
    forward::REWRITING,
    http::FieldName,
    identity::jwt::{JwtPolicy, JwtSpec},
    plan::{
        CachePolicy, DIRECT, FixedResponse, ForwardPolicy, GroupId, HeaderEdits, Hooks,
        HostPattern, PathPattern, Preflight, Rewrite, Route, RouteId, Select, Target, Unkeyed,
        ViewerPolicy,
        spec::{ForwardSpec, Problems, RouteSpec, TargetSpec, UnkeyedSpec},
    },
    problem::SubProblem,
};

/// Compiles the routes; `None` stands for one that is reported. Adds to `edge_fields` the request fields that only the
/// edge may set because of them.
pub(super) fn routes(
    specs: Vec<RouteSpec>,
    names: &mut DeclaredNames,
    edge_fields: &mut Vec<FieldName>,
    problems: &Problems,
) -> Vec<Option<Route>> {
    let mut routes = Vec::with_capacity(specs.len());
    for (at, spec) in specs.into_iter().enumerate() {
        let mut fields = Vec::new();
        routes.push(route(spec, at, names, &mut fields, problems));
        for field in fields {
            if !edge_fields.contains(&field) {
                edge_fields.push(field);
            }
        }
    }
    routes
}

fn route(
    spec: RouteSpec,
    at: usize,
    names: &mut DeclaredNames,
    fields: &mut Vec<FieldName>,
    problems: &Problems,
) -> Option<Route> {
    let path = format!("routes[{at}]");
    let (hosts, pattern) = hosts_and_path(&spec, &path, problems);
    fits(&spec, names, &path, problems);
    let (compress, uncompressed) = compress(&spec, &path, problems);
    pages(&spec, &path, problems);
    let (strip_prefix, add_prefix, rewrite) = changes_of_path(&spec, &path, problems);
    let images = (spec.images)
        .or_else(|| matches!(spec.target, TargetSpec::Images(_)).then(Default::default));
    let target = target(spec.target, pattern.as_ref(), names, &path, problems);
    let auth = auth(spec.auth, names, fields, &path, problems);
    let guard = guard::route(spec.guard, spec.has_auth, &path, names, problems);
    let security = guard.as_ref().and_then(|guard| guard.security.as_ref());
    let nonce = security.and_then(|security| security.placeholder.clone());
    let experiments = experiments(
        spec.experiments,
        spec.has_auth,
        names,
        &path,
        fields,
        problems,
    );
    let sent_facts = (spec.forward.as_ref()).and_then(|forward| forward.geo.clone());
    let (mut cache, mut request_headers) = (spec.cache, spec.request_headers);
    let mut forward = forward(spec.forward, &cache);
    let policies = (&mut cache, &mut forward, &mut request_headers);
    let geo = places::of_route(sent_facts, names, policies, fields);
    let guard = match geo {
        Some(geo) => {
            let mut guard = guard.unwrap_or_default();
            guard.geo = Some(geo);
            Some(guard)
        }
        None => guard,
    };
    let pattern = pattern?;
    let label = label(&hosts, pattern.as_str());
    Some(Route {
        id: RouteId(index(at)),
        label,
        hosts: if hosts.contains(&HostPattern::Any) {
            Vec::new()
        } else {
            hosts
        },
        path: Arc::new(pattern),
        methods: spec.methods,
        when: spec.when,
        priority: spec.priority,
        target: target?,
        viewer: spec.viewer,
        index: spec.index.map(Into::into),
        fallback: spec.fallback.map(Into::into),
        strip_prefix,
        add_prefix,
        rewrite,
        request_headers,
        response_headers: spec.response_headers,
        forward,
        cache,
        key_tag: None,
        apart: None,
        guard,
        auth,
        preflight: spec.preflight,
        experiments,
        counts_visitors: false,
        hooks: Hooks::default(),
        errors: spec.errors,
        compress,
        uncompressed,
        own_bytes: nonce.is_some(),
        nonce,
        images: images.map(Arc::new),
        predict: spec.predict,
    })
}

/// Reports the parts of a route that do not fit together.
fn fits(spec: &RouteSpec, names: &DeclaredNames, path: &str, problems: &Problems) {
    target_fits(spec, path, problems);
    files::files_fit(spec, path, problems);
    cache_fits(spec, path, problems);
    preflight_fits(spec, path, problems);
    guard::fits(spec, path, problems);
    places::fits(spec, names, path, problems);
    predict_fits(spec, path, problems);
    images::images_fit(spec, path, problems);
}

/// The changes between the path of a request and that of the request to the origin: the prefix that is removed, the
/// one that is added, and the rewrite.
fn changes_of_path(
    spec: &RouteSpec,
    path: &str,
    problems: &Problems,
) -> (Option<Arc<str>>, Option<Arc<str>>, Option<Rewrite>) {
    let at = |field: &str| format!("{path}.{field}");
    let strip = prefix(spec.strip_prefix.as_deref(), &at("strip_prefix"), problems);
    let add = prefix(spec.add_prefix.as_deref(), &at("add_prefix"), problems);
    let rewrite =
        (spec.rewrite.as_ref()).and_then(|(from, to)| rewrite(from, to, &at("rewrite"), problems));
    (strip, add, rewrite)
}

fn target(
    spec: TargetSpec,
    pattern: Option<&PathPattern>,
    names: &mut DeclaredNames,
    path: &str,
    problems: &Problems,
) -> Option<Target> {
    let at = |field: &str| format!("{path}.{field}");
    match spec {
        TargetSpec::To(name) => {
            let group = names.group(&name, &at("to"), problems);
            group.map(Target::Group)
        }
        TargetSpec::Function(call) => {
            let callable = names.callable(call, &at("function"), problems);
            callable.map(Target::Function)
        }
        TargetSpec::Redirect(redirect) => {
            location(&redirect, pattern, &at("redirect.location"), problems);
            Some(Target::Redirect(redirect))
        }
        TargetSpec::Respond {
            status,
            headers,
            body,
        } => Some(Target::Respond(FixedResponse {
            status,
            headers,
            body: bytes::Bytes::from(body),
        })),
        TargetSpec::Files(spec) => files::folder(spec, pattern, path, problems).map(Target::Files),
        TargetSpec::Images(sources) => {
            images::sources(sources, path, names, problems).map(Target::Images)
        }
        TargetSpec::Broken => None,
    }
}

/// Compiles the demand for a token. Adds to `fields` those that carry its claims to the origin.
fn auth(
    spec: Option<JwtSpec>,
    names: &DeclaredNames,
    fields: &mut Vec<FieldName>,
    path: &str,
    problems: &Problems,
) -> Option<Arc<JwtPolicy>> {
    let spec = spec?;
    let forwarded = spec.forward.iter();
    fields.extend(forwarded.filter_map(|(_, field)| FieldName::from_bytes(field.as_bytes()).ok()));
    match JwtPolicy::compile(spec) {
        Ok(mut policy) => {
            policy.token_bytes = names.token_bytes;
            Some(Arc::new(policy))
        }
        Err(found) => {
            within(&format!("{path}.auth"), found, problems);
            None
        }
    }
}

/// The route of requests that functions make to an origin or group by its name, in the place of the route that a
/// client's request would take. No client reaches it.
pub(super) fn direct(at: usize, name: &str, group: GroupId) -> Option<Route> {
    // No other route has such a tag: their labels have a slash, and no space before it.
    let label: Arc<str> = format!("{DIRECT}{name}").into();
    let cache = CachePolicy::default();
    Some(Route {
        id: RouteId(index(at)),
        label: Arc::clone(&label),
        hosts: Vec::new(),
        path: Arc::new(PathPattern::parse("/*").ok()?),
        methods: Vec::new(),
        when: Vec::new(),
        priority: 0,
        target: Target::Group(group),
        viewer: ViewerPolicy::AllowAll,
        index: None,
        fallback: None,
        strip_prefix: None,
        add_prefix: None,
        rewrite: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        forward: forward(None, &cache),
        cache,
        key_tag: Some(label),
        apart: None,
        guard: None,
        auth: None,
        preflight: Preflight::default(),
        experiments: Vec::new(),
        counts_visitors: false,
        hooks: Hooks::default(),
        errors: Vec::new(),
        compress: false,
        uncompressed: None,
        own_bytes: false,
        nonce: None,
        images: None,
        predict: None,
    })
}

fn label(hosts: &[HostPattern], pattern: &str) -> Arc<str> {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    format!("{}{pattern}", hosts.join("|")).into()
}

/// Reports the problems that a room found in its policy.
pub(super) fn within(path: &str, found: Vec<SubProblem>, problems: &Problems) {
    for (sub, value, message) in found {
        let place = match sub.as_str() {
            "" => path.to_owned(),
            sub if sub.starts_with('[') => format!("{path}{sub}"),
            sub => format!("{path}.{sub}"),
        };
        problems.add(place, value, message);
    }
}

fn hosts_and_path(
    spec: &RouteSpec,
    path: &str,
    problems: &Problems,
) -> (Vec<HostPattern>, Option<PathPattern>) {
    let mut hosts: Vec<HostPattern> = Vec::new();
    for (place, text) in &spec.hosts {
        match host(text, place, problems) {
            Some(host) if hosts.contains(&host) => {
                problems.add(place, Some(format!("{text:?}")), "is in the list already")
            }
            Some(host) => hosts.push(host),
            None => {}
        }
    }
    let place = format!("{path}.pattern");
    let Some(text) = &spec.pattern else {
        return (hosts, None);
    };
    match pattern(text, &place, problems) {
        None => (hosts, None),
        Some((None, pattern)) => (hosts, Some(pattern)),
        Some((Some(own), pattern)) => {
            if !spec.hosts.is_empty() {
                problems.add(
                    place,
                    Some(format!("{text:?}")),
                    "names a host, and so does host: give it once",
                );
            }
            (vec![own], Some(pattern))
        }
    }
}

/// The parts of a request that go upstream. Default: the parts that select responses, and those declared not to;
/// without a cache, everything.
fn forward(spec: Option<ForwardSpec>, cache: &CachePolicy) -> ForwardPolicy {
    let spec = spec.unwrap_or_default();
    let (has_query, has_cookies) = (spec.query.is_some(), spec.cookies.is_some());
    let mut unkeyed = Unkeyed::default();
    for (_, one) in spec.unkeyed {
        match one {
            UnkeyedSpec::Field(name) => unkeyed.fields.push(name),
            UnkeyedSpec::Query(name) => unkeyed.query.push(name.into()),
            UnkeyedSpec::Cookie(name) => unkeyed.cookies.push(name.into()),
            UnkeyedSpec::Claim(name) => unkeyed.claims.push(name.into()),
        }
    }
    // Parameters that may go upstream with a request whose response may be stored.
    let query = cache.key_query.with(&unkeyed.query);
    let cookies = match &cache.key_cookies {
        None => Select::All,
        Some(key) => key.with(&unkeyed.cookies),
    };
    let mut policy = ForwardPolicy {
        query: spec.query.unwrap_or(Select::All),
        headers: spec.headers.unwrap_or(Select::All),
        cookies: spec.cookies.unwrap_or(Select::All),
        unkeyed,
        strays: false,
    };
    if !cache.enabled {
        return policy;
    }
    if !has_query {
        policy.query = query.clone();
    }
    if !has_cookies {
        policy.cookies = cookies.clone();
    }
    policy.strays = !query.covers(&policy.query)
        || !cookies.covers(&policy.cookies)
        || REWRITING.iter().any(|name| {
            matches!(&policy.headers, Select::Only(names) if names.iter().any(|one| **one == *name.as_str()))
                && !cache.key_headers.contains(name)
                && !policy.unkeyed.fields.contains(name)
        });
    policy
}
