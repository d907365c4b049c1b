//! Scrapes of one moment become ticks: those that come back soon travel together, the others by themselves.
//!
//! A tick costs what the agent's dictionary is long, not what it holds, so that few of them are better.
//! Knows neither targets nor clocks. Bounded by the targets that are out.

use std::collections::BTreeMap;

use stoa_model::TimestampMs;
use stoa_proto::tick::Tick;

use super::book::Samples;

/// Samples of one tick, at most: what a collector reads where it comes in.
pub const TICK_SAMPLES_MAX: usize = 8 << 10;

/// The scrapes of a moment wait for each other so long, milliseconds.
const HOLD_MS: i64 = 700;

/// What is waiting.
#[derive(Debug, Default)]
pub struct Gather {
    moments: BTreeMap<TimestampMs, Moment>,
}

#[derive(Debug, Default)]
struct Moment {
    samples: Samples,
    /// Targets that are being asked.
    out: usize,
}

impl Gather {
    /// A target is asked for this moment.
    pub fn begins(&mut self, t: TimestampMs) {
        self.moments.entry(t).or_default().out += 1;
    }

    /// It has come back, with these.
    pub fn ends(&mut self, t: TimestampMs, samples: Samples) {
        let moment = self.moments.entry(t).or_default();
        moment.out = moment.out.saturating_sub(1);
        moment.samples.extend(samples);
    }

    /// Samples of a moment that nobody is asked for.
    pub fn adds(&mut self, t: TimestampMs, samples: Samples) {
        if !samples.is_empty() {
            self.moments.entry(t).or_default().samples.extend(samples);
        }
    }

    /// The ticks that are to go now.
    pub fn ready(&mut self, now: TimestampMs) -> Vec<Tick> {
        let mut ticks = Vec::new();
        self.moments.retain(|t, moment| {
            if moment.out > 0 && (0..HOLD_MS).contains(&(now - t)) {
                return true;
            }
            let mut samples = std::mem::take(&mut moment.samples);
            samples.sort_unstable_by_key(|(series, _)| series.id);
            for part in samples.chunks(TICK_SAMPLES_MAX) {
                ticks.push(Tick { t: *t, samples: part.to_vec() });
            }
            moment.out > 0
        });
        ticks
    }

    /// When something is to go though not all have come back.
    #[must_use]
    pub fn deadline(&self) -> Option<TimestampMs> {
        let waits = |moment: &Moment| !moment.samples.is_empty();
        let first = self.moments.iter().find(|(_, moment)| waits(moment));
        first.map(|(t, _)| t + HOLD_MS)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stoa_model::Labels;
    use stoa_proto::tick::{FamilyInfo, Series};

    use super::*;

    fn samples(ids: std::ops::Range<u32>) -> Samples {
        let (name, help, unit) = (String::new(), String::new(), String::new());
        let family = Arc::new(FamilyInfo { name, help, unit, kind: stoa_model::MetricKind::Gauge });
        let series = |id| Series { id, family: Arc::clone(&family), labels: Labels::empty() };
        ids.map(|id| (Arc::new(series(id)), 1.0)).collect()
    }

    #[test]
    fn scrapes_of_a_moment_travel_together_and_late_ones_alone() {
        let mut gather = Gather::default();
        let told = |ticks: Vec<Tick>| -> Vec<(i64, usize)> {
            assert!(ticks.iter().all(|tick| tick.samples.is_sorted_by(|a, b| a.0.id < b.0.id)));
            ticks.iter().map(|tick| (tick.t, tick.samples.len())).collect()
        };
        for t in [1000, 1000, 2000] {
            gather.begins(t);
        }
        gather.ends(1000, samples(5..9));
        assert_eq!((told(gather.ready(1100)), gather.deadline()), (vec![], Some(1700)));
        gather.ends(1000, samples(0..3));
        assert_eq!(told(gather.ready(1200)), [(1000, 7)]);
        gather.begins(2000);
        gather.ends(2000, samples(0..2));
        assert_eq!(told(gather.ready(2600)), []);
        assert_eq!(told(gather.ready(2700)), [(2000, 2)]);
        gather.ends(2000, samples(0..1));
        assert_eq!(told(gather.ready(9000)), [(2000, 1)]);
        gather.adds(7, samples(0..20_000));
        assert_eq!(told(gather.ready(9000)), [(7, 8192), (7, 8192), (7, 3616)]);
        assert_eq!((told(gather.ready(9000)), gather.deadline()), (vec![], None));
        // A clock that was set back holds nothing.
        gather.begins(9000);
        gather.ends(9000, samples(0..1));
        gather.begins(9000);
        assert_eq!(told(gather.ready(100)), [(9000, 1)]);
    }
}
