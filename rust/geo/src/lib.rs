//! Places of clients, from files in MaxMind's format.
//!
//! [`GeoFiles`] reads the files of a plan whole, and looks for replaced ones from time to time, on a thread of its own. A
//! file that cannot be read leaves the one before in use. Which facts matter, and to whom, is the core's decision.

mod file;
mod record;

use std::{
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use edgerouter_core::{
    geo::{GeoPolicy, Place, PlaceSource},
    plan::{Plan, Problem},
};
use edgerouter_telemetry::text;

use file::GeoFile;

/// The files of a plan, open.
#[derive(Debug)]
pub struct GeoFiles {
    policy: Arc<GeoPolicy>,
    files: Vec<GeoFile>,
    found: AtomicU64,
    unknown: AtomicU64,
    failed: AtomicU64,
    /// Dropping it ends the thread.
    _open: mpsc::Sender<()>,
}

impl GeoFiles {
    /// Reads the files, and starts the thread that looks for replaced ones. `Err`: every file that cannot be used, with
    /// its path in the plan.
    pub fn open(policy: &Arc<GeoPolicy>) -> Result<Arc<Self>, Vec<Problem>> {
        let files = read(policy)?;
        let (open, closed) = mpsc::channel();
        let files = Arc::new(Self {
            policy: Arc::clone(policy),
            files,
            found: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            _open: open,
        });
        if !files.files.is_empty() {
            let (weak, interval) = (Arc::downgrade(&files), policy.interval);
            let thread = std::thread::Builder::new().name("edge-geo".to_owned());
            if let Err(error) = thread.spawn(move || watch(&weak, interval, &closed)) {
                tracing::error!(%error, "no thread for geo could be started: replaced files are not noticed");
            }
        }
        Ok(files)
    }

    /// The files of the next plan: the same ones if it names the same, so that what is in use stays.
    pub fn succeed(
        previous: Option<&Arc<Self>>,
        policy: &Arc<GeoPolicy>,
    ) -> Result<Arc<Self>, Vec<Problem>> {
        let same = previous.filter(|previous| {
            let known = &previous.policy;
            known.files == policy.files && known.interval == policy.interval
        });
        match same {
            Some(same) => {
                same.refresh();
                Ok(Arc::clone(same))
            }
            None => Self::open(policy),
        }
    }

    /// Reads the files again that were replaced.
    pub fn refresh(&self) {
        for file in &self.files {
            file.refresh();
        }
    }

    /// The files and the look-ups as metrics.
    pub fn render(&self, out: &mut String) {
        use std::fmt::Write as _;
        let name = "edgerouter_geo_lookups_total";
        text::head(out, name, "counter", "Look-ups of places, by result.");
        for (result, count) in [
            ("found", &self.found),
            ("unknown", &self.unknown),
            ("failed", &self.failed),
        ] {
            let count = count.load(Relaxed);
            let _ = writeln!(out, "{name}{{result=\"{result}\"}} {count}");
        }
        let name = "edgerouter_geo_file_loads_total";
        let help =
            "Times that a file of geo was read, by result; failed leaves the one before in use.";
        text::head(out, name, "counter", help);
        for file in &self.files {
            let label = text::escaped(&file.label());
            for (result, count) in [("ok", &file.loads), ("failed", &file.failures)] {
                let count = count.load(Relaxed);
                let _ = writeln!(
                    out,
                    "{name}{{file=\"{label}\",result=\"{result}\"}} {count}"
                );
            }
        }
        let name = "edgerouter_geo_file_built_timestamp_seconds";
        let help = "When the file of geo that is in use was built, as it says.";
        text::head(out, name, "gauge", help);
        for file in &self.files {
            let (label, built) = (text::escaped(&file.label()), file.built());
            let _ = writeln!(out, "{name}{{file=\"{label}\"}} {built}");
        }
    }
}

impl PlaceSource for GeoFiles {
    fn find(&self, address: IpAddr) -> Place {
        let mut place = Place::default();
        let mut failed = false;
        for file in &self.files {
            failed |= file.add(address, &mut place).is_err();
        }
        let count = if failed {
            &self.failed
        } else if place == Place::default() {
            &self.unknown
        } else {
            &self.found
        };
        count.fetch_add(1, Relaxed);
        place
    }
}

fn read(policy: &GeoPolicy) -> Result<Vec<GeoFile>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut files = Vec::with_capacity(policy.files.len());
    for (at, path) in policy.files.iter().enumerate() {
        match GeoFile::open(path) {
            Ok(file) => files.push(file),
            Err(error) => problems.push(Problem {
                path: format!("geo.files[{at}]"),
                value: Some(format!("{:?}", path.display().to_string())),
                message: error.to_string(),
            }),
        }
    }
    if problems.is_empty() {
        Ok(files)
    } else {
        Err(problems)
    }
}

/// Every problem of the plan's files, without keeping them.
pub fn check(plan: &Plan) -> Result<(), Vec<Problem>> {
    plan.geo
        .as_deref()
        .map_or(Ok(()), |policy| read(policy).map(drop))
}

/// The files of a plan as they are now, for explanations; `None` if it has none, or one cannot be used.
pub fn unwatched(plan: &Plan) -> Option<Arc<dyn PlaceSource>> {
    let files = read(plan.geo.as_deref()?).ok()?;
    Some(Arc::new(Unwatched(files)))
}

#[derive(Debug)]
struct Unwatched(Vec<GeoFile>);

impl PlaceSource for Unwatched {
    fn find(&self, address: IpAddr) -> Place {
        let mut place = Place::default();
        for file in &self.0 {
            let _ = file.add(address, &mut place);
        }
        place
    }
}

fn watch(files: &Weak<GeoFiles>, interval: Duration, closed: &mpsc::Receiver<()>) {
    while closed.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Some(files) = files.upgrade() else { return };
        files.refresh();
    }
}
