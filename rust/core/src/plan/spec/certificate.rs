//! Certificates with their keys, and other secrets whose file is named where it cannot be used.

use serde_json::Value;

use super::{
    reader::{Fields, Problems},
    secret::secret,
};
use crate::{plan::Certificate, secret::FileSecret};

pub(super) fn file_secret(value: &Value, path: String, problems: &Problems) -> Option<FileSecret> {
    let file = value.get("file").and_then(Value::as_str).map(Into::into);
    secret(value, path, problems).map(|secret| FileSecret { secret, file })
}

pub(super) fn certificate(value: &Value, path: String, problems: &Problems) -> Option<Certificate> {
    let mut fields = Fields::open(value, path, problems)?;
    fields.secret = true;
    let mut pem = |name: &'static str| {
        let value = fields.required(name)?;
        file_secret(value, fields.at(name), problems)
    };
    let (chain, key) = (pem("chain"), pem("key"));
    let ocsp = fields.some("ocsp");
    let ocsp = ocsp.and_then(|value| file_secret(value, fields.at("ocsp"), problems));
    fields.end();
    Some(Certificate {
        chain: chain?,
        key: key?,
        ocsp,
    })
}
