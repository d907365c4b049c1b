//! Whether the past is what it was, for those who keep what they found in it.
//!
//! Who keeps an answer says up to which time it looked ([`Db::close_past`]) before it reads, and is told a
//! **revision**. As long as [`Db::revision`] is that one, reading again up to that time finds the same,
//! and meets no damage it had not met. It moves on
//!
//! - with a batch that has a sample of that time or before, however late it came, and even if it was there;
//! - with every change of the blocks, of samples or of tiers: written, merged, imported, deleted from, mended,
//!   removed for their age or size, set aside;
//! - with damage that is met, or gone.
//!
//! That it moves on says nothing of what changed: all that was kept is then to be found anew. What is after
//! the closed time changes without notice.
//!
//! An append pays for this with one look at a number, under the lock of the state that it holds anyway. What
//! is closed is forgotten when the past changes, so that a sender who delivers hours late pays once for each
//! time that somebody closed the past again.
//!
//! Why nothing is missed: who keeps an answer closes the past before it takes the state's lock for the first
//! time, and samples and blocks change with that lock held for writing alone. A change either came before
//! that, and was seen; or came after, and sees the closed time.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLockWriteGuard};

use stoa_model::TimestampMs;

use super::{Db, State};

/// A number for what is known of the past, and one for the damage met in it. It is equal to another of the
/// same database, opened once, or it is not; nothing follows from its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    changes: u64,
    damage: u64,
}

/// Up to when the past is closed, and how often it has changed.
#[derive(Debug)]
pub(super) struct Past {
    /// Changed with the lock held only.
    closed_ms: AtomicI64,
    changes: Mutex<u64>,
}

impl Default for Past {
    /// Nobody looked at anything.
    fn default() -> Self {
        Self { closed_ms: AtomicI64::new(TimestampMs::MIN), changes: Mutex::default() }
    }
}

impl Past {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> u64 {
        *self.lock()
    }

    fn close(&self, until_ms: TimestampMs) -> u64 {
        let changes = self.lock();
        self.closed_ms.fetch_max(until_ms, Relaxed);
        *changes
    }

    /// To be called with the state's lock held for writing.
    fn changed(&self) {
        let mut changes = self.lock();
        self.closed_ms.store(TimestampMs::MIN, Relaxed);
        *changes += 1;
    }

    /// The same where samples from this time on are about to be stored.
    pub(super) fn appended(&self, oldest_ms: TimestampMs) {
        if oldest_ms <= self.closed_ms.load(Relaxed) {
            self.changed();
        }
    }
}

impl Db {
    /// Closes the past: from now on [`Self::revision`] tells of changes up to that time, included. To be
    /// called before anything is read that is to be kept.
    #[must_use]
    pub fn close_past(&self, until_ms: TimestampMs) -> Revision {
        Revision { changes: self.past.close(until_ms), damage: self.notes.changes() }
    }

    /// What the past is now.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision { changes: self.past.changes(), damage: self.notes.changes() }
    }

    /// The state, of which the past is about to change.
    pub(super) fn change_state(&self) -> RwLockWriteGuard<'_, State> {
        let state = self.state_mut();
        self.past.changed();
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_changes_without_notice() {
        let past = Past::default();
        past.appended(5);
        assert_eq!(past.changes(), 0, "nobody looked");
        assert_eq!(past.close(100), 0);
        assert_eq!(past.close(50), 0);
        past.appended(101);
        assert_eq!(past.changes(), 0);
        past.appended(100);
        assert_eq!(past.changes(), 1, "the latest close counts");
        past.appended(5);
        assert_eq!(past.changes(), 1, "nobody looked since");
        assert_eq!(past.close(10), 1);
        past.appended(11);
        assert_eq!(past.changes(), 1);
        past.changed();
        assert_eq!(past.changes(), 2);
    }
}
