//! Field values: parsed values stay within their bounds, and written values can be read back.

use std::{path::Path, sync::LazyLock};

use edgerouter_core::{
    files::path,
    finish,
    http::{
        FieldName, Fields,
        cache_control::{MOST_SECONDS, RequestDirectives, ResponseDirectives},
        cookie as cookies, date as dates,
        etag::{self as etags, EntityTag},
        header,
        range::{self as ranges, RangeRequest},
        structured::{Bare, dictionary},
        uri as uris,
    },
    outward::Outward,
    plan::{FileFolder, Plan, Scheme, Select, compile},
};
use http::HeaderValue;

use super::{lines, value};

/// A path names a file only if it stays in the folder, is not hidden, and is the one spelling of its name.
pub(crate) fn file_path(data: &[u8]) {
    static FOLDER: LazyLock<FileFolder> = LazyLock::new(|| FileFolder {
        root: Path::new("/srv").into(),
        prefix: "/assets/".into(),
        index: None,
        fallback: None,
        precompressed: true,
        listing: false,
        immutable: None,
    });
    let Ok(path) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(found) = path::locate(&FOLDER, path) else {
        return;
    };
    assert!(path.starts_with("/assets"));
    for name in found.names.split(|&byte| byte == b'/') {
        assert!(found.names.is_empty() || !name.is_empty());
        assert!(name.len() <= path::LONGEST_NAME);
        assert!(!name.iter().any(u8::is_ascii_control));
        assert!(name == b".well-known" || !name.starts_with(b"."));
    }
    // Escaped and located again it is the same file.
    let mut again = String::from("/assets/");
    for byte in &found.names {
        if *byte == b'/' {
            again.push('/');
        } else {
            again.push_str(&format!("%{byte:02x}"));
        }
    }
    if found.is_folder && !found.names.is_empty() {
        again.push('/');
    }
    if !found.names.is_empty() {
        assert_eq!(path::locate(&FOLDER, &again), Ok(found));
    }
}

pub(crate) fn cache_control(data: &[u8]) {
    let mut headers = Fields::new();
    for line in data.split(|&byte| byte == b'\n').take(8) {
        headers.append(header::CACHE_CONTROL, value(line));
    }
    let seconds = |found: &ResponseDirectives| {
        [
            found.max_age,
            found.s_maxage,
            found.stale_while_revalidate,
            found.stale_if_error,
        ]
    };
    let found = ResponseDirectives::parse(&headers, &[]);
    assert!(
        seconds(&found)
            .into_iter()
            .flatten()
            .all(|n| n <= MOST_SECONDS)
    );
    let requested = RequestDirectives::parse(&headers);
    assert!(requested.max_age.is_none_or(|n| n <= MOST_SECONDS));

    // A stricter line always counts, whatever other lines say.
    headers.append(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-store, max-age=5"),
    );
    let stricter = ResponseDirectives::parse(&headers, &[]);
    assert!(stricter.no_store && stricter.max_age.is_some_and(|n| n <= 5));
    assert_eq!(stricter.private, found.private);
    let stricter = RequestDirectives::parse(&headers);
    assert!(stricter.no_store && stricter.max_age.is_some_and(|n| n <= 5));

    let target = header::CDN_CACHE_CONTROL;
    headers.insert(target, value(data));
    let targeted = ResponseDirectives::parse(&headers, &[target.into()]);
    assert_eq!(
        targeted.targeted,
        dictionary([value(data).as_bytes()]).is_some_and(|members| !members.is_empty())
    );
    assert!(targeted.targeted || targeted.no_store);
    assert!(targeted.unshared_fields().count() <= data.len() + 8);
}

/// An origin at `http://app.internal/app` behind `/shop/*`.
static SHOP: LazyLock<Plan> = LazyLock::new(|| {
    let plan = br#"{
        "name": "t",
        "origins": [{"name": "o", "url": "http://app.internal/app"}],
        "routes": [{"pattern": "/shop/*", "to": "o", "strip_prefix": "/shop"}]
    }"#;
    compile(plan).unwrap_or_else(|problems| panic!("{problems:?}"))
});

pub(crate) fn outward(data: &[u8]) {
    let viewer = "shop.example";
    let (origin, route) = (SHOP.origins.first().unwrap(), SHOP.routes.first().unwrap());
    let outward = Outward::new(origin, route, viewer, viewer, Scheme::Https).unwrap();
    let said = value(data);
    let mut headers = Fields::new();
    for name in ["location", "content-location", "refresh", "set-cookie"] {
        headers.insert(FieldName::from_static(name), said.clone());
    }
    let mut own = Fields::new();
    outward.apply(&mut headers, &mut own);
    let seen = headers.get(header::LOCATION).unwrap();
    assert_eq!(own.contains_key(header::LOCATION), seen != said);
    if seen != said {
        let seen = seen.as_bytes();
        let ours = [
            &b"https://shop.example"[..],
            b"http://shop.example",
            b"//shop.example",
        ];
        let after = ours.iter().find_map(|start| seen.strip_prefix(*start));
        // The redirect stays on the viewer's host: a full URL of that host, or a path that no client reads as a host.
        assert!(
            after.map_or(
                seen.starts_with(b"/") && !seen.starts_with(b"//") && !seen.starts_with(b"/\\"),
                |rest| rest.first().is_none_or(|byte| b"/?#\\".contains(byte)),
            ),
            "{said:?} became {seen:?}"
        );
    }
    let cookies = headers.get_all(header::SET_COOKIE).iter();
    assert_eq!(cookies.count(), 1);
}

pub(crate) fn cookie(data: &[u8]) {
    let mut headers = Fields::new();
    for line in data.split(|&byte| byte == b'\n').take(8) {
        headers.append(header::COOKIE, value(line));
    }
    let before: Vec<(Vec<u8>, Vec<u8>)> = owned(&headers);
    for (name, text) in &before {
        assert!(!name.is_empty() && !name.iter().any(|byte| b";=".contains(byte)));
        assert!(!text.contains(&b';'));
        if let Ok(name) = std::str::from_utf8(name) {
            assert!(cookies::get(&headers, name).is_some());
        }
    }
    let mut kept = headers.clone();
    cookies::retain(&mut kept, |_| true);
    assert_eq!(owned(&kept), before, "rewriting changes what is said");
    if let Some((name, _)) = before.first()
        && let Ok(name) = std::str::from_utf8(name)
    {
        cookies::remove(&mut headers, name);
        assert_eq!(cookies::get(&headers, name), None);
        let others: Vec<_> = before
            .iter()
            .filter(|(known, _)| known != name.as_bytes())
            .cloned()
            .collect();
        assert_eq!(owned(&headers), others);
    }
    assert!(cookies::parse(data).count() <= data.len());
}

fn owned(headers: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    cookies::pairs(headers)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

pub(crate) fn date(data: &[u8]) {
    if let Some(seconds) = dates::parse(data) {
        // A leap second at the end of the year 9999 is written as the second before it.
        const END: u64 = 253_402_300_799;
        assert_eq!(
            dates::parse(dates::format(seconds).as_bytes()),
            Some(seconds.min(END))
        );
    }
    let seconds = data
        .iter()
        .take(8)
        .fold(0u64, |n, &byte| n << 8 | u64::from(byte));
    let written = dates::format(seconds);
    assert_eq!(written.len(), 29);
    assert_eq!(
        dates::parse(written.as_bytes()),
        Some(seconds.min(253_402_300_799))
    );
}

pub(crate) fn etag(data: &[u8]) {
    let stored = value(data);
    let mut request = Fields::new();
    request.insert(header::IF_NONE_MATCH, stored.clone());
    request.insert(header::IF_MATCH, stored.clone());
    // Any text gives some result.
    for tag in [
        None,
        Some((&HeaderValue::from_static("W/\"a\"")).into()),
        Some((&stored).into()),
    ] {
        assert!(etags::if_none_match(&request, tag).is_some());
        assert!(etags::if_match(&request, tag).is_some());
    }
    let Some(tag) = EntityTag::parse(stored.as_bytes()) else {
        return;
    };
    assert!(tag.weak_eq(&tag) && tag.strong_eq(&tag) != tag.weak);
    // A tag is found at any place of a list.
    let text = stored.as_bytes().trim_ascii();
    for list in [
        text.to_vec(),
        [b"\"x\", ", text].concat(),
        [text, b", \"x\""].concat(),
    ] {
        request.insert(header::IF_NONE_MATCH, value(&list));
        request.insert(header::IF_MATCH, value(&list));
        assert_eq!(
            etags::if_none_match(&request, Some((&stored).into())),
            Some(true)
        );
        let strong = etags::if_match(&request, Some((&stored).into())) == Some(true);
        assert_eq!(strong, !tag.weak);
    }
}

pub(crate) fn range(data: &[u8]) {
    let (length, field) = data.split_at(data.len().min(2));
    let small = length
        .iter()
        .fold(0u64, |n, &byte| n << 8 | u64::from(byte));
    for length in [small, small % 11, u64::MAX] {
        for field in [value(field), value(data)] {
            let RangeRequest::Satisfiable(found) = ranges::parse((&field).into(), length) else {
                continue;
            };
            assert!(!found.is_empty() && found.len() <= 16);
            assert!(
                found
                    .iter()
                    .all(|range| range.first <= range.last && range.last < length)
            );
            if length < u64::MAX {
                let total: u64 = found.iter().map(|range| range.last - range.first + 1).sum();
                assert!(total <= length);
                assert!(finish::partial(&mut Fields::new(), &found, length, 7).is_some());
            }
        }
    }
    let mut request = Fields::new();
    request.insert(header::IF_RANGE, value(data));
    assert!(!ranges::if_range(&request, &Fields::new()));
}

pub(crate) fn structured(data: &[u8]) {
    let Some(members) = dictionary(data.split(|&byte| byte == b'\n')) else {
        return;
    };
    for (at, (key, bare)) in members.iter().enumerate() {
        assert!(
            key.first()
                .is_some_and(|b| b.is_ascii_lowercase() || *b == b'*')
        );
        assert!(
            !members.iter().skip(at + 1).any(|(other, _)| other == key),
            "a key twice"
        );
        if let Bare::Integer(digits) = bare {
            let number: i64 = std::str::from_utf8(digits).unwrap().parse().unwrap();
            assert!(number.abs() < 1_000_000_000_000_000);
        }
        if let Bare::String(text) = bare {
            let again = [b"a=\"", *text, b"\""].concat();
            let alone = dictionary([&again[..]]).expect("the text of a string is one");
            assert_eq!(alone, [(&b"a"[..], *bare)]);
        }
    }
}

pub(crate) fn uri(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(once) = uris::normalise_path(&text) {
        assert_eq!(
            uris::normalise_path(&once).as_deref(),
            Ok(&*once),
            "not idempotent"
        );
        assert!(once.starts_with('/'));
        assert!(
            !once
                .split('/')
                .any(|segment| segment == "." || segment == "..")
        );
        assert!(once.len() <= text.len() + 1);
    }
    let parts = lines(data, 2);
    let query = parts.first().map_or("", String::as_str);
    let name = parts.get(1).map_or("a", String::as_str);
    // Every pair is selected by exactly one of a policy and its opposite.
    let select = |select: &Select| {
        let mut out = Vec::new();
        uris::select_query(query, select, data.len().is_multiple_of(2), &mut out);
        String::from_utf8(out).unwrap()
    };
    let chosen = Select::Only(vec![name.into()]);
    let only = select(&chosen);
    let except = select(&Select::Except(vec![name.into()]));
    let pairs = |query: &str| uris::query_pairs(query).count();
    assert_eq!(pairs(&only) + pairs(&except), pairs(query));
    assert!(uris::query_pairs(&only).all(|(found, _)| chosen.has(uris::decode(found).as_bytes())));
    // One that ends in `*` represents all names that begin so.
    if !name.ends_with('*') {
        assert_eq!(
            uris::get_query(query, name).is_some(),
            pairs(&only) > 0 || uris::query_pairs(query).any(|(n, _)| n == name)
        );
    }
    assert_eq!(
        uris::get_query(&except, name),
        uris::query_pairs(&except)
            .find(|(n, _)| *n == name)
            .map(|(_, v)| uris::decode(v))
    );
}
