#![allow(clippy::unwrap_used)]

use http::HeaderValue;

use super::*;

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}

impl Fields {
    /// The fields of a test, by names and values.
    pub(crate) fn of_lines(lines: &[(&str, &str)]) -> Self {
        let mut fields = Self::new();
        for (name, text) in lines {
            fields.append_wire(name.as_bytes(), value(text)).unwrap();
        }
        fields
    }
}

/// Lines as they would be written.
fn lines(fields: &Fields) -> Vec<String> {
    fields
        .iter()
        .map(|(name, value)| {
            let name = String::from_utf8_lossy(name.as_wire());
            format!("{name}: {}", value.to_str().unwrap())
        })
        .collect()
}

#[test]
fn order_and_case_are_those_of_the_wire() {
    let fields = Fields::of_lines(&[
        ("Host", "a"),
        ("X-OWN", "1"),
        ("accept", "*/*"),
        ("x-own", "2"),
    ]);
    let want = ["Host: a", "X-OWN: 1", "accept: */*", "x-own: 2"];
    assert_eq!(lines(&fields), want);
    let names: Vec<_> = fields.names().map(WireName::lower).collect();
    assert_eq!(names, ["host", "x-own", "accept"]);
    assert!(
        fields
            .get_all("X-Own")
            .eq(["1", "2"].map(value).iter().map(FieldValue::from))
    );
    assert_eq!(fields.get_all("X-Own").next_back().unwrap(), "2");
}

#[test]
fn fields_are_written_as_they_are_however_they_were_changed() {
    let written = |fields: &Fields| {
        let mut out = Vec::new();
        fields.write(&mut out);
        let want: String = lines(fields)
            .iter()
            .map(|line| format!("{line}\r\n"))
            .collect();
        assert_eq!(String::from_utf8(out).unwrap(), want);
    };
    let mut fields = Fields::of_lines(&[
        ("Host", "a"),
        ("X-OWN", "12"),
        ("accept", "*/*"),
        ("x-own", "2"),
    ]);
    written(&fields);
    fields.insert(header::AGE, value("7"));
    written(&fields);
    fields.insert(header::AGE, value("8"));
    written(&fields);
    for change in [
        |fields: &mut Fields| fields.insert("host", value("")),
        |fields: &mut Fields| fields.insert("host", value("longer")),
        |fields: &mut Fields| fields.insert("x-own", value("34")),
        |fields: &mut Fields| drop(fields.take("accept")),
        |fields: &mut Fields| fields.retain(|name, _| name != header::AGE),
        |fields: &mut Fields| fields.edit("host", |_| Some(value("b"))),
    ] {
        let mut changed = fields.clone();
        change(&mut changed);
        written(&changed);
        changed.append("x-after", value("1"));
        written(&changed);
    }
    fields.clear();
    written(&fields);
}

#[test]
fn lines_that_came_in_another_spelling_are_written_in_this_one() {
    let came = "Host: a\r\nX-Wide:  1\r\nX-Tab:\t2\r\nX-Behind: 3 \r\nX-Bare: 4\nX-None:5\r\nX-Last: 6\r\n";
    let mut fields = Fields::over(came.as_bytes(), 7);
    let mut at = 0;
    for line in came.split_inclusive('\n') {
        let (name, value) = line.split_once(':').unwrap();
        let start = at + line.find(value.trim()).unwrap();
        let value = start..start + value.trim().len();
        fields.add_line(at..at + name.len(), value).unwrap();
        at += line.len();
    }
    fields.seal();
    let mut want: Vec<String> = came
        .lines()
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| format!("{name}: {}\r\n", value.trim()))
        .collect();
    let written = |fields: &Fields| {
        let mut out = Vec::new();
        fields.write(&mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(&fields), want.concat());
    fields.remove("x-behind");
    want.remove(3);
    assert_eq!(written(&fields), want.concat());
}

#[test]
fn fields_are_found_by_names_known_and_unknown_in_any_case() {
    let fields = Fields::of_lines(&[("HOST", "a"), ("x-Own", "1")]);
    for name in ["host", "Host", "X-OWN", "x-own"] {
        assert!(fields.contains_key(name), "{name}");
    }
    assert_eq!(fields.get(header::HOST).unwrap(), "a");
    for name in ["", "x-ow", "x-owner", "age"] {
        assert!(!fields.contains_key(name), "{name}");
    }
    assert!(!fields.has_none_of(KnownSet::of(&[header::AGE, header::HOST])));
    assert!(fields.has_none_of(KnownSet::of(&[header::AGE])));
}

#[test]
fn inserting_replaces_all_of_a_name_in_the_place_of_the_first() {
    for long in ["", "3", &"3".repeat(1000)] {
        let mut fields =
            Fields::of_lines(&[("X-A", "10"), ("age", "20"), ("x-a", "30"), ("AGE", "40")]);
        fields.insert("x-a", value(long));
        fields.insert(header::AGE, value(long));
        fields.insert(header::ETAG, value(long));
        let want = [
            format!("X-A: {long}"),
            format!("age: {long}"),
            format!("etag: {long}"),
        ];
        assert_eq!(lines(&fields), want);
    }
}

#[test]
fn what_is_removed_is_not_found_and_the_rest_keeps_its_order() {
    let mut fields = Fields::of_lines(&[
        ("a", "1"),
        ("age", "2"),
        ("A", "3"),
        ("b", "4"),
        ("Age", "5"),
    ]);
    assert!(fields.remove("a") && !fields.remove("a"));
    assert_eq!(fields.take(header::AGE).unwrap(), "2");
    assert!(fields.has_none_of(KnownSet::of(&[header::AGE])));
    assert_eq!(lines(&fields), ["b: 4"]);
    fields.append(header::VIA, value("5"));
    fields.retain(|name, _| name != "b");
    fields.remove_all(KnownSet::of(&[header::VIA, header::DATE]));
    assert_eq!(lines(&fields), [""; 0]);
    assert_eq!(fields, Fields::new());
}

#[test]
fn edited_values_stand_where_they_stood() {
    let mut fields = Fields::of_lines(&[("Link", "a"), ("x", "a"), ("link", "b")]);
    fields.edit(header::LINK, |link| (link == "b").then(|| value("longer")));
    assert_eq!(lines(&fields), ["Link: a", "x: a", "link: longer"]);
}

#[test]
fn equal_lists_may_differ_in_case_and_in_the_order_of_names() {
    let one = Fields::of_lines(&[("A", "1"), ("host", "h"), ("a", "2")]);
    for (other, want) in [
        (
            Fields::of_lines(&[("Host", "h"), ("a", "1"), ("a", "2")]),
            true,
        ),
        (
            Fields::of_lines(&[("Host", "h"), ("a", "2"), ("a", "1")]),
            false,
        ),
        (Fields::of_lines(&[("Host", "h"), ("a", "1")]), false),
        (
            Fields::of_lines(&[("Host", "H"), ("a", "1"), ("a", "2")]),
            false,
        ),
        (
            Fields::of_lines(&[("b", "h"), ("a", "1"), ("a", "2")]),
            false,
        ),
    ] {
        assert_eq!(one == other, want, "{other:?}");
        let map = HeaderMap::from(other.clone());
        assert_eq!(Fields::from(&map), other);
    }
}

#[test]
fn values_set_again_and_again_take_no_more_and_more_memory() {
    let mut fields = Fields::of_lines(&[("X-Kept", "kept")]);
    for round in 1..3_000 {
        fields.insert(header::AGE, value(&"9".repeat(round)));
        fields.append("x-more", value(&"8".repeat(round)));
        fields.remove("x-more");
    }
    assert!(
        fields.text.capacity() < 1 << 20,
        "{}",
        fields.text.capacity()
    );
    let want = [
        "X-Kept: kept".to_owned(),
        format!("age: {}", "9".repeat(2_999)),
    ];
    assert_eq!(lines(&fields), want);
}

#[test]
fn a_written_line_is_as_good_as_its_name_and_value() {
    let line = FieldLine::new(header::AGE, HeaderValue::from_static("12"));
    assert_eq!(line.value(), "12");
    for before in [None, Some("7"), Some("700")] {
        let (mut one, mut other) = (Fields::new(), Fields::new());
        for fields in [&mut one, &mut other] {
            fields.append(header::ETAG, HeaderValue::from_static("\"a\""));
            if let Some(value) = before {
                fields.append(header::AGE, HeaderValue::from_static(value));
            }
        }
        one.insert_line(&line);
        other.insert(header::AGE, line.value());
        let (mut left, mut right) = (Vec::new(), Vec::new());
        one.write(&mut left);
        other.write(&mut right);
        assert_eq!(left, right);
        assert_eq!(one, other);
    }
}
