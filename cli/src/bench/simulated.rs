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
//! follow from the seed alone, and never repeat. Or the series are those of this machine, read once,
//! so that a dashboard finds its names: then what a series is called decides how it moves.

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
    /// The time of the reading itself.
    Clock,
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
fn series(count: usize) -> Vec<Arc<Series>> {
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
        Motion::Clock => ("time_seconds", MetricKind::Gauge),
        Motion::Whole => ("running", MetricKind::Gauge),
    };
    FamilyInfo {
        name: format!("simulated_{number}_{ending}"),
        help: format!("A simulated reading, number {number}, of a text about this long."),
        unit: String::new(),
        kind,
    }
}

/// The series every host has, and how each moves.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    series: Arc<[Arc<Series>]>,
    motions: Arc<[Motion]>,
    /// Where a series begins that is not made up, in its own unit.
    begins: Option<Arc<[f64]>>,
}

impl Shape {
    /// `count` series of made-up names.
    pub(super) fn made_up(count: usize) -> Self {
        let motions = (0..count).map(motion).collect();
        Self { series: series(count).into(), motions, begins: None }
    }

    /// The series of a reading, numbered anew; what is zero stays so, as most counters do.
    pub(super) fn of(reading: &Tick) -> Self {
        let (mut series, mut motions, mut begins) = (Vec::new(), Vec::new(), Vec::new());
        for (id, (one, value)) in (0_u32..).zip(&reading.samples) {
            let (family, labels) = (Arc::clone(&one.family), one.labels.clone());
            motions.push(motion_of(&family, *value, id));
            series.push(Arc::new(Series { id, family, labels }));
            begins.push(*value);
        }
        Self { series: series.into(), motions: motions.into(), begins: Some(begins.into()) }
    }

    /// How many series a host has.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }
}

/// How a series of a real reading moves: by its kind and name.
fn motion_of(family: &FamilyInfo, value: f64, id: u32) -> Motion {
    // A third of what could move does not at most times: devices and modes nobody uses.
    let is_idle = id % 3 == 2;
    let name = family.name.as_str();
    match family.kind {
        _ if value == 0.0 || !value.is_finite() || value.abs() > 1e15 || is_idle => Motion::Still,
        MetricKind::Counter if name.contains("seconds") => Motion::Seconds,
        MetricKind::Counter if name.contains("bytes") => Motion::Bytes,
        MetricKind::Counter => Motion::Events,
        _ if name == "node_time_seconds" => Motion::Clock,
        _ if name.contains("bytes") && !name.contains("Total") && !name.contains("size") => {
            Motion::Pages
        }
        _ if name.contains("celsius") => Motion::Temperature,
        _ if name.contains("procs_") || name.contains("load") => Motion::Whole,
        _ => Motion::Still,
    }
}

/// One host: its values now.
pub(super) struct Host {
    shape: Shape,
    /// In the units of each motion: events, bytes, hundredths, pages, eighths of a degree.
    values: Vec<u64>,
    random: Random,
}

impl Host {
    /// Host number `number` of a run.
    pub(super) fn new(shape: &Shape, seed: u64, number: u64) -> Self {
        let mut random = Random(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let begin = |(at, motion): (usize, &Motion)| match &shape.begins {
            Some(begins) => units(*motion, begins.get(at).copied().unwrap_or(0.0)),
            None => drawn(*motion, &mut random),
        };
        let values = shape.motions.iter().enumerate().map(begin).collect();
        Self { shape: shape.clone(), values, random }
    }

    /// Lets time pass without a reading.
    pub(super) fn pass(&mut self) {
        for (motion, value) in self.shape.motions.iter().zip(&mut self.values) {
            *value = moved(*motion, *value, self.random.next());
        }
    }

    /// The next readings, as of `t`.
    pub(super) fn tick(&mut self, t: TimestampMs) -> Tick {
        self.pass();
        let mut samples = Vec::with_capacity(self.values.len());
        let parts = self.shape.series.iter().zip(&*self.shape.motions).zip(&self.values);
        for (at, ((series, motion), value)) in parts.enumerate() {
            let begins = self.shape.begins.as_ref().and_then(|begins| begins.get(at));
            let value = match (motion, begins) {
                // With all its digits, as it was read.
                (Motion::Still, Some(begin)) => *begin,
                (Motion::Clock, _) => t as f64 / 1000.0,
                _ => shown(*motion, *value),
            };
            samples.push((Arc::clone(series), value));
        }
        Tick { t, samples }
    }
}

fn drawn(motion: Motion, random: &mut Random) -> u64 {
    match motion {
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
        Motion::Clock => 0,
    }
}

/// A reading in the units of its motion.
fn units(motion: Motion, value: f64) -> u64 {
    let per_unit = match motion {
        Motion::Pages => 4096.0,
        Motion::Seconds => 0.01,
        Motion::Temperature => 0.125,
        _ => 1.0,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what does not fit is cut off: it is made up from here on"
    )]
    let units = (value / per_unit).round() as u64;
    units
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
        Motion::Clock => value,
    }
}

fn shown(motion: Motion, value: u64) -> f64 {
    let value = value as f64;
    match motion {
        Motion::Pages => value * 4096.0,
        Motion::Seconds => value / 100.0,
        Motion::Temperature => value / 8.0,
        Motion::Still | Motion::Events | Motion::Bytes | Motion::Whole | Motion::Clock => value,
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
        Host::new(&Shape::made_up(550), seed, number)
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
    fn a_reading_goes_on_from_where_it_was() {
        let reading = host(3, 0).tick(1000);
        let mut like = Host::new(&Shape::of(&reading), 1, 0);
        let first = like.tick(2000);
        assert_eq!(first.samples.len(), 550);
        let mut last = first.clone();
        for t in 3..300 {
            last = like.tick(t * 1000);
        }
        let mut moved = 0;
        for (((was, before), (_, begin)), (is, now)) in
            reading.samples.iter().zip(&first.samples).zip(&last.samples)
        {
            assert_eq!(was, is);
            let step = (begin - before).abs();
            assert!(step <= 32.0 * 4096.0, "{was:?} goes from {before} to {begin}");
            assert!(was.family.kind != MetricKind::Counter || now >= begin, "{was:?}");
            moved += usize::from(begin.to_bits() != now.to_bits());
        }
        assert!((150..400).contains(&moved), "{moved} of 550 moved");
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
