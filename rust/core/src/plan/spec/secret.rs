//! `SECRET`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::reader::Problems;
use crate::secret::Secret;

/// A problem never contains any of it, only the reason why it could not be read.
pub(super) fn secret(value: &Value, path: String, problems: &Problems) -> Option<Secret> {
    const FORM: &str = "must be a secret: env(\"NAME\"), secret_file(path) or a value";
    let Some(map) = value.as_object() else {
        problems.add(path, None, FORM);
        return None;
    };
    let text = |name: &str| map.get(name).and_then(Value::as_str);
    if let Some(problem) = text("problem") {
        let source = match (text("env"), text("file")) {
            (Some(name), _) => format!("environment variable {name}: "),
            (_, Some(file)) => format!("file {file}: "),
            _ => String::new(),
        };
        problems.add(path, None, format!("{source}{problem}"));
        return None;
    }
    let bytes = match (text("value"), text("base64")) {
        (Some(value), None) => value.as_bytes().to_vec(),
        (None, Some(encoded)) => match STANDARD.decode(encoded.trim()) {
            Ok(bytes) => bytes,
            Err(_) => {
                problems.add(path, None, "is not base64 (RFC 4648 §4)");
                return None;
            }
        },
        _ => {
            problems.add(path, None, FORM);
            return None;
        }
    };
    if let Some(unknown) = map
        .keys()
        .find(|key| !matches!(key.as_str(), "value" | "base64" | "env" | "file"))
    {
        problems.add(
            path.clone(),
            None,
            format!("has the unknown field {unknown:?}"),
        );
    }
    if bytes.is_empty() {
        problems.add(path, None, "is empty");
        return None;
    }
    Some(Secret(bytes))
}
