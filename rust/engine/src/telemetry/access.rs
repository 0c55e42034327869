//! The access log: a line a request, written when its answer has been sent.
//!
//! Workers format the line (`core::access_log`) and push it into a bounded queue; the file is written by a thread.

use std::{
    cell::Cell,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

pub use edgerouter_core::access_log::Form;
use edgerouter_core::{
    access_log::{self, AccessLogPolicy, LogEntry},
    plan::OriginId,
};
use http::{HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};

use super::log::{self, Output, Sink, StandardStream};
use crate::{body::EdgeBody, connection::Connection, request::exchange::Exchange, worker::Worker};

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
    pub(crate) fn close(&self) {
        self.output.flush();
        if self.output.name() == "access" {
            self.output.close();
        }
    }

    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// Writes the line of a request when its answer is over.
    pub(crate) fn note(
        &self,
        x: &Exchange,
        response: &mut Response<EdgeBody>,
        count: Option<Rc<Worker>>,
    ) {
        let live = &x.live;
        let route = x.route.and_then(|id| live.plan.route(id));
        let Some(logged) = &x.logged else {
            return;
        };
        let variant = route
            .map(|route| {
                let names: Vec<String> = x
                    .variants(route)
                    .map(|(name, variant)| format!("{name}:{variant}"))
                    .collect();
                names.join(",")
            })
            .unwrap_or_default();
        let origin = logged.origin.get().and_then(|id| live.plan.origin(id));
        let head = x.started.elapsed();
        let entry = LogEntry {
            at: x.worker.clock.unix_millis(x.started),
            client: x.client.address,
            user: x.claims.as_ref().and_then(|claims| claims.sub()),
            scheme: x.client.scheme.as_str(),
            host: x.authority.to_str().unwrap_or_default(),
            method: logged.method.as_str(),
            target: x.viewer_path.as_str(),
            version: version(x.head.version),
            status: response.status().as_u16(),
            referer: logged.referer.as_ref().map(HeaderValue::as_bytes),
            agent: logged.agent.as_ref().map(HeaderValue::as_bytes),
            cache: x.note.outcome.as_str(),
            reason: x
                .note
                .detail
                .or_else(|| x.note.forward.map(|forward| forward.as_str())),
            route: route.map_or("", |route| &*route.label),
            origin: origin.map(|origin| &*origin.name),
            variant: &variant,
            id: x.id(),
            head: micros(head),
        };
        let begun = access_log::begin(&entry, &live.plan.access_log, self.form);
        let (output, started) = (self.output.clone(), x.started);
        let body = std::mem::replace(response.body_mut(), EdgeBody::empty());
        *response.body_mut() = body.on_end(move |bytes| {
            if let Some(worker) = count {
                worker.metrics.bytes_out(bytes);
            }
            output.push(&begun.end(bytes, micros(started.elapsed())));
        });
    }
}

/// What a line says that the phases may change or use up.
#[derive(Debug)]
pub(crate) struct Logged {
    method: Method,
    referer: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    /// The origin that answered.
    pub origin: Cell<Option<OriginId>>,
}

impl Logged {
    pub fn of(head: &Parts) -> Self {
        Self {
            method: head.method.clone(),
            referer: head.headers.get(header::REFERER).cloned(),
            agent: head.headers.get(header::USER_AGENT).cloned(),
            origin: Cell::new(None),
        }
    }
}

impl AccessLog {
    /// Writes the line of a request that was refused before anything in it could be believed.
    pub(crate) fn refused(
        &self,
        worker: &Worker,
        connection: &Connection,
        status: StatusCode,
        reason: &str,
    ) {
        let entry = LogEntry {
            at: worker.clock.unix_millis(Instant::now()),
            client: connection.peer.ip(),
            user: None,
            scheme: connection.scheme.as_str(),
            host: "",
            method: "-",
            target: "-",
            version: "-",
            status: status.as_u16(),
            referer: None,
            agent: None,
            cache: "error",
            reason: Some(reason),
            route: "",
            origin: None,
            variant: "",
            id: worker.next_id(),
            head: 0,
        };
        let line = access_log::begin(&entry, &AccessLogPolicy::default(), self.form);
        self.output.push(&line.end(0, 0));
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
