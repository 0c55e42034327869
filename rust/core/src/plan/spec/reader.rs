//! Reading JSON with a path at hand: each wrong value becomes a problem, and reading continues.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::spelling::{listed, nearest, suggestion};
use crate::plan::Problem;

/// The problems found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(crate) fn add(&self, at: impl Into<String>, value: Option<String>, why: impl Into<String>) {
        self.0.borrow_mut().push(Problem {
            path: at.into(),
            value: value.map(shortened),
            message: why.into(),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// True if something is wrong at that very place.
    pub(crate) fn at(&self, path: &str) -> bool {
        self.0.borrow().iter().any(|problem| problem.path == path)
    }

    pub(crate) fn into_inner(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A value as a message shows it: JSON, shortened.
pub(super) fn shown(value: &Value) -> String {
    cut(value.to_string(), 60)
}

/// A text that a message shows as it is, such as the name of a file: one that is no name may be a whole file.
fn shortened(text: String) -> String {
    cut(text, 300)
}

fn cut(text: String, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// `path.key`, or `path["key"]` if the key would make the path ambiguous.
pub(crate) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

/// One JSON object being read. Dropping it without [`Fields::end`] leaves unknown fields unreported.
#[derive(Debug)]
pub(super) struct Fields<'v> {
    pub(super) path: String,
    map: &'v Map<String, Value>,
    known: Vec<&'static str>,
    pub(super) problems: &'v Problems,
    /// No value below here is ever shown.
    pub(super) secret: bool,
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl<'v> Fields<'v> {
    pub(super) fn open(
        value: &'v Value,
        path: impl Into<String>,
        problems: &'v Problems,
    ) -> Option<Self> {
        let path = path.into();
        match value {
            Value::Object(map) => Some(Self {
                path,
                map,
                known: Vec::new(),
                problems,
                secret: false,
            }),
            other => {
                problems.add(
                    path,
                    None,
                    format!("must be an object, not {}", kind(other)),
                );
                None
            }
        }
    }

    /// The field, `None` when absent.
    pub(super) fn raw(&mut self, name: &'static str) -> Option<&'v Value> {
        self.known.push(name);
        self.map.get(name)
    }

    /// Like [`Self::raw`]; null counts as absent, too.
    pub(super) fn some(&mut self, name: &'static str) -> Option<&'v Value> {
        self.raw(name).filter(|value| !value.is_null())
    }

    /// True if the field is there and has members.
    pub(super) fn declares(&self, name: &str) -> bool {
        self.map
            .get(name)
            .and_then(Value::as_object)
            .is_some_and(|map| !map.is_empty())
    }

    pub(super) fn at(&self, name: &str) -> String {
        join(&self.path, name)
    }

    pub(super) fn wrong(&self, name: &str, value: &Value, message: impl Into<String>) {
        self.problems
            .add(self.at(name), (!self.secret).then(|| shown(value)), message);
    }

    pub(super) fn required(&mut self, name: &'static str) -> Option<&'v Value> {
        let value = self.raw(name);
        if value.is_none() {
            self.problems.add(self.at(name), None, "is required");
        }
        value
    }

    pub(super) fn text_of(&self, name: &str, value: &'v Value) -> Option<&'v str> {
        if let Value::String(text) = value {
            return Some(text);
        }
        self.wrong(
            name,
            value,
            format!("must be a string, not {}", kind(value)),
        );
        None
    }

    /// An optional string.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'v str> {
        let value = self.some(name)?;
        self.text_of(name, value)
    }

    /// A required string.
    pub(super) fn required_text(&mut self, name: &'static str) -> Option<&'v str> {
        let value = self.required(name)?;
        self.text_of(name, value)
    }

    pub(super) fn flag(&mut self, name: &'static str, default: bool) -> bool {
        match self.raw(name) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.wrong(
                    name,
                    other,
                    format!("must be true or false, not {}", kind(other)),
                );
                default
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        match self.raw(name) {
            None => default,
            Some(value) => self.choice_of(name, value, choices).unwrap_or(default),
        }
    }

    pub(super) fn choice_of<T: Copy>(
        &self,
        name: &str,
        value: &Value,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let found = value
            .as_str()
            .and_then(|text| choices.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let near = value.as_str().and_then(|text| nearest(text, &words));
            self.wrong(
                name,
                value,
                format!("must be one of {}{}", listed(&words), suggestion(near)),
            );
        }
        found.map(|(_, choice)| *choice)
    }

    /// The members of a list, each with its path.
    pub(super) fn list(&mut self, name: &'static str) -> Vec<(String, &'v Value)> {
        match self.raw(name) {
            None => Vec::new(),
            Some(value) => self.list_of(name, value),
        }
    }

    /// The members of a list, each read by `read`, which reports those that it cannot read.
    pub(super) fn each<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&'v Value, String, &'v Problems) -> Option<T>,
    ) -> Vec<T> {
        let members = self.list(name).into_iter();
        members
            .filter_map(|(path, value)| read(value, path, self.problems))
            .collect()
    }

    pub(super) fn list_of(&self, name: &str, value: &'v Value) -> Vec<(String, &'v Value)> {
        let path = self.at(name);
        match value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (format!("{path}[{index}]"), item))
                .collect(),
            other => {
                self.wrong(name, value, format!("must be a list, not {}", kind(other)));
                Vec::new()
            }
        }
    }

    /// A list of strings.
    pub(super) fn texts(&mut self, name: &'static str) -> Vec<(String, &'v str)> {
        let items = self.list(name);
        self.only_texts(items)
    }

    pub(super) fn only_texts(&self, items: Vec<(String, &'v Value)>) -> Vec<(String, &'v str)> {
        let mut texts = Vec::with_capacity(items.len());
        for (path, item) in items {
            match item {
                Value::String(text) => texts.push((path, text.as_str())),
                other => self.problems.add(
                    path,
                    (!self.secret).then(|| shown(other)),
                    format!("must be a string, not {}", kind(other)),
                ),
            }
        }
        texts
    }

    /// The members of an object that is a map, each with its path.
    pub(super) fn map(&mut self, name: &'static str) -> Vec<(String, &'v str, &'v Value)> {
        let Some(value) = self.raw(name) else {
            return Vec::new();
        };
        let path = self.at(name);
        match value {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (join(&path, key), key.as_str(), value))
                .collect(),
            other => {
                self.wrong(
                    name,
                    value,
                    format!("must be an object, not {}", kind(other)),
                );
                Vec::new()
            }
        }
    }

    /// Reports the fields that were not read.
    pub(super) fn end(self) {
        for name in self.map.keys() {
            if !self.known.contains(&name.as_str()) {
                let near = suggestion(nearest(name, &self.known));
                let message = if near.is_empty() {
                    format!(
                        "is not a field; the fields here are {}",
                        self.known.join(", ")
                    )
                } else {
                    format!("is not a field{near}")
                };
                self.problems.add(self.at(name), None, message);
            }
        }
    }
}
