//! Who is told: the groups that use most, without coming and going at each reading.
//!
//! A group is ranked by what it used of late: each reading's amount, halved every [`HALF_LIFE`]. It is
//! told when it was among the first of a list at two readings in a row (at the very first reading, at
//! that one), and until it was in none for as long as the ranking holds. At most [`LISTS`] times two
//! lists' lengths are told at a time; who comes later then waits until another's time is up. So the
//! series of a host are bounded, and so is how fast they can be replaced, whatever the processes do.

use std::time::Duration;

use crate::sources::Now;

/// CPU time, resident memory, reading and writing.
pub(super) const LISTS: usize = 3;
/// In how long what was used counts half.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// What the ranking knows of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// By list; memory is as of now.
    scores: [f64; LISTS],
    is_first: bool,
    /// Readings in a row among the first.
    streak: u8,
    is_told: bool,
    first_at: Option<Now>,
}

impl Standing {
    /// Whether the group is told.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }
}

/// Ranks groups.
#[derive(Debug)]
pub(super) struct Ranking {
    length: usize,
    hold: Duration,
    ranked_at: Option<Now>,
    readings: u64,
    /// Groups that were not told though they were among the first, for want of room.
    pub(super) waiting: u64,
    scratch: Vec<(f64, bool, usize)>,
}

impl Ranking {
    /// `length` of each list; how long to `hold` one that is in none any more.
    pub(super) fn new(length: usize, hold: Duration) -> Self {
        Self { length, hold, ranked_at: None, readings: 0, waiting: 0, scratch: Vec::new() }
    }

    /// The most groups told at a time.
    pub(super) fn told_max(&self) -> usize {
        self.length * LISTS * 2
    }

    /// Whether the reading that comes is the first, ranked by all that was ever used.
    pub(super) fn is_first(&self) -> bool {
        self.readings == 0
    }

    /// What remains of a score until `now`.
    pub(super) fn decay(&self, now: Now) -> f64 {
        let Some(earlier) = self.ranked_at.filter(|_| self.readings > 1) else { return 0.0 };
        let seconds = now.unix_micros.abs_diff(earlier.unix_micros) as f64 / 1e6;
        (-seconds / HALF_LIFE.as_secs_f64()).exp2()
    }

    /// Ranks `standings`, each with what its group used since the reading before: ticks, pages it has
    /// now, bytes.
    pub(super) fn rank(&mut self, now: Now, standings: &mut [(&mut Standing, [f64; LISTS])]) {
        let decay = self.decay(now);
        for (standing, used) in &mut *standings {
            standing.is_first = false;
            let [cpu, memory, io] = &mut standing.scores;
            let [cpu_used, memory_used, io_used] = *used;
            *cpu = *cpu * decay + cpu_used;
            *memory = memory_used;
            *io = *io * decay + io_used;
        }
        for list in 0..LISTS {
            self.mark_first(list, standings);
        }
        let mut told = standings.iter().filter(|(standing, _)| standing.is_told).count();
        for (standing, _) in &mut *standings {
            if standing.is_first {
                standing.streak = standing.streak.saturating_add(1);
                standing.first_at = Some(now);
            } else {
                standing.streak = 0;
                let is_past = standing.first_at.is_none_or(|at| now.is_past(at, self.hold));
                if standing.is_told && is_past {
                    standing.is_told = false;
                    told -= 1;
                }
            }
        }
        for (standing, _) in standings {
            if standing.is_told || !(standing.streak > 1 || standing.is_first && self.is_first()) {
                continue;
            }
            if told < self.told_max() {
                standing.is_told = true;
                told += 1;
            } else {
                self.waiting += 1;
            }
        }
        self.ranked_at = Some(now);
        self.readings += 1;
    }

    fn mark_first(&mut self, list: usize, standings: &mut [(&mut Standing, [f64; LISTS])]) {
        self.scratch.clear();
        for (at, (standing, _)) in standings.iter().enumerate() {
            // Less than a byte or a hundredth of a tick is nothing.
            if let Some(score) = standing.scores.get(list).filter(|score| **score >= 0.01) {
                self.scratch.push((*score, standing.is_told, at));
            }
        }
        if self.length == 0 {
            return;
        }
        if self.scratch.len() > self.length {
            // Of equals those that are told, then those that came first.
            self.scratch.select_nth_unstable_by(self.length - 1, |a, b| {
                b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2))
            });
        }
        for (_, _, at) in self.scratch.iter().take(self.length) {
            if let Some((standing, _)) = standings.get_mut(*at) {
                standing.is_first = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(600);

    struct Table {
        ranking: Ranking,
        standings: Vec<Standing>,
        now: i64,
    }

    impl Table {
        fn new(groups: usize, length: usize) -> Self {
            let standings = vec![Standing::default(); groups];
            Self { ranking: Ranking::new(length, HOLD), standings, now: 0 }
        }

        /// A reading ten seconds later; returns who is told.
        fn read(&mut self, used: impl Fn(usize) -> [f64; LISTS]) -> Vec<usize> {
            self.now += 10;
            let now = Now { unix_micros: self.now * 1_000_000 };
            let mut given: Vec<_> =
                self.standings.iter_mut().enumerate().map(|(at, s)| (s, used(at))).collect();
            self.ranking.rank(now, &mut given);
            let told = self.standings.iter().enumerate().filter(|(_, s)| s.is_told());
            told.map(|(at, _)| at).collect()
        }
    }

    fn cpu(busy: &[usize]) -> impl Fn(usize) -> [f64; LISTS] {
        move |at| [if busy.contains(&at) { 100.0 } else { 0.0 }, 0.0, 0.0]
    }

    #[test]
    fn a_group_comes_after_two_readings_and_goes_long_after() {
        let mut table = Table::new(6, 2);
        assert_eq!(table.read(cpu(&[0, 1])), [0, 1], "the first reading is all there is");
        assert_eq!(table.read(cpu(&[2, 3])), [0, 1]);
        assert_eq!(table.read(cpu(&[2, 3])), [0, 1, 2, 3]);
        // One burst: its score keeps it among the first for a while, but others are busier.
        assert_eq!(table.read(|at| [[10.0, 0.0, 200.0, 200.0, 150.0, 0.0][at], 0.0, 0.0]).len(), 4);
        for _ in 0..55 {
            let told = table.read(cpu(&[2, 3]));
            assert!(told.starts_with(&[0, 1]), "held");
        }
        for _ in 0..5 {
            table.read(cpu(&[2, 3]));
        }
        assert_eq!(table.read(cpu(&[2, 3])), [2, 3]);
    }

    #[test]
    fn memory_and_io_have_lists_of_their_own_and_nothing_is_no_use() {
        let mut table = Table::new(5, 1);
        let used = |at: usize| {
            [[5.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 1.0], [0.0; 3]][at]
        };
        assert_eq!(table.read(used), [0, 1, 3]);
        let mut none = Table::new(5, 0);
        assert_eq!(none.read(used), [0_usize; 0]);
        assert_eq!(none.read(used), [0_usize; 0]);
    }

    #[test]
    fn however_fast_others_come_few_are_told_and_few_are_replaced() {
        let mut table = Table::new(500, 3);
        let mut ever = std::collections::BTreeSet::new();
        for step in 0..200_usize {
            // Each is far above those before, for two readings.
            let busy = step / 2 * 3;
            let height = 2_f64.powi(i32::try_from(step / 2).unwrap());
            let used = |at: usize| {
                if (busy..busy + 3).contains(&at) { [height, height, height] } else { [0.0; 3] }
            };
            let told = table.read(used);
            assert!(told.len() <= table.ranking.told_max());
            ever.extend(told);
        }
        // 2,000 s are four times the hold.
        assert!(ever.len() <= 4 * table.ranking.told_max(), "{}", ever.len());
        assert!(table.ranking.waiting > 0);
    }
}
