//! A window on a file that is read from front to back and is too large to hold.

use crate::DiskRead;

/// What is read at once. Larger only for a record that is.
const WINDOW_BYTES: usize = 256 * 1024;
/// What a bad spot on the disk costs: around it the file is read in pieces of this size.
const PIECE_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Window {
    file: Box<dyn DiskRead>,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// On a file of `size` bytes; what is written to it later is not seen.
    pub(crate) fn new(file: Box<dyn DiskRead>, size: u64) -> Self {
        Self { file, size, start: 0, bytes: Vec::new() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// `len` bytes at `at`; fewer where the file ends. What the disk cannot read is zeros, which
    /// fail every checksum.
    pub(crate) fn get(&mut self, at: u64, len: usize) -> &[u8] {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = len.min(left);
        let held_to = self.start + self.bytes.len() as u64;
        if at < self.start || at + len as u64 > held_to {
            self.fill(at, len.max(WINDOW_BYTES).min(left));
        }
        let from = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let found = self.bytes.get(from..).unwrap_or_default();
        found.get(..len).unwrap_or(found)
    }

    /// The next place at or after `from` at which `marker` stands.
    pub(crate) fn find(&mut self, marker: [u8; 2], mut from: u64) -> Option<u64> {
        loop {
            let found = self.get(from, WINDOW_BYTES);
            if found.len() < marker.len() {
                return None;
            }
            if let Some(at) = found.windows(marker.len()).position(|bytes| bytes == marker) {
                return Some(from + at as u64);
            }
            from += (found.len() - (marker.len() - 1)) as u64;
        }
    }

    fn fill(&mut self, at: u64, len: usize) {
        self.start = at;
        self.bytes.clear();
        self.bytes.shrink_to(WINDOW_BYTES);
        self.bytes.resize(len, 0);
        if self.file.read_exact_at(&mut self.bytes, at).is_ok() {
            return;
        }
        let mut piece_at = at;
        for piece in self.bytes.chunks_mut(PIECE_BYTES) {
            if self.file.read_exact_at(piece, piece_at).is_err() {
                piece.fill(0);
            }
            piece_at += piece.len() as u64;
        }
    }
}
