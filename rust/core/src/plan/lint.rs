//! Lints: settings of a plan that are valid and probably a mistake.
//!
//! Nothing here refuses a plan. Each rule reports an unusual setting, its danger and the remedy. `docs/cli.md` lists
//! the rules.

use http::Method;
use serde::Serialize;

use crate::forward;

use super::{
    GroupId, OriginId, PathPattern, Plan, PrefetchTarget, Preflight, Route, Scheme, Select,
    SetCookiePolicy, Target, TlsPolicy, ViewerPolicy,
    compile::{Template, TemplatePart},
    table,
};

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LintLevel {
    /// Probably a mistake, or a risk to correctness or privacy.
    Warning,
    /// Possible, and perhaps intended.
    Info,
}

/// A piece of advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// The route's place in the declaration, as in `routes[2]`.
    pub path: String,
    /// The route's label.
    pub route: String,
    /// How much the advice matters.
    pub level: LintLevel,
    /// A word for the rule, to search for.
    pub rule: &'static str,
    /// The observation and its consequence, for a person.
    pub message: String,
    /// The change that makes the advice go away.
    pub remedy: &'static str,
}

/// All advice about a plan, in declaration order of its routes.
pub fn lint(plan: &Plan) -> Vec<Lint> {
    let unreachable = plan.router.unreachable(&plan.routes);
    let mut found = Vec::new();
    for route in &plan.routes {
        let mut advice = Advice {
            route,
            found: &mut found,
        };
        if let Some((_, by)) = unreachable.iter().find(|(id, _)| *id == route.id)
            && let Some(by) = plan.route(*by)
        {
            advice.warn(
                "unreachable",
                format!("can never match: {} matches all its requests", by.label),
                "remove it, or give it a higher priority",
            );
        }
        if route.stores() {
            unkeyed(&mut advice);
            cookies(&mut advice);
            deception(&mut advice);
            shared_identity(&mut advice);
        }
        if let Target::Group(group) = route.target {
            let members = plan.group(group).map(|group| group.members.as_slice());
            unverified(plan, members.unwrap_or_default(), &mut advice);
            page_of_group(plan, group, &mut advice);
        }
        redirect(&mut advice);
        leads_to_itself(plan, &mut advice);
        https(plan, &mut advice);
        secret(&mut advice);
        preflight(&mut advice);
        misread(&mut advice);
        uncompressed(&mut advice);
    }
    found.extend(idle(plan));
    found.extend(beside_certificates(plan));
    found
}

/// Listeners in plain text beside those that demand certificates of clients.
fn beside_certificates(plan: &Plan) -> Option<Lint> {
    let demands = |policy: &TlsPolicy| policy.client.as_ref().is_some_and(|client| client.required);
    let mut policies = plan.listeners.iter().flat_map(|listener| &listener.tls);
    let plain = plan
        .listeners
        .iter()
        .position(|listener| listener.tls.is_empty())?;
    let mut routes = plan.routes.iter();
    let route = routes.find(|route| route.viewer == ViewerPolicy::AllowAll)?;
    policies.any(demands).then(|| Lint {
        path: format!("listeners[{plain}]"),
        route: route.label.to_string(),
        level: LintLevel::Warning,
        rule: "client-certificates",
        message: "requests in plain text reach this route without the certificate of a client that another listener demands".to_owned(),
        remedy: "set viewer=\"https-only\" or \"redirect-to-https\" on the routes, or remove the listener",
    })
}

/// Declarations that never take effect.
fn idle(plan: &Plan) -> Vec<Lint> {
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

/// Patterns and switches whose effect differs from their look.
fn misread(advice: &mut Advice<'_>) {
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

/// A cache policy that compresses, on a route that does not.
fn uncompressed(advice: &mut Advice<'_>) {
    if let Some(of) = advice.route.uncompressed {
        advice.note(
            "uncompressed",
            format!(
                "the cache policy compresses and this route does not: the length of responses {of} would betray their secrets (BREACH)"
            ),
            "say compress=False on the route if that is meant",
        );
    }
}

/// A redirect to a path that only its own route answers.
fn leads_to_itself(plan: &Plan, advice: &mut Advice<'_>) {
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

/// Collects the advice about one route.
struct Advice<'a> {
    route: &'a Route,
    found: &'a mut Vec<Lint>,
}

impl Advice<'_> {
    fn warn(&mut self, rule: &'static str, message: impl Into<String>, remedy: &'static str) {
        self.say(LintLevel::Warning, rule, message.into(), remedy);
    }

    fn note(&mut self, rule: &'static str, message: impl Into<String>, remedy: &'static str) {
        self.say(LintLevel::Info, rule, message.into(), remedy);
    }

    fn say(&mut self, level: LintLevel, rule: &'static str, message: String, remedy: &'static str) {
        self.found.push(Lint {
            path: format!("routes[{}]", self.route.id.0),
            route: self.route.label.to_string(),
            level,
            rule,
            message,
            remedy,
        });
    }
}

/// Request parts that the origin may depend on and the key does not contain: requests that carry them pass the cache.
fn unkeyed(advice: &mut Advice<'_>) {
    const RULE: &str = "cache-poisoning";
    let (cache, sent) = (&advice.route.cache, &advice.route.forward);
    if !cache
        .key_query
        .with(&sent.unkeyed.query)
        .covers(&sent.query)
    {
        let message = format!(
            "query parameters go to the origin ({}) that are not in the key ({}): requests that carry them pass the cache",
            table::select(&sent.query),
            table::select(&cache.key_query)
        );
        advice.warn(RULE, message, "forward no more than cache.query, or declare in forward.unkeyed those that responses do not depend on");
    }
    // Without a choice of cookies the origin's own Vary: Cookie selects responses.
    if let Some(key) = &cache.key_cookies
        && !key.with(&sent.unkeyed.cookies).covers(&sent.cookies)
    {
        let message = format!(
            "cookies go to the origin ({}) that are not in the key ({}): requests that carry them pass the cache",
            table::select(&sent.cookies),
            table::select(key)
        );
        advice.warn(RULE, message, "forward no more than cache.cookies, or declare in forward.unkeyed those that responses do not depend on");
    }
    if let Select::Only(names) = &sent.headers {
        let unkeyed: Vec<&str> = names
            .iter()
            .map(|name| &**name)
            .filter(|name| {
                let is = |other: &crate::http::FieldName| other.as_str() == *name;
                forward::REWRITING.iter().any(is)
                    && !cache.key_headers.iter().any(is)
                    && !sent.unkeyed.fields.iter().any(is)
            })
            .collect();
        if !unkeyed.is_empty() {
            let message = format!(
                "{} go to the origin, origins answer by them, and they are not in the key: requests that carry them pass the cache",
                unkeyed.join(", ")
            );
            advice.warn(
                RULE,
                message,
                "add them to cache.headers, or don't forward them",
            );
        }
    }
}

/// Responses that were made with a visitor's cookies and are stored for everybody.
fn cookies(advice: &mut Advice<'_>) {
    const RULE: &str = "set-cookie";
    let cache = &advice.route.cache;
    if cache.set_cookie == SetCookiePolicy::Store {
        advice.warn(
            RULE,
            "responses are stored with their cookies: everybody gets the cookie of the visitor whose request brought them",
            "use set_cookie=\"strip\" or \"refuse\", unless these cookies are the same for everybody",
        );
    }
    if advice.route.forward.cookies == Select::None || cache.key_cookies.is_some() {
        return;
    }
    if cache.set_cookie == SetCookiePolicy::Strip {
        advice.warn(
            RULE,
            "responses that set cookies are stored, though they were made with a visitor's own cookies",
            "send no cookies (cookies=\"none\"), or refuse such responses",
        );
    }
    if cache.ttl.is_some() || cache.min_ttl > 60 {
        advice.warn(
            RULE,
            "a lifetime is forced on responses although all cookies go to the origin, and they are in the key only where it says Vary: Cookie",
            "set cache.cookies to \"none\" or to a list",
        );
    }
}

/// A page under the name of a static file, stored because the policy gives it a lifetime.
fn deception(advice: &mut Advice<'_>) {
    let cache = &advice.route.cache;
    let gives = cache.ttl.is_some() || cache.default_ttl.is_some() || cache.min_ttl > 0;
    // Without cookies the origin does not know the visitor.
    let personal = cache.key_cookies != Some(Select::None);
    let named =
        PathPattern::parse("/*.css").is_ok_and(|named| named.intersects(&advice.route.path));
    if gives && personal && named && !cache.extension_guard {
        advice.note(
            "cache-deception",
            "the policy gives lifetimes, and a page that the origin sends for a name such as /account/x.css would be stored for everybody",
            "set extension_guard=True, or have the origin send Cache-Control: private",
        );
    }
}

fn shared_identity(advice: &mut Advice<'_>) {
    let Some(policy) = &advice.route.auth else {
        return;
    };
    if !advice.route.cache.key_claims.is_empty() {
        return;
    }
    if policy.shared && !policy.forward.is_empty() {
        advice.warn(
            "shared-identity",
            "all visitors share responses, and the origin receives the user's identity",
            "forward no claims (forward={}), or put them in the key (cache.claims)",
        );
    } else if !policy.shared {
        advice.note(
            "auth-not-shared",
            "the cache is on, but responses behind a token are not stored unless the origin allows it (RFC 9111 §3.5)",
            "say cache.DISABLED if that is meant, shared=True if responses depend on nobody, or choose cache.claims",
        );
    }
}

fn unverified(plan: &Plan, members: &[OriginId], advice: &mut Advice<'_>) {
    for origin in members.iter().filter_map(|id| plan.origin(*id)) {
        if !origin.tls.verify && origin.tls.pins.is_empty() {
            let message = format!(
                "the certificate of origin {} is not verified (tls_verify=False): anyone on the network path can read and change everything",
                origin.name
            );
            advice.warn(
                "tls",
                message,
                "give the origin's CA as tls_ca instead, or its public key as tls_pins",
            );
        }
    }
}

/// Error pages for a failed origin that would be fetched from that very origin.
fn page_of_group(plan: &Plan, group: GroupId, advice: &mut Advice<'_>) {
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

fn redirect(advice: &mut Advice<'_>) {
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

fn https(plan: &Plan, advice: &mut Advice<'_>) {
    if advice.route.viewer != ViewerPolicy::AllowAll {
        if plan.trusted_proxies.is_empty() && !plan.serves_https() {
            let message = format!(
                "viewer={:?} can only be met by TLS: no listener of the edge has it, and no proxy is trusted to report it, so no request gets through",
                table::viewer(advice.route.viewer)
            );
            advice.warn(
                "https",
                message,
                "give the edge a listener with tls=Tls(...), or name the proxy in trusted_proxies",
            );
        }
    } else if advice.route.auth.is_some()
        || advice
            .route
            .guard
            .as_ref()
            .is_some_and(|guard| guard.basic.is_some())
    {
        advice.note(
            "auth-without-https",
            "tokens or passwords may travel over plain http",
            "set viewer=\"https-only\"",
        );
    }
}

fn secret(advice: &mut Advice<'_>) {
    if let Some((got, want)) = advice
        .route
        .auth
        .as_ref()
        .and_then(|policy| policy.weak_secret())
    {
        advice.warn(
            "weak-secret",
            format!(
                "the token's secret has {got} bytes, but its algorithm needs {want} (RFC 7518 §3.2)"
            ),
            "use a longer random secret: a short one can be guessed from one token",
        );
    }
}

/// Pages of other origins send a preflight, without a token, before they send one (Fetch §4.8).
fn preflight(advice: &mut Advice<'_>) {
    let route = advice.route;
    let demands = route.auth.as_ref().is_some_and(|policy| !policy.optional);
    let takes_options = route.methods.is_empty() || route.methods.contains(&Method::OPTIONS);
    if demands
        && takes_options
        && route.preflight == Preflight::Token
        && !route.answers_preflights()
        && matches!(route.target, Target::Group(_))
    {
        advice.note(
            "preflight",
            "CORS preflights have no token and are refused: pages of other origins cannot call it",
            "cors=Cors(...) answers them, preflight=\"origin\" lets the origin do so; leave it if only pages of this site call it",
        );
    }
}

/// True if parameters choose the host of a location. They may choose a name below a domain that is written out.
fn free_host(location: &str) -> bool {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;
    use crate::plan::compile;

    fn rules(routes: &Value) -> Vec<&'static str> {
        let plan = json!({
            "name": "t",
            "trusted_proxies": ["10.0.0.0/8"],
            "origins": [{"name": "o", "url": "http://x"}, {"name": "u", "url": "https://x", "tls_verify": false}],
            "routes": routes,
        });
        let plan = compile(&serde_json::to_vec(&plan).unwrap())
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        lint(&plan).iter().map(|lint| lint.rule).collect()
    }

    #[test]
    fn a_plain_site_gets_no_advice() {
        assert!(
            rules(&json!([
                {"pattern": "/static/*", "to": "o", "cache": {"query": "none", "cookies": "none"}},
                {"pattern": "/*", "to": "o", "index": "index.html"},
            ]))
            .is_empty()
        );
    }

    #[test]
    fn dangers_are_named() {
        let auth = |extra: Value| {
            let mut auth = json!({"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}});
            for (key, value) in extra.as_object().unwrap() {
                auth[key] = value.clone();
            }
            auth
        };
        for (route, want) in [
            (
                json!({"to": "o", "cache": {"query": "none"}, "forward": {"query": "all"}}),
                vec!["cache-poisoning"],
            ),
            (
                json!({"to": "o", "cache": {"query": {"only": ["a", "b"]}}, "forward": {"query": {"only": ["a"]}}}),
                vec![],
            ),
            (
                json!({"to": "o", "cache": {"query": {"except": ["utm"]}}, "forward": {"query": "all"}}),
                vec!["cache-poisoning"],
            ),
            (
                json!({"to": "o", "cache": {"cookies": "none"}, "forward": {"cookies": "all"}}),
                vec!["cache-poisoning"],
            ),
            (
                json!({"to": "o", "forward": {"headers": {"only": ["X-Original-URL"]}}}),
                vec!["cache-poisoning"],
            ),
            (
                json!({"to": "o", "cache": {"set_cookie": "strip"}}),
                vec!["set-cookie"],
            ),
            (
                json!({"to": "o", "cache": {"set_cookie": "strip", "cookies": "none"}}),
                vec![],
            ),
            (
                json!({"redirect": {"location": "https://{host}/"}, "pattern": "/{host}"}),
                vec!["open-redirect"],
            ),
            (
                json!({"redirect": {"location": "https://x/{host}"}, "pattern": "/{host}"}),
                vec![],
            ),
            (
                json!({"redirect": {"location": "/new/?a=1"}, "pattern": "/new/*"}),
                vec!["redirect-loop"],
            ),
            (
                json!({"redirect": {"location": "/new/"}, "pattern": "/old/*"}),
                vec![],
            ),
            (
                json!({"redirect": {"location": "/a"}, "pattern": "/a", "when": [{"cookie": "x"}]}),
                vec![],
            ),
            (
                json!({"to": "o", "pattern": "/search?q=*"}),
                vec!["query-in-pattern"],
            ),
            (json!({"to": "o", "pattern": "/img/?.png"}), vec![]),
            (
                json!({"to": "o", "cache": {"set_cookie": "strip", "cookies": {"only": ["a"]}}}),
                vec![],
            ),
            (
                json!({"to": "o", "cache": {"ttl": 60}}),
                vec!["set-cookie", "cache-deception"],
            ),
            (
                json!({"to": "o", "cache": {"default_ttl": 60, "extension_guard": true}}),
                vec![],
            ),
            (
                json!({"to": "o", "cache": {"set_cookie": "store", "cookies": "none"}}),
                vec!["set-cookie"],
            ),
            (
                json!({"to": "o", "errors": {"502": "/502.html"}}),
                vec!["error-page"],
            ),
            (json!({"to": "o", "errors": {"404": "/404.html"}}), vec![]),
            (json!({"to": "o", "errors": {"502": {"body": "x"}}}), vec![]),
            (
                json!({"to": "o", "cache": {"min_ttl": 3600}}),
                vec!["set-cookie", "cache-deception"],
            ),
            (
                json!({"to": "o", "cache": {"ttl": 60, "cookies": "none"}}),
                vec![],
            ),
            (json!({"to": "u"}), vec!["tls"]),
            (
                json!({"to": "o", "auth": auth(json!({}))}),
                vec!["auth-not-shared", "auth-without-https", "preflight"],
            ),
            (
                json!({"to": "o", "viewer": "https-only", "auth": auth(json!({"shared": true}))}),
                vec!["shared-identity", "preflight"],
            ),
            (
                json!({"to": "o", "viewer": "https-only", "auth": auth(json!({})), "cache": {"claims": ["userId"]}}),
                vec!["preflight"],
            ),
            (
                json!({"to": "o", "viewer": "https-only", "auth": auth(json!({})), "cache": {"enabled": false}}),
                vec!["preflight"],
            ),
            (
                json!({"to": "o", "viewer": "https-only", "preflight": "origin", "auth": auth(json!({})), "cache": {"enabled": false}}),
                vec![],
            ),
        ] {
            let mut whole = json!({"pattern": "/*"});
            for (key, value) in route.as_object().unwrap() {
                whole[key] = value.clone();
            }
            assert_eq!(rules(&json!([whole])), want, "{route}");
        }
        assert_eq!(
            rules(&json!([{"pattern": "/*", "to": "o"}, {"pattern": "/*", "to": "o"}])),
            ["unreachable"]
        );
    }

    #[test]
    fn https_needs_somebody_who_speaks_it() {
        let plan = json!({
            "name": "t",
            "origins": [{"name": "o", "url": "http://x"}],
            "routes": [{"pattern": "/*", "to": "o", "viewer": "https-only"}],
        });
        let plan = compile(&serde_json::to_vec(&plan).unwrap()).unwrap();
        let found = lint(&plan);
        let [only] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(
            (only.path.as_str(), only.rule, only.level),
            ("routes[0]", "https", LintLevel::Warning)
        );
    }

    #[test]
    fn a_request_may_choose_a_page_or_a_name_below_a_domain_but_no_domain() {
        for (location, free) in [
            ("/{a}", false),
            ("/there?next=https://{a}/", false),
            ("https://x.example/{a}", false),
            ("https://{a}.example.com/", false),
            ("https://x.example", false),
            ("https://{a}/", true),
            ("//{a}", true),
            ("https://{a}example.com/", true),
            ("https://x.{a}/", true),
            ("https://x.{a}", true),
            ("https://{a}.", true),
        ] {
            assert_eq!(free_host(location), free, "{location}");
        }
    }
}
