//! The budget of prediction for a minute.

/// Requests and bytes spent in the current minute.
#[derive(Debug, Clone, Copy, Default)]
pub struct MinuteBudget {
    minute: u64,
    requests: u32,
    bytes: u64,
}

impl MinuteBudget {
    /// Takes one request of about `expected` bytes from the budget; false when there is not enough left.
    pub fn take(&mut self, requests: u32, bytes: u64, expected: u64, now: u64) -> bool {
        let minute = now / 60;
        if minute != self.minute {
            *self = Self {
                minute,
                ..Self::default()
            };
        }
        let after = self.bytes.saturating_add(expected);
        if self.requests >= requests || self.bytes >= bytes || after > bytes {
            return false;
        }
        self.requests += 1;
        self.bytes = after;
        true
    }

    /// Corrects the budget after a fetch: it was `actual` bytes long where `expected` had been taken.
    pub fn settle(&mut self, expected: u64, actual: u64) {
        self.bytes = self.bytes.saturating_sub(expected).saturating_add(actual);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_requests_nor_bytes_go_past_the_budget_of_a_minute() {
        let mut budget = MinuteBudget::default();
        assert!(budget.take(2, 1_000, 400, 60));
        assert!(
            !budget.take(2, 1_000, 700, 61),
            "too large for what is left"
        );
        assert!(budget.take(2, 1_000, 400, 62));
        assert!(!budget.take(2, 1_000, 0, 119), "no third request");
        assert!(budget.take(2, 1_000, 400, 120), "a new minute");
        budget.settle(400, 2_000);
        assert!(
            !budget.take(2, 1_000, 0, 121),
            "it was larger than expected"
        );
        assert!(!budget.take(0, 1_000, 0, 200));
        assert!(!budget.take(1, 0, 0, 200));
    }
}
