//! Following the log: what was appended, in order, for those who pass it on.
//!
//! A **follower** has a name and a cursor, the place in the log up to which what it read has been
//! delivered. Cursors are kept as marks (key `follower/` and the name), so they are as durable as the
//! samples themselves and there is no queue beside the log. A follower reads what is durable and
//! nothing else; after a crash it reads again from the cursor that was saved last, so what it passes
//! on arrives at least once.
//!
//! The log is kept for followers beyond what a start needs, from the last point before their cursors
//! at which all series are defined anew, within [`Options::follow_bytes_max`](crate::Options),
//! [`Options::follow_ms`](crate::Options), a quarter of the room there would be without it, and the free
//! space asked for; when the log finds no room at all, it is not kept. What is dropped beyond that is
//! counted, sample by sample, as lost to each follower that had not come past it.
//!
//! Bounds: one call reads at most the samples asked for and one batch; the labels of series that left
//! the head meanwhile are collected from the log, at most
//! [`Options::follow_departed_max`](crate::Options) of them beside those of one call.
//!
//! A mark's value, 25 bytes: version 1; segment, offset and sequence number (u64, little endian) of the
//! cursor. One of another version is read as the oldest place there is.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use stoa_model::histogram::Histogram;
use stoa_model::{Labels, TimestampMs};
use stoa_wal::{Position, Reader};

use crate::SeriesRef;
use crate::bytes::Cursor as Bytes;
use crate::bytes::Malformed;
use crate::record::{BatchRecord, HistogramsRecord, KIND_BATCH, KIND_HISTOGRAMS};

/// What the keys of cursors begin with.
pub(crate) const KEY_PREFIX: &[u8] = b"follower/";

const VERSION: u8 = 1;

/// A place in the log: everything before it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where the next record starts.
    pub position: Position,
    /// The last sequence number before it: a record that was written twice is read once.
    pub(crate) sequence: u64,
    /// Batches with samples since the follower began: whether there is something to save.
    pub(crate) batches: u64,
}

/// One reader of the log, from [`Db::follow`](crate::Db::follow).
#[derive(Debug)]
pub struct Follower {
    pub(crate) name: String,
    pub(crate) cursor: Cursor,
    pub(crate) reader: Option<Reader>,
    /// A segment whose unsynced tail is torn: nothing after that was acknowledged.
    pub(crate) torn: Option<u64>,
    /// How many calls in a row could not open the segment they had come to.
    pub(crate) unopened: u32,
    pub(crate) departed: Departed,
}

impl Follower {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Labels of series that are no longer in the head.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    pub(crate) labels: HashMap<SeriesRef, Labels>,
    /// The checkpoint after which they were collected: series leave with one.
    pub(crate) since: Option<u64>,
    /// There were more than are kept.
    pub(crate) is_cut: bool,
}

/// What was read of the log by one call.
#[derive(Debug, Default)]
pub struct Followed {
    /// The samples, by series; a series' own in the order in which they were appended. What the store
    /// left out (there already, or too old) is among them.
    pub series: Vec<FollowedSeries>,
    /// How many samples there are, native histograms among them.
    pub samples: usize,
    /// Samples whose series is no longer known to the store, and left out.
    pub orphaned: u64,
    /// Damaged places that were passed over.
    pub damaged: u64,
    /// The newest timestamp among the samples.
    pub max_t: Option<TimestampMs>,
    /// To be acknowledged once the samples are delivered.
    pub cursor: Cursor,
    /// Whether all that is durable has been read.
    pub is_all: bool,
}

/// A series of [`Followed`].
#[derive(Clone, Debug, PartialEq)]
pub struct FollowedSeries {
    /// Its labels.
    pub labels: Labels,
    /// Times in milliseconds and values.
    pub samples: Vec<(TimestampMs, f64)>,
    /// Times in milliseconds and native histograms.
    pub histograms: Vec<(TimestampMs, Arc<Histogram>)>,
}

/// Where a follower stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerFigures {
    /// Its name.
    pub name: String,
    /// Up to where what it read has been delivered.
    pub delivered: Position,
    /// Bytes of the log from there on.
    pub pending_bytes: u64,
    /// Samples dropped before it came to them, since the database was opened.
    pub samples_lost: u64,
}

/// All followers, and what of the log is kept for them.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    pub(crate) by_name: BTreeMap<String, Standing>,
    /// Segments from which on the log defines every series it names.
    defined_from: BTreeSet<u64>,
    /// Segments before which a start needs nothing, and when that was first seen.
    released: VecDeque<(u64, TimestampMs)>,
    /// Up to where that was too long ago.
    expired: u64,
}

/// One of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) acknowledged: Cursor,
    /// As the log has it.
    pub(crate) saved: Cursor,
    pub(crate) samples_lost: u64,
}

impl Followers {
    /// The followers as their marks say, in a log that begins with `first_segment`, that a start reads
    /// from `from_segment` on, and that is durable up to `durable`.
    pub(crate) fn load(
        marks: &BTreeMap<Vec<u8>, Vec<u8>>,
        first_segment: u64,
        from_segment: u64,
        durable: Position,
    ) -> Self {
        let mut followers = Self::default();
        followers.defined_from.extend([from_segment, durable.segment]);
        let from = marks.range(KEY_PREFIX.to_vec()..);
        for (key, value) in from.take_while(|(key, _)| key.starts_with(KEY_PREFIX)) {
            let name = key.get(KEY_PREFIX.len()..).unwrap_or_default();
            let cursor = decode(value).unwrap_or_default();
            // The log has been replaced by an older one: all of it is new.
            let is_beyond = durable.segment > 0 && cursor.position > durable;
            let mut cursor = if is_beyond { Cursor::default() } else { cursor };
            if cursor.position > Position::default() && cursor.position.segment < first_segment {
                // What was between went for want of room, and was counted.
                cursor.position = Position { segment: first_segment, offset: 0 };
            }
            let standing = Standing { acknowledged: cursor, saved: cursor, samples_lost: 0 };
            followers.by_name.insert(String::from_utf8_lossy(name).into_owned(), standing);
        }
        followers
    }

    /// Takes note that the log defines every series it names from a segment on.
    pub(crate) fn defined_from(&mut self, segment: u64) {
        self.defined_from.insert(segment);
    }

    /// The first segment that followers need, now or after a crash.
    pub(crate) fn needed(&self) -> Option<u64> {
        let cursors = self.by_name.values().map(|standing| standing.saved.position.segment);
        let oldest = cursors.min()?;
        Some(self.defined_from.range(..=oldest).next_back().copied().unwrap_or(0))
    }

    /// Forgets what was said of segments that are gone.
    pub(crate) fn removed_before(&mut self, segment: u64) {
        self.defined_from = self.defined_from.split_off(&segment);
    }

    /// The segment before which the log has been kept for as long as it may be, when a start needs
    /// nothing before `checkpoint`.
    pub(crate) fn expired(&mut self, checkpoint: u64, now_ms: TimestampMs, kept_ms: i64) -> u64 {
        if self.released.back().is_none_or(|(segment, _)| *segment < checkpoint) {
            self.released.push_back((checkpoint, now_ms));
        }
        while let Some((segment, since)) = self.released.front().copied() {
            if now_ms.saturating_sub(since) < kept_ms {
                break;
            }
            self.expired = segment;
            if self.released.len() == 1 {
                break;
            }
            self.released.pop_front();
        }
        self.expired
    }
}

pub(crate) fn encode(cursor: Cursor) -> Vec<u8> {
    let mut value = vec![VERSION];
    for number in [cursor.position.segment, cursor.position.offset, cursor.sequence] {
        value.extend_from_slice(&number.to_le_bytes());
    }
    value
}

fn decode(value: &[u8]) -> Option<Cursor> {
    let mut bytes = Bytes::new(value);
    if bytes.u8().ok()? != VERSION {
        return None;
    }
    let mut number = || bytes.u64().ok();
    let position = Position { segment: number()?, offset: number()? };
    Some(Cursor { position, sequence: number()?, batches: 0 })
}

/// The batch of a record of the log with its histograms, if it is one that was not read before; raises
/// `sequence`.
pub(crate) fn batch_of(
    kind: u8,
    payload: &[u8],
    sequence: &mut u64,
) -> Result<Option<HistogramsRecord>, Malformed> {
    let mut bytes = Bytes::new(payload);
    let number = bytes.varint()?;
    if number <= *sequence {
        return Ok(None);
    }
    *sequence = number;
    match kind {
        KIND_BATCH => {
            let batch = BatchRecord::get(&mut bytes)?;
            Ok(Some(HistogramsRecord { batch, histograms: Vec::new() }))
        }
        KIND_HISTOGRAMS => HistogramsRecord::get(&mut bytes).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64) -> Cursor {
        Cursor { position: Position { segment, offset: 77 }, sequence: 9, batches: 0 }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        assert_eq!(decode(&encode(at(5))), Some(at(5)));
        assert_eq!(encode(at(5)).len(), 25);
        assert_eq!(decode(&[2; 25]), None);
        assert_eq!(decode(&encode(at(5))[..24]), None);
    }

    #[test]
    fn the_log_is_kept_from_where_the_series_before_the_slowest_are_defined() {
        let mark = |name: &str, cursor| (format!("follower/{name}").into_bytes(), encode(cursor));
        let marks = BTreeMap::from([
            mark("a", at(7)),
            mark("b", at(5)),
            mark("beyond", at(99)),
            mark("gone", at(1)),
            (b"other".to_vec(), vec![]),
        ]);
        let mut followers = Followers::load(&marks, 3, 4, Position { segment: 9, offset: 32 });
        assert_eq!(followers.by_name["gone"].saved.position, Position { segment: 3, offset: 0 });
        followers.by_name.remove("gone");
        assert_eq!(followers.by_name["beyond"].acknowledged, Cursor::default());
        assert_eq!(followers.needed(), Some(0));
        followers.by_name.remove("beyond");
        followers.defined_from(10);
        assert_eq!(followers.needed(), Some(4));
        followers.removed_before(6);
        followers.by_name.remove("b");
        assert_eq!(followers.needed(), Some(0), "what is before is not known to be enough");
        followers.by_name.remove("a");
        assert_eq!(followers.needed(), None);
    }

    #[test]
    fn segments_expire_a_while_after_a_start_no_longer_needs_them() {
        let mut followers = Followers::default();
        assert_eq!(followers.expired(3, 1000, 100), 0);
        assert_eq!(followers.expired(5, 1050, 100), 0);
        assert_eq!(followers.expired(5, 1100, 100), 3);
        assert_eq!(followers.expired(5, 1140, 100), 3);
        assert_eq!(followers.expired(5, 1150, 100), 5);
        assert_eq!(followers.expired(5, 9000, 100), 5);
    }
}
