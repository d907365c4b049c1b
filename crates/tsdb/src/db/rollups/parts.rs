//! Which time is read from where.

use std::sync::Arc;

use stoa_model::TimestampMs;

use super::Resolution;
use crate::Tier;
use crate::db::{Db, State};
use crate::tier::{TierBlock, ceil, floor};

/// A part of the time asked for, `start < t ≤ end`, and the block that has all of it if it is not the
/// samples'.
pub(in crate::db) struct Part {
    pub(in crate::db) start: TimestampMs,
    pub(in crate::db) end: TimestampMs,
    pub(in crate::db) held: Option<Arc<TierBlock>>,
}

/// Time of which something is gone, `start < t ≤ end`: of whole windows, so that it may begin before what
/// is asked for and end after it.
pub(in crate::db) struct Zone {
    pub(in crate::db) start: TimestampMs,
    pub(in crate::db) end: TimestampMs,
    pub(in crate::db) layers: Vec<Layer>,
}

/// A stretch of which a block of a tier has what is gone.
pub(in crate::db) struct Layer {
    pub(in crate::db) held: Arc<TierBlock>,
    pub(in crate::db) start: TimestampMs,
    pub(in crate::db) end: TimestampMs,
}

impl Db {
    /// Cuts the time asked for into parts, in order, and says which zones lie in it; at the bounds of
    /// these it is cut, too. No parts where no tier is to be read.
    pub(in crate::db) fn parts(
        &self,
        (start, end): (TimestampMs, TimestampMs),
        resolution: Resolution,
    ) -> (Vec<Part>, Vec<Zone>) {
        let state = self.state();
        let is_fit = |tier: &Tier| matches!(resolution, Resolution::Window(most) if *tier <= most);
        let is_asked = |held: &Arc<TierBlock>| {
            held.is_sealed_in(start, end) || (is_fit(&held.tier) && held.overlaps(start, end))
        };
        if !state.tiers.blocks.iter().any(is_asked) {
            return (Vec::new(), Vec::new());
        }
        let mut parts: Vec<Part> = all(&state, (start, end), resolution).into_iter().collect();
        let head_first = state.head.floor_t();
        // Of those that fit the coarsest first: it is the least to read.
        for tier in Tier::ALL.into_iter().rev().filter(is_fit) {
            let is_whole = |held: &&Arc<TierBlock>| held.span().1 < head_first && !held.is_stale();
            state.tiers.of(tier).filter(is_whole).for_each(|held| carve(&mut parts, held));
        }
        parts.sort_by_key(|part| part.start);
        let zones = zones(layers(&state, &parts));
        for zone in &zones {
            cut(&mut parts, zone.start);
            cut(&mut parts, zone.end);
        }
        (parts, zones)
    }

    /// Whether there may be samples in `start < t ≤ end`.
    pub(in crate::db) fn has_samples(&self, start: TimestampMs, end: TimestampMs) -> bool {
        let state = self.state();
        let is_there = |first: TimestampMs, last: TimestampMs| first <= end && last > start;
        let metas = state.blocks.iter().map(|block| &block.meta);
        is_there(state.head.floor_t(), state.head.max_t())
            || metas.into_iter().any(|meta| is_there(meta.first_t, meta.last_t))
    }
}

/// The time asked for in which there may be something, as whole windows if some are asked for.
fn all(
    state: &State,
    (start, end): (TimestampMs, TimestampMs),
    resolution: Resolution,
) -> Option<Part> {
    let spans = state.tiers.blocks.iter().map(|held| held.span());
    let blocks = state.blocks.iter().map(|block| (block.meta.first_t, block.meta.last_t));
    let head = (state.head.floor_t(), state.head.max_t());
    let join = |(low, high): (i64, i64), (a, b): (i64, i64)| (low.min(a), high.max(b));
    let (oldest, newest) = spans.chain(blocks).fold(head, join);
    let window_ms = match resolution {
        Resolution::Window(tier) => tier.window_ms(),
        Resolution::Finest => 1,
    };
    let start = floor(start.max(oldest).saturating_sub(1), window_ms);
    let end = ceil(end.min(newest), window_ms);
    (start < end).then_some(Part { start, end, held: None })
}

/// Gives a block the free time that lies in its span.
fn carve(parts: &mut Vec<Part>, held: &Arc<TierBlock>) {
    let (start, end) = held.span();
    let mut carved = Vec::with_capacity(parts.len() + 2);
    for part in parts.drain(..) {
        let (from, to) = (part.start.max(start), part.end.min(end));
        if part.held.is_some() || from >= to {
            carved.push(part);
            continue;
        }
        let free = [(part.start, from), (to, part.end)];
        let free = free.into_iter().filter(|(start, end)| start < end);
        carved.extend(free.map(|(start, end)| Part { start, end, held: None }));
        carved.push(Part { start: from, end: to, held: Some(Arc::clone(held)) });
    }
    *parts = carved;
}

fn cut(parts: &mut Vec<Part>, at: TimestampMs) {
    let place = parts.partition_point(|part| part.end <= at);
    if let Some(part) = parts.get_mut(place).filter(|part| part.start < at) {
        let behind = Part { start: at, end: part.end, held: part.held.clone() };
        part.end = at;
        parts.insert(place + 1, behind);
    }
}

/// Where coarser tiers have what is gone of that which parts are to be read from.
fn layers(state: &State, parts: &[Part]) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    for tier in Tier::ALL {
        for held in state.tiers.of(tier) {
            let gone = held.gone();
            if gone.is_empty() {
                continue;
            }
            let before = layers.len();
            let is_finer = |part: &&Part| part.held.as_ref().map(|held| held.tier) < Some(tier);
            for part in parts.iter().filter(is_finer) {
                for (start, end) in gone.within(part.start, part.end) {
                    let window_ms = tier.window_ms();
                    let (start, end) = (floor(start, window_ms), ceil(end, window_ms));
                    match layers.get_mut(before..).and_then(<[Layer]>::last_mut) {
                        Some(last) if start <= last.end => last.end = last.end.max(end),
                        _ => layers.push(Layer { held: Arc::clone(held), start, end }),
                    }
                }
            }
        }
    }
    layers
}

/// Layers that overlap are of one zone.
fn zones(mut layers: Vec<Layer>) -> Vec<Zone> {
    layers.sort_by_key(|layer| layer.start);
    let mut zones: Vec<Zone> = Vec::new();
    for layer in layers {
        match zones.last_mut() {
            Some(zone) if layer.start < zone.end => {
                zone.end = zone.end.max(layer.end);
                zone.layers.push(layer);
            }
            _ => {
                zones.push(Zone { start: layer.start, end: layer.end, layers: vec![layer] });
            }
        }
    }
    zones
}
