//! Refreshing a hot response before it expires, by chance (XFetch: Vattani, Chierichetti, Lowenstein, "Optimal
//! Probabilistic Cache Stampede Prevention", VLDB 2015).
//!
//! Each hit draws a random number: the nearer the expiry and the longer the fetch, the likelier it starts a fetch in
//! the background. A response that nobody requests is never refreshed, and the machines of a fleet that share an expiry
//! do not all request at once.

use super::freshness::Freshness;

/// The least random number is 2^-53, so -ln of it is below this: earlier than that many fetch times no draw can win.
const MOST_ROLL: f64 = 36.8;

/// The age in whole seconds from which a hit must draw at all; `u32::MAX` for a response that is never refreshed.
pub fn begins(freshness: &Freshness, took_ms: u32, beta: Option<f64>) -> u32 {
    let Some(beta) = beta else { return u32::MAX };
    if freshness.always_validate || freshness.lifetime == 0 {
        return u32::MAX;
    }
    let ahead = (f64::from(took_ms) * beta * MOST_ROLL / 1_000.0).ceil();
    // A cast from a float saturates.
    freshness.lifetime.saturating_sub(ahead as u32)
}

/// True if this hit refreshes: `now - delta · beta · ln(rand) ≥ expiry`, with delta the duration of the last fetch.
/// `now_ms` is milliseconds since the Unix epoch, `random` any 64 random bits.
pub fn due(freshness: &Freshness, took_ms: u32, beta: f64, now_ms: u64, random: u64) -> bool {
    let expires = freshness
        .stored_at
        .saturating_add(u64::from(freshness.lifetime))
        .saturating_sub(u64::from(freshness.initial_age))
        .saturating_mul(1_000);
    let left = expires.saturating_sub(now_ms) as f64;
    // In (0, 1]: the logarithm is finite.
    let rand = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    f64::from(took_ms) * beta * -rand.ln() >= left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::freshness::LifetimeRule;

    const STORED: Freshness = Freshness {
        lifetime: 100,
        rule: LifetimeRule::MaxAge,
        initial_age: 10,
        stored_at: 1_000,
        stale_while_revalidate: 0,
        stale_if_error: 0,
        must_revalidate: false,
        always_validate: false,
        immutable: false,
        when_disconnected: false,
    };
    /// 1000 + 100 - 10, in milliseconds.
    const EXPIRY: u64 = 1_090_000;

    #[test]
    fn no_roll_wins_before_the_age_at_which_rolling_begins() {
        for (took, beta) in [
            (1, 1.0),
            (50, 1.0),
            (800, 2.0),
            (2_000, 0.5),
            (60_000, 10.0),
        ] {
            let age = begins(&STORED, took, Some(beta));
            // The best possible draw, at the last millisecond before.
            let before = (1_000 + u64::from(age)).saturating_sub(10) * 1_000;
            if age > 10 {
                assert!(
                    !due(&STORED, took, beta, before - 1, 0),
                    "{took} ms, {beta}"
                );
            }
            assert!(
                due(&STORED, took, beta, EXPIRY, u64::MAX),
                "at the expiry every roll wins"
            );
        }
        assert_eq!(begins(&STORED, 100, None), u32::MAX);
        let unusable = Freshness {
            always_validate: true,
            ..STORED
        };
        assert_eq!(begins(&unusable, 100, Some(1.0)), u32::MAX);
        let never_fresh = Freshness {
            lifetime: 0,
            ..STORED
        };
        assert_eq!(begins(&never_fresh, 100, Some(1.0)), u32::MAX);
    }

    #[test]
    fn the_chance_is_the_exponential_of_the_time_left_in_fetch_times() {
        // P(-ln(rand) ≥ left / (delta · beta)) = exp(-left / (delta · beta)); rand over an even grid.
        const ROLLS: u64 = 10_000;
        for (took, beta, left) in [
            (100, 1.0, 100_u64),
            (100, 2.0, 100),
            (500, 1.0, 250),
            (100, 1.0, 500),
        ] {
            let won = (0..ROLLS)
                .filter(|n| due(&STORED, took, beta, EXPIRY - left, (u64::MAX / ROLLS) * n))
                .count();
            let want = (-(left as f64) / (f64::from(took) * beta)).exp();
            let got = won as f64 / ROLLS as f64;
            assert!((got - want).abs() < 0.001, "{got} for {want}");
        }
    }

    #[test]
    fn extreme_values_neither_overflow_nor_divide_by_nothing() {
        let long = Freshness {
            lifetime: u32::MAX,
            stored_at: u64::MAX,
            initial_age: u32::MAX,
            ..STORED
        };
        for took in [0, u32::MAX] {
            for beta in [f64::MIN_POSITIVE, 1_000.0] {
                for random in [0, u64::MAX] {
                    let _ = begins(&long, took, Some(beta));
                    let _ = due(&long, took, beta, u64::MAX, random);
                    let _ = due(&long, took, beta, 0, random);
                }
            }
        }
        assert!(
            !due(&STORED, 0, 1.0, EXPIRY - 1, 0),
            "a fetch that takes no time needs no head start"
        );
    }
}
