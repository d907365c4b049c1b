//! A block, written series by series.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;

use stoa_model::Labels;
use stoa_model::histogram::Histogram;

use super::chunks::{ChunksWriter, ENCODING_XOR};
use super::index::{ChunkAt, IndexWriter};
use super::meta::{Compaction, Meta, Stats};
use super::{BlockError, histogram, xor};

/// Samples of one chunk, as Prometheus cuts them.
pub const CHUNK_SAMPLES: usize = 120;

/// Writes a block: an index of format 2 and chunks of floats and native histograms.
///
/// `next_segment` is called with 1, 2 … for the files `chunks/000001` and so on; what it returns is
/// flushed when it is full. The caller makes files durable, writes the [`Meta`] that
/// [`Self::finish`] returns, and moves the directory into its place.
#[derive(Debug)]
pub struct BlockWriter<W, F> {
    index: IndexWriter<W>,
    chunks: ChunksWriter<W, F>,
    meta: Meta,
    last: Option<Labels>,
    entries: Vec<ChunkAt>,
}

impl<W: Write, F: FnMut(u32) -> io::Result<W>> BlockWriter<W, F> {
    /// Begins a block named `ulid`. `symbols` are the names and values of all labels of all series
    /// to come.
    ///
    /// # Errors
    /// [`BlockError`]; so of all others.
    pub fn new(
        ulid: String,
        symbols: BTreeSet<Arc<str>>,
        index: W,
        next_segment: F,
    ) -> Result<Self, BlockError> {
        let compaction = Compaction { level: 1, sources: vec![ulid.clone()] };
        let meta = Meta {
            ulid,
            min_time: i64::MAX,
            max_time: i64::MIN,
            stats: Stats::default(),
            compaction,
            version: 1,
        };
        Ok(Self {
            index: IndexWriter::new(index, symbols)?,
            chunks: ChunksWriter::new(next_segment),
            meta,
            last: None,
            entries: Vec::new(),
        })
    }

    /// Writes a series. Series come in order of labels, samples in order of time.
    ///
    /// # Errors
    /// [`BlockError::Misuse`] when they do not; [`BlockError::Io`].
    pub fn series(&mut self, labels: &Labels, samples: &[(i64, f64)]) -> Result<(), BlockError> {
        self.series_with(labels, samples, &[])
    }

    /// The same of a series that has native histograms too, at other instants than floats, or instead.
    ///
    /// # Errors
    /// As [`Self::series`].
    pub fn series_with(
        &mut self,
        labels: &Labels,
        samples: &[(i64, f64)],
        histograms: &[(i64, Histogram)],
    ) -> Result<(), BlockError> {
        if self.last.as_ref().is_some_and(|last| last >= labels) {
            return Err(BlockError::Misuse("series come out of order"));
        }
        let in_order = samples.is_sorted_by(|(a, _), (b, _)| a < b)
            && histograms.is_sorted_by(|(a, _), (b, _)| a < b);
        if (samples.is_empty() && histograms.is_empty()) || !in_order {
            return Err(BlockError::Misuse("a series without samples, or with them out of order"));
        }
        if !are_apart(samples, histograms) {
            return Err(BlockError::Misuse("a float and a histogram at one instant"));
        }
        self.entries.clear();
        let mut failed = None;
        each_chunk(samples, histograms, |first_t, last_t, encoding, data| {
            let put = self.chunks.put(encoding, &data);
            match put {
                Ok(reference) => self.entries.push(ChunkAt { first_t, last_t, reference }),
                Err(error) => failed = failed.take().or(Some(error)),
            }
            self.meta.min_time = self.meta.min_time.min(first_t);
            self.meta.max_time = self.meta.max_time.max(last_t.saturating_add(1));
        });
        if let Some(error) = failed {
            return Err(BlockError::io("write a chunk segment")(error));
        }
        self.index.series(labels, &self.entries)?;
        self.meta.stats.num_series += 1;
        self.meta.stats.num_samples += (samples.len() + histograms.len()) as u64;
        self.meta.stats.num_chunks += self.entries.len() as u64;
        self.last = Some(labels.clone());
        Ok(())
    }

    /// Ends the block and says what its `meta.json` is to hold.
    ///
    /// # Errors
    /// [`BlockError::Misuse`] when it has no series.
    pub fn finish(self) -> Result<Meta, BlockError> {
        if self.last.is_none() {
            return Err(BlockError::Misuse("it has no series"));
        }
        self.chunks.finish().map_err(BlockError::io("write a chunk segment"))?;
        self.index.finish()?;
        Ok(self.meta)
    }
}

/// Whether no instant has a float and a histogram; both are in order of time.
fn are_apart(samples: &[(i64, f64)], histograms: &[(i64, Histogram)]) -> bool {
    histograms.iter().all(|(t, _)| samples.binary_search_by_key(t, |(t, _)| *t).is_err())
}

/// Cuts the samples of a series into chunks: their first and last instants, encoding and data. Floats and
/// histograms are each in order of time, and at no common instant.
pub(crate) fn each_chunk(
    samples: &[(i64, f64)],
    histograms: &[(i64, Histogram)],
    mut put: impl FnMut(i64, i64, u8, Vec<u8>),
) {
    let (mut floats, mut rest) = (samples, histograms);
    let mut before = None;
    while !floats.is_empty() || !rest.is_empty() {
        // As many of the one kind as come before the next of the other.
        let until = rest.first().map(|(t, _)| *t);
        let own = floats.partition_point(|(t, _)| until.is_none_or(|until| *t <= until));
        let (part, later) = floats.split_at(own);
        floats = later;
        for part in part.chunks(CHUNK_SAMPLES) {
            if let (Some((first_t, _)), Some((last_t, _))) = (part.first(), part.last()) {
                put(*first_t, *last_t, ENCODING_XOR, xor::encode(part));
            }
        }
        let until = floats.first().map(|(t, _)| *t);
        let own = rest.partition_point(|(t, _)| until.is_none_or(|until| *t < until));
        let (part, later) = rest.split_at(own);
        rest = later;
        for part in histogram::cut(part, CHUNK_SAMPLES) {
            if let (Some((first_t, _)), Some((last_t, last))) = (part.first(), part.last()) {
                let (encoding, data) = histogram::encode(before, part);
                put(*first_t, *last_t, encoding, data);
                before = Some(last);
            }
        }
    }
}
