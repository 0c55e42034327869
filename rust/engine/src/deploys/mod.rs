//! Deploys: a new version of the application beside the one in service, with a share of the clients.
//!
//! The new version is a [`Live`] of its own. Workers take it up with the plan in service; a request chooses one of the
//! two before its first phase, and everything after is that version's. `orders` is the way of the admin listener to
//! Python, which loads files. A roll-back needs neither: from its return on no request begins on the new version.

mod orders;

use std::{collections::VecDeque, sync::Arc};

use edgerouter_core::trial::{Share, TrialThresholds};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use orders::DeployOrders;
pub(crate) use orders::NotTaken;

use crate::{
    live::Live,
    telemetry::text,
    trial::{Side, Trial},
};

/// Deploys that are remembered besides the one under way.
const MOST_PAST: usize = 32;

/// A deploy as it is ordered.
#[derive(Debug)]
pub struct NewDeploy {
    /// The path of the file below the folder for deploys.
    pub file: String,
    /// SHA-256 of the code of the version, in hexadecimal digits.
    pub hash: String,
    /// The caller of the admin listener who ordered it.
    pub author: String,
    /// The clients that it serves.
    pub share: Share,
    /// When it is rolled back by itself.
    pub thresholds: TrialThresholds,
}

/// The way in which a deploy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeployEnd {
    Promoted,
    RolledBack,
    Refused,
}

impl DeployEnd {
    const ALL: [Self; 3] = [Self::Promoted, Self::RolledBack, Self::Refused];

    fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled-back",
            Self::Refused => "refused",
        }
    }
}

/// The facts of a deploy that stay when it has ended.
#[derive(Debug)]
struct Facts {
    id: u64,
    file: String,
    hash: String,
    author: String,
    since: u64,
    /// `None`: it never served.
    served: Option<Served>,
}

#[derive(Debug)]
struct Served {
    version: u64,
    percent: f64,
    apart: usize,
    trial: Arc<Trial>,
}

/// The version beside the one in service.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub live: Arc<Live>,
    pub share: Arc<Share>,
    pub trial: Arc<Trial>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    current: Option<(Facts, Candidate)>,
    /// The newest first.
    past: VecDeque<(Facts, DeployEnd, u64, String)>,
    ended: [u64; DeployEnd::ALL.len()],
}

impl State {
    fn end(&mut self, facts: Facts, end: DeployEnd, now: u64, reason: String) {
        if let Some(count) = self.ended.get_mut(end as usize) {
            *count += 1;
        }
        self.past.push_front((facts, end, now, reason));
        self.past.truncate(MOST_PAST);
    }
}

/// Why there is nothing to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoDeploy {
    /// None at all.
    #[error("no deploy is under way")]
    Never,
    /// Another one than was named.
    #[error("deploy {0} is not the one under way, which is {1}")]
    Other(u64, u64),
}

/// All deploys of the process.
#[derive(Debug, Default)]
pub(crate) struct Deploys {
    state: Mutex<State>,
    pub(crate) orders: Arc<DeployOrders>,
}

impl Deploys {
    /// The version beside the one in service, for a worker.
    pub(crate) fn candidate(&self) -> Option<Candidate> {
        let state = self.state.lock();
        state
            .current
            .as_ref()
            .map(|(_, candidate)| candidate.clone())
    }

    /// True if the version beside the one in service has this number.
    pub(crate) fn serves(&self, version: u64) -> bool {
        let state = self.state.lock();
        let current = state.current.as_ref();
        current.is_some_and(|(_, candidate)| candidate.live.version == version)
    }

    /// The id of the deploy under way.
    pub(crate) fn under_way(&self) -> Option<u64> {
        let state = self.state.lock();
        state.current.as_ref().map(|(facts, _)| facts.id)
    }

    /// Puts a version beside the one in service; its id, or that of the deploy under way. `live` is given the tag of
    /// the deploy and makes the version, of which that many routes are apart. The caller begins one at a time.
    pub(crate) fn begin<E>(
        &self,
        new: NewDeploy,
        now: u64,
        live: impl FnOnce(&str) -> Result<(Live, usize), E>,
    ) -> Result<Result<u64, E>, u64> {
        let id = self.next_id()?;
        // Entries on a disk outlive the process, and with it the numbers.
        let tag = format!("deploy {id} {:016x}", fastrand::u64(..));
        // Without the lock: this reads files and waits for stores, and workers look for a version meanwhile.
        let made = live(&tag);
        let mut state = self.state.lock();
        let (live, apart) = match made {
            Ok(made) => made,
            Err(error) => {
                // It is refused, and has the number as that.
                if state.last == id {
                    state.last -= 1;
                }
                return Ok(Err(error));
            }
        };
        let trial = Arc::new(Trial::new(id, new.thresholds));
        trial.alone(new.share.is_whole());
        let facts = Facts {
            id,
            file: new.file,
            hash: new.hash,
            author: new.author,
            since: now,
            served: Some(Served {
                version: live.version,
                percent: new.share.percent(),
                apart,
                trial: Arc::clone(&trial),
            }),
        };
        let candidate = Candidate {
            live: Arc::new(live),
            share: Arc::new(new.share),
            trial,
        };
        state.current = Some((facts, candidate));
        Ok(Ok(id))
    }

    /// A number for a deploy, or that of the one under way.
    fn next_id(&self) -> Result<u64, u64> {
        let mut state = self.state.lock();
        if let Some((facts, _)) = &state.current {
            return Err(facts.id);
        }
        state.last += 1;
        Ok(state.last)
    }

    /// Notes one that was refused before it served.
    pub(crate) fn refused(&self, file: &str, hash: &str, author: &str, now: u64, reason: &str) {
        let mut state = self.state.lock();
        state.last += 1;
        let facts = Facts {
            id: state.last,
            file: file.to_owned(),
            hash: hash.to_owned(),
            author: author.to_owned(),
            since: now,
            served: None,
        };
        state.end(facts, DeployEnd::Refused, now, reason.to_owned());
    }

    /// Gives the version another share of the clients.
    pub(crate) fn share(&self, id: Option<u64>, percent: f64) -> Result<Result<(), ()>, NoDeploy> {
        let mut state = self.state.lock();
        let current = state.current.as_mut();
        let (facts, candidate) = named(current, id, |(facts, _)| facts.id)?;
        let Some(share) = candidate.share.of_percent(percent) else {
            return Ok(Err(()));
        };
        if let Some(served) = &mut facts.served {
            served.percent = share.percent();
        }
        candidate.trial.alone(share.is_whole());
        candidate.share = Arc::new(share);
        Ok(Ok(()))
    }

    /// Ends the deploy under way, or the one of this id.
    pub(crate) fn end(
        &self,
        id: Option<u64>,
        end: DeployEnd,
        now: u64,
        reason: &str,
    ) -> Result<Candidate, NoDeploy> {
        let mut state = self.state.lock();
        named(state.current.as_ref(), id, |(facts, _)| facts.id)?;
        let (facts, candidate) = state.current.take().ok_or(NoDeploy::Never)?;
        state.end(facts, end, now, reason.to_owned());
        Ok(candidate)
    }

    /// All that are remembered, the newest first, as JSON.
    pub(crate) fn shown(&self) -> Value {
        let state = self.state.lock();
        let current = state.current.iter();
        let current = current.map(|(facts, _)| facts.shown("serving", None, ""));
        let past = state.past.iter();
        let past = past.map(|(facts, end, at, why)| facts.shown(end.as_str(), Some(*at), why));
        json!({"deploys": current.chain(past).collect::<Vec<_>>()})
    }

    pub(crate) fn render(&self, out: &mut String) {
        let state = self.state.lock();
        let current = state.current.as_ref();
        let percent = current.map_or(0.0, |(_, candidate)| candidate.share.percent());
        let help = "Percent of the clients that a version beside the running one serves; 0: there is none.";
        text::one(out, "edgerouter_deploy_percent", help, percent);
        Trial::render(current.map(|(_, candidate)| &*candidate.trial), out);
        text::labelled(
            out,
            "edgerouter_deploys_total",
            "Deploys that ended, by result.",
            ["result"],
            (DeployEnd::ALL.into_iter().map(|end| [end.as_str()])).zip(state.ended),
        );
    }
}

/// The deploy under way, if it is the one of the id.
fn named<T>(
    current: Option<T>,
    id: Option<u64>,
    id_of: impl FnOnce(&T) -> u64,
) -> Result<T, NoDeploy> {
    let current = current.ok_or(NoDeploy::Never)?;
    let own = id_of(&current);
    match id {
        Some(id) if id != own => Err(NoDeploy::Other(id, own)),
        _ => Ok(current),
    }
}

impl Facts {
    fn shown(&self, state: &str, ended: Option<u64>, reason: &str) -> Value {
        let mut shown = json!({
            "id": self.id,
            "file": self.file,
            "hash": self.hash,
            "author": self.author,
            "since": self.since,
            "state": state,
            "ended": ended,
            "reason": reason,
        });
        if let (Some(served), Some(fields)) = (&self.served, shown.as_object_mut()) {
            let thresholds = served.trial.thresholds;
            fields.insert("version".into(), json!(served.version));
            fields.insert("percent".into(), json!(served.percent));
            fields.insert("routes_apart".into(), json!(served.apart));
            fields.insert(
                "thresholds".into(),
                json!({
                    "min_responses": thresholds.min_responses,
                    "max_errors": thresholds.max_errors,
                    "max_latency": thresholds.max_latency.map(|micros| micros as f64 / 1e6),
                }),
            );
            for side in Side::ALL {
                fields.insert(side.as_str().into(), served.trial.shown(side));
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ordered() -> NewDeploy {
        NewDeploy {
            file: "new.py".to_owned(),
            hash: String::new(),
            author: String::new(),
            share: Share::new("salt", 10.0, None).unwrap(),
            thresholds: TrialThresholds {
                min_responses: 1,
                max_errors: 1.0,
                max_latency: None,
            },
        }
    }

    #[test]
    fn workers_look_for_a_version_while_another_one_is_made() {
        let deploys = Deploys::default();
        let begun = deploys.begin(ordered(), 0, |tag| {
            assert!(tag.starts_with("deploy 1 "));
            assert!(!deploys.state.is_locked());
            Err::<(Live, usize), _>("its certificate cannot be read")
        });
        assert_eq!(begun, Ok(Err("its certificate cannot be read")));
        // The note of its refusal has its number.
        deploys.refused("new.py", "", "", 0, "its certificate cannot be read");
        assert_eq!(deploys.shown()["deploys"][0]["id"], 1);
    }
}
