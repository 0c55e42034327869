//! Places of clients, from files in MaxMind's format.
//!
//! [`GeoFiles`] reads the files of a plan whole, and looks for replaced ones from time to time, on a thread of its own.
//! A file that cannot be read leaves the one before in use. Which facts matter, and to whom, is the core's decision.

mod file;
mod record;
mod remembered;

use std::{
    array,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use arc_swap::Guard;
use edgerouter_core::{
    geo::{GeoPolicy, MOST_FILES, Place, PlaceSource},
    plan::{Plan, Problem},
};
use edgerouter_telemetry::text;
use maxminddb::LookupResult;

use file::{GeoFile, Loaded};
use record::Record;
use remembered::{Positions, Remembered};

/// The files of a plan, open.
#[derive(Debug)]
pub struct GeoFiles {
    policy: Arc<GeoPolicy>,
    files: Vec<GeoFile>,
    remembered: Remembered,
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
            remembered: Remembered::default(),
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
        text::labelled(
            out,
            "edgerouter_geo_lookups_total",
            "Look-ups of places, by result.",
            ["result"],
            [
                (["found"], self.found.load(Relaxed)),
                (["unknown"], self.unknown.load(Relaxed)),
                (["failed"], self.failed.load(Relaxed)),
            ],
        );
        let loads = self.files.iter().flat_map(|file| {
            let counted = [("ok", &file.loads), ("failed", &file.failures)];
            counted.map(|(result, count)| ([file.label(), result.to_owned()], count.load(Relaxed)))
        });
        text::labelled(
            out,
            "edgerouter_geo_file_loads_total",
            "Times that a file of geo was read, by result; failed leaves the one before in use.",
            ["file", "result"],
            loads,
        );
        text::labelled(
            out,
            "edgerouter_geo_file_built_timestamp_seconds",
            "When the file of geo that is in use was built, as it says.",
            ["file"],
            self.files.iter().map(|file| ([file.label()], file.built())),
        );
    }
}

impl PlaceSource for GeoFiles {
    fn find(&self, address: IpAddr) -> Arc<Place> {
        let readings = readings(&self.files);
        let (records, mut positions) = looked_up(&readings, address);
        if let Some(place) = positions.and_then(|known| self.remembered.get(&known)) {
            self.count(&place);
            return place;
        }
        let place = Arc::new(decoded(records, &mut positions));
        // A record that cannot be decoded is tried again each time, and counted.
        match positions {
            Some(positions) => {
                self.remembered.keep(positions, &place);
                self.count(&place);
            }
            None => {
                self.failed.fetch_add(1, Relaxed);
            }
        }
        place
    }
}

impl GeoFiles {
    fn count(&self, place: &Place) {
        let unknown = *place == Place::default();
        let count = if unknown { &self.unknown } else { &self.found };
        count.fetch_add(1, Relaxed);
    }
}

/// The reading in use of each file. It is held while its records are read, so that each is looked up once.
type Readings = [Option<Guard<Arc<Loaded>>>; MOST_FILES];
type Records<'r> = [Option<LookupResult<'r, Vec<u8>>>; MOST_FILES];

fn readings(files: &[GeoFile]) -> Readings {
    array::from_fn(|at| files.get(at).map(GeoFile::reading))
}

/// The records of an address, and where they are; no positions if one cannot be found for a fault of its file.
fn looked_up(readings: &Readings, address: IpAddr) -> (Records<'_>, Option<Positions>) {
    let (mut records, mut positions) = (Records::default(), Some(Positions::default()));
    for ((at, loaded), record) in readings.iter().enumerate().zip(&mut records) {
        match loaded.as_ref().map(|loaded| loaded.find(address)) {
            Some(Ok((position, found))) => {
                *record = found;
                if let Some(slot) = positions.as_mut().and_then(|all| all.get_mut(at)) {
                    *slot = position;
                }
            }
            Some(Err(_)) => positions = None,
            None => {}
        }
    }
    (records, positions)
}

/// The place by the records of all files. One that is malformed adds nothing, and leaves no positions to keep it by.
fn decoded(records: Records<'_>, positions: &mut Option<Positions>) -> Place {
    let mut place = Place::default();
    for record in records.into_iter().flatten() {
        match record.decode::<Record<'_>>() {
            Ok(Some(record)) => record.add_to(&mut place),
            Ok(None) => {}
            Err(_) => *positions = None,
        }
    }
    place
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
    fn find(&self, address: IpAddr) -> Arc<Place> {
        let readings = readings(&self.0);
        let (records, mut positions) = looked_up(&readings, address);
        Arc::new(decoded(records, &mut positions))
    }
}

fn watch(files: &Weak<GeoFiles>, interval: Duration, closed: &mpsc::Receiver<()>) {
    while closed.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Some(files) = files.upgrade() else { return };
        files.refresh();
    }
}
