//! The thread that obtains and renews certificates: its start with the first plan that wants any, and its end.

use std::{
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use edgerouter_core::plan::Plan;
use edgerouter_telemetry::life::joined;
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::watch,
};

use crate::{
    issued::IssuedCertificates,
    keeper::{Clock, Keeper, Wanted},
    records::RecordCalls,
};

/// Time that the thread has to end in. It waits for nothing but the folder, whose file server may be gone.
const ENDING: Duration = Duration::from_secs(5);

/// Obtains the certificates of plans. Its thread is started with the first plan that wants any, and ends with this.
pub struct AcmeService {
    certificates: Arc<IssuedCertificates>,
    records: Arc<RecordCalls>,
    clock: Clock,
    running: Mutex<Option<(watch::Sender<Arc<Wanted>>, JoinHandle<()>)>>,
}

impl std::fmt::Debug for AcmeService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeService")
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

impl AcmeService {
    /// One that has nothing to do yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            certificates: Arc::default(),
            records: Arc::default(),
            clock,
            running: Mutex::new(None),
        }
    }

    /// The certificates as handshakes and requests see them.
    pub fn certificates(&self) -> &Arc<IssuedCertificates> {
        &self.certificates
    }

    /// The records of DNS that are to be set.
    pub fn records(&self) -> &Arc<RecordCalls> {
        &self.records
    }

    /// Obtains what a plan wants from now on, and nothing else. Certificates that are stored already are in use when
    /// this returns; it reads files, so it belongs to a start or a reload.
    pub fn serve(&self, plan: &Plan) -> io::Result<()> {
        let wanted = Arc::new(Wanted::of(plan));
        let mut running = self.running.lock();
        if let Some((wants, _)) = &*running {
            wants.send_replace(wanted);
            return Ok(());
        }
        let asked = self.certificates.asked.lock().take();
        let (true, Some((asked, demanded))) = (wanted.wants_any(), asked) else {
            return Ok(());
        };
        let (wants, watched) = watch::channel(wanted);
        let mut keeper = Keeper::new(
            Arc::clone(&self.certificates),
            Arc::clone(&self.records),
            Arc::clone(&self.clock),
            watched,
        );
        keeper.take_over();
        let thread = std::thread::Builder::new().name("edge-acme".to_owned()).spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                // Names of issuers are looked up there.
                .max_blocking_threads(2)
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(keeper.run(asked, demanded));
                    // A look-up of a name that is under way cannot be ended, and nobody waits for it.
                    runtime.shutdown_background();
                }
                Err(error) => tracing::error!(%error, "no certificates are obtained: the event loop could not be made"),
            }
        })?;
        *running = Some((wants, thread));
        Ok(())
    }

    /// Ends the thread. Orders under way are given up; the next process begins them anew.
    pub fn close(&self) {
        if let Some((wants, thread)) = self.running.lock().take() {
            drop(wants);
            if !joined(thread, Instant::now() + ENDING) {
                tracing::error!(
                    "the thread of certificates did not end: the folder of acme.storage does not answer"
                );
            }
        }
    }
}
