//! The newest samples, in memory: open columns, sealed chunks, the index over their series, and the
//! marks.
//!
//! Constraints: one writer at a time, and what it applies is already in the log. Everything here
//! comes back from the last checkpoint and the log after it. Nothing here writes a file; sealed chunks
//! are read from those of `crate::head_file`.
//!
//! A series is its group and its labels: one label set in two groups is two series here, and one
//! again where they are read. Bounds: [`Options::series_max`] series and
//! [`Options::label_bytes_max`] bytes of their labels' texts; samples go to blocks once
//! their block range is over.

mod column;
mod group;
mod histograms;
mod live;
mod postings;
mod refs;
mod repeats;
mod restore;
mod symbols;
mod window;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::RandomState;
use std::sync::Arc;

use roaring::RoaringBitmap;
use stoa_model::histogram::Histogram;
use stoa_model::{Label, Labels, Matcher, TimestampMs};

pub(crate) use self::column::{Presence, WINDOW_TICKS_MAX};
use self::group::Group;
pub(crate) use self::group::OpenImage;
use self::postings::{HeadIndex, Pair, Postings};
use self::refs::{Place as SeriesPlace, Refs};
pub(crate) use self::repeats::{Known, Repeats};
use self::symbols::Symbols;
pub(crate) use self::window::{
    Place, Sealed, TimesCache, Window, WindowBuilder, put_presence, split_stored,
};
use crate::batch::SERIES_LABEL_BYTES_MAX;
use crate::checkpoint::{GroupImage, GroupSnapshot, MemberSnapshot};
use crate::chunk::holds_histograms;
use crate::matching::{self, Index as _};
use crate::select::Samples;
use crate::{Appended, GroupId, HistogramSample, Options, Row, SeriesRef};

/// A sample further ahead of the clock than this does not move the window of what is too old.
const AHEAD_MS: i64 = 300_000;

/// Series of which each is looked at where little is to be done.
const FEW_MAX: u64 = 256;

/// Series of which sets are gone through there.
const RAREST_MAX: u64 = 4096;

#[derive(Debug)]
pub(crate) struct Head {
    options: Options,
    symbols: Symbols,
    postings: Postings,
    refs: Refs,
    groups: Vec<Option<Group>>,
    group_places: HashMap<GroupId, u32>,
    /// Places of groups that are gone.
    free: Vec<u32>,
    next_ref: u32,
    shared: Shared,
    max_t: TimestampMs,
    /// No sample is before it.
    floor_t: TimestampMs,
    pub(crate) marks: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What all groups share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The last window's number.
    serials: u64,
    /// Bytes of chunks sealed since [`Head::unsaved`] was asked last.
    unsaved_bytes: u64,
    /// Numbers of open histograms, of all groups.
    open_cells: usize,
    hasher: RandomState,
    /// What sealed windows hold of the batch at hand.
    known: Known,
}

/// A series found by a query, with what the head has of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) group: GroupId,
    pub(crate) labels: Labels,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) open: Samples,
    /// It has histograms near the range, besides or instead.
    pub(crate) has_histograms: bool,
}

/// A series found by a query, with what the head has of its histograms.
#[derive(Debug)]
pub(crate) struct FoundHistograms {
    pub(crate) group: GroupId,
    pub(crate) labels: Labels,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) open: Vec<(TimestampMs, Arc<Histogram>)>,
}

/// What of a batch is not too old to be taken.
#[derive(Debug)]
pub(crate) struct Young<'a> {
    pub(crate) rows: Cow<'a, [Row]>,
    pub(crate) histograms: Cow<'a, [HistogramSample]>,
    /// Samples left out.
    pub(crate) too_old: u64,
}

/// Why a series or a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    SeriesMax,
    /// The labels are so many bytes.
    LabelsTooLong(usize),
    LabelBytesMax,
    Unknown(SeriesRef),
    OtherGroup(SeriesRef),
}

impl Head {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            symbols: Symbols::default(),
            postings: Postings::default(),
            refs: Refs::default(),
            groups: Vec::new(),
            group_places: HashMap::new(),
            free: Vec::new(),
            next_ref: 0,
            shared: Shared::default(),
            max_t: TimestampMs::MIN,
            floor_t: TimestampMs::MAX,
            marks: BTreeMap::new(),
        }
    }

    /// The reference of a series, made if need be.
    pub(crate) fn resolve(
        &mut self,
        group: GroupId,
        labels: &Labels,
    ) -> Result<SeriesRef, Refused> {
        if let Some(found) = self.find_series(group, labels) {
            return Ok(found);
        }
        if self.refs.len() >= self.options.series_max || self.next_ref == u32::MAX {
            return Err(Refused::SeriesMax);
        }
        let label_bytes = |label: &Label| label.name.len() + label.value.len() + 8;
        let bytes = labels.iter().map(label_bytes).sum();
        if bytes > SERIES_LABEL_BYTES_MAX {
            return Err(Refused::LabelsTooLong(bytes));
        }
        let texts = labels.iter().flat_map(|label| [&label.name, &label.value]);
        let new = texts.filter(|text| self.symbols.get(text).is_none()).map(|text| text.len());
        if self.symbols.bytes() + new.sum::<usize>() > self.options.label_bytes_max {
            return Err(Refused::LabelBytesMax);
        }
        let series = SeriesRef(self.next_ref);
        self.add_series(group, series, labels, false);
        Ok(series)
    }

    /// Takes a series as the log or a checkpoint defines it. False when the reference is taken.
    pub(crate) fn define(&mut self, group: GroupId, series: SeriesRef, labels: &Labels) -> bool {
        match self.refs.get(series) {
            None => {
                self.add_series(group, series, labels, true);
                true
            }
            Some(_) => {
                self.labels(series).as_ref() == Some(labels) && self.group_of(series) == Some(group)
            }
        }
    }

    /// Makes sure that references up to `series` are not given out again.
    pub(crate) fn reserve_ref(&mut self, series: SeriesRef) {
        self.next_ref = self.next_ref.max(series.0.saturating_add(1));
    }

    pub(crate) fn next_ref(&self) -> u32 {
        self.next_ref
    }

    fn find_series(&mut self, group: GroupId, labels: &Labels) -> Option<SeriesRef> {
        let pairs: Option<Vec<Pair>> = labels
            .iter()
            .map(|label| self.symbols.get(&label.name).zip(self.symbols.get(&label.value)))
            .collect();
        let place = *self.group_places.get(&group)?;
        self.groups.get_mut(place as usize)?.as_mut()?.find(&pairs?, &self.shared)
    }

    fn add_series(&mut self, group: GroupId, series: SeriesRef, labels: &Labels, defined: bool) {
        let pairs: Vec<Pair> = labels
            .iter()
            .map(|Label { name, value }| (self.symbols.hold(name), self.symbols.hold(value)))
            .collect();
        let place = self.open_group(group);
        if let Some(Some(group)) = self.groups.get_mut(place as usize)
            && let Some(slot) = group.add(series, &pairs, defined, &self.shared)
        {
            self.postings.insert(series, &pairs);
            self.refs.set(series, SeriesPlace { group: place, slot });
        }
        self.reserve_ref(series);
    }

    fn open_group(&mut self, id: GroupId) -> u32 {
        if let Some(place) = self.group_places.get(&id) {
            return *place;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            u32::try_from(self.groups.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.groups.get_mut(place as usize) {
            *slot = Some(Group::new(id));
        }
        self.group_places.insert(id, place);
        place
    }

    pub(crate) fn group_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        let place = *self.group_places.get(&id)?;
        self.groups.get_mut(place as usize)?.as_mut()
    }

    pub(crate) fn group(&self, id: GroupId) -> Option<&Group> {
        let place = *self.group_places.get(&id)?;
        self.groups.get(place as usize)?.as_ref()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().flatten()
    }

    fn group_of(&self, series: SeriesRef) -> Option<GroupId> {
        let place = self.refs.get(series)?;
        self.groups.get(place.group as usize)?.as_ref().map(|group| group.id)
    }

    /// The series of a group that a log since checkpoint `since` must define before it names them,
    /// and how many of them were never defined.
    pub(crate) fn undefined(
        &self,
        group: GroupId,
        since: u64,
    ) -> (Vec<(SeriesRef, Labels)>, usize) {
        let Some(group) = self.group(group) else { return (Vec::new(), 0) };
        let labels = |member: &group::Member| (member.series, self.labels_of(group.pairs(member)));
        (group.undefined(since).into_iter().map(labels).collect(), group.fresh_count())
    }

    pub(crate) fn set_defined(&mut self, group: GroupId, since: u64, fresh_count: usize) {
        if let Some(group) = self.group_mut(group) {
            group.set_defined(since, fresh_count);
        }
    }

    /// The chunks of a group's windows that `keep` says yes to, if there are any.
    pub(crate) fn snapshot(
        &self,
        id: GroupId,
        keep: impl Fn(&Window) -> bool,
    ) -> Option<GroupSnapshot> {
        let group = self.group(id)?;
        let mut chunks: BTreeMap<u32, Vec<Sealed>> = BTreeMap::new();
        for window in group.windows().iter().filter(|window| keep(window)) {
            for (slot, sealed) in window.all_sealed() {
                chunks.entry(slot).or_default().push(sealed);
            }
        }
        let members = chunks.into_iter().filter_map(|(slot, sealed)| {
            let labels = self.labels_of(group.pairs(group.member(slot)?));
            Some(MemberSnapshot { labels, sealed })
        });
        let members: Vec<_> = members.collect();
        (!members.is_empty()).then_some(GroupSnapshot { id, members })
    }

    /// The sealed windows of all groups.
    pub(crate) fn windows(&self) -> impl Iterator<Item = &Arc<Window>> {
        self.groups().flat_map(Group::windows)
    }

    /// The groups there are, in order of their numbers.
    pub(crate) fn group_ids(&self) -> Vec<GroupId> {
        let mut ids: Vec<GroupId> = self.groups().map(|group| group.id).collect();
        ids.sort_unstable();
        ids
    }

    /// All of a group, as a checkpoint keeps it.
    pub(crate) fn image(&self, id: GroupId) -> Option<GroupImage> {
        let group = self.group(id)?;
        let member = |(_, member): (u32, &group::Member)| {
            (member.series, self.labels_of(group.pairs(member)))
        };
        let window = |window: &Arc<Window>| {
            let slots = window.slots().iter();
            // A slot of a window always has its member: one with data is never removed.
            let series = slots.filter_map(|slot| Some(group.member(slot)?.series)).collect();
            (Arc::clone(window), series)
        };
        Some(GroupImage {
            id,
            last_t: group.last_t,
            series: group.members().map(member).collect(),
            windows: group.windows().iter().map(window).collect(),
            open: group.open_images(&self.options),
        })
    }

    /// The windows whose chunks are in memory still.
    pub(crate) fn unsaved(&mut self) -> Vec<Arc<Window>> {
        self.shared.unsaved_bytes = 0;
        self.windows().filter(|w| matches!(w.place(), Place::Memory(_))).cloned().collect()
    }

    /// Bytes of chunks sealed since [`Self::unsaved`] was asked last.
    pub(crate) fn unsaved_bytes(&self) -> u64 {
        self.shared.unsaved_bytes
    }

    /// The numbers of the files that windows are in.
    pub(crate) fn files(&self) -> BTreeSet<u64> {
        self.windows().filter_map(|window| window.place().file()).collect()
    }

    /// Whether every series of the rows and histograms is known and belongs to the group.
    pub(crate) fn check(
        &self,
        group: GroupId,
        rows: &[Row],
        histograms: &[HistogramSample],
    ) -> Result<(), Refused> {
        let own = self.group_places.get(&group);
        let check = |series: SeriesRef| {
            let place = self.refs.get(series).ok_or(Refused::Unknown(series))?;
            if own == Some(&place.group) { Ok(()) } else { Err(Refused::OtherGroup(series)) }
        };
        for (series, _) in rows.iter().flat_map(|row| &row.samples) {
            check(*series)?;
        }
        for sample in histograms {
            check(sample.series)?;
        }
        Ok(())
    }

    /// What is older than this is too old. A sample from the future, which a clock that was ahead left
    /// behind, bars nothing that comes when the clock is right again.
    fn oldest(&self, max_t: TimestampMs, now_ms: TimestampMs) -> TimestampMs {
        let newest = max_t.min(now_ms.saturating_add(AHEAD_MS));
        newest.saturating_sub(self.options.out_of_order_ms)
    }

    /// What of a batch is not too old; each sample moves the window for those after it.
    pub(crate) fn young<'a>(
        &self,
        rows: &'a [Row],
        histograms: &'a [HistogramSample],
        now_ms: TimestampMs,
    ) -> Young<'a> {
        let rows_given = rows.iter().filter(|row| !row.samples.is_empty());
        let times = rows_given.map(|row| row.t_ms).chain(histograms.iter().map(|h| h.t_ms));
        let range = |(first, last): (TimestampMs, TimestampMs), t| (first.min(t), last.max(t));
        let (first, last) = times.fold((TimestampMs::MAX, self.max_t), range);
        if first >= self.oldest(last, now_ms) {
            let (rows, histograms) = (Cow::Borrowed(rows), Cow::Borrowed(histograms));
            return Young { rows, histograms, too_old: 0 };
        }
        let (mut max_t, mut too_old) = (self.max_t, 0);
        let mut is_young = |t, samples: usize| {
            let is_young = t >= self.oldest(max_t, now_ms);
            if is_young {
                max_t = max_t.max(t);
            } else {
                too_old += samples as u64;
            }
            is_young
        };
        let rows = rows.iter().filter(|row| !row.samples.is_empty());
        let rows = rows.filter(|row| is_young(row.t_ms, row.samples.len())).cloned().collect();
        let young = histograms.iter().filter(|sample| is_young(sample.t_ms, 1)).cloned();
        let histograms = Cow::Owned(young.collect());
        Young { rows: Cow::Owned(rows), histograms, too_old }
    }

    /// What sealed windows may hold of a batch already, to be read before it is applied. What is too
    /// old now is not looked for; all is when no time is given.
    pub(crate) fn repeats(
        &self,
        id: GroupId,
        rows: &[Row],
        histograms: &[HistogramSample],
        now_ms: Option<TimestampMs>,
    ) -> Repeats {
        let mut repeats = Repeats { upto: self.shared.serials, ..Repeats::default() };
        let Some((group, place)) = self.group(id).zip(self.group_places.get(&id)) else {
            return repeats;
        };
        let oldest = now_ms.map_or(TimestampMs::MIN, |now_ms| self.oldest(self.max_t, now_ms));
        let is_in = |t: TimestampMs| {
            let is_late = oldest <= t && t <= group.newest_t();
            is_late && group.windows().iter().any(|window| window.overlaps(t, t))
        };
        let mut late = BTreeSet::new();
        let mut want = |series: SeriesRef, t: TimestampMs| {
            if let Some(found) = self.refs.get(series).filter(|found| found.group == *place) {
                let wanted = repeats.wanted.entry(found.slot);
                wanted.or_insert_with(|| (series, Vec::new())).1.push(t);
            }
        };
        for row in rows.iter().filter(|row| is_in(row.t_ms)) {
            late.insert(row.t_ms);
            row.samples.iter().for_each(|(series, _)| want(*series, row.t_ms));
        }
        for sample in histograms.iter().filter(|sample| is_in(sample.t_ms)) {
            late.insert(sample.t_ms);
            want(sample.series, sample.t_ms);
        }
        let is_touched = |window: &&Arc<Window>| late.iter().any(|t| window.overlaps(*t, *t));
        repeats.windows = group.windows().iter().filter(is_touched).cloned().collect();
        repeats
    }

    /// Applies rows in order, then histograms; `known` is what [`Self::repeats`] came to. What was
    /// appended since is in memory and found there. Samples of series that are unknown or of another group are left out
    /// and returned as a count; [`Self::check`] says there are none.
    pub(crate) fn apply(
        &mut self,
        group: GroupId,
        rows: &[Row],
        histograms: &[HistogramSample],
        known: Known,
    ) -> (Appended, u64) {
        self.shared.known = known;
        let (mut counts, mut foreign) = self.apply_rows(group, rows);
        foreign += self.apply_histograms(group, histograms, &mut counts);
        self.shared.known = Known::default();
        (counts, foreign)
    }

    fn apply_histograms(
        &mut self,
        group: GroupId,
        histograms: &[HistogramSample],
        counts: &mut Appended,
    ) -> u64 {
        let mut foreign = 0;
        let Some(place) = self.group_places.get(&group).copied() else {
            return histograms.len() as u64;
        };
        for sample in histograms {
            self.make_room_for_histograms();
            let Self { groups, refs, options, shared, max_t, floor_t, .. } = self;
            let Some(Some(group)) = groups.get_mut(place as usize) else { return foreign };
            *max_t = (*max_t).max(sample.t_ms);
            *floor_t = (*floor_t).min(sample.t_ms);
            match refs.get(sample.series).filter(|found| found.group == place) {
                Some(found) => group.push_histogram(found.slot, sample, options, shared, counts),
                None => foreign += 1,
            }
        }
        foreign
    }

    /// Keeps what all groups have open of histograms within its bound: those of the one that has most
    /// are sealed, so that it does not come to this again soon.
    fn make_room_for_histograms(&mut self) {
        if self.shared.open_cells >= histograms::CELLS_MAX
            && let Some(group) = self.groups.iter_mut().flatten().max_by_key(|g| g.open_cells())
        {
            group.seal_histograms(&self.options, &mut self.shared);
        }
    }

    fn apply_rows(&mut self, group: GroupId, rows: &[Row]) -> (Appended, u64) {
        let mut counts = Appended::default();
        let mut foreign = 0;
        let place = self.group_places.get(&group).copied();
        let group = place.and_then(|place| self.groups.get_mut(place as usize)?.as_mut());
        let (Some(group), Some(place)) = (group, place) else {
            return (counts, rows.iter().map(|row| row.samples.len() as u64).sum());
        };
        for row in rows {
            if row.samples.is_empty() {
                continue;
            }
            self.max_t = self.max_t.max(row.t_ms);
            self.floor_t = self.floor_t.min(row.t_ms);
            let Self { refs, options, shared, .. } = self;
            foreign += group.push(place, row, refs, options, shared, &mut counts);
        }
        (counts, foreign)
    }

    /// Whether a series has nothing from `t` on, as far as that is known without decoding, and `t` is not
    /// too old. False of one that is not here.
    pub(crate) fn is_after_all(
        &self,
        series: SeriesRef,
        t: TimestampMs,
        now_ms: TimestampMs,
    ) -> bool {
        let found = self.refs.get(series).and_then(|place| {
            let group = self.groups.get(place.group as usize)?.as_ref()?;
            Some((group, place.slot, group.member(place.slot)?))
        });
        t >= self.oldest(self.max_t, now_ms)
            && found.is_some_and(|(group, slot, member)| {
                !group.has_samples(slot, member, t, TimestampMs::MAX)
            })
    }

    /// The newest timestamp ever taken.
    pub(crate) fn max_t(&self) -> TimestampMs {
        self.max_t
    }

    pub(crate) fn raise_max_t(&mut self, t: TimestampMs) {
        self.max_t = self.max_t.max(t);
    }

    pub(crate) fn series_count(&self) -> usize {
        self.refs.len()
    }

    /// Seals every window with a tick before `boundary` that is wanted; says the serial of the last
    /// sealed one.
    pub(crate) fn seal_before(
        &mut self,
        boundary: TimestampMs,
        is_wanted: impl Fn(TimestampMs) -> bool,
    ) -> u64 {
        let is_wanted = |t: TimestampMs| t < boundary && is_wanted(t);
        for group in self.groups.iter_mut().flatten() {
            group.seal_if(is_wanted, &self.options, &mut self.shared);
        }
        self.shared.serials
    }

    /// Forgets the chunks of windows that went to a block.
    pub(crate) fn drop_sealed(&mut self, is_in_block: impl Fn(&Window) -> bool) {
        for group in self.groups.iter_mut().flatten() {
            group.drop_sealed(&is_in_block);
        }
        self.renew_floor();
    }

    /// A time that no sample is before, at little cost: the first sample's as long as no more than the
    /// newest ones were taken since blocks were cut. The end of time when there are none.
    pub(crate) fn floor_t(&self) -> TimestampMs {
        self.floor_t
    }

    /// To be called when the head is as a start found it, too: what was brought back is not looked at.
    pub(crate) fn renew_floor(&mut self) {
        self.floor_t = self.first_t().unwrap_or(TimestampMs::MAX);
    }

    /// The first timestamp there is.
    pub(crate) fn first_t(&self) -> Option<TimestampMs> {
        self.groups().filter_map(Group::first_t).min()
    }

    /// Removes series that have had no data since the last call; says how many.
    pub(crate) fn collect_garbage(&mut self) -> u64 {
        let mut removed = 0;
        for (place, slot) in (0u32..).zip(&mut self.groups) {
            let Some(group) = slot else { continue };
            for member in group.take_idle(&self.shared) {
                self.refs.remove(member.series);
                self.postings.remove(member.series, &member.pairs);
                for (name, value) in member.pairs {
                    self.symbols.let_go(name);
                    self.symbols.let_go(value);
                }
                removed += 1;
            }
            if group.is_empty() {
                self.group_places.remove(&group.id);
                *slot = None;
                self.free.push(place);
            }
        }
        removed
    }

    /// Samples, and bytes of chunks and columns.
    pub(crate) fn footprint(&self) -> (u64, u64) {
        let each = self.groups().map(Group::footprint);
        each.fold((0, 0), |(samples, bytes), (s, b)| (samples + s, bytes + b))
    }

    /// Chunks of single series, open ones included.
    pub(crate) fn chunks(&self) -> u64 {
        self.groups().map(Group::chunks).sum()
    }

    /// Whether a series is here.
    pub(crate) fn knows(&self, series: SeriesRef) -> bool {
        self.refs.get(series).is_some()
    }

    pub(crate) fn labels(&self, series: SeriesRef) -> Option<Labels> {
        let place = self.refs.get(series)?;
        let group = self.groups.get(place.group as usize)?.as_ref()?;
        Some(self.labels_of(group.pairs(group.member(place.slot)?)))
    }

    pub(crate) fn labels_of(&self, pairs: &[Pair]) -> Labels {
        let text = |symbol| self.symbols.text(symbol).map(Arc::clone);
        let label = |(name, value): &Pair| Some(Label { name: text(*name)?, value: text(*value)? });
        Labels::from_ordered(pairs.iter().filter_map(label).collect())
    }

    fn index(&self) -> HeadIndex<'_> {
        HeadIndex { postings: &self.postings, symbols: &self.symbols }
    }

    /// The series all matchers hold for that have a sample in the range.
    fn matching(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = (&Group, u32, &group::Member)> {
        let Ok(found) = matching::find(&self.index(), matchers);
        self.sampled(found, start, end)
    }

    /// Those of the series that have a sample in the range.
    fn sampled(
        &self,
        series: RoaringBitmap,
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = (&Group, u32, &group::Member)> {
        series.into_iter().filter_map(move |series| {
            let place = self.refs.get(SeriesRef(series))?;
            let group = self.groups.get(place.group as usize)?.as_ref()?;
            let member = group.member(place.slot)?;
            group.has_samples(place.slot, member, start, end).then_some((group, place.slot, member))
        })
    }

    /// The series all matchers hold for, with the floats that overlap the range; those of histograms
    /// are among them.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = Found> {
        self.found(self.matching(matchers, start, end), start, end)
    }

    /// The same of matchers for equality, if that is quick to find: `None` where labels are of many series.
    pub(crate) fn select_few(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> Option<impl Iterator<Item = Found>> {
        if self.index().rarest(matchers) > RAREST_MAX {
            return None;
        }
        let Ok(series) = matching::find(&self.index(), matchers);
        let is_few = series.len() <= FEW_MAX;
        is_few.then(|| self.found(self.sampled(series, start, end), start, end))
    }

    fn found<'a>(
        &'a self,
        members: impl Iterator<Item = (&'a Group, u32, &'a group::Member)>,
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = Found> {
        let mut shared = Arc::default();
        members.map(move |(group, slot, member)| {
            let windows = group.windows().iter().filter(|window| window.overlaps(start, end));
            let windows = windows.filter(|window| !window.has_histograms());
            Found {
                group: group.id,
                labels: self.labels_of(group.pairs(member)),
                sealed: windows.filter_map(|window| window.sealed(slot)).collect(),
                open: group.open_samples(slot, member, start, end, &mut shared),
                has_histograms: group.has_histograms_near(slot, start, end),
            }
        })
    }

    /// Whether any group has or had histograms.
    pub(crate) fn has_histograms(&self) -> bool {
        self.groups().any(Group::has_histograms)
    }

    /// The series all matchers hold for, with their histograms that overlap the range.
    pub(crate) fn select_histograms(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = FoundHistograms> {
        // Most stores have none, and say so without looking for series.
        let found = self.has_histograms().then(|| self.matching(matchers, start, end));
        found.into_iter().flatten().filter_map(move |(group, slot, member)| {
            if !group.has_histograms() {
                return None;
            }
            let windows = group.windows().iter().filter(|w| w.has_histograms());
            let windows = windows.filter(|window| window.overlaps(start, end));
            let sealed: Vec<_> = windows.filter_map(|window| window.sealed(slot)).collect();
            let open = group.open_histograms(slot, start, end);
            let is_empty = sealed.is_empty() && open.is_empty();
            let labels = || self.labels_of(group.pairs(member));
            let group = group.id;
            (!is_empty).then(|| FoundHistograms { group, labels: labels(), sealed, open })
        })
    }

    /// The labels of those of them that have floats near the range.
    pub(crate) fn labels_of_floats(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = Labels> {
        let found = self.matching(matchers, start, end);
        let found = found
            .filter(move |(group, slot, member)| group.has_floats_near(*slot, member, start, end));
        found.map(|(group, _, member)| self.labels_of(group.pairs(member)))
    }

    /// The labels of the series all matchers hold for that have an open sample in the range or a chunk
    /// of a window that overlaps it.
    pub(crate) fn series(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = Labels> {
        self.matching(matchers, start, end)
            .map(|(group, _, member)| self.labels_of(group.pairs(member)))
    }

    pub(crate) fn label_names(&self, each: &mut dyn FnMut(&str)) {
        let Ok(()) = self.index().names(each);
    }

    pub(crate) fn label_values(&self, name: &str, each: &mut dyn FnMut(&str)) {
        let Ok(()) = self.index().values(name, each);
    }
}

/// Whether a chunk with its presence is of histograms.
pub(crate) fn stored_histograms(stored: &[u8]) -> bool {
    split_stored(stored).is_ok_and(|(_, chunk)| holds_histograms(chunk))
}
