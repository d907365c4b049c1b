//! What was deleted of a block, until the block is written anew without it.
//!
//! Two files of equal bytes, each replaced whole by each deletion, the second one first; a block
//! without them has lost nothing. What counts is what either of them says: a file that is damaged or
//! gone brings nothing back while the other is whole, and where both are damaged each record that is
//! whole in one of them counts still. What is deleted only ever grows, so an older file hides nothing
//! that it should not. `docs/formats/tombstones.md` has every byte.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use stoa_model::TimestampMs;
use stoa_wal::Disk;

use super::reader::BlockError;
use super::{bound_crc, unread};
use crate::bytes::{Cursor, Malformed};

/// The file names within a block's directory, in the order in which they are read.
pub(crate) const TOMBSTONES: [&str; 2] = ["tombstones", "tombstones-2"];

const MAGIC: [u8; 8] = *b"STOATMB\0";
const VERSION: u16 = 2;
/// Version 1 is one file with one checksum.
const VERSION_1: u16 = 1;
const CRC_BYTES: usize = 4;
/// Magic, version, six bytes of nothing, generation, count, checksum.
const HEADER_BYTES: usize = 36;
/// Series, first, last, checksum.
const RECORD_BYTES: usize = 24;

/// A stretch of time, both ends included.
pub(crate) type Stretch = (TimestampMs, TimestampMs);

/// The deleted stretches of a block's series, by the series' number in its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tombstones {
    /// In order, apart from each other, at least one per series.
    series: BTreeMap<u32, Vec<Stretch>>,
}

/// How well the files of tombstones were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// As they were written, or there are none.
    #[default]
    Whole,
    /// One is damaged or missing, the other says all: to be written anew.
    Mendable,
    /// Something that was deleted may be seen again.
    Lossy,
}

/// What both files come to.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) tombstones: Tombstones,
    /// Counts the deletions that were written.
    pub(crate) generation: u64,
    pub(crate) state: State,
}

/// One file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Copy {
    tombstones: Tombstones,
    /// 0 in version 1.
    generation: u64,
    is_whole: bool,
}

impl Kept {
    /// Reads both files of a block.
    ///
    /// # Errors
    /// [`BlockError::Io`] when a file that is there cannot be read and the other does not say all:
    /// what was deleted must not be seen because of that.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path, sequence: u64) -> Result<Self, BlockError> {
        let read = |name: &str| -> Result<Option<Copy>, BlockError> {
            let path = dir.join(name);
            if !disk.exists(&path)? {
                return Ok(None);
            }
            match disk.read(&path).map_err(unread) {
                Ok(bytes) => Ok(Some(Copy::decode(&bytes, sequence))),
                // It is there, and is no file.
                Err(BlockError::Malformed(_)) => Ok(Some(Copy::default())),
                Err(error @ BlockError::Io(_)) => Err(error),
            }
        };
        let [first, second] = TOMBSTONES.map(read);
        let (first, second) = match (first, second) {
            (Ok(first), Ok(second)) => (first, second),
            // The second one is written first: whole, it says at least what the first one does.
            (Err(_), Ok(Some(second))) if second.is_whole => (Some(Copy::default()), Some(second)),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        Ok(Self::of(first, second))
    }

    fn of(first: Option<Copy>, second: Option<Copy>) -> Self {
        let whole = |copy: &Option<Copy>| {
            copy.as_ref().filter(|copy| copy.is_whole).map(|copy| copy.generation)
        };
        let state = match (whole(&first), whole(&second)) {
            _ if first.is_none() && second.is_none() => State::Whole,
            // Of a version that had no second one.
            (Some(0), None) if second.is_none() => State::Whole,
            // A crash came between the two.
            (Some(a), Some(b)) if a == b || a.checked_add(1) == Some(b) => State::Whole,
            (None, Some(1)) if first.is_none() => State::Whole,
            (None, None) => State::Lossy,
            _ => State::Mendable,
        };
        let mut kept = Self { state, ..Self::default() };
        for copy in [first, second].into_iter().flatten() {
            kept.generation = kept.generation.max(copy.generation);
            for (series, stretches) in copy.tombstones.series {
                for (first, last) in stretches {
                    kept.tombstones.add(series, first, last);
                }
            }
        }
        kept
    }
}

impl Copy {
    fn decode(bytes: &[u8], sequence: u64) -> Self {
        if let Ok(tombstones) = Tombstones::decode_1(bytes, sequence) {
            return Self { tombstones, generation: 0, is_whole: true };
        }
        let header = Self::header(bytes, sequence).ok();
        let mut copy =
            Self { generation: header.map_or(0, |(generation, _)| generation), ..Self::default() };
        let mut count = 0;
        let mut at = HEADER_BYTES as u64;
        let records = bytes.get(HEADER_BYTES..).unwrap_or_default().chunks(RECORD_BYTES);
        copy.is_whole = header.is_some();
        for record in records {
            match read_record(record, sequence, at) {
                Ok((series, (first, last))) => {
                    copy.tombstones.add(series, first, last);
                    count += 1;
                }
                Err(_damaged) => copy.is_whole = false,
            }
            at += record.len() as u64;
        }
        copy.is_whole &= header.is_some_and(|(_, expected)| expected == count);
        copy
    }

    fn header(bytes: &[u8], sequence: u64) -> Result<(u64, u64), Malformed> {
        let mut cursor = Cursor::new(bytes);
        let body = cursor.take(HEADER_BYTES - CRC_BYTES)?;
        if cursor.u32()? != bound_crc(sequence, 0, body) {
            return Err(Malformed("tombstones fail their checksum"));
        }
        let mut cursor = Cursor::new(body);
        if cursor.take(8)? != MAGIC || cursor.take(2)? != VERSION.to_le_bytes() {
            return Err(Malformed("tombstones of another version"));
        }
        let _reserved = cursor.take(6)?;
        Ok((cursor.u64()?, cursor.u64()?))
    }
}

fn read_record(bytes: &[u8], sequence: u64, at: u64) -> Result<(u32, Stretch), Malformed> {
    let mut cursor = Cursor::new(bytes);
    let body = cursor.take(RECORD_BYTES - CRC_BYTES)?;
    if cursor.u32()? != bound_crc(sequence, at, body) {
        return Err(Malformed("a tombstone fails its checksum"));
    }
    let mut cursor = Cursor::new(body);
    Ok((cursor.u32()?, (cursor.i64()?, cursor.i64()?)))
}

impl Tombstones {
    /// Marks a stretch of a series; says whether any of it was not marked before.
    pub(crate) fn add(&mut self, series: u32, first: TimestampMs, last: TimestampMs) -> bool {
        if first > last {
            return false;
        }
        let stretches = self.series.entry(series).or_default();
        if stretches.iter().any(|(a, b)| *a <= first && last <= *b) {
            return false;
        }
        let touches = |stretch: &Stretch| {
            stretch.0 <= last.saturating_add(1) && first <= stretch.1.saturating_add(1)
        };
        let (first, last) = stretches
            .iter()
            .filter(|stretch| touches(stretch))
            .fold((first, last), |(first, last), (a, b)| (first.min(*a), last.max(*b)));
        stretches.retain(|stretch| !touches(stretch));
        let at = stretches.partition_point(|(a, _)| *a < first);
        stretches.insert(at, (first, last));
        true
    }

    /// The deleted stretches of a series, in order.
    pub(crate) fn of(&self, series: u32) -> &[Stretch] {
        self.series.get(&series).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Stretches of all series.
    pub(crate) fn count(&self) -> u64 {
        self.series.values().map(|stretches| stretches.len() as u64).sum()
    }

    /// Writes both files of a block, durable when this returns. After an error a part of what is new
    /// may be deleted.
    pub(crate) fn write(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        sequence: u64,
        generation: u64,
    ) -> io::Result<()> {
        let bytes = self.encode(sequence, generation);
        TOMBSTONES.iter().rev().try_for_each(|name| disk.replace(&dir.join(name), &bytes))
    }

    fn encode(&self, sequence: u64, generation: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&generation.to_le_bytes());
        out.extend_from_slice(&self.count().to_le_bytes());
        let crc = bound_crc(sequence, 0, &out);
        out.extend_from_slice(&crc.to_le_bytes());
        for (series, stretches) in &self.series {
            for (first, last) in stretches {
                let at = out.len();
                out.extend_from_slice(&series.to_le_bytes());
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.to_le_bytes());
                let crc = bound_crc(sequence, at as u64, out.get(at..).unwrap_or_default());
                out.extend_from_slice(&crc.to_le_bytes());
            }
        }
        out
    }

    fn decode_1(bytes: &[u8], sequence: u64) -> Result<Self, Malformed> {
        let body = bytes.len().checked_sub(CRC_BYTES).and_then(|at| bytes.split_at_checked(at));
        let (body, crc) = body.ok_or(Malformed("tombstones end early"))?;
        let mut cursor = Cursor::new(body);
        if cursor.take(8)? != MAGIC {
            return Err(Malformed("no tombstones"));
        }
        if Cursor::new(crc).u32()? != bound_crc(sequence, 0, body) {
            return Err(Malformed("tombstones fail their checksum"));
        }
        if cursor.take(2)? != VERSION_1.to_le_bytes() {
            return Err(Malformed("tombstones of another version"));
        }
        let mut tombstones = Self::default();
        let mut next = 0u64;
        for _ in 0..cursor.count(4)? {
            let series = cursor.varint()?.checked_add(next).and_then(|n| u32::try_from(n).ok());
            let series = series.ok_or(Malformed("tombstone of no series"))?;
            next = u64::from(series) + 1;
            for _ in 0..cursor.count(2)? {
                let first = cursor.zigzag()?;
                tombstones.add(series, first, first.wrapping_add(cursor.varint()?.cast_signed()));
            }
        }
        cursor.end()?;
        Ok(tombstones)
    }
}

/// Whether an instant lies in one of the stretches.
pub(crate) fn hides(stretches: &[Stretch], t: TimestampMs) -> bool {
    let at = stretches.partition_point(|(_, last)| *last < t);
    stretches.get(at).is_some_and(|(first, _)| *first <= t)
}

/// Whether all of a stretch lies in one of the others.
pub(crate) fn hides_all(stretches: &[Stretch], first: TimestampMs, last: TimestampMs) -> bool {
    stretches.iter().any(|(a, b)| *a <= first && last <= *b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};

    use super::{Copy, HEADER_BYTES, Kept, RECORD_BYTES, State, Tombstones, hides};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_was_marked_is_hidden_and_comes_back(
            marks in proptest::collection::vec((0u32..3, 0i64..60, 0i64..9), 0..20),
        ) {
            let mut tombstones = Tombstones::default();
            for (series, first, len) in &marks {
                tombstones.add(*series, *first, first + len);
            }
            for series in 0..3 {
                let stretches = tombstones.of(series);
                assert!(stretches.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
                for t in -1..70 {
                    let marked = marks.iter().any(|(s, a, len)| *s == series && *a <= t && t <= a + len);
                    assert_eq!(hides(stretches, t), marked, "{series} at {t}");
                }
            }
            let bytes = tombstones.encode(7, 3);
            let whole = Copy { tombstones, generation: 3, is_whole: true };
            assert_eq!(Copy::decode(&bytes, 7), whole);
            assert!(!Copy::decode(&bytes[1..], 7).is_whole);
            let other = Copy::decode(&bytes, 8);
            assert!(!other.is_whole && other.tombstones.is_empty());
        }
    }

    #[test]
    fn the_whole_of_time_can_be_marked() {
        let mut tombstones = Tombstones::default();
        assert!(tombstones.add(0, 5, 6) && tombstones.add(0, i64::MIN, i64::MAX));
        assert!(!tombstones.add(0, 1, 1) && !tombstones.add(0, 2, 1));
        assert_eq!(tombstones.of(0), [(i64::MIN, i64::MAX)]);
        assert_eq!(Copy::decode(&tombstones.encode(1, 1), 1).tombstones, tombstones);
    }

    /// What two copies come to, each given as its generation and whether a bit of it is damaged.
    #[track_caller]
    fn check(copies: [Option<(u64, bool)>; 2], state: State, hidden: usize) {
        let [first, second] = copies.map(|copy| {
            let (generation, is_damaged) = copy?;
            let mut tombstones = Tombstones::default();
            (0..generation).for_each(|n| {
                tombstones.add(u32::try_from(n).unwrap(), 10, 20);
            });
            let mut bytes = tombstones.encode(7, generation);
            // The first record.
            bytes[HEADER_BYTES + 5] ^= u8::from(is_damaged);
            assert_eq!(bytes.len(), HEADER_BYTES + RECORD_BYTES * tombstones.series.len());
            Some(Copy::decode(&bytes, 7))
        });
        let kept = Kept::of(first, second);
        assert_eq!((kept.state, kept.tombstones.series.len()), (state, hidden), "{copies:?}");
    }

    #[test]
    fn what_either_copy_says_is_hidden() {
        let (whole, damaged) = (|n| Some((n, false)), |n| Some((n, true)));
        check([None, None], State::Whole, 0);
        check([whole(2), whole(2)], State::Whole, 2);
        // A crash between the two.
        check([whole(2), whole(3)], State::Whole, 3);
        check([None, whole(1)], State::Whole, 1);
        // One is damaged, gone, or of another day.
        check([damaged(2), whole(2)], State::Mendable, 2);
        check([whole(2), damaged(2)], State::Mendable, 2);
        check([whole(2), None], State::Mendable, 2);
        check([None, whole(2)], State::Mendable, 2);
        check([whole(3), whole(2)], State::Mendable, 3);
        check([whole(1), whole(3)], State::Mendable, 3);
        // Both: a record costs itself.
        check([damaged(3), damaged(3)], State::Lossy, 2);
        check([None, damaged(3)], State::Lossy, 2);
    }
}
