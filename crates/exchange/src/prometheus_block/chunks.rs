//! Segments of chunks: `chunks/000001` and so on.
//!
//! A reference's upper half is the segment, counted from 0; its lower half is where in it the chunk
//! stands. Source: `tsdb/docs/format/chunks.md`.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::BlockError;
use super::bits::{Cursor, put_uvarint};

const MAGIC: u32 = 0x85BD_40DD;
const VERSION: u8 = 1;
const HEADER_BYTES: u64 = 8;

/// A segment is ended when it is longer than this.
const SEGMENT_BYTES_MAX: u64 = 512 << 20;

/// What is read of a segment at once; neighbouring series' chunks stand together.
const WINDOW_BYTES: usize = 256 << 10;

/// No chunk is longer.
const CHUNK_BYTES_MAX: u64 = 16 << 20;

/// The encoding of floats.
pub(super) const ENCODING_XOR: u8 = 1;

/// A segment open for reading.
#[derive(Debug)]
pub(super) struct Segment<R> {
    file: R,
    window: Vec<u8>,
    window_at: u64,
}

/// A chunk as it stands in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub(super) encoding: u8,
    pub(super) data: &'a [u8],
}

impl<R: Read + Seek> Segment<R> {
    pub(super) fn open(file: R) -> Result<Self, BlockError> {
        let mut segment = Self { file, window: Vec::new(), window_at: 0 };
        let header = segment.at(0, 8).map_err(BlockError::io("read a chunk segment"))?;
        let mut cursor = Cursor::new(header);
        if cursor.u32() != Ok(MAGIC) || cursor.u8() != Ok(VERSION) {
            let expected = "its magic number and version 1";
            return Err(BlockError::Damaged { file: "chunk segment", at: 0, expected });
        }
        Ok(segment)
    }

    /// The bytes from an offset on, at least `count` of them unless the file ends before.
    fn at(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let start = offset.checked_sub(self.window_at).and_then(|at| usize::try_from(at).ok());
        let held = start.and_then(|start| self.window.len().checked_sub(start)).unwrap_or(0);
        if held < count {
            self.file.seek(SeekFrom::Start(offset))?;
            self.window.clear();
            self.window_at = offset;
            let wanted = count.max(WINDOW_BYTES) as u64;
            self.file.by_ref().take(wanted).read_to_end(&mut self.window)?;
        }
        let start = usize::try_from(offset - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window.get(start..).unwrap_or_default())
    }

    /// The chunk at an offset; `Ok(None)` when what is there is no whole chunk.
    pub(super) fn chunk(&mut self, offset: u64) -> io::Result<Option<Chunk<'_>>> {
        let mut cursor = Cursor::new(self.at(offset, 10)?);
        let before = cursor.len();
        let Ok(len) = cursor.uvarint() else { return Ok(None) };
        let head = before - cursor.len();
        if len > CHUNK_BYTES_MAX {
            return Ok(None);
        }
        let len = usize::try_from(len).unwrap_or(0);
        let bytes = self.at(offset, head + 1 + len + 4)?;
        let mut cursor = Cursor::new(bytes);
        let (Ok(_), Ok(body), Ok(crc)) = (cursor.take(head), cursor.take(1 + len), cursor.u32())
        else {
            return Ok(None);
        };
        let Some((encoding, data)) = body.split_first() else { return Ok(None) };
        Ok((crc == crc32c::crc32c(body)).then_some(Chunk { encoding: *encoding, data }))
    }
}

/// Writes chunks, segment after segment.
#[derive(Debug)]
pub(super) struct ChunksWriter<W, F> {
    next: F,
    segment: Option<W>,
    number: u32,
    at: u64,
    entry: Vec<u8>,
}

impl<W: Write, F: FnMut(u32) -> io::Result<W>> ChunksWriter<W, F> {
    pub(super) fn new(next: F) -> Self {
        Self { next, segment: None, number: 0, at: 0, entry: Vec::new() }
    }

    /// Writes a chunk and says its reference.
    pub(super) fn put(&mut self, encoding: u8, data: &[u8]) -> io::Result<u64> {
        self.entry.clear();
        put_uvarint(&mut self.entry, data.len() as u64);
        let head = self.entry.len();
        self.entry.push(encoding);
        self.entry.extend_from_slice(data);
        let crc = crc32c::crc32c(self.entry.get(head..).unwrap_or_default());
        self.entry.extend_from_slice(&crc.to_be_bytes());
        if self.segment.is_none() || self.at + self.entry.len() as u64 > SEGMENT_BYTES_MAX {
            self.begin()?;
        }
        let reference = u64::from(self.number - 1) << 32 | self.at;
        if let Some(segment) = &mut self.segment {
            segment.write_all(&self.entry)?;
        }
        self.at += self.entry.len() as u64;
        Ok(reference)
    }

    fn begin(&mut self) -> io::Result<()> {
        if let Some(mut full) = self.segment.take() {
            full.flush()?;
        }
        self.number += 1;
        let mut segment = (self.next)(self.number)?;
        segment.write_all(&MAGIC.to_be_bytes())?;
        segment.write_all(&[VERSION, 0, 0, 0])?;
        self.segment = Some(segment);
        self.at = HEADER_BYTES;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.segment.as_mut().map_or(Ok(()), Write::flush)
    }
}
