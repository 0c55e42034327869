use crate::http::Fields;
use http::StatusCode;

use super::*;

fn found(fields: &[(&'static str, &str)]) -> String {
    let policy = policy(|spec| spec.cookie = Some("session".into()));
    let mut headers = Fields::new();
    for (name, value) in fields {
        headers.append(*name, http::HeaderValue::from_str(value).unwrap());
    }
    match extract(&policy, &headers) {
        Extracted::Absent => "absent".into(),
        Extracted::Malformed(error) => error.as_str().into(),
        Extracted::Token(token) => match check_form(token) {
            Ok(()) => format!("token {}", str::from_utf8(token).unwrap()),
            Err(error) => error.as_str().into(),
        },
    }
}

#[test]
fn the_token_is_found_where_it_may_stand() {
    for (fields, want) in [
        (&[][..], "absent"),
        (&[("authorization", "Bearer a.b.c")], "token a.b.c"),
        (&[("authorization", "bearer a.b.c")], "token a.b.c"),
        (&[("authorization", "BEARER   a.b.c ")], "token a.b.c"),
        (&[("authorization", "Bearer")], "absent"),
        (&[("authorization", "Bearer ")], "absent"),
        (&[("authorization", "Bearer a b")], "malformed"),
        (&[("authorization", "Bearer a,Bearer b")], "malformed"),
        (&[("authorization", "Bearera.b.c")], "absent"),
        (&[("authorization", "Basic YTpi")], "absent"),
        (&[("authorization", "")], "absent"),
        (
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            "request",
        ),
        (&[("cookie", "a=1; session=a.b.c; b=2")], "token a.b.c"),
        (&[("cookie", "Session=a.b.c")], "absent"),
        (&[("cookie", "session=")], "absent"),
        (&[("cookie", "session=x; session=x")], "token x"),
        (&[("cookie", "session=x; session=y")], "request"),
        (
            &[("cookie", "session=x"), ("cookie", "session=y")],
            "request",
        ),
        (
            &[("authorization", "Bearer h"), ("cookie", "session=c")],
            "token h",
        ),
        (
            &[("authorization", "Basic YTpi"), ("cookie", "session=c")],
            "token c",
        ),
    ] {
        assert_eq!(found(fields), want, "{fields:?}");
    }
}

#[test]
fn a_cookie_counts_only_when_the_policy_names_it() {
    let mut headers = Fields::new();
    headers.append("cookie", http::HeaderValue::from_static("session=a.b.c"));
    assert_eq!(extract(&policy(|_| {}), &headers), Extracted::Absent);
}

#[test]
fn challenges_follow_rfc_6750() {
    let request = TokenError::Request("two");
    let expired = TokenError::Expired { seconds: 3 };
    let forged = TokenError::BadSignature { kid: KeyId::NONE };
    for (status, error, want, field) in [
        (403, None, 401, r#"Bearer realm="storefront""#),
        (401, None, 401, r#"Bearer realm="storefront""#),
        (403, Some(&expired), 403, ""),
        (403, Some(&forged), 403, ""),
        (
            401,
            Some(&expired),
            401,
            r#"Bearer realm="storefront", error="invalid_token", error_description="the token has expired""#,
        ),
        (
            401,
            Some(&forged),
            401,
            r#"Bearer realm="storefront", error="invalid_token", error_description="the token was refused""#,
        ),
        (
            403,
            Some(&request),
            400,
            r#"Bearer realm="storefront", error="invalid_request", error_description="the credentials are malformed""#,
        ),
        (401, Some(&TokenError::NoKey), 503, ""),
    ] {
        let policy = policy(|spec| spec.invalid_status = status);
        let (got, value) = challenge(&policy, error);
        assert_eq!(got, StatusCode::from_u16(want).unwrap(), "{error:?}");
        let value = value.map_or(String::new(), |value| value.to_str().unwrap().to_owned());
        assert_eq!(value, field, "{error:?}");
    }
    let quoted = policy(|spec| spec.realm = r#"a "b" \c"#.into());
    let (_, value) = challenge(&quoted, None);
    assert_eq!(value.unwrap(), r#"Bearer realm="a \"b\" \\c""#);
}
