//! The marks that purges left, and their effect on a stored response.
//!
//! Each purge has a sequence number, larger than all before. A response remembers the newest number at the moment its
//! fetch started, so one that was requested before a purge and stored after it is purged too. The tables are bounded:
//! when they are full the oldest marks are dropped, and a response from before them counts as purged, which costs a
//! fetch and is never wrong.

use hashbrown::HashMap;

use super::{Matcher, Pattern, PurgeSubject};
use crate::plan::limits::PurgeLimits;

/// How many marks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkLimits {
    /// Of URLs, hosts and tags together.
    pub marks: usize,
    /// Path patterns, each of which is compared in turn.
    pub patterns: usize,
}

impl From<&PurgeLimits> for MarkLimits {
    fn from(limits: &PurgeLimits) -> Self {
        Self {
            marks: limits.marks,
            patterns: limits.patterns,
        }
    }
}

/// The effect of purges on a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeEffect {
    /// No purge since it was stored matches it.
    Untouched,
    /// Stale since then (Unix seconds).
    Soft {
        /// Time of the newest soft purge that matches it (Unix seconds).
        at: u64,
    },
    /// Purged: as good as not stored.
    Gone,
}

/// The newest purges of one URL, host or tag.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    hard: u64,
    soft: u64,
    soft_at: u64,
}

impl Mark {
    fn note(&mut self, sequence: u64, soft: bool, at: u64) {
        if soft {
            (self.soft, self.soft_at) = (sequence, at);
        } else {
            self.hard = sequence;
        }
    }

    fn newest(self) -> u64 {
        self.hard.max(self.soft)
    }
}

type Table<K> = HashMap<K, Mark, foldhash::fast::RandomState>;

/// The newest purges, a bounded number of them, by URL, host, tag and pattern.
#[derive(Debug, Default)]
pub struct Register {
    newest: u64,
    /// Marks up to this number may have been dropped.
    floor: u64,
    everything: Mark,
    urls: Table<u64>,
    hosts: Table<Box<str>>,
    tags: Table<u64>,
    patterns: Vec<(u64, bool, u64, Option<Box<str>>, Pattern)>,
    newest_tag: u64,
}

impl Register {
    /// A register whose purges will be newer than `newest`.
    pub fn new(newest: u64) -> Self {
        Self {
            newest,
            ..Self::default()
        }
    }

    /// Number of the newest purge; 0 if there was none.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Responses from before this number count as purged, unless a newer mark is known.
    pub fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.newest = self.newest.max(floor);
    }

    /// Marks held for URLs, hosts, tags and patterns together.
    pub fn marks(&self) -> usize {
        self.urls.len() + self.hosts.len() + self.tags.len() + self.patterns.len()
    }

    /// Adds a purge, and drops the oldest if there are more than `bounds` allows. `at`: Unix seconds.
    pub fn add(
        &mut self,
        sequence: u64,
        soft: bool,
        at: u64,
        matcher: &Matcher,
        bounds: MarkLimits,
    ) {
        self.newest = self.newest.max(sequence);
        if matcher.everything {
            self.everything.note(sequence, soft, at);
        }
        for &url in &matcher.urls {
            self.urls.entry(url).or_default().note(sequence, soft, at);
        }
        for host in &matcher.hosts {
            self.hosts
                .entry(host.clone())
                .or_default()
                .note(sequence, soft, at);
        }
        for &tag in &matcher.tags {
            self.tags.entry(tag).or_default().note(sequence, soft, at);
            self.newest_tag = sequence;
        }
        for (host, pattern) in &matcher.patterns {
            self.patterns.retain(|(_, was_soft, _, of, known)| {
                (soft && !was_soft) || of != host || known != pattern
            });
            self.patterns
                .push((sequence, soft, at, host.clone(), pattern.clone()));
        }
        self.bound(bounds);
    }

    fn bound(&mut self, most: MarkLimits) {
        if self.patterns.len() > most.patterns {
            let kept = most.patterns / 4 * 3;
            for (sequence, ..) in self.patterns.drain(..self.patterns.len() - kept) {
                self.floor = self.floor.max(sequence);
            }
        }
        let marks = self.urls.len() + self.hosts.len() + self.tags.len();
        if marks <= most.marks {
            return;
        }
        let mut ages: Vec<u64> = (self.urls.values().chain(self.tags.values()))
            .chain(self.hosts.values())
            .map(|mark| mark.newest())
            .collect();
        let (_, &mut oldest_kept, _) = ages.select_nth_unstable(marks - most.marks / 4 * 3);
        // Marks of one purge have one number: they go together.
        self.urls.retain(|_, mark| mark.newest() > oldest_kept);
        self.tags.retain(|_, mark| mark.newest() > oldest_kept);
        self.hosts.retain(|_, mark| mark.newest() > oldest_kept);
        self.floor = self.floor.max(oldest_kept);
    }

    /// The effect of the purges after `since` on a response.
    pub fn effect(&self, subject: &PurgeSubject<'_>, since: u64) -> PurgeEffect {
        if since >= self.newest {
            return PurgeEffect::Untouched;
        }
        if since < self.floor || self.everything.hard > since {
            return PurgeEffect::Gone;
        }
        let mut soft = None;
        let mut note = |mark: &Mark| {
            if mark.soft > since {
                soft = Some(soft.map_or(mark.soft_at, |at: u64| at.min(mark.soft_at)));
            }
            mark.hard > since
        };
        if note(&self.everything)
            || (!self.hosts.is_empty() && self.hosts.get(subject.host).is_some_and(&mut note))
        {
            return PurgeEffect::Gone;
        }
        if !self.urls.is_empty()
            && subject.any_url(|hash| self.urls.get(&hash).is_some_and(&mut note))
        {
            return PurgeEffect::Gone;
        }
        if self.newest_tag > since {
            let any = crate::cache::tags::has_any(subject.tags);
            let gone = if any {
                self.tags.values().any(&mut note)
            } else {
                subject
                    .tags
                    .iter()
                    .any(|tag| self.tags.get(tag).is_some_and(&mut note))
            };
            if gone {
                return PurgeEffect::Gone;
            }
        }
        for (sequence, is_soft, at, host, pattern) in self.patterns.iter().rev() {
            if *sequence <= since {
                break;
            }
            if subject.fits(host.as_deref(), pattern) {
                if !is_soft {
                    return PurgeEffect::Gone;
                }
                soft = Some(soft.map_or(*at, |known| known.min(*at)));
            }
        }
        soft.map_or(PurgeEffect::Untouched, |at| PurgeEffect::Soft { at })
    }

    /// True if a purge after `since` may match the response of a fetch that started at `since`. Its tags are not known
    /// yet, so any tag purge counts.
    pub fn concerns_flight(&self, subject: &PurgeSubject<'_>, since: u64) -> bool {
        since < self.newest
            && (self.newest_tag > since || self.effect(subject, since) != PurgeEffect::Untouched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: MarkLimits = MarkLimits {
        marks: 4_000,
        patterns: 100,
    };
    use crate::cache::{
        purge::{Scope, scope::url_hash},
        tags,
    };

    fn subject<'a>(
        host: &'a str,
        path: &'a str,
        query: Option<&'a str>,
        tags: &'a [u64],
    ) -> PurgeSubject<'a> {
        PurgeSubject {
            host,
            port: 443,
            path,
            query,
            viewer: None,
            requested: None,
            tags,
        }
    }

    fn matcher(scopes: &[Scope]) -> Matcher {
        let keys: Vec<u64> = scopes
            .iter()
            .filter_map(|scope| match scope {
                Scope::Url { host, path, query } => Some(url_hash(
                    host.as_deref().unwrap_or_default(),
                    path,
                    query.as_deref(),
                )),
                _ => None,
            })
            .collect();
        Matcher::new(scopes, &keys)
    }

    fn url(host: Option<&str>, path: &str, query: Option<&str>) -> Scope {
        Scope::Url {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            query: query.map(str::to_owned),
        }
    }

    #[test]
    fn a_purge_concerns_what_it_names_and_nothing_else() {
        let tags = [tags::hash(b"shoes")];
        let item = subject("a.example", "/img/1.png", Some("w=1"), &tags);
        let path = |host: Option<&str>, pattern: &str| Scope::Path {
            host: host.map(str::to_owned),
            pattern: pattern.to_owned(),
        };
        for (scope, want) in [
            (url(Some("a.example"), "/img/1.png", Some("w=1")), true),
            (url(Some("a.example:443"), "/img/1.png", Some("w=1")), true),
            (
                url(Some("a.example:8443"), "/img/1.png", Some("w=1")),
                false,
            ),
            (url(None, "/img/1.png", Some("w=1")), true),
            (url(None, "/img/1.png", Some("%77=%31")), true),
            (url(Some("a.example"), "/img/1.png", None), false),
            (url(Some("a.example"), "/img/1.PNG", Some("w=1")), false),
            (url(Some("b.example"), "/img/1.png", Some("w=1")), false),
            (path(None, "/img/*.png"), true),
            (path(Some("a.example"), "/img/*"), true),
            (path(Some("b.example"), "/img/*"), false),
            (path(None, "/css/*"), false),
            (path(None, "/*"), true),
            (path(Some("b.example"), "/*"), false),
            (Scope::Host("a.example".to_owned()), true),
            (Scope::Host("b.example".to_owned()), false),
            (Scope::Tag("shoes".to_owned()), true),
            (Scope::Tag("Shoes".to_owned()), false),
            (Scope::Everything, true),
        ] {
            let matcher = matcher(std::slice::from_ref(&scope));
            assert_eq!(matcher.matches(&item), want, "{scope:?}");
            let mut register = Register::new(10);
            register.add(11, false, 100, &matcher, BOUNDS);
            let (gone, kept) = (PurgeEffect::Gone, PurgeEffect::Untouched);
            assert_eq!(
                register.effect(&item, 10),
                if want { gone } else { kept },
                "{scope:?}"
            );
            assert_eq!(register.effect(&item, 11), kept, "fetched after: {scope:?}");
            let mut register = Register::new(10);
            register.add(11, true, 100, &matcher, BOUNDS);
            let soft = PurgeEffect::Soft { at: 100 };
            assert_eq!(
                register.effect(&item, 10),
                if want { soft } else { kept },
                "{scope:?}"
            );
        }
    }

    #[test]
    fn a_response_is_named_by_what_its_viewers_ask_for() {
        let aliased = PurgeSubject {
            viewer: Some("/"),
            requested: Some(("/home", Some("x"))),
            ..subject("h", "/index.html", None, &[])
        };
        for (path, query, want) in [
            ("/", None, true),
            ("/index.html", None, true),
            ("/home", Some("x"), true),
            ("/home", None, false),
        ] {
            let matcher = matcher(&[url(Some("h"), path, query)]);
            assert_eq!(matcher.matches(&aliased), want, "{path} {query:?}");
        }
    }

    #[test]
    fn hard_wins_over_soft_and_the_first_soft_counts() {
        let item = subject("h", "/a", None, &[]);
        let all = matcher(&[Scope::Everything]);
        let one = matcher(&[url(None, "/a", None)]);
        let mut register = Register::new(0);
        register.add(1, true, 100, &one, BOUNDS);
        register.add(2, true, 200, &all, BOUNDS);
        assert_eq!(register.effect(&item, 0), PurgeEffect::Soft { at: 100 });
        assert_eq!(register.effect(&item, 1), PurgeEffect::Soft { at: 200 });
        register.add(3, false, 300, &one, BOUNDS);
        assert_eq!(register.effect(&item, 2), PurgeEffect::Gone);
        register.add(4, true, 400, &one, BOUNDS);
        assert_eq!(register.effect(&item, 2), PurgeEffect::Gone);
        assert_eq!(register.effect(&item, 3), PurgeEffect::Soft { at: 400 });
        let pattern = matcher(&[Scope::Path {
            host: None,
            pattern: "/a*".to_owned(),
        }]);
        register.add(5, false, 500, &pattern, BOUNDS);
        register.add(6, true, 600, &pattern, BOUNDS);
        assert_eq!(register.effect(&item, 4), PurgeEffect::Gone);
    }

    #[test]
    fn full_tables_forget_towards_purged() {
        let item = subject("h", "/a", None, &[]);
        let mut register = Register::new(0);
        for n in 1..=BOUNDS.marks as u64 + 1 {
            let mut matcher = Matcher::default();
            matcher.urls.insert(n);
            register.add(n, false, 0, &matcher, BOUNDS);
        }
        assert!(register.marks() <= BOUNDS.marks);
        assert_eq!(register.effect(&item, 0), PurgeEffect::Gone);
        assert_eq!(
            register.effect(&item, BOUNDS.marks as u64),
            PurgeEffect::Untouched
        );
        let mut register = Register::new(0);
        for n in 1..=BOUNDS.patterns as u64 + 1 {
            let pattern = format!("/{n}/*");
            register.add(
                n,
                false,
                0,
                &matcher(&[Scope::Path {
                    host: None,
                    pattern,
                }]),
                BOUNDS,
            );
        }
        assert!(register.marks() <= BOUNDS.patterns);
        assert_eq!(register.effect(&item, 0), PurgeEffect::Gone);
        assert_eq!(
            register.effect(&item, BOUNDS.patterns as u64),
            PurgeEffect::Untouched
        );
    }

    #[test]
    fn a_flight_is_concerned_by_every_tag_purge() {
        let item = subject("h", "/a", None, &[]);
        let mut register = Register::new(0);
        register.add(1, false, 0, &matcher(&[Scope::Tag("t".to_owned())]), BOUNDS);
        assert!(register.concerns_flight(&item, 0));
        assert!(!register.concerns_flight(&item, 1));
        register.add(2, false, 0, &matcher(&[url(None, "/b", None)]), BOUNDS);
        assert!(!register.concerns_flight(&item, 1));
    }
}
