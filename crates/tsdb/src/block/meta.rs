//! What a block says of itself, in one small file; and its name.

use stoa_model::TimestampMs;

use crate::bytes::{Cursor, Malformed};
use crate::recovery::Covered;

pub(super) const META_BYTES: usize = 92;
const MAGIC: [u8; 8] = *b"STOABLK\0";
const VERSION: u16 = 1;
/// Cut from the head; compaction makes higher levels.
pub(super) const LEVEL_HEAD: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) level: u8,
    /// Counts blocks in the order they were written; of equal instants the lower one's wins.
    pub(crate) sequence: u64,
    /// The span it was cut for: `start ≤ t < end`.
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    /// Its first and last sample.
    pub(crate) first_t: TimestampMs,
    pub(crate) last_t: TimestampMs,
    /// It holds every sample of its span that the log has in segments before this one.
    pub(crate) log_before: u64,
    pub(crate) samples: u64,
    pub(crate) chunks_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) series: u32,
}

impl Meta {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(META_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[self.level, 0]);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        for t in [self.start, self.end, self.first_t, self.last_t] {
            out.extend_from_slice(&t.to_le_bytes());
        }
        for n in [self.log_before, self.samples, self.chunks_bytes, self.index_bytes] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.series.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let body = bytes.get(..META_BYTES - 4).ok_or(Malformed("meta ends early"))?;
        let mut crc = Cursor::new(bytes.get(META_BYTES - 4..).unwrap_or_default());
        let mut cursor = Cursor::new(body);
        if cursor.take(8)? != MAGIC {
            return Err(Malformed("meta of something else"));
        }
        if crc.u32()? != crc32c::crc32c(body) {
            return Err(Malformed("meta fails its checksum"));
        }
        crc.end()?;
        let version = u16::from(cursor.u8()?) | u16::from(cursor.u8()?) << 8;
        if version != VERSION {
            return Err(Malformed("block of another version"));
        }
        let level = cursor.u8()?;
        let _reserved = cursor.u8()?;
        Ok(Self {
            level,
            sequence: cursor.u64()?,
            start: cursor.i64()?,
            end: cursor.i64()?,
            first_t: cursor.i64()?,
            last_t: cursor.i64()?,
            log_before: cursor.u64()?,
            samples: cursor.u64()?,
            chunks_bytes: cursor.u64()?,
            index_bytes: cursor.u64()?,
            series: cursor.u32()?,
        })
    }

    pub(crate) fn covered(&self) -> Covered {
        Covered { start: self.start, end: self.end, log_before: self.log_before }
    }

    /// The name of its directory: a ULID of the time it was written and its sequence number.
    pub(super) fn name(sequence: u64, now_ms: TimestampMs) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let ms = u128::from(now_ms.max(0).cast_unsigned() & ((1 << 48) - 1));
        let ulid = ms << 80 | u128::from(sequence);
        (0..26u32)
            .rev()
            .map(|digit| {
                let five = usize::try_from(ulid >> (digit * 5) & 31).unwrap_or(0);
                char::from(ALPHABET.get(five).copied().unwrap_or(b'0'))
            })
            .collect()
    }
}
