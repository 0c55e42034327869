//! The limits of a plan: each field that is given takes the place of its default.

use std::time::Duration;

use serde_json::Value;

use super::reader::{Fields, Problems};
use crate::{bounds::clients::PerClient, plan::limits::Limits};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const LARGEST: u64 = 1 << 50;

pub(super) fn read(value: &Value, problems: &Problems) -> Limits {
    let mut limits = Limits::default();
    let Some(mut groups) = Fields::open(value, "limits", problems) else {
        return limits;
    };
    let mut read_group = |name, read: &mut dyn FnMut(&mut LimitsGroup<'_>)| {
        let Some(value) = groups.raw(name) else {
            return;
        };
        if let Some(fields) = Fields::open(value, groups.at(name), problems) {
            let mut group = LimitsGroup(fields);
            read(&mut group);
            group.0.end();
        }
    };
    let http = &mut limits.http;
    read_group("http", &mut |group| {
        group.whole("head_bytes", &mut http.head_bytes, KIB, 16 * MIB);
        group.whole("head_fields", &mut http.head_fields, 1, 10_000);
        group.whole("url_bytes", &mut http.url_bytes, 64, 65_534);
        group.whole("body_bytes", &mut http.body_bytes, 0, LARGEST);
        group.positive("head_timeout", &mut http.head_timeout);
        group.positive("body_timeout", &mut http.body_timeout);
        group.seconds("idle_timeout", &mut http.idle_timeout);
        group.positive("half_close_timeout", &mut http.half_close_timeout);
        group.positive("tunnel_idle_timeout", &mut http.tunnel_idle_timeout);
        group.whole("connections", &mut http.connections, 1, 10_000_000);
        group.per_client("client_connections", &mut http.client_connections);
        group.per_client("client_requests", &mut http.client_requests);
        let requests = &mut http.connection_requests;
        group.whole("connection_requests", requests, 1, LARGEST);
        group.whole("min_rate", &mut http.min_rate, 0, LARGEST);
        group.whole("rate_keys", &mut http.rate_keys, KIB, 16 * MIB);
        group.whole("delayed_requests", &mut http.delayed_requests, 0, MIB);
        group.whole("pipes", &mut http.pipes, 0, 1024);
        let memory = &mut http.request_memory_bytes;
        group.whole("request_memory_bytes", memory, MIB, LARGEST);
        group.seconds("drain_timeout", &mut http.drain_timeout);
    });
    let http2 = &mut limits.http2;
    read_group("http2", &mut |group| {
        group.whole("streams", &mut http2.streams, 1, 10_000);
        let window = &mut http2.stream_window_bytes;
        group.whole("stream_window_bytes", window, 16 * KIB, 16 * MIB);
        let window = &mut http2.connection_window_bytes;
        group.whole("connection_window_bytes", window, 64 * KIB, 64 * MIB);
        group.whole("resets", &mut http2.resets, 1, 1_000_000);
        let frames = &mut http2.control_frames;
        group.whole("control_frames", frames, 10, 1_000_000);
    });
    let origins = &mut limits.origins;
    read_group("origins", &mut |group| {
        group.whole("head_bytes", &mut origins.head_bytes, KIB, 16 * MIB);
        group.whole("head_fields", &mut origins.head_fields, 1, 10_000);
        group.whole("replay_bytes", &mut origins.replay_bytes, 0, 64 * MIB);
        group.positive("event_idle_timeout", &mut origins.event_idle_timeout);
    });
    let cache = &mut limits.cache;
    read_group("cache", &mut |group| {
        group.maybe("memory_bytes", &mut cache.memory_bytes, 0, LARGEST);
        let largest = &mut cache.largest_object_bytes;
        group.maybe("largest_object_bytes", largest, 0, LARGEST);
        group.whole("slice_bytes", &mut cache.slice_bytes, 4 * KIB, 64 * MIB);
        let ahead = &mut cache.read_ahead_bytes;
        group.whole("read_ahead_bytes", ahead, 64 * KIB, 1_024 * MIB);
        group.whole("fill_bytes", &mut cache.fill_bytes, 0, 1 << 40);
        group.seconds("coalesce_timeout", &mut cache.coalesce_timeout);
    });
    let functions = &mut limits.functions;
    read_group("functions", &mut |group| {
        group.whole("queue", &mut functions.queue, 1, 1_000_000);
        group.maybe("threads", &mut functions.threads, 1, 1_000);
        group.positive("timeout", &mut functions.timeout);
        group.whole("body_bytes", &mut functions.body_bytes, 0, 1_024 * MIB);
        let tasks = &mut functions.background_tasks;
        group.whole("background_tasks", tasks, 0, 1_000_000);
        group.positive("background_timeout", &mut functions.background_timeout);
        group.whole("named_caches", &mut functions.named_caches, 0, 10_000);
        group.whole("streams", &mut functions.streams, 0, 1_000_000);
        group.whole("fetch_bytes", &mut functions.fetch_bytes, 0, 1_024 * MIB);
    });
    let data = &mut limits.data;
    read_group("data", &mut |group| {
        group.whole("value_bytes", &mut data.value_bytes, 1, 64 * MIB);
        group.whole("store_bytes", &mut data.store_bytes, MIB, LARGEST);
        group.whole("store_entries", &mut data.store_entries, 1, 100_000_000);
        let result = &mut data.result_bytes;
        group.whole("result_bytes", result, 64 * KIB, 1_024 * MIB);
        group.whole("cache_bytes", &mut data.cache_bytes, MIB, LARGEST);
        group.whole("connections", &mut data.connections, 1, 256);
        group.whole("operations", &mut data.operations, 1, 1_000_000);
        group.positive("timeout", &mut data.timeout);
    });
    let files = &mut limits.files;
    read_group("files", &mut |group| {
        group.whole("threads", &mut files.threads, 1, 256);
        group.whole("queue", &mut files.queue, 1, 1_000_000);
        group.whole("open_files", &mut files.open_files, 1, 1_000_000);
        group.whole("kept_files", &mut files.kept_files, 0, 10_000);
        group.positive("timeout", &mut files.timeout);
        group.whole("listed_names", &mut files.listed_names, 1, 100_000);
    });
    let compression = &mut limits.compression;
    read_group("compression", &mut |group| {
        group.maybe("threads", &mut compression.threads, 1, 1_000);
        group.whole("responses", &mut compression.responses, 1, 1_000_000);
        group.whole("variants", &mut compression.variants, 0, 1_000_000);
        group.positive("timeout", &mut compression.timeout);
    });
    let images = &mut limits.images;
    read_group("images", &mut |group| {
        group.maybe("threads", &mut images.threads, 1, 256);
        group.whole("queue", &mut images.queue, 1, 100_000);
        group.whole("source_bytes", &mut images.source_bytes, KIB, 1_024 * MIB);
        group.whole("pixels", &mut images.pixels, 1, 1_000_000_000);
        group.whole("avif_pixels", &mut images.avif_pixels, 0, 100_000_000);
        group.positive("timeout", &mut images.timeout);
    });
    let identity = &mut limits.identity;
    read_group("identity", &mut |group| {
        group.whole("token_bytes", &mut identity.token_bytes, 64, MIB);
        let remembered = &mut identity.remembered_tokens;
        group.whole("remembered_tokens", remembered, 0, 100_000_000);
    });
    let prefetch = &mut limits.prefetch;
    read_group("prefetch", &mut |group| {
        group.whole("concurrency", &mut prefetch.concurrency, 1, 1_000);
        group.positive("timeout", &mut prefetch.timeout);
        group.whole("pages", &mut prefetch.pages, 2, 10_000_000);
        group.whole("visitors", &mut prefetch.visitors, 2, 100_000_000);
    });
    let purge = &mut limits.purge;
    read_group("purge", &mut |group| {
        group.whole("scopes", &mut purge.scopes, 1, 1_000_000);
        group.whole("in_progress", &mut purge.in_progress, 1, 1_000_000);
        group.whole("remembered", &mut purge.remembered, 1, 1_000_000);
        group.whole("marks", &mut purge.marks, 4, 1_000_000);
        group.whole("patterns", &mut purge.patterns, 4, 1_000_000);
        group.maybe("log_bytes", &mut purge.log_bytes, 64 * KIB, LARGEST);
    });
    let log = &mut limits.log;
    read_group("log", &mut |group| {
        group.whole("queue_bytes", &mut log.queue_bytes, 64 * KIB, 1_024 * MIB);
        group.whole("lines_per_second", &mut log.lines_per_second, 1, 1_000_000);
    });
    let tls = &mut limits.tls;
    read_group("tls", &mut |group| {
        group.positive("handshake_timeout", &mut tls.handshake_timeout);
        group.whole("handshakes", &mut tls.handshakes, 1, 1_000_000);
        group.whole("sessions", &mut tls.sessions, 0, 1_000_000);
        group.positive("issuer_timeout", &mut tls.issuer_timeout);
        group.positive("order_timeout", &mut tls.order_timeout);
        group.whole("orders_per_minute", &mut tls.orders_per_minute, 1, 6_000);
        group.whole("allowed_names", &mut tls.allowed_names, 1, 10_000);
    });
    groups.end();
    limits
}

/// One group of limits being read.
struct LimitsGroup<'v>(Fields<'v>);

impl LimitsGroup<'_> {
    fn whole<N: TryFrom<u64>>(&mut self, name: &'static str, limit: &mut N, least: u64, most: u64) {
        if let Some(value) = self.0.raw(name)
            && let Some(number) = self.0.whole_of(name, value, least, most, "")
            && let Ok(number) = N::try_from(number)
        {
            *limit = number;
        }
    }

    /// As [`Self::whole`]; null is the default.
    fn maybe<N: TryFrom<u64>>(
        &mut self,
        name: &'static str,
        limit: &mut Option<N>,
        least: u64,
        most: u64,
    ) {
        if let Some(value) = self.0.some(name) {
            let number = self.0.whole_of(name, value, least, most, "");
            *limit = number.and_then(|number| N::try_from(number).ok());
        }
    }

    fn per_client(&mut self, name: &'static str, limit: &mut PerClient) {
        let mut most = None;
        self.maybe(name, &mut most, 1, 10_000_000);
        if let Some(most) = most {
            *limit = PerClient { most, set: true };
        }
    }

    fn seconds(&mut self, name: &'static str, limit: &mut Duration) {
        *limit = self.0.timeout(name, *limit, false);
    }

    /// Seconds of which zero would make everything fail.
    fn positive(&mut self, name: &'static str, limit: &mut Duration) {
        *limit = self.0.timeout(name, *limit, true);
    }
}
