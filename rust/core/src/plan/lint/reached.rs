//! Rules for what is never reached, or reached in another way than it looks: patterns, redirects, hooks, prefetching.

use super::advice::{Advice, Lint, LintLevel};
use crate::plan::{
    GroupId, OriginId, Plan, PrefetchTarget, Route, Scheme, Target,
    compile::{Template, TemplatePart},
    spec::nearest,
};

/// Declarations that never take effect.
pub(super) fn idle(plan: &Plan) -> Vec<Lint> {
    let mut found = Vec::new();
    for (at, call) in &plan.idle_hooks {
        let name = plan.callable(*call).map_or("?", |called| &*called.name);
        found.push(Lint {
            path: format!("hooks[{at}]"),
            route: String::new(),
            level: LintLevel::Warning,
            rule: "unreached-hook",
            message: format!("{name} is never called: no route leads requests to it in its phase"),
            remedy: "correct its pattern or host, choose a viewer phase where a function or fixed words answer, or remove it",
        });
    }
    // Functions and hooks may request from any origin by its name.
    let named = plan.groups.iter().flat_map(|group| &group.members);
    let named: Vec<OriginId> = named.copied().collect();
    for (at, origin) in plan.origins.iter().enumerate() {
        let is_named = named.iter().any(|id| id.0 as usize == at);
        if plan.callables.is_empty() && !is_named {
            found.push(Lint {
                path: format!("origins[{at}]"),
                route: String::new(),
                level: LintLevel::Info,
                rule: "unused-origin",
                message: format!(
                    "{} gets no requests: no route and no group names it",
                    origin.name
                ),
                remedy: "make it a member of a group, lead a route to it, or remove it",
            });
        }
    }
    // Only a listener with TLS, or a trusted proxy that has it, can bring https requests.
    let https = |target: &PrefetchTarget| target.scheme == Scheme::Https;
    for (at, list) in plan.prefetch.iter().enumerate() {
        if plan.trusted_proxies.is_empty() && !plan.serves_https() && list.targets.iter().any(https)
        {
            found.push(Lint {
                path: format!("prefetch[{at}]"),
                route: String::new(),
                level: LintLevel::Warning,
                rule: "prefetch-scheme",
                message: "https URLs are fetched, and no visitor can request them: no listener has TLS, and no proxy is trusted to report it".to_owned(),
                remedy: "write scheme=\"http\", or name the proxy in trusted_proxies",
            });
        }
    }
    found
}

/// The methods of RFC 9110 §9.3, RFC 5789, RFC 4918 and QUERY; others are possible.
const METHODS: [&str; 16] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "QUERY",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
];

/// Patterns and switches whose effect differs from their look.
pub(super) fn misread(advice: &mut Advice<'_>) {
    let route = advice.route;
    let written = route.path.to_string();
    if written.contains("**") {
        advice.warn(
            "double-star",
            format!("{written} has **, which is the same as *: any text, slashes included"),
            "write *",
        );
    }
    if let Some((_, query)) = written.split_once('?')
        && query.contains('=')
    {
        advice.warn(
            "query-in-pattern",
            format!(
                "in {written} the ? stands for one character: the query is not a part of patterns"
            ),
            "test it by when=When(query=\"NAME\", equals=\"VALUE\")",
        );
    }
    for method in &route.methods {
        let method = method.as_str();
        if let Some(near) = nearest(method, &METHODS).filter(|near| *near != method) {
            advice.warn(
                "method",
                format!("{method} is not a method that clients send, and {near} is"),
                "correct it in methods, unless it is a method of your own",
            );
        }
    }
    for host in &route.hosts {
        let name = host.to_string();
        if !name.contains(['.', '*', ':']) && name != "localhost" && name != "[" {
            advice.warn(
                "path-as-host",
                format!("{name} is taken for a host, as in example.com/path"),
                "begin the pattern with / if it is a path",
            );
        }
    }
    if route.compress && !route.cache.enabled && matches!(route.target, Target::Group(_)) {
        advice.warn(
            "compress",
            "responses that no cache may have are compressed: the length of a personal page with text that a visitor chose betrays its secrets (BREACH)",
            "remove compress=True unless these responses hold no secrets such as tokens of forms",
        );
    }
}

/// A redirect to a path that only its own route answers.
pub(super) fn leads_to_itself(plan: &Plan, advice: &mut Advice<'_>) {
    let route = advice.route;
    let Target::Redirect(to) = &route.target else {
        return;
    };
    let end = to.location.find(['?', '#']).unwrap_or(to.location.len());
    let path = to.location.get(..end).unwrap_or_default();
    let here = path.starts_with('/') && !path.starts_with("//") && !path.contains('{');
    let answers = |other: &Route| other.path.matches(path);
    // Hosts, methods and conditions of others decide which of them it is.
    let mut others = plan.routes.iter().filter(|other| other.id != route.id);
    if here && route.when.is_empty() && answers(route) && !others.any(answers) {
        advice.warn(
            "redirect-loop",
            format!("{path} leads to this redirect again: browsers give up after some twenty"),
            "redirect to a path that another route answers",
        );
    }
}

/// Changes of the path for the origin that no path of the route can have, unless a hook sets another one first.
pub(super) fn unchanged(advice: &mut Advice<'_>) {
    let route = advice.route;
    if !route.hooks.viewer_request.is_empty() {
        return;
    }
    let (pattern, first) = (&route.path, route.path.literal_prefix());
    let what = if let Some(strip) = &route.strip_prefix {
        let begins = match first.strip_prefix(strip.as_bytes()) {
            Some(rest) => matches!(rest.first(), None | Some(b'/')),
            None => !pattern.is_exact() && strip.as_bytes().starts_with(first),
        };
        (!begins).then(|| {
            format!("strip_prefix={strip:?} has no effect: no path of this route begins with it")
        })
    } else if let Some(rewrite) = &route.rewrite {
        let (from, other) = (&rewrite.pattern, rewrite.pattern.literal_prefix());
        let inside = first.starts_with(other) && !from.is_exact() || first == other;
        let around = other.starts_with(first) && !pattern.is_exact();
        (!inside && !around).then(|| {
            format!(
                "rewrite of {} has no effect: no path of this route matches it",
                from.as_str()
            )
        })
    } else if let Some(index) = &route.index {
        let folder = first.ends_with(b"/") || !pattern.is_exact();
        (!folder).then(|| format!("index={index:?} has no effect: the path does not end in /"))
    } else {
        None
    };
    if let Some(what) = what {
        advice.warn("no-effect", what, "correct it or the pattern, or remove it");
    }
}

/// Error pages for a failed origin that would be fetched from that very origin.
pub(super) fn page_of_group(plan: &Plan, group: GroupId, advice: &mut Advice<'_>) {
    let elsewhere = |page: &str| {
        let path = page.split_once('?').map_or(page, |(path, _)| path);
        let mut others = plan.routes.iter().filter(|other| other.path.matches(path));
        others.any(|other| !matches!(other.target, Target::Group(of) if of == group))
    };
    for (status, page) in &advice.route.errors {
        // These two are the edge's own responses when no origin answers.
        if matches!(status.as_u16(), 502 | 504)
            && let Some(page) = page.path()
            && !elsewhere(page)
        {
            let message = format!(
                "the page for {}, {page}, comes from the origin that is down then: it is shown only while the cache has it",
                status.as_u16()
            );
            advice.warn(
                "error-page",
                message,
                "give a page of another origin, or ErrorPage(file=\"...\") or ErrorPage(body=\"...\")",
            );
        }
    }
}

pub(super) fn redirect(advice: &mut Advice<'_>) {
    if let Target::Redirect(redirect) = &advice.route.target
        && free_host(&redirect.location)
    {
        advice.warn(
            "open-redirect",
            format!("the request chooses the host of {}", redirect.location),
            "write the host out, and use parameters after it",
        );
    }
}

/// True if parameters choose the host of a location. They may choose a name below a domain that is written out.
pub(super) fn free_host(location: &str) -> bool {
    let Some(at) = location.find("//") else {
        return false;
    };
    let (scheme, rest) = location.split_at(at + 2);
    if !matches!(scheme, "//" | "http://" | "https://") {
        return false;
    }
    let mut last = None;
    for piece in Template(rest).pieces() {
        match piece {
            TemplatePart::Text(text) => {
                let host = text.split(['/', '?', '#']).next().unwrap_or(text);
                if last.is_some() {
                    last = Some(host);
                }
                if host.len() < text.len() {
                    break;
                }
            }
            TemplatePart::Parameter(_) => last = Some(""),
        }
    }
    last.is_some_and(|after| !after.starts_with('.') || after.len() < 2)
}
