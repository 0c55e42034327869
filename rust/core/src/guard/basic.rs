//! Basic authentication (RFC 7617): users with hashed passwords, from a file as `htpasswd -B` writes it.
//!
//! Hashes are bcrypt or argon2, which take long on purpose: [`BasicPolicy::verifies`] is not for a thread that serves.
//! The field never goes to an origin, so responses are stored and shared among all users.

use std::{collections::HashMap, fmt};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use http::HeaderValue;

use crate::{
    http::{Fields, header},
    outcome::words,
};

/// The most users of one policy; `docs/limits.md` names it.
pub const MOST_USERS: usize = 10_000;
/// Longest user name and password together; bcrypt itself reads 72 bytes of a password.
const MOST_CREDENTIALS: usize = 512;
/// Lowest cost of bcrypt: a hash that states less would fit no password.
const LEAST_COST: u32 = 4;
/// Highest cost of bcrypt: each step doubles the time, and 14 takes about a second.
const MOST_COST: u32 = 14;
/// Most memory (KiB), passes and lanes of argon2.
const MOST_MEMORY: u32 = 64 << 10;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;
/// Memory (KiB), passes and lanes of the hashes that are made here, as OWASP recommends them: about 20 ms for a login.
const MADE: (u32, u32, u32) = (19 << 10, 2, 1);

words! {
    /// Why credentials do not open a route.
    pub enum BasicRefusal {
        /// There is no `Authorization` of this scheme.
        Absent = "absent",
        /// The field is repeated, not base64, or without a colon.
        Malformed = "malformed",
        /// The user is unknown, or the password is another.
        Wrong = "wrong",
        /// As many passwords are being verified as may be.
        Busy = "busy",
    }
}

/// A user's name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Without a colon.
    pub user: String,
    /// Any bytes.
    pub password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The credentials of a request (RFC 7617 §2).
pub fn credentials(headers: &Fields) -> Result<Credentials, BasicRefusal> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let line = lines.next().ok_or(BasicRefusal::Absent)?;
    if lines.next().is_some() {
        return Err(BasicRefusal::Malformed);
    }
    let line = line.to_str().map_err(|_| BasicRefusal::Malformed)?;
    let (scheme, encoded) = line.split_once(' ').ok_or(BasicRefusal::Absent)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(BasicRefusal::Absent);
    }
    let encoded = encoded.trim_start_matches(' ');
    if encoded.len() > MOST_CREDENTIALS.div_ceil(3) * 4 {
        return Err(BasicRefusal::Malformed);
    }
    let decoded = STANDARD
        .decode(encoded)
        .map_err(|_| BasicRefusal::Malformed)?;
    let at = decoded
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(BasicRefusal::Malformed)?;
    let (user, password) = decoded.split_at(at);
    let user = std::str::from_utf8(user).map_err(|_| BasicRefusal::Malformed)?;
    Ok(Credentials {
        user: user.to_owned(),
        password: password.get(1..).unwrap_or_default().to_vec(),
    })
}

/// A hashed password. `Debug` shows the kind only.
enum PasswordHash {
    Bcrypt(Box<str>),
    Argon2 {
        hasher: Box<Argon2<'static>>,
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt(_) => "bcrypt",
            Self::Argon2 { .. } => "argon2",
        })
    }
}

impl PasswordHash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "is neither a bcrypt hash nor an argon2 hash; edgerouter password USER makes a line with one";
        if text.starts_with("$argon2") {
            return Self::argon2(text);
        }
        if !["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|kind| text.starts_with(kind))
        {
            return Err(FORM);
        }
        let parts: bcrypt::HashParts = text.parse().map_err(|_| FORM)?;
        if parts.get_cost() < LEAST_COST {
            return Err("has a cost below 4, with which bcrypt computes no hash");
        }
        if parts.get_cost() > MOST_COST {
            return Err("has a cost above 14, which takes more than a second for each login");
        }
        Ok(Self::Bcrypt(text.into()))
    }

    /// `$argon2id$v=19$m=65536,t=3,p=4$SALT$HASH`.
    fn argon2(text: &str) -> Result<Self, &'static str> {
        const FORM: &str =
            "is not an argon2 hash in its usual form: $argon2id$v=19$m=65536,t=3,p=4$SALT$HASH";
        let parts: Vec<&str> = text.split('$').collect();
        let ["", algorithm, "v=19", parameters, salt, hash] = parts.as_slice() else {
            return Err(FORM);
        };
        let algorithm = Algorithm::new(algorithm).map_err(|_| FORM)?;
        let mut numbers = [0; 3];
        let mut given = parameters.split(',');
        for (name, number) in ["m=", "t=", "p="].iter().zip(&mut numbers) {
            let text = given.next().and_then(|part| part.strip_prefix(name));
            *number = text.and_then(|text| text.parse().ok()).ok_or(FORM)?;
        }
        let [memory, passes, lanes] = numbers;
        if given.next().is_some() {
            return Err(FORM);
        }
        if memory > MOST_MEMORY || passes > MOST_PASSES || lanes > MOST_LANES {
            return Err("needs more than 64 MiB, 16 passes or 16 lanes for each login");
        }
        let salt = STANDARD_NO_PAD.decode(salt).map_err(|_| FORM)?;
        let hash = STANDARD_NO_PAD.decode(hash).map_err(|_| FORM)?;
        if !(8..=64).contains(&salt.len()) || !(16..=64).contains(&hash.len()) {
            return Err(FORM);
        }
        let parameters = Params::new(memory, passes, lanes, Some(hash.len())).map_err(|_| FORM)?;
        Ok(Self::Argon2 {
            hasher: Box::new(Argon2::new(algorithm, Version::V0x13, parameters)),
            salt: salt.into(),
            hash: hash.into(),
        })
    }

    fn verifies(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2 { hasher, salt, hash } => {
                let mut found = vec![0; hash.len()];
                hasher
                    .hash_password_into(password, salt, &mut found)
                    .is_ok()
                    && constant_time::verify_slices_are_equal(&found, hash).is_ok()
            }
        }
    }
}

/// A line `USER:HASH` of a file of users, with an argon2 hash. `Err`: the fault, without the password.
pub fn line(user: &str, password: &str, salt: &[u8]) -> Result<String, String> {
    if user.is_empty() || user.starts_with('#') || user.trim() != user {
        return Err(
            "the name must not be empty, begin with #, or have a space at an end".to_owned(),
        );
    }
    if user.chars().any(|it| it == ':' || it.is_control()) {
        return Err(
            "the name must have no colon and no control character (RFC 7617 §2)".to_owned(),
        );
    }
    if password.is_empty() || password.chars().any(char::is_control) {
        return Err(
            "the password must not be empty, nor have a control character (RFC 7617 §2)".to_owned(),
        );
    }
    if user.len() + 1 + password.len() > MOST_CREDENTIALS {
        return Err(format!(
            "name and password must have less than {MOST_CREDENTIALS} bytes together"
        ));
    }
    let (memory, passes, lanes) = MADE;
    let mut hash = [0; 32];
    Params::new(memory, passes, lanes, Some(hash.len()))
        .and_then(|parameters| {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters).hash_password_into(
                password.as_bytes(),
                salt,
                &mut hash,
            )
        })
        .map_err(|error| format!("no hash could be made: {error}"))?;
    Ok(format!(
        "{user}:$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(hash)
    ))
}

/// The users of a route.
#[derive(Debug)]
pub struct BasicPolicy {
    users: HashMap<Box<str>, PasswordHash>,
    /// Verified in place of an unknown user's, so that the time says nothing about who is a user.
    decoy: Option<Box<str>>,
    /// The value of `WWW-Authenticate`.
    pub challenge: HeaderValue,
    /// Hash of the users: what is remembered of others is not theirs.
    pub identity: [u8; 32],
}

impl BasicPolicy {
    /// Reads lines `USER:HASH`; empty ones and those that begin with `#` are left out. `Err`: the fault, with its line.
    pub fn read(users: &str, realm: &str) -> Result<Self, String> {
        let mut known = HashMap::new();
        let mut decoy = None;
        // The byte order mark that some editors write is no part of the first name.
        let lines = users.strip_prefix('\u{feff}').unwrap_or(users).lines();
        for (at, line) in lines.enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = |why: &str| format!("line {}: {why}", at + 1);
            let (user, hash) = line
                .split_once(':')
                .ok_or_else(|| fault("is not USER:HASH"))?;
            if user.is_empty() {
                return Err(fault("has no name of a user"));
            }
            let hash =
                PasswordHash::parse(hash).map_err(|why| fault(&format!("the password {why}")))?;
            decoy.get_or_insert_with(|| user.into());
            if known.insert(user.into(), hash).is_some() {
                return Err(fault("is a second password of one user"));
            }
        }
        if known.is_empty() || known.len() > MOST_USERS {
            return Err(format!(
                "must have 1 to {MOST_USERS} users, has {}",
                known.len()
            ));
        }
        let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge =
            HeaderValue::from_str(&format!("Basic realm=\"{quoted}\", charset=\"UTF-8\""))
                .map_err(|_| "the realm must be one line of ASCII text".to_owned())?;
        let mut identity = [0; 32];
        for (to, from) in identity
            .iter_mut()
            .zip(digest::digest(&digest::SHA256, users.as_bytes()).as_ref())
        {
            *to = *from;
        }
        Ok(Self {
            users: known,
            decoy,
            challenge,
            identity,
        })
    }

    /// True if the password is the user's. Takes long on purpose, for unknown users as well.
    pub fn verifies(&self, credentials: &Credentials) -> bool {
        if let Some(hash) = self.users.get(&*credentials.user) {
            return hash.verifies(&credentials.password);
        }
        let decoy = self.decoy.as_ref().and_then(|user| self.users.get(user));
        if let Some(hash) = decoy {
            let _ = std::hint::black_box(hash.verifies(&credentials.password));
        }
        false
    }

    /// The number of users.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// True without any user, which no policy is.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bcrypt(password: &str) -> String {
        bcrypt::hash_with_salt(password, 4, *b"0123456789abcdef")
            .unwrap()
            .format_for_version(bcrypt::Version::TwoY)
    }

    fn argon2(password: &str) -> String {
        let mut hash = [0; 32];
        let hasher = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            Params::new(16, 1, 2, Some(32)).unwrap(),
        );
        hasher
            .hash_password_into(password.as_bytes(), b"0123456789abcdef", &mut hash)
            .unwrap();
        let encoded = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
        format!(
            "$argon2id$v=19$m=16,t=1,p=2${}${}",
            encoded(b"0123456789abcdef"),
            encoded(&hash)
        )
    }

    fn of(user: &str, password: &str) -> Credentials {
        Credentials {
            user: user.into(),
            password: password.into(),
        }
    }

    #[test]
    fn a_password_opens_for_its_user_only() {
        let text = format!(
            "\u{feff}ann:{}\r\n\n# staff\nbob:{}\n",
            bcrypt("one"),
            argon2("two: with colon")
        );
        let policy = BasicPolicy::read(&text, "Staff \"only\"").unwrap();
        assert_eq!(policy.len(), 2);
        assert_eq!(
            policy.challenge,
            "Basic realm=\"Staff \\\"only\\\"\", charset=\"UTF-8\""
        );
        for (user, password, want) in [
            ("ann", "one", true),
            ("bob", "two: with colon", true),
            ("ann", "two: with colon", false),
            ("bob", "one", false),
            ("ann", "", false),
            ("eve", "one", false),
            ("", "one", false),
            ("ANN", "one", false),
        ] {
            assert_eq!(
                policy.verifies(&of(user, password)),
                want,
                "{user} {password}"
            );
        }
        assert!(!format!("{policy:?}").contains("$2y$"));
    }

    #[test]
    fn a_line_that_is_made_opens_for_its_user_and_no_line_is_made_that_cannot_be_read() {
        let made = line("ann", "one: two", b"0123456789abcdef").unwrap();
        assert!(made.starts_with("ann:$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$"));
        let policy = BasicPolicy::read(&made, "r").unwrap();
        assert!(policy.verifies(&of("ann", "one: two")));
        assert!(!policy.verifies(&of("ann", "one")));
        let long = "x".repeat(MOST_CREDENTIALS);
        for (user, password, want) in [
            ("", "one", "must not be empty"),
            ("#ann", "one", "begin with #"),
            ("ann ", "one", "a space at an end"),
            ("a:b", "one", "no colon"),
            ("a\nb", "one", "no control character"),
            ("ann", "", "the password must not be empty"),
            ("ann", "o\0ne", "a control character"),
            ("ann", &long, "less than 512 bytes"),
        ] {
            let found = line(user, password, b"0123456789abcdef").unwrap_err();
            assert!(found.contains(want), "{user:?}: {found}");
            assert!(!found.contains("ne\""), "{found}");
        }
    }

    #[test]
    fn a_file_with_a_weak_or_unknown_hash_is_refused_with_its_line() {
        let good = format!("ann:{}", bcrypt("one"));
        for (text, want) in [
            (String::new(), "must have 1 to 10000 users, has 0"),
            ("ann".to_owned(), "line 1: is not USER:HASH"),
            (format!("{good}\n:x"), "line 2: has no name"),
            (format!("{good}\n{good}"), "line 2: is a second password"),
            (
                "ann:$apr1$x$y".to_owned(),
                "line 1: the password is neither a bcrypt hash",
            ),
            ("ann:{SHA}x".to_owned(), "neither a bcrypt hash"),
            ("ann:plain".to_owned(), "neither a bcrypt hash"),
            ("ann:$2y$04$short".to_owned(), "neither a bcrypt hash"),
            (good.replace("$04$", "$15$"), "a cost above 14"),
            (good.replace("$04$", "$03$"), "a cost below 4"),
            (
                "ann:$argon2id$v=19$m=16,t=1$c2FsdHNhbHQ$aGFzaA".to_owned(),
                "not an argon2 hash",
            ),
            (
                format!("ann:{}", argon2("x").replace("m=16", "m=1048576")),
                "more than 64 MiB",
            ),
            (
                format!("ann:{}", argon2("x").replace("v=19", "v=16")),
                "not an argon2 hash",
            ),
        ] {
            let found = BasicPolicy::read(&text, "r").err().unwrap_or_default();
            assert!(found.contains(want), "{text}\nwant {want}\ngot  {found}");
        }
    }

    #[test]
    fn credentials_have_one_reading() {
        use BasicRefusal::{Absent, Malformed};
        for (lines, want) in [
            (&["Basic YW5uOm9uZTp0d28="][..], Ok(of("ann", "one:two"))),
            (&["basic   YW5uOg=="], Ok(of("ann", ""))),
            (&[], Err(Absent)),
            (&["Bearer x.y.z"], Err(Absent)),
            (&["Basic"], Err(Absent)),
            (&["Basic YW5u"], Err(Malformed)),
            (&["Basic !"], Err(Malformed)),
            (&["Basic YW5uOm9uZQ"], Err(Malformed)),
            (&["Basic /zpv"], Err(Malformed)),
            (&["Basic YW5uOg==", "Basic YW5uOg=="], Err(Malformed)),
        ] {
            let mut headers = Fields::new();
            for line in lines {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(credentials(&headers), want, "{lines:?}");
        }
        let mut headers = Fields::new();
        let long = format!(
            "Basic {}",
            STANDARD.encode("a:".to_owned() + &"b".repeat(MOST_CREDENTIALS))
        );
        headers.append(header::AUTHORIZATION, HeaderValue::from_str(&long).unwrap());
        assert_eq!(credentials(&headers), Err(Malformed));
    }
}
