//! History from elsewhere, read into a bulk of the store's: text and Prometheus's blocks.
//!
//! A text names the same series over and over; what it calls them is remembered, so that labels are
//! understood once. Memory beside the bulk's: [`TEXT_BYTES_MAX`] of such names. Labels are held to the
//! limits agents are held to. Knows neither HTTP nor files: a request and a command line import alike.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};

use serde::{Deserialize, Serialize};
use stoa_exchange::exposition::{Format, Line, ReadError, Reader};
use stoa_exchange::prometheus_block::{BlockError, BlockReader};
use stoa_model::{Labels, MetricKind, TimestampMs};
use stoa_proto::convert::{LABEL_BYTES_MAX, LABELS_MAX};
use stoa_tsdb::{Bulk, BulkError, BulkSeries, BulkWritten};

use crate::store::Metadata;
use crate::store::metadata::{METRICS_MAX, TEXT_BYTES_MAX as TEXT_MAX};

/// Names of series remembered as a text writes them, in bytes; with more, the memory begins anew.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// What a remembered name takes beside its characters.
const TEXT_BYTES: usize = 64;

/// How many samples are read between two tellings of progress.
const PROGRESS_SAMPLES: u64 = 1 << 16;

/// Why reading stopped. The bulk has not been written then: nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The text is not in its format, or cannot be read.
    #[error(transparent)]
    Text(#[from] ReadError),
    /// The block is damaged, or cannot be read.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The samples cannot be taken.
    #[error(transparent)]
    Bulk(#[from] BulkError),
}

/// What a person is told about an import, in JSON too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportSummary {
    /// Series named.
    pub series: u64,
    /// Samples now stored.
    pub samples: u64,
    /// Samples left out: what was imported had their instant twice.
    pub duplicate: u64,
    /// Samples left out: older than the retention keeps.
    pub too_old: u64,
    /// Samples left out: more than five minutes in the future.
    pub too_new: u64,
    /// Samples left out: their series has more than 64 labels, or one over 1 KiB; a native histogram
    /// that is not valid or too large.
    pub over_limits: u64,
    /// Exemplars left out: Stoa keeps none.
    pub exemplars: u64,
    /// Chunks of native histograms left out: text, which is what goes over HTTP, has no place for them.
    pub histogram_chunks: u64,
    /// Chunks left out because they are damaged or of an unknown kind.
    pub damaged_chunks: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Bytes of those.
    pub block_bytes: u64,
    /// The first and last instant, milliseconds since 1970; absent while there is none.
    pub first_ms: Option<TimestampMs>,
    /// The last one.
    pub last_ms: Option<TimestampMs>,
}

impl ImportSummary {
    /// Adds what a bulk came to.
    pub fn add_written(&mut self, written: &BulkWritten) {
        let counts = written.counts;
        self.series += counts.series;
        self.samples += written.written;
        self.duplicate += written.duplicate;
        self.too_old += counts.too_old;
        self.too_new += counts.too_new;
        self.blocks += written.blocks;
        self.block_bytes += written.block_bytes;
        if counts.taken > 0 {
            self.first_ms = Some(self.first_ms.map_or(counts.first_t, |t| t.min(counts.first_t)));
            self.last_ms = Some(self.last_ms.map_or(counts.last_t, |t| t.max(counts.last_t)));
        }
    }

    /// Adds another import's.
    pub fn add(&mut self, other: &Self) {
        self.series += other.series;
        self.samples += other.samples;
        self.duplicate += other.duplicate;
        self.too_old += other.too_old;
        self.too_new += other.too_new;
        self.over_limits += other.over_limits;
        self.exemplars += other.exemplars;
        self.histogram_chunks += other.histogram_chunks;
        self.damaged_chunks += other.damaged_chunks;
        self.blocks += other.blocks;
        self.block_bytes += other.block_bytes;
        let both = [self.first_ms, other.first_ms];
        self.first_ms = both.into_iter().flatten().min();
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// What texts say about metrics (HELP, TYPE, UNIT), of [`METRICS_MAX`] names at most.
#[derive(Debug, Default)]
pub struct Descriptions(BTreeMap<String, Described>);

#[derive(Debug, Default)]
struct Described {
    kind: MetricKind,
    help: String,
    unit: String,
}

impl Descriptions {
    /// Hands over what is said about metrics of which nothing is known: what is said about others is
    /// newer.
    pub fn add_to(&self, metadata: &Metadata) {
        for (name, Described { kind, help, unit }) in &self.0 {
            if metadata.get(name).is_none() {
                metadata.describe(name, *kind, help, unit);
            }
        }
    }

    fn of(&mut self, name: &str) -> Option<&mut Described> {
        if !self.0.contains_key(name) && (self.0.len() >= METRICS_MAX || name.len() > TEXT_MAX) {
            return None;
        }
        Some(self.0.entry(name.to_owned()).or_default())
    }

    fn help(&mut self, name: &str, text: &str) {
        if let Some(described) = self.of(name) {
            text.get(..text.floor_char_boundary(TEXT_MAX))
                .unwrap_or_default()
                .clone_into(&mut described.help);
        }
    }

    fn unit(&mut self, name: &str, text: &str) {
        if let Some(described) = self.of(name).filter(|_| text.len() <= TEXT_MAX) {
            text.clone_into(&mut described.unit);
        }
    }
}

/// Reads into a bulk.
#[derive(Debug)]
pub struct Import<'a> {
    bulk: &'a mut Bulk,
    extra: &'a [(String, String)],
    summary: &'a mut ImportSummary,
    descriptions: Option<&'a mut Descriptions>,
}

impl<'a> Import<'a> {
    /// An import that gives every series `extra` labels, in place of its own of that name.
    pub fn new(
        bulk: &'a mut Bulk,
        extra: &'a [(String, String)],
        summary: &'a mut ImportSummary,
    ) -> Self {
        Self { bulk, extra, summary, descriptions: None }
    }

    /// The same that notes what texts say about metrics.
    #[must_use]
    pub fn describing(self, descriptions: &'a mut Descriptions) -> Self {
        Self { descriptions: Some(descriptions), ..self }
    }

    /// Reads a text; samples without a timestamp are of `now_ms`. `progress` is told the samples read
    /// so far, now and then.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn text(
        &mut self,
        source: impl Read,
        format: Format,
        now_ms: TimestampMs,
        mut progress: impl FnMut(u64),
    ) -> Result<(), ImportError> {
        let mut reader = Reader::new(source, format);
        let mut known = Known::new(TEXT_BYTES_MAX);
        let mut samples = 0u64;
        while let Some(line) = reader.next_line()? {
            let sample = match line {
                Line::Sample(sample) => sample,
                said => {
                    self.describe(&said);
                    continue;
                }
            };
            let series = match known.get(sample.series.as_str()) {
                Some(series) => Some(series),
                None => {
                    let labels = sample.series.labels().map_err(ReadError::Syntax)?;
                    let series = self.series(labels)?;
                    if let Some(series) = series {
                        known.insert(sample.series.as_str(), series);
                    }
                    series
                }
            };
            match series {
                Some(series) => {
                    self.summary.exemplars += u64::from(sample.exemplar.is_some());
                    self.bulk.push(series, sample.t_ms.unwrap_or(now_ms), sample.value)?;
                }
                None => self.summary.over_limits += 1,
            }
            samples += 1;
            if samples.is_multiple_of(PROGRESS_SAMPLES) {
                progress(samples);
            }
        }
        progress(samples);
        Ok(())
    }

    /// Reads a block; `progress` as for a text.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn block<R: Read + Seek>(
        &mut self,
        block: &mut BlockReader<R>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), ImportError> {
        let (mut samples, mut histograms, mut read) = (Vec::new(), Vec::new(), 0u64);
        while let Some(labels) = block.next_series_with(&mut samples, &mut histograms)? {
            let count = (samples.len() + histograms.len()) as u64;
            match self.series(labels)? {
                Some(series) => {
                    for (t, v) in &samples {
                        self.bulk.push(series, *t, *v)?;
                    }
                    for (t, histogram) in histograms.drain(..) {
                        let is_taken = self.bulk.push_histogram(series, t, histogram)?;
                        self.summary.over_limits += u64::from(!is_taken);
                    }
                }
                None => self.summary.over_limits += count,
            }
            let before = read / PROGRESS_SAMPLES;
            read += count;
            if read / PROGRESS_SAMPLES != before {
                progress(read);
            }
        }
        progress(read);
        let left_out = block.left_out();
        self.summary.histogram_chunks += left_out.histogram_chunks;
        self.summary.damaged_chunks += left_out.damaged_chunks + left_out.unknown_chunks;
        Ok(())
    }
}

impl Import<'_> {
    fn describe(&mut self, line: &Line<'_>) {
        let Some(descriptions) = &mut self.descriptions else { return };
        match line {
            Line::Help { name, text } => descriptions.help(name, text),
            Line::Unit { name, unit } => descriptions.unit(name, unit),
            Line::Type { name, kind } => {
                if let Some(described) = descriptions.of(name) {
                    described.kind = (*kind).into();
                }
            }
            Line::Sample(_) | Line::Comment(_) | Line::End => {}
        }
    }

    /// The series of these labels and the extra ones; `None` when they pass the limits.
    fn series(&mut self, labels: Labels) -> Result<Option<BulkSeries>, BulkError> {
        let labels = labelled(labels, self.extra);
        let fits = labels.len() <= LABELS_MAX
            && labels
                .iter()
                .all(|label| label.name.len().max(label.value.len()) <= LABEL_BYTES_MAX);
        if fits { self.bulk.series(&labels).map(Some) } else { Ok(None) }
    }
}

/// Series by what a text calls them.
#[derive(Debug)]
struct Known {
    by_text: HashMap<String, BulkSeries>,
    bytes: usize,
    bytes_max: usize,
}

impl Known {
    fn new(bytes_max: usize) -> Self {
        Self { by_text: HashMap::new(), bytes: 0, bytes_max }
    }

    fn get(&self, text: &str) -> Option<BulkSeries> {
        self.by_text.get(text).copied()
    }

    fn insert(&mut self, text: &str, series: BulkSeries) {
        let bytes = text.len() + TEXT_BYTES;
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            self.by_text.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.by_text.insert(text.to_owned(), series);
    }
}

/// Labels with some put in their place.
#[must_use]
pub fn labelled(labels: Labels, extra: &[(String, String)]) -> Labels {
    extra.iter().fold(labels, |labels, (name, value)| labels.with(name, value))
}

#[cfg(test)]
mod tests;
