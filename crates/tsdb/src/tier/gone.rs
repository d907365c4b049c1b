//! Of which time what a tier's block was made of is gone, in part at least.
//!
//! It may name more time than that and must not name less: what is answered and made again there is
//! what both have, and where all of it is still there after all that is all of it.

use std::io;
use std::path::Path;

use stoa_model::TimestampMs;
use stoa_wal::Disk;

use crate::bytes::{Cursor, Malformed, put_varint};
use crate::log::is_for_want_of_room;

const MAGIC: [u8; 8] = *b"STOAGON\0";
const VERSION: u16 = 1;
const CRC_BYTES: usize = 4;
/// Beyond so many stretches those nearest to each other are told as one.
const STRETCHES_MAX: usize = 64;

/// Stretches `start < t ≤ end` in order of time, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gone(Vec<(TimestampMs, TimestampMs)>);

impl Gone {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, start: TimestampMs, end: TimestampMs) {
        if start >= end {
            return;
        }
        let mut all = std::mem::take(&mut self.0);
        all.push((start, end));
        all.sort_unstable();
        for (start, end) in all {
            match self.0.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => self.0.push((start, end)),
            }
        }
    }

    /// Leaves few enough to be kept.
    pub(crate) fn bound(&mut self) {
        while self.0.len() > STRETCHES_MAX {
            let gap = |at: usize| match self.0.get(at..at + 2) {
                Some([a, b]) => b.0.saturating_sub(a.1),
                _ => TimestampMs::MAX,
            };
            let Some(nearest) = (0..self.0.len() - 1).min_by_key(|at| gap(*at)) else { return };
            let (_, end) = self.0.remove(nearest + 1);
            if let Some(joined) = self.0.get_mut(nearest) {
                joined.1 = end;
            }
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(start, end)| self.add(*start, *end));
    }

    /// Its part of `start < t ≤ end`.
    pub(crate) fn within(
        &self,
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = (TimestampMs, TimestampMs)> {
        let cut = move |(a, b): &(TimestampMs, TimestampMs)| ((*a).max(start), (*b).min(end));
        self.0.iter().map(cut).filter(|(a, b)| a < b)
    }

    /// What of `start < t ≤ end` is none of it.
    pub(crate) fn without(
        &self,
        start: TimestampMs,
        end: TimestampMs,
    ) -> Vec<(TimestampMs, TimestampMs)> {
        let mut rest = Vec::new();
        let mut from = start;
        for (a, b) in self.within(start, end).chain([(end, end)]) {
            if from < a {
                rest.push((from, a));
            }
            from = b;
        }
        rest
    }

    /// Whether it has all of `start < t ≤ end`.
    pub(crate) fn has(&self, start: TimestampMs, end: TimestampMs) -> bool {
        start >= end || self.0.iter().any(|(a, b)| *a <= start && end <= *b)
    }

    /// As it is kept beside the block with this sequence number.
    pub(crate) fn encode(&self, sequence: u64) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        put_varint(&mut out, self.0.len() as u64);
        for (start, end) in &self.0 {
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        let crc = crc(sequence, &out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// What a file says of the block of a sequence number and a span. All of the span if it does not say:
    /// it is empty, as earlier versions wrote it, or damaged.
    pub(crate) fn decode(bytes: &[u8], sequence: u64, span: (TimestampMs, TimestampMs)) -> Self {
        Self::read(bytes, sequence).unwrap_or_else(|_unsaid| Self(vec![span]))
    }

    /// Keeps it beside the block with this sequence number; where there is no room for that, an empty file,
    /// which takes none and says it of all of the block's span: true then. Durable when this returns.
    pub(super) fn keep(&self, disk: &dyn Disk, path: &Path, sequence: u64) -> io::Result<bool> {
        match disk.replace(path, &self.encode(sequence)) {
            Err(error) if is_for_want_of_room(&error) => disk.replace(path, &[]).map(|()| true),
            kept => kept.map(|()| false),
        }
    }

    pub(super) fn read(bytes: &[u8], sequence: u64) -> Result<Self, Malformed> {
        let body = bytes.len().checked_sub(CRC_BYTES).and_then(|at| bytes.split_at_checked(at));
        let (body, sum) = body.ok_or(Malformed("it ends early"))?;
        let mut cursor = Cursor::new(body);
        if cursor.take(8)? != MAGIC || cursor.take(2)? != VERSION.to_le_bytes() {
            return Err(Malformed("something else"));
        }
        if Cursor::new(sum).u32()? != crc(sequence, body) {
            return Err(Malformed("it fails its checksum"));
        }
        let mut gone = Self::default();
        for _ in 0..cursor.count(16)? {
            gone.add(cursor.i64()?, cursor.i64()?);
        }
        cursor.end()?;
        Ok(gone)
    }
}

fn crc(sequence: u64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), body)
}

#[cfg(test)]
mod tests {
    use super::{Gone, STRETCHES_MAX};

    fn gone(stretches: &[(i64, i64)]) -> Gone {
        let mut gone = Gone::default();
        stretches.iter().for_each(|(start, end)| gone.add(*start, *end));
        gone
    }

    #[test]
    fn stretches_are_joined_and_come_back() {
        let some = gone(&[(50, 60), (10, 20), (20, 30), (5, 12), (7, 7)]);
        assert_eq!(some, gone(&[(5, 30), (50, 60)]));
        assert!(some.has(5, 30) && some.has(7, 7) && !some.has(5, 31) && !some.has(4, 6));
        assert_eq!(some.within(29, 55).collect::<Vec<_>>(), [(29, 30), (50, 55)]);
        assert_eq!(some.without(0, 55), [(0, 5), (30, 50)]);
        assert_eq!(some.without(6, 99), [(30, 50), (60, 99)]);
        assert_eq!(some.without(6, 7), []);
        assert_eq!(some.without(9, 9), []);
        let bytes = some.encode(7);
        assert_eq!(Gone::decode(&bytes, 7, (0, 99)), some);
        let whole = gone(&[(0, 99)]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(Gone::decode(&damaged, 7, (0, 99)), whole);
            assert_eq!(Gone::decode(&bytes[..at], 7, (0, 99)), whole);
        }
        assert_eq!(Gone::decode(&bytes, 8, (0, 99)), whole, "of another block");
    }

    #[test]
    fn they_are_few_and_never_less() {
        let many: Vec<(i64, i64)> = (0..500).map(|n| (n * n, n * n + 1)).collect();
        let mut some = gone(&many);
        some.bound();
        assert!(some.0.len() <= STRETCHES_MAX && some.0.is_sorted_by(|a, b| a.1 < b.0));
        assert!(many.iter().all(|(start, end)| some.has(*start, *end)));
    }
}
