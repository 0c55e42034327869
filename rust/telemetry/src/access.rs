//! The access log: a line a request, written when its answer has been sent.
//!
//! Workers format the line (`core::access_log`) and push it into a bounded queue; the file is written by a thread.

use std::{cell::Cell, path::PathBuf};

pub use edgerouter_core::access_log::Form;
use edgerouter_core::{
    access_log::{self, AccessLogPolicy, UnfinishedLine},
    http::{FieldValue, RequestParts, header},
    plan::OriginId,
    request_record::RequestRecord,
};
use http::{HeaderValue, Method};

use super::log::{self, Output, Sink, StandardStream};

/// Where lines go, and their form.
#[derive(Debug, Clone)]
pub struct AccessLog {
    output: Output,
    form: Form,
}

impl AccessLog {
    /// Lines on standard output.
    pub fn stdout(form: Form) -> Self {
        Self {
            output: log::stream(StandardStream::Stdout).clone(),
            form,
        }
    }

    /// Lines appended to a file.
    pub fn file(path: PathBuf, form: Form) -> std::io::Result<Self> {
        let sink = Sink::file(path)?;
        Ok(Self {
            output: log::file(sink),
            form,
        })
    }

    /// Opens the file again by its name: the old one was moved away.
    pub fn reopen(&self) {
        self.output.reopen();
    }

    /// Ends the file when what is queued is written.
    pub fn close(&self) {
        self.output.flush();
        if self.output.name() == "access" {
            self.output.close();
        }
    }

    /// The queue that the lines go to.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Begins the line of a request; it is written when its answer is over.
    pub fn begin(&self, record: &RequestRecord<'_>, policy: &AccessLogPolicy) -> Line {
        Line {
            begun: access_log::begin(record, policy, self.form),
            output: self.output.clone(),
        }
    }
}

/// A line that lacks its end.
#[derive(Debug)]
pub struct Line {
    begun: UnfinishedLine,
    output: Output,
}

impl Line {
    /// `bytes` of content were sent, the last of them `micros` after the request.
    pub fn end(self, bytes: u64, micros: u64) {
        self.output.push(&self.begun.end(bytes, micros));
    }
}

/// RequestParts of a request that the phases may change or use up.
#[derive(Debug)]
pub struct Logged {
    /// As the client requested it.
    pub method: Method,
    /// The value of `Referer`.
    pub referer: Option<HeaderValue>,
    /// The value of `User-Agent`.
    pub agent: Option<HeaderValue>,
    /// The origin that answered.
    pub origin: Cell<Option<OriginId>>,
}

impl Logged {
    /// Copies the parts from a head; the origin is noted later.
    pub fn of(head: &RequestParts) -> Self {
        Self {
            method: head.method.clone(),
            referer: head.headers.get(header::REFERER).map(FieldValue::owned),
            agent: head.headers.get(header::USER_AGENT).map(FieldValue::owned),
            origin: Cell::new(None),
        }
    }
}
