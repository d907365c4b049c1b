//! The series of one sender, which share their timestamps.
//!
//! A group has two open windows. The **live** one takes rows in order of time; the **late** one takes
//! rows from before the newest, in whatever order they come, so that a sender which returns after
//! hours and sends live data first fills both side by side. A window is sealed into chunks when it
//! is full, or when its next tick lies in another block range: no chunk crosses a block boundary.
//! The first window of a span is shorter, by a length that depends on the group, so that groups do not
//! all seal at once.
//!
//! Native histograms are kept apart, in whatever order they come (`super::histograms`), and sealed into
//! windows of their own.
//!
//! Equal instants are compared before a sample is taken: against both open windows always, against a
//! sealed window only when the instant is one of its ticks.

mod histograms;

use std::convert::Infallible;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::HashTable;
use stoa_model::TimestampMs;

use super::Shared;
use super::column::{Column, Presence};
use super::histograms::OpenHistograms;
use super::live::{Folded, Live, Put};
use super::postings::Pair;
use super::refs::Refs;
use super::window::{Slots, Window, WindowBuilder};
use crate::checkpoint::OpenKind;
use crate::select::Samples;
use crate::{Appended, GroupId, Options, Row, SeriesRef};

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    members: Vec<Option<Member>>,
    free: Vec<u32>,
    /// The labels of all members, one after the other.
    pairs: Vec<Pair>,
    /// How many of them belong to members that are gone.
    pairs_unused: usize,
    /// Slots, by the hash of their labels.
    by_labels: HashTable<u32>,
    live: Live,
    late: Vec<TimestampMs>,
    /// Open histograms; most groups never have any.
    histograms: Option<Box<OpenHistograms>>,
    /// No histogram is later: floats after it need not be compared with any.
    histograms_last_t: TimestampMs,
    /// The newest tick ever; what is not after it is late.
    pub(crate) last_t: TimestampMs,
    /// The sealed windows that are in no block yet.
    windows: Vec<Arc<Window>>,
    /// How many ticks the live window may have.
    live_max: usize,
    /// Members not yet defined in the log.
    fresh: Vec<u32>,
    /// Since which checkpoint's log all others are defined there.
    pub(crate) defined_since: u64,
}

/// One series of a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) series: SeriesRef,
    /// Where its labels begin among the group's, and how many there are.
    pairs_at: u32,
    pairs_len: u16,
    /// Found without data at the last collection of garbage; goes at the next.
    idle: bool,
    live: Folded,
    late: Option<Box<Column>>,
}

/// A member that was removed.
#[derive(Debug)]
pub(crate) struct Removed {
    pub(crate) series: SeriesRef,
    pub(crate) pairs: Vec<Pair>,
}

/// An open column as a checkpoint keeps it: presence and chunk as in a sealed window.
#[derive(Debug)]
pub(crate) struct OpenImage {
    pub(crate) what: OpenKind,
    /// Ascending.
    pub(crate) times: Vec<TimestampMs>,
    pub(crate) columns: Vec<(SeriesRef, Vec<u8>)>,
}

impl Group {
    pub(crate) fn new(id: GroupId) -> Self {
        Self {
            id,
            members: Vec::new(),
            free: Vec::new(),
            pairs: Vec::new(),
            pairs_unused: 0,
            by_labels: HashTable::new(),
            live: Live::default(),
            late: Vec::new(),
            histograms: None,
            histograms_last_t: TimestampMs::MIN,
            last_t: TimestampMs::MIN,
            windows: Vec::new(),
            live_max: 0,
            fresh: Vec::new(),
            defined_since: 0,
        }
    }

    pub(crate) fn member(&self, slot: u32) -> Option<&Member> {
        self.members.get(slot as usize)?.as_ref()
    }

    fn member_mut(&mut self, slot: u32) -> Option<&mut Member> {
        self.members.get_mut(slot as usize)?.as_mut()
    }

    /// The members with their slots, in order of these.
    pub(crate) fn members(&self) -> impl Iterator<Item = (u32, &Member)> {
        (0u32..).zip(&self.members).filter_map(|(slot, member)| Some((slot, member.as_ref()?)))
    }

    /// The labels of a member.
    pub(crate) fn pairs(&self, member: &Member) -> &[Pair] {
        let from = member.pairs_at as usize;
        self.pairs.get(from..from + usize::from(member.pairs_len)).unwrap_or_default()
    }

    pub(crate) fn windows(&self) -> &[Arc<Window>] {
        &self.windows
    }

    pub(crate) fn find(&mut self, pairs: &[Pair], shared: &Shared) -> Option<SeriesRef> {
        let hash = shared.hasher.hash_one(pairs);
        let is_it = |slot: &u32| self.member(*slot).is_some_and(|m| self.pairs(m) == pairs);
        let slot = *self.by_labels.find(hash, is_it)?;
        let member = self.member_mut(slot)?;
        member.idle = false;
        Some(member.series)
    }

    /// Adds a series and says its slot. `None` when it has too many labels.
    pub(crate) fn add(
        &mut self,
        series: SeriesRef,
        pairs: &[Pair],
        defined: bool,
        shared: &Shared,
    ) -> Option<u32> {
        let (pairs_at, pairs_len) =
            (u32::try_from(self.pairs.len()).ok()?, u16::try_from(pairs.len()).ok()?);
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                grow_little(&mut self.members, 1);
                self.members.push(None);
                u32::try_from(self.members.len() - 1).ok()?
            }
        };
        grow_little(&mut self.pairs, pairs.len());
        self.pairs.extend_from_slice(pairs);
        let (live, late) = (Folded::default(), None);
        let member = Member { series, pairs_at, pairs_len, idle: false, live, late };
        if let Some(place) = self.members.get_mut(slot as usize) {
            *place = Some(member);
        }
        let Self { by_labels, members, pairs: all, .. } = self;
        let hash_of = |slot: &u32| {
            let member = members.get(*slot as usize).and_then(Option::as_ref);
            let pairs = member.and_then(|m| {
                let from = m.pairs_at as usize;
                all.get(from..from + usize::from(m.pairs_len))
            });
            shared.hasher.hash_one(pairs.unwrap_or_default())
        };
        by_labels.insert_unique(shared.hasher.hash_one(pairs), slot, hash_of);
        if !defined {
            self.fresh.push(slot);
        }
        Some(slot)
    }

    /// The series a log since checkpoint `since` must define before it names them.
    pub(crate) fn undefined(&self, since: u64) -> Vec<&Member> {
        if self.defined_since == since {
            return self.fresh.iter().filter_map(|slot| self.member(*slot)).collect();
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
        if self.fresh.is_empty() {
            self.fresh = Vec::new();
        }
        self.defined_since = since;
    }

    /// Takes one row at a place of its own in the head; says how many of its series are not members.
    pub(crate) fn push(
        &mut self,
        place: u32,
        row: &Row,
        refs: &Refs,
        options: &Options,
        shared: &mut Shared,
        counts: &mut Appended,
    ) -> u64 {
        let t = row.t_ms;
        let slot_of = |series: SeriesRef| {
            refs.get(series).filter(|found| found.group == place).map(|found| found.slot)
        };
        let is_new = t > self.last_t;
        if !is_new && !self.live.is_newest(t) {
            return self.push_late(row, slot_of, options, shared, counts);
        }
        if is_new {
            if !row.samples.iter().any(|(series, _)| slot_of(*series).is_some()) {
                return row.samples.len() as u64;
            }
            self.begin_tick(t, row.samples.len(), options, shared);
        }
        let mut foreign = 0;
        // Those that do not come in order of slots.
        let mut run: Vec<(u32, f64)> = Vec::new();
        let beside_histograms = t <= self.histograms_last_t;
        for (series, v) in &row.samples {
            let Some(slot) = slot_of(*series) else {
                foreign += 1;
                continue;
            };
            if beside_histograms && self.has_histogram((slot, *series), t, shared) {
                counts.conflicting += 1;
                continue;
            }
            if !run.is_empty() {
                run.push((slot, *v));
                continue;
            }
            match self.live.put(slot, *v) {
                Put::Done => counts.stored += 1,
                Put::There(there) => count_repeat(there, *v, counts),
                Put::Between => run.push((slot, *v)),
            }
        }
        if !run.is_empty() {
            self.live.merge(&mut run, |there, v| match there {
                None => counts.stored += 1,
                Some(there) => count_repeat(there, v, counts),
            });
        }
        foreign
    }

    fn begin_tick(
        &mut self,
        t: TimestampMs,
        samples: usize,
        options: &Options,
        shared: &mut Shared,
    ) {
        let first = self.live.times.first();
        let crosses =
            first.is_some_and(|first| options.block_start(*first) != options.block_start(t));
        if crosses || (first.is_some() && self.live.times.len() >= self.live_max) {
            self.seal_live(shared);
            self.live_max = if crosses { self.first_max(options) } else { options.window_ticks() };
        } else if first.is_none() {
            self.live_max = self.first_max(options);
        }
        if self.live.is_full() {
            self.fold();
        }
        self.live.begin(t, samples);
        self.last_t = t;
    }

    /// How many ticks the first window of a span may have: the half to all of a window.
    fn first_max(&self, options: &Options) -> usize {
        let ticks = options.window_ticks();
        // Neighbouring numbers spread evenly: the golden ratio's multiples.
        let spread = self.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let spread = usize::try_from(spread).unwrap_or(0) % (ticks / 2 + 1);
        ticks - spread
    }

    fn fold(&mut self) {
        let first = self.live.folded();
        let Self { live, members, .. } = self;
        let mut scratch = Vec::new();
        live.fold(|slot, ticks, values| {
            if let Some(Some(member)) = members.get_mut(slot as usize) {
                member.live.extend(first, ticks, values, &mut scratch);
            }
        });
    }

    fn push_late(
        &mut self,
        row: &Row,
        slot_of: impl Fn(SeriesRef) -> Option<u32>,
        options: &Options,
        shared: &mut Shared,
        counts: &mut Appended,
    ) -> u64 {
        let t = row.t_ms;
        let live_tick = self.live.times.binary_search(&t).ok();
        let mut late_tick = self.late.iter().position(|tick| *tick == t);
        // What was sealed after the batch was looked up is in memory.
        let upto = shared.known.upto;
        let is_new = |w: &&Arc<Window>| w.serial > upto && w.has(t);
        let sealed: Vec<Arc<Window>> = self.windows.iter().filter(is_new).cloned().collect();
        let mut foreign = 0;
        for (series, v) in &row.samples {
            let slot = slot_of(*series);
            let Some((slot, member)) = slot.and_then(|slot| Some((slot, self.member(slot)?)))
            else {
                foreign += 1;
                continue;
            };
            let in_live = |tick| self.live.row_value(slot, tick).or_else(|| member.live.get(tick));
            if self.has_histogram((slot, *series), t, shared) {
                counts.conflicting += 1;
                continue;
            }
            // A chunk that cannot be read gives nothing to compare with.
            let in_sealed = |window: &Arc<Window>| window.sealed(slot)?.find(t).ok()?;
            let there = live_tick
                .and_then(in_live)
                .or_else(|| member.late.as_ref()?.get(late_tick?))
                .or_else(|| shared.known.get(*series, t))
                .or_else(|| sealed.iter().find_map(in_sealed));
            if let Some(there) = there {
                count_repeat(there, *v, counts);
                continue;
            }
            let tick = match late_tick {
                Some(tick) => tick,
                None => {
                    if self.late.len() >= options.window_ticks() {
                        self.seal_late(options, shared);
                    }
                    self.late.push(t);
                    self.late.len() - 1
                }
            };
            late_tick = Some(tick);
            if let Some(member) = self.member_mut(slot) {
                member.late.get_or_insert_default().insert(tick, *v);
                counts.stored += 1;
            }
        }
        foreign
    }

    fn seal_live(&mut self, shared: &mut Shared) {
        self.fold();
        let times = self.live.take_times();
        let mut builder = WindowBuilder::default();
        for (slot, member) in (0u32..).zip(&mut self.members) {
            let Some(member) = member else { continue };
            if member.live.is_empty() {
                continue;
            }
            let column = std::mem::take(&mut member.live);
            let present = column.gaps(times.len());
            builder.push(slot, column.count(), present.as_ref(), |out| column.encode(out));
        }
        self.add_window(builder, &times, shared);
    }

    fn seal_late(&mut self, options: &Options, shared: &mut Shared) {
        let times = std::mem::take(&mut self.late);
        let order = in_order(&times);
        let columns: Vec<(u32, Box<Column>)> = (0u32..)
            .zip(&mut self.members)
            .filter_map(|(slot, member)| Some((slot, member.as_mut()?.late.take()?)))
            .collect();
        let block_of = |(t, _): &(TimestampMs, usize)| options.block_start(*t);
        for part in order.chunk_by(|a, b| block_of(a) == block_of(b)) {
            let mut builder = WindowBuilder::default();
            for (slot, column) in &columns {
                let (present, values) = late_values(column, part);
                if values.is_empty() {
                    continue;
                }
                let gaps = (values.len() < part.len()).then_some(&present);
                builder.push(*slot, values.len(), gaps, |out| {
                    crate::chunk::encode_values(&values, out);
                });
            }
            let times: Vec<TimestampMs> = part.iter().map(|(t, _)| *t).collect();
            self.add_window(builder, &times, shared);
        }
    }

    /// Adds a window that was sealed. One without chunks is nothing.
    pub(crate) fn add_window(
        &mut self,
        builder: WindowBuilder,
        times: &[TimestampMs],
        shared: &mut Shared,
    ) {
        if builder.is_empty() || times.is_empty() {
            return;
        }
        shared.serials += 1;
        let window = builder.finish(shared.serials, times);
        shared.unsaved_bytes += window.bytes();
        self.note_histograms(&window);
        self.windows.push(Arc::new(window));
    }

    fn note_histograms(&mut self, window: &Window) {
        if window.has_histograms() {
            self.histograms_last_t = self.histograms_last_t.max(window.last_t());
        }
    }

    /// Adds a window whose chunks are in a file.
    pub(crate) fn restore_window(&mut self, window: Window) {
        self.note_histograms(&window);
        self.windows.push(Arc::new(window));
    }

    /// Seals what is open and has a wanted tick; of ticks of one span all before a boundary are, or none.
    pub(crate) fn seal_if(
        &mut self,
        is_wanted: impl Fn(TimestampMs) -> bool,
        options: &Options,
        shared: &mut Shared,
    ) {
        // It lies within one span.
        if self.live.times.first().is_some_and(|t| is_wanted(*t)) {
            self.seal_live(shared);
        }
        if self.late.iter().any(|t| is_wanted(*t)) {
            self.seal_late(options, shared);
        }
        if self.histograms.as_ref().is_some_and(|open| open.has(is_wanted)) {
            self.seal_histograms(options, shared);
        }
    }

    /// The open columns, live and late, as a checkpoint keeps them; histograms as the windows they
    /// would be sealed to.
    pub(crate) fn open_images(&self, options: &Options) -> Vec<OpenImage> {
        let mut images = Vec::new();
        let mut put = |what, times: Vec<TimestampMs>, columns: Vec<_>| {
            if !times.is_empty() {
                images.push(OpenImage { what, times, columns });
            }
        };
        let stored = |present: Option<&Presence>, values: &[f64]| {
            let mut stored = Vec::new();
            super::window::put_presence(&mut stored, present);
            crate::chunk::encode_values(values, &mut stored);
            stored
        };
        let (ticks, folded) = (self.live.times.len(), self.live.folded());
        let mut columns = Vec::new();
        for (slot, member) in self.members() {
            let (mut present, mut values) = (member.live.present(), member.live.values());
            for tick in folded..ticks {
                if let Some(v) = self.live.row_value(slot, tick) {
                    present.set(tick);
                    values.push(v);
                }
            }
            if !values.is_empty() {
                let gaps = (values.len() < ticks).then_some(&present);
                columns.push((member.series, stored(gaps, &values)));
            }
        }
        put(OpenKind::Live, self.live.times.clone(), columns);
        let order = in_order(&self.late);
        let late = self.members().filter_map(|(_, member)| {
            let (present, values) = late_values(member.late.as_ref()?, &order);
            let gaps = (values.len() < order.len()).then_some(&present);
            Some((member.series, stored(gaps, &values)))
        });
        put(OpenKind::Late, order.iter().map(|(t, _)| *t).collect(), late.collect());
        let parts = self.histograms.as_ref().map(|open| open.encode(options)).unwrap_or_default();
        for part in parts {
            let columns = part
                .builder
                .chunks()
                .filter_map(|(slot, stored)| Some((self.member(slot)?.series, stored.to_vec())));
            put(OpenKind::Sealed, part.times, columns.collect());
        }
        images
    }

    /// Begins the live window again that a checkpoint holds. False when another one is open.
    pub(crate) fn restore_live(&mut self, times: &[TimestampMs], options: &Options) -> bool {
        if self.live.times.is_empty() {
            self.live.times = times.to_vec();
            self.live_max = self.first_max(options);
        }
        self.live.times == times
    }

    /// Brings back a member's column of the live window.
    pub(crate) fn restore_column(&mut self, slot: u32, column: Folded) {
        if let Some(member) = self.member_mut(slot)
            && member.live.is_empty()
        {
            member.live = column;
        }
    }

    /// Forgets the chunks of some windows.
    pub(crate) fn drop_sealed(&mut self, is_dropped: impl Fn(&Window) -> bool) {
        self.windows.retain(|window| !is_dropped(window));
        self.windows.shrink_to(self.windows.len() * 2);
    }

    /// The first timestamp of all windows.
    pub(crate) fn first_t(&self) -> Option<TimestampMs> {
        let sealed = self.windows.iter().map(|window| window.first_t());
        let histograms = self.histograms.as_ref().and_then(|open| open.first_t());
        let sealed = sealed.chain(histograms);
        sealed.chain(self.live.times.first().copied()).chain(self.late.iter().copied()).min()
    }

    /// Takes out the members that had no data at the last call and have none now.
    pub(crate) fn take_idle(&mut self, shared: &Shared) -> Vec<Removed> {
        let mut busy = Slots::default();
        self.windows.iter().for_each(|window| busy.add_all(window.slots()));
        let histograms = self.histograms.iter().flat_map(|open| open.slots());
        histograms.for_each(|slot| busy.insert(slot));
        let mut taken = Vec::new();
        for slot in (0u32..).take(self.members.len()) {
            let in_row = self.live.row_values(slot).next().is_some();
            let Some(member) = self.member_mut(slot) else { continue };
            let is_empty =
                !busy.has(slot) && !in_row && member.live.is_empty() && member.late.is_none();
            if !is_empty || !member.idle {
                member.idle = is_empty;
                continue;
            }
            if let Some(removed) = self.remove(slot, shared) {
                taken.push(removed);
            }
        }
        if !taken.is_empty() {
            let Self { fresh, members, .. } = self;
            fresh.retain(|slot| members.get(*slot as usize).is_some_and(Option::is_some));
        }
        if self.pairs_unused > self.pairs.len() / 2 {
            self.compact_pairs();
        }
        taken
    }

    fn remove(&mut self, slot: u32, shared: &Shared) -> Option<Removed> {
        let member = self.members.get_mut(slot as usize)?.take()?;
        let pairs = self.pairs(&member).to_vec();
        let hash = shared.hasher.hash_one(pairs.as_slice());
        if let Ok(entry) = self.by_labels.find_entry(hash, |found| *found == slot) {
            entry.remove();
        }
        self.pairs_unused += pairs.len();
        self.free.push(slot);
        Some(Removed { series: member.series, pairs })
    }

    fn compact_pairs(&mut self) {
        let all = std::mem::take(&mut self.pairs);
        self.pairs.reserve_exact(all.len() - self.pairs_unused);
        for member in self.members.iter_mut().flatten() {
            let from = member.pairs_at as usize;
            let own = all.get(from..from + usize::from(member.pairs_len)).unwrap_or_default();
            member.pairs_at = u32::try_from(self.pairs.len()).unwrap_or(u32::MAX);
            self.pairs.extend_from_slice(own);
        }
        self.pairs_unused = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.iter().all(Option::is_none)
    }

    /// The open samples of a member in a range, in order of time. `shared` are the timestamps of the
    /// member asked for before, which are likely the same.
    pub(crate) fn open_samples(
        &self,
        slot: u32,
        member: &Member,
        start: TimestampMs,
        end: TimestampMs,
        shared: &mut Arc<[TimestampMs]>,
    ) -> Samples {
        let in_range = |(t, _): &(TimestampMs, f64)| start <= *t && *t <= end;
        let mut samples = Vec::new();
        let times = &self.live.times;
        if times.first().is_some_and(|t| *t <= end) && times.last().is_some_and(|t| *t >= start) {
            let folded = times.get(..self.live.folded()).unwrap_or_default();
            if !member.live.is_empty() && folded.last().is_some_and(|t| *t >= start) {
                let ticks = member.live.present();
                let times = ticks.ticks().filter_map(|tick| folded.get(tick).copied());
                samples.extend(times.zip(member.live.values()).filter(in_range));
            }
            samples.extend(self.live.row_values(slot).filter(in_range));
        }
        if let Some(late) = &member.late {
            let times = late.present().ticks().filter_map(|tick| self.late.get(tick).copied());
            samples.extend(times.zip(late.values()).filter(in_range));
            samples.sort_unstable_by_key(|(t, _)| *t);
        }
        if !samples.iter().map(|(t, _)| t).eq(shared.iter()) {
            *shared = samples.iter().map(|(t, _)| *t).collect();
        }
        let mut open = Samples::default();
        let Ok(()) = open.extend(shared, 0..samples.len(), 0, |values| {
            values.extend(samples.iter().map(|(_, v)| *v));
            Ok::<(), Infallible>(())
        });
        open
    }

    /// Whether a member has an open sample in a range, or a chunk of a window that overlaps it.
    pub(crate) fn has_samples(
        &self,
        slot: u32,
        member: &Member,
        start: TimestampMs,
        end: TimestampMs,
    ) -> bool {
        self.has_floats_near(slot, member, start, end) || self.has_histograms_near(slot, start, end)
    }

    /// The same of floats.
    pub(crate) fn has_floats_near(
        &self,
        slot: u32,
        member: &Member,
        start: TimestampMs,
        end: TimestampMs,
    ) -> bool {
        let mut windows = self.windows.iter().filter(|w| !w.has_histograms());
        windows.any(|w| w.overlaps(start, end) && w.slots().has(slot))
            || self.has_open(slot, member, start, end)
    }

    /// Whether a member has an open float in a range; decodes nothing.
    fn has_open(&self, slot: u32, member: &Member, start: TimestampMs, end: TimestampMs) -> bool {
        let in_range = |t: &TimestampMs| start <= *t && *t <= end;
        let (times, late) = (&self.live.times, &self.late);
        let is_near =
            times.first().is_some_and(|t| *t <= end) && times.last().is_some_and(|t| *t >= start);
        let at = |times: &[TimestampMs], present: Presence| {
            present.ticks().any(|tick| times.get(tick).is_some_and(in_range))
        };
        (is_near
            && (self.live.row_values(slot).any(|(t, _)| in_range(&t))
                || at(times, member.live.present())))
            || member.late.as_ref().is_some_and(|column| at(late, column.present()))
    }

    /// Chunks of single series: those that are sealed, and one for each column that is open.
    pub(crate) fn chunks(&self) -> u64 {
        let sealed: usize = self.windows.iter().map(|window| window.chunks()).sum();
        let members = (0u32..).zip(&self.members);
        let open = members.filter_map(|(slot, member)| Some((slot, member.as_ref()?)));
        let open = open.map(|(slot, member)| {
            let is_live = member.live.count() > 0 || self.live.row_values(slot).next().is_some();
            u64::from(is_live) + u64::from(member.late.is_some())
        });
        let histograms = self.histograms.as_ref().map_or(0, |open| open.columns());
        sealed as u64 + open.sum::<u64>() + histograms as u64
    }

    /// Samples and bytes of open columns and chunks, those in files included.
    pub(crate) fn footprint(&self) -> (u64, u64) {
        let mut samples = self.live.row_samples() as u64;
        let mut bytes = self.live.heap_bytes() as u64;
        for member in self.members.iter().flatten() {
            samples += member.live.count() as u64;
            bytes += member.live.heap_bytes() as u64;
            if let Some(late) = &member.late {
                samples += late.present().count() as u64;
                bytes += late.heap_bytes() as u64;
            }
        }
        if let Some(open) = &self.histograms {
            let (histograms, open_bytes) = open.footprint();
            samples += histograms;
            bytes += open_bytes;
        }
        for window in &self.windows {
            samples += window.samples();
            bytes += window.bytes();
        }
        (samples, bytes)
    }
}

/// Grows by an eighth and not to the double: a group rarely changes once it is there.
fn grow_little<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 8));
    }
}

/// Ticks in order of time, with where they stand.
fn in_order(times: &[TimestampMs]) -> Vec<(TimestampMs, usize)> {
    let mut order: Vec<_> = times.iter().enumerate().map(|(tick, t)| (*t, tick)).collect();
    order.sort_unstable();
    order
}

/// A late column's values at some ticks, in the order given.
fn late_values(column: &Column, ticks: &[(TimestampMs, usize)]) -> (Presence, Vec<f64>) {
    let (mut present, mut values) = (Presence::default(), Vec::new());
    for (at, (_, tick)) in ticks.iter().enumerate() {
        if let Some(v) = column.get(*tick) {
            present.set(at);
            values.push(v);
        }
    }
    (present, values)
}

fn count_repeat(there: f64, v: f64, counts: &mut Appended) {
    if there.to_bits() == v.to_bits() {
        counts.duplicate += 1;
    } else {
        counts.conflicting += 1;
    }
}
