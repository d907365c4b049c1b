//! A block, series by series.

use std::io::{Read, Seek};

use stoa_model::Labels;
use stoa_model::histogram::Histogram;

use super::chunks::{ENCODING_XOR, Segment};
use super::histogram::{self, ENCODING_FLOAT, ENCODING_INTEGER};
use super::index::IndexReader;
use super::tombstones::Tombstones;
use super::{BlockError, Meta, xor};

/// The files of a block.
#[derive(Debug)]
pub struct BlockFiles<R> {
    /// `meta.json`, whole.
    pub meta: Vec<u8>,
    /// `index`.
    pub index: R,
    /// `chunks/*` in order of their names.
    pub segments: Vec<R>,
    /// `tombstones`, whole, if there are any.
    pub tombstones: Option<Vec<u8>>,
}

/// What of a block was not handed out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Chunks of native histograms, where these were not asked for.
    pub histogram_chunks: u64,
    /// Chunks of an encoding not known here.
    pub unknown_chunks: u64,
    /// Chunks that are missing, fail their checksum or do not decode.
    pub damaged_chunks: u64,
    /// Samples deleted since the block was written.
    pub deleted_samples: u64,
}

/// Reads a block.
#[derive(Debug)]
pub struct BlockReader<R> {
    meta: Meta,
    index: IndexReader<R>,
    segments: Vec<Segment<R>>,
    tombstones: Tombstones,
    left_out: LeftOut,
}

impl<R: Read + Seek> BlockReader<R> {
    /// Opens a block: reads its meta, the index's contents and symbols, and checks them.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn open(files: BlockFiles<R>) -> Result<Self, BlockError> {
        let meta = Meta::from_json(&files.meta)?;
        let segments: Result<Vec<_>, _> = files.segments.into_iter().map(Segment::open).collect();
        let tombstones = match files.tombstones {
            Some(bytes) => Tombstones::decode(&bytes)?,
            None => Tombstones::default(),
        };
        Ok(Self {
            meta,
            index: IndexReader::open(files.index)?,
            segments: segments?,
            tombstones,
            left_out: LeftOut::default(),
        })
    }

    /// What the block says of itself.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What was left out so far.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// The labels of the next series, with its samples in `samples`, in order of time; `None` after
    /// the last. Chunks that cannot be read are left out and counted.
    ///
    /// # Errors
    /// [`BlockError`] when the index is damaged or a file cannot be read.
    pub fn next_series(
        &mut self,
        samples: &mut Vec<(i64, f64)>,
    ) -> Result<Option<Labels>, BlockError> {
        self.next(samples, None)
    }

    /// The same with the series' native histograms in `histograms`, in order of time; whether they are
    /// valid is not checked.
    ///
    /// # Errors
    /// As [`Self::next_series`].
    pub fn next_series_with(
        &mut self,
        samples: &mut Vec<(i64, f64)>,
        histograms: &mut Vec<(i64, Histogram)>,
    ) -> Result<Option<Labels>, BlockError> {
        self.next(samples, Some(histograms))
    }

    fn next(
        &mut self,
        samples: &mut Vec<(i64, f64)>,
        mut histograms: Option<&mut Vec<(i64, Histogram)>>,
    ) -> Result<Option<Labels>, BlockError> {
        samples.clear();
        if let Some(histograms) = &mut histograms {
            histograms.clear();
        }
        let Some(entry) = self.index.next_series()? else { return Ok(None) };
        for chunk in &entry.chunks {
            let segment = usize::try_from(chunk.reference >> 32).unwrap_or(usize::MAX);
            let Some(segment) = self.segments.get_mut(segment) else {
                self.left_out.damaged_chunks += 1;
                continue;
            };
            let read = segment.chunk(chunk.reference & 0xffff_ffff);
            let before = samples.len();
            match read.map_err(BlockError::io("read a chunk segment"))? {
                Some(chunk) if chunk.encoding == ENCODING_XOR => {
                    if xor::decode(chunk.data, samples).is_err() {
                        samples.truncate(before);
                        self.left_out.damaged_chunks += 1;
                    }
                }
                Some(chunk) if [ENCODING_INTEGER, ENCODING_FLOAT].contains(&chunk.encoding) => {
                    let Some(histograms) = &mut histograms else {
                        self.left_out.histogram_chunks += 1;
                        continue;
                    };
                    let before = histograms.len();
                    if histogram::decode(chunk.encoding, chunk.data, histograms).is_err() {
                        histograms.truncate(before);
                        self.left_out.damaged_chunks += 1;
                    }
                }
                Some(_) => self.left_out.unknown_chunks += 1,
                None => self.left_out.damaged_chunks += 1,
            }
        }
        self.left_out.deleted_samples += self.tombstones.apply(entry.reference, samples);
        if let Some(histograms) = histograms {
            self.left_out.deleted_samples += self.tombstones.apply(entry.reference, histograms);
        }
        Ok(Some(entry.labels))
    }
}
