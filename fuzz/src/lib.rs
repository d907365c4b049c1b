//! What targets share: how much memory it takes to read.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// What may be allocated whatever there is to read: room that sources keep, tables made once.
const BYTES: usize = 32 << 20;
/// And for each byte that is read.
const BYTES_PER_BYTE: usize = 1024;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Counts what is allocated; to be the program's `#[global_allocator]`.
pub struct Counting;

impl Counting {
    fn took(bytes: usize) {
        MOST.fetch_max(NOW.fetch_add(bytes, Relaxed) + bytes, Relaxed);
    }
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::took(layout.size());
        // SAFETY: as asked.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::took(layout.size());
        // SAFETY: as asked.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as asked.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        Self::took(bytes);
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as asked.
        unsafe { System.realloc(place, layout, bytes) }
    }
}

/// Runs `read`, which is given so many bytes, within the bounds of memory.
///
/// # Panics
/// When more was allocated at a time.
pub fn bounded<T>(bytes: usize, read: impl FnOnce() -> T) -> T {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let read = read();
    let took = MOST.load(Relaxed).saturating_sub(before);
    assert!(took <= BYTES + BYTES_PER_BYTE * bytes, "{took} bytes of memory for {bytes}");
    read
}
