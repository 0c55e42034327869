//! Logins of browsers: a cookie for each, with the role of the token that was given and a secret against forged
//! requests. They live in memory and end with the process.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use edgerouter_core::http::{Fields, cookie};

use super::super::guard::{Role, same};

/// Logins at a time; the oldest one ends for a new one.
const MOST: usize = 64;
/// Time after which a login ends.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 3600);
/// Wrong tokens in a row that are answered at once, and the time in which one more is allowed.
const ATTEMPTS: u32 = 20;
pub(super) const AGAIN: Duration = Duration::from_secs(3);
/// The field with the secret of a login.
pub(crate) const CSRF: &str = "x-csrf-token";

/// All logins.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: RefCell<Vec<Session>>,
    pub(super) wrong: RefCell<Wrong>,
}

/// A login.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(super) id: Rc<str>,
    pub(crate) csrf: Rc<str>,
    pub(crate) role: Role,
    until: Instant,
}

/// Wrong tokens of late.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    count: u32,
    since: Option<Instant>,
}

impl Wrong {
    /// True if one more may be tried now.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        if let Some(since) = self.since {
            let passed = now.saturating_duration_since(since).as_secs() / AGAIN.as_secs();
            let forgiven = u32::try_from(passed).unwrap_or(u32::MAX);
            if forgiven > 0 {
                self.count = self.count.saturating_sub(forgiven);
                self.since = Some(now);
            }
        }
        self.count < ATTEMPTS
    }

    /// Takes note of one.
    pub(super) fn note(&mut self, now: Instant) {
        self.count += 1;
        self.since.get_or_insert(now);
    }
}

/// A number that nobody can guess, or nothing where the system gives none.
fn unguessable() -> Option<Rc<str>> {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Rc::from(text))
}

impl Sessions {
    /// The login of the cookie in a request.
    pub(crate) fn find(&self, name: &str, headers: &Fields) -> Option<Session> {
        let now = Instant::now();
        let mut all = self.all.borrow_mut();
        all.retain(|session| session.until > now);
        cookie::pairs(headers)
            .filter(|(found, _)| *found == name.as_bytes())
            .find_map(|(_, value)| {
                let is_it = |session: &&Session| same(session.id.as_bytes(), value);
                all.iter().find(is_it).cloned()
            })
    }

    /// Opens a login; `None` if the system gives no random numbers.
    pub(super) fn open(&self, role: Role) -> Option<Session> {
        let session = Session {
            id: unguessable()?,
            csrf: unguessable()?,
            role,
            until: Instant::now() + LIFE,
        };
        let mut all = self.all.borrow_mut();
        if all.len() >= MOST {
            all.remove(0);
        }
        all.push(session.clone());
        Some(session)
    }

    /// Ends a login.
    pub(super) fn close(&self, id: &str) {
        self.all.borrow_mut().retain(|session| &*session.id != id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_oldest_login_ends_for_a_new_one() {
        let sessions = Sessions::default();
        let first = sessions.open(Role::Reader).unwrap();
        for _ in 0..MOST {
            sessions.open(Role::Admin).unwrap();
        }
        let all = sessions.all.borrow();
        assert_eq!(all.len(), MOST);
        assert!(all.iter().all(|session| session.id != first.id));
    }

    #[test]
    fn wrong_tokens_are_bounded_and_forgiven() {
        let (mut wrong, start) = (Wrong::default(), Instant::now());
        for _ in 0..ATTEMPTS {
            assert!(wrong.allows(start));
            wrong.note(start);
        }
        assert!(!wrong.allows(start + AGAIN / 2));
        assert!(wrong.allows(start + AGAIN));
        wrong.note(start + AGAIN);
        assert!(!wrong.allows(start + AGAIN));
    }
}
