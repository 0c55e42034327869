//! Redirects, fixed responses, error pages and edited fields.

use super::*;

#[test]
fn every_kind_of_response_is_read() {
    let plan = compiled(&full());
    assert_eq!(plan.routes[0].errors[0].0, StatusCode::NOT_FOUND);
    assert!(matches!(plan.routes[2].target, Target::Redirect(ref redirect) if !redirect.query));
    let worker = &plan.routes[9];
    assert_eq!(
        (&*worker.label, plan.marks_personal),
        ("www.example.com/sw.js", true)
    );
    assert!(matches!(&worker.target, Target::Respond(fixed) if fixed.headers.len() == 5));
}

#[test]
fn a_mistake_in_a_response_is_reported_at_its_place() {
    for (route, want) in [
        (
            json!({"pattern": "/{id}", "redirect": {"location": "/x/{di}"}}),
            "routes[0].redirect.location: \"/x/{di}\": has {di}, which the pattern \"/{id}\" has not; did you mean {id}?",
        ),
        (
            json!({"pattern": "/{a:path}", "redirect": {"location": "/x/{a:path}"}}),
            "here it is {a}",
        ),
        (
            json!({"redirect": {"location": "example.com"}}),
            "routes[0].redirect.location: \"example.com\": must be a URL",
        ),
        (
            json!({"redirect": {"location": "/", "status": 200}}),
            "routes[0].redirect.status: 200: must be 301, 302, 303, 307 or 308",
        ),
        (
            json!({"redirect": {"location": "/a\r\nx: y"}}),
            "routes[0].redirect.location:",
        ),
        (
            json!({"rewrite": {"pattern": "/a", "to": "/{b}"}}),
            "routes[0].rewrite.to: \"/{b}\": has {b}, which the pattern \"/a\" has not; it has none",
        ),
        (
            json!({"errors": {"200": "/x"}}),
            "routes[0].errors.200: must be the page of an error status",
        ),
        (
            json!({"errors": {"502": 5}}),
            "routes[0].errors.502: 5: must be a path that starts with /, or a table with file or body",
        ),
        (
            json!({"errors": {"502": {"file": "x.html", "problem": "cannot be read"}}}),
            "routes[0].errors.502.file: \"x.html\": cannot be read",
        ),
        (
            json!({"errors": {"502": {"file": "x.html"}}}),
            "routes[0].errors.502: must have file, or body: exactly one",
        ),
        (
            json!({"errors": {"502": {"body": "x".repeat((1 << 20) + 1)}}}),
            "routes[0].errors.502: is larger than 1048576 bytes",
        ),
        (
            json!({"errors": {"502": {"body": "x", "content_type": "html"}}}),
            "routes[0].errors.502.content_type: \"html\": must be a media type",
        ),
        (
            json!({"errors": {"502": {"body": "x", "colour": "red"}}}),
            "routes[0].errors.502.colour: is not a field",
        ),
        (
            json!({"headers": {"response": {"set": {"Connection": "x"}}}}),
            "routes[0].headers.response.set.Connection: \"Connection\": belongs to the connection",
        ),
        (
            json!({"headers": {"response": {"set": {"x y": "x"}}}}),
            "routes[0].headers.response.set[\"x y\"]: \"x y\": is not a field name",
        ),
        (
            json!({"headers": {"response": {"set": {"x": "a\nb"}}}}),
            "routes[0].headers.response.set.x: has a control character",
        ),
        (
            json!({"headers": {"respond": {}}}),
            "routes[0].headers.respond: is not a field; did you mean response?",
        ),
        (
            json!({"respond": {"status": 204, "body": "x"}}),
            "routes[0].respond.body: must be empty",
        ),
    ] {
        assert_refused(&with_route(&route), want);
    }
}
