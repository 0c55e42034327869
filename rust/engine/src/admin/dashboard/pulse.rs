//! The clock of the dashboard: takes samples, and renders the metrics for open pages once, however many there are.

use std::{rc::Rc, time::Duration};

use serde_json::Value;

use super::super::call::Room;

/// Seconds between two samples.
const EVERY: u64 = 5;
/// Seconds between two sets of metrics for open pages.
const METRICS_EVERY: u64 = 2;
/// Metrics of a plan with thousands of routes are sent less often.
const LARGE: usize = 1 << 20;
const LARGE_EVERY: u64 = 10;

/// Takes samples until the listener ends.
pub(crate) async fn beat(room: Rc<Room>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0u64.. {
        ticks.tick().await;
        let pulse = &room.pulse;
        if number.is_multiple_of(EVERY) {
            pulse.sample(room.shared.unix_now() * 1_000, room.shared.metrics.totals());
            room.shared.tails.sweep(&room.shared.epoch);
        }
        let every = if pulse.size.get() > LARGE {
            LARGE_EVERY
        } else {
            METRICS_EVERY
        };
        if number.is_multiple_of(every) && pulse.metrics.receiver_count() > 0 {
            let text = room.shared.metrics(false);
            pulse.size.set(text.len());
            let event = super::streams::event("metrics", &Value::String(text));
            pulse.metrics.send_replace(event);
        }
    }
}
