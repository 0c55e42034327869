//! Names of fields (RFC 9110 §5.1): those that the edge knows have a number, so that they are compared and found by it.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::HeaderValue;

use crate::http::token::is_token_byte;

/// The number of a known name: its place in `TEXTS`, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Known(u8);

impl Known {
    /// No known name.
    pub(super) const NONE: u8 = 0;

    /// The known name with a text in any case.
    #[inline]
    pub fn of(text: &[u8]) -> Option<Self> {
        let mut slot = slot(text)?;
        loop {
            let number = *TABLE.get(slot)?;
            if number == Self::NONE {
                return None;
            }
            if is_spelling(text, known_text(number).as_bytes()) {
                return Some(Self(number));
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// The known name with a text in lower case: for constants.
    const fn from_static(text: &'static str) -> Self {
        let mut at = 0;
        while at < TEXTS.len() {
            if same(TEXTS[at], text) {
                return Self(at as u8 + 1);
            }
            at += 1;
        }
        Self(Self::NONE)
    }

    /// The known name with a number.
    #[inline]
    pub(super) fn numbered(number: u8) -> Option<Self> {
        (number != Self::NONE).then_some(Self(number))
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..).map(Self).take(TEXTS.len())
    }

    /// Its number.
    #[inline]
    pub(super) const fn number(self) -> u8 {
        self.0
    }

    /// In lower case.
    #[inline]
    pub fn as_str(self) -> &'static str {
        known_text(self.0)
    }
}

/// True if a text is a known name in any case: eight bytes at a time, since every field is compared so.
#[inline]
fn is_spelling(text: &[u8], known: &[u8]) -> bool {
    /// The bits that differ, but for the case of letters: those are the bytes of a known name that have 0x40.
    const fn differing(text: u64, known: u64) -> u64 {
        const LETTER: u64 = 0x4040_4040_4040_4040;
        (text ^ known) & !((known & LETTER) >> 1)
    }
    if text.len() != known.len() {
        return false;
    }
    let (texts, text) = text.as_chunks();
    let (knowns, known) = known.as_chunks();
    let mut pairs = texts.iter().zip(knowns);
    let mut rest = text.iter().zip(known);
    pairs.all(|(text, known)| differing(u64::from_le_bytes(*text), u64::from_le_bytes(*known)) == 0)
        && rest.all(|(text, known)| differing(u64::from(*text), u64::from(*known)) == 0)
}

#[inline]
fn known_text(number: u8) -> &'static str {
    TEXTS
        .get(usize::from(number).wrapping_sub(1))
        .copied()
        .unwrap_or_default()
}

/// Slots of the table of known names, most of them empty.
const SLOTS: usize = 512;
/// The numbers of known names by their hash, with open addressing.
static TABLE: [u8; SLOTS] = table();

/// The first slot of a name; `None` if no known name is as short or as long.
#[inline]
const fn slot(text: &[u8]) -> Option<usize> {
    let (Some(&first), Some(&last)) = (text.first(), text.last()) else {
        return None;
    };
    if text.len() > LONGEST {
        return None;
    }
    let middle = text[text.len() / 2];
    let hash = (first | 0x20) as usize * 7
        + (last | 0x20) as usize * 31
        + (middle | 0x20) as usize * 97
        + text.len() * 193;
    Some(hash % SLOTS)
}

const LONGEST: usize = {
    let (mut longest, mut at) = (0, 0);
    while at < TEXTS.len() {
        if TEXTS[at].len() > longest {
            longest = TEXTS[at].len();
        }
        at += 1;
    }
    longest
};

const fn table() -> [u8; SLOTS] {
    let mut table = [Known::NONE; SLOTS];
    let mut at = 0;
    while at < TEXTS.len() {
        let Some(mut slot) = slot(TEXTS[at].as_bytes()) else {
            return table;
        };
        while table[slot] != Known::NONE {
            slot = (slot + 1) % SLOTS;
        }
        at += 1;
        table[slot] = at as u8;
    }
    table
}

/// The same text, for constants.
const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

macro_rules! known {
    ($($constant:ident = $text:literal,)*) => {
        /// Known names in lower case, sorted.
        const TEXTS: &[&str] = &[$($text),*];

        /// The known names.
        pub mod header {
            use crate::http::fields::name::Known;
            $(#[doc = $text] pub const $constant: Known = Known::from_static($text);)*
        }
    };
}

known! {
    ACCEPT = "accept",
    ACCEPT_CHARSET = "accept-charset",
    ACCEPT_ENCODING = "accept-encoding",
    ACCEPT_LANGUAGE = "accept-language",
    ACCEPT_RANGES = "accept-ranges",
    ACCESS_CONTROL_ALLOW_CREDENTIALS = "access-control-allow-credentials",
    ACCESS_CONTROL_ALLOW_HEADERS = "access-control-allow-headers",
    ACCESS_CONTROL_ALLOW_METHODS = "access-control-allow-methods",
    ACCESS_CONTROL_ALLOW_ORIGIN = "access-control-allow-origin",
    ACCESS_CONTROL_EXPOSE_HEADERS = "access-control-expose-headers",
    ACCESS_CONTROL_MAX_AGE = "access-control-max-age",
    ACCESS_CONTROL_REQUEST_HEADERS = "access-control-request-headers",
    ACCESS_CONTROL_REQUEST_METHOD = "access-control-request-method",
    AGE = "age",
    ALLOW = "allow",
    ALT_SVC = "alt-svc",
    AUTHORIZATION = "authorization",
    CACHE_CONTROL = "cache-control",
    CACHE_STATUS = "cache-status",
    CACHE_TAG = "cache-tag",
    CDN_CACHE_CONTROL = "cdn-cache-control",
    CONNECTION = "connection",
    CONTENT_DIGEST = "content-digest",
    CONTENT_DISPOSITION = "content-disposition",
    CONTENT_ENCODING = "content-encoding",
    CONTENT_LANGUAGE = "content-language",
    CONTENT_LENGTH = "content-length",
    CONTENT_LOCATION = "content-location",
    CONTENT_MD5 = "content-md5",
    CONTENT_RANGE = "content-range",
    CONTENT_SECURITY_POLICY = "content-security-policy",
    CONTENT_TYPE = "content-type",
    COOKIE = "cookie",
    DATE = "date",
    DIGEST = "digest",
    DNT = "dnt",
    ETAG = "etag",
    EXPECT = "expect",
    EXPIRES = "expires",
    FORWARDED = "forwarded",
    FROM = "from",
    HOST = "host",
    HTTP2_SETTINGS = "http2-settings",
    IF_MATCH = "if-match",
    IF_MODIFIED_SINCE = "if-modified-since",
    IF_NONE_MATCH = "if-none-match",
    IF_RANGE = "if-range",
    IF_UNMODIFIED_SINCE = "if-unmodified-since",
    KEEP_ALIVE = "keep-alive",
    LAST_MODIFIED = "last-modified",
    LINK = "link",
    LOCATION = "location",
    MAX_FORWARDS = "max-forwards",
    ORIGIN = "origin",
    PERMISSIONS_POLICY = "permissions-policy",
    PRAGMA = "pragma",
    PROXY_AUTHENTICATE = "proxy-authenticate",
    PROXY_AUTHENTICATION_INFO = "proxy-authentication-info",
    PROXY_AUTHORIZATION = "proxy-authorization",
    PROXY_CONNECTION = "proxy-connection",
    PURPOSE = "purpose",
    RANGE = "range",
    REFERER = "referer",
    REFERRER_POLICY = "referrer-policy",
    REFRESH = "refresh",
    REPR_DIGEST = "repr-digest",
    RETRY_AFTER = "retry-after",
    SEC_CH_UA = "sec-ch-ua",
    SEC_CH_UA_MOBILE = "sec-ch-ua-mobile",
    SEC_CH_UA_PLATFORM = "sec-ch-ua-platform",
    SEC_FETCH_DEST = "sec-fetch-dest",
    SEC_FETCH_MODE = "sec-fetch-mode",
    SEC_FETCH_SITE = "sec-fetch-site",
    SEC_FETCH_USER = "sec-fetch-user",
    SEC_PURPOSE = "sec-purpose",
    SEC_WEBSOCKET_ACCEPT = "sec-websocket-accept",
    SEC_WEBSOCKET_EXTENSIONS = "sec-websocket-extensions",
    SEC_WEBSOCKET_KEY = "sec-websocket-key",
    SEC_WEBSOCKET_PROTOCOL = "sec-websocket-protocol",
    SEC_WEBSOCKET_VERSION = "sec-websocket-version",
    SERVER = "server",
    SERVER_TIMING = "server-timing",
    SET_COOKIE = "set-cookie",
    STRICT_TRANSPORT_SECURITY = "strict-transport-security",
    SURROGATE_CONTROL = "surrogate-control",
    SURROGATE_KEY = "surrogate-key",
    TE = "te",
    TRAILER = "trailer",
    TRANSFER_ENCODING = "transfer-encoding",
    UPGRADE = "upgrade",
    UPGRADE_INSECURE_REQUESTS = "upgrade-insecure-requests",
    USER_AGENT = "user-agent",
    VARY = "vary",
    VIA = "via",
    WARNING = "warning",
    WWW_AUTHENTICATE = "www-authenticate",
    X_CACHE = "x-cache",
    X_CONTENT_TYPE_OPTIONS = "x-content-type-options",
    X_ERROR_ID = "x-error-id",
    X_FORWARDED_FOR = "x-forwarded-for",
    X_FORWARDED_HOST = "x-forwarded-host",
    X_FORWARDED_PREFIX = "x-forwarded-prefix",
    X_FORWARDED_PROTO = "x-forwarded-proto",
    X_FRAME_OPTIONS = "x-frame-options",
    X_MOZ = "x-moz",
    X_ORIGINAL_HOST = "x-original-host",
    X_ORIGINAL_URL = "x-original-url",
    X_REAL_IP = "x-real-ip",
    X_REQUEST_ID = "x-request-id",
    X_REWRITE_URL = "x-rewrite-url",
    X_USER_ID = "x-user-id",
    X_USER_ROLE = "x-user-role",
    X_VARIANT = "x-variant",
    X_XSS_PROTECTION = "x-xss-protection",
}

/// A set of known names.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct KnownSet(u128);

impl KnownSet {
    /// The set of `names`.
    pub const fn of(names: &[Known]) -> Self {
        let (mut set, mut at) = (Self(0), 0);
        while at < names.len() {
            set.add(names[at].0);
            at += 1;
        }
        set
    }

    /// True if a name is in it.
    #[inline]
    pub const fn has(self, name: Known) -> bool {
        self.contains(name.0)
    }

    /// True if the two have a name in common.
    #[inline]
    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(super) const fn contains(self, number: u8) -> bool {
        self.0 & bit(number) != 0
    }

    #[inline]
    pub(super) const fn add(&mut self, number: u8) {
        self.0 |= bit(number);
    }

    #[inline]
    pub(super) const fn remove(&mut self, number: u8) {
        self.0 &= !bit(number);
    }
}

impl FromIterator<Known> for KnownSet {
    fn from_iter<I: IntoIterator<Item = Known>>(names: I) -> Self {
        let mut set = Self::default();
        names.into_iter().for_each(|name| set.add(name.0));
        set
    }
}

/// Unknown names have none.
#[inline]
const fn bit(number: u8) -> u128 {
    (1 << (number & 127)) & !1
}

/// A field's name, in lower case.
#[derive(Clone)]
pub struct FieldName(Repr);

#[derive(Clone)]
enum Repr {
    Known(Known),
    Static(&'static str),
    Shared(Arc<str>),
}

/// A text that is no field name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a field name")]
pub struct InvalidFieldName;

/// Longest name.
pub(super) const MOST_NAME: usize = u16::MAX as usize;

impl FieldName {
    /// The name with a text, which must be a token in lower case: for constants.
    pub const fn from_static(text: &'static str) -> Self {
        match Known::from_static(text) {
            Known(Known::NONE) => Self(Repr::Static(text)),
            known => Self(Repr::Known(known)),
        }
    }

    /// A known name.
    #[inline]
    pub const fn known(known: Known) -> Self {
        Self(Repr::Known(known))
    }

    /// The name with a text in any case.
    pub fn from_bytes(text: &[u8]) -> Result<Self, InvalidFieldName> {
        if let Some(known) = Known::of(text) {
            return Ok(Self(Repr::Known(known)));
        }
        if !is_name(text) {
            return Err(InvalidFieldName);
        }
        let text = std::str::from_utf8(text).map_err(|_| InvalidFieldName)?;
        Ok(Self(Repr::Shared(text.to_ascii_lowercase().into())))
    }

    /// True if it is one of a set.
    #[inline]
    pub fn is_of(&self, names: KnownSet) -> bool {
        matches!(&self.0, Repr::Known(known) if names.has(*known))
    }

    /// As the value of a field that lists names.
    pub fn to_value(&self) -> HeaderValue {
        // A token is a value.
        HeaderValue::from_str(self.as_str()).unwrap_or(HeaderValue::from_static(""))
    }

    /// In lower case.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(known) => known.as_str(),
            Repr::Static(text) => text,
            Repr::Shared(text) => text,
        }
    }
}

/// True for a token that is short enough.
pub(super) fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.len() <= MOST_NAME && text.iter().all(|&byte| is_token_byte(byte))
}

impl From<Known> for FieldName {
    #[inline]
    fn from(known: Known) -> Self {
        Self::known(known)
    }
}

impl TryFrom<&str> for FieldName {
    type Error = InvalidFieldName;

    fn try_from(text: &str) -> Result<Self, InvalidFieldName> {
        Self::from_bytes(text.as_bytes())
    }
}

impl std::str::FromStr for FieldName {
    type Err = InvalidFieldName;

    fn from_str(text: &str) -> Result<Self, InvalidFieldName> {
        Self::from_bytes(text.as_bytes())
    }
}

impl PartialEq for FieldName {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Known(one), Repr::Known(other)) => one == other,
            (Repr::Known(_), _) | (_, Repr::Known(_)) => false,
            _ => self.as_str() == other.as_str(),
        }
    }
}

impl Eq for FieldName {}

impl PartialEq<FieldName> for &FieldName {
    #[inline]
    fn eq(&self, other: &FieldName) -> bool {
        **self == *other
    }
}

impl PartialEq<Known> for FieldName {
    #[inline]
    fn eq(&self, other: &Known) -> bool {
        matches!(&self.0, Repr::Known(known) if known == other)
    }
}

impl PartialEq<str> for FieldName {
    fn eq(&self, other: &str) -> bool {
        self.as_str().eq_ignore_ascii_case(other)
    }
}

impl PartialEq<&str> for FieldName {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialOrd for FieldName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FieldName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for FieldName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl AsRef<str> for FieldName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::borrow::Borrow<str> for FieldName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A field's name as it stands in a message, in the case of the wire. Names are equal in any case (RFC 9110 §5.1).
#[derive(Clone, Copy)]
pub struct WireName<'a> {
    pub(super) number: u8,
    pub(super) text: &'a [u8],
}

impl<'a> WireName<'a> {
    /// In the case of the wire.
    #[inline]
    pub fn as_wire(self) -> &'a [u8] {
        self.text
    }

    /// True if it is one of `names`.
    pub fn is_in(self, names: &[FieldName]) -> bool {
        names.iter().any(|name| self == *name)
    }

    /// True if it is one of a set.
    #[inline]
    pub fn is_of(self, names: KnownSet) -> bool {
        names.contains(self.number)
    }

    /// In lower case.
    pub fn lower(self) -> Cow<'a, str> {
        match Known::numbered(self.number) {
            Some(known) => Cow::Borrowed(known.as_str()),
            None => {
                // A token is ASCII.
                let text = std::str::from_utf8(self.text).unwrap_or_default();
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    Cow::Owned(text.to_ascii_lowercase())
                } else {
                    Cow::Borrowed(text)
                }
            }
        }
    }

    /// The name by itself.
    pub fn owned(self) -> FieldName {
        match Known::numbered(self.number) {
            Some(known) => known.into(),
            None => FieldName(Repr::Shared(self.lower().into())),
        }
    }
}

impl<N: Named + ?Sized> PartialEq<N> for WireName<'_> {
    #[inline]
    fn eq(&self, other: &N) -> bool {
        match other.known() {
            Some(known) => self.number == known.number(),
            None => self.number == Known::NONE && self.text.eq_ignore_ascii_case(other.text()),
        }
    }
}

impl fmt::Display for WireName<'_> {
    /// In lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lower())
    }
}

impl fmt::Debug for WireName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.lower(), f)
    }
}

/// A name to find a field by, or to add one under.
pub trait Named {
    /// Its number, if it is known.
    fn known(&self) -> Option<Known>;

    /// Its text, in any case.
    fn text(&self) -> &[u8];
}

impl<N: Named + ?Sized> Named for &N {
    #[inline]
    fn known(&self) -> Option<Known> {
        (**self).known()
    }

    #[inline]
    fn text(&self) -> &[u8] {
        (**self).text()
    }
}

impl Named for Known {
    #[inline]
    fn known(&self) -> Option<Known> {
        Some(*self)
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl Named for FieldName {
    #[inline]
    fn known(&self) -> Option<Known> {
        match &self.0 {
            Repr::Known(known) => Some(*known),
            _ => None,
        }
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl Named for WireName<'_> {
    #[inline]
    fn known(&self) -> Option<Known> {
        Known::numbered(self.number)
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.text
    }
}

impl Named for str {
    fn known(&self) -> Option<Known> {
        Known::of(self.as_bytes())
    }

    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn known_names_are_found_in_any_case_and_sorted() {
        assert!(TEXTS.is_sorted());
        for text in TEXTS {
            assert!(is_name(text.as_bytes()));
            let upper = text.to_ascii_uppercase();
            assert_eq!(Known::of(upper.as_bytes()).map(Known::as_str), Some(*text));
            assert_eq!(FieldName::try_from(*text), Ok(FieldName::from_static(text)));
        }
        for unknown in ["", "x", "hos", "hostt", "x-forwarded-fo", "\u{e4}ge"] {
            assert_eq!(Known::of(unknown.as_bytes()), None, "{unknown}");
        }
    }

    #[test]
    fn only_the_case_of_letters_may_differ() {
        for text in TEXTS {
            for at in 0..text.len() {
                let mut other = text.as_bytes().to_vec();
                for byte in 0..=u8::MAX {
                    other[at] = byte;
                    let same = other.eq_ignore_ascii_case(text.as_bytes());
                    assert_eq!(is_spelling(&other, text.as_bytes()), same, "{text} {byte}");
                }
            }
        }
    }

    #[test]
    fn names_are_tokens() {
        for bad in ["", "a b", "a:", "\u{e4}", "a\n"] {
            assert_eq!(FieldName::try_from(bad), Err(InvalidFieldName), "{bad:?}");
        }
        assert_eq!(
            FieldName::from_bytes(&[b'a'; MOST_NAME + 1]),
            Err(InvalidFieldName)
        );
        assert_eq!(
            FieldName::try_from("X-Own").unwrap_or(header::AGE.into()),
            "x-own"
        );
    }
}
