//! The question to the kernel whether it has a part of a file in memory: `cachestat` (Linux 6.5).
#![allow(unsafe_code)] // The C library has no function for it, only the call by number, which is unsafe.

use std::{
    ffi::{c_long, c_uint},
    fs::File,
};

/// True if all of these bytes are in memory. False where the kernel does not say: it is older, or the file is neither
/// the edge's own nor writable for it.
#[cfg(target_os = "linux")]
pub(crate) fn is_resident(file: &File, offset: u64, length: u64) -> bool {
    use std::os::fd::AsRawFd as _;

    /// `struct cachestat_range`.
    #[repr(C)]
    struct Range {
        offset: u64,
        length: u64,
    }

    /// `struct cachestat`: numbers of pages.
    #[repr(C)]
    #[derive(Default)]
    struct Pages {
        cached: u64,
        dirty: u64,
        under_writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }

    /// The same for all architectures.
    const CACHESTAT: c_long = 451;

    if length == 0 {
        return true;
    }
    let range = Range { offset, length };
    let mut pages = Pages::default();
    let flags: c_uint = 0;
    // SAFETY: the call reads `range` and writes `pages`, which both live here and have the layout that it wants; it
    // keeps neither. The descriptor is open as long as `file` is borrowed. A kernel without the call returns an error.
    let result = unsafe {
        syscall(
            CACHESTAT,
            file.as_raw_fd(),
            &raw const range,
            &raw mut pages,
            flags,
        )
    };
    let page = rustix::param::page_size() as u64;
    let wanted = (offset.saturating_add(length) - 1) / page - offset / page + 1;
    result == 0 && pages.cached >= wanted
}

/// Other systems do not say.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_resident(_file: &File, _offset: u64, _length: u64) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_that_was_written_just_now_is_in_memory() {
        let path = std::env::temp_dir().join(format!("edge-resident-{}", std::process::id()));
        std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for (offset, length, want) in [
            (0, 100_000, true),
            (99_999, 1, true),
            (4_095, 2, true),
            (50_000, 0, true),
            // There are no such pages.
            (0, 1 << 20, false),
        ] {
            assert_eq!(
                is_resident(&file, offset, length),
                want,
                "{offset} {length}"
            );
        }
    }
}
