//! The allocator of the Rust side; Python keeps its own.
//!
//! The crate `mimalloc` requests aligned memory whatever the alignment, and mimalloc then takes a longer way and up to
//! twice the memory for most sizes above a kilobyte. Nearly everything wants no more than its plain blocks have.

#![allow(unsafe_code)] // The interface of a global allocator is unsafe, and so is the C library's.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// mimalloc aligns a block of at least this size to as much (`MI_MAX_ALIGN_SIZE`), and a smaller one to its size
/// rounded down to a power of two.
const PLAIN: usize = 16;

#[derive(Debug)]
pub(crate) struct Allocator;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Returns pages that have been free for a second to the system. mimalloc itself looks for them only when it frees a
/// page, so a process that has just become idle would keep them. Called every two seconds.
pub(crate) fn give_back() {
    // SAFETY: looks over the heap of the calling thread and the pages that no thread has; any thread may call it.
    unsafe { mi_collect(false) }
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    huge_pages::follow_load();
}

/// Lets the kernel make huge pages again, as a program that is started now inherits that. The next call of
/// [`give_back`] decides anew.
#[pyo3::pyfunction]
pub(crate) fn allow_huge_pages() {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    huge_pages::allow();
}

/// Huge pages while there is much work only. They make hits in a large cache cheaper; but the kernel also puts small
/// pages together, in the background, and fills those in between that have been given back. And it clears a huge page
/// at once when the first byte of it is written, while the worker that wrote it serves nobody.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod huge_pages {
    use std::{
        ffi::{c_int, c_long, c_ulong},
        sync::atomic::{AtomicI64, AtomicU8, Ordering},
    };

    const PR_SET_THP_DISABLE: c_int = 41;
    const PR_GET_THP_DISABLE: c_int = 42;
    /// In units of `clock`, millionths of a second (POSIX): a tenth of the time between two calls.
    const LITTLE: i64 = 200_000;

    unsafe extern "C" {
        fn prctl(option: c_int, ...) -> c_int;
        fn clock() -> c_long;
    }

    /// Time on processors at the last call.
    static SPENT: AtomicI64 = AtomicI64::new(0);
    static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = 0;
    const ALLOWED: u8 = 1;
    const WITHHELD: u8 = 2;
    /// Disabled by somebody else, such as `MIMALLOC_ALLOW_THP=0`, and left so.
    const FORBIDDEN: u8 = 3;

    pub(super) fn follow_load() {
        // SAFETY: `clock` takes nothing, and is safe on any thread.
        let spent = unsafe { clock() };
        let idle = spent - SPENT.swap(spent, Ordering::Relaxed) < LITTLE;
        let state = match STATE.load(Ordering::Relaxed) {
            // SAFETY: takes five numbers and gives one.
            UNKNOWN if unsafe { prctl(PR_GET_THP_DISABLE, 0_u64, 0_u64, 0_u64, 0_u64) } != 0 => {
                FORBIDDEN
            }
            UNKNOWN => ALLOWED,
            known => known,
        };
        let wanted = match state {
            FORBIDDEN => FORBIDDEN,
            _ if idle => WITHHELD,
            _ => ALLOWED,
        };
        if wanted != state {
            withhold(wanted == WITHHELD);
        }
        STATE.store(wanted, Ordering::Relaxed);
    }

    pub(super) fn allow() {
        let change =
            STATE.compare_exchange(WITHHELD, ALLOWED, Ordering::Relaxed, Ordering::Relaxed);
        if change.is_ok() {
            withhold(false);
        }
    }

    /// It concerns pages to come: those that are there stay as they are.
    fn withhold(disable: bool) {
        // SAFETY: takes five numbers and gives one.
        unsafe {
            prctl(
                PR_SET_THP_DISABLE,
                c_ulong::from(disable),
                0_u64,
                0_u64,
                0_u64,
            )
        };
    }
}

fn is_plain(layout: Layout) -> bool {
    layout.align() <= PLAIN && layout.align() <= layout.size()
}

// SAFETY: every block comes from mimalloc and goes back to it; it has at least the size and the alignment of the
// layout: by the rule above where that is enough, by the call that takes an alignment otherwise. None of these unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_plain(layout) {
            return unsafe { mi::mi_malloc(layout.size()) }.cast();
        }
        unsafe { mi::mi_malloc_aligned(layout.size(), layout.align()) }.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_plain(layout) {
            return unsafe { mi::mi_zalloc(layout.size()) }.cast();
        }
        unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()) }.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= PLAIN && layout.align() <= size {
            return unsafe { mi::mi_realloc(block.cast(), size) }.cast();
        }
        unsafe { mi::mi_realloc_aligned(block.cast(), size, layout.align()) }.cast()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn blocks_have_the_alignment_that_was_asked_for() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in [
                1,
                8,
                12,
                16,
                24,
                40,
                200,
                1_000,
                1_500,
                3_000,
                70_000,
                3 << 20,
            ] {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                // SAFETY: the layout has a size, and each block is freed once, with the layout that it has then.
                unsafe {
                    let block = Allocator.alloc(layout);
                    assert_eq!(block as usize % align, 0, "{layout:?}");
                    block.write_bytes(7, size);
                    let block = Allocator.realloc(block, layout, size * 3 + 1);
                    assert_eq!(block as usize % align, 0, "{layout:?}");
                    assert_eq!(*block.add(size - 1), 7);
                    let grown = Layout::from_size_align(size * 3 + 1, align).expect("a layout");
                    Allocator.dealloc(block, grown);
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert_eq!((zeroed as usize % align, *zeroed), (0, 0), "{layout:?}");
                    Allocator.dealloc(zeroed, layout);
                }
            }
        }
    }
}
