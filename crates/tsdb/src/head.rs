//! The newest samples, in memory: open columns, sealed chunks, the index over their series, and the
//! marks.
//!
//! Constraints: one writer at a time, and what it applies is already in the log. Everything here
//! comes back from the last checkpoint and the log after it; nothing here touches a file.
//!
//! A series is its group and its labels: one label set in two groups is two series here, and one
//! again where they are read. Bounds: [`Options::series_max`] series; samples go to blocks once
//! their block range is over.

mod column;
mod group;
mod postings;
mod refs;
mod sealed;
mod symbols;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use stoa_model::{Label, Labels, Matcher, TimestampMs};

pub(crate) use self::column::{Presence, WINDOW_TICKS_MAX};
pub(crate) use self::group::Group;
use self::postings::{HeadIndex, Pair, Postings};
use self::refs::{Place, Refs};
pub(crate) use self::sealed::{Sealed, Ticks};
use self::symbols::Symbols;
use crate::checkpoint::{GroupSnapshot, MemberSnapshot};
use crate::matching::{self, Index as _};
use crate::{Appended, GroupId, Options, Row, SeriesRef};

#[derive(Debug)]
pub(crate) struct Head {
    options: Options,
    symbols: Symbols,
    postings: Postings,
    refs: Refs,
    groups: Vec<Option<Group>>,
    group_places: HashMap<GroupId, u32>,
    next_ref: u32,
    serials: u64,
    max_t: TimestampMs,
    pub(crate) marks: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A series found by a query, with what the head has of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) labels: Labels,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) open: Vec<(TimestampMs, f64)>,
}

/// Why a series or a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    SeriesMax,
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
            next_ref: 0,
            serials: 0,
            max_t: TimestampMs::MIN,
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
        self.group_mut(group)?.find(&pairs?)
    }

    fn add_series(&mut self, group: GroupId, series: SeriesRef, labels: &Labels, defined: bool) {
        let pairs: Arc<[Pair]> = labels
            .iter()
            .map(|Label { name, value }| (self.symbols.hold(name), self.symbols.hold(value)))
            .collect();
        self.postings.insert(series, &pairs);
        let place = self.open_group(group);
        if let Some(Some(group)) = self.groups.get_mut(place as usize) {
            let slot = group.add(series, pairs, defined);
            self.refs.set(series, Place { group: place, slot });
        }
        self.reserve_ref(series);
    }

    fn open_group(&mut self, id: GroupId) -> u32 {
        if let Some(place) = self.group_places.get(&id) {
            return *place;
        }
        let free = self.groups.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.groups.push(None);
            self.groups.len() - 1
        });
        if let Some(slot) = self.groups.get_mut(at) {
            *slot = Some(Group::new(id));
        }
        let place = u32::try_from(at).unwrap_or(u32::MAX);
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
        let labels = |member: &group::Member| (member.series, self.labels_of(&member.pairs));
        (group.undefined(since).into_iter().map(labels).collect(), group.fresh_count())
    }

    pub(crate) fn set_defined(&mut self, group: GroupId, since: u64, fresh_count: usize) {
        if let Some(group) = self.group_mut(group) {
            group.set_defined(since, fresh_count);
        }
    }

    /// All groups with the chunks `keep` says yes to; members without any are left out unless
    /// `all_members`.
    pub(crate) fn snapshot(
        &self,
        all_members: bool,
        keep: impl Fn(&Ticks) -> bool,
    ) -> Vec<GroupSnapshot> {
        let member = |member: &group::Member| {
            let sealed: Vec<Sealed> =
                member.sealed.iter().filter(|sealed| keep(&sealed.ticks)).cloned().collect();
            (all_members || !sealed.is_empty()).then(|| MemberSnapshot {
                series: member.series,
                labels: self.labels_of(&member.pairs),
                sealed,
            })
        };
        let group = |group: &Group| GroupSnapshot {
            id: group.id,
            last_t: group.last_t,
            members: group.members.iter().flatten().filter_map(member).collect(),
        };
        let groups = self.groups().map(group);
        groups.filter(|group| all_members || !group.members.is_empty()).collect()
    }

    /// Whether every series of the rows is known and belongs to the group.
    pub(crate) fn check(&self, group: GroupId, rows: &[Row]) -> Result<(), Refused> {
        let own = self.group_places.get(&group);
        for (series, _) in rows.iter().flat_map(|row| &row.samples) {
            let place = self.refs.get(*series).ok_or(Refused::Unknown(*series))?;
            if own != Some(&place.group) {
                return Err(Refused::OtherGroup(*series));
            }
        }
        Ok(())
    }

    /// Applies rows in order. Samples of series that are unknown or of another group are left out
    /// and returned as a count; [`Self::check`] says there are none.
    pub(crate) fn apply(&mut self, group: GroupId, rows: &[Row]) -> (Appended, u64) {
        let mut counts = Appended::default();
        let given: u64 = rows.iter().map(|row| row.samples.len() as u64).sum();
        let place = self.group_places.get(&group).copied();
        let group = place.and_then(|place| self.groups.get_mut(place as usize)?.as_mut());
        let (Some(group), Some(place)) = (group, place) else { return (counts, given) };
        for row in rows {
            if row.samples.is_empty() {
                continue;
            }
            if row.t_ms < self.max_t.saturating_sub(self.options.out_of_order_ms) {
                counts.too_old += row.samples.len() as u64;
                continue;
            }
            self.max_t = self.max_t.max(row.t_ms);
            let foreign = |series: &SeriesRef| {
                self.refs.get(*series).is_none_or(|found| found.group != place)
            };
            if row.samples.iter().any(|(series, _)| foreign(series)) {
                let mut own = row.clone();
                own.samples.retain(|(series, _)| !foreign(series));
                group.push(&own, &self.refs, &self.options, &mut self.serials, &mut counts);
            } else {
                group.push(row, &self.refs, &self.options, &mut self.serials, &mut counts);
            }
        }
        (counts, given - counts.total())
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

    /// Brings back a group's window from a checkpoint.
    pub(crate) fn restore_window(
        &mut self,
        group: GroupId,
        times: Vec<TimestampMs>,
    ) -> Option<Arc<Ticks>> {
        let last_t = times.last().copied()?;
        self.raise_max_t(last_t);
        self.open_group(group);
        let mut serials = self.serials;
        let ticks = self.group_mut(group)?.add_window(times, &mut serials);
        self.serials = serials;
        Some(ticks)
    }

    /// Brings back a group's newest tick.
    pub(crate) fn restore_last_t(&mut self, group: GroupId, last_t: TimestampMs) {
        if last_t == TimestampMs::MIN {
            return;
        }
        self.open_group(group);
        if let Some(group) = self.group_mut(group) {
            group.last_t = group.last_t.max(last_t);
        }
    }

    /// Brings back a series' chunk of a window that was brought back.
    pub(crate) fn restore_sealed(&mut self, series: SeriesRef, sealed: Sealed) {
        let Some(place) = self.refs.get(series) else { return };
        let Some(Some(group)) = self.groups.get_mut(place.group as usize) else { return };
        if let Some(Some(member)) = group.members.get_mut(place.slot as usize) {
            member.sealed.push(sealed);
        }
    }

    /// Seals every window with a tick before `boundary`; says the serial of the last sealed one.
    pub(crate) fn seal_before(&mut self, boundary: TimestampMs) -> u64 {
        for group in self.groups.iter_mut().flatten() {
            group.seal_before(boundary, &self.options, &mut self.serials);
        }
        self.serials
    }

    /// Forgets the chunks of windows that went to a block.
    pub(crate) fn drop_sealed(&mut self, is_in_block: impl Fn(&Ticks) -> bool) {
        for group in self.groups.iter_mut().flatten() {
            group.drop_sealed(&is_in_block);
        }
    }

    /// The first timestamp there is.
    pub(crate) fn first_t(&self) -> Option<TimestampMs> {
        self.groups().filter_map(Group::first_t).min()
    }

    /// Removes series that have had no data since the last call; says how many.
    pub(crate) fn collect_garbage(&mut self) -> u64 {
        let mut removed = 0;
        for slot in &mut self.groups {
            let Some(group) = slot else { continue };
            for member in group.take_idle() {
                self.refs.remove(member.series);
                self.postings.remove(member.series, &member.pairs);
                for (name, value) in member.pairs.iter() {
                    self.symbols.let_go(*name);
                    self.symbols.let_go(*value);
                }
                removed += 1;
            }
            if group.is_empty() {
                self.group_places.remove(&group.id);
                *slot = None;
            }
        }
        removed
    }

    /// The first and last sample's time, samples, and bytes of chunks and columns.
    pub(crate) fn footprint(&self) -> (u64, u64) {
        let each = self.groups().map(Group::footprint);
        each.fold((0, 0), |(samples, bytes), (s, b)| (samples + s, bytes + b))
    }

    pub(crate) fn labels(&self, series: SeriesRef) -> Option<Labels> {
        let place = self.refs.get(series)?;
        let group = self.groups.get(place.group as usize)?.as_ref()?;
        let member = group.members.get(place.slot as usize)?.as_ref()?;
        Some(self.labels_of(&member.pairs))
    }

    pub(crate) fn labels_of(&self, pairs: &[Pair]) -> Labels {
        Labels::from_pairs_last_wins(pairs.iter().filter_map(|(name, value)| {
            Some((Arc::clone(self.symbols.text(*name)?), Arc::clone(self.symbols.text(*value)?)))
        }))
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
    ) -> impl Iterator<Item = (&Group, &group::Member)> {
        let Ok(found) = matching::find(&self.index(), matchers);
        found.into_iter().filter_map(move |series| {
            let place = self.refs.get(SeriesRef(series))?;
            let group = self.groups.get(place.group as usize)?.as_ref()?;
            let member = group.members.get(place.slot as usize)?.as_ref()?;
            group.has_samples(member, start, end).then_some((group, member))
        })
    }

    /// The series all matchers hold for, with what overlaps the range.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = Found> {
        self.matching(matchers, start, end).map(move |(group, member)| Found {
            labels: self.labels_of(&member.pairs),
            sealed: member.sealed.iter().filter(|s| s.overlaps(start, end)).cloned().collect(),
            open: group.open_samples(member, start, end),
        })
    }

    /// The labels of the series all matchers hold for that have a sample in the range.
    pub(crate) fn series(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> impl Iterator<Item = Labels> {
        self.matching(matchers, start, end).map(|(_, member)| self.labels_of(&member.pairs))
    }

    pub(crate) fn label_names(&self, each: &mut dyn FnMut(&str)) {
        let Ok(()) = self.index().names(each);
    }

    pub(crate) fn label_values(&self, name: &str, each: &mut dyn FnMut(&str)) {
        let Ok(()) = self.index().values(name, each);
    }
}
