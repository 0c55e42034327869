//! Callables, and the hooks that call them.

use serde_json::Value;

use super::{
    CallableSpec, HookPhase, HookSpec,
    reader::{Fields, Problems},
};
use crate::plan::FailMode;

pub(super) fn callable(value: &Value, path: String, problems: &Problems) -> Option<CallableSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let name = fields.required_text("name").unwrap_or_default().to_owned();
    let inline = fields.flag("inline", false);
    let serial = fields.flag("serial", false);
    if inline && serial {
        problems.add(
            fields.at("inline"),
            Some("true".to_owned()),
            "can't be together with serial: it runs on the worker itself",
        );
    }
    let timeout = fields.maybe_timeout("timeout");
    let modes = [("closed", FailMode::Closed), ("open", FailMode::Open)];
    let fail = fields.choice("fail", &modes, FailMode::Closed);
    let varies = varies(&mut fields);
    fields.end();
    Some(CallableSpec {
        name,
        inline,
        serial,
        timeout,
        fail,
        varies,
    })
}

fn varies(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let value = fields.some("varies")?;
    let items = fields.list_of("varies", value);
    let texts = fields.only_texts(items).into_iter();
    Some(texts.map(|(_, text)| text.to_owned()).collect())
}

pub(super) fn hook(value: &Value, path: String, problems: &Problems) -> Option<HookSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let phases = [
        ("viewer_request", HookPhase::ViewerRequest),
        ("origin_request", HookPhase::OriginRequest),
        ("origin_response", HookPhase::OriginResponse),
        ("viewer_response", HookPhase::ViewerResponse),
    ];
    let phase = fields
        .required("phase")
        .and_then(|value| fields.choice_of("phase", value, &phases));
    let pattern = fields.required_text("pattern").map(str::to_owned);
    let host = fields.text("host").map(str::to_owned);
    let call = fields.required("call");
    let call = call.and_then(|value| fields.whole_of("call", value, 0, u64::from(u32::MAX), ""));
    let varies = varies(&mut fields);
    let transforms = fields.flag("transforms", false);
    if transforms
        && matches!(
            phase,
            Some(HookPhase::ViewerRequest | HookPhase::OriginRequest)
        )
    {
        fields.problems.add(
            fields.at("transforms"),
            Some("true".to_owned()),
            "is for origin_response and viewer_response, which see the content of responses; remove it",
        );
    }
    fields.end();
    Some(HookSpec {
        phase,
        pattern,
        host,
        call,
        varies,
        transforms,
    })
}
