//! Decides which requests are traced, and which traces are kept when their requests have ended.

use std::time::Duration;

use http::HeaderValue;

use crate::{http::FieldName, outcome::words, secret::Secret, select::Select};

use super::TraceContext;

/// Bits of a trace's id that are random by the recommendation (§3.2.2.3.1), by which traces are chosen.
const RANDOM: u64 = (1 << 56) - 1;

/// Clients whose `traceparent` and `tracestate` are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Believed {
    /// None.
    Nobody,
    /// Connections from trusted proxies.
    Proxies,
    /// All.
    Everybody,
}

/// Clients whose responses have `Server-Timing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownTo {
    /// None.
    Nobody,
    /// Clients that send the debug token.
    Debug,
    /// All.
    Everybody,
}

words! {
    /// Why a trace is kept.
    pub enum Kept {
        /// It was chosen before its request was answered: by the ratio, by a believed sender or by the debug token.
        Sampled = "sampled",
        /// The status is 500 or above.
        Error = "error",
        /// The head of the response came late.
        Slow = "slow",
    }
}

/// Tracing, as the plan has it.
#[derive(Debug, Clone)]
pub struct TracingPolicy {
    /// The URL that traces are sent to; `None`: they are not sent.
    pub endpoint: Option<Box<str>>,
    /// Fields of these requests, which may be secret.
    pub headers: Vec<(FieldName, HeaderValue)>,
    /// Attributes of the process that sends, `service.name` among them.
    pub resource: Vec<(Box<str>, Box<str>)>,
    /// Traces with random bits below it are kept.
    pub threshold: u64,
    /// Traces of responses with status 500 and above are kept.
    pub errors: bool,
    /// Traces of responses whose head took longer are kept.
    pub slow: Option<Duration>,
    /// Senders whose trace is continued.
    pub believe: Believed,
    /// Query parameters in spans.
    pub query: Select,
    /// Clients that get `Server-Timing`.
    pub server_timing: ShownTo,
    /// The value of `Edge-Debug` by which a client has its request traced.
    pub debug_token: Option<Secret>,
    /// Spans that may wait to be sent.
    pub queue_spans: usize,
    /// Time for one request to the receiver.
    pub timeout: Duration,
}

impl TracingPolicy {
    /// The threshold for a share of all traces.
    pub fn threshold(ratio: f64) -> u64 {
        (ratio.clamp(0.0, 1.0) * (RANDOM + 1) as f64) as u64
    }

    /// True if a request is chosen before it is answered: a believed sender's choice is continued. `random`: of the
    /// new trace's id.
    pub fn samples(&self, believed: Option<TraceContext>, random: u64) -> bool {
        match believed {
            Some(context) => context.sampled,
            None => random & RANDOM < self.threshold,
        }
    }

    /// True if traces that were not chosen may be kept for their outcome, so that their spans have to be recorded.
    pub fn by_outcome(&self) -> bool {
        self.endpoint.is_some() && (self.errors || self.slow.is_some())
    }

    /// Why a trace is kept after its response; `None`: it is not.
    pub fn keeps(&self, sampled: bool, status: u16, head: Duration) -> Option<Kept> {
        self.endpoint.as_ref()?;
        if sampled {
            return Some(Kept::Sampled);
        }
        if self.errors && status >= 500 {
            return Some(Kept::Error);
        }
        self.slow.filter(|most| head > *most).map(|_| Kept::Slow)
    }

    /// True if a client whose request has this debug token is shown how its response came about.
    pub fn admits(&self, token: &[u8]) -> bool {
        let known = self.debug_token.as_ref().map(Secret::as_bytes);
        known.is_some_and(|known| {
            aws_lc_rs::constant_time::verify_slices_are_equal(known, token).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(ratio: f64) -> TracingPolicy {
        TracingPolicy {
            endpoint: Some("http://collector/v1/traces".into()),
            headers: Vec::new(),
            resource: Vec::new(),
            threshold: TracingPolicy::threshold(ratio),
            errors: true,
            slow: Some(Duration::from_secs(1)),
            believe: Believed::Proxies,
            query: Select::None,
            server_timing: ShownTo::Nobody,
            debug_token: Some(Secret(b"open".to_vec())),
            queue_spans: 1,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_share_of_new_traces_is_chosen_and_a_believed_choice_continued() {
        let half = RANDOM / 2;
        for (ratio, random, want) in [
            (0.0, 0, false),
            (1.0, u64::MAX, true),
            (0.5, half, true),
            (0.5, half + 2, false),
            // The bits above are not random by the recommendation.
            (0.5, 0xff << 56, true),
        ] {
            assert_eq!(
                policy(ratio).samples(None, random),
                want,
                "{ratio} {random}"
            );
        }
        for sampled in [true, false] {
            let context = TraceContext {
                trace: 1,
                span: 1,
                sampled,
            };
            assert_eq!(policy(0.5).samples(Some(context), 0), sampled);
        }
    }

    #[test]
    fn errors_and_slow_responses_are_kept() {
        let (fast, slow) = (Duration::from_millis(1), Duration::from_secs(2));
        for (sampled, status, head, want) in [
            (true, 200, fast, Some(Kept::Sampled)),
            (false, 200, fast, None),
            (false, 404, fast, None),
            (false, 500, fast, Some(Kept::Error)),
            (false, 504, slow, Some(Kept::Error)),
            (false, 200, slow, Some(Kept::Slow)),
        ] {
            assert_eq!(policy(0.0).keeps(sampled, status, head), want);
        }
        let unsent = TracingPolicy {
            endpoint: None,
            ..policy(0.0)
        };
        assert_eq!(unsent.keeps(true, 500, slow), None);
        assert!(!unsent.by_outcome());
    }

    #[test]
    fn a_debug_token_is_whole_or_none() {
        let policy = policy(0.0);
        for (token, want) in [
            (&b"open"[..], true),
            (b"ope", false),
            (b"", false),
            (b"opens", false),
        ] {
            assert_eq!(policy.admits(token), want);
        }
        let none = TracingPolicy {
            debug_token: None,
            ..policy
        };
        assert!(!none.admits(b""));
    }
}
