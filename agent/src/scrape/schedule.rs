//! Which target is asked when: a machine of targets and moments, without clock, network or labels.
//!
//! A target is asked once an interval, at its own offset, which follows from its number and is the same
//! after every start, so that targets are spread. Moments are whole seconds ([`GRID_MS`]) where the
//! interval is: those of one second travel in one tick, and stand on the grid that the sampler's do. One that has not come back is passed over, and
//! counted; so are moments that the host slept through. A clock that is set moves all moments with it.
//!
//! Bounded by the targets it is given.

use std::collections::BTreeMap;

use stoa_model::TimestampMs;

/// Moments stand on whole multiples of this, milliseconds, but of targets with a shorter interval.
pub const GRID_MS: i64 = 1_000;

/// The longest nap when there is nothing to wait for, milliseconds.
const NAP_MS: i64 = 5_000;

/// Names a target; the same after every start.
pub type TargetId = u64;

/// What the machine knows.
#[derive(Debug, Default)]
pub struct Schedule {
    targets: BTreeMap<TargetId, Slot>,
    missed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    interval_ms: i64,
    next: TimestampMs,
    is_out: bool,
}

/// A target is to be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub id: TargetId,
    /// The moment it is asked for.
    pub t: TimestampMs,
}

impl Schedule {
    /// The targets there are from now on, with their intervals. Those known already keep their turn.
    pub fn set(&mut self, targets: &[(TargetId, i64)], now: TimestampMs) {
        let known = std::mem::take(&mut self.targets);
        for &(id, interval_ms) in targets {
            let interval_ms = interval_ms.max(1);
            let slot = match known.get(&id) {
                Some(slot) if slot.interval_ms == interval_ms => *slot,
                known => Slot {
                    interval_ms,
                    next: moment_after(id, interval_ms, now - 1),
                    is_out: known.is_some_and(|slot| slot.is_out),
                },
            };
            self.targets.insert(id, slot);
        }
    }

    /// Those whose moment has come; each is out until [`Self::is_back`].
    pub fn due(&mut self, now: TimestampMs) -> Vec<Due> {
        let mut due = Vec::new();
        for (id, slot) in &mut self.targets {
            // The clock was set back: what was planned by the old one says nothing.
            if slot.next - now > slot.interval_ms {
                slot.next = moment_after(*id, slot.interval_ms, now);
            }
            if slot.next > now {
                continue;
            }
            let after = moment_after(*id, slot.interval_ms, now);
            let t = after - slot.interval_ms;
            let passed = u64::try_from((t - slot.next) / slot.interval_ms).unwrap_or(0);
            self.missed += passed;
            slot.next = after;
            if slot.is_out {
                self.missed += 1;
                continue;
            }
            slot.is_out = true;
            due.push(Due { id: *id, t });
        }
        due
    }

    /// A target has come back.
    pub fn is_back(&mut self, id: TargetId) {
        if let Some(slot) = self.targets.get_mut(&id) {
            slot.is_out = false;
        }
    }

    /// When there is something to do.
    #[must_use]
    pub fn deadline(&self, now: TimestampMs) -> TimestampMs {
        let next = self.targets.values().map(|slot| slot.next).min();
        next.map_or(now + NAP_MS, |next| next.min(now + NAP_MS))
    }

    /// Moments that a target was not asked at.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

/// The first moment of a target after `now`.
fn moment_after(id: TargetId, interval_ms: i64, now: TimestampMs) -> TimestampMs {
    // The upper bits of the golden ratio's multiples: neighbouring numbers are spread, too.
    let spread = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1).cast_signed() % interval_ms;
    let offset = if interval_ms >= GRID_MS { spread - spread % GRID_MS } else { 0 };
    now - (now - offset).rem_euclid(interval_ms) + interval_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: TimestampMs = 1_700_000_000_123;

    #[test]
    fn each_target_is_asked_once_an_interval_and_they_are_spread() {
        let targets: Vec<(TargetId, i64)> = (0..300).map(|id| (id, 10_000)).collect();
        let mut schedule = Schedule::default();
        schedule.set(&targets, T0);
        let mut seconds = BTreeMap::new();
        let mut asked: BTreeMap<TargetId, Vec<TimestampMs>> = BTreeMap::new();
        let mut now = T0;
        while now < T0 + 60_000 {
            for Due { id, t } in schedule.due(now) {
                assert!((0..GRID_MS).contains(&(now - t)) && t % GRID_MS == 0, "{now} {t}");
                *seconds.entry(t).or_insert(0) += 1;
                asked.entry(id).or_default().push(t);
                schedule.is_back(id);
            }
            now = schedule.deadline(now).max(now + 1);
        }
        assert_eq!(asked.len(), 300);
        for moments in asked.values() {
            assert_eq!(moments.len(), 6);
            assert!(moments.windows(2).all(|pair| pair[1] - pair[0] == 10_000));
        }
        assert!(seconds.values().all(|count| (10..60).contains(count)), "{seconds:?}");
        assert_eq!(schedule.missed(), 0);
    }

    #[test]
    fn one_that_hangs_is_passed_over_and_the_others_are_not() {
        let mut schedule = Schedule::default();
        schedule.set(&[(1, 5_000), (2, 5_000)], T0);
        let mut asked = Vec::new();
        for step in 0..40 {
            for due in schedule.due(T0 + step * 1_000) {
                asked.push(due.id);
                if due.id == 2 {
                    schedule.is_back(2);
                }
            }
        }
        assert_eq!(asked.iter().filter(|id| **id == 1).count(), 1);
        assert_eq!(asked.iter().filter(|id| **id == 2).count(), 8);
        assert_eq!(schedule.missed(), 7);
        schedule.is_back(1);
        let due: Vec<Due> = (40..46).flat_map(|step| schedule.due(T0 + step * 1_000)).collect();
        assert!(due.iter().any(|due| due.id == 1));
    }

    #[test]
    fn clocks_that_leap_leave_every_target_its_turn() {
        // Seeds: random steps forth and back, targets that come and go.
        for seed in 0..200_u64 {
            let mut state = seed;
            let mut draw = |below: i64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 33).cast_signed()) % below
            };
            let (mut schedule, mut now) = (Schedule::default(), T0);
            let mut out: Vec<TargetId> = Vec::new();
            for _ in 0..200 {
                match draw(10) {
                    0 => now += draw(3_600_000) - 1_800_000,
                    1 => {
                        let targets: Vec<_> = (0..draw(8))
                            .map(|id| (id.cast_unsigned(), 500 + draw(3) * 5_000))
                            .collect();
                        schedule.set(&targets, now);
                    }
                    2 => out.drain(..).for_each(|id| schedule.is_back(id)),
                    _ => now = schedule.deadline(now).max(now + 1),
                }
                for due in schedule.due(now) {
                    assert!(due.t <= now && now - due.t < 10_500, "{seed}: {due:?} at {now}");
                    out.push(due.id);
                }
            }
            out.drain(..).for_each(|id| schedule.is_back(id));
            schedule.set(&[(7, 5_000)], now);
            schedule.is_back(7);
            let asked = (0..6).flat_map(|step| schedule.due(now + step * 1_000)).count();
            assert!(asked >= 1, "{seed}");
        }
    }
}
