//! Since when all that was appended is here: what is asked about no earlier time needs no other database.
//!
//! It begins when the database does and moves on with each block that is deleted for age or size, or set
//! aside, and with each chunk that a merge leaves out; what was imported, or came late, never moves it back. Kept as a mark, `whole_since`: version 1
//! and the time (i64, little endian), 9 bytes. Where there is none, the directory was written before there
//! was one or [`Db::keep_whole_since`] was not called, and what blocks say they have of the log decides.

use std::sync::atomic::Ordering::Relaxed;

use stoa_model::TimestampMs;

use super::Db;
use crate::recovery::Covered;
use crate::{AppendError, Mark};

pub(super) const KEY: &[u8] = b"whole_since";
const VERSION: u8 = 1;

fn mark(since: TimestampMs) -> Mark {
    let value = [&[VERSION][..], &since.to_le_bytes()].concat();
    Mark { key: KEY.to_vec(), value }
}

pub(super) fn of_mark(value: Option<&Vec<u8>>) -> Option<TimestampMs> {
    let (version, time) = value?.split_first()?;
    (*version == VERSION).then(|| time.try_into().ok().map(TimestampMs::from_le_bytes)).flatten()
}

/// For a directory without the mark: from the end of the first span of an unbroken row of spans, up to
/// the last, of which blocks say that they have what was appended. `now_ms` when there is none.
pub(super) fn of_blocks(covered: &[Covered], block_ms: i64, now_ms: TimestampMs) -> TimestampMs {
    let mut spans: Vec<(TimestampMs, TimestampMs)> =
        covered.iter().map(|covered| (covered.start, covered.end)).collect();
    spans.sort_unstable();
    let mut since = None;
    let mut reached = TimestampMs::MIN;
    for (start, end) in spans {
        if since.is_none() || start > reached {
            // Of its first span it need not have all. What was joined is of more than one.
            since = Some(start.saturating_add(block_ms).min(end));
        }
        reached = reached.max(end);
    }
    since.unwrap_or(now_ms).min(now_ms)
}

impl Db {
    /// The time from which on everything is here that was appended, but for what was deleted by
    /// [`Self::delete_series`]. Older samples may be here too: what came late, what was imported.
    #[must_use]
    pub fn whole_since(&self) -> TimestampMs {
        self.whole_since.load(Relaxed)
    }

    /// Writes that time down, so that the next start knows it, where it is not yet: to be called once,
    /// when a database begins to take what it is to have all of. Not durable before [`Self::sync`]. After
    /// an error [`Self::maintain`] tries again.
    ///
    /// # Errors
    /// [`AppendError::DiskFull`], [`AppendError::Stopped`].
    pub fn keep_whole_since(&self) -> Result<(), AppendError> {
        let kept = self.write_whole_since();
        self.whole_since_due.store(kept.is_err(), Relaxed);
        kept
    }

    /// Once more, if it did not work: the disk may have room again.
    pub(super) fn keep_whole_since_if_due(&self) {
        if self.whole_since_due.load(Relaxed) && self.keep_whole_since().is_ok() {
            // What does not become durable now does with the next that does.
            drop(self.writer().log.sync());
        }
    }

    fn write_whole_since(&self) -> Result<(), AppendError> {
        let mark = mark(self.whole_since());
        let mut writer = self.writer();
        if self.state().head.marks.get(KEY) == Some(&mark.value) {
            return Ok(());
        }
        self.put_mark(&mut writer, mark)
    }

    /// Takes note that samples are about to go, of which the last was then; whether that is durable. A full
    /// disk keeps nobody from making room: maintenance writes it down later then.
    pub(super) fn lacks(&self, last_t: TimestampMs) -> bool {
        self.whole_since.fetch_max(last_t.saturating_add(1), Relaxed);
        self.keep_whole_since().is_ok() && self.writer().log.sync().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_the_mark_is_whole_since_an_unbroken_row_of_spans() {
        let check = |spans: &[(i64, i64)], expected: i64| {
            let covered = spans.iter().map(|(start, end)| Covered {
                start: *start,
                end: *end,
                log_before: 1,
            });
            assert_eq!(of_blocks(&covered.collect::<Vec<_>>(), 10, 1000), expected, "{spans:?}");
        };
        check(&[], 1000);
        check(&[(50, 60)], 60);
        check(&[(60, 70), (50, 60), (70, 80), (50, 60)], 60);
        check(&[(50, 90), (90, 100)], 60);
        check(&[(10, 20), (50, 60), (60, 70)], 60);
        check(&[(995, 1005)], 1000);
    }

    #[test]
    fn the_mark_is_read_as_it_was_written() {
        assert_eq!(of_mark(Some(&mark(-5).value)), Some(-5));
        assert_eq!(of_mark(Some(&vec![2; 9])), None);
        assert_eq!(of_mark(Some(&vec![1; 8])), None);
        assert_eq!(of_mark(None), None);
    }
}
