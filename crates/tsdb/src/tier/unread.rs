//! What is said of blocks that cannot be opened now: it is written beside them, and counts once they can be.

use std::io;
use std::path::{Path, PathBuf};

use stoa_model::TimestampMs;
use stoa_wal::Disk;

use super::held::{SEALED, STALE};
use super::{Gone, Tier, ceil, floor};
use crate::block::{META, Meta};

/// A block of a tier that cannot be opened now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) tier: Tier,
    pub(crate) dir: PathBuf,
}

impl Unread {
    /// The span it has, if it says.
    pub(super) fn span(&self, disk: &dyn Disk) -> Option<(TimestampMs, TimestampMs)> {
        span_of(disk, &self.dir)
    }

    /// As of a [`TierBlock`](super::TierBlock), for samples from `first` to `last`.
    pub(super) fn set_stale(
        &self,
        disk: &dyn Disk,
        (first, last): (TimestampMs, TimestampMs),
    ) -> io::Result<()> {
        let (start, end) = self.span(disk).unwrap_or(ALWAYS);
        let path = self.dir.join(STALE);
        if start >= last || end < first || disk.exists(&path)? {
            return Ok(());
        }
        disk.replace(&path, &[])
    }

    /// As of a [`TierBlock`](super::TierBlock).
    pub(super) fn seal(
        &self,
        disk: &dyn Disk,
        (start, end): (TimestampMs, TimestampMs),
    ) -> io::Result<()> {
        let (window_ms, span) = (self.tier.window_ms(), self.span(disk).unwrap_or(ALWAYS));
        let start = floor(start, window_ms).max(span.0);
        let end = ceil(end, window_ms).min(span.1);
        if start >= end {
            return Ok(());
        }
        let path = self.dir.join(SEALED);
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        let sequence = Meta::sequence_of_name(&name);
        let said = if disk.exists(&path)? {
            match disk.read(&path) {
                Ok(bytes) if bytes.is_empty() => return Ok(()),
                Ok(bytes) => sequence.and_then(|sequence| Gone::read(&bytes, sequence).ok()),
                Err(_unread) => None,
            }
        } else {
            Some(Gone::default())
        };
        match (said, sequence) {
            (Some(gone), _) if gone.has(start, end) => Ok(()),
            (Some(mut gone), Some(sequence)) => {
                gone.add(start, end);
                gone.bound();
                gone.keep(disk, &path, sequence).map(drop)
            }
            // What it says already nobody knows now: it is said of all of its span.
            _ => disk.replace(&path, &[]),
        }
    }
}

/// All time.
pub(crate) const ALWAYS: (TimestampMs, TimestampMs) = (TimestampMs::MIN, TimestampMs::MAX);

/// The time that a block that does not open has something of, `start < t ≤ end`, if it says.
pub(crate) fn span_of(disk: &dyn Disk, dir: &Path) -> Option<(TimestampMs, TimestampMs)> {
    let meta = Meta::decode(&disk.read(&dir.join(META)).ok()?).ok()?;
    Some(match meta.tier {
        None => (meta.first_t.saturating_sub(1), meta.last_t),
        Some(_) => (meta.start, meta.end),
    })
}
