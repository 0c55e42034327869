//! Data that functions are bound to: the bindings of a plan, opened once and used by every call.
//!
//! A [`Binding`](Bound) is called with a [`DataCall`]. Memory and the read cache answer at once; otherwise the result
//! is delivered later, on a thread of the engine that did the work, within the time that the plan allows. A binding
//! that cannot be reached is an error of that call only. This crate knows no Python and no workers.

mod answer;
mod clock;
mod documents;
mod error;
mod http;
mod kv;
mod meter;
mod open_files;
mod place;
mod redis_link;
mod remote;
mod reply;
mod sql;
mod sqlite;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use edgerouter_core::plan::{
    Plan, Problem,
    binding::{Binding, BindingKind, DataAddress},
    limits::DataLimits,
};

pub use answer::DataResult;
pub use documents::call::{DocumentCall, DocumentReply};
pub use error::{Constraint, DataError};
pub use kv::call::{
    Entry, KeyPage, KvCall, KvReply, LIFETIMES, LONGEST_KEY, LONGEST_METADATA, MOST_LISTED,
    PutCondition,
};
pub use open_files::is_open;
pub use reply::DataReply;
pub use sql::call::{
    LONGEST_SQL, MOST_STATEMENTS, SqlCall, SqlMeta, SqlPart, SqlReply, SqlResult, SqlValue,
    Statement,
};
pub use sql::{bookmark::LONGEST_BOOKMARK, mysql_statements, session::Session};

use clock::WallClock;
use documents::DocumentServer;
use kv::KeyValues;
use meter::{Meter, Metered};
use remote::RemoteThread;
use sql::{BookmarkKey, SqlDatabase, roots};

/// Time to connect to a server, to find out whether it is alive, and to end what it is doing.
const BRIEF: Duration = Duration::from_secs(2);
/// Prepared statements that a connection to a database keeps.
const STATEMENTS: usize = 128;

/// An operation on a binding, by its kind.
#[derive(Debug, Clone)]
pub enum DataCall {
    /// Of a key-value store.
    KeyValue(KvCall),
    /// Of a database, and the session that it is a part of.
    Sql(SqlCall, Option<Arc<Session>>),
    /// Of documents that are not in a database.
    Document(DocumentCall),
}

impl DataCall {
    /// The word for the operation in metrics and spans.
    pub fn word(&self) -> &'static str {
        let operation = match self {
            Self::KeyValue(call) => call.operation(),
            Self::Sql(call, _) => call.operation(),
            Self::Document(call) => call.operation(),
        };
        let word = meter::OPERATIONS.get(operation);
        word.copied().unwrap_or_default()
    }
}

/// The engine of a binding.
#[derive(Debug)]
enum Store {
    KeyValue(KeyValues),
    Sql(SqlDatabase),
    Documents(DocumentServer),
}

/// The clock, the thread and the key that all bindings share, also across reloads.
#[derive(Default)]
struct DataRoom {
    clock: Arc<WallClock>,
    remote: RemoteThread,
    bookmark_key: OnceLock<BookmarkKey>,
}

// By hand, as the key is not shown.
impl std::fmt::Debug for DataRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataRoom").finish_non_exhaustive()
    }
}

impl DataRoom {
    fn bookmark_key(&self) -> Result<BookmarkKey, String> {
        let mut drawn = BookmarkKey::default();
        let failed = |_| "the system gave no random bytes for the key of bookmarks".to_owned();
        aws_lc_rs::rand::fill(&mut drawn).map_err(failed)?;
        Ok(*self.bookmark_key.get_or_init(|| drawn))
    }
}

/// A binding that is open.
#[derive(Debug)]
pub struct Bound {
    binding: Binding,
    limits: DataLimits,
    /// Of the certificates by which its servers are verified.
    authorities: Option<[u8; 32]>,
    store: Store,
    meter: Arc<Meter>,
    room: Arc<DataRoom>,
    closed: AtomicBool,
}

impl Bound {
    fn open(
        binding: &Binding,
        limits: &DataLimits,
        room: &Arc<DataRoom>,
    ) -> Result<Arc<Self>, String> {
        let thread = |error| format!("the thread for data could not be started: {error}");
        let in_memory = matches!(binding.address, DataAddress::Memory);
        if !in_memory {
            room.remote.handle().map_err(thread)?;
        }
        let bound = Arc::new(Self {
            authorities: roots::digest(binding),
            store: match (binding.kind, &binding.address) {
                (BindingKind::KeyValue, _) => {
                    let (clock, remote) = (&room.clock, &room.remote);
                    Store::KeyValue(KeyValues::open(binding, limits, clock, remote)?)
                }
                (BindingKind::Documents, DataAddress::Redis(url)) => {
                    Store::Documents(DocumentServer::new(url, limits, &room.remote)?)
                }
                (BindingKind::Database | BindingKind::Documents, _) => {
                    let key = || room.bookmark_key();
                    Store::Sql(SqlDatabase::open(binding, limits, &room.remote, key)?)
                }
            },
            binding: binding.clone(),
            limits: limits.clone(),
            meter: Arc::default(),
            room: Arc::clone(room),
            closed: AtomicBool::new(false),
        });
        if !in_memory {
            let weak = Arc::downgrade(&bound);
            room.remote.watch(weak, Self::look).map_err(thread)?;
        }
        Ok(bound)
    }

    /// The name, as `ctx.env` has it.
    pub fn name(&self) -> &Arc<str> {
        &self.binding.name
    }

    /// The kind of its calls.
    pub fn kind(&self) -> BindingKind {
        self.binding.kind
    }

    /// The dialect of SQL of a database, or `redis` for documents; `None` for key-value stores.
    pub fn engine(&self) -> Option<&'static str> {
        match &self.store {
            Store::KeyValue(_) => None,
            Store::Documents(_) => Some("redis"),
            Store::Sql(store) => Some(store.engine()),
        }
    }

    /// A session that goes on from a bookmark; `None` without replicas, where each call sees all before it.
    pub fn session(&self, bookmark: &str) -> Option<Arc<Session>> {
        let made = |bookmarks| Arc::new(Session::from(bookmarks, bookmark));
        self.database()?.bookmarks().map(made)
    }

    /// The session of one call of a callable; `None` as above.
    pub fn session_of_call(&self) -> Option<Arc<Session>> {
        let made = |bookmarks| Arc::new(Session::of_call(bookmarks));
        self.database()?.bookmarks().map(made)
    }

    fn database(&self) -> Option<&SqlDatabase> {
        match &self.store {
            Store::KeyValue(_) | Store::Documents(_) => None,
            Store::Sql(store) => Some(store),
        }
    }

    /// True if each call is answered at once, so that even a worker may make it.
    pub fn is_immediate(&self) -> bool {
        matches!(&self.store, Store::KeyValue(store) if store.is_immediate())
    }

    /// Begins an operation. `Some`: the result, and `deliver` is not called; otherwise it is called once, on another
    /// thread.
    pub fn call(
        &self,
        call: DataCall,
        deliver: impl FnOnce(DataResult) + Send + 'static,
    ) -> Option<DataResult> {
        if self.closed.load(Ordering::Acquire) {
            return Some(Err(DataError::Closed));
        }
        let (operation, ready, learning) = match (&self.store, &call) {
            (Store::KeyValue(store), DataCall::KeyValue(call)) => {
                let ready = store.at_once(call).map(|result| result.map(Into::into));
                let learning = ready.is_none().then(|| store.learning(call)).flatten();
                (call.operation(), ready, learning)
            }
            (Store::Sql(store), DataCall::Sql(call, _)) => {
                (call.operation(), store.at_once(call).map(Err), None)
            }
            (Store::Documents(store), DataCall::Document(call)) => {
                (call.operation(), store.at_once(call).map(Err), None)
            }
            _ => return Some(Err(misdirected())),
        };
        if let Some(result) = ready {
            self.meter.count(operation, result.as_ref().err(), None);
            return Some(result);
        }
        let under_way = self.meter.under_way.fetch_add(1, Ordering::AcqRel);
        if under_way >= self.limits.operations {
            self.meter.under_way.fetch_sub(1, Ordering::AcqRel);
            let error = DataError::Busy(self.limits.operations);
            self.meter.count(operation, Some(&error), None);
            return Some(Err(error));
        }
        let (meter, began) = (Arc::clone(&self.meter), Instant::now());
        let name = Arc::clone(&self.binding.name);
        let answer = self
            .room
            .remote
            .deadlines
            .answer(self.limits.timeout, move |result| {
                meter.under_way.fetch_sub(1, Ordering::AcqRel);
                if let Some(learning) = learning {
                    learning.learn(match &result {
                        Ok(DataReply::KeyValue(reply)) => Some(reply),
                        _ => None,
                    });
                }
                meter.count(operation, result.as_ref().err(), Some(began.elapsed()));
                note(&meter, &name, &result);
                deliver(result);
            });
        match (&self.store, call) {
            (Store::KeyValue(store), DataCall::KeyValue(call)) => store.begin(call, answer),
            (Store::Sql(store), DataCall::Sql(call, session)) => {
                store.begin(call, session, answer);
            }
            (Store::Documents(store), DataCall::Document(call)) => store.begin(call, answer),
            _ => answer.send(Err(misdirected())),
        }
        None
    }

    /// Finds out whether the engine can be reached.
    fn look(bound: &Arc<Self>) {
        let (meter, name) = (Arc::clone(&bound.meter), Arc::clone(&bound.binding.name));
        let patience = bound.limits.timeout;
        let answer = bound
            .room
            .remote
            .deadlines
            .answer(patience, move |result| note(&meter, &name, &result));
        match &bound.store {
            Store::KeyValue(store) => store.begin(KvCall::Ping, answer),
            Store::Sql(store) => store.begin(SqlCall::Ping, None, answer),
            Store::Documents(store) => store.begin(DocumentCall::Ping, answer),
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        match &self.store {
            Store::KeyValue(store) => store.close(),
            Store::Sql(store) => store.close(),
            Store::Documents(store) => store.close(),
        }
    }
}

fn misdirected() -> DataError {
    DataError::Invalid("this operation is for another kind of binding".to_owned())
}

/// Notes whether the engine was reached, and logs a change.
fn note(meter: &Meter, binding: &str, result: &DataResult) {
    match result {
        Err(error) if error.is_outage() => {
            if meter.failed() {
                tracing::warn!(binding, %error, "a binding cannot be reached; calls of it fail");
            }
        }
        Err(DataError::Closed) => {}
        _ => {
            if meter.reached() {
                tracing::info!(binding, "a binding can be reached again");
            }
        }
    }
}

/// Problems of the bindings of a plan that opening them would show; opens nothing but the files of authorities.
pub fn check(plan: &Plan) -> Vec<Problem> {
    let bindings = plan.bindings.iter().enumerate();
    let problems = bindings.filter_map(|(at, binding)| {
        let checked = kv::check(&binding.address).and_then(|()| roots::check(&binding.address));
        let message = checked.err()?;
        Some(problem(at, message))
    });
    problems.collect()
}

fn problem(at: usize, message: String) -> Problem {
    Problem {
        path: format!("bindings[{at}].url"),
        value: None,
        message,
    }
}

/// The bindings of a plan.
#[derive(Debug, Default)]
pub struct Bindings {
    bound: BTreeMap<Arc<str>, Arc<Bound>>,
    room: Arc<DataRoom>,
}

impl Bindings {
    /// Opens the bindings of a plan. Files and servers that cannot be reached are no error.
    pub fn open(plan: &Plan) -> Result<Arc<Self>, Vec<Problem>> {
        Self::default().succeed(plan)
    }

    /// The bindings of a new plan: those that stay the same stay open.
    pub fn succeed(&self, plan: &Plan) -> Result<Arc<Self>, Vec<Problem>> {
        let limits = &plan.limits.data;
        let mut bound = BTreeMap::new();
        let mut problems = Vec::new();
        for (at, binding) in plan.bindings.iter().enumerate() {
            let kept = self
                .bound
                .get(&binding.name)
                .filter(|open| open.binding == *binding && open.limits == *limits)
                .filter(|open| open.authorities == roots::digest(binding));
            let opened = match kept {
                Some(open) => Ok(Arc::clone(open)),
                None => Bound::open(binding, limits, &self.room),
            };
            match opened {
                Ok(open) => {
                    bound.insert(Arc::clone(&binding.name), open);
                }
                Err(message) => problems.push(problem(at, message)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Arc::new(Self {
            bound,
            room: Arc::clone(&self.room),
        }))
    }

    /// The binding of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<Bound>> {
        self.bound.get(name)
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.bound.keys().map(|name| &**name)
    }

    /// Moves the wall clock of expiry, in tests.
    pub fn shift_clock(&self, seconds: i64) {
        self.room.clock.shift(seconds);
    }

    /// The bindings as metrics.
    pub fn render(&self, out: &mut String) {
        let all: Vec<Metered<'_>> = self
            .bound
            .values()
            .map(|bound| Metered {
                name: &bound.binding.name,
                kind: bound.binding.kind.as_str(),
                meter: &bound.meter,
                operations: match &bound.store {
                    Store::KeyValue(_) => meter::KV,
                    Store::Sql(_) => meter::DATABASE,
                    Store::Documents(_) => meter::DOCUMENTS,
                },
                cache: match &bound.store {
                    Store::KeyValue(store) => store.cache_counts(),
                    Store::Sql(_) | Store::Documents(_) => None,
                },
                replicas: bound.database().and_then(|it| it.facts()),
                bookmarks: bound.database().and_then(|it| it.bookmarks()),
            })
            .collect();
        meter::render(&all, out);
    }

    /// Ends all operations and closes files and connections.
    pub fn close(&self) {
        for bound in self.bound.values() {
            bound.close();
        }
        self.room.remote.end();
    }
}
