//! The file of chunks: each with a checksum in front that is bound to its place.

use std::io;

use stoa_wal::{DiskFile, DiskRead};

use super::reader::BlockError;
use super::{Meta, bound_crc};
use crate::bytes::{Cursor, Malformed};
use crate::head_file::read_twice;

/// Magic, version 1, six bytes of nothing.
pub(super) const HEADER: [u8; 16] = *b"STOACHK\0\x01\0\0\0\0\0\0\0";
/// Bytes in front of each chunk: its checksum.
pub(super) const CRC_BYTES: u64 = 4;
/// What is written to the disk at once.
const BUFFER_BYTES: usize = 256 << 10;
/// No single read is longer, whatever an index says.
const READ_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug)]
pub(super) struct ChunksWriter {
    file: Box<dyn DiskFile>,
    sequence: u64,
    written: u64,
    buffer: Vec<u8>,
}

impl ChunksWriter {
    pub(super) fn new(file: Box<dyn DiskFile>, sequence: u64) -> Self {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        buffer.extend_from_slice(&HEADER);
        Self { file, sequence, written: 0, buffer }
    }

    /// Where the next chunk's checksum will stand.
    pub(super) fn offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn put(&mut self, chunk: &[u8]) -> io::Result<()> {
        let crc = bound_crc(self.sequence, self.offset(), chunk);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Makes all of it durable and says how long it is.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync_data()?;
        Ok(self.written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Neighbouring chunks read at once.
#[derive(Debug)]
pub(super) struct Span {
    sequence: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl Span {
    pub(super) fn read(
        file: &dyn DiskRead,
        meta: &Meta,
        offset: u64,
        bytes: u64,
    ) -> Result<Self, BlockError> {
        let is_beyond = |end| end > meta.chunks_bytes;
        if bytes > READ_BYTES_MAX || offset.checked_add(bytes).is_none_or(is_beyond) {
            return Err(Malformed("chunks beyond their file").into());
        }
        let mut read = vec![0; usize::try_from(bytes).unwrap_or(0)];
        read_twice(file, &mut read, offset)?;
        Ok(Self { sequence: meta.sequence, offset, bytes: read })
    }

    /// Where in the file it begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The chunk whose checksum stands at `offset` of the file.
    pub(super) fn chunk(&self, offset: u64, bytes: u32) -> Result<&[u8], Malformed> {
        let at = offset.checked_sub(self.offset).and_then(|at| usize::try_from(at).ok());
        let rest = at.and_then(|at| self.bytes.get(at..)).ok_or(Malformed("chunk out of place"))?;
        let mut cursor = Cursor::new(rest);
        let crc = cursor.u32()?;
        let chunk = cursor.take(bytes as usize)?;
        if crc != bound_crc(self.sequence, offset, chunk) {
            return Err(Malformed("chunk fails its checksum"));
        }
        Ok(chunk)
    }
}
