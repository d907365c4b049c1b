//! What a block says of itself, in one small file; and its name.

use stoa_model::TimestampMs;

use crate::bytes::{Cursor, Malformed, put_varint};
use crate::record::SEQUENCE_MAX;
use crate::recovery::Covered;

const MAGIC: [u8; 8] = *b"STOABLK\0";
const VERSION: u16 = 2;
/// A block of a tier, whose entries are rollups.
const TIER_MAGIC: [u8; 8] = *b"STOATIR\0";
const TIER_VERSION: u16 = 1;
/// In the reserved byte of a tier's block.
const FLAG_SEALED: u8 = 1;
/// In the same byte of every block; a version that does not know it passes over it.
const FLAG_SPARE: u8 = 2;
/// Version 1 has one span, no parents, and ranks as its sequence number says.
const VERSION_1: u16 = 1;
const CRC_BYTES: usize = 4;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Cut from the head; compaction makes higher levels.
pub(crate) const LEVEL_HEAD: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) level: u8,
    /// Counts blocks in the order they were written. No two blocks of a database have the same.
    pub(crate) sequence: u64,
    /// Of equal instants in two blocks the lower rank wins: the sequence number of the oldest block
    /// that went into it.
    pub(crate) rank: u64,
    /// The span it is for: `start ≤ t < end`.
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    /// Its first and last sample.
    pub(crate) first_t: TimestampMs,
    pub(crate) last_t: TimestampMs,
    /// What of the log it holds, or held before it was deleted.
    pub(crate) covered: Vec<Covered>,
    /// The sequence numbers of the blocks it was merged from: where both are there, they are not
    /// counted.
    pub(crate) parents: Vec<u64>,
    pub(crate) samples: u64,
    pub(crate) chunks_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) series: u32,
    /// A [spare](super::spare) lies beside it; blocks of before have none.
    pub(crate) has_spare: bool,
    /// The window of its rollups, if it is a block of a tier: its timestamps are the ends of windows
    /// then, `start < t ≤ end`, and its samples are windows.
    pub(crate) tier: Option<TierMeta>,
}

/// What only a block of a tier says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TierMeta {
    /// The length of a window.
    pub(crate) window_ms: i64,
    /// What it was made of was gone in part when it was written: it cannot be made again.
    pub(crate) is_sealed: bool,
}

impl Meta {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let (magic, version, flags) = match self.tier {
            None => (MAGIC, VERSION, 0),
            Some(tier) => (TIER_MAGIC, TIER_VERSION, FLAG_SEALED * u8::from(tier.is_sealed)),
        };
        out.extend_from_slice(&magic);
        out.extend_from_slice(&version.to_le_bytes());
        let flags = flags | if self.has_spare { FLAG_SPARE } else { 0 };
        out.extend_from_slice(&[self.level, flags]);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        for t in [self.start, self.end, self.first_t, self.last_t] {
            out.extend_from_slice(&t.to_le_bytes());
        }
        for n in [self.rank, self.samples, self.chunks_bytes, self.index_bytes] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.series.to_le_bytes());
        put_varint(&mut out, self.covered.len() as u64);
        for covered in &self.covered {
            out.extend_from_slice(&covered.start.to_le_bytes());
            out.extend_from_slice(&covered.end.to_le_bytes());
            out.extend_from_slice(&covered.log_before.to_le_bytes());
        }
        put_varint(&mut out, self.parents.len() as u64);
        for parent in &self.parents {
            out.extend_from_slice(&parent.to_le_bytes());
        }
        if let Some(tier) = self.tier {
            out.extend_from_slice(&tier.window_ms.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let body = bytes.len().checked_sub(CRC_BYTES).and_then(|at| bytes.split_at_checked(at));
        let (body, crc) = body.ok_or(Malformed("meta ends early"))?;
        let mut cursor = Cursor::new(body);
        let magic = cursor.take(8)?;
        let is_tier = magic == TIER_MAGIC;
        if !is_tier && magic != MAGIC {
            return Err(Malformed("meta of something else"));
        }
        if Cursor::new(crc).u32()? != crc32c::crc32c(body) {
            return Err(Malformed("meta fails its checksum"));
        }
        let version = u16::from(cursor.u8()?) | u16::from(cursor.u8()?) << 8;
        let is_known =
            if is_tier { version == TIER_VERSION } else { matches!(version, VERSION | VERSION_1) };
        if !is_known {
            return Err(Malformed("block of another version"));
        }
        let level = cursor.u8()?;
        let flags = cursor.u8()?;
        let mut meta = Self {
            level,
            sequence: cursor.u64()?,
            start: cursor.i64()?,
            end: cursor.i64()?,
            first_t: cursor.i64()?,
            last_t: cursor.i64()?,
            // In version 1 the segment before which it has all of the log.
            rank: cursor.u64()?,
            samples: cursor.u64()?,
            chunks_bytes: cursor.u64()?,
            index_bytes: cursor.u64()?,
            series: cursor.u32()?,
            has_spare: flags & FLAG_SPARE != 0,
            covered: Vec::new(),
            parents: Vec::new(),
            tier: None,
        };
        if meta.sequence > SEQUENCE_MAX || meta.rank > SEQUENCE_MAX {
            return Err(Malformed("sequence number nobody counted to"));
        }
        // Nor is anything that long; lengths and samples of blocks are added up.
        if [meta.samples, meta.chunks_bytes, meta.index_bytes].iter().any(|n| *n > SEQUENCE_MAX) {
            return Err(Malformed("lengths nobody wrote"));
        }
        if version == VERSION_1 && !is_tier {
            let (start, end, log_before) = (meta.start, meta.end, meta.rank);
            meta.covered.push(Covered { start, end, log_before });
            meta.rank = meta.sequence;
            cursor.end()?;
            return Ok(meta);
        }
        for _ in 0..cursor.count(24)? {
            meta.covered.push(Covered {
                start: cursor.i64()?,
                end: cursor.i64()?,
                log_before: cursor.u64()?,
            });
        }
        for _ in 0..cursor.count(8)? {
            meta.parents.push(cursor.u64()?);
        }
        if is_tier {
            let window_ms = cursor.i64()?;
            if window_ms <= 0 {
                return Err(Malformed("tier without a window"));
            }
            meta.tier = Some(TierMeta { window_ms, is_sealed: flags & FLAG_SEALED != 0 });
        }
        cursor.end()?;
        Ok(meta)
    }

    /// The sequence number a directory's name ends in, if it is such a name.
    pub(crate) fn sequence_of_name(name: &str) -> Option<u64> {
        let digits = name.bytes().map(|byte| ALPHABET.iter().position(|digit| *digit == byte));
        let ulid = digits.take(26).try_fold(0u128, |ulid, digit| Some(ulid << 5 | digit? as u128));
        let low = u64::try_from(ulid? & ((1 << 80) - 1)).ok();
        low.filter(|_| name.len() == 26)
    }

    /// The name of its directory: a ULID of the time it was written and its sequence number.
    pub(super) fn name(sequence: u64, now_ms: TimestampMs) -> String {
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
