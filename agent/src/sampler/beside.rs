//! Sources that are read beside the ticks, each on a thread of its own.
//!
//! A thread lives for one reading. There is one at most for each source, because a source that is out
//! is not asked again before it has come back.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{Done, Job, ask, instant};

/// Enough for a parser of a document; pages untouched cost nothing.
const STACK_BYTES: usize = 1 << 20;

/// Where sources that are out come back to.
#[derive(Debug)]
pub(super) struct Beside {
    /// Has room for every source.
    back: SyncSender<(usize, Done)>,
    came: Receiver<(usize, Done)>,
}

impl Beside {
    /// Room for so many sources.
    pub(super) fn new(sources: usize) -> Self {
        let (back, came) = sync_channel(sources.max(1));
        Self { back, came }
    }

    /// Begins a reading; hands the job back when the host has no thread to give.
    pub(super) fn begin(&self, key: usize, name: &'static str, job: Job) -> Result<(), Job> {
        let back = self.back.clone();
        // Taken by the thread, or back when there is none.
        let place = Arc::new(Mutex::new(Some(job)));
        let taken = Arc::clone(&place);
        let thread = std::thread::Builder::new().name(format!("stoa-{name}"));
        let begun = thread.stack_size(STACK_BYTES).spawn(move || {
            let job = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(job) = job {
                // A sampler that has ended takes nothing back.
                let _ended = back.send((key, ask(job)));
            }
        });
        let job = || place.lock().unwrap_or_else(PoisonError::into_inner).take();
        match begun {
            Ok(_) => Ok(()),
            Err(_) => job().map_or(Ok(()), Err),
        }
    }

    /// Those that have come back.
    pub(super) fn done(&self) -> Vec<(usize, Done)> {
        self.came.try_iter().collect()
    }

    /// The next that comes back by `until`.
    pub(super) fn wait(&self, until: Instant) -> Option<(usize, Done)> {
        self.came.recv_timeout(until.saturating_duration_since(instant())).ok()
    }
}
