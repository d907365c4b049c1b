//! Ticks to bytes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use stoa_model::STALE_NAN_BITS;
use zstd::stream::raw::{self, CParameter, InBuffer, Operation as _, OutBuffer};

use super::number::Numbers;
use super::slots::{Clock, FLAG_DEFINE, FLAG_RESET, Op, SLOTS_MAX, put_bits, put_run};
use super::varint::{put_i64, put_text, put_u64};
use super::{
    FrameError, LEVEL, PAYLOAD_BYTES_MAX, RAW_BYTES_MAX, SAMPLES_MAX, TICKS_MAX, WINDOW_LOG,
    WINDOW_LOG_SPOOL,
};
use crate::convert::kind_code;
use crate::tick::{FamilyInfo, Series, Tick};

/// No slot yet for a series id.
const NO_SLOT: u32 = u32::MAX;

/// Ended series that are tolerated in the dictionary before it starts over, beyond as many as are
/// alive.
const DEAD_SLOTS_MAX: usize = 1024;

/// Encodes the ticks of one leg on one call, in order. After an error it must not be used again.
pub struct Encoder {
    zstd: raw::Encoder<'static>,
    /// Series id to slot, [`NO_SLOT`] where there is none.
    slot_of: Vec<u32>,
    slots: Vec<Numbers>,
    /// Whether the last word of a slot's series was that it has ended; one that was scraped may return.
    ended: Vec<bool>,
    /// How many have.
    dead: usize,
    families: HashMap<Arc<FamilyInfo>, u64>,
    clock: Clock,
    /// Reused: per slot this tick's value.
    row: Vec<Option<f64>>,
    raw: Vec<u8>,
}

impl Encoder {
    /// A fresh codec for a call; its first payload is a key frame.
    ///
    /// # Errors
    /// [`FrameError::Compress`] when the compressor cannot be had.
    pub fn new() -> Result<Self, FrameError> {
        Self::with_window(WINDOW_LOG)
    }

    /// One for a record of the spool, which is a key frame.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_spool() -> Result<Self, FrameError> {
        Self::with_window(WINDOW_LOG_SPOOL)
    }

    fn with_window(window_log: u32) -> Result<Self, FrameError> {
        let mut zstd = raw::Encoder::new(LEVEL).map_err(FrameError::Compress)?;
        for parameter in [
            CParameter::WindowLog(window_log),
            // Tables for what the window holds; those of the level are for megabytes.
            CParameter::HashLog(window_log + 1),
            CParameter::ChainLog(window_log),
            CParameter::ChecksumFlag(false),
            CParameter::ContentSizeFlag(false),
        ] {
            zstd.set_parameter(parameter).map_err(FrameError::Compress)?;
        }
        Ok(Self {
            zstd,
            slot_of: Vec::new(),
            slots: Vec::new(),
            ended: Vec::new(),
            dead: 0,
            families: HashMap::new(),
            clock: Clock::default(),
            row: Vec::new(),
            raw: Vec::new(),
        })
    }

    /// The payload of these ticks, in order.
    ///
    /// # Errors
    /// [`FrameError::Limit`] when they are over [`TICKS_MAX`], [`SAMPLES_MAX`], [`RAW_BYTES_MAX`]
    /// or [`PAYLOAD_BYTES_MAX`]; [`FrameError::Compress`] when the compressor fails.
    pub fn encode(&mut self, ticks: &[&Tick]) -> Result<Bytes, FrameError> {
        self.raw.clear();
        if ticks.len() > TICKS_MAX {
            return Err(FrameError::Limit { what: "ticks", limit: TICKS_MAX });
        }
        if ticks.iter().map(|tick| tick.samples.len()).sum::<usize>() > SAMPLES_MAX {
            return Err(FrameError::Limit { what: "samples", limit: SAMPLES_MAX });
        }
        for tick in ticks {
            self.put_tick(tick);
        }
        if self.raw.len() > RAW_BYTES_MAX {
            return Err(FrameError::Limit { what: "bytes unpacked", limit: RAW_BYTES_MAX });
        }
        let payload = self.compress()?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(FrameError::Limit { what: "bytes", limit: PAYLOAD_BYTES_MAX });
        }
        Ok(payload.into())
    }

    fn put_tick(&mut self, tick: &Tick) {
        let unknown = |id: u32| self.slot_of.get(id as usize).is_none_or(|&slot| slot == NO_SLOT);
        let mut fresh: Vec<&Arc<Series>> =
            tick.samples.iter().map(|(series, _)| series).filter(|s| unknown(s.id)).collect();
        let mut flags = 0;
        let grown = self.slots.len() + fresh.len();
        // Not those that are in this tick: it may be of a few of all series only.
        let alive = grown - self.dead;
        if !self.slots.is_empty()
            && !fresh.is_empty()
            && (grown > SLOTS_MAX || self.dead > alive + DEAD_SLOTS_MAX)
        {
            flags |= FLAG_RESET;
            self.slot_of.clear();
            self.slots.clear();
            self.ended.clear();
            self.dead = 0;
            self.families.clear();
            fresh = tick.samples.iter().map(|(series, _)| series).collect();
        }
        if !fresh.is_empty() {
            flags |= FLAG_DEFINE;
        }
        self.raw.push(flags);
        put_i64(&mut self.raw, self.clock.residual_of(tick.t));
        if !fresh.is_empty() {
            put_u64(&mut self.raw, fresh.len() as u64);
            for series in fresh {
                self.define(series);
            }
        }
        self.put_row(tick);
    }

    fn define(&mut self, series: &Series) {
        let next = self.families.len() as u64;
        let family = *self.families.entry(Arc::clone(&series.family)).or_insert(next);
        put_u64(&mut self.raw, family);
        if family == next {
            self.raw.push(kind_code(series.family.kind));
            put_text(&mut self.raw, &series.family.name);
            put_text(&mut self.raw, &series.family.help);
            put_text(&mut self.raw, &series.family.unit);
        }
        put_u64(&mut self.raw, series.labels.len() as u64);
        for label in &series.labels {
            put_text(&mut self.raw, &label.name);
            put_text(&mut self.raw, &label.value);
        }
        let id = series.id as usize;
        if self.slot_of.len() <= id {
            self.slot_of.resize(id + 1, NO_SLOT);
        }
        if let Some(slot) = self.slot_of.get_mut(id) {
            *slot = u32::try_from(self.slots.len()).unwrap_or(NO_SLOT);
        }
        self.slots.push(Numbers::default());
        self.ended.push(false);
    }

    fn put_row(&mut self, tick: &Tick) {
        self.row.clear();
        self.row.resize(self.slots.len(), None);
        for (series, value) in &tick.samples {
            let slot = self.slot_of.get(series.id as usize).copied().unwrap_or(NO_SLOT);
            if let Some(cell) = self.row.get_mut(slot as usize) {
                *cell = Some(*value);
                let ends = value.to_bits() == STALE_NAN_BITS;
                if let Some(ended) = self.ended.get_mut(slot as usize)
                    && *ended != ends
                {
                    *ended = ends;
                    self.dead = if ends { self.dead + 1 } else { self.dead.saturating_sub(1) };
                }
            }
        }
        let mut values = Vec::with_capacity(self.slots.len() * 2);
        let mut ops = Vec::with_capacity(self.slots.len() / 2);
        let mut run: Option<(Op, usize)> = None;
        for (numbers, cell) in self.slots.iter_mut().zip(&self.row) {
            let op = put_value(numbers, *cell, &mut values);
            run = match run {
                Some((last, count)) if last == op => Some((op, count + 1)),
                Some((last, count)) => {
                    put_run(&mut ops, last, count);
                    Some((op, 1))
                }
                None => Some((op, 1)),
            };
        }
        if let Some((op, count)) = run {
            put_run(&mut ops, op, count);
        }
        put_u64(&mut self.raw, ops.len() as u64);
        self.raw.extend_from_slice(&ops);
        self.raw.extend_from_slice(&values);
    }

    fn compress(&mut self) -> Result<Vec<u8>, FrameError> {
        let mut out = Vec::with_capacity(self.raw.len() / 2 + 256);
        let mut input = InBuffer::around(&self.raw);
        let mut chunk = [0_u8; 16 << 10];
        loop {
            let mut output = OutBuffer::around(&mut chunk[..]);
            self.zstd.run(&mut input, &mut output).map_err(FrameError::Compress)?;
            out.extend_from_slice(output.as_slice());
            if input.pos() >= self.raw.len() {
                break;
            }
        }
        loop {
            let mut output = OutBuffer::around(&mut chunk[..]);
            let left = self.zstd.flush(&mut output).map_err(FrameError::Compress)?;
            out.extend_from_slice(output.as_slice());
            if left == 0 {
                return Ok(out);
            }
        }
    }
}

#[cfg(test)]
impl Encoder {
    /// Any bytes in place of ticks, packed as ticks are.
    pub(super) fn compress_raw(&mut self, raw: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        self.raw = raw;
        self.compress()
    }
}

/// One series' part of a tick: what happened, with the value's bytes appended.
fn put_value(numbers: &mut Numbers, cell: Option<f64>, values: &mut Vec<u8>) -> Op {
    let Some(value) = cell else { return Op::Absent };
    let bits = value.to_bits();
    if bits == STALE_NAN_BITS {
        return Op::Stale;
    }
    if numbers.raw && bits == numbers.bits {
        return Op::Same;
    }
    let Some((integer, scale)) = numbers.integer_of(value) else {
        put_bits(values, bits ^ numbers.bits);
        numbers.learn_raw(bits);
        return Op::Raw;
    };
    let op = if scale > numbers.scale {
        values.push(scale);
        numbers.rescale(scale);
        Op::Rescale
    } else if numbers.raw || integer != numbers.predict() {
        Op::Delta
    } else {
        Op::Same
    };
    if op != Op::Same {
        put_i64(values, integer.wrapping_sub(numbers.predict()));
    }
    numbers.learn(integer);
    op
}
