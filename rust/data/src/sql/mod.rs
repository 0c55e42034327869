//! SQL databases: statements with bound values, batches in one transaction, scripts.
//!
//! A call is checked here and goes to its engine, which answers through the `Answer` that comes with the call.

pub(crate) mod call;
mod sqlite;

use edgerouter_core::plan::{
    binding::{Binding, DataAddress},
    limits::DataLimits,
};

use crate::{answer::Answer, error::DataError};
use call::SqlCall;

#[derive(Debug)]
enum SqlEngine {
    Sqlite(sqlite::SqliteDatabase),
}

/// A database.
#[derive(Debug)]
pub(crate) struct SqlDatabase {
    engine: SqlEngine,
    limits: DataLimits,
}

impl SqlDatabase {
    pub(crate) fn open(binding: &Binding, limits: &DataLimits) -> Result<Self, String> {
        let engine = match &binding.address {
            DataAddress::Sqlite(path) => {
                SqlEngine::Sqlite(sqlite::SqliteDatabase::new(path, limits))
            }
            DataAddress::Memory | DataAddress::Redis(_) => {
                return Err("must be sqlite:FILE for a database".to_owned());
            }
        };
        Ok(Self {
            engine,
            limits: limits.clone(),
        })
    }

    /// The refusal of a call whose arguments are out of bounds.
    pub(crate) fn at_once(&self, call: &SqlCall) -> Option<DataError> {
        call.check(&self.limits).err()
    }

    pub(crate) fn begin(&self, call: SqlCall, answer: Answer) {
        match &self.engine {
            SqlEngine::Sqlite(database) => database.begin(call, answer),
        }
    }

    pub(crate) fn close(&self) {
        match &self.engine {
            SqlEngine::Sqlite(database) => database.close(),
        }
    }
}
