//! What was deleted of a block, until the block is written anew without it.
//!
//! One small file, replaced whole by each deletion. A block without the file has lost nothing.
//! `docs/formats/tombstones.md` has every byte.

use std::collections::BTreeMap;

use stoa_model::TimestampMs;

use super::bound_crc;
use crate::bytes::{Cursor, Malformed, put_varint, put_zigzag};

const MAGIC: [u8; 8] = *b"STOATMB\0";
const VERSION: u16 = 1;
const CRC_BYTES: usize = 4;

/// A stretch of time, both ends included.
pub(crate) type Stretch = (TimestampMs, TimestampMs);

/// The deleted stretches of a block's series, by the series' number in its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tombstones {
    /// In order, apart from each other, at least one per series.
    series: BTreeMap<u32, Vec<Stretch>>,
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

    pub(crate) fn encode(&self, sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        put_varint(&mut out, self.series.len() as u64);
        let mut next = 0;
        for (series, stretches) in &self.series {
            put_varint(&mut out, u64::from(*series) - next);
            next = u64::from(*series) + 1;
            put_varint(&mut out, stretches.len() as u64);
            for (first, last) in stretches {
                put_zigzag(&mut out, *first);
                put_varint(&mut out, last.wrapping_sub(*first).cast_unsigned());
            }
        }
        let crc = bound_crc(sequence, 0, &out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8], sequence: u64) -> Result<Self, Malformed> {
        let body = bytes.len().checked_sub(CRC_BYTES).and_then(|at| bytes.split_at_checked(at));
        let (body, crc) = body.ok_or(Malformed("tombstones end early"))?;
        let mut cursor = Cursor::new(body);
        if cursor.take(8)? != MAGIC {
            return Err(Malformed("no tombstones"));
        }
        if Cursor::new(crc).u32()? != bound_crc(sequence, 0, body) {
            return Err(Malformed("tombstones fail their checksum"));
        }
        if cursor.take(2)? != VERSION.to_le_bytes() {
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

    use super::{Tombstones, hides};

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
            let bytes = tombstones.encode(7);
            assert_eq!(Tombstones::decode(&bytes, 7), Ok(tombstones));
            assert!(Tombstones::decode(&bytes, 8).is_err());
            assert!(Tombstones::decode(&bytes[1..], 7).is_err());
        }
    }

    #[test]
    fn the_whole_of_time_can_be_marked() {
        let mut tombstones = Tombstones::default();
        assert!(tombstones.add(0, 5, 6) && tombstones.add(0, i64::MIN, i64::MAX));
        assert!(!tombstones.add(0, 1, 1) && !tombstones.add(0, 2, 1));
        assert_eq!(tombstones.of(0), [(i64::MIN, i64::MAX)]);
        assert_eq!(Tombstones::decode(&tombstones.encode(1), 1), Ok(tombstones));
    }
}
