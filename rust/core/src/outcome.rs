//! How a request was answered: its outcome, and the detail that `Cache-Status`, metrics and logs give. One list of words.

/// A closed set of words, which counters are indexed by.
pub trait Word: Copy {
    const COUNT: usize;
    fn index(self) -> usize;
    /// The word at a position; empty past the last.
    fn at(index: usize) -> &'static str;
}

/// An enum whose variants each have a word.
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of declaration.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::outcome::Word for $name {
            const COUNT: usize = Self::ALL.len();

            fn index(self) -> usize {
                self as usize
            }

            fn at(index: usize) -> &'static str {
                Self::ALL.get(index).map_or("", |word| word.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// The source of a response.
    pub enum Outcome {
        Hit = "hit",
        /// Stale, while a refresh runs in the background or because the request allows it.
        Stale = "stale",
        Miss = "miss",
        /// Read along with another request's fetch.
        Coalesced = "coalesced",
        Revalidated = "revalidated",
        StaleOnError = "stale-on-error",
        /// Stale, because no origin could be reached.
        Disconnected = "disconnected",
        /// Not cacheable.
        Pass = "pass",
        Function = "function",
        Redirect = "redirect",
        Tunnel = "tunnel",
        /// The edge's own refusal or failure.
        Error = "error",
    }
}

words! {
    /// Why a response is what it is: the detail of `Cache-Status` (RFC 9211 §2.8).
    pub enum Detail {
        // The edge answers by itself.
        ClientRequests = "client-requests",
        Fixed = "fixed",
        Function = "function",
        FunctionFailed = "function-failed",
        Hook = "hook",
        HookFailed = "hook-failed",
        HttpsOnly = "https-only",
        MethodNotAllowed = "method-not-allowed",
        NoRoute = "no-route",
        OnlyIfCached = "only-if-cached",
        Options = "options",
        Redirect = "redirect",
        Unauthorized = "unauthorized",
        // The request passes the cache.
        Disabled = "disabled",
        Method = "method",
        RequestBody = "request-body",
        Unkeyed = "unkeyed",
        Upgrade = "upgrade",
        // The store has nothing that fits.
        Absent = "absent",
        Changed = "changed",
        Purged = "purged",
        SliceAbsent = "slice-absent",
        SliceRefused = "slice-refused",
        VariantAbsent = "variant-absent",
        // Parts of large objects are not stored.
        FillBound = "fill-bound",
        FillNever = "fill-never",
        FillSecond = "fill-second",
        // A stored response must be validated.
        Expired = "expired",
        NoCache = "no-cache",
        RequestMaxAge = "request-max-age",
        RequestMinFresh = "request-min-fresh",
        RequestNoCache = "request-no-cache",
        // A stored response is used or refreshed before or after its lifetime.
        Ahead = "ahead",
        Disconnected = "disconnected",
        Grace = "grace",
        MaxStale = "max-stale",
        SickGrace = "sick-grace",
        StaleIfError = "stale-if-error",
        StaleWhileRevalidate = "stale-while-revalidate",
        // A response is not stored.
        Authorization = "authorization",
        NoStore = "no-store",
        NotCombinable = "not-combinable",
        NotReusable = "not-reusable",
        OtherRange = "other-range",
        Partial = "partial",
        Private = "private",
        RequestNoStore = "request-no-store",
        SetCookie = "set-cookie",
        Status = "status",
        TooLarge = "too-large",
        VaryStar = "vary-star",
        // No origin answers.
        BadResponse = "bad-response",
        BetweenBytesTimeout = "between-bytes-timeout",
        BodyAborted = "body-aborted",
        Connect = "connect",
        ConnectTimeout = "connect-timeout",
        Deadline = "deadline",
        Dns = "dns",
        FirstByteTimeout = "first-byte-timeout",
        GaveWay = "gave-way",
        NoMemory = "no-memory",
        NoOrigin = "no-origin",
        OriginBusy = "origin-busy",
        PoolExhausted = "pool-exhausted",
        Reset = "reset",
        Tls = "tls",
        TotalTimeout = "total-timeout",
        Unhealthy = "unhealthy",
    }
}
