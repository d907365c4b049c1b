//! The head as a checkpoint and the log bring it back: no rule is applied to what was taken before.

use std::collections::BTreeMap;

use stoa_model::TimestampMs;

use super::column::Presence;
use super::live::Folded;
use super::window::{Place, Slots, Window, WindowBuilder, split_stored};
use super::{Head, stored_histograms};
use crate::bytes::Malformed;
use crate::{Appended, GroupId, Row, SeriesRef};

impl Head {
    /// Brings back rows that were taken before, however old they are by now; says how many samples
    /// are of series that are not known.
    pub(crate) fn restore_rows(&mut self, id: GroupId, rows: &[Row]) -> u64 {
        let place = self.open_group(id);
        let Self { groups, refs, options, shared, .. } = self;
        let Some(Some(group)) = groups.get_mut(place as usize) else { return 0 };
        let mut counts = Appended::default();
        let given = rows.iter().filter(|row| !row.samples.is_empty());
        given.map(|row| group.push(place, row, refs, options, shared, &mut counts)).sum()
    }

    /// Brings back a window whose chunks are in memory, those of the series given; says how many
    /// chunks were none and how many samples were of series that are not known.
    pub(crate) fn restore_chunks<'a>(
        &mut self,
        group: GroupId,
        times: &[TimestampMs],
        chunks: impl Iterator<Item = (SeriesRef, &'a [u8])>,
    ) -> (u64, u64) {
        let place = self.open_group(group);
        let (mut damaged, mut orphaned) = (0, 0);
        let mut by_slot: BTreeMap<u32, &[u8]> = BTreeMap::new();
        for (series, stored) in chunks {
            match self.refs.get(series).filter(|found| found.group == place) {
                Some(found) => drop(by_slot.insert(found.slot, stored)),
                None => match split_stored(stored) {
                    Ok((present, _)) => {
                        orphaned += present.map_or(times.len(), |present| present.count()) as u64;
                    }
                    Err(_malformed) => damaged += 1,
                },
            }
        }
        let mut builder = WindowBuilder::default();
        for (slot, stored) in by_slot {
            damaged += u64::from(!builder.push_stored(slot, times.len(), stored));
        }
        if let Some(Some(group)) = self.groups.get_mut(place as usize) {
            group.add_window(builder, times, &mut self.shared);
        }
        (damaged, orphaned)
    }

    /// Brings back a window whose chunks are in a file, of the series given and as long as given, all
    /// of the kind of `first`.
    /// False when the series are not all known or not in the order of their slots any more.
    pub(crate) fn restore_window(
        &mut self,
        group: GroupId,
        times: &[TimestampMs],
        members: &[(SeriesRef, u16)],
        samples: u64,
        (first, place): (&[u8], Place),
    ) -> bool {
        let at = self.open_group(group);
        let mut slots = Slots::default();
        let mut next = 0;
        for (series, _) in members {
            let found = self.refs.get(*series).filter(|found| found.group == at);
            let Some(slot) = found.map(|found| found.slot).filter(|slot| *slot >= next) else {
                return false;
            };
            slots.insert(slot);
            next = slot + 1;
        }
        self.shared.serials += 1;
        let lens = members.iter().map(|(_, len)| *len).collect();
        let mut window = Window::new(self.shared.serials, times, slots, lens, samples, place);
        if stored_histograms(first) {
            window = window.of_histograms();
        }
        if let Some(Some(group)) = self.groups.get_mut(at as usize) {
            group.restore_window(window);
        }
        true
    }

    /// Brings back the live window of a group, or more columns of it; says how many columns were
    /// none and how many samples were of series that are not known.
    pub(crate) fn restore_live<'a>(
        &mut self,
        group: GroupId,
        times: &[TimestampMs],
        columns: impl Iterator<Item = (SeriesRef, &'a [u8])>,
    ) -> Result<(u64, u64), Malformed> {
        let at = self.open_group(group);
        let (mut damaged, mut orphaned) = (0, 0);
        let Some(Some(group)) = self.groups.get_mut(at as usize) else { return Ok((0, 0)) };
        if !group.restore_live(times, &self.options) {
            return Err(Malformed("another live window of the group before"));
        }
        for (series, stored) in columns {
            let restored = split_stored(stored).and_then(|(present, chunk)| {
                let count = present.as_ref().map_or(times.len(), Presence::count);
                Folded::restore(present, count, chunk)
            });
            match (restored, self.refs.get(series).filter(|found| found.group == at)) {
                (Err(_malformed), _) => damaged += 1,
                (Ok(column), None) => orphaned += column.count() as u64,
                (Ok(column), Some(found)) => group.restore_column(found.slot, column),
            }
        }
        Ok((damaged, orphaned))
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
}
