//! Phase 16: a request that is over is counted, logged and traced.

use std::{rc::Rc, time::Instant};

use edgerouter_core::request_record::RequestRecord;
use http::Version;
use http_body::Body as _;
use smallvec::SmallVec;

use super::exchange::Exchange;
use crate::body::{EdgeBody, EdgeResponse};

/// Content of this length is counted with its head, as buffers take all of it. More is counted by what was sent:
/// clients often leave large content before its end.
const SURELY_SENT: u64 = 64 << 10;

impl Exchange {
    /// Phase 16: one record of the request, for everything that keeps account of it.
    pub(crate) fn account(&mut self, response: &mut EdgeResponse) {
        let (trace, head) = (self.trace.take(), micros(self.started));
        let trace = self.keep_trace(trace, response.status().as_u16(), head);
        let plan = &self.live.plan;
        let route = self.route.and_then(|id| plan.route(id));
        let variants: SmallVec<[(&str, &str); 2]> =
            route.map_or_else(SmallVec::new, |route| self.variants(route).collect());
        let logged = self.logged.as_deref();
        let origin = logged.and_then(|logged| plan.origin(logged.origin.get()?));
        let record = RequestRecord {
            // Only lines of the log name it.
            at: logged.map_or(0, |_| self.worker.clock.unix_millis(self.started)),
            client: self.client.address,
            user: self.claims.as_ref().and_then(|claims| claims.sub()),
            scheme: self.client.scheme.as_str(),
            host: self.authority.as_str(),
            method: logged
                .map_or(&self.head.method, |logged| &logged.method)
                .as_str(),
            target: self.viewer_path.as_str(),
            version: version(self.head.version),
            status: response.status().as_u16(),
            referer: logged.and_then(|logged| Some(logged.referer.as_ref()?.as_bytes())),
            agent: logged.and_then(|logged| Some(logged.agent.as_ref()?.as_bytes())),
            outcome: self.note.outcome,
            hit: self.note.hit,
            stored: self.note.stored,
            detail: self.note.detail,
            forward: self.note.forward,
            refusal: None,
            route: self.route.map(|route| route.0),
            label: route.map_or("", |route| &*route.label),
            origin: origin.map(|origin| &*origin.name),
            variants: &variants,
            id: self.id(),
            trace: trace.as_ref().map(|(trace, _)| trace.id()),
            head,
            bytes: response
                .body()
                .size_hint()
                .exact()
                .filter(|&bytes| bytes <= SURELY_SENT),
            tls: logged.and_then(|_| Some(self.stream.connection.tls()?.record())),
        };
        self.live.metrics.count(&record);
        let counted = plan.geo.as_ref().filter(|geo| geo.count_countries);
        let country = counted.map(|_| self.country());
        if let (Some(country), Some(bytes)) = (country, record.bytes) {
            self.live.metrics.bytes_to(country, bytes);
        }
        if plan.predicts {
            self.report_navigation(response, &record);
        }
        if !self.visitor.is_empty() {
            self.report_visitor(record.method, response.status());
        }
        let trace = trace.and_then(|trace| self.trace_end(trace, &record));
        let observed = self.live.observed.as_ref();
        let line = observed.and_then(|observed| {
            if let Some((id, fault)) = observed.judge(&record) {
                self.worker.shared.fault(id, fault);
            }
            observed.begin(&record, &plan.access_log)
        });
        let count = record.bytes.is_none().then(|| Rc::clone(&self.live));
        if line.is_none() && count.is_none() && trace.is_none() {
            return;
        }
        let (started, route) = (self.started, record.route);
        let body = std::mem::replace(response.body_mut(), EdgeBody::empty());
        *response.body_mut() = body.on_end(move |bytes| {
            if let Some(live) = count {
                live.metrics.bytes_out(route, bytes);
                if let Some(country) = country {
                    live.metrics.bytes_to(country, bytes);
                }
            }
            if let Some(line) = line {
                line.end(bytes, micros(started));
            }
            if let Some(trace) = trace {
                trace.end(bytes);
            }
        });
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

/// Microseconds since an instant.
fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
