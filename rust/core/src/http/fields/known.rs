//! The names of fields that the edge knows: each has a number, so that it is compared and found by it.

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
    pub(super) const fn from_static(text: &'static str) -> Self {
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
    let same = |text: u64, known: u64| differing(text, known) == 0;
    let same_word = |(text, known): (&[u8; 8], &[u8; 8])| {
        same(u64::from_le_bytes(*text), u64::from_le_bytes(*known))
    };
    if text.len() != known.len() {
        return false;
    }
    // The last eight are most often in two words.
    let Some(last) = text.last_chunk().zip(known.last_chunk()) else {
        let mut pairs = text.iter().zip(known);
        return pairs.all(|(text, known)| same(u64::from(*text), u64::from(*known)));
    };
    let (texts, _) = text.as_chunks();
    let (knowns, _) = known.as_chunks();
    texts.iter().zip(knowns).all(same_word) && same_word(last)
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
            use crate::http::fields::known::Known;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use crate::http::fields::name::{FieldName, is_name};

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
}
