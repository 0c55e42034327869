//! The certificate of a client, and the request fields that say who it is.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;

use super::{CertificateFacts, hexadecimal};
use crate::{
    http::FieldName,
    plan::{ClientAuthentication, ClientFact},
};

/// The verified certificate of a client, for the callables that its requests reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject, names, number and validity.
    pub facts: CertificateFacts,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// The certificate.
    pub der: Box<[u8]>,
}

impl ClientCertificate {
    /// Of a certificate in DER.
    pub fn new(der: &[u8], facts: CertificateFacts) -> Self {
        Self {
            facts,
            fingerprint: hexadecimal(digest(&SHA256, der).as_ref()),
            der: der.into(),
        }
    }
}

/// The fields for a verified certificate, given in DER and by its facts. A fact that it does not have gets no field.
pub fn client_fields(
    policy: &ClientAuthentication,
    der: &[u8],
    facts: &CertificateFacts,
) -> Vec<(FieldName, HeaderValue)> {
    let fields = policy.fields.iter();
    fields
        .filter_map(|(fact, field)| {
            let text = match fact {
                ClientFact::Certificate => format!(":{}:", STANDARD.encode(der)),
                ClientFact::Fingerprint => hexadecimal(digest(&SHA256, der).as_ref()),
                ClientFact::Subject => facts.subject.clone(),
                ClientFact::Names => facts.names.join(", "),
                ClientFact::Serial => facts.serial.clone(),
            };
            let value = HeaderValue::from_str(&text).ok()?;
            (!text.is_empty()).then(|| (field.clone(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::secret::{FileSecret, Secret};

    #[test]
    fn each_fact_has_its_field_and_an_absent_fact_has_none() {
        let policy = ClientAuthentication {
            ca: FileSecret {
                secret: Secret(Vec::new()),
                file: None,
            },
            required: true,
            fields: ClientFact::ALL
                .into_iter()
                .map(|fact| {
                    let name = format!("x-{}", fact.as_str());
                    (fact, FieldName::from_bytes(name.as_bytes()).unwrap())
                })
                .collect(),
        };
        let facts = CertificateFacts {
            subject: String::new(),
            names: vec!["DNS:a.example".to_owned(), "URI:spiffe://a/b".to_owned()],
            serial: "0a".to_owned(),
            valid: (0, 0),
        };
        let fields = client_fields(&policy, b"abc", &facts);
        let shown: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(
            shown,
            [
                ("x-certificate", ":YWJj:"),
                (
                    "x-fingerprint",
                    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
                ),
                ("x-names", "DNS:a.example, URI:spiffe://a/b"),
                ("x-serial", "0a"),
            ]
        );
    }
}
