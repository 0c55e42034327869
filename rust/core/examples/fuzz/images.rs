//! Images: a URL of an image is written in one spelling, and a query is read once.

use edgerouter_core::images::{ImageUrl, Parameters};

/// URLs that name images.
pub(crate) fn urls() -> Vec<Vec<u8>> {
    [
        &b"/photo.jpg?v=1"[..],
        b"https://Images.Example.com:8443/a/../b%20c.png?x={1}",
        b"http://[2001:db8::1]/",
        b"HTTPS://h.?a=b",
    ]
    .map(<[u8]>::to_vec)
    .into()
}

/// Queries with parameters of images.
pub(crate) fn queries() -> Vec<Vec<u8>> {
    [
        &b"url=%2Fa.jpg&w=320&h=200&f=auto&q=75&fit=cover&crop=top&dpr=2"[..],
        b"v=1&%77=320&a&=b&&c=d=e",
        b"w=1&w=2",
    ]
    .map(<[u8]>::to_vec)
    .into()
}

pub(crate) fn image_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(url) = ImageUrl::parse(text) else {
        return;
    };
    if let ImageUrl::Absolute { host, port, .. } = &url {
        assert!(!host.is_empty() && *port > 0, "{text:?}");
    }
    let written = url.to_string();
    assert!(written.is_ascii(), "{written:?}");
    let again = ImageUrl::parse(&written).expect("its own spelling is a URL");
    assert_eq!(again, url, "{text:?} {written:?}");
}

pub(crate) fn image_parameters(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else {
        return;
    };
    for has_url in [false, true] {
        let Ok((_, rest)) = Parameters::read(Some(query), has_url) else {
            continue;
        };
        // Nothing of an image is left to the origin, and what is left is left as it was.
        let (none, again) = Parameters::read(rest.as_deref(), has_url)
            .expect("no parameter is left, so none twice");
        assert_eq!((none, &again), (Parameters::default(), &rest), "{query:?}");
        let mut parts = query.split('&');
        for part in rest.iter().flat_map(|rest| rest.split('&')) {
            assert!(parts.any(|known| known == part), "{query:?}");
        }
    }
}
