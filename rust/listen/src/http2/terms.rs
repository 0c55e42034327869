//! The bounds of a connection, from the plan to the library.

use edgerouter_core::{
    http::{h1::request::RequestLimits, h2::flood::FrameLimits},
    plan::limits::Limits,
};
use h2::server;

use super::turns::MOST_AHEAD;

/// The bounds of a connection, as they are when it begins.
pub(super) struct Terms {
    pub(super) request: RequestLimits,
    streams: u32,
    pub(super) stream_window: u32,
    connection_window: u32,
    pub(super) frames: FrameLimits,
}

impl Terms {
    pub(super) fn of(limits: &Limits) -> Self {
        let Limits { http, http2, .. } = limits;
        Self {
            request: RequestLimits {
                head_bytes: http.head_bytes,
                head_fields: http.head_fields,
                url_bytes: http.url_bytes,
                body_bytes: http.body_bytes,
            },
            streams: http2.streams,
            stream_window: http2.stream_window_bytes,
            connection_window: http2.connection_window_bytes,
            frames: FrameLimits {
                resets: http2.resets,
                control_frames: http2.control_frames,
            },
        }
    }

    /// The library's connection with these bounds.
    pub(super) fn builder(&self) -> server::Builder {
        // The meter counts these, too, as soon as their frames are written.
        let resets = (self.frames.resets as usize).saturating_mul(10);
        let mut builder = server::Builder::new();
        builder
            .max_concurrent_streams(self.streams)
            .max_header_list_size(u32::try_from(self.request.head_bytes).unwrap_or(u32::MAX))
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            // Turns are the bound: no response is full before them.
            .max_send_buffer_size(2 * MOST_AHEAD)
            .enable_connect_protocol()
            .max_pending_accept_reset_streams(resets)
            .max_local_error_reset_streams(Some(resets));
        builder
    }
}
