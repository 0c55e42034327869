//! Huge pages, made behind the workers.
//!
//! They make hits in a large cache cheaper. But a kernel that makes one at the first byte that is written to it clears
//! 2 MiB then, while the worker that wrote the byte serves nobody; and one that puts small pages together in the
//! background fills in those between that have been given back. So the allocator gets ranges of addresses in which the
//! kernel does neither, and the thread for work outside requests has small pages put together where nearly all of a
//! huge one is in use (docs/decisions/0059).

#![allow(unsafe_code)] // The C library's and the allocator's interfaces are unsafe, and so is a step at loading.

use std::{
    ffi::{c_int, c_long, c_void},
    fs::File,
    io::Read,
    ptr::{null_mut, without_provenance_mut},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Bytes of a huge page, and of a small one.
const HUGE: usize = 2 << 20;
const SMALL: usize = 4 << 10;
/// Of the 512 small pages of a huge one, as many are in use at least: it takes 1/16 more memory at most.
const MOST_OF_THEM: usize = 480;
/// A call's time, 1/250 of that between two, and at most a page more: one takes half a millisecond or so, in which the
/// kernel does nothing else on that processor.
const PATIENCE: Duration = Duration::from_millis(2);
/// Time on processors between two calls, in the units of `clock`, millionths of a second (POSIX). With less there is
/// nothing to gain.
const LITTLE: i64 = 50_000;
/// Bytes of the first range, as large as the allocator's own. Each later one is twice as large, to a bound.
const FIRST: usize = 1 << 30;
const LARGEST: usize = 16 << 30;

// linux/mman.h
const MADV_HUGEPAGE: c_int = 14;
const MADV_NOHUGEPAGE: c_int = 15;
const MADV_COLLAPSE: c_int = 25;

unsafe extern "C" {
    fn madvise(start: *mut c_void, length: usize, advice: c_int) -> c_int;
    fn mincore(start: *mut c_void, length: usize, present: *mut u8) -> c_int;
    fn clock() -> c_long;
    fn mi_reserve_os_memory_ex(
        size: usize,
        commit: bool,
        allow_large: bool,
        exclusive: bool,
        arena: *mut *mut c_void,
    ) -> c_int;
    fn mi_arena_area(arena: *mut c_void, size: *mut usize) -> *mut c_void;
}

static RANGES: Mutex<Ranges> = Mutex::new(Ranges {
    known: Vec::new(),
    first: None,
    place: (0, 0),
    spent: 0,
});

struct Ranges {
    known: Vec<Range>,
    /// Reserved before anything could be allocated.
    first: Option<(usize, usize)>,
    /// The range that is looked over, and the huge page of it that comes next.
    place: (usize, usize),
    /// Time on processors at the last call.
    spent: i64,
}

struct Range {
    start: usize,
    /// A huge page: has it been made?
    pages: Vec<bool>,
}

/// Reserves the first range before the allocator's first block, as it takes blocks from its oldest range first.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOADING: extern "C" fn() = {
    extern "C" fn reserve_first() {
        RANGES.lock().first = reserve(FIRST);
    }
    reserve_first
};

/// Address and bytes of a range for the allocator. `None` if the system reckons reserved addresses as memory
/// (`vm.overcommit_memory=2`), or refuses them: the allocator takes smaller ranges by itself then.
fn reserve(bytes: usize) -> Option<(usize, usize)> {
    let mut strict = [0];
    let mode =
        File::open("/proc/sys/vm/overcommit_memory").and_then(|mut file| file.read(&mut strict));
    if mode.is_err() || strict == *b"2" {
        return None;
    }
    let (mut arena, mut size) = (null_mut(), 0);
    // SAFETY: plain numbers, and places for an identity and a length; any thread may call it, before any block too.
    let start = unsafe {
        if mi_reserve_os_memory_ex(bytes, true, false, false, &raw mut arena) != 0 {
            return None;
        }
        mi_arena_area(arena, &raw mut size)
    };
    advise(start as usize, size, MADV_NOHUGEPAGE).then_some((start as usize, size))
}

/// `false` if the kernel refuses.
fn advise(start: usize, bytes: usize, advice: c_int) -> bool {
    // SAFETY: none of the three pieces of advice changes a byte, wherever it is given.
    unsafe { madvise(without_provenance_mut(start), bytes, advice) == 0 }
}

/// Called twice a second: huge pages for memory that has come into use, if the process has had work.
pub(crate) fn follow() {
    let mut ranges = RANGES.lock();
    if let Some((start, bytes)) = ranges.first.take() {
        ranges.add(start, bytes);
    }
    ranges.keep_ahead();
    // SAFETY: `clock` takes nothing, and is safe on any thread.
    let spent = unsafe { clock() };
    let idle = spent - std::mem::replace(&mut ranges.spent, spent) < LITTLE;
    if !idle {
        ranges.look_over();
    }
}

impl Ranges {
    fn add(&mut self, start: usize, bytes: usize) {
        let whole = start.next_multiple_of(HUGE);
        let count = (start + bytes).saturating_sub(whole) / HUGE;
        self.known.push(Range {
            start: whole,
            pages: vec![false; count],
        });
    }

    /// Goes on where the last call ended, for as long as its time lasts, once around at most.
    fn look_over(&mut self) {
        let since = Instant::now();
        let most: usize = self.known.iter().map(|range| range.pages.len()).sum();
        for _ in 0..most {
            if since.elapsed() >= PATIENCE {
                break;
            }
            let (at, page) = self.place;
            let Some(range) = self.known.get_mut(at) else {
                self.place = (0, 0);
                continue;
            };
            let Some(made) = range.pages.get_mut(page) else {
                self.place = (at + 1, 0);
                continue;
            };
            self.place.1 += 1;
            let start = range.start + page * HUGE;
            if present(start) < MOST_OF_THEM {
                *made = false;
            } else if !*made {
                *made = true;
                // The pieces of advice around it are of no account to pages that are there.
                advise(start, HUGE, MADV_HUGEPAGE);
                advise(start, HUGE, MADV_COLLAPSE);
                advise(start, HUGE, MADV_NOHUGEPAGE);
            }
        }
    }

    /// Reserves a further range where the allocator has come to the second half of the last one. It takes addresses in
    /// their order as a rule, so a few places of that half are enough to see.
    fn keep_ahead(&mut self) {
        let Some(last) = self.known.last() else {
            return;
        };
        let (start, pages) = (last.start, last.pages.len());
        let eighth = pages / 8;
        if (4..8).any(|at| present(start + at * eighth * HUGE) > 0) {
            let bytes = (pages * HUGE).saturating_mul(2).min(LARGEST);
            if let Some((start, bytes)) = reserve(bytes) {
                self.add(start, bytes);
            }
        }
    }
}

/// Small pages of a huge one's place that are in memory.
fn present(start: usize) -> usize {
    let mut pages = [0_u8; HUGE / SMALL];
    // SAFETY: the kernel writes a byte for each page of 4 KiB; with larger ones it writes fewer.
    match unsafe { mincore(without_provenance_mut(start), HUGE, pages.as_mut_ptr()) } {
        0 => pages.iter().filter(|page| **page & 1 == 1).count(),
        _ => 0,
    }
}
