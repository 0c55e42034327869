//! The thread that waits for servers, and for the end of the time of every operation.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};

use crate::answer::Deadlines;

/// A thread with an event loop; started with the first binding that is not in memory.
#[derive(Debug, Default)]
pub(crate) struct RemoteThread {
    pub(crate) deadlines: Arc<Deadlines>,
    running: Mutex<Option<(Handle, Arc<Notify>)>>,
}

impl RemoteThread {
    /// The event loop.
    pub(crate) fn handle(&self) -> std::io::Result<Handle> {
        let mut running = self.running.lock();
        if let Some((handle, _)) = &*running {
            return Ok(handle.clone());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (handle, end) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let (deadlines, ended) = (Arc::clone(&self.deadlines), Arc::clone(&end));
        std::thread::Builder::new()
            .name("edge-data".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = deadlines.enforce() => {}
                        () = ended.notified() => {}
                    }
                });
                // Names that are being resolved would be waited for.
                runtime.shutdown_background();
            })?;
        *running = Some((handle.clone(), end));
        Ok(handle)
    }

    /// The event loop, for a binding whose refusal is text.
    pub(crate) fn events(&self) -> Result<Handle, String> {
        self.handle()
            .map_err(|error| format!("the thread for servers could not be started: {error}"))
    }

    /// Calls `look` every few seconds, as long as what it looks at is there.
    pub(crate) fn watch<T: Send + Sync + 'static>(
        &self,
        watched: Weak<T>,
        look: impl Fn(&Arc<T>) + Send + 'static,
    ) -> std::io::Result<()> {
        self.handle()?.spawn(async move {
            while let Some(found) = watched.upgrade() {
                look(&found);
                drop(found);
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(())
    }

    pub(crate) fn end(&self) {
        if let Some((_, end)) = self.running.lock().take() {
            end.notify_one();
        }
    }
}

impl Drop for RemoteThread {
    fn drop(&mut self) {
        self.end();
    }
}

/// Interval of the looks at a binding that is not used.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);
