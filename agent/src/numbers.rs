//! Numbers for series: each given once in a process, shared by all that make ticks.

use std::sync::atomic::{AtomicU32, Ordering};

/// Gives numbers, from 0.
#[derive(Debug, Default)]
pub struct Numbers(AtomicU32);

impl Numbers {
    /// The next; `None` once all have been given.
    pub fn next(&self) -> Option<u32> {
        let next = |n: u32| n.checked_add(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }
}
