#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use http::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::geo::{Country, Place};
use crate::images::ImageFormat;
use crate::plan::database_server::ServerPlace;
use crate::plan::{
    CachePolicy, ClientFact, ForwardPolicy, HttpProtocol, ProxyRule, Scheme, SecurityPolicy,
    Select, Target, UpstreamHost,
};
use crate::trace::{Believed, ShownTo};

fn compiled(plan: &Value) -> Plan {
    compile(&serde_json::to_vec(plan).unwrap()).unwrap_or_else(|problems| {
        panic!(
            "{}",
            problems
                .iter()
                .map(|problem| format!("{problem}\n"))
                .collect::<String>()
        )
    })
}

fn problems(plan: &Value) -> Vec<String> {
    compile(&serde_json::to_vec(plan).unwrap())
        .err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// A plan with one origin, and this route to it unless the route names another target.
fn with_route(route: &Value) -> Value {
    let mut route = route.clone();
    let has_target = [
        "to",
        "function",
        "redirect",
        "respond",
        "files",
        "image_sources",
    ]
    .iter()
    .any(|target| route.get(target).is_some());
    if !has_target {
        route["to"] = json!("o");
    }
    if route.get("pattern").is_none() {
        route["pattern"] = json!("/*");
    }
    json!({
        "name": "t",
        "origins": [{"name": "o", "url": "http://127.0.0.1:9001"}, {"name": "backup", "url": "http://127.0.0.1:9002"}],
        "callables": [{"name": "app.f"}],
        "routes": [route],
    })
}

fn full() -> Value {
    serde_json::from_str(include_str!("every_field.json")).unwrap()
}

#[test]
fn a_plan_with_every_field_compiles_to_what_it_says() {
    let plan = compiled(&full());
    assert_eq!((&*plan.name, plan.trusted_proxies.len()), ("storefront", 2));
    assert!(plan.fetch.allows(Scheme::Https, "api.example.com", 443));
    assert!(plan.fetch.allows(Scheme::Http, "a.internal.example", 8080));
    assert!(!plan.fetch.allows(Scheme::Http, "api.example.com", 443));
    let network = "10.1.2.3".parse().unwrap();
    assert!(plan.fetch.networks.contains(network));
    let tracing = plan.tracing.as_ref().unwrap();
    assert_eq!(
        (tracing.endpoint.as_deref(), tracing.errors, tracing.slow),
        (
            Some("https://collector.example.com/v1/traces"),
            false,
            Some(std::time::Duration::from_millis(250))
        )
    );
    assert_eq!(
        (tracing.believe, tracing.server_timing, tracing.queue_spans),
        (Believed::Everybody, ShownTo::Debug, 1024)
    );
    assert!(tracing.admits(b"open") && tracing.threshold == 1 << 55);
    assert_eq!(tracing.headers.len(), 1);
    assert!(!format!("{tracing:?}").contains("Bearer"));
    let last = tracing.resource.last().unwrap();
    assert_eq!(
        (&*last.0, &*last.1),
        ("deployment.environment.name", "production")
    );
    assert!(plan.callables[0].serial && !plan.callables[1].serial);
    let [listener] = plan.listeners.as_slice() else {
        panic!()
    };
    assert_eq!(listener.address.to_string(), "0.0.0.0:443");
    assert_eq!(
        listener.protocols,
        [HttpProtocol::Http2, HttpProtocol::Http1]
    );
    assert_eq!(
        listener.proxy_rule("::ffff:10.1.2.3".parse().unwrap()),
        ProxyRule::Header
    );
    assert_eq!(
        listener.proxy_rule("192.0.2.1".parse().unwrap()),
        ProxyRule::Untrusted
    );
    let [tls] = listener.tls.as_slice() else {
        panic!()
    };
    assert_eq!(tls.security, SecurityPolicy::Tls13From2025);
    let acme = tls.acme.as_ref().unwrap();
    assert_eq!(*acme.names, ["www.example.com".into()]);
    assert_eq!(acme.storage.to_str(), Some("/var/lib/edgerouter/acme"));
    assert_eq!(acme.email.as_deref(), Some("ops@example.com"));
    assert_eq!(
        *acme.challenges,
        [
            crate::plan::ChallengeKind::TlsAlpn01,
            crate::plan::ChallengeKind::Dns01
        ]
    );
    let [issuer] = acme.issuers.as_slice() else {
        panic!()
    };
    assert_eq!(acme.on_demand.callable(), Some("app.is_ours"));
    assert_eq!(issuer.host(), "acme.example.net");
    assert_eq!(issuer.profile.as_deref(), Some("shortlived"));
    let ca = issuer.ca.as_ref().unwrap();
    assert_eq!(ca.as_bytes(), b"-----BEGIN CERTIFICATE-----");
    let account = issuer.external_account.as_ref().unwrap();
    assert_eq!(
        (&*account.key_id, account.hmac_key.as_bytes()),
        ("kid-1", &b"secret-key"[..])
    );
    assert!(plan.answers_challenges);
    let origin = plan
        .origins
        .iter()
        .find(|origin| origin.tls.client.is_some());
    let terms = &origin.unwrap().tls;
    let shown = terms.client.as_ref().unwrap();
    assert_eq!(shown.key.as_bytes(), b"-----BEGIN PRIVATE KEY-----");
    assert_eq!(terms.versions, [crate::plan::TlsVersion::Tls13]);
    assert_eq!(terms.pins, [[0; 32]]);
    let client = tls.client.as_ref().unwrap();
    assert!(!client.required);
    let field = |name: &'static str| FieldName::from_static(name);
    assert_eq!(
        client.fields,
        [
            (ClientFact::Certificate, field("client-cert")),
            (ClientFact::Subject, field("x-client-subject"))
        ]
    );
    assert!(plan.edge_fields.contains(&field("x-client-subject")));
    assert_eq!(
        tls.certificates[0].key.as_bytes(),
        b"-----BEGIN PRIVATE KEY-----"
    );
    let [binding, database, libsql] = plan.bindings.as_slice() else {
        panic!()
    };
    assert_eq!(
        (&*binding.name, binding.kind.as_str()),
        ("EXPERIMENTS", "kv")
    );
    assert_eq!(binding.staleness.as_millis(), 2_500);
    assert_eq!(
        database.replicas[0].place,
        ServerPlace::Host("db-near.example.com".into(), 5432)
    );
    let key = database.bookmark_key.as_ref().unwrap();
    assert_eq!(
        (database.staleness.as_secs(), key.as_bytes().len()),
        (20, 32)
    );
    let token = libsql.auth_token.as_ref().unwrap();
    assert_eq!(token.as_bytes(), b"eyJhbGciOi");
    assert!(!format!("{plan:?}").contains("password@"));
    let disk = plan.disk_cache.as_ref().unwrap();
    assert_eq!(disk.path.to_str(), Some("/var/cache/edgerouter"));
    assert_eq!(
        (disk.size, disk.segment_bytes, disk.queue_bytes),
        (20 << 30, Some(64 << 20), 16 << 20)
    );
    let [primary, backup] = plan.origins.as_slice() else {
        panic!()
    };
    assert_eq!(
        (primary.scheme, &*primary.host, primary.port),
        (Scheme::Https, "primary.example.com", 443)
    );
    assert_eq!(
        (primary.authority.to_str().unwrap(), &*primary.path_prefix),
        ("primary.example.com", "/base")
    );
    assert_eq!(primary.upstream_host, UpstreamHost::Viewer);
    assert_eq!(
        (
            &*backup.host,
            backup.port,
            backup.authority.to_str().unwrap(),
            &*backup.path_prefix
        ),
        ("::1", 9001, "[::1]:9001", "")
    );
    // Each origin has a group of its own, after the declared ones: functions may name it, too.
    let groups: Vec<(&str, usize)> = plan
        .groups
        .iter()
        .map(|group| (&*group.name, group.members.len()))
        .collect();
    assert_eq!(groups, [("site", 2), ("backup", 1), ("primary", 1)]);
    assert!(plan.groups[1].failover_on.is_empty());
    let deadlines =
        [&plan.groups[0], &plan.groups[1]].map(|group| plan.deadline(group).as_millis());
    assert_eq!(deadlines, [12_500, 37_000], "said, and worked out");
    let shop = &plan.routes[0];
    assert_eq!(
        &*shop.label,
        "www.example.com|*.shop.example.com/shop/{rest:path}"
    );
    assert_eq!(
        (shop.strip_prefix.as_deref(), shop.priority),
        (Some("/shop"), 5)
    );
    assert!(shop.cache.compress && !shop.compress && plan.routes[6].compress);
    assert_eq!(shop.when.len(), 4);
    assert_eq!(shop.request_headers.add.len(), 2);
    assert_eq!(
        shop.cache.key_headers,
        [
            "accept",
            "cloudfront-viewer-country",
            "cloudfront-viewer-city",
            "x-geo-eu"
        ],
        "facts in the key, and facts that go to the origin"
    );
    let geo = shop.guard.as_ref().unwrap().geo.as_ref().unwrap();
    assert_eq!(geo.fields.len(), 3);
    assert_eq!(shop.request_headers.remove.last().unwrap(), "x-geo-eu");
    assert!(plan.guard.routes_by_country);
    let policy = plan.geo.as_ref().unwrap();
    assert_eq!(policy.country_fields, ["cf-ipcountry"]);
    assert_eq!(
        (policy.interval.as_secs(), policy.regions[0].longitude),
        (6, 8.5)
    );
    assert!(policy.count_countries);
    assert_eq!(shop.cache.targets, ["my-cdn-cache-control"]);
    assert_eq!(shop.cache.tags, ["x-tags"]);
    assert!(shop.cache.send_tags);
    assert_eq!(
        (shop.cache.grace, shop.cache.sick_grace),
        (Some(10), Some(86_400))
    );
    assert_eq!(shop.cache.stale_when_disconnected, 0);
    assert_eq!(shop.cache.refresh_ahead, Some(1.5));
    assert!(shop.cache.status_key && shop.cache.extension_guard);
    let sent = [
        "accept",
        "cloudfront-viewer-country",
        "cloudfront-viewer-city",
    ];
    assert_eq!(
        shop.forward.headers,
        Select::Only(sent.map(Into::into).into())
    );
    assert!(
        shop.auth
            .as_ref()
            .is_some_and(|auth| auth.shared && auth.optional)
    );
    assert_eq!(
        shop.auth.as_ref().map(|auth| auth.token_bytes),
        Some(4_096),
        "the plan's limit reaches the policy"
    );
    assert_eq!((plan.guard.hosts.len(), plan.guard.has_cors), (1, true));
    let judged = ["", "DE", "FR"].map(|code| {
        let policy = plan.guard.addresses.as_ref().unwrap();
        let country = Country::parse(code.as_bytes());
        let asn = Some(64_500);
        let place = Place {
            country,
            asn,
            ..Place::default()
        };
        let judge = |address: [u8; 4]| policy.judge(address.into(), || Arc::new(place.clone()));
        [
            judge([203, 0, 113, 9]).is_ok(),
            judge([192, 0, 2, 1]).is_ok(),
        ]
    });
    assert_eq!(judged, [[false, true], [false, true], [false, false]]);
    let fields = |security: &crate::guard::security::SecurityFields| {
        let hsts = security
            .hsts
            .as_ref()
            .map(|value| value.to_str().unwrap().to_owned());
        (security.fields.len(), hsts, security.replaces)
    };
    let preloaded = "max-age=31536000; includeSubDomains; preload".to_owned();
    let of_site = plan.guard.security.as_deref().unwrap();
    assert_eq!(fields(of_site), (7, Some(preloaded), false));
    assert!(of_site.nonced.len() == 1 && of_site.placeholder.is_some());
    assert!(plan.routes[6].nonce.is_some() && shop.nonce.is_none());
    let guard = shop.guard.as_ref().unwrap();
    assert_eq!(fields(guard.security.as_deref().unwrap()), (2, None, true));
    let cors = guard.cors.as_ref().unwrap();
    assert_eq!(
        (cors.origins.as_ref().map(|all| all.len()), cors.credentials),
        (Some(2), true)
    );
    assert!(guard.addresses.is_some());
    let [limit] = guard.claim_limits.as_slice() else {
        panic!()
    };
    assert_eq!(
        (&*limit.name, limit.quota, limit.window, limit.burst),
        ("api", 100, 10, 20)
    );
    assert_eq!(
        (limit.delay.as_millis(), limit.by.to_string()),
        (1_500, "claim:userId".to_owned())
    );
    let [of_site] = guard.limits.as_slice() else {
        panic!()
    };
    assert_eq!((&*of_site.name, of_site.quota), ("site", 1_000));
    for known in [of_site, limit] {
        assert!(plan.guard.limits.iter().any(|one| Arc::ptr_eq(one, known)));
    }
    assert_eq!(
        (
            plan.limits.http.rate_keys,
            plan.limits.http.delayed_requests
        ),
        (131_073, 1_001)
    );
    let staff = plan
        .routes
        .iter()
        .find(|route| &*route.label == "/staff/*")
        .unwrap();
    let basic = staff
        .guard
        .as_ref()
        .and_then(|guard| guard.basic.as_ref())
        .unwrap();
    assert_eq!(
        (basic.len(), &basic.challenge),
        (
            1,
            &http::HeaderValue::from_static("Basic realm=\"Staff\", charset=\"UTF-8\"")
        )
    );
    let signed = guard.signed.as_ref().unwrap();
    let keys: Vec<_> = signed
        .keys
        .iter()
        .map(|(name, key)| (&**name, key.is_secret()))
        .collect();
    assert_eq!(
        (keys, signed.sha1),
        (vec![("K2JCJMDEHXQW5F", false), ("own", true)], false)
    );
    let other = plan.routes[1].guard.as_ref().unwrap();
    assert!(Arc::ptr_eq(
        other.security.as_ref().unwrap(),
        plan.guard.security.as_ref().unwrap()
    ));
    assert_eq!(shop.errors[0].0, StatusCode::NOT_FOUND);
    let hooks = &shop.hooks;
    assert_eq!(
        (hooks.viewer_request.len(), hooks.origin_request.len()),
        (1, 0)
    );
    assert!(
        hooks.viewer_request[0].always && hooks.viewer_request[0].host.is_some(),
        "one of the route's hosts is another"
    );
    assert_eq!(hooks.viewer_response.len(), 1);
    let last = &plan.routes[4];
    assert_eq!(
        (
            last.hooks.origin_request.len(),
            last.hooks.origin_response.len()
        ),
        (1, 1)
    );
    assert!(!last.hooks.origin_request[0].always);
    let list = &plan.prefetch[0];
    let urls: Vec<(Scheme, &str, &str)> = list
        .targets
        .iter()
        .map(|target| {
            (
                target.scheme,
                target.authority.to_str().unwrap(),
                target.path_and_query.as_str(),
            )
        })
        .collect();
    assert_eq!(
        urls,
        [
            (Scheme::Https, "www.example.com", "/b/popular?page=1"),
            (Scheme::Http, "other.example.com:8080", "/b/config")
        ]
    );
    assert_eq!(
        (list.every.map(|every| every.as_secs()), list.on_start),
        (Some(60), false)
    );
    assert_eq!(list.headers.len(), 1);
    assert_eq!(
        plan.routes[6].predict,
        Some(crate::plan::Predict {
            confidence: 0.4,
            support: 5,
            pages: 3,
            requests_per_minute: 30,
            bytes_per_minute: 1 << 20,
            sample: 0.5,
        })
    );
    assert!(plan.predicts);
    let [experiment] = plan.experiments.as_slice() else {
        panic!("{} experiments", plan.experiments.len());
    };
    assert_eq!(&*experiment.id.name, "home");
    assert!(experiment.converts("POST", "/checkout/7", StatusCode::OK));
    assert!(!experiment.converts("GET", "/checkout/7", StatusCode::OK));
    let Target::Files(folder) = &plan.routes[7].target else {
        panic!()
    };
    assert_eq!(
        (folder.root.to_str(), &*folder.prefix),
        (Some("/srv/dist"), "/assets/")
    );
    assert_eq!(
        (folder.index.as_deref(), folder.fallback.as_deref()),
        (Some("home.html"), Some("app/index.html"))
    );
    assert!(folder.listing && !folder.precompressed);
    assert!((folder.immutable.as_ref()).is_some_and(|names| names.matches("a.12345678.js")));
    let Target::Images(sources) = &plan.routes[8].target else {
        panic!()
    };
    assert_eq!(sources.origins.len(), 1);
    let hosts: Vec<String> = sources
        .foreign
        .hosts
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(hosts, ["https://*.img.example", "http://10.1.2.3:8080"]);
    assert!(
        sources
            .foreign
            .networks
            .contains("10.1.2.9".parse().unwrap())
    );
    assert!(sources.foreign.allows(Scheme::Https, "a.img.example", 443));
    assert!(!sources.foreign.allows(Scheme::Http, "a.img.example", 80));
    assert_eq!(
        plan.routes[8].images.as_deref(),
        Some(&crate::plan::ImagePolicy {
            widths: Some([100, 200].into()),
            heights: Some([50].into()),
            qualities: Some([50, 80].into()),
            quality: 80,
            formats: [ImageFormat::Webp, ImageFormat::Jpeg].into(),
            svg: true,
            avif: false,
            hints: false,
        })
    );
    let worker = &plan.routes[9];
    assert_eq!(
        (&*worker.label, plan.marks_personal),
        ("www.example.com/sw.js", true)
    );
    assert!(matches!(&worker.target, Target::Respond(fixed) if fixed.headers.len() == 5));
    let fields: Vec<&str> = plan.edge_fields.iter().map(FieldName::as_str).collect();
    assert_eq!(
        fields,
        [
            "x-user-id",
            "x-user-role",
            "x-variant",
            "client-cert",
            "x-client-subject",
            "x-tier",
            "x-home-settings",
            "x-home",
            "cloudfront-viewer-country",
            "cloudfront-viewer-city",
            "x-geo-eu"
        ]
    );
    assert!(matches!(plan.routes[2].target, Target::Redirect(ref redirect) if !redirect.query));
    assert_eq!(plan.callables[0].timeout.as_secs(), 3);
    assert_eq!(plan.callables[1].timeout, plan.limits.functions.timeout);
}

#[test]
fn each_limit_of_a_plan_is_read_by_its_name() {
    let read = format!("{:?}", compiled(&full()).limits);
    for (group, fields) in full()["limits"].as_object().unwrap() {
        for (name, value) in fields.as_object().unwrap() {
            let optional = format!("{name}: Some({value})");
            let per_client = format!("{name}: PerClient {{ most: {value}, set: true }}");
            let is_read = [format!("{name}: {value}"), optional, per_client]
                .iter()
                .any(|text| read.contains(text));
            assert!(is_read, "limits.{group}.{name}: {value} in {read}");
        }
    }
}

#[test]
fn the_smallest_plan_has_the_documented_defaults() {
    let mut smallest = with_route(&json!({}));
    let plan = compiled(&smallest);
    let route = &plan.routes[0];
    smallest["limits"] = serde_json::from_str(include_str!("default_limits.json")).unwrap();
    assert_eq!(plan.limits, compiled(&smallest).limits);
    assert_eq!(route.cache, CachePolicy::default());
    assert_eq!(
        route.forward,
        ForwardPolicy {
            query: Select::All,
            headers: Select::All,
            cookies: Select::All,
            unkeyed: Default::default(),
            strays: false,
        }
    );
    assert!(route.key_tag.is_none() && route.hosts.is_empty() && route.methods.is_empty());
}

#[test]
fn forwarding_unsaid_follows_the_key() {
    for (cache, query, cookies) in [
        (json!({}), Select::All, Select::All),
        (
            json!({"query": "none", "cookies": "none"}),
            Select::None,
            Select::None,
        ),
        (
            json!({"query": {"only": ["a"]}, "cookies": {"only": ["b"]}}),
            Select::Only(vec!["a".into()]),
            Select::Only(vec!["b".into()]),
        ),
        (
            json!({"enabled": false, "query": "none"}),
            Select::All,
            Select::All,
        ),
    ] {
        let plan = compiled(&with_route(&json!({"cache": cache})));
        assert_eq!(
            plan.routes[0].forward,
            ForwardPolicy {
                query,
                headers: Select::All,
                cookies,
                unkeyed: Default::default(),
                strays: false,
            },
            "{cache}"
        );
    }
}

#[test]
fn each_mistake_is_told_at_its_place() {
    for (route, want) in [
        (
            json!({"cache": {"ttl": -5}}),
            "routes[0].cache.ttl: -5: must be ≥ 0 seconds",
        ),
        (
            json!({"cache": {"ttl": 1.5}}),
            "routes[0].cache.ttl: 1.5: must be a whole number of seconds",
        ),
        (
            json!({"cache": {"ttl": "60"}}),
            "routes[0].cache.ttl: \"60\": must be a whole number, not a string",
        ),
        (
            json!({"cache": {"tll": 5}}),
            "routes[0].cache.tll: is not a field; did you mean ttl?",
        ),
        (
            json!({"cache": {"min_ttl": 10, "max_ttl": 5}}),
            "routes[0].cache.min_ttl: 10: must be ≤ max_ttl, which is 5",
        ),
        (
            json!({"cache": {"query": "some"}}),
            "routes[0].cache.query: \"some\": must be \"all\", \"none\", {\"only\": [names]} or {\"except\": [names]}",
        ),
        (
            json!({"cache": {"negative_ttl": {"999": 1}}}),
            "routes[0].cache.negative_ttl.999: \"999\": must be a status code from 200 to 599",
        ),
        (
            json!({"cache": {"headers": ["Cookie"]}}),
            "routes[0].cache.headers[0]: \"cookie\": would make",
        ),
        (
            json!({"cache": {"headers": ["a b"]}}),
            "routes[0].cache.headers[0]: \"a b\": is not a field name",
        ),
        (
            json!({"cache": {"claims": ["role"]}}),
            "routes[0].cache.claims: needs auth",
        ),
        (
            json!({"viewer": "https_only"}),
            "routes[0].viewer: \"https_only\": must be one of \"allow-all\", \"https-only\" or \"redirect-to-https\"; did you mean https-only?",
        ),
        (
            json!({"to": "bakcup"}),
            "routes[0].to: \"bakcup\": names no origin or group; did you mean backup?",
        ),
        (
            json!({"to": "o", "redirect": {"location": "/"}}),
            "routes[0]: has both to and redirect",
        ),
        (json!({"to": null}), "routes[0]: must have one target"),
        (
            json!({"function": 7}),
            "routes[0].function: 7: is not the index of a callable; there are 1",
        ),
        (
            json!({"function": 0, "rewrite": {"pattern": "/a", "to": "/b"}}),
            "routes[0].rewrite: is for routes that go to an origin; this one has function",
        ),
        (
            json!({"pattern": "static"}),
            "routes[0].pattern: \"static\": must start with \"/\"",
        ),
        (
            json!({"pattern": "a.com/x", "host": "b.com"}),
            "routes[0].pattern: \"a.com/x\": names a host, and so does host",
        ),
        (
            json!({"pattern": "a.com:80/x"}),
            "routes[0].pattern: \"a.com:80\": must have no port",
        ),
        (
            json!({"pattern": "https://a.com/x"}),
            "routes[0].pattern: \"https://a.com/x\": must have no scheme",
        ),
        (
            json!({"host": "*a.com"}),
            "routes[0].host: \"*a.com\": may have \"*\" only",
        ),
        (
            json!({"host": []}),
            "routes[0].host: []: must name at least one host",
        ),
        (
            json!({"methods": ["get"]}),
            "routes[0].methods[0]: \"get\": methods are case-sensitive; did you mean GET?",
        ),
        (
            json!({"methods": ["G T"]}),
            "routes[0].methods[0]: \"G T\": is not a method",
        ),
        (
            json!({"when": [{"header": "a", "cookie": "b", "present": true}]}),
            "routes[0].when[0]:",
        ),
        (
            json!({"when": [{"header": "a", "equals": "b", "matches": "c"}]}),
            "must have at most one of equals, matches and present",
        ),
        (
            json!({"priority": 1.5}),
            "routes[0].priority: 1.5: must be a whole number",
        ),
        (
            json!({"pattern": "/{id}", "redirect": {"location": "/x/{di}"}}),
            "routes[0].redirect.location: \"/x/{di}\": has {di}, which the pattern \"/{id}\" has not; did you mean {id}?",
        ),
        (
            json!({"pattern": "/{a:path}", "redirect": {"location": "/x/{a:path}"}}),
            "here it is {a}",
        ),
        (
            json!({"redirect": {"location": "example.com"}}),
            "routes[0].redirect.location: \"example.com\": must be a URL",
        ),
        (
            json!({"redirect": {"location": "/", "status": 200}}),
            "routes[0].redirect.status: 200: must be 301, 302, 303, 307 or 308",
        ),
        (
            json!({"redirect": {"location": "/a\r\nx: y"}}),
            "routes[0].redirect.location:",
        ),
        (
            json!({"rewrite": {"pattern": "/a", "to": "/{b}"}}),
            "routes[0].rewrite.to: \"/{b}\": has {b}, which the pattern \"/a\" has not; it has none",
        ),
        (
            json!({"strip_prefix": "api"}),
            "routes[0].strip_prefix: \"api\": must be a plain path",
        ),
        (
            json!({"index": "/index.html"}),
            "routes[0].index: \"/index.html\": must be a file name",
        ),
        (
            json!({"fallback": "index.html"}),
            "routes[0].fallback: \"index.html\": must be a path",
        ),
        (
            json!({"errors": {"200": "/x"}}),
            "routes[0].errors.200: must be the page of an error status",
        ),
        (
            json!({"errors": {"502": 5}}),
            "routes[0].errors.502: 5: must be a path that starts with /, or a table with file or body",
        ),
        (
            json!({"errors": {"502": {"file": "x.html", "problem": "cannot be read"}}}),
            "routes[0].errors.502.file: \"x.html\": cannot be read",
        ),
        (
            json!({"errors": {"502": {"file": "x.html"}}}),
            "routes[0].errors.502: must have file, or body: exactly one",
        ),
        (
            json!({"errors": {"502": {"body": "x".repeat((1 << 20) + 1)}}}),
            "routes[0].errors.502: is larger than 1048576 bytes",
        ),
        (
            json!({"errors": {"502": {"body": "x", "content_type": "html"}}}),
            "routes[0].errors.502.content_type: \"html\": must be a media type",
        ),
        (
            json!({"errors": {"502": {"body": "x", "colour": "red"}}}),
            "routes[0].errors.502.colour: is not a field",
        ),
        (
            json!({"headers": {"response": {"set": {"Connection": "x"}}}}),
            "routes[0].headers.response.set.Connection: \"Connection\": belongs to the connection",
        ),
        (
            json!({"headers": {"response": {"set": {"x y": "x"}}}}),
            "routes[0].headers.response.set[\"x y\"]: \"x y\": is not a field name",
        ),
        (
            json!({"headers": {"response": {"set": {"x": "a\nb"}}}}),
            "routes[0].headers.response.set.x: has a control character",
        ),
        (
            json!({"files": {"folder": "/srv", "index": ".x"}}),
            "routes[0].files.index: \".x\": must be the name of a file",
        ),
        (
            json!({"files": {"folder": "/srv", "problem": "cannot be opened"}}),
            "routes[0].files.folder: \"/srv\": cannot be opened",
        ),
        (
            json!({"files": {"folder": "/srv"}, "pattern": "/*.js"}),
            "routes[0].pattern: \"/*.js\": must be a path as in /assets/*",
        ),
        (
            json!({"redirect": {"location": "/"}, "compress": true}),
            "routes[0].compress: true: has no effect on a redirect",
        ),
        (
            json!({"function": 0, "compress": true}),
            "routes[0].compress: true: would betray secrets",
        ),
        (
            json!({"compress": true, "auth": {"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}}}),
            "routes[0].compress: true: would betray secrets by the length of responses that depend on a token",
        ),
        (
            json!({"compress": true, "basic": {"users": {"value": "ann:$2b$04$KBCwKxOzLha2MUDcmMfM6.nlgvSZfcmmZkrYKQMtWsiIv1xlNzTYa"}}}),
            "routes[0].compress: true: would betray secrets by the length of responses behind a password",
        ),
        (
            json!({"compress": true, "signed": {"secrets": {"k": {"value": "0123456789abcdef0123456789abcdef"}}}}),
            "routes[0].compress: true: would betray secrets by the length of responses behind a signature",
        ),
        (
            json!({"files": {"folder": "/srv"}, "compress": true, "signed": {"secrets": {"k": {"value": "0123456789abcdef0123456789abcdef"}}}}),
            "routes[0].compress: true: would betray secrets by the length of responses behind a signature",
        ),
        (
            json!({"images": {"widths": null}}),
            "routes[0].images.widths: null: would let anybody have any number of variants made",
        ),
        (
            json!({"images": {"widths": [0]}}),
            "routes[0].images.widths[0]: 0: must be a whole number from 1 to 16384",
        ),
        (
            json!({"images": {"formats": ["gif"]}}),
            "routes[0].images.formats[0]: \"gif\": must be one of avif, webp, jpeg, png",
        ),
        (
            json!({"images": {}, "cache": {"enabled": false}}),
            "routes[0].images: needs a route that stores",
        ),
        (
            json!({"images": {}, "respond": {"body": "x"}}),
            "routes[0].images: is for routes that go to an origin",
        ),
        (
            json!({"image_sources": {}}),
            "routes[0].image_sources: must name an origin or a host",
        ),
        (
            json!({"image_sources": {"origins": ["x"]}}),
            "routes[0].image_sources.origins[0]: \"x\": names no origin or group",
        ),
        (
            json!({"files": {"folder": "/srv"}, "methods": ["PUT"]}),
            "routes[0].methods: \"PUT\": has no effect on a route with files",
        ),
        (
            json!({"headers": {"respond": {}}}),
            "routes[0].headers.respond: is not a field; did you mean response?",
        ),
        (
            json!({"forward": {"headers": "none"}, "cache": {"headers": ["x-a"]}}),
            "routes[0].forward.headers: \"x-a\": is part of the key",
        ),
        (
            json!({"auth": {"keys": {"kind": "secret", "secret": {"env": "JWT_SECRET", "problem": "is not set"}, "algorithm": "HS256"}}}),
            "routes[0].auth.keys.secret: environment variable JWT_SECRET: is not set",
        ),
        (
            json!({"auth": {"keys": {"kind": "magic"}}}),
            "routes[0].auth.keys.kind: must be one of",
        ),
        (json!({"auth": {}}), "routes[0].auth.keys: is required"),
        (
            json!({"auth": {"keys": {"kind": "secret", "secret": {"value": "s3cr3t"}, "algorithm": "RS256"}}}),
            "routes[0].auth",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", -1]]}]}),
            "routes[0].experiments[0].variants[0]: [\"x\",-1]: must have a weight ≥ 0",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 0]]}]}),
            "routes[0].experiments[0]",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "config": "kv:NONE/x"}]}),
            "routes[0].experiments[0].config: \"NONE\": names no key-value store",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "config": "NONE"}]}),
            "routes[0].experiments[0].config: \"NONE\": must be kv:BINDING/KEY",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "config": "kv:NONE/{varient}"}]}),
            "routes[0].experiments[0].config: {varient}: may have {name} and {variant}",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "config": "kv:NONE/x", "payload_header": "x-variant"}]}),
            "routes[0].experiments[0].payload_header: \"x-variant\": has a variant",
        ),
        (
            json!({"experiments": [{"name": "a", "variants": [["x", 1]], "payload_header": "X-A"}]}),
            "routes[0].experiments[0].payload_header: \"X-A\": has no effect without config",
        ),
        (
            json!({"experiments": [{"name": "a", "by": "sub", "variants": [["x", 1], ["y", 1]]}]}),
            "routes[0].experiments[0].by: needs auth",
        ),
        (
            json!({"experiments": [
                {"name": "a", "variants": [["x", 1], ["y", 1]]},
                {"name": "b", "header": "x-b", "variants": [["x", 1], ["y", 1]]},
            ]}),
            "routes[0].experiments[1].cookie: \"ab-variant\": is that of experiments[0] too",
        ),
        (
            json!({"respond": {"status": 204, "body": "x"}}),
            "routes[0].respond.body: must be empty",
        ),
        (json!({"buffer": true}), "routes[0].buffer: is not a field"),
    ] {
        let got = problems(&with_route(&route));
        assert!(
            got.iter()
                .any(|problem| problem.starts_with(want) || problem.contains(want)),
            "{route}\nwant {want}\ngot  {got:#?}"
        );
        assert!(
            !got.iter().any(|problem| problem.contains("s3cr3t")),
            "a secret is shown: {got:?}"
        );
    }
}

#[test]
fn origins_are_judged_too() {
    for (origin, want) in [
        (
            json!({"url": "127.0.0.1:80"}),
            "origins[0].url: \"127.0.0.1:80\": must start with http:// or https://, as in \"http://127.0.0.1:80\"",
        ),
        (
            json!({"url": "ftp://x"}),
            "origins[0].url: \"ftp://x\": must be http or https",
        ),
        (
            json!({"url": "http://u:hunter2@x"}),
            "origins[0].url: must have no user or password",
        ),
        (
            json!({"url": "http://x/?a"}),
            "origins[0].url: \"http://x/?a\": must have no query",
        ),
        (
            json!({"url": "http://x:99999"}),
            "must have a port from 1 to 65535",
        ),
        (
            json!({"url": "http://::1/"}),
            "must have an IPv6 address in brackets",
        ),
        (json!({"url": "http:///x"}), "must have a host name"),
        (json!({"url": ""}), "origins[0].url: must not be empty"),
        (
            json!({"connect_timeout": 0}),
            "origins[0].connect_timeout: 0: must be > 0 seconds",
        ),
        (
            json!({"connect_timeout": -1}),
            "origins[0].connect_timeout: -1: must be > 0 seconds",
        ),
        (
            json!({"connect_timeout": 1e300}),
            "must be ≤ 604800 seconds",
        ),
        (
            json!({"idle_timeout": -1}),
            "origins[0].idle_timeout: -1: must be ≥ 0 seconds",
        ),
        (
            json!({"retries": 11}),
            "origins[0].retries: 11: must be ≤ 10",
        ),
        (
            json!({"url": "https://x", "tls_versions": ["TLSv1.1"]}),
            "origins[0].tls_versions[0]: \"TLSv1.1\": must be one of \"TLSv1.2\" or \"TLSv1.3\"",
        ),
        (
            json!({"url": "https://x", "tls_versions": []}),
            "origins[0].tls_versions: must have at least one of",
        ),
        (
            json!({"url": "https://x", "tls_pins": ["sha256//AAAA"]}),
            "origins[0].tls_pins[0]: \"sha256//AAAA\": must be sha256//",
        ),
        (
            json!({"tls_versions": ["TLSv1.3"]}),
            "origins[0].tls_versions: is for https origins",
        ),
        (
            json!({"url": "https://x", "tls_certificate": {"chain": {"value": "c"}}}),
            "origins[0].tls_certificate.key: is required",
        ),
        (
            json!({"host": "a b"}),
            "origins[0].host: \"a b\": must be \"origin\", \"viewer\" or a host",
        ),
        (
            json!({"headers": {"x-key": "hunter2\n"}}),
            "origins[0].headers.x-key: has a control character",
        ),
        (
            json!({"tls_verify": false}),
            "origins[0].tls_verify: is for https origins",
        ),
        (
            json!({"health": {"path": "x"}}),
            "origins[0].health.path: \"x\": must be a path",
        ),
        (
            json!({"health": {"path": "/", "status": [99]}}),
            "origins[0].health.status[0]: 99: must be a status code",
        ),
        (
            json!({"name": "a b"}),
            "origins[0].name: \"a b\": must be 1 to 64 letters",
        ),
        (
            json!({"name": "taken"}),
            "groups[0].name: \"taken\": is the name of origins[0] already",
        ),
    ] {
        let mut whole = json!({"name": "o", "url": "http://x"});
        for (key, value) in origin.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let member = whole["name"].clone();
        let plan = json!({"name": "t", "origins": [whole], "groups": [{"name": "taken", "members": [member]}]});
        let got = problems(&plan);
        assert!(
            got.iter().any(|problem| problem.contains(want)),
            "{origin}\nwant {want}\ngot  {got:#?}"
        );
        assert!(
            !got.iter().any(|problem| problem.contains("hunter2")),
            "a secret is shown: {got:?}"
        );
    }
    for (plan, want) in [
        (json!({"name": "a b"}), "name: \"a b\": must be 1 to 64"),
        (json!({}), "name: is required"),
        (json!([]), "must be an object, not a list"),
        (json!({"name": "t", "version": 2}), "version: 2: must be 1"),
        (
            json!({"name": "t", "rutes": []}),
            "rutes: is not a field; did you mean routes?",
        ),
        (
            json!({"name": "t", "trusted_proxies": ["10.0.0.0/33"]}),
            "trusted_proxies[0]: \"10.0.0.0/33\": must be an address",
        ),
        (
            json!({"name": "t", "groups": [{"name": "g", "members": []}]}),
            "groups[0].members: must name at least one origin",
        ),
        (
            json!({"name": "t", "groups": [{"name": "g", "members": ["x"]}]}),
            "groups[0].members[0]: \"x\": is not an origin",
        ),
        (
            json!({"name": "t", "hooks": [{"phase": "viewer", "pattern": "/*", "call": 0}]}),
            "hooks[0].call: 0: is not the index of a callable; there are 0",
        ),
        (
            json!({"name": "t", "limits": {"http": {"head_bytes": 1}}}),
            "limits.http.head_bytes: 1: must be ≥ 1024",
        ),
    ] {
        let got = problems(&plan);
        assert!(
            got.iter().any(|problem| problem.starts_with(want)),
            "{plan}\nwant {want}\ngot  {got:#?}"
        );
    }
    assert!(
        compile(b"{").unwrap_err()[0]
            .message
            .starts_with("the plan is not JSON")
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let got = problems(&json!({
        "name": "t",
        "origins": [{"name": "o", "url": "x"}, {"name": "o"}],
        "hooks": [{"phase": "viewer_reqest", "pattern": "/*", "call": 0}],
        "routes": [
            {"pattern": "/a", "to": "nowhere", "cache": {"ttl": -1, "min_ttl": "x"}},
            {"pattern": "b", "to": "o"},
            7,
        ],
    }));
    assert_eq!(got.len(), 10, "{got:#?}");
}

#[test]
fn only_routes_that_could_find_anothers_response_are_tagged() {
    let tags = |routes: Value| -> Vec<bool> {
        let mut plan = with_route(&json!({}));
        plan["routes"] = routes;
        compiled(&plan)
            .routes
            .iter()
            .map(|route| route.key_tag.is_some())
            .collect()
    };
    // The storefront of docs/design.md §12: no key needs a tag.
    let storefront = json!([
        {"pattern": "/static/*", "to": "o"},
        {"pattern": "/api/*", "to": "o", "cache": {"enabled": false}},
        {"pattern": "/*", "to": "o", "index": "index.html"},
    ]);
    assert_eq!(tags(storefront), [false, false, false]);
    for (routes, want) in [
        (
            json!([{"pattern": "/a/*", "to": "o", "strip_prefix": "/a"}, {"pattern": "/*", "to": "backup"}]),
            vec![true, false],
        ),
        (
            json!([{"pattern": "/a/*", "to": "o", "strip_prefix": "/a"}]),
            vec![false],
        ),
        (
            json!([{"pattern": "/a/*", "host": "x.com", "to": "o", "strip_prefix": "/a"}, {"pattern": "/*", "host": "y.com", "to": "backup"}]),
            vec![false, false],
        ),
        (
            json!([{"pattern": "/a", "to": "o", "when": [{"cookie": "b", "present": true}]}, {"pattern": "/*", "to": "backup"}]),
            vec![true, false],
        ),
        (
            json!([{"pattern": "/blog/", "to": "o", "index": "index.html"}, {"pattern": "/*", "to": "backup"}]),
            vec![true, false],
        ),
        (
            json!([{"pattern": "/*.html", "to": "backup"}, {"pattern": "/*", "to": "o", "index": "index.html"}]),
            vec![false, true],
        ),
        (
            json!([{"pattern": "/b/in*", "to": "backup"}, {"pattern": "/*", "to": "o", "index": "index.html"}]),
            vec![false, true],
        ),
        (
            json!([{"pattern": "/index.html", "to": "backup"}, {"pattern": "/*", "to": "o", "index": "index.html"}]),
            vec![false, true],
        ),
        (
            json!([{"pattern": "/app/*", "to": "o", "fallback": "/index.html"}, {"pattern": "/*", "to": "backup"}]),
            vec![true, false],
        ),
        (
            json!([{"pattern": "/*", "to": "o", "errors": {"404": "/404.html"}}, {"pattern": "/x", "to": "backup"}]),
            vec![false, false],
        ),
    ] {
        assert_eq!(tags(routes.clone()), want, "{routes}");
    }
}

#[test]
fn terms_of_certificates_are_refused_where_nothing_could_be_obtained_by_them() {
    let acme = |more: Value| {
        let mut acme = json!({"names": ["a.example"], "storage": "/s"});
        for (name, value) in more.as_object().unwrap() {
            acme[name] = value.clone();
        }
        acme
    };
    for (more, want) in [
        (json!({"names": []}), "names: must have at least one name"),
        (
            json!({"names": ["a b"]}),
            "names[0]: \"a b\": must be a DNS name",
        ),
        (
            json!({"names": ["localhost"]}),
            "names[0]: \"localhost\": must be a full name",
        ),
        (
            json!({"names": ["192.0.2.1"]}),
            "names[0]: \"192.0.2.1\": must be a DNS name: no certificate",
        ),
        (
            json!({"names": ["A.example.", "a.example"]}),
            "names[1]: \"a.example\": is named twice",
        ),
        (
            json!({"names": ["*.a.example"]}),
            "names[0]: \"*.a.example\": no certificate for a wildcard",
        ),
        (json!({"storage": ""}), "storage: must be a folder"),
        (
            json!({"challenges": ["dns-01"]}),
            "dns: is required by the challenge",
        ),
        (
            json!({"challenges": ["http-01"], "dns": "app.f"}),
            "dns: has no effect",
        ),
        (
            json!({"email": "ops"}),
            "email: \"ops\": must be an address",
        ),
        (
            json!({"challenges": []}),
            "challenges: must have at least one of \"http-01\",",
        ),
        (
            json!({"challenges": ["http-02"]}),
            "challenges[0]: \"http-02\": must be one of",
        ),
        (
            json!({"issuers": []}),
            "issuers: must have at least one issuer",
        ),
        (
            json!({"issuers": [{"directory": "http://a.example/d"}]}),
            "issuers[0].directory: \"http://a.example/d\": must be the URL of a directory of ACME by https",
        ),
        (
            json!({"issuers": [{"key_id": "k"}]}),
            "issuers[0].hmac_key: is required",
        ),
        (
            json!({"issuers": [{"profile": "two words"}]}),
            "issuers[0].profile: \"two words\": must be the name of a profile",
        ),
        (
            json!({"issuers": [{"hmac_key": {"value": "a"}}]}),
            "issuers[0].key_id: is required",
        ),
        (
            json!({"issuers": [{"key_id": "k", "hmac_key": {"value": "§"}}]}),
            "issuers[0].hmac_key: must be the key in Base64",
        ),
        (json!({"name": "a.example"}), "name: is not a field"),
        (json!({"on_demand": 5}), "on_demand: 5: must be a string"),
    ] {
        let listener = json!({"address": ":443", "tls": [{"acme": acme(more.clone())}]});
        let found = problems(&json!({"name": "t", "listeners": [listener]}));
        let want = format!("listeners[0].tls[0].acme.{want}");
        assert!(found[0].starts_with(&want), "{more}: {found:?}");
    }
    let listeners = json!([
        {"address": ":443", "tls": [{"acme": acme(json!({}))}]},
        {"address": ":444", "tls": [{"acme": acme(json!({"storage": "/other"}))}]},
    ]);
    let found = problems(&json!({"name": "t", "listeners": listeners}));
    let want = "listeners[1].tls[0].acme.names[0]: \"a.example\": is obtained by other terms";
    assert!(found[0].starts_with(want), "{found:?}");
}

#[test]
fn a_listener_is_refused_where_its_address_protocols_or_policy_say_nothing_that_can_be_served() {
    let certificate = json!({"chain": {"value": "c"}, "key": {"value": "k-secret"}});
    let tls = json!([{"certificates": [certificate]}]);
    for (listener, want) in [
        (json!({}), "listeners[0].address: is required"),
        (
            json!({"address": "example.com:443"}),
            "listeners[0].address: \"example.com:443\": must be IP:PORT",
        ),
        (
            json!({"address": "0.0.0.0"}),
            "listeners[0].address: \"0.0.0.0\": must be IP:PORT",
        ),
        (
            json!({"address": ":443", "http": []}),
            "listeners[0].http: must name at least one protocol",
        ),
        (
            json!({"address": ":443", "http": ["http/1.1", "http/1.1"]}),
            "listeners[0].http[1]: \"http/1.1\": is named twice",
        ),
        (
            json!({"address": ":443", "http": ["h3"]}),
            "listeners[0].http[0]: \"h3\": is not a protocol of HTTP over TCP",
        ),
        (
            json!({"address": ":443", "tls": [{}]}),
            "listeners[0].tls[0].certificates: is required",
        ),
        (
            json!({"address": ":443", "tls": [{"certificates": []}]}),
            "listeners[0].tls[0].certificates: must have at least one certificate",
        ),
        (
            json!({"address": ":443", "tls": [{"certificates": [{"chain": {"value": "c"}}]}]}),
            "listeners[0].tls[0].certificates[0].key: is required",
        ),
        (
            json!({"address": ":443", "tls": [{"certificates": [{"chain": {"value": "c"}, "key": "k-secret"}]}]}),
            "listeners[0].tls[0].certificates[0].key: must be a secret",
        ),
        (
            json!({"address": ":443", "tls": [{"certificates": [certificate], "client_certificates": "required"}]}),
            "listeners[0].tls[0].client_certificates: has no effect: give client_ca",
        ),
        (
            json!({"address": ":443", "tls": [{"certificates": [certificate], "client_fields": {"subject": "x-s"}}]}),
            "listeners[0].tls[0].client_fields: has no effect: give client_ca",
        ),
        (
            json!({"address": ":443", "tls": [
                {"certificates": [certificate], "client_ca": {"value": "c"}, "client_fields": {"subject": "Host"}}
            ]}),
            "listeners[0].tls[0].client_fields.subject: \"Host\": must be the name of a request field",
        ),
        (
            json!({"address": ":443", "tls": [
                {"certificates": [certificate], "client_ca": {"value": "c"}, "client_fields": {"name": "x-n"}}
            ]}),
            "listeners[0].tls[0].client_fields.name: \"name\": must be one of \"certificate\"",
        ),
        (
            json!({"address": ":443", "tls": tls.as_array().map(|tls| {
                let mut tls = tls.clone();
                tls[0]["policy"] = json!("TLSv1.4");
                tls
            })}),
            "listeners[0].tls[0].policy: \"TLSv1.4\": must be one of \"TLSv1.2_2021\", \"TLSv1.2_2025\" or",
        ),
    ] {
        let found = problems(&json!({"name": "t", "listeners": [listener]}));
        assert!(found[0].starts_with(want), "{listener}: {found:?}");
        assert!(
            !found.iter().any(|text| text.contains("k-secret")),
            "{found:?}"
        );
    }
    let twice = problems(&json!({
        "name": "t",
        "listeners": [{"address": "127.0.0.1:443"}, {"address": "localhost:443", "tls": tls}],
    }));
    assert!(
        twice[0].starts_with("listeners[1].address: \"127.0.0.1:443\": is listened on already"),
        "{twice:?}"
    );
}

#[test]
fn a_guard_that_contradicts_itself_or_has_no_effect_is_refused() {
    for (route, want) in [
        (
            json!({"addresses": {"deny": ["10.0.0.0/33"]}}),
            "addresses.deny[0]: \"10.0.0.0/33\": must be an address or a network",
        ),
        (
            json!({"addresses": {"allow": ["::ffff:10.0.0.0/104"]}}),
            "addresses.allow[0]: \"::ffff:10.0.0.0/104\": must be written as IPv4",
        ),
        (
            json!({"addresses": {}}),
            "routes[0].addresses: has no effect",
        ),
        (
            json!({"addresses": {"deny": []}}),
            "routes[0].addresses: has no effect",
        ),
        (json!({"cors": {}}), "routes[0].cors.origins: is required"),
        (
            json!({"cors": {"origins": []}}),
            "routes[0].cors.origins: must name at least one",
        ),
        (
            json!({"cors": {"origins": ["*"]}}),
            "routes[0].cors.origins[0]: \"*\": must be an origin",
        ),
        (
            json!({"cors": {"origins": "*", "credentials": true}}),
            "routes[0].cors.origins: must be a list where credentials",
        ),
        (
            json!({"cors": {"origins": ["https://a"], "headers": "*", "credentials": true}}),
            "routes[0].cors.headers: must be a list",
        ),
        (
            json!({"cors": {"origins": "*", "methods": ["put"]}}),
            "routes[0].cors.methods[0]: \"put\": must be a method",
        ),
        (
            json!({"cors": {"origins": "*", "methods": ["TRACE"]}}),
            "must be a method that browsers send",
        ),
        (
            json!({"cors": {"origins": "*", "headers": ["*", "x-a"]}}),
            "routes[0].cors.headers[0]: \"*\": must be the whole value",
        ),
        (
            json!({"rate_limits": [{"name": "a b", "requests": 5}]}),
            "rate_limits[0].name: \"a b\": must be 1 to 64",
        ),
        (
            json!({"rate_limits": [{"name": "a"}]}),
            "rate_limits[0].requests: is required",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 0}]}),
            "rate_limits[0].requests: 0: must be ≥ 1",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5, "per": 0}]}),
            "rate_limits[0].per: 0: must be",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 1, "per": 86400, "burst": 8}]}),
            "rate_limits[0].burst: 8: is more than",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5, "delay": 31}]}),
            "rate_limits[0].delay: 31: must be ≤ 30 seconds",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5, "by": "ip"}]}),
            "rate_limits[0].by: \"ip\": must be \"address\"",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5, "by": "claim:sub"}]}),
            "rate_limits[0].by: needs auth",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5}, {"name": "a", "requests": 5}]}),
            "rate_limits[1].name: \"a\": is a limit of this route or of the site already",
        ),
        (
            json!({"rate_limits": [{"name": "a", "requests": 5}, {"name": "a", "requests": 6}]}),
            "rate_limits[1].name: \"a\": is the name of another limit",
        ),
        (json!({"basic": {}}), "routes[0].basic.users: is required"),
        (
            json!({"basic": {"users": {"value": "ann:hunter2"}}}),
            "routes[0].basic.users: line 1: the password is neither",
        ),
        (
            json!({"basic": {"users": {"file": "x", "problem": "cannot be read"}}}),
            "routes[0].basic.users: file x: cannot be read",
        ),
        (
            json!({"signed": {}}),
            "routes[0].signed: must have 1 to 100 keys",
        ),
        (
            json!({"signed": {"secrets": {"k": {"value": "hunter2"}}}}),
            "routes[0].signed.secrets.k: has 7 bytes; it must have at least 32",
        ),
        (
            json!({"signed": {"keys": {"k": {"value": "hunter2"}}}}),
            "routes[0].signed.keys.k: is not PEM",
        ),
        (
            json!({"signed": {"keys": {"a&b": {"value": "x"}}}}),
            "must be a name of letters, digits",
        ),
        (
            json!({"signed": {"secrets": {"k": {"env": "NONE", "problem": "is not set"}}}}),
            "routes[0].signed.secrets.k: environment variable NONE: is not set",
        ),
        (
            json!({"security": {"csp": "default-src self"}}),
            "routes[0].security.csp: needs quotes",
        ),
        (
            json!({"security": {"permissions_policy": "camera"}}),
            "routes[0].security.permissions_policy: \"camera\": must be features",
        ),
        (
            json!({"security": {"hsts": {"preload": true}}}),
            "routes[0].security.hsts.preload: true: needs include_subdomains",
        ),
        (
            json!({"security": {"nosniff": false, "frame": null, "referrer_policy": null}}),
            "routes[0].security: has no effect",
        ),
        (
            json!({"security": {"frame": "ALLOW-FROM x"}}),
            "routes[0].security.frame: \"ALLOW-FROM x\": must be one of",
        ),
    ] {
        let got = problems(&with_route(&route));
        assert!(
            got.iter().any(|problem| problem.contains(want)),
            "{route}\nwant {want}\ngot  {got:#?}"
        );
        assert!(
            !got.iter().any(|problem| problem.contains("hunter2")),
            "a secret is shown: {got:?}"
        );
    }
    let auth = json!({"keys": {"kind": "secret", "secret": {"value": "0123456789abcdef0123456789abcdef"}, "algorithm": "HS256"}});
    let both = json!({"cors": {"origins": "*"}, "auth": auth, "preflight": "origin"});
    let got = problems(&with_route(&both));
    assert!(
        got.iter()
            .any(|problem| problem.contains("has no effect beside cors")),
        "{got:?}"
    );
    for (hosts, host, want) in [
        (
            json!(["*"]),
            "a.test",
            "hosts[0]: \"*\": would be every host",
        ),
        (
            json!(["a.test:80"]),
            "a.test",
            "hosts[0]: \"a.test:80\": must have no port",
        ),
        (
            json!(["a.test", "*.b.test"]),
            "c.test",
            "routes[0].host: \"c.test/*\": is never requested",
        ),
    ] {
        let mut plan = with_route(&json!({"host": host}));
        plan["hosts"] = hosts;
        let got = problems(&plan);
        assert!(
            got.iter().any(|problem| problem.contains(want)),
            "want {want}\ngot  {got:#?}"
        );
    }
}
