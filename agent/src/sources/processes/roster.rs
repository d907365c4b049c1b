//! Groups of processes by key: bounded, forgotten some time after their last process.
//!
//! A place is a small number that stays the group's while the group is there. A group that has a
//! process is never forgotten, so that the place a living process holds is always its group's.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::stat::Stat;
use super::usage::{Counters, Living};
use crate::sources::Now;

/// Groups by `K`, each with an `X` of its own.
#[derive(Debug)]
pub(super) struct Roster<K, X> {
    groups: Vec<Option<Group<K, X>>>,
    places: HashMap<K, u32>,
    free: Vec<u32>,
    groups_max: usize,
    /// Processes of groups there was no room for.
    pub(super) refused: u64,
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

#[derive(Debug)]
pub(super) struct Group<K, X> {
    key: K,
    /// Of all its processes, those that have ended among them.
    pub(super) total: Counters,
    pub(super) living: Living,
    /// Whether reading and writing was told of one of its processes.
    pub(super) has_io: bool,
    /// When it last had a process.
    alive_at: Now,
    pub(super) extra: X,
}

impl<K: Clone + Eq + Hash, X> Roster<K, X> {
    pub(super) fn new(groups_max: usize) -> Self {
        Self {
            groups: Vec::new(),
            places: HashMap::new(),
            free: Vec::new(),
            groups_max,
            refused: 0,
        }
    }

    /// The group's place, made now if there is none; `None` when there is no room.
    pub(super) fn place(&mut self, key: K, now: Now, make: impl FnOnce(&K) -> X) -> Option<Place> {
        if let Some(place) = self.places.get(&key) {
            return Some(Place(*place));
        }
        if self.places.len() >= self.groups_max {
            self.refused += 1;
            return None;
        }
        let group = Some(Group {
            extra: make(&key),
            key: key.clone(),
            total: Counters::default(),
            living: Living::default(),
            has_io: false,
            alive_at: now,
        });
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.groups.push(None);
                u32::try_from(self.groups.len() - 1).ok()?
            }
        };
        *usize::try_from(place).ok().and_then(|at| self.groups.get_mut(at))? = group;
        self.places.insert(key, place);
        Some(Place(place))
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Group<K, X>> {
        self.groups.get_mut(usize::try_from(place.0).ok()?)?.as_mut()
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group<K, X>> {
        self.groups.iter().flatten()
    }

    pub(super) fn groups_mut(&mut self) -> impl Iterator<Item = &mut Group<K, X>> {
        self.groups.iter_mut().flatten()
    }

    /// The living are counted anew.
    pub(super) fn begin(&mut self) {
        for group in self.groups_mut() {
            group.living = Living::default();
        }
    }

    /// Forgets groups without a process for `linger`, unless `keep` wants them; when more than half
    /// of the room is taken, without waiting.
    pub(super) fn end(&mut self, now: Now, linger: Duration, keep: impl Fn(&X) -> bool) {
        let is_crowded = self.places.len() * 2 > self.groups_max;
        for (at, place) in self.groups.iter_mut().enumerate() {
            let Some(group) = place else { continue };
            if group.living.processes > 0 {
                group.alive_at = now;
            } else if !keep(&group.extra) && (is_crowded || now.is_past(group.alive_at, linger)) {
                self.places.remove(&group.key);
                self.free.extend(u32::try_from(at).ok());
                *place = None;
            }
        }
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

impl<K, X> Group<K, X> {
    /// A process of the group used this since the reading before.
    pub(super) fn take(&mut self, used: &Counters, stat: &Stat, has_io: bool) {
        self.total.add(used);
        self.living.add(stat);
        self.has_io |= has_io;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Now {
        Now { unix_micros: seconds * 1_000_000 }
    }

    #[test]
    fn groups_are_bounded_and_those_with_a_process_are_never_forgotten() {
        let mut roster: Roster<u32, bool> = Roster::new(4);
        let linger = Duration::from_secs(60);
        let first = roster.place(1, at(0), |_| false).unwrap();
        let second = roster.place(2, at(0), |_| true).unwrap();
        assert_eq!(roster.place(1, at(0), |_| false), Some(first));
        roster.get_mut(first).unwrap().living.processes = 1;
        roster.end(at(100), linger, |kept| *kept);
        assert!(roster.get_mut(first).is_some() && roster.get_mut(second).is_some());
        roster.begin();
        roster.end(at(150), linger, |kept| *kept);
        assert!(roster.get_mut(first).is_some(), "it lingers");
        roster.end(at(161), linger, |kept| *kept);
        assert!(roster.get_mut(first).is_none());
        for key in 3..6 {
            assert!(roster.place(key, at(161), |_| false).is_some());
        }
        assert_eq!(roster.place(7, at(161), |_| false), None);
        assert_eq!((roster.refused, roster.len()), (1, 4));
        roster.end(at(162), linger, |kept| *kept);
        assert_eq!(roster.len(), 1, "crowded: nothing lingers");
    }
}
