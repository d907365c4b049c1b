//! Hosts that are made up: what a host's readings look like to the wire and to the store.
//!
//! Of twenty series
//! - 13 never change, as sizes, limits, flags and the counters of what does not happen;
//! - 4 are counters: two of events (0 to 9 more each time), one of bytes (0 to 64 KiB more, every
//!   other time none), one of seconds (0 to 0.03 more, two decimals, as of a CPU's mode);
//! - 3 are gauges: memory in whole pages that drifts, a temperature with three decimals in steps of
//!   0.125 that mostly stays, a small whole number.
//!
//! All hosts have the same series; `host` and `instance` come from their certificates. The values
//! follow from the seed alone.

use std::sync::Arc;

use stoa_model::{Labels, MetricKind, TimestampMs};
use stoa_proto::tick::{FamilyInfo, Series, Tick};

/// Series of one family: as many as a device has.
const FAMILY_SERIES: usize = 5;

/// How a series moves from one tick to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Motion {
    Still,
    Events,
    Bytes,
    Seconds,
    Pages,
    Temperature,
    Whole,
}

/// Twenty series.
const MIX: [Motion; 20] = {
    use Motion::{Bytes, Events, Pages, Seconds, Still, Temperature, Whole};
    [
        Still,
        Events,
        Still,
        Still,
        Pages,
        Still,
        Seconds,
        Still,
        Still,
        Whole,
        Still,
        Bytes,
        Still,
        Still,
        Temperature,
        Still,
        Events,
        Still,
        Still,
        Still,
    ]
};

fn motion(at: usize) -> Motion {
    MIX.get(at % MIX.len()).copied().unwrap_or(Motion::Still)
}

/// The series every host has, `count` of them.
pub(super) fn series(count: usize) -> Vec<Arc<Series>> {
    let mut all = Vec::with_capacity(count);
    let mut family = Arc::new(family_info(0, Motion::Still));
    for (id, at) in (0_u32..).zip(0..count) {
        // Twenty series of one motion's family stand together, so that a family is of one kind.
        let (block, place) = (at / (MIX.len() * FAMILY_SERIES), at % MIX.len());
        let name_number = block * MIX.len() + place;
        let motion = motion(at);
        let info = family_info(name_number, motion);
        if *family != info {
            family = Arc::new(info);
        }
        let device = at / MIX.len() % FAMILY_SERIES;
        let labels = Labels::from_pairs_last_wins([
            ("__name__", family.name.clone()),
            ("device", format!("dev{device}")),
            ("mode", format!("{motion:?}").to_lowercase()),
        ]);
        all.push(Arc::new(Series { id, family: Arc::clone(&family), labels }));
    }
    all
}

fn family_info(number: usize, motion: Motion) -> FamilyInfo {
    let (ending, kind) = match motion {
        Motion::Still | Motion::Pages => ("bytes", MetricKind::Gauge),
        Motion::Events => ("events_total", MetricKind::Counter),
        Motion::Bytes => ("bytes_total", MetricKind::Counter),
        Motion::Seconds => ("seconds_total", MetricKind::Counter),
        Motion::Temperature => ("celsius", MetricKind::Gauge),
        Motion::Whole => ("running", MetricKind::Gauge),
    };
    FamilyInfo {
        name: format!("simulated_{number}_{ending}"),
        help: format!("A simulated reading, number {number}, of a text about this long."),
        unit: String::new(),
        kind,
    }
}

/// One host: its values now.
pub(super) struct Host {
    series: Arc<[Arc<Series>]>,
    /// In the units of each motion: events, bytes, hundredths, pages, eighths of a degree.
    values: Vec<u64>,
    random: Random,
}

impl Host {
    /// Host number `number` of a run.
    pub(super) fn new(series: &Arc<[Arc<Series>]>, seed: u64, number: u64) -> Self {
        let mut random = Random(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let values = (0..series.len())
            .map(|at| match motion(at) {
                Motion::Still => match random.below(3) {
                    0 => 0,
                    1 => random.below(100),
                    _ => random.below(1 << 34),
                },
                Motion::Events => random.below(1 << 24),
                Motion::Bytes => random.below(1 << 36),
                Motion::Seconds => random.below(10_000_000),
                Motion::Pages => (1 << 20) + random.below(1 << 20),
                Motion::Temperature => 320 + random.below(160),
                Motion::Whole => random.below(8),
            })
            .collect();
        Self { series: Arc::clone(series), values, random }
    }

    /// The next readings, as of `t`.
    pub(super) fn tick(&mut self, t: TimestampMs) -> Tick {
        let mut samples = Vec::with_capacity(self.values.len());
        for (at, (series, value)) in self.series.iter().zip(&mut self.values).enumerate() {
            let motion = motion(at);
            let draw = self.random.next();
            *value = moved(motion, *value, draw);
            samples.push((Arc::clone(series), shown(motion, *value)));
        }
        Tick { t, samples }
    }
}

fn moved(motion: Motion, value: u64, draw: u64) -> u64 {
    let (coin, size) = (draw >> 63 == 1, draw & 0xffff_ffff);
    match motion {
        Motion::Still => value,
        Motion::Events => value + size % 10,
        Motion::Bytes if coin => value + size % (64 << 10),
        Motion::Bytes => value,
        Motion::Seconds => value + size % 4,
        Motion::Pages if coin => value + size % 32,
        Motion::Pages => value.saturating_sub(size % 32),
        Motion::Temperature => match size % 8 {
            0 => value + 1,
            1 => value.saturating_sub(1),
            _ => value,
        },
        Motion::Whole => size % 8,
    }
}

fn shown(motion: Motion, value: u64) -> f64 {
    let value = value as f64;
    match motion {
        Motion::Pages => value * 4096.0,
        Motion::Seconds => value / 100.0,
        Motion::Temperature => value / 8.0,
        Motion::Still | Motion::Events | Motion::Bytes | Motion::Whole => value,
    }
}

/// Splitmix64: a number a seed gives again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(seed: u64, number: u64) -> Host {
        Host::new(&series(550).into(), seed, number)
    }

    #[test]
    fn series_are_dense_and_no_label_set_stands_twice() {
        let all = series(550);
        let mut labels: Vec<String> = all.iter().map(|one| one.labels.to_string()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), 550);
        assert!(all.iter().zip(0..).all(|(one, id)| one.id == id));
        let families: std::collections::BTreeSet<&str> =
            all.iter().map(|one| one.family.name.as_str()).collect();
        assert_eq!(families.len(), 120);
    }

    #[test]
    fn a_seed_gives_the_same_values_again_and_another_host_others() {
        let (mut one, mut same, mut other) = (host(1, 3), host(1, 3), host(1, 4));
        let (first, again, others) = (one.tick(5), same.tick(5), other.tick(5));
        assert!(first == again);
        assert!(first != others);
    }

    #[test]
    fn two_thirds_stay_and_counters_never_fall() {
        let mut host = host(2, 0);
        let mut before = host.tick(0);
        for t in 1..50 {
            let now = host.tick(t);
            let pairs = before.samples.iter().zip(&now.samples);
            let mut still = 0;
            for ((series, was), (_, is)) in pairs {
                still += usize::from(was.to_bits() == is.to_bits());
                assert!(series.family.kind != MetricKind::Counter || is >= was, "{series:?}");
            }
            assert!((360..450).contains(&still), "{still} of 550 stay");
            before = now;
        }
    }
}
