//! A corpus: a machine's readings as they were taken, kept in one file to measure with.
//!
//! The file is text lines under zstd, written tick by tick, so that a recording that was cut off
//! is whole up to about its last minute; `docs/formats/corpus.md` shows each line. Values keep all
//! their bits. The writer takes the agent's own [`Tick`]s, the reader gives them back.
//!
//! Bounds: a line of [`LINE_BYTES_MAX`]; what is known of each series, nothing of past ticks.

mod reader;
mod writer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stoa_model::{TimestampMs, is_stale};
use stoa_proto::tick::{Series, Tick};

pub(crate) use reader::CorpusReader;
pub(crate) use writer::CorpusWriter;

/// The first line.
const MAGIC: &str = "stoa-corpus 1";

/// The longest line that is read: a series' labels are far shorter.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What a corpus says of itself, in its second line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// Between two ticks, milliseconds.
    pub(crate) interval_ms: u64,
    /// The program that recorded, and its version.
    pub(crate) recorded_by: String,
    /// When it began, milliseconds since 1970.
    pub(crate) began_ms: TimestampMs,
}

/// What is different from the tick before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changes {
    /// When it was read.
    pub(crate) t: TimestampMs,
    /// Series whose value is another one (a stale marker: it ended with this tick), or, with
    /// `None`, that were not read. Whatever is not named is as in the tick before.
    pub(crate) changes: Vec<(u32, Option<f64>)>,
}

/// A place in a corpus: all values as of one tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    /// By series; `None`: not read in this tick.
    values: Vec<Option<f64>>,
    ended: Vec<u32>,
}

impl Cursor {
    /// Goes to the next tick.
    pub(crate) fn step(&mut self, next: &Changes) {
        for series in self.ended.drain(..) {
            set(&mut self.values, series, None);
        }
        for &(series, value) in &next.changes {
            set(&mut self.values, series, value);
            if value.is_some_and(is_stale) {
                self.ended.push(series);
            }
        }
    }

    /// Everything that was read in this tick, told as of `t`.
    pub(crate) fn tick(&self, series: &[Arc<Series>], t: TimestampMs) -> Tick {
        let read = series.iter().zip(&self.values);
        let samples = read.filter_map(|(series, value)| Some((Arc::clone(series), (*value)?)));
        Tick { t, samples: samples.collect() }
    }
}

fn set(values: &mut Vec<Option<f64>>, series: u32, value: Option<f64>) {
    let Ok(at) = usize::try_from(series) else { return };
    if values.len() <= at {
        values.resize(at + 1, None);
    }
    if let Some(place) = values.get_mut(at) {
        *place = value;
    }
}

/// The whole number a value is, if it is one that arithmetic gives back exactly.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = value.abs() <= EXACT && value.fract() == 0.0;
    // Minus zero is not what 0 + 0 gives.
    if !is_whole || (value == 0.0 && value.is_sign_negative()) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53, checked above")]
    let number = value as i64;
    Some(number)
}

#[cfg(test)]
mod tests;
