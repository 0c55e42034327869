//! `ROUTE`.

use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    RouteSpec, TargetSpec,
    cache::cache,
    error_page::error_page,
    experiment::experiment,
    forward::forward,
    guard,
    headers::{edits, header_name, status_key},
    images,
    jwt::jwt,
    latency, places,
    reader::{Fields, Problems, shown},
    target::target,
};
use crate::{
    experiment::ExperimentSpec,
    plan::{
        CachePolicy, Condition, ErrorPage, HeaderEdits, PathPattern, Preflight, Subject, Test,
        ViewerPolicy,
    },
};

pub(super) fn route(
    value: &Value,
    path: String,
    name: &str,
    problems: &Problems,
) -> Option<RouteSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let pattern = fields.required_text("pattern").map(str::to_owned);
    let hosts = hosts(&mut fields);
    let methods = methods(&mut fields);
    let when = conditions(&mut fields);
    let priority = priority(&mut fields);
    let target = target(&mut fields);
    let viewer = viewer(&mut fields);
    let index = fields.text("index").map(str::to_owned);
    let fallback = fields.text("fallback").map(str::to_owned);
    let strip_prefix = fields.text("strip_prefix").map(str::to_owned);
    let add_prefix = fields.text("add_prefix").map(str::to_owned);
    let rewrite = rewrite(&mut fields);
    let (request_headers, response_headers) = header_edits(&mut fields);
    let forward = fields
        .some("forward")
        .and_then(|value| forward(value, fields.at("forward"), problems));
    let cache = cache_policy(&mut fields, &target);
    let auth = fields.some("auth");
    let has_auth = auth.is_some();
    let auth = auth.and_then(|value| jwt(value, fields.at("auth"), name, problems));
    let preflights = [("token", Preflight::Token), ("origin", Preflight::Origin)];
    let preflight = fields.choice("preflight", &preflights, Preflight::Token);
    let guard = guard::guards(&mut fields, name);
    let experiments = experiments(&mut fields);
    let errors = error_pages(&mut fields);
    let compress = fields.some("compress").is_some();
    let compress = compress.then(|| fields.flag("compress", false));
    let images = fields
        .some("images")
        .and_then(|value| images::policy(value, fields.at("images"), problems));
    let predict = fields
        .some("predict")
        .and_then(|value| latency::predict(value, fields.at("predict"), problems));
    fields.end();
    Some(RouteSpec {
        pattern,
        hosts,
        methods,
        when,
        priority,
        target,
        viewer,
        index,
        fallback,
        strip_prefix,
        add_prefix,
        rewrite,
        request_headers,
        response_headers,
        forward,
        cache,
        auth,
        preflight,
        guard,
        has_auth,
        experiments,
        errors,
        compress,
        images,
        predict,
    })
}

fn conditions(fields: &mut Fields<'_>) -> Vec<Condition> {
    let Some(value) = fields.some("when") else {
        return Vec::new();
    };
    let conditions = fields.list_of("when", value).into_iter();
    conditions
        .filter_map(|(path, value)| condition(value, path, fields.problems))
        .collect()
}

fn priority(fields: &mut Fields<'_>) -> i32 {
    let Some(value) = fields.raw("priority") else {
        return 0;
    };
    let number = value.as_i64().and_then(|n| i32::try_from(n).ok());
    if number.is_none() {
        fields.wrong(
            "priority",
            value,
            "must be a whole number from -2147483648 to 2147483647",
        );
    }
    number.unwrap_or_default()
}

fn viewer(fields: &mut Fields<'_>) -> ViewerPolicy {
    let viewers = [
        ("allow-all", ViewerPolicy::AllowAll),
        ("https-only", ViewerPolicy::HttpsOnly),
        ("redirect-to-https", ViewerPolicy::RedirectToHttps),
    ];
    fields.choice("viewer", &viewers, ViewerPolicy::AllowAll)
}

fn rewrite(fields: &mut Fields<'_>) -> Option<(String, String)> {
    let value = fields.some("rewrite")?;
    let mut inner = Fields::open(value, fields.at("rewrite"), fields.problems)?;
    let pattern = inner.required_text("pattern").map(str::to_owned);
    let to = inner.required_text("to").map(str::to_owned);
    inner.end();
    pattern.zip(to)
}

/// The edits of the request's fields, and of the response's.
fn header_edits(fields: &mut Fields<'_>) -> (HeaderEdits, HeaderEdits) {
    let headers = fields.some("headers");
    let Some(mut inner) =
        headers.and_then(|value| Fields::open(value, fields.at("headers"), fields.problems))
    else {
        return (HeaderEdits::default(), HeaderEdits::default());
    };
    let request = inner.some("request");
    let response = inner.some("response");
    let request = edits(request, inner.at("request"), fields.problems);
    let response = edits(response, inner.at("response"), fields.problems);
    inner.end();
    (request, response)
}

/// The cache policy. Nothing that a function makes is stored unless its route says so.
fn cache_policy(fields: &mut Fields<'_>, target: &TargetSpec) -> CachePolicy {
    match fields.some("cache") {
        None => CachePolicy {
            enabled: !matches!(target, TargetSpec::Function(_)),
            ..CachePolicy::default()
        },
        Some(value) => cache(value, fields.at("cache"), fields.problems),
    }
}

fn experiments(fields: &mut Fields<'_>) -> Vec<(usize, ExperimentSpec)> {
    let declared = fields.list("experiments").into_iter().enumerate();
    declared
        .filter_map(|(index, (path, value))| {
            Some((index, experiment(value, path, fields.problems)?))
        })
        .collect()
}

fn error_pages(fields: &mut Fields<'_>) -> Vec<(StatusCode, ErrorPage)> {
    let mut pages = Vec::new();
    for (path, key, page) in fields.map("errors") {
        let status = status_key(&path, key, fields.problems);
        if let Some(status) = status
            && let Some(page) = error_page(page, path, status, fields.problems)
        {
            pages.push((status, page));
        }
    }
    pages
}

fn hosts(fields: &mut Fields<'_>) -> Vec<(String, String)> {
    match fields.some("host") {
        None => Vec::new(),
        Some(Value::String(host)) => vec![(fields.at("host"), host.clone())],
        Some(value @ Value::Array(items)) => {
            if items.is_empty() {
                fields.wrong(
                    "host",
                    value,
                    "must name at least one host; for every host leave it out",
                );
            }
            let items = fields.list_of("host", value);
            fields
                .only_texts(items)
                .into_iter()
                .map(|(path, text)| (path, text.to_owned()))
                .collect()
        }
        Some(value) => {
            fields.wrong("host", value, "must be a host, a list of hosts or null");
            Vec::new()
        }
    }
}

fn methods(fields: &mut Fields<'_>) -> Vec<Method> {
    let Some(value) = fields.some("methods") else {
        return Vec::new();
    };
    if value.as_array().is_some_and(Vec::is_empty) {
        fields.wrong(
            "methods",
            value,
            "must name at least one method; for every method leave it out",
        );
    }
    let items = fields.list_of("methods", value);
    let mut methods: Vec<Method> = Vec::new();
    for (path, text) in fields.only_texts(items) {
        match Method::from_bytes(text.as_bytes()) {
            Ok(Method::CONNECT) => fields.problems.add(
                path,
                Some(shown(&text.into())),
                "is not for a reverse proxy (RFC 9110 §9.3.6)",
            ),
            Ok(method) if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                let upper = text.to_ascii_uppercase();
                fields.problems.add(
                    path,
                    Some(format!("{:?}", method.as_str())),
                    format!("methods are case-sensitive; did you mean {upper}?"),
                );
            }
            Ok(method) if methods.contains(&method) => {}
            Ok(method) => methods.push(method),
            Err(_) => fields.problems.add(
                path,
                Some(format!("{text:?}")),
                "is not a method (RFC 9110 §9.1: a token)",
            ),
        }
    }
    methods
}

fn condition(value: &Value, path: String, problems: &Problems) -> Option<Condition> {
    let mut fields = Fields::open(value, path, problems)?;
    let header = fields.text("header");
    let cookie = fields.text("cookie");
    let query = fields.text("query");
    let country = fields
        .some("country")
        .map(|_| places::countries(&mut fields, "country"));
    if let (Some(countries), None, None, None) = (&country, header, cookie, query) {
        return places::by_country(fields, countries);
    }
    let subject = match (header, cookie, query, country) {
        (Some(name), None, None, None) => {
            header_name(&fields.at("header"), name, problems).map(Subject::Header)
        }
        (None, Some(name), None, None) => Some(Subject::Cookie(name.into())),
        (None, None, Some(name), None) => Some(Subject::Query(name.into())),
        _ => {
            problems.add(
                fields.path.clone(),
                Some(shown(value)),
                "must name exactly one of header, cookie, query and country",
            );
            None
        }
    };
    let equals = fields.text("equals");
    let matches = fields.text("matches");
    let present = fields.some("present");
    let test = match (equals, matches, present) {
        (Some(text), None, None) => Some(Test::Equals(text.into())),
        (None, Some(glob), None) => match PathPattern::glob(glob) {
            Ok(pattern) => Some(Test::Matches(pattern)),
            Err(error) => {
                problems.add(fields.at("matches"), None, error.to_string());
                None
            }
        },
        (None, None, None) => Some(Test::Present(true)),
        (None, None, Some(Value::Bool(present))) => Some(Test::Present(*present)),
        (None, None, Some(other)) => {
            fields.wrong("present", other, "must be true or false");
            None
        }
        _ => {
            problems.add(
                fields.path.clone(),
                Some(shown(value)),
                "must have at most one of equals, matches and present",
            );
            None
        }
    };
    fields.end();
    Some(Condition {
        subject: subject?,
        test: test?,
    })
}
