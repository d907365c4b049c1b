//! A segment: one file of the log, named for its number, with a header of 32 bytes.
//!
//! ```text
//! 0   8  magic "STOAWAL\0"
//! 8   2  version, LE: 1
//! 10  2  flags, LE: bit 0 = the previous segment was synced whole before this one was made
//! 12  8  number of this segment, LE: that of its name
//! 20  8  length of the previous segment when this one was made, LE; 0 if there was none
//! 28  4  CRC32C of bytes 0 to 28, LE
//! ```

use std::io;
use std::path::{Path, PathBuf};

use crate::Disk;

pub(crate) const SEGMENT_HEADER_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"STOAWAL\0";
const VERSION: u16 = 1;
const FLAG_CONTINUES: u16 = 1;
/// Names with a higher number are not ours: a stray file must not exhaust the numbers.
const SEGMENT_MAX: u64 = 1 << 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) segment: u64,
    /// The previous segment was synced whole before this one was made.
    pub(crate) continues: bool,
    pub(crate) previous_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    Version(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let flags = if self.continues { FLAG_CONTINUES } else { 0 };
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.previous_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let mut header = [0; SEGMENT_HEADER_BYTES];
        header.copy_from_slice(&bytes);
        header
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        Self::fields(bytes).unwrap_or(Err(BadHeader::Damaged))
    }

    fn fields(bytes: &[u8]) -> Option<Result<Self, BadHeader>> {
        let (body, crc) = bytes.split_at_checked(SEGMENT_HEADER_BYTES - 4)?;
        let crc = u32::from_le_bytes(*crc.first_chunk()?);
        let (magic, body_rest) = body.split_first_chunk::<8>()?;
        let (version, body_rest) = body_rest.split_first_chunk()?;
        let (flags, body_rest) = body_rest.split_first_chunk()?;
        let (segment, previous_bytes) = body_rest.split_first_chunk()?;
        if *magic != MAGIC || crc32c::crc32c(body) != crc {
            return None;
        }
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Some(Err(BadHeader::Version(version)));
        }
        Some(Ok(Self {
            segment: u64::from_le_bytes(*segment),
            continues: u16::from_le_bytes(*flags) & FLAG_CONTINUES != 0,
            previous_bytes: u64::from_le_bytes(*previous_bytes.first_chunk()?),
        }))
    }
}

pub(crate) fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016x}.wal"))
}

/// The numbers of the segments in a directory, ascending. Other files are not ours.
pub(crate) fn list_segments(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let mut segments: Vec<u64> =
        disk.list(dir)?.iter().filter_map(|name| segment_of_name(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

fn segment_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    if digits.len() != 16 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|segment| *segment < SEGMENT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sixteen_lower_hex_digits() {
        let check = |name: &str, expected| assert_eq!(segment_of_name(name), expected, "{name}");
        check("00000000000000ff.wal", Some(255));
        check("00000000000000FF.wal", None);
        check("ff.wal", None);
        check("+0000000000000ff.wal", None);
        check("00000000000000ff.wal.tmp", None);
        check("ffffffffffffffff.wal", None);
    }

    #[test]
    fn a_header_says_what_it_was_made_of() {
        let header = SegmentHeader { segment: 9, continues: true, previous_bytes: 1234 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Err(BadHeader::Damaged), "bit {bit}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..28]).to_le_bytes();
        newer[28..].copy_from_slice(&crc);
        assert_eq!(SegmentHeader::decode(&newer), Err(BadHeader::Version(2)));
    }
}
