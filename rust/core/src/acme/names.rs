//! Names that certificates are obtained for.

/// The reason why no certificate can be obtained for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// It has labels that are empty, too long, or of other characters, or it is too long.
    #[error(
        "must be a DNS name such as \"www.example.com\": labels of letters, digits and hyphens, in punycode where it has other characters"
    )]
    Malformed,
    /// It has one label.
    #[error(
        "must be a full name such as \"www.example.com\": issuers certify no name of one label"
    )]
    OneLabel,
    /// It is an address.
    #[error("must be a DNS name: no certificate is obtained for an address")]
    Address,
    /// A wildcard is more than the whole first label.
    #[error("must have a wildcard as its whole first label only, such as \"*.example.com\"")]
    Wildcard,
}

/// A name as it is compared and stored: lower case, without the dot of the root. A text of a client is never more than
/// this allows.
pub fn normalised_name(text: &str) -> Result<String, NameFault> {
    const LONGEST_NAME: usize = 253;
    const LONGEST_LABEL: usize = 63;
    let text = text.strip_suffix('.').unwrap_or(text);
    let named = text.strip_prefix("*.").unwrap_or(text);
    if named.contains('*') {
        return Err(NameFault::Wildcard);
    }
    if text.len() > LONGEST_NAME {
        return Err(NameFault::Malformed);
    }
    for label in named.split('.') {
        let is_label = !label.is_empty()
            && label.len() <= LONGEST_LABEL
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !is_label {
            return Err(NameFault::Malformed);
        }
    }
    let (_, last) = named.rsplit_once('.').ok_or(NameFault::OneLabel)?;
    // A name whose last label is a number is an address (RFC 1123 §2.1), whole or not.
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NameFault::Address);
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_full_dns_name_in_lower_case_or_a_wildcard_of_one() {
        for (text, want) in [
            ("www.example.com", Ok("www.example.com")),
            ("WWW.Example.COM.", Ok("www.example.com")),
            ("*.example.com", Ok("*.example.com")),
            ("xn--mnchen-3ya.example", Ok("xn--mnchen-3ya.example")),
            ("1.2.3.example", Ok("1.2.3.example")),
            ("", Err(NameFault::Malformed)),
            (".", Err(NameFault::Malformed)),
            ("a..example", Err(NameFault::Malformed)),
            (".example.com", Err(NameFault::Malformed)),
            ("-a.example", Err(NameFault::Malformed)),
            ("a_b.example", Err(NameFault::Malformed)),
            ("münchen.example", Err(NameFault::Malformed)),
            ("../../etc/passwd", Err(NameFault::Malformed)),
            ("a.example/x", Err(NameFault::Malformed)),
            ("localhost", Err(NameFault::OneLabel)),
            ("*.com", Err(NameFault::OneLabel)),
            ("192.0.2.1", Err(NameFault::Address)),
            ("a.1", Err(NameFault::Address)),
            ("*", Err(NameFault::Wildcard)),
            ("w*.example.com", Err(NameFault::Wildcard)),
            ("*.*.example.com", Err(NameFault::Wildcard)),
        ] {
            assert_eq!(
                normalised_name(text).as_deref(),
                want.as_ref().copied(),
                "{text}"
            );
        }
        let label = "a".repeat(63);
        assert!(normalised_name(&format!("{label}.example")).is_ok());
        assert_eq!(
            normalised_name(&format!("a{label}.example")),
            Err(NameFault::Malformed)
        );
        let long = format!("{label}.{label}.{label}.{label}");
        assert_eq!(normalised_name(&long), Err(NameFault::Malformed));
    }
}
