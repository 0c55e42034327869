//! WebP by libwebp: the only lossy encoder that there is. Unsafe code of this crate is in this file alone.
#![allow(unsafe_code)]

use std::ptr;

use image::DynamicImage;
use libwebp_sys::{WebPEncodeRGB, WebPEncodeRGBA, WebPFree};

/// Columns or rows of a WebP image, at most (VP8, RFC 6386 §9.1).
const MOST_SIDE: u32 = 16_383;

/// False for images that are too large for the format.
pub(crate) fn fits(columns: u32, rows: u32) -> bool {
    columns <= MOST_SIDE && rows <= MOST_SIDE
}

/// Encodes pixels; `None` if there are too many for the format, or no memory.
pub(crate) fn encode(pixels: &DynamicImage, quality: u8) -> Option<Vec<u8>> {
    let (columns, rows) = (pixels.width(), pixels.height());
    if !fits(columns, rows) {
        return None;
    }
    let has_alpha = pixels.color().has_alpha();
    let channels = if has_alpha { 4 } else { 3 };
    let bytes = pixels.as_bytes();
    let stride = columns.checked_mul(channels)?;
    if bytes.len() as u64 != u64::from(stride) * u64::from(rows) {
        return None;
    }
    let encoder = if has_alpha {
        WebPEncodeRGBA
    } else {
        WebPEncodeRGB
    };
    let (columns, rows) = (i32::try_from(columns).ok()?, i32::try_from(rows).ok()?);
    let stride = i32::try_from(stride).ok()?;
    let mut out: *mut u8 = ptr::null_mut();
    // SAFETY: the slice has `rows` lines of `stride` bytes, which the library reads and does not keep. `out` is set to
    // memory of the library with as many bytes as it returns, or to null.
    let length = unsafe {
        encoder(
            bytes.as_ptr(),
            columns,
            rows,
            stride,
            f32::from(quality),
            &raw mut out,
        )
    };
    if out.is_null() {
        return None;
    }
    // SAFETY: as above; the memory is copied before it is freed, once.
    let coded = unsafe { std::slice::from_raw_parts(out, length) }.to_vec();
    // SAFETY: `out` is the library's, and nothing refers to it any more.
    unsafe { WebPFree(out.cast()) };
    (!coded.is_empty()).then_some(coded)
}
