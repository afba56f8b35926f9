//! The program's allocator: the system's, with the bytes in use and the most that ever were. The library reads no global, so that the count
//! is handed to it as the clock is. The only `unsafe` code: a global allocator cannot be written without it. Counting costs two additions that
//! nobody waits for; memory that comes zeroed from the system stays so, untouched, and blocks grow in place where the system lets them.
//! Large blocks are asked for in huge pages: the system maps them anew each time, and a page of 4 KiB takes longer to get than to fill.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nhgd::experiment::kept::MemoryMeter;

/// Blocks of so many bytes the system's allocator never keeps to use again.
#[cfg(target_os = "linux")]
const LARGE: usize = 32 << 20;
/// Bytes of a huge page.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// The system's allocator, counted.
pub struct Counted {
    in_use: AtomicUsize,
    peak: AtomicUsize,
}

impl Counted {
    pub const fn new() -> Self {
        Self { in_use: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    fn taken(&self, size: usize) {
        let now = self.in_use.fetch_add(size, Relaxed) + size;
        // As a rule it is no new peak, and reading one is free.
        if now > self.peak.load(Relaxed) {
            self.peak.fetch_max(now, Relaxed);
        }
    }

    fn given_back(&self, size: usize) {
        self.in_use.fetch_sub(size, Relaxed);
    }
}

/// Advises the system to back the whole huge pages within a block by such; it may have none, which changes nothing.
#[cfg(target_os = "linux")]
fn advise(block: *mut u8, size: usize) {
    let before = block.align_offset(HUGE_PAGE);
    if let Some(rest) = size.checked_sub(before)
        && size >= LARGE
    {
        // The advice is about memory that is the caller's, and does not change what it holds.
        unsafe { libc::madvise(block.add(before).cast(), rest / HUGE_PAGE * HUGE_PAGE, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_block: *mut u8, _size: usize) {}

// Every call is handed on to the system as it came, and counted where it succeeded.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            self.taken(layout.size());
            advise(block, layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            self.taken(layout.size());
            advise(block, layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) };
        self.given_back(layout.size());
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let moved = unsafe { System.realloc(block, layout, size) };
        if !moved.is_null() {
            self.taken(size);
            self.given_back(layout.size());
            advise(moved, size);
        }
        moved
    }
}

impl MemoryMeter for Counted {
    fn in_use(&self) -> u64 {
        self.in_use.load(Relaxed) as u64
    }

    fn peak(&self) -> u64 {
        self.peak.load(Relaxed) as u64
    }

    fn forget_peak(&self) {
        self.peak.store(self.in_use.load(Relaxed), Relaxed);
    }
}
