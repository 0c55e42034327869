//! Frames that cost their sender little and the edge much: how many of each a client may send.
//!
//! A frame is judged by its head alone. Rates are those of a bucket that fills again within a minute.

use super::frames::{self, FrameHead, kind};
use crate::outcome::words;

/// Most frames of one connection in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Streams that the client resets, or that are reset because of its errors.
    pub resets: u32,
    /// Frames that carry neither fields nor content.
    pub control_frames: u32,
}

words! {
    /// The frames that are too many.
    pub enum Flood {
        /// Streams that were reset, by the client or for its errors: the work for them has begun already.
        Resets = "http2-resets",
        /// PING, SETTINGS, PRIORITY, unknown frames, and empty ones.
        ControlFrames = "http2-control-frames",
        /// DATA of a few bytes.
        SmallFrames = "http2-small-frames",
        /// WINDOW_UPDATE, as compared with the content that has been sent.
        WindowUpdates = "http2-window-updates",
        /// CONTINUATION of one field section.
        Continuations = "http2-continuations",
        /// Found by the library: empty DATA frames, content in small frames that nobody reads, streams that end early.
        Overhead = "http2-overhead",
    }
}

/// Small frames are those whose head is a large part of them. They are normal on a stream of messages: as many of them
/// as this stand for one frame of control.
const SMALL: u32 = 64;
const SMALL_FRAMES: u64 = 20;
/// Most CONTINUATION frames of one section; a field list within its bound needs five.
const CONTINUATIONS: u32 = 16;
/// WINDOW_UPDATE: so many before any content, for each stream, and for each DATA frame that was sent.
const UPDATES: u64 = 100;
const UPDATES_A_STREAM: u64 = 4;
const UPDATES_A_FRAME: u64 = 10;

const MINUTE: u64 = 60_000;
/// Parts of a millisecond, so that rates are exact.
const FINE: u64 = 1_000;

/// Counts the frames of one connection.
#[derive(Debug)]
pub struct FrameCounter {
    resets: Bucket,
    control: Bucket,
    small: Bucket,
    /// WINDOW_UPDATE frames that may still come.
    updates: u64,
    /// CONTINUATION frames of the section under way.
    continuations: u32,
}

/// The time at which a bucket is full again.
#[derive(Debug)]
struct Bucket {
    interval: u64,
    full_at: u64,
}

impl Bucket {
    fn new(most: u64) -> Self {
        Self {
            interval: MINUTE * FINE / most.max(1),
            full_at: 0,
        }
    }

    /// Takes one at `now` (ms); false if there is none.
    fn take(&mut self, now: u64) -> bool {
        let now = now.saturating_mul(FINE);
        let full_at = self.full_at.max(now).saturating_add(self.interval);
        let has_one = full_at - now <= MINUTE * FINE;
        if has_one {
            self.full_at = full_at;
        }
        has_one
    }

    /// Puts one back.
    fn give(&mut self) {
        self.full_at = self.full_at.saturating_sub(self.interval);
    }
}

impl FrameCounter {
    /// For a new connection.
    pub fn new(limits: FrameLimits) -> Self {
        let control = u64::from(limits.control_frames);
        Self {
            resets: Bucket::new(limits.resets.into()),
            control: Bucket::new(control),
            small: Bucket::new(control * SMALL_FRAMES),
            updates: UPDATES,
            continuations: 0,
        }
    }

    /// Counts a frame of the client at `now` (ms).
    pub fn received(&mut self, head: &FrameHead, now: u64) -> Result<(), Flood> {
        let (allowed, flood) = match head.kind {
            kind::HEADERS => {
                self.continuations = 0;
                // A stream brings its share of priorities and updates.
                self.control.give();
                self.updates = self.updates.saturating_add(UPDATES_A_STREAM);
                let is_empty = head.length == 0;
                (!is_empty || self.control.take(now), Flood::ControlFrames)
            }
            kind::CONTINUATION => {
                self.continuations += 1;
                (self.continuations <= CONTINUATIONS, Flood::Continuations)
            }
            kind::RST_STREAM => (self.resets.take(now), Flood::Resets),
            kind::WINDOW_UPDATE => {
                let allowed = self.updates > 0;
                self.updates = self.updates.saturating_sub(1);
                (allowed, Flood::WindowUpdates)
            }
            kind::DATA if head.length >= SMALL || head.ends_stream() => (true, Flood::SmallFrames),
            kind::DATA if head.length > 0 => (self.small.take(now), Flood::SmallFrames),
            _ => (self.control.take(now), Flood::ControlFrames),
        };
        if allowed { Ok(()) } else { Err(flood) }
    }

    /// Counts a frame of the edge at `now` (ms).
    pub fn sent(&mut self, head: &FrameHead, now: u64) -> Result<(), Flood> {
        match head.kind {
            kind::DATA => self.updates = self.updates.saturating_add(UPDATES_A_FRAME),
            // A client can have its streams reset by errors as well as reset them itself.
            kind::RST_STREAM if head.code != frames::NO_ERROR && !self.resets.take(now) => {
                return Err(Flood::Resets);
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts a DATA frame of the edge at `now` (ms) that is small because the client leaves room for no more.
    pub fn sent_little(&mut self, now: u64) -> Result<(), Flood> {
        let allowed = self.small.take(now);
        if allowed {
            Ok(())
        } else {
            Err(Flood::SmallFrames)
        }
    }

    /// True if a DATA frame of this length is small.
    pub fn is_small(length: usize) -> bool {
        length < SMALL as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits {
        resets: 100,
        control_frames: 1_000,
    };

    fn head(kind: u8, length: u32, flags: u8) -> FrameHead {
        FrameHead {
            length,
            kind,
            flags,
            stream: 1,
            code: 0,
        }
    }

    /// The number of such frames, one each `every` ms, before they are too many, and the flood that they are.
    fn most(frame: FrameHead, every: u64) -> Option<(u64, Flood)> {
        let mut counter = FrameCounter::new(LIMITS);
        (0..50_000).find_map(|at| {
            let counted = counter.received(&frame, at * every);
            counted.err().map(|flood| (at, flood))
        })
    }

    #[test]
    fn each_kind_of_cheap_frame_has_its_bound() {
        const PING: u8 = 6;
        for (frame, every, want) in [
            (head(kind::RST_STREAM, 4, 0), 0, Some((100, Flood::Resets))),
            (head(kind::RST_STREAM, 4, 0), 600, None),
            (
                head(kind::RST_STREAM, 4, 0),
                300,
                Some((199, Flood::Resets)),
            ),
            (head(PING, 8, 0), 0, Some((1_000, Flood::ControlFrames))),
            (head(PING, 8, 0), 60, None),
            (head(4, 0, 0), 0, Some((1_000, Flood::ControlFrames))),
            (head(2, 5, 0), 0, Some((1_000, Flood::ControlFrames))),
            (head(0xaa, 0, 0), 0, Some((1_000, Flood::ControlFrames))),
            (
                head(kind::DATA, 0, 0),
                0,
                Some((1_000, Flood::ControlFrames)),
            ),
            (head(kind::DATA, 0, frames::END_STREAM), 0, None),
            (
                head(kind::DATA, 1, 0),
                0,
                Some((20_000, Flood::SmallFrames)),
            ),
            (head(kind::DATA, 1, 0), 3, None),
            (head(kind::DATA, 64, 0), 0, None),
            (
                head(kind::WINDOW_UPDATE, 4, 0),
                0,
                Some((100, Flood::WindowUpdates)),
            ),
            (
                head(kind::CONTINUATION, 100, 0),
                0,
                Some((16, Flood::Continuations)),
            ),
            (head(kind::HEADERS, 0, frames::END_HEADERS), 0, None),
            (head(kind::HEADERS, 20, frames::END_HEADERS), 0, None),
        ] {
            assert_eq!(most(frame, every), want, "{frame:?} each {every} ms");
        }
    }

    #[test]
    fn resets_for_the_errors_of_a_client_count_as_its_own() {
        let mut counter = FrameCounter::new(LIMITS);
        let own = head(kind::RST_STREAM, 4, 0);
        for _ in 0..50 {
            assert_eq!(counter.received(&own, 0), Ok(()));
            assert_eq!(counter.sent(&FrameHead { code: 1, ..own }, 0), Ok(()));
        }
        assert_eq!(counter.sent(&own, 0), Ok(()), "no error");
        let error = FrameHead { code: 1, ..own };
        assert_eq!(counter.sent(&error, 0), Err(Flood::Resets));
    }

    #[test]
    fn content_that_is_sent_earns_updates_of_the_window() {
        let mut counter = FrameCounter::new(LIMITS);
        let update = head(kind::WINDOW_UPDATE, 4, 0);
        for _ in 0..1_000 {
            assert_eq!(counter.sent(&head(kind::DATA, 1_000, 0), 0), Ok(()));
            for _ in 0..UPDATES_A_FRAME {
                assert_eq!(counter.received(&update, 0), Ok(()));
            }
        }
        let streams = head(kind::HEADERS, 20, frames::END_HEADERS);
        assert_eq!(counter.received(&streams, 0), Ok(()));
        let left = (0..).take_while(|_| counter.received(&update, 0).is_ok());
        assert_eq!(left.count() as u64, UPDATES + UPDATES_A_STREAM);
    }
}
