//! Lists of URLs to prefetch, and the next-page model.

use super::*;
use crate::plan::Predict;

#[test]
fn every_field_of_a_prefetched_list_is_read() {
    let plan = compiled(&full());
    let list = &plan.prefetch[0];
    let urls: Vec<(Scheme, &str, &str)> = list
        .targets
        .iter()
        .map(|target| {
            (
                target.scheme,
                target.authority.to_str().unwrap(),
                target.path_and_query.as_str(),
            )
        })
        .collect();
    assert_eq!(
        urls,
        [
            (Scheme::Https, "www.example.com", "/b/popular?page=1"),
            (Scheme::Http, "other.example.com:8080", "/b/config")
        ]
    );
    assert_eq!(
        (list.every.map(|every| every.as_secs()), list.on_start),
        (Some(60), false)
    );
    assert_eq!(list.headers.len(), 1);
}

#[test]
fn every_field_of_the_next_page_model_is_read() {
    let plan = compiled(&full());
    assert_eq!(
        plan.routes[6].predict,
        Some(Predict {
            confidence: 0.4,
            support: 5,
            pages: 3,
            requests_per_minute: 30,
            bytes_per_minute: 1 << 20,
            sample: 0.5,
        })
    );
    assert!(plan.predicts);
}
