//! A message in snappy's block format, compressed as it is written.
//!
//! The format is the length of the whole, then blocks of at most 64 KiB that refer to nothing before them:
//! blocks can be made one by one and put together in any order, and only the compressed ones are held. So
//! what goes before a part, because it says how long that is, is written after it.

use bytes::Bytes;

/// What is compressed at once: snappy's own block.
const BLOCK_BYTES: usize = 64 << 10;

/// The longest message: its length is a number of 32 bits.
const MESSAGE_BYTES_MAX: u64 = u32::MAX as u64;

/// The message is longer than the format can say.
#[derive(Debug, thiserror::Error)]
#[error("snappy: the answer is longer than {MESSAGE_BYTES_MAX} bytes")]
pub(super) struct TooLong;

/// A message being compressed.
pub(super) struct Packed {
    encoder: snap::raw::Encoder,
    blocks: Vec<Bytes>,
    /// Where the part at hand begins.
    part: usize,
    part_bytes: u64,
    message_bytes: u64,
    packed_bytes: usize,
    /// Not yet compressed.
    open: Vec<u8>,
}

impl Packed {
    pub(super) fn new() -> Self {
        let (blocks, open) = (Vec::new(), Vec::with_capacity(BLOCK_BYTES));
        let (part, part_bytes, message_bytes, packed_bytes) = (0, 0, 0, 0);
        let encoder = snap::raw::Encoder::new();
        Self { encoder, blocks, part, part_bytes, message_bytes, packed_bytes, open }
    }

    /// How many bytes are held.
    pub(super) fn bytes(&self) -> usize {
        self.packed_bytes + self.blocks.len() * size_of::<Bytes>() + BLOCK_BYTES
    }

    /// Appends to the part at hand.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.open.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            if self.open.len() == BLOCK_BYTES {
                self.end_block()?;
            }
        }
        Ok(())
    }

    /// Ends the part at hand and puts before it what `head` says of its length.
    pub(super) fn end_part(&mut self, head: impl FnOnce(u64) -> Vec<u8>) -> Result<(), TooLong> {
        self.end_block()?;
        let head = head(self.part_bytes);
        let packed = self.packed(&head)?;
        self.blocks.insert(self.part, packed);
        (self.part, self.part_bytes) = (self.blocks.len(), 0);
        Ok(())
    }

    /// The message in pieces; what was put after the last part is left out.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.blocks.truncate(self.part);
        let mut head = Vec::with_capacity(5);
        let mut left = self.message_bytes;
        while left >= 0x80 {
            head.push(u8::try_from(left & 0x7f).unwrap_or(0) | 0x80);
            left >>= 7;
        }
        head.push(u8::try_from(left).unwrap_or(0));
        self.blocks.insert(0, head.into());
        self.blocks
    }

    fn end_block(&mut self) -> Result<(), TooLong> {
        let open = std::mem::take(&mut self.open);
        if !open.is_empty() {
            self.part_bytes += open.len() as u64;
            let packed = self.packed(&open)?;
            self.blocks.push(packed);
        }
        self.open = open;
        self.open.clear();
        Ok(())
    }

    /// Compresses at most a block, and leaves out its own length.
    fn packed(&mut self, block: &[u8]) -> Result<Bytes, TooLong> {
        self.message_bytes += block.len() as u64;
        if self.message_bytes > MESSAGE_BYTES_MAX {
            return Err(TooLong);
        }
        let packed = self.encoder.compress_vec(block).map_err(|_too_long| TooLong)?;
        let length_bytes = packed.iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let packed = Bytes::copy_from_slice(packed.get(length_bytes..).unwrap_or_default());
        self.packed_bytes += packed.len();
        Ok(packed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;

    use super::*;

    proptest::proptest! {
        #[test]
        fn what_was_put_comes_out(
            parts in vec(vec((0u8..4, 0usize..90_000, 1u64..300), 0..4), 0..4),
        ) {
            let (mut packed, mut expected) = (Packed::new(), Vec::new());
            for part in parts {
                let mut whole = Vec::new();
                for (byte, len, step) in part {
                    let bytes: Vec<u8> = (0..len as u64)
                        .map(|i| byte.wrapping_add(u8::try_from(i * i / step % 251).unwrap()))
                        .collect();
                    packed.put(&bytes).unwrap();
                    whole.extend(bytes);
                }
                let head = |len: u64| format!("<{len}>").into_bytes();
                packed.end_part(head).unwrap();
                expected.extend(head(whole.len() as u64));
                expected.extend(whole);
            }
            let held = packed.bytes();
            let message = packed.finish().concat();
            proptest::prop_assert!(message.len() <= held);
            let read = snap::raw::Decoder::new().decompress_vec(&message).unwrap();
            proptest::prop_assert!(read == expected);
        }
    }
}
