//! The success of prediction: each prefetched page is either used by a visitor in time, or wasted.

use std::collections::VecDeque;

use hashbrown::HashMap;

/// Seconds within which a prefetched page must be requested.
const PATIENCE: u64 = 300;

#[derive(Debug, Clone, Copy)]
struct RecordedFetch {
    bytes: u64,
    number: u64,
}

/// Counts which predicted fetches were used.
#[derive(Debug)]
pub struct Ledger {
    waiting: HashMap<u64, RecordedFetch>,
    /// Page, number of its fetch, and the time at which it counts as wasted.
    order: VecDeque<(u64, u64, u64)>,
    most: usize,
    /// Pages fetched by prediction.
    pub fetched: u64,
    /// Of those, requested by a visitor in time.
    pub used: u64,
    /// Of those, requested by nobody in time.
    pub wasted: u64,
    /// Bytes of the wasted ones.
    pub wasted_bytes: u64,
}

impl Ledger {
    /// `most`: pages waited for at a time; past it the oldest count as wasted.
    pub fn new(most: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            order: VecDeque::new(),
            most: most.max(1),
            fetched: 0,
            used: 0,
            wasted: 0,
            wasted_bytes: 0,
        }
    }

    /// Notes that a page was prefetched.
    pub fn fetched(&mut self, page: u64, bytes: u64, now: u64) {
        self.fetched += 1;
        let number = self.fetched;
        if let Some(before) = self.waiting.insert(page, RecordedFetch { bytes, number }) {
            self.waste(before.bytes);
        }
        self.order
            .push_back((page, number, now.saturating_add(PATIENCE)));
        while self.order.len() > self.most {
            self.give_up_first();
        }
    }

    /// Notes that a visitor requested a page, and whether it was found stored: a page evicted before is no success.
    pub fn visited(&mut self, page: u64, found: bool) {
        match self.waiting.remove(&page) {
            Some(_) if found => self.used += 1,
            Some(fetch) => self.waste(fetch.bytes),
            None => {}
        }
    }

    /// Notes a fetch whose response could not be stored: it was wasted.
    pub fn lost(&mut self, bytes: u64) {
        self.fetched += 1;
        self.waste(bytes);
    }

    /// Counts pages that have waited too long as wasted.
    pub fn expire(&mut self, now: u64) {
        while self
            .order
            .front()
            .is_some_and(|(_, _, until)| *until <= now)
        {
            self.give_up_first();
        }
    }

    fn give_up_first(&mut self) {
        let Some((page, number, _)) = self.order.pop_front() else {
            return;
        };
        if self
            .waiting
            .get(&page)
            .is_some_and(|fetch| fetch.number == number)
            && let Some(fetch) = self.waiting.remove(&page)
        {
            self.waste(fetch.bytes);
        }
    }

    fn waste(&mut self, bytes: u64) {
        self.wasted += 1;
        self.wasted_bytes = self.wasted_bytes.saturating_add(bytes);
    }

    /// Pages that may still be used.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fetch_is_used_once_or_wasted_once_or_still_waiting() {
        let mut ledger = Ledger::new(10);
        let mut random = 1_u64;
        for now in 0..5_000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let page = (random >> 33) % 30;
            match (random >> 40) % 4 {
                0 | 1 => ledger.fetched(page, 10, now),
                2 => {
                    ledger.visited(page, !random.is_multiple_of(8));
                }
                _ => ledger.expire(now),
            }
            assert!(ledger.waiting() <= 10 && ledger.order.len() <= 10);
            assert_eq!(
                ledger.fetched,
                ledger.used + ledger.wasted + ledger.waiting() as u64
            );
            assert_eq!(ledger.wasted_bytes, ledger.wasted * 10);
        }
        assert!(ledger.used > 100 && ledger.wasted > 100);
    }

    #[test]
    fn a_page_is_given_up_after_its_time_and_not_before() {
        let mut ledger = Ledger::new(10);
        ledger.fetched(1, 7, 1_000);
        ledger.expire(1_000 + PATIENCE - 1);
        assert_eq!(ledger.wasted, 0);
        ledger.expire(1_000 + PATIENCE);
        assert_eq!((ledger.wasted, ledger.wasted_bytes), (1, 7));
        ledger.visited(1, true);
        assert_eq!(ledger.used, 0, "too late");
        ledger.fetched(2, 9, 2_000);
        ledger.visited(2, false);
        assert_eq!((ledger.used, ledger.wasted_bytes), (0, 16), "not found");
        ledger.lost(5);
        assert_eq!((ledger.fetched, ledger.wasted_bytes), (3, 21));
    }
}
