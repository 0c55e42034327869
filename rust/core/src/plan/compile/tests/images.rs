//! Policies of image variants, and the sources of images.

use super::*;
use crate::{images::ImageFormat, plan::ImagePolicy};

#[test]
fn every_field_of_an_image_policy_and_its_sources_is_read() {
    let plan = compiled(&full());
    let Target::Images(sources) = &plan.routes[8].target else {
        panic!()
    };
    assert_eq!(sources.origins.len(), 1);
    let hosts: Vec<String> = sources
        .foreign
        .hosts
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(hosts, ["https://*.img.example", "http://10.1.2.3:8080"]);
    assert!(
        sources
            .foreign
            .networks
            .contains("10.1.2.9".parse().unwrap())
    );
    assert!(sources.foreign.allows(Scheme::Https, "a.img.example", 443));
    assert!(!sources.foreign.allows(Scheme::Http, "a.img.example", 80));
    assert_eq!(
        plan.routes[8].images.as_deref(),
        Some(&ImagePolicy {
            widths: Some([100, 200].into()),
            heights: Some([50].into()),
            qualities: Some([50, 80].into()),
            quality: 80,
            formats: [ImageFormat::Webp, ImageFormat::Jpeg].into(),
            svg: true,
            avif: false,
            hints: false,
        })
    );
}

#[test]
fn a_mistake_in_an_image_policy_is_reported_at_its_place() {
    for (route, want) in [
        (
            json!({"images": {"widths": null}}),
            "routes[0].images.widths: null: would let anybody have any number of variants made",
        ),
        (
            json!({"images": {"widths": [0]}}),
            "routes[0].images.widths[0]: 0: must be a whole number from 1 to 16384",
        ),
        (
            json!({"images": {"formats": ["gif"]}}),
            "routes[0].images.formats[0]: \"gif\": must be one of avif, webp, jpeg, png",
        ),
        (
            json!({"images": {}, "cache": {"enabled": false}}),
            "routes[0].images: needs a route that stores",
        ),
        (
            json!({"images": {}, "respond": {"body": "x"}}),
            "routes[0].images: is for routes that go to an origin",
        ),
        (
            json!({"image_sources": {}}),
            "routes[0].image_sources: must name an origin or a host",
        ),
        (
            json!({"image_sources": {"origins": ["x"]}}),
            "routes[0].image_sources.origins[0]: \"x\": names no origin or group",
        ),
        (
            json!({"image_sources": {"origins": ["o"]}, "cache": {"ttl": 5}}),
            "routes[0].cache: has no effect without hosts of others",
        ),
    ] {
        assert_refused(&with_route(&route), want);
    }
}
