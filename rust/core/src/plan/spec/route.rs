//! `ROUTE`.

use crate::http::header;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;

use super::{
    FilesSpec, ForwardSpec, RouteSpec, TargetSpec, UnkeyedSpec, guard,
    headers::{edits, header_map, header_name, select_of, starred, status, status_key},
    images, latency, places,
    policies::{cache, experiment, jwt},
    reader::{Fields, Problems, shown},
};
use crate::plan::{
    CachePolicy, Condition, ErrorPage, FixedResponse, HeaderEdits, PathPattern, Preflight,
    Redirect, Subject, Test, ViewerPolicy,
};

/// The largest error page that the edge holds itself; `docs/limits.md` names it.
const MOST_PAGE_BYTES: usize = 1 << 20;

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
    let when = match fields.some("when") {
        None => Vec::new(),
        Some(value) => fields
            .list_of("when", value)
            .into_iter()
            .filter_map(|(path, value)| condition(value, path, problems))
            .collect(),
    };
    let priority = match fields.raw("priority") {
        None => 0,
        Some(value) => {
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
    };
    let target = target(&mut fields);
    let viewers = [
        ("allow-all", ViewerPolicy::AllowAll),
        ("https-only", ViewerPolicy::HttpsOnly),
        ("redirect-to-https", ViewerPolicy::RedirectToHttps),
    ];
    let viewer = fields.choice("viewer", &viewers, ViewerPolicy::AllowAll);
    let index = fields.text("index").map(str::to_owned);
    let fallback = fields.text("fallback").map(str::to_owned);
    let strip_prefix = fields.text("strip_prefix").map(str::to_owned);
    let add_prefix = fields.text("add_prefix").map(str::to_owned);
    let rewrite = fields.some("rewrite").and_then(|value| {
        let mut inner = Fields::open(value, fields.at("rewrite"), problems)?;
        let pattern = inner.required_text("pattern").map(str::to_owned);
        let to = inner.required_text("to").map(str::to_owned);
        inner.end();
        pattern.zip(to)
    });
    let (request_headers, response_headers) = match fields.some("headers") {
        None => (HeaderEdits::default(), HeaderEdits::default()),
        Some(value) => match Fields::open(value, fields.at("headers"), problems) {
            None => (HeaderEdits::default(), HeaderEdits::default()),
            Some(mut inner) => {
                let request = inner.some("request");
                let response = inner.some("response");
                let request = edits(request, inner.at("request"), problems);
                let response = edits(response, inner.at("response"), problems);
                inner.end();
                (request, response)
            }
        },
    };
    let forward = fields
        .some("forward")
        .and_then(|value| forward(value, fields.at("forward"), problems));
    let cache = match fields.some("cache") {
        // Nothing that a function makes is stored unless its route says so.
        None => CachePolicy {
            enabled: !matches!(target, TargetSpec::Function(_)),
            ..CachePolicy::default()
        },
        Some(value) => cache(value, fields.at("cache"), problems),
    };
    let auth = fields.some("auth");
    let has_auth = auth.is_some();
    let auth = auth.and_then(|value| jwt(value, fields.at("auth"), name, problems));
    let preflights = [("token", Preflight::Token), ("origin", Preflight::Origin)];
    let preflight = fields.choice("preflight", &preflights, Preflight::Token);
    let guard = guard::guards(&mut fields, name);
    let experiments = fields
        .list("experiments")
        .into_iter()
        .enumerate()
        .filter_map(|(index, (path, value))| Some((index, experiment(value, path, problems)?)))
        .collect();
    let mut errors = Vec::new();
    for (path, key, page) in fields.map("errors") {
        let status = status_key(&path, key, problems);
        if let Some(status) = status
            && let Some(page) = error_page(page, path, status, problems)
        {
            errors.push((status, page));
        }
    }
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

fn target(fields: &mut Fields<'_>) -> TargetSpec {
    let given = [
        ("to", fields.some("to")),
        ("function", fields.some("function")),
        ("redirect", fields.some("redirect")),
        ("respond", fields.some("respond")),
        ("files", fields.some("files")),
        ("image_sources", fields.some("image_sources")),
    ];
    let mut chosen = given
        .iter()
        .filter_map(|(name, value)| value.map(|value| (*name, value)));
    let (first, second) = (chosen.next(), chosen.next());
    let Some((name, value)) = first else {
        fields.problems.add(
            fields.path.clone(),
            None,
            "must have one target: to, function, redirect, respond, files or image_sources",
        );
        return TargetSpec::Broken;
    };
    if let Some((other, _)) = second {
        fields.problems.add(
            fields.path.clone(),
            None,
            format!("has both {name} and {other}: exactly one of them answers"),
        );
        return TargetSpec::Broken;
    }
    let read = match name {
        "to" => fields
            .text_of(name, value)
            .map(|to| TargetSpec::To(to.to_owned())),
        "function" => fields
            .whole_of(name, value, 0, u64::from(u32::MAX), "")
            .map(TargetSpec::Function),
        "redirect" => redirect(value, fields.at(name), fields.problems),
        "respond" => respond(value, fields.at(name), fields.problems),
        "files" => files(value, fields.at(name), fields.problems),
        _ => images::sources(value, fields.at(name), fields.problems),
    };
    read.unwrap_or(TargetSpec::Broken)
}

fn redirect(value: &Value, path: String, problems: &Problems) -> Option<TargetSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let location = fields.required_text("location");
    let status = match fields.raw("status") {
        None => Some(StatusCode::FOUND),
        Some(value) => {
            let status = value
                .as_u64()
                .filter(|code| matches!(code, 301 | 302 | 303 | 307 | 308))
                .and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
            if status.is_none() {
                fields.wrong("status", value, "must be 301, 302, 303, 307 or 308");
            }
            status
        }
    };
    let query = fields.flag("query", true);
    fields.end();
    Some(TargetSpec::Redirect(Redirect {
        location: location?.into(),
        status: status?,
        query,
    }))
}

fn respond(value: &Value, path: String, problems: &Problems) -> Option<TargetSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let status = match fields.raw("status") {
        None => Some(StatusCode::OK),
        Some(value) => status(&fields.at("status"), value, problems),
    };
    let headers = header_map(&mut fields, "headers");
    let body = fields.text("body").unwrap_or_default().to_owned();
    if let Some(status) = status
        && (crate::finish::bodiless(status) || status == StatusCode::RESET_CONTENT)
        && !body.is_empty()
    {
        problems.add(
            fields.at("body"),
            None,
            format!(
                "must be empty: a {} has no content (RFC 9110 §6.4.1)",
                status.as_u16()
            ),
        );
    }
    fields.end();
    Some(TargetSpec::Respond {
        status: status?,
        headers,
        body,
    })
}

/// A folder. Python looks whether it is there: compiling a plan does no I/O.
fn files(value: &Value, path: String, problems: &Problems) -> Option<TargetSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let folder = fields.required_text("folder").map(str::to_owned);
    let problem = fields.text("problem");
    let index = match fields.raw("index") {
        None => Some("index.html".to_owned()),
        Some(_) => fields.text("index").map(str::to_owned),
    };
    let fallback = fields.text("fallback").map(str::to_owned);
    let precompressed = fields.flag("precompressed", true);
    let listing = fields.flag("listing", false);
    let immutable = fields.text("immutable").map(str::to_owned);
    let place = fields.at("folder");
    fields.end();
    let folder = folder?;
    if let Some(problem) = problem {
        problems.add(place, Some(format!("{folder:?}")), problem);
        return None;
    }
    Some(TargetSpec::Files(FilesSpec {
        folder,
        index,
        fallback,
        precompressed,
        listing,
        immutable,
    }))
}

/// A path, or a page that Python has read: compiling a plan does no I/O.
fn error_page(
    value: &Value,
    path: String,
    status: StatusCode,
    problems: &Problems,
) -> Option<ErrorPage> {
    if let Some(path) = value.as_str() {
        return Some(ErrorPage::Path(path.into()));
    }
    if !value.is_object() {
        let form = "must be a path that starts with /, or a table with file or body";
        problems.add(path, Some(shown(value)), form);
        return None;
    }
    let mut fields = Fields::open(value, path.clone(), problems)?;
    let file = fields.text("file");
    let problem = fields.text("problem");
    let text = fields.text("body");
    let coded = fields.text("base64");
    let given = fields.text("content_type");
    let at = |name: &str| format!("{path}.{name}");
    fields.end();
    if let (Some(file), Some(problem)) = (file, problem) {
        problems.add(at("file"), Some(format!("{file:?}")), problem);
        return None;
    }
    let body = match (file, text, coded) {
        (None, Some(text), None) => text.as_bytes().to_vec(),
        (None, None, Some(coded)) => match STANDARD.decode(coded) {
            Ok(body) => body,
            Err(_) => {
                problems.add(at("base64"), None, "is not base64 (RFC 4648 §4)");
                return None;
            }
        },
        // An object that is not a page, or one whose file was not read.
        _ => {
            problems.add(path, None, "must have file, or body: exactly one");
            return None;
        }
    };
    if body.len() > MOST_PAGE_BYTES {
        let message = format!("is larger than {MOST_PAGE_BYTES} bytes; make the page smaller");
        problems.add(path, None, message);
        return None;
    }
    let html = body.trim_ascii_start().starts_with(b"<");
    let content_type = match given {
        None if html => HeaderValue::from_static("text/html; charset=utf-8"),
        None => HeaderValue::from_static("text/plain; charset=utf-8"),
        Some(given) => match HeaderValue::from_str(given) {
            Ok(value) if given.contains('/') => value,
            _ => {
                let form =
                    "must be a media type such as \"text/html; charset=utf-8\" (RFC 9110 §8.3)";
                problems.add(at("content_type"), Some(format!("{given:?}")), form);
                return None;
            }
        },
    };
    Some(ErrorPage::Fixed(FixedResponse {
        status,
        // For an error page: the next request may get another response.
        headers: vec![
            (header::CONTENT_TYPE.into(), content_type),
            (
                header::CACHE_CONTROL.into(),
                HeaderValue::from_static("no-store"),
            ),
            (
                header::X_CONTENT_TYPE_OPTIONS.into(),
                HeaderValue::from_static("nosniff"),
            ),
        ],
        body: body.into(),
    }))
}

fn forward(value: &Value, path: String, problems: &Problems) -> Option<ForwardSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let choice = |fields: &mut Fields<'_>, name, lower| {
        let value = fields.some(name)?;
        select_of(fields, name, value, lower)
    };
    let query = choice(&mut fields, "query", false);
    let headers = choice(&mut fields, "headers", true);
    let cookies = choice(&mut fields, "cookies", false);
    let geo = fields
        .some("geo")
        .map(|_| places::facts(&mut fields, "geo"));
    let unkeyed = fields
        .texts("unkeyed")
        .into_iter()
        .filter_map(|(path, text)| {
            let spec = unkeyed(&path, text, problems)?;
            Some((path, spec))
        })
        .collect();
    fields.end();
    Some(ForwardSpec {
        query,
        headers,
        cookies,
        unkeyed,
        geo,
    })
}

/// `NAME` of a field, `query:NAME`, `cookie:NAME` or `claim:NAME`.
fn unkeyed(path: &str, text: &str, problems: &Problems) -> Option<UnkeyedSpec> {
    let Some((kind, name)) = text.split_once(':') else {
        return header_name(path, text, problems).map(UnkeyedSpec::Field);
    };
    match kind {
        "query" => starred(path, name, problems).then(|| UnkeyedSpec::Query(name.to_owned())),
        "cookie" => starred(path, name, problems).then(|| UnkeyedSpec::Cookie(name.to_owned())),
        "claim" if !name.is_empty() => Some(UnkeyedSpec::Claim(name.to_owned())),
        _ => {
            let message =
                "must be the name of a field, \"query:NAME\", \"cookie:NAME\" or \"claim:NAME\"";
            problems.add(path, Some(format!("{text:?}")), message);
            None
        }
    }
}
