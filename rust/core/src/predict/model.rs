//! The pages that follow one another, counted over recent visits.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Generations;
use crate::plan::PrefetchTarget;

/// Bounds on the model's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelBounds {
    /// Pages that are remembered.
    pub pages: usize,
    /// Visitors whose last page is remembered.
    pub visitors: usize,
}

/// Seconds without a request after which a visitor's next one begins a new visit.
const SESSION: u64 = 1_800;
/// Successors that are counted for one page.
const SUCCESSORS: usize = 12;
/// Visits after which a page's counts are halved: older visits count for less.
const HALVED_AT: u32 = 1_024;

/// Counts which page visitors request after which.
#[derive(Debug)]
pub struct Model {
    pages: Generations<Page>,
    visitors: Generations<Visit>,
}

#[derive(Debug)]
struct Page {
    target: Arc<PrefetchTarget>,
    bytes: u64,
    visits: u32,
    next: SmallVec<[(u64, u32); 4]>,
}

#[derive(Debug, Clone, Copy)]
struct Visit {
    page: u64,
    at: u64,
}

/// A page that may come next.
#[derive(Debug, Clone)]
pub struct Likely {
    /// Hash of the page.
    pub page: u64,
    /// The request that fetches it.
    pub target: Arc<PrefetchTarget>,
    /// Its size when it was last seen.
    pub bytes: u64,
    /// Share of the previous page's visitors that went on to this one.
    pub confidence: f64,
    /// Number of the previous page's visitors.
    pub support: u32,
}

impl Model {
    /// An empty model.
    pub fn new(bounds: ModelBounds) -> Self {
        Self {
            pages: Generations::new(bounds.pages),
            visitors: Generations::new(bounds.visitors),
        }
    }

    /// Notes that `visitor` went to `page`.
    pub fn observe(
        &mut self,
        visitor: u64,
        page: u64,
        target: &Arc<PrefetchTarget>,
        bytes: u64,
        now: u64,
    ) {
        let before = self
            .visitors
            .touch(visitor)
            .filter(|visit| now.saturating_sub(visit.at) <= SESSION)
            .map(|visit| visit.page);
        self.visitors.put(visitor, Visit { page, at: now });
        if self.pages.touch(page).is_none() {
            let fresh = Page {
                target: Arc::clone(target),
                bytes,
                visits: 0,
                next: SmallVec::new(),
            };
            self.pages.put(page, fresh);
        }
        // A reload is not a visit: the visitor stays on the page.
        let moved = before != Some(page);
        if let Some(known) = self.pages.touch(page) {
            known.bytes = bytes;
            if moved {
                known.visit();
            }
        }
        if let Some(before) = before.filter(|_| moved)
            && let Some(known) = self.pages.touch(before)
        {
            known.followed_by(page);
        }
    }

    /// The pages that may follow `page`, the likeliest first.
    pub fn likely(&self, page: u64) -> Vec<Likely> {
        let Some(known) = self.pages.get(page) else {
            return Vec::new();
        };
        let mut likely: Vec<Likely> = known
            .next
            .iter()
            .filter_map(|(next, count)| {
                let target = self.pages.get(*next)?;
                Some(Likely {
                    page: *next,
                    target: Arc::clone(&target.target),
                    bytes: target.bytes,
                    confidence: (f64::from(*count) / f64::from(known.visits.max(1))).min(1.0),
                    support: *count,
                })
            })
            .collect();
        likely.sort_by(|a, b| b.support.cmp(&a.support).then(a.page.cmp(&b.page)));
        likely
    }

    /// Forgets a page until somebody visits it again.
    pub fn forget(&mut self, page: u64) {
        self.pages.remove(page);
    }

    /// Pages and visitors that are remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.pages.len(), self.visitors.len())
    }

    /// True if it remembers nothing.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.visitors.is_empty()
    }
}

impl Page {
    fn visit(&mut self) {
        self.visits += 1;
        if self.visits >= HALVED_AT {
            self.visits /= 2;
            for (_, count) in &mut self.next {
                *count /= 2;
            }
            self.next.retain(|(_, count)| *count > 0);
        }
    }

    fn followed_by(&mut self, page: u64) {
        if let Some((_, count)) = self.next.iter_mut().find(|(next, _)| *next == page) {
            *count += 1;
        } else if self.next.len() < SUCCESSORS {
            self.next.push((page, 1));
        } else if let Some(rarest) = self.next.iter_mut().min_by_key(|(_, count)| *count) {
            // A newcomer costs the rarest successor one count, so that a frequent newcomer eventually replaces it.
            rarest.1 -= 1;
            if rarest.1 == 0 {
                *rarest = (page, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::http::PathAndQuery;
    use http::HeaderValue;

    use super::*;
    use crate::plan::Scheme;

    const BOUNDS: ModelBounds = ModelBounds {
        pages: 50,
        visitors: 40,
    };

    fn target() -> Arc<PrefetchTarget> {
        Arc::new(PrefetchTarget {
            scheme: Scheme::Https,
            authority: HeaderValue::from_static("www.example.com"),
            path_and_query: PathAndQuery::from_static("/"),
        })
    }

    #[test]
    fn what_most_visitors_do_next_is_likeliest() {
        let (mut model, target) = (Model::new(BOUNDS), target());
        for visitor in 0..40 {
            let at = visitor * 10;
            model.observe(visitor, 1, &target, 100, at);
            match visitor % 4 {
                0 | 1 => model.observe(visitor, 2, &target, 200, at + 1),
                2 => model.observe(visitor, 3, &target, 300, at + 1),
                _ => {}
            }
        }
        let likely: Vec<(u64, u64, u32, f64)> = model
            .likely(1)
            .iter()
            .map(|next| (next.page, next.bytes, next.support, next.confidence))
            .collect();
        assert_eq!(likely, [(2, 200, 20, 0.5), (3, 300, 10, 0.25)]);
        assert!(model.likely(2).is_empty());
        model.forget(2);
        assert_eq!(model.likely(1).len(), 1);
    }

    #[test]
    fn reloads_and_long_pauses_are_no_steps() {
        let (mut model, target) = (Model::new(BOUNDS), target());
        for at in 0..10 {
            model.observe(1, 1, &target, 1, at);
        }
        assert!(model.likely(1).is_empty());
        model.observe(1, 2, &target, 1, 9 + SESSION + 1);
        assert!(model.likely(1).is_empty(), "a new session");
        model.observe(1, 3, &target, 1, 9 + 2 * SESSION);
        assert_eq!(model.likely(2).len(), 1);
    }

    #[test]
    fn a_change_of_habit_is_learnt() {
        let (mut model, target) = (Model::new(BOUNDS), target());
        let mut step = |next: u64, visitors: std::ops::Range<u64>| {
            for visitor in visitors {
                model.observe(visitor, 1, &target, 1, visitor);
                model.observe(visitor, next, &target, 1, visitor);
            }
            model.likely(1).first().map(|first| first.page)
        };
        assert_eq!(step(2, 0..3_000), Some(2));
        assert_eq!(step(3, 3_000..5_000), Some(3));
    }

    /// Any sequence of visits: bounds hold, confidences are probabilities in order, every prediction names a known
    /// page.
    #[test]
    fn whatever_happens_the_bounds_hold() {
        for seed in 1..20_u64 {
            let (mut model, target) = (Model::new(BOUNDS), target());
            let mut random = seed;
            let mut below = |most: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % most
            };
            let mut now = 0;
            for _ in 0..5_000 {
                now += below(100);
                let (visitor, page) = (below(120), below(200).min(below(200)));
                model.observe(visitor, page, &target, below(1_000), now);
                let (pages, visitors) = model.len();
                assert!(pages <= BOUNDS.pages && visitors <= BOUNDS.visitors);
                let likely = model.likely(page);
                assert!(likely.len() <= SUCCESSORS);
                for pair in likely.windows(2) {
                    if let [first, second] = pair {
                        assert!(first.confidence >= second.confidence);
                    }
                }
                for next in &likely {
                    assert!(next.page != page && next.support > 0);
                    assert!((0.0..=1.0).contains(&next.confidence));
                    assert!(model.pages.get(next.page).is_some());
                }
            }
        }
    }
}
