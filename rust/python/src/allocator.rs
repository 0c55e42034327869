//! The allocator of the Rust side; Python keeps its own.
//!
//! The crate `mimalloc` requests aligned memory whatever the alignment, and mimalloc then takes a longer way and up to
//! twice the memory for most sizes above a kilobyte. Nearly everything wants no more than its plain blocks have.

#![allow(unsafe_code)] // The interface of a global allocator is unsafe, and so is the C library's.

use std::{
    alloc::{GlobalAlloc, Layout},
    sync::atomic::{AtomicU32, Ordering},
};

use libmimalloc_sys as mi;

/// mimalloc aligns a block of at least this size to as much (`MI_MAX_ALIGN_SIZE`), and a smaller one to its size
/// rounded down to a power of two.
const PLAIN: usize = 16;

#[derive(Debug)]
pub(crate) struct Allocator;

/// Calls of [`tend`] from one in which pages are returned to the next.
const GIVE_BACK: u32 = 4;

/// Looks after the memory of the Rust side. Called twice a second, by one thread that serves nobody.
pub(crate) fn tend() {
    static TURN: AtomicU32 = AtomicU32::new(0);
    if TURN
        .fetch_add(1, Ordering::Relaxed)
        .is_multiple_of(GIVE_BACK)
    {
        give_back();
    }
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    crate::huge_pages::follow();
}

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Returns pages that have been free for a second to the system. mimalloc itself looks for them only when it frees a
/// page, so a process that has just become idle would keep them.
fn give_back() {
    // SAFETY: looks over the heap of the calling thread and the pages that no thread has; any thread may call it.
    unsafe { mi_collect(false) }
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
