//! Leads each line of the files through the plan and the tiers.

use std::{
    cell::LazyCell,
    hash::BuildHasher,
    io,
    ops::ControlFlow,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use edgerouter_core::{
    cache::key::Key,
    outcome::Outcome,
    plan::{Plan, Route, Scheme},
};
use http::{HeaderValue, Method, StatusCode};

use crate::{
    assumed::{self, Assumed},
    counts::{ByOutcome, Counts, Examples, Prediction, Unlike, count},
    line::{Format, LogLine, Parser},
    reader::{self, Read1},
    site::{Site, Treated},
    tier::{Tier, Visit},
};

/// Lines at the start of a file of which one has to be of the form.
const TRIED: u64 = 1_000;
/// Lines between two looks at the bounds.
const TURN: u64 = 1 << 10;
/// Seconds by which a line may be older than one before it.
const LATE: u64 = 60;

/// A run.
#[derive(Debug)]
pub struct ReplayOrder {
    /// The logs, in the order of their times.
    pub files: Vec<PathBuf>,
    /// `None`: the first line decides.
    pub format: Option<Format>,
    /// Of requests for which the log names none.
    pub host: HeaderValue,
    /// Of requests for which the log names none.
    pub scheme: Scheme,
    /// Bytes of the tiers.
    pub tiers: Vec<u64>,
    /// The assumptions about responses.
    pub assumed: Assumed,
    /// One in so many URLs is replayed, in tiers that are smaller by as much; 1: all.
    pub sample: u64,
    /// Entries in all tiers together.
    pub most_entries: u64,
}

/// How far a run has come, for other threads, and its end before time.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes read of the files, as they are on disk.
    pub read: AtomicU64,
    /// Lines read.
    pub lines: AtomicU64,
    /// Set by another thread to end the run.
    pub stopped: AtomicBool,
}

/// Why there is no prediction.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file, and what the system says.
    #[error("{0}: cannot be read: {1}")]
    File(String, io::Error),
    /// The file, and the form that was expected.
    #[error(
        "{0}: is no access log{1}: none of its first lines is a request; choose another with --format"
    )]
    NotALog(String, String),
    /// No file has a request.
    #[error("the logs have no request")]
    Empty,
    /// The bound.
    #[error(
        "the tiers would hold more than {0} entries, each of which takes memory here; give --sample, or fewer sizes"
    )]
    TooManyEntries(u64),
    /// Ended by [`Progress::stopped`].
    #[error("stopped")]
    Stopped,
}

/// Predicts what the plan would do with the requests of the files.
pub fn run(
    plan: &Plan,
    order: &ReplayOrder,
    progress: &Progress,
) -> Result<Prediction, ReplayError> {
    let mut replay = Replay::new(plan, order, progress);
    for file in &order.files {
        let shown = file.display().to_string();
        // Logs of one run may have several forms.
        let mut parser = Parser::new(order.format);
        let (mut understood, mut tried) = (0, 0);
        let mut failed = None;
        let read = reader::lines(file, &progress.read, |line| {
            let parsed = match line {
                Read1::Line(line) if parser.is_aside(line) => return ControlFlow::Continue(()),
                Read1::Line(line) => parser.parse(line),
                Read1::TooLong => None,
            };
            match parsed {
                Some(line) => {
                    understood += 1;
                    replay.line(&line);
                }
                None => {
                    tried += 1;
                    replay.result.not_understood += 1;
                    if understood == 0 && tried >= TRIED {
                        return ControlFlow::Break(());
                    }
                }
            }
            match replay.pause() {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        read.map_err(|error| ReplayError::File(shown.clone(), error))?;
        if let Some(error) = failed {
            return Err(error);
        }
        if understood == 0 && tried > 0 {
            let expected = order
                .format
                .map(|format| format!(" of the form {}", format.as_str()));
            return Err(ReplayError::NotALog(shown, expected.unwrap_or_default()));
        }
        if let Some(format) = parser.format {
            replay.result.format = format.as_str();
        }
    }
    replay.end()
}

struct Replay<'p, 'o> {
    order: &'o ReplayOrder,
    progress: &'o Progress,
    site: Site<'p>,
    tiers: Vec<Tier>,
    hasher: foldhash::fast::FixedState,
    buffer: Vec<u8>,
    now: u64,
    /// Requests that no tier sees.
    outcomes: ByOutcome,
    origin_requests: u64,
    origin_bytes: u64,
    /// Whole responses, for the size of those that are not in the log.
    whole: Counts,
    turn: u64,
    result: Prediction,
}

impl<'p, 'o> Replay<'p, 'o> {
    fn new(plan: &'p Plan, order: &'o ReplayOrder, progress: &'o Progress) -> Self {
        let limits = &plan.limits.cache;
        let sample = order.sample.max(1);
        let tiers = order.tiers.iter().map(|bytes| {
            let largest = limits.largest_object_bytes.unwrap_or(bytes / 10);
            Tier::new(bytes / sample, Some(largest), limits.slice_bytes)
        });
        Self {
            order,
            progress,
            site: Site::new(plan, order.host.clone(), order.scheme),
            tiers: tiers.collect(),
            hasher: foldhash::fast::FixedState::default(),
            buffer: Vec::new(),
            now: 0,
            outcomes: ByOutcome::new(),
            origin_requests: 0,
            origin_bytes: 0,
            whole: Counts::default(),
            turn: 0,
            result: Prediction::default(),
        }
    }

    /// Looks at the bounds from time to time.
    fn pause(&mut self) -> Result<(), ReplayError> {
        self.turn += 1;
        if !self.turn.is_multiple_of(TURN) {
            return Ok(());
        }
        self.progress.lines.fetch_add(TURN, Ordering::Relaxed);
        if self.progress.stopped.load(Ordering::Relaxed) {
            return Err(ReplayError::Stopped);
        }
        let entries: u64 = self.tiers.iter().map(Tier::entries).sum();
        if entries > self.order.most_entries {
            return Err(ReplayError::TooManyEntries(self.order.most_entries));
        }
        Ok(())
    }

    fn line(&mut self, line: &LogLine<'_>) {
        let result = &mut self.result;
        result.requests += 1;
        if result.from == 0 {
            result.from = line.at;
        }
        if line.at + LATE < self.now {
            result.out_of_order += 1;
        }
        self.now = self.now.max(line.at);
        match self.site.treat(line, self.now) {
            Treated::Unusable => self.result.unusable += 1,
            Treated::Answered(outcome) => {
                if outcome == Outcome::Error && (200..300).contains(&line.status) {
                    self.unlike(Unlike::Refused, line);
                }
                self.result.replayed += 1;
                count(&mut self.outcomes, outcome, line.bytes);
            }
            Treated::Passed(invalidated, unlike) => {
                if let Some(unlike) = unlike {
                    self.unlike(unlike, line);
                }
                self.passed(line, invalidated.as_ref());
            }
            Treated::Asked(route, admitted) => {
                let viewer = admitted.viewer_path.path();
                let path = admitted.head.target.path();
                let other = (viewer != path).then_some(viewer);
                let buffer = std::mem::take(&mut self.buffer);
                let question = self.site.question(route, &admitted, buffer);
                self.asked(line, route, &question, (viewer, other));
                self.buffer = question.key.into_buffer();
            }
        }
    }

    fn passed(&mut self, line: &LogLine<'_>, invalidated: Option<&Key>) {
        self.result.replayed += 1;
        count(&mut self.outcomes, Outcome::Pass, line.bytes);
        self.origin_requests += 1;
        self.origin_bytes += line.bytes;
        if let Some(key) = invalidated {
            self.tiers.iter().for_each(|tier| tier.invalidate(key));
        }
    }

    fn asked(
        &mut self,
        line: &LogLine<'_>,
        route: &Route,
        question: &edgerouter_core::cache::question::Question<'_>,
        (viewer, other): (&str, Option<&str>),
    ) {
        if self.order.sample > 1 {
            let hash = self.hasher.hash_one(question.key.url());
            if !hash.is_multiple_of(self.order.sample) {
                return;
            }
        }
        let result = &mut self.result;
        result.replayed += 1;
        if !route.hooks.is_empty() {
            result.hooked += 1;
        }
        let (mut status, mut length) = (line.status, line.bytes);
        if question.method == Method::GET {
            match status {
                200 => self.whole.add(length),
                206 => result.partial += 1,
                // The client had the response already; what the edge stores of it is the whole one.
                304 => {
                    result.not_modified += 1;
                    length = self
                        .whole
                        .bytes
                        .checked_div(self.whole.requests)
                        .unwrap_or(0);
                    status = 200;
                }
                _ => {}
            }
        }
        let Ok(status) = StatusCode::from_u16(status) else {
            return;
        };
        result.assumed_lifetimes += u64::from(assumed::is_assumed(line));
        let (assumed, now) = (&self.order.assumed, self.now);
        let headers = || assumed.headers(line, status, length, viewer, now);
        let mut visit = Visit {
            route,
            question,
            viewer: other,
            status,
            length,
            headers: LazyCell::new(&headers),
            sent: line.bytes,
            now,
            made: None,
        };
        for tier in &mut self.tiers {
            tier.answer(&mut visit);
        }
    }

    fn unlike(&mut self, why: Unlike, line: &LogLine<'_>) {
        let examples: &mut Examples = self.result.unlike.entry(why.as_str()).or_default();
        examples.add(&line.target);
    }

    fn end(mut self) -> Result<Prediction, ReplayError> {
        if self.result.requests == 0 {
            return Err(ReplayError::Empty);
        }
        self.result.until = self.now;
        let common = (&self.outcomes, self.origin_requests, self.origin_bytes);
        let sample = self.order.sample.max(1);
        let tiers = self.tiers.into_iter();
        self.result.tiers = tiers.map(|tier| tier.predicted(sample, common)).collect();
        Ok(self.result)
    }
}
