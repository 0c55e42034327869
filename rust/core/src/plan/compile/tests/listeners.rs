//! Listeners, their certificates and the terms of these.

use super::*;
use crate::plan::{ChallengeKind, ClientFact, HttpProtocol, ProxyRule, SecurityPolicy};

#[test]
fn every_field_of_a_listener_is_read() {
    let plan = compiled(&full());
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
}

#[test]
fn every_term_of_a_certificate_is_read() {
    let plan = compiled(&full());
    let acme = plan.listeners[0].tls[0].acme.as_ref().unwrap();
    assert_eq!(*acme.names, ["www.example.com".into()]);
    assert_eq!(acme.storage.to_str(), Some("/var/lib/edgerouter/acme"));
    assert_eq!(acme.email.as_deref(), Some("ops@example.com"));
    assert_eq!(
        *acme.challenges,
        [ChallengeKind::TlsAlpn01, ChallengeKind::Dns01]
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
            json!({"issuers": [{"directory": "https://me:secret@a.example/d"}]}),
            "issuers[0].directory: must have no user or password",
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
