//! Reads the settings of experiments again and again.

use std::sync::Arc;

use tokio::time::sleep;

use crate::{live::Live, readings, worker::Shared};

/// Reads for one experiment of a plan, by its position among those with settings in a store, while the plan serves.
pub(super) async fn run(shared: Arc<Shared>, live: Arc<Live>, at: usize) {
    while let Some((experiment, source)) = live.plan.configured().nth(at) {
        let values = readings::values(&live.bindings, source).await;
        // A reload closes the stores that its plan does not have.
        if !shared.serves(live.version) {
            return;
        }
        if live.readings.take(experiment, source, values) {
            shared.next_epoch();
        }
        sleep(source.interval).await;
    }
}
