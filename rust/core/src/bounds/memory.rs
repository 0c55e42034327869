//! One account of all memory that clients can make grow: how much each holder may draw, and which one is cut when it is
//! exhausted.
//!
//! Each kind has a reserve that the others cannot touch; the rest is common. A buffer may grow while it is small
//! compared to the free part (the dynamic thresholds of shared-memory switches: Choudhury and Hahne, 1998), so that
//! many greedy holders settle at equal parts and some room is left for the next. If that is not enough, the holder
//! above its share that has made no progress for longest is cut.

/// The purpose that memory is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Incomplete heads, and requests that wait for an origin.
    Heads,
    /// Responses received from an origin that clients have not read yet or that are not stored yet.
    ReadAhead,
    /// Bodies that are held whole, for functions, hooks and second attempts.
    Bodies,
    /// Responses on their way into clients' sockets.
    Queues,
}

/// Number of kinds.
pub const KINDS: usize = 4;

impl Purpose {
    /// Every kind, in the order of [`Used`].
    pub const ALL: [Self; KINDS] = [Self::Heads, Self::ReadAhead, Self::Bodies, Self::Queues];

    /// Name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heads => "heads",
            Self::ReadAhead => "read-ahead",
            Self::Bodies => "bodies",
            Self::Queues => "queues",
        }
    }

    /// The part of the whole that is kept for this kind: an eighth.
    const RESERVE: u64 = 8;
}

/// Bytes drawn, by kind.
pub type Used = [u64; KINDS];

/// A holder is not cut before it has made no progress for this long, in milliseconds.
pub const PATIENCE: u64 = 1_000;
/// Part of the free memory that one buffer may hold.
const PART: u64 = 4;

/// The account as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that may be drawn in all.
    pub capacity: u64,
}

impl Budget {
    /// The account for a bound on memory. Three eighths of the bound may be drawn: the rest is for the buffers of
    /// connections, for buffers kept alive by pieces of them, and for memory that the allocator cannot return at once.
    pub fn of_bound(bytes: u64) -> Self {
        Self {
            capacity: bytes / 8 * 3,
        }
    }

    /// The reserve of each kind.
    pub fn reserve(&self) -> u64 {
        self.capacity / Purpose::RESERVE
    }

    /// The bytes that may still be drawn for `kind`.
    pub fn room(&self, used: &Used, kind: Purpose) -> u64 {
        let reserve = self.reserve();
        let common = self
            .capacity
            .saturating_sub(reserve.saturating_mul(KINDS as u64));
        let beyond = used
            .iter()
            .map(|used| used.saturating_sub(reserve))
            .fold(0, u64::saturating_add);
        let own = used.get(kind as usize).copied().unwrap_or(0);
        common
            .saturating_sub(beyond)
            .saturating_add(reserve.saturating_sub(own))
    }

    /// The bytes that one holder of `kind` may draw when there is no other.
    pub fn most(&self, kind: Purpose) -> u64 {
        self.room(&Used::default(), kind)
    }

    /// The size that one buffer may have now, up to the `most` that it wants: a part of the free memory, and never less
    /// than `least`.
    pub fn allowance(&self, used: &Used, kind: Purpose, least: u64, most: u64) -> u64 {
        (self.room(used, kind) / PART).clamp(least.min(most), most)
    }

    /// True if one of `holders` has its fair share of the `all` bytes held, or more: all shares are equal.
    pub fn above(total: u64, all: u64, holders: usize) -> bool {
        total > 0 && total.saturating_mul(holders.max(1) as u64) >= all
    }

    /// True if bytes returned by a holder of kind `theirs` would make room for `kind`.
    pub fn helps(&self, used: &Used, kind: Purpose, theirs: Purpose) -> bool {
        kind == theirs || used.get(theirs as usize).copied().unwrap_or(0) > self.reserve()
    }
}

/// A holder, as the choice of the one to cut sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<I> {
    /// Names the holder to the caller.
    pub id: I,
    /// Bytes that it holds.
    pub bytes: u64,
    /// Its client or its origin is above its share, including the bytes being requested.
    pub above: bool,
    /// The bytes that it returns would make room for the request.
    pub helps: bool,
    /// Milliseconds without progress.
    pub idle: u64,
}

/// The holder that is cut so that another may draw: of those above their share the one that has made no progress for
/// longest.
pub fn victim<I>(candidates: impl IntoIterator<Item = Candidate<I>>) -> Option<I> {
    candidates
        .into_iter()
        .filter(|one| one.above && one.helps && one.bytes > 0 && one.idle >= PATIENCE)
        .max_by_key(|one| (one.idle, one.bytes))
        .map(|one| one.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { capacity: 800 };

    #[test]
    fn one_holder_may_draw_its_reserve_and_what_is_common() {
        for kind in Purpose::ALL {
            assert_eq!(BUDGET.most(kind), 500);
        }
        // The default.
        assert_eq!(Budget::of_bound(64 << 20).most(Purpose::Bodies), 15 << 20);
    }

    #[test]
    fn each_kind_has_its_reserve_and_a_part_of_the_rest() {
        // Each of the four kinds has a reserve of 100; 400 are common.
        for (used, heads, read_ahead) in [
            ([0, 0, 0, 0], 500, 500),
            ([0, 100, 0, 0], 500, 400),
            ([0, 300, 0, 0], 300, 200),
            ([0, 500, 0, 0], 100, 0),
            ([60, 500, 0, 0], 40, 0),
            ([500, 100, 100, 100], 0, 0),
            ([0, 900, 0, 0], 100, 0),
        ] {
            assert_eq!(BUDGET.room(&used, Purpose::Heads), heads, "{used:?}");
            assert_eq!(
                BUDGET.room(&used, Purpose::ReadAhead),
                read_ahead,
                "{used:?}"
            );
        }
        assert_eq!(Budget { capacity: 0 }.room(&[0; 4], Purpose::Heads), 0);
    }

    #[test]
    fn a_buffer_may_hold_less_the_more_is_held() {
        for (used, allowance) in [
            ([0, 0, 0, 0], 100),
            ([0, 200, 0, 0], 75),
            ([0, 400, 0, 0], 25),
            ([0, 500, 0, 0], 8),
        ] {
            let allowed = BUDGET.allowance(&used, Purpose::ReadAhead, 8, 100);
            assert_eq!(allowed, allowance, "{used:?}");
        }
        assert_eq!(BUDGET.allowance(&[0; 4], Purpose::Heads, 8, 4), 4);
    }

    #[test]
    fn many_greedy_holders_settle_at_parts_of_about_the_same_size() {
        let budget = Budget { capacity: 64 << 20 };
        let (holders, step) = (400, 16 << 10);
        let mut held = vec![0u64; holders];
        let mut used = [0; KINDS];
        for _ in 0..1_000 {
            for own in &mut held {
                let allowed = budget.allowance(&used, Purpose::ReadAhead, 0, 8 << 20);
                if *own + step <= allowed {
                    *own += step;
                    used[Purpose::ReadAhead as usize] += step;
                }
            }
        }
        let (least, most) = (held.iter().min(), held.iter().max());
        assert!(least > Some(&0) && most <= least.map(|least| least * 2).as_ref());
        assert!(budget.room(&used, Purpose::ReadAhead) > 0);
    }

    fn holder(id: u8, above: bool, helps: bool, idle: u64) -> Candidate<u8> {
        Candidate {
            id,
            bytes: 1,
            above,
            helps,
            idle,
        }
    }

    #[test]
    fn the_one_above_its_share_that_made_no_progress_for_longest_is_cut() {
        let stalled = holder(1, true, true, 5_000);
        let longer = holder(2, true, true, 9_000);
        let modest = holder(3, false, true, 60_000);
        let elsewhere = holder(4, true, false, 60_000);
        let moving = holder(5, true, true, PATIENCE - 1);
        let empty = Candidate {
            bytes: 0,
            ..holder(6, true, true, 60_000)
        };
        for (all, cut) in [
            (vec![], None),
            (
                vec![stalled, longer, modest, elsewhere, moving, empty],
                Some(2),
            ),
            (vec![stalled, modest, elsewhere, moving, empty], Some(1)),
            (vec![modest, elsewhere, moving, empty], None),
        ] {
            assert_eq!(victim(all.clone()), cut, "{all:?}");
        }
    }

    #[test]
    fn shares_are_equal_among_those_who_hold_something() {
        assert!(Budget::above(800, 800, 1), "who is alone has all of it");
        assert!(Budget::above(400, 800, 2));
        assert!(!Budget::above(399, 800, 2));
        assert!(!Budget::above(0, 0, 0));
    }

    #[test]
    fn what_is_within_another_kinds_reserve_would_help_nobody_else() {
        let used = [100, 101, 0, 0];
        assert!(BUDGET.helps(&used, Purpose::Queues, Purpose::ReadAhead));
        assert!(!BUDGET.helps(&used, Purpose::Queues, Purpose::Heads));
        assert!(BUDGET.helps(&used, Purpose::Heads, Purpose::Heads));
    }
}
