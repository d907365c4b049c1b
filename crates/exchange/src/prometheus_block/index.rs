//! The index: symbols, series with where their chunks are, postings.
//!
//! Numbers of fixed width are big-endian; every section ends with a checksum. In format 1 a label
//! names a symbol by its place in the file and a series is named by its own; in format 2 by its number,
//! and by its place divided by sixteen. Source: `tsdb/docs/format/index.md`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use stoa_model::Labels;

use super::BlockError;
use super::bits::{Cursor, Ended, put_uvarint, put_varint};

const MAGIC: u32 = 0xBAAA_D700;
const HEADER_BYTES: u64 = 5;
const TOC_BYTES: u64 = 52;
/// Series begin at multiples of this in format 2.
const SERIES_ALIGN: u64 = 16;
const POSTINGS_ALIGN: u64 = 4;

/// A series and where its chunks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// By which tombstones name it.
    pub(super) reference: u64,
    pub(super) labels: Labels,
    pub(super) chunks: Vec<ChunkAt>,
}

/// A chunk as the index knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkAt {
    pub(super) first_t: i64,
    pub(super) last_t: i64,
    pub(super) reference: u64,
}

/// Reads the series in their order.
#[derive(Debug)]
pub(super) struct IndexReader<R> {
    file: BufReader<R>,
    version: u8,
    symbols: Vec<Arc<str>>,
    /// Where each symbol stands, in format 1.
    symbol_places: Vec<u64>,
    at: u64,
    series_end: u64,
}

fn damaged(at: u64, expected: &'static str) -> BlockError {
    BlockError::Damaged { file: "index", at, expected }
}

fn ended(at: u64) -> impl Fn(Ended) -> BlockError {
    move |_| damaged(at, "more bytes")
}

const READ: &str = "read the index";

impl<R: Read + Seek> IndexReader<R> {
    pub(super) fn open(mut file: R) -> Result<Self, BlockError> {
        let size = file.seek(SeekFrom::End(0)).map_err(BlockError::io(READ))?;
        let header = read_at(&mut file, 0, HEADER_BYTES)?;
        let mut header = Cursor::new(&header);
        let (magic, version) = (header.u32().map_err(ended(0))?, header.u8().map_err(ended(0))?);
        if magic != MAGIC || !(1..=2).contains(&version) {
            return Err(damaged(0, "its magic number and version 1 or 2"));
        }
        let toc_at = size.checked_sub(TOC_BYTES).ok_or(damaged(0, "a table of contents"))?;
        let toc = read_at(&mut file, toc_at, TOC_BYTES)?;
        let mut cursor = Cursor::new(&toc);
        let mut offsets = [0; 6];
        for offset in &mut offsets {
            *offset = cursor.u64().map_err(ended(toc_at))?;
        }
        let body = toc.get(..48).unwrap_or_default();
        if cursor.u32().map_err(ended(toc_at))? != crc32c::crc32c(body) {
            return Err(damaged(toc_at, "a matching checksum"));
        }
        let [symbols_at, series_at, rest @ ..] = offsets;
        let series_end = rest.into_iter().filter(|at| *at > series_at).min().unwrap_or(toc_at);
        if series_at > toc_at || series_end > toc_at {
            return Err(damaged(toc_at, "sections within the file"));
        }
        let (symbols, symbol_places) = read_symbols(&mut file, symbols_at, toc_at)?;
        let mut file = BufReader::with_capacity(256 << 10, file);
        file.seek(SeekFrom::Start(series_at)).map_err(BlockError::io(READ))?;
        Ok(Self { file, version, symbols, symbol_places, at: series_at, series_end })
    }

    /// The next series; `None` after the last.
    pub(super) fn next_series(&mut self) -> Result<Option<Entry>, BlockError> {
        // Zero bytes between entries are padding: an entry's length is never zero.
        let (mut start, mut first) = (self.at, 0);
        while first == 0 {
            if self.at >= self.series_end {
                return Ok(None);
            }
            start = self.at;
            first = self.byte()?;
        }
        let mut length = u64::from(first & 0x7f);
        let (mut shift, mut byte) = (7, first);
        while byte & 0x80 != 0 {
            byte = self.byte()?;
            length |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if shift > 35 {
                return Err(damaged(start, "a series' length"));
            }
        }
        if self.at + length + 4 > self.series_end {
            return Err(damaged(start, "a series within its section"));
        }
        let mut bytes = Vec::new();
        let read = self.file.by_ref().take(length + 4).read_to_end(&mut bytes);
        read.map_err(BlockError::io(READ))?;
        self.at += length + 4;
        let body_bytes = usize::try_from(length).unwrap_or(usize::MAX);
        let (body, crc) = bytes.split_at_checked(body_bytes).ok_or(damaged(start, "a series"))?;
        if Cursor::new(crc).u32().map_err(ended(start))? != crc32c::crc32c(body) {
            return Err(damaged(start, "a matching checksum"));
        }
        let reference = if self.version == 1 { start } else { start / SERIES_ALIGN };
        self.entry(reference, body, start).map(Some)
    }

    fn byte(&mut self) -> Result<u8, BlockError> {
        let mut byte = [0];
        self.file.read_exact(&mut byte).map_err(BlockError::io(READ))?;
        self.at += 1;
        Ok(u8::from_be_bytes(byte))
    }

    fn entry(&self, reference: u64, body: &[u8], at: u64) -> Result<Entry, BlockError> {
        let mut cursor = Cursor::new(body);
        let ended = ended(at);
        let mut pairs = Vec::new();
        for _ in 0..cursor.count().map_err(&ended)? {
            let name = self.symbol(cursor.uvarint().map_err(&ended)?, at)?;
            let value = self.symbol(cursor.uvarint().map_err(&ended)?, at)?;
            pairs.push((name, value));
        }
        let labels = Labels::from_pairs(pairs).map_err(|_twice| damaged(at, "each label once"))?;
        let mut chunks: Vec<ChunkAt> = Vec::new();
        for _ in 0..cursor.count().map_err(&ended)? {
            let chunk = match chunks.last() {
                None => {
                    let first_t = cursor.varint().map_err(&ended)?;
                    let last_t = first_t.wrapping_add_unsigned(cursor.uvarint().map_err(&ended)?);
                    ChunkAt { first_t, last_t, reference: cursor.uvarint().map_err(&ended)? }
                }
                Some(last) => {
                    let first_t =
                        last.last_t.wrapping_add_unsigned(cursor.uvarint().map_err(&ended)?);
                    let last_t = first_t.wrapping_add_unsigned(cursor.uvarint().map_err(&ended)?);
                    let step = cursor.varint().map_err(&ended)?;
                    let reference = last.reference.wrapping_add_signed(step);
                    ChunkAt { first_t, last_t, reference }
                }
            };
            chunks.push(chunk);
        }
        Ok(Entry { reference, labels, chunks })
    }

    fn symbol(&self, number: u64, at: u64) -> Result<Arc<str>, BlockError> {
        let number = if self.version == 1 {
            self.symbol_places.binary_search(&number).ok()
        } else {
            usize::try_from(number).ok()
        };
        let symbol = number.and_then(|number| self.symbols.get(number));
        symbol.cloned().ok_or(damaged(at, "a symbol of that number"))
    }
}

fn read_at(file: &mut (impl Read + Seek), at: u64, count: u64) -> Result<Vec<u8>, BlockError> {
    file.seek(SeekFrom::Start(at)).map_err(BlockError::io(READ))?;
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes).map_err(BlockError::io(READ))?;
    Ok(bytes)
}

type Symbols = (Vec<Arc<str>>, Vec<u64>);

fn read_symbols(file: &mut (impl Read + Seek), at: u64, end: u64) -> Result<Symbols, BlockError> {
    let len = u64::from(Cursor::new(&read_at(file, at, 4)?).u32().map_err(ended(at))?);
    if at + 4 + len + 4 > end {
        return Err(damaged(at, "symbols within the file"));
    }
    let bytes = read_at(file, at + 4, len + 4)?;
    let body_bytes = usize::try_from(len).unwrap_or(usize::MAX);
    let (body, crc) = bytes.split_at_checked(body_bytes).ok_or(damaged(at, "more bytes"))?;
    if Cursor::new(crc).u32().map_err(ended(at))? != crc32c::crc32c(body) {
        return Err(damaged(at, "a matching checksum"));
    }
    let mut cursor = Cursor::new(body);
    let count = cursor.u32().map_err(ended(at))?;
    let (mut symbols, mut places) = (Vec::new(), Vec::new());
    for _ in 0..count {
        places.push(at + 4 + (body.len() - cursor.len()) as u64);
        let len = cursor.count().map_err(ended(at))?;
        let text = cursor.take(len).map_err(ended(at))?;
        let text = std::str::from_utf8(text).map_err(|_not_text| damaged(at, "UTF-8"))?;
        symbols.push(text.into());
    }
    Ok((symbols, places))
}

/// Writes an index of format 2: symbols first, series as they come, the rest at the end.
#[derive(Debug)]
pub(super) struct IndexWriter<W> {
    out: W,
    at: u64,
    symbols: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    postings: BTreeMap<(u32, u32), Vec<u32>>,
    all: Vec<u32>,
    series_at: u64,
    entry: Vec<u8>,
}

const WRITE: &str = "write the index";
const TOO_LARGE: BlockError = BlockError::Misuse("its index is too large; write shorter blocks");

impl<W: Write> IndexWriter<W> {
    pub(super) fn new(out: W, symbols: BTreeSet<Arc<str>>) -> Result<Self, BlockError> {
        let mut writer = Self {
            out,
            at: 0,
            symbols: HashMap::with_capacity(symbols.len()),
            texts: Vec::with_capacity(symbols.len()),
            postings: BTreeMap::new(),
            all: Vec::new(),
            series_at: 0,
            entry: Vec::new(),
        };
        writer.put(&MAGIC.to_be_bytes())?;
        writer.put(&[2])?;
        let mut body = u32_of(symbols.len())?.to_be_bytes().to_vec();
        for (number, symbol) in symbols.into_iter().enumerate() {
            put_text(&mut body, &symbol);
            writer.symbols.insert(Arc::clone(&symbol), u32_of(number)?);
            writer.texts.push(symbol);
        }
        writer.section(&body)?;
        writer.align(SERIES_ALIGN)?;
        writer.series_at = writer.at;
        Ok(writer)
    }

    /// Writes a series; they come in order of labels, their chunks in order of time.
    pub(super) fn series(&mut self, labels: &Labels, chunks: &[ChunkAt]) -> Result<(), BlockError> {
        self.align(SERIES_ALIGN)?;
        let reference = u32::try_from(self.at / SERIES_ALIGN).map_err(|_wide| TOO_LARGE)?;
        let mut body = std::mem::take(&mut self.entry);
        body.clear();
        put_uvarint(&mut body, labels.len() as u64);
        for label in labels {
            let pair = (self.symbol(&label.name)?, self.symbol(&label.value)?);
            put_uvarint(&mut body, u64::from(pair.0));
            put_uvarint(&mut body, u64::from(pair.1));
            self.postings.entry(pair).or_default().push(reference);
        }
        self.all.push(reference);
        put_uvarint(&mut body, chunks.len() as u64);
        let mut last: Option<&ChunkAt> = None;
        for chunk in chunks {
            match last {
                None => put_varint(&mut body, chunk.first_t),
                Some(last) => put_uvarint(&mut body, span(last.last_t, chunk.first_t)),
            }
            put_uvarint(&mut body, span(chunk.first_t, chunk.last_t));
            match last {
                None => put_uvarint(&mut body, chunk.reference),
                Some(last) => {
                    let step = chunk.reference.wrapping_sub(last.reference);
                    put_varint(&mut body, step.cast_signed());
                }
            }
            last = Some(chunk);
        }
        let mut head = Vec::with_capacity(5);
        put_uvarint(&mut head, body.len() as u64);
        self.put(&head)?;
        self.put(&body)?;
        self.put(&crc32c::crc32c(&body).to_be_bytes())?;
        self.entry = body;
        Ok(())
    }

    /// Writes postings, tables and contents.
    pub(super) fn finish(mut self) -> Result<(), BlockError> {
        let indices_at = self.at;
        self.align(POSTINGS_ALIGN)?;
        let postings_at = self.at;
        let postings = std::mem::take(&mut self.postings);
        let all = std::mem::take(&mut self.all);
        let mut table = u32_of(postings.len() + 1)?.to_be_bytes().to_vec();
        self.postings_entry(&mut table, ("", ""), &all)?;
        for ((name, value), references) in &postings {
            let text = |number: u32| self.texts.get(number as usize).map(Arc::clone);
            let (name, value) = text(*name).zip(text(*value)).ok_or(TOO_LARGE)?;
            self.postings_entry(&mut table, (&name, &value), references)?;
        }
        // Label indices are no longer used; the table that would name them is there, and empty.
        let indices_table_at = self.at;
        self.section(&0u32.to_be_bytes())?;
        let postings_table_at = self.at;
        self.section(&table)?;
        let mut toc = Vec::with_capacity(48);
        let contents = [
            HEADER_BYTES,
            self.series_at,
            indices_at,
            indices_table_at,
            postings_at,
            postings_table_at,
        ];
        contents.iter().for_each(|at| toc.extend_from_slice(&at.to_be_bytes()));
        self.put(&toc)?;
        self.put(&crc32c::crc32c(&toc).to_be_bytes())?;
        self.out.flush().map_err(BlockError::io(WRITE))
    }

    fn postings_entry(
        &mut self,
        table: &mut Vec<u8>,
        (name, value): (&str, &str),
        references: &[u32],
    ) -> Result<(), BlockError> {
        self.align(POSTINGS_ALIGN)?;
        table.push(2);
        put_text(table, name);
        put_text(table, value);
        put_uvarint(table, self.at);
        let mut body = u32_of(references.len())?.to_be_bytes().to_vec();
        references.iter().for_each(|number| body.extend_from_slice(&number.to_be_bytes()));
        self.section(&body)
    }

    fn symbol(&self, text: &str) -> Result<u32, BlockError> {
        let missing = BlockError::Misuse("a label is not among the symbols");
        self.symbols.get(text).copied().ok_or(missing)
    }

    fn section(&mut self, body: &[u8]) -> Result<(), BlockError> {
        self.put(&u32_of(body.len())?.to_be_bytes())?;
        self.put(body)?;
        self.put(&crc32c::crc32c(body).to_be_bytes())
    }

    fn align(&mut self, to: u64) -> Result<(), BlockError> {
        let padding = usize::try_from(self.at.next_multiple_of(to) - self.at).unwrap_or(0);
        self.put([0; 16].get(..padding).unwrap_or_default())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BlockError> {
        self.out.write_all(bytes).map_err(BlockError::io(WRITE))?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

fn span(from: i64, to: i64) -> u64 {
    to.wrapping_sub(from).cast_unsigned()
}

fn u32_of(count: usize) -> Result<u32, BlockError> {
    u32::try_from(count).map_err(|_wide| TOO_LARGE)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}
