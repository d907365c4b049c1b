//! `tombstones`: what was deleted since the block was written.
//!
//! Magic, version, then per deletion a series' reference and a span of time; a checksum of all after
//! the version. Source: `tsdb/docs/format/tombstones.md`.

use std::collections::HashMap;

use super::BlockError;
use super::bits::{Cursor, Ended};

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;

/// Spans deleted, both ends included, by series.
#[derive(Debug, Default)]
pub(super) struct Tombstones(HashMap<u64, Vec<(i64, i64)>>);

impl Tombstones {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let damaged = |expected| BlockError::Damaged { file: "tombstones", at: 0, expected };
        let ended = |_: Ended| damaged("more bytes");
        let body = bytes.len().checked_sub(4).ok_or(damaged("more bytes"))?;
        let (body, crc) = bytes.split_at_checked(body).ok_or(damaged("more bytes"))?;
        let mut cursor = Cursor::new(body);
        if cursor.u32().map_err(ended)? != MAGIC || cursor.u8().map_err(ended)? != VERSION {
            return Err(damaged("its magic number and version 1"));
        }
        let stones = body.get(5..).unwrap_or_default();
        if Cursor::new(crc).u32().map_err(ended)? != crc32c::crc32c(stones) {
            return Err(damaged("a matching checksum"));
        }
        let mut spans: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
        while cursor.len() > 0 {
            let series = cursor.uvarint().map_err(ended)?;
            let span = (cursor.varint().map_err(ended)?, cursor.varint().map_err(ended)?);
            spans.entry(series).or_default().push(span);
        }
        Ok(Self(spans))
    }

    /// Takes deleted samples of a series out; says how many.
    pub(super) fn apply<V>(&self, series: u64, samples: &mut Vec<(i64, V)>) -> u64 {
        let Some(spans) = self.0.get(&series) else { return 0 };
        let before = samples.len();
        samples.retain(|(t, _)| !spans.iter().any(|(first, last)| first <= t && t <= last));
        (before - samples.len()) as u64
    }
}
