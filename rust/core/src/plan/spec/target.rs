//! The target of a route: a group, a function, a redirect, fixed words, a folder, places of images.

use http::StatusCode;
use serde_json::Value;

use super::{
    FilesSpec, TargetSpec,
    headers::{header_map, status},
    images,
    reader::{Fields, Problems},
};
use crate::{finish, plan::Redirect};

pub(super) fn target(fields: &mut Fields<'_>) -> TargetSpec {
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
        && !finish::may_have_content(status)
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
