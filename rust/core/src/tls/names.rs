//! The names of certificates (RFC 9525 §6.3): exact ones, and wildcards that stand for one label.

use std::borrow::Cow;

use hashbrown::HashMap;

/// Values by the names of certificates.
#[derive(Debug, Clone)]
pub struct NameTable<T> {
    exact: HashMap<Box<str>, T>,
    /// By the name without its first label.
    wildcards: HashMap<Box<str>, T>,
}

impl<T> Default for NameTable<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcards: HashMap::new(),
        }
    }
}

/// A name as it is compared: lower case, without the dot of the root.
fn compared(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

impl<T> NameTable<T> {
    /// The value of a name as a certificate has it, or a place for one.
    pub fn entry(&mut self, name: &str, value: impl FnOnce() -> T) -> &mut T {
        let name = compared(name);
        match name.strip_prefix("*.") {
            Some(rest) => self.wildcards.entry(rest.into()).or_insert_with(value),
            None => self.exact.entry((&*name).into()).or_insert_with(value),
        }
    }

    /// The value for a host that a client names: of the very name, or of the wildcard that covers it.
    pub fn find(&self, host: &str) -> Option<&T> {
        let host = compared(host);
        self.exact.get(&*host).or_else(|| {
            let (label, rest) = host.split_once('.')?;
            self.wildcards.get(rest).filter(|_| !label.is_empty())
        })
    }

    /// True if there is no name.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_itself_before_a_wildcard_and_a_wildcard_stands_for_one_label() {
        let mut table = NameTable::default();
        for (at, name) in ["example.com", "*.example.com", "WWW.example.com"]
            .iter()
            .enumerate()
        {
            table.entry(name, || at);
        }
        for (host, want) in [
            ("example.com", Some(0)),
            ("EXAMPLE.com", Some(0)),
            ("example.com.", Some(0)),
            ("a.example.com", Some(1)),
            ("A.EXAMPLE.COM.", Some(1)),
            ("www.example.com", Some(2)),
            ("a.b.example.com", None),
            (".example.com", None),
            ("*.example.com", Some(1)),
            ("example.org", None),
            ("com", None),
            ("", None),
            (".", None),
            ("192.0.2.1", None),
        ] {
            assert_eq!(table.find(host).copied(), want, "{host}");
        }
    }

    #[test]
    fn the_first_value_of_a_name_stays() {
        let mut table = NameTable::default();
        table.entry("a.example", || 1);
        assert_eq!(*table.entry("A.example.", || 2), 1);
    }
}
