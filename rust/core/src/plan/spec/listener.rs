//! Listeners: an address, the TLS policies on it, and the protocols.

use serde_json::Value;

use super::{
    acme,
    certificate::{certificate, file_secret},
    reader::{Fields, Problems},
    site::networks,
    spelling::listed,
};
use crate::{
    admit,
    http::FieldName,
    outcome::Word as _,
    plan::listener::{
        ClientAuthentication, ClientFact, HttpProtocol, ListenAddress, Listener, MOST_LISTENERS,
        OUTDATED_SECURITY_POLICIES, SecurityPolicy, TlsPolicy,
    },
};

/// Reads all listeners; no two may have the same address.
pub(super) fn all(fields: &mut Fields<'_>) -> Vec<Listener> {
    let listeners: Vec<Listener> = fields.each("listeners", listener);
    if listeners.len() > MOST_LISTENERS {
        fields.problems.add(
            "listeners",
            Some(listeners.len().to_string()),
            format!("must be at most {MOST_LISTENERS}"),
        );
    }
    for (at, one) in listeners.iter().enumerate() {
        let before = listeners.iter().take(at);
        if before
            .clone()
            .any(|other| other.address.excludes(&one.address))
        {
            fields.problems.add(
                format!("listeners[{at}].address"),
                Some(format!("\"{}\"", one.address)),
                "is listened on already: give all of its TLS policies to one listener",
            );
        }
    }
    acme::agree(&listeners, fields.problems);
    listeners
}

fn listener(value: &Value, path: String, problems: &Problems) -> Option<Listener> {
    let mut fields = Fields::open(value, path, problems)?;
    let address = fields.required_text("address");
    let address = address.and_then(|text| {
        let address = ListenAddress::parse(text);
        if address.is_none() {
            problems.add(
                fields.at("address"),
                Some(format!("{text:?}")),
                "must be IP:PORT such as \"0.0.0.0:443\" or \"[::]:443\", or unix: and an absolute path of at most 107 bytes",
            );
        }
        address
    });
    let tls = fields.each("tls", policy);
    let protocols = protocols(&mut fields, !tls.is_empty());
    let proxies = networks(fields.texts("proxy_protocol"), problems);
    fields.end();
    Some(Listener {
        address: address?,
        tls,
        protocols,
        proxies,
    })
}

fn protocols(fields: &mut Fields<'_>, is_secured: bool) -> Vec<HttpProtocol> {
    use HttpProtocol::{Http1, Http2};
    let Some(value) = fields.some("http") else {
        return if is_secured {
            vec![Http2, Http1]
        } else {
            vec![Http1]
        };
    };
    let items = fields.list_of("http", value);
    let texts = fields.only_texts(items);
    let mut found = Vec::new();
    for (path, text) in texts {
        let known = [Http2, Http1];
        let protocol = known.iter().find(|known| known.alpn() == text.as_bytes());
        let why = match protocol {
            Some(protocol) if !found.contains(protocol) => {
                found.push(*protocol);
                continue;
            }
            Some(_) => "is named twice",
            None => "is not a protocol of HTTP over TCP: those are \"h2\" and \"http/1.1\"",
        };
        fields.problems.add(path, Some(format!("{text:?}")), why);
    }
    if value.as_array().is_some_and(Vec::is_empty) {
        let why = "must name at least one protocol: \"h2\" or \"http/1.1\"";
        fields.problems.add(fields.at("http"), None, why);
    }
    found
}

fn policy(value: &Value, path: String, problems: &Problems) -> Option<TlsPolicy> {
    let mut fields = Fields::open(value, path, problems)?;
    let acme = fields.some("acme");
    let obtained = acme.and_then(|value| acme::terms(value, fields.at("acme"), problems));
    let declared = match acme {
        Some(_) => false,
        None => fields.required("certificates").is_some(),
    };
    let certificates = fields.each("certificates", certificate);
    let is_empty = value
        .get("certificates")
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty);
    if declared && is_empty {
        let why =
            "must have at least one certificate: Certificate(\"fullchain.pem\", \"privkey.pem\")";
        problems.add(fields.at("certificates"), None, why);
    }
    let security = fields.raw("policy").map(|value| security(&fields, value));
    let client = client(&mut fields);
    fields.end();
    if acme.is_some() && obtained.is_none() {
        return None;
    }
    Some(TlsPolicy {
        certificates,
        acme: obtained,
        client,
        security: security.unwrap_or(Some(SecurityPolicy::Tls12From2021))?,
    })
}

fn client(fields: &mut Fields<'_>) -> Option<ClientAuthentication> {
    let ca = fields.some("client_ca");
    let is_declared = ca.is_some();
    let ca = ca.and_then(|value| file_secret(value, fields.at("client_ca"), fields.problems));
    let modes = [("required", true), ("optional", false)];
    let mode = fields.some("client_certificates");
    let required = mode.and_then(|value| fields.choice_of("client_certificates", value, &modes));
    let named = fields.map("client_fields");
    if !is_declared {
        let why =
            "has no effect: give client_ca, the authorities that issue the certificates of clients";
        for (name, is_given) in [
            ("client_certificates", mode.is_some()),
            ("client_fields", !named.is_empty()),
        ] {
            if is_given {
                fields.problems.add(fields.at(name), None, why);
            }
        }
    }
    let mut found: Vec<(ClientFact, FieldName)> = Vec::new();
    for (path, fact, value) in named {
        let shown = Some(format!("{fact:?}"));
        let Some(fact) = ClientFact::ALL
            .into_iter()
            .find(|known| known.as_str() == fact)
        else {
            let why = format!("must be one of {}", listed(ClientFact::WORDS));
            fields.problems.add(path, shown, why);
            continue;
        };
        let field = value
            .as_str()
            .and_then(|text| FieldName::from_bytes(text.as_bytes()).ok());
        match field {
            Some(field) if found.iter().any(|(_, other)| *other == field) => {
                fields.problems.add(path, Some(format!("{:?}", field.as_str())), "is the field of another fact");
            }
            Some(field) if admit::may_identify(field.as_str()) => found.push((fact, field)),
            _ => fields.problems.add(
                path,
                Some(value.to_string()),
                "must be the name of a request field that neither frames nor routes a request, such as \"Client-Cert\"",
            ),
        }
    }
    Some(ClientAuthentication {
        ca: ca?,
        required: required.unwrap_or(true),
        fields: found,
    })
}

fn security(fields: &Fields<'_>, value: &Value) -> Option<SecurityPolicy> {
    let text = fields.text_of("policy", value)?;
    let known = SecurityPolicy::ALL;
    if let Some(policy) = known.iter().find(|policy| policy.as_str() == text) {
        return Some(*policy);
    }
    let why = if OUTDATED_SECURITY_POLICIES.contains(&text) {
        format!(
            "allows protocols or ciphers that are no longer secure (RFC 8996, RFC 9325); the nearest policy is {:?}",
            SecurityPolicy::Tls12From2021.as_str()
        )
    } else {
        format!("must be one of {}", listed(SecurityPolicy::WORDS))
    };
    fields.wrong("policy", value, why);
    None
}
