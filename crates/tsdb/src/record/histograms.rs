//! Native histograms in the log, beside the batch they came with.
//!
//! Floats, histograms and marks of one call stand in one record, so that all of them are there after a
//! crash or none is. `docs/formats/head.md` has every byte.

use std::sync::Arc;

use super::BatchRecord;
use crate::batch::BATCH_SAMPLES_MAX;
use crate::bytes::{Cursor, Malformed, put_bytes, put_varint, put_zigzag};
use crate::chunk::{Effort, decode_histograms, encode_histograms};
use crate::{HistogramSample, SeriesRef};

/// A batch with histograms as the log keeps it.
#[derive(Debug, PartialEq)]
pub(crate) struct HistogramsRecord {
    pub(crate) batch: BatchRecord,
    pub(crate) histograms: Vec<HistogramSample>,
}

/// Appends a batch, as `put_batch` writes it, and the histograms that came with it.
pub(crate) fn put_histograms(
    out: &mut Vec<u8>,
    histograms: &[HistogramSample],
    put_batch: impl FnOnce(&mut Vec<u8>),
) {
    let mut batch = Vec::new();
    put_batch(&mut batch);
    put_bytes(out, &batch);
    put_varint(out, histograms.len() as u64);
    let (mut last_series, mut last_t) = (0, 0i64);
    let mut chunk = Vec::new();
    for HistogramSample { t_ms, series, histogram } in histograms {
        put_zigzag(out, i64::from(series.0) - last_series);
        put_zigzag(out, t_ms.wrapping_sub(last_t));
        (last_series, last_t) = (i64::from(series.0), *t_ms);
        chunk.clear();
        // One that is valid and not too large, as this one was found to be, has this form always.
        let _encoded =
            encode_histograms(std::slice::from_ref(histogram), Effort::Fresh, &mut chunk);
        put_bytes(out, &chunk);
    }
}

impl HistogramsRecord {
    /// Reads a batch with histograms; it holds at most [`BATCH_SAMPLES_MAX`] of these, each one
    /// that is storable.
    pub(crate) fn get(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut body = Cursor::new(cursor.bytes()?);
        let batch = BatchRecord::get(&mut body)?;
        body.end()?;
        let count = cursor.count(3)?;
        if count > BATCH_SAMPLES_MAX {
            return Err(Malformed("batch of too many histograms"));
        }
        let mut histograms = Vec::with_capacity(count);
        let (mut last_series, mut last_t) = (0i64, 0i64);
        let mut decoded = Vec::new();
        for _ in 0..count {
            last_series = last_series.wrapping_add(cursor.zigzag()?);
            last_t = last_t.wrapping_add(cursor.zigzag()?);
            let series = u32::try_from(last_series).ok();
            let series = series.ok_or(Malformed("series reference over 32 bits"))?;
            decode_histograms(cursor.bytes()?, 1, &mut decoded)?;
            let histogram = decoded.pop().ok_or(Malformed("no histogram"))?;
            let (t_ms, series, histogram) = (last_t, SeriesRef(series), Arc::new(histogram));
            let sample = HistogramSample { t_ms, series, histogram };
            if !sample.is_storable() {
                return Err(Malformed("a histogram that is none, or too large"));
            }
            histograms.push(sample);
        }
        Ok(Self { batch, histograms })
    }
}
