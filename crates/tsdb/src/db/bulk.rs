//! History, written to blocks directly.

use std::io;
use std::sync::Arc;

use stoa_model::TimestampMs;

use super::{Db, blocks_dir};
use crate::block::{LEVEL_HEAD, Plan};
use crate::bulk::{Bulk, BulkWritten, Room};
use crate::checkpoint::{GroupSnapshot, MemberSnapshot};
use crate::{DbError, Options};

/// Of how many ordinary spans a block of history is: a day where those are two hours. A year then is
/// 365 blocks and not four thousand.
const BLOCK_SPANS: i64 = 12;

/// What a block has without any series, a plenty.
const BLOCK_INDEX_BYTES: u64 = 4096;

/// What a label of a series takes in a block beside its text, at most about that.
const LABEL_INDEX_BYTES: usize = 32;

/// Samples later than this after `now` are refused: a clock ahead by more is a mistake.
const AHEAD_MS: i64 = 300_000;

impl Db {
    /// A place for samples of any age, which become visible together with [`Self::write_bulk`].
    /// Samples that retention would delete at once are refused, and those from the future. It writes
    /// nothing that would leave fewer than `free_bytes_min` bytes free on the disk.
    #[must_use]
    pub fn bulk(&self, now_ms: TimestampMs, free_bytes_min: u64) -> Bulk {
        let Options { retention_ms, series_max, .. } = self.options;
        let keep = (now_ms.saturating_sub(retention_ms), now_ms.saturating_add(AHEAD_MS));
        let span_ms = self.options.block_ms().saturating_mul(BLOCK_SPANS);
        let room = Room::new(Arc::clone(&self.disk), &self.dir, free_bytes_min);
        Bulk::new(room, span_ms, keep, series_max)
    }

    /// Writes the blocks of a bulk, durable when this returns. Appends and queries go on meanwhile;
    /// maintenance waits for one block at most. `progress` is told how many of all blocks are done.
    ///
    /// Where a block that is there has the same instant of a series, that one stays.
    ///
    /// # Errors
    /// [`DbError::Block`] and [`DbError::NoRoom`]. Blocks written before it stay, each whole; to
    /// import the same again is harmless.
    pub fn write_bulk(
        &self,
        mut bulk: Bulk,
        now_ms: TimestampMs,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<BulkWritten, DbError> {
        let (spans, room) = (bulk.spans(), bulk.room());
        let mut written = BulkWritten { counts: bulk.counts(), ..BulkWritten::default() };
        for (done, (start, end)) in spans.iter().copied().enumerate() {
            progress(done, spans.len());
            let wrote = bulk.take_span(start, |group, bytes| -> Result<(), BulkFailure> {
                room.check(bytes.saturating_add(index_bytes(&group))).map_err(DbError::NoRoom)?;
                let mut upkeep = self.upkeep();
                self.settle(&mut upkeep)?;
                let sequence = self.next_sequence();
                let plan = Plan {
                    now_ms,
                    level: LEVEL_HEAD,
                    sequence,
                    rank: sequence,
                    start,
                    end,
                    // It holds nothing the log has.
                    covered: Vec::new(),
                    parents: Vec::new(),
                };
                let block = self.add_block(&plan, &group, &mut upkeep)?;
                if let Some(block) = block {
                    written.blocks += 1;
                    written.written += block.meta.samples;
                    written.block_bytes += block.bytes();
                }
                Ok(())
            });
            wrote.map_err(|failure| match failure {
                BulkFailure::Db(error) => error,
                BulkFailure::Io(source) => DbError::Block { path: blocks_dir(&self.dir), source },
            })?;
        }
        written.duplicate = written.counts.taken.saturating_sub(written.written);
        progress(spans.len(), spans.len());
        Ok(written)
    }
}

/// About what a block takes beside its chunks: labels, postings, what every block has.
fn index_bytes(group: &GroupSnapshot) -> u64 {
    let series = |member: &MemberSnapshot| {
        (member.labels.text_bytes() + member.labels.len() * LABEL_INDEX_BYTES) as u64
    };
    group.members.iter().map(series).sum::<u64>().saturating_add(BLOCK_INDEX_BYTES)
}

/// Why a span was not written.
enum BulkFailure {
    Db(DbError),
    Io(io::Error),
}

impl From<DbError> for BulkFailure {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl From<io::Error> for BulkFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
