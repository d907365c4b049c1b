//! One record in a segment: a header that is bound to its place, and a payload bound to the header.
//!
//! ```text
//! 0   2  marker D7 A4
//! 2   1  kind, the caller's
//! 3   4  length of the payload, LE
//! 7   4  how many bytes before this record were not yet known to be durable, LE
//! 11  4  CRC32C of the payload, LE
//! 15  4  CRC32C of (segment u64 LE, offset u64 LE, bytes 0 to 15), LE
//! 19     payload
//! ```
//!
//! A record that was copied, moved, or left over from another place fails its header checksum. A
//! header that passes is trusted for its length, so that a damaged payload costs just its record.

use crate::Position;

pub(crate) const HEADER_BYTES: usize = 19;
pub(crate) const MARKER: [u8; 2] = [0xD7, 0xA4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: u8,
    pub(crate) payload_bytes: u32,
    pub(crate) unsynced_bytes: u32,
    pub(crate) payload_crc: u32,
}

impl RecordHeader {
    pub(crate) fn of(kind: u8, unsynced_bytes: u32, payload_bytes: u32, payload: &[u8]) -> Self {
        Self { kind, payload_bytes, unsynced_bytes, payload_crc: crc32c::crc32c(payload) }
    }

    pub(crate) fn encode(self, at: Position, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MARKER);
        out.push(self.kind);
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        out.extend_from_slice(&self.unsynced_bytes.to_le_bytes());
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        let crc = bound_crc(at, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// The header at the start of `bytes`, if it is one and belongs at `at`.
    pub(crate) fn decode(at: Position, bytes: &[u8]) -> Option<Self> {
        let (body, rest) = bytes.split_at_checked(HEADER_BYTES - 4)?;
        let crc = u32::from_le_bytes(*rest.first_chunk()?);
        let body: &[u8; 15] = body.try_into().ok()?;
        let [m0, m1, kind, l0, l1, l2, l3, u0, u1, u2, u3, p0, p1, p2, p3] = *body;
        if [m0, m1] != MARKER || bound_crc(at, body) != crc {
            return None;
        }
        Some(Self {
            kind,
            payload_bytes: u32::from_le_bytes([l0, l1, l2, l3]),
            unsynced_bytes: u32::from_le_bytes([u0, u1, u2, u3]),
            payload_crc: u32::from_le_bytes([p0, p1, p2, p3]),
        })
    }
}

fn bound_crc(at: Position, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&at.segment.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &at.offset.to_le_bytes());
    crc32c::crc32c_append(crc, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_decodes_only_where_it_was_written() {
        let at = Position { segment: 3, offset: 99 };
        let header = RecordHeader::of(7, 67, 2, b"ab");
        let mut bytes = Vec::new();
        header.encode(at, &mut bytes);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(RecordHeader::decode(at, &bytes), Some(header));
        assert_eq!(RecordHeader::decode(Position { segment: 4, ..at }, &bytes), None);
        assert_eq!(RecordHeader::decode(Position { offset: 98, ..at }, &bytes), None);
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(at, &flipped), None, "bit {bit}");
        }
        for len in 0..HEADER_BYTES {
            assert_eq!(RecordHeader::decode(at, &bytes[..len]), None);
        }
    }
}
