//! Routes of folders.

use super::*;

#[test]
fn every_field_of_a_folder_is_read() {
    let plan = compiled(&full());
    let Target::Files(folder) = &plan.routes[7].target else {
        panic!()
    };
    assert_eq!(
        (folder.root.to_str(), &*folder.prefix),
        (Some("/srv/dist"), "/assets/")
    );
    assert_eq!(
        (folder.index.as_deref(), folder.fallback.as_deref()),
        (Some("home.html"), Some("app/index.html"))
    );
    assert!(folder.listing && !folder.precompressed);
    assert!((folder.immutable.as_ref()).is_some_and(|names| names.matches("a.12345678.js")));
}

#[test]
fn a_mistake_in_a_folder_is_reported_at_its_place() {
    for (route, want) in [
        (
            json!({"files": {"folder": "/srv", "index": ".x"}}),
            "routes[0].files.index: \".x\": must be the name of a file",
        ),
        (
            json!({"files": {"folder": "/srv", "problem": "cannot be opened"}}),
            "routes[0].files.folder: \"/srv\": cannot be opened",
        ),
        (
            json!({"files": {"folder": "/srv"}, "pattern": "/*.js"}),
            "routes[0].pattern: \"/*.js\": must be a path as in /assets/*",
        ),
        (
            json!({"files": {"folder": "/srv"}, "methods": ["PUT"]}),
            "routes[0].methods: \"PUT\": has no effect on a route with files",
        ),
    ] {
        assert_refused(&with_route(&route), want);
    }
}
