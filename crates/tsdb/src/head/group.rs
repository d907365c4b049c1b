//! The series of one sender, which share their timestamps.
//!
//! A group has two open windows. The **live** one takes rows in order of time; the **late** one takes
//! rows from before the newest, in whatever order they come, so that a sender which returns after
//! hours and sends live data first fills both side by side. A window is sealed into chunks when it
//! is full, or when its next tick lies in another block range: no chunk crosses a block boundary.
//!
//! Equal instants are compared before a sample is taken: against both open windows always, against a
//! sealed window only when the instant is one of its ticks.

use std::collections::HashMap;
use std::sync::Arc;

use stoa_model::TimestampMs;

use super::column::Column;
use super::postings::Pair;
use super::refs::Refs;
use super::sealed::{Sealed, Ticks};
use crate::{Appended, GroupId, Options, Row, SeriesRef};

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) members: Vec<Option<Member>>,
    free: Vec<u32>,
    by_labels: HashMap<Arc<[Pair]>, u32>,
    live: Vec<TimestampMs>,
    late: Vec<TimestampMs>,
    /// The newest tick ever; what is not after it is late.
    pub(crate) last_t: TimestampMs,
    /// The ticks of every sealed window that still has chunks.
    windows: Vec<Arc<Ticks>>,
    /// Members not yet defined in the log.
    fresh: Vec<u32>,
    /// Since which checkpoint's log all others are defined there.
    pub(crate) defined_since: u64,
}

/// One series of a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) series: SeriesRef,
    pub(crate) pairs: Arc<[Pair]>,
    live: Column,
    late: Option<Box<Column>>,
    pub(crate) sealed: Vec<Sealed>,
    /// Found without data at the last collection of garbage; goes at the next.
    idle: bool,
}

impl Member {
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.late.is_none() && self.sealed.is_empty()
    }

    fn sealed_at(&self, t: TimestampMs) -> Option<f64> {
        // A chunk that does not decode was damaged in memory; there is nothing to compare with.
        self.sealed.iter().find_map(|sealed| sealed.find(t).ok().flatten())
    }
}

impl Group {
    pub(crate) fn new(id: GroupId) -> Self {
        Self {
            id,
            members: Vec::new(),
            free: Vec::new(),
            by_labels: HashMap::new(),
            live: Vec::new(),
            late: Vec::new(),
            last_t: TimestampMs::MIN,
            windows: Vec::new(),
            fresh: Vec::new(),
            defined_since: 0,
        }
    }

    pub(crate) fn find(&mut self, pairs: &[Pair]) -> Option<SeriesRef> {
        let slot = *self.by_labels.get(pairs)?;
        let member = self.members.get_mut(slot as usize)?.as_mut()?;
        member.idle = false;
        Some(member.series)
    }

    /// Adds a series and says its slot.
    pub(crate) fn add(&mut self, series: SeriesRef, pairs: Arc<[Pair]>, defined: bool) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            u32::try_from(self.members.len() - 1).unwrap_or(u32::MAX)
        });
        let member = Member {
            series,
            pairs: Arc::clone(&pairs),
            live: Column::default(),
            late: None,
            sealed: Vec::new(),
            idle: false,
        };
        if let Some(place) = self.members.get_mut(slot as usize) {
            *place = Some(member);
        }
        self.by_labels.insert(pairs, slot);
        if !defined {
            self.fresh.push(slot);
        }
        slot
    }

    /// The series a log since checkpoint `since` must define before it names them.
    pub(crate) fn undefined(&self, since: u64) -> Vec<&Member> {
        if self.defined_since == since {
            let fresh = self.fresh.iter().filter_map(|slot| self.members.get(*slot as usize));
            return fresh.flatten().collect();
        }
        self.members.iter().flatten().collect()
    }

    /// How many members were never defined.
    pub(crate) fn fresh_count(&self) -> usize {
        self.fresh.len()
    }

    /// Notes that the log since checkpoint `since` defines all members but those added after there
    /// were `fresh_count` undefined ones.
    pub(crate) fn set_defined(&mut self, since: u64, fresh_count: usize) {
        self.fresh.drain(..fresh_count.min(self.fresh.len()));
        self.defined_since = since;
    }

    /// Takes one row. All its series are members.
    pub(crate) fn push(
        &mut self,
        row: &Row,
        refs: &Refs,
        options: &Options,
        serials: &mut u64,
        counts: &mut Appended,
    ) {
        let t = row.t_ms;
        if row.samples.is_empty() {
            return;
        }
        let is_new = t > self.last_t;
        if !is_new && self.live.last() != Some(&t) {
            return self.push_late(row, refs, options, serials, counts);
        }
        if is_new {
            let crosses = self
                .live
                .first()
                .is_some_and(|first| options.block_start(*first) != options.block_start(t));
            if crosses || self.live.len() >= options.window_ticks() {
                self.seal_live(serials);
            }
            self.live.push(t);
            self.last_t = t;
        }
        let tick = self.live.len() - 1;
        for (series, v) in &row.samples {
            let Some(place) = refs.get(*series) else { continue };
            let Some(Some(member)) = self.members.get_mut(place.slot as usize) else { continue };
            match member.live.get(tick) {
                None => {
                    member.live.insert(tick, *v);
                    counts.stored += 1;
                }
                Some(there) => count_repeat(there, *v, counts),
            }
        }
    }

    fn push_late(
        &mut self,
        row: &Row,
        refs: &Refs,
        options: &Options,
        serials: &mut u64,
        counts: &mut Appended,
    ) {
        let t = row.t_ms;
        let live_tick = self.live.binary_search(&t).ok();
        let mut late_tick = self.late.iter().position(|tick| *tick == t);
        let is_sealed = self.windows.iter().any(|ticks| ticks.has(t));
        for (series, v) in &row.samples {
            let Some(place) = refs.get(*series) else { continue };
            let Some(Some(member)) = self.members.get_mut(place.slot as usize) else { continue };
            let there = live_tick
                .and_then(|tick| member.live.get(tick))
                .or_else(|| member.late.as_ref()?.get(late_tick?))
                .or_else(|| if is_sealed { member.sealed_at(t) } else { None });
            if let Some(there) = there {
                count_repeat(there, *v, counts);
                continue;
            }
            let tick = match late_tick {
                Some(tick) => tick,
                None => {
                    if self.late.len() >= options.window_ticks() {
                        self.seal_late(options, serials);
                    }
                    self.late.push(t);
                    self.late.len() - 1
                }
            };
            late_tick = Some(tick);
            let Some(Some(member)) = self.members.get_mut(place.slot as usize) else { continue };
            member.late.get_or_insert_default().insert(tick, *v);
            counts.stored += 1;
        }
    }

    fn seal_live(&mut self, serials: &mut u64) {
        let times = std::mem::take(&mut self.live);
        if times.is_empty() {
            return;
        }
        let ticks = self.add_window(times, serials);
        let mut scratch = Vec::new();
        for member in self.members.iter_mut().flatten().filter(|m| !m.live.is_empty()) {
            let column = std::mem::take(&mut member.live);
            let sealed = Sealed::encode(&ticks, column.present(), &column.values(), &mut scratch);
            member.sealed.push(sealed);
        }
    }

    fn seal_late(&mut self, options: &Options, serials: &mut u64) {
        let times = std::mem::take(&mut self.late);
        let mut order: Vec<(TimestampMs, usize)> =
            times.iter().enumerate().map(|(tick, t)| (*t, tick)).collect();
        order.sort_unstable();
        let columns: Vec<(usize, Box<Column>)> = self
            .members
            .iter_mut()
            .enumerate()
            .filter_map(|(slot, member)| Some((slot, member.as_mut()?.late.take()?)))
            .collect();
        let mut scratch = Vec::new();
        let block_of = |(t, _): &(TimestampMs, usize)| options.block_start(*t);
        for part in order.chunk_by(|a, b| block_of(a) == block_of(b)) {
            let ticks = self.add_window(part.iter().map(|(t, _)| *t).collect(), serials);
            for (slot, column) in &columns {
                let mut present = super::column::Presence::default();
                let mut values = Vec::new();
                for (at, (_, tick)) in part.iter().enumerate() {
                    if let Some(v) = column.get(*tick) {
                        present.set(at);
                        values.push(v);
                    }
                }
                if let Some(Some(member)) = self.members.get_mut(*slot)
                    && !values.is_empty()
                {
                    member.sealed.push(Sealed::encode(&ticks, present, &values, &mut scratch));
                }
            }
        }
    }

    pub(crate) fn add_window(&mut self, times: Vec<TimestampMs>, serials: &mut u64) -> Arc<Ticks> {
        *serials += 1;
        let ticks = Arc::new(Ticks { serial: *serials, times: times.into() });
        self.windows.push(Arc::clone(&ticks));
        ticks
    }

    /// Seals what is open and has a tick before `boundary`.
    pub(crate) fn seal_before(
        &mut self,
        boundary: TimestampMs,
        options: &Options,
        serials: &mut u64,
    ) {
        if self.live.first().is_some_and(|t| *t < boundary) {
            self.seal_live(serials);
        }
        if self.late.iter().any(|t| *t < boundary) {
            self.seal_late(options, serials);
        }
    }

    /// Forgets the chunks of some windows.
    pub(crate) fn drop_sealed(&mut self, is_dropped: impl Fn(&Ticks) -> bool) {
        for member in self.members.iter_mut().flatten() {
            member.sealed.retain(|sealed| !is_dropped(&sealed.ticks));
            member.sealed.shrink_to(member.sealed.len() * 2);
        }
        self.windows.retain(|ticks| !is_dropped(ticks));
    }

    /// The first timestamp of all windows.
    pub(crate) fn first_t(&self) -> Option<TimestampMs> {
        let sealed = self.windows.iter().map(|ticks| ticks.first_t());
        sealed.chain(self.live.first().copied()).chain(self.late.iter().copied()).min()
    }

    /// Takes out the members that had no data at the last call and have none now.
    pub(crate) fn take_idle(&mut self) -> Vec<Member> {
        let mut taken = Vec::new();
        for (slot, place) in self.members.iter_mut().enumerate() {
            let Some(member) = place else { continue };
            if !member.is_empty() {
                member.idle = false;
            } else if !member.idle {
                member.idle = true;
            } else if let Some(member) = place.take() {
                let slot = u32::try_from(slot).unwrap_or(u32::MAX);
                if self.by_labels.get(&member.pairs) == Some(&slot) {
                    self.by_labels.remove(&member.pairs);
                }
                self.fresh.retain(|fresh| *fresh != slot);
                self.free.push(slot);
                taken.push(member);
            }
        }
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.iter().all(Option::is_none)
    }

    /// The open samples of a member in a range, in order of time.
    pub(crate) fn open_samples(
        &self,
        member: &Member,
        start: TimestampMs,
        end: TimestampMs,
    ) -> Vec<(TimestampMs, f64)> {
        let mut samples = Vec::new();
        let mut collect = |times: &[TimestampMs], column: &Column| {
            if column.is_empty() || !times.iter().any(|t| start <= *t && *t <= end) {
                return;
            }
            let pairs = column.present().ticks().zip(column.values());
            samples.extend(
                pairs
                    .filter_map(|(tick, v)| Some((*times.get(tick)?, v)))
                    .filter(|(t, _)| start <= *t && *t <= end),
            );
        };
        collect(&self.live, &member.live);
        if let Some(late) = &member.late {
            collect(&self.late, late);
            samples.sort_unstable_by_key(|(t, _)| *t);
        }
        samples
    }

    /// Whether a member has any sample in a range.
    pub(crate) fn has_samples(
        &self,
        member: &Member,
        start: TimestampMs,
        end: TimestampMs,
    ) -> bool {
        member.sealed.iter().any(|sealed| sealed.has_samples(start, end))
            || !self.open_samples(member, start, end).is_empty()
    }

    /// Samples and heap bytes of open columns and chunks.
    pub(crate) fn footprint(&self) -> (u64, u64) {
        let (mut samples, mut bytes) = (0u64, 0u64);
        for member in self.members.iter().flatten() {
            let columns = std::iter::once(&member.live).chain(member.late.as_deref());
            for column in columns {
                samples += column.present().count() as u64;
                bytes += column.heap_bytes() as u64;
            }
            for sealed in &member.sealed {
                samples += sealed.count() as u64;
                bytes += sealed.chunk.len() as u64;
            }
        }
        (samples, bytes)
    }
}

fn count_repeat(there: f64, v: f64, counts: &mut Appended) {
    if there.to_bits() == v.to_bits() {
        counts.duplicate += 1;
    } else {
        counts.conflicting += 1;
    }
}
