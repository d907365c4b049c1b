//! What the sources read at one instant becomes a [`Tick`]: every series numbered once for the life
//! of the process, ended series marked stale, the number of series bounded.
//!
//! Knows neither where readings come from nor where ticks go. Bounds: [`SERIES_MAX`] alive at once;
//! a number is never given twice, and a series that has ended is forgotten with its marker.

use std::collections::HashMap;
use std::sync::Arc;

use stoa_model::{Family, Label, Labels, METRIC_NAME, TimestampMs, stale_nan};
use stoa_proto::convert::{LABEL_BYTES_MAX, LABELS_MAX, RESERVED, SERIES_PER_AGENT_MAX};
use stoa_proto::tick::{FamilyInfo, Series, Tick};

use crate::numbers::Numbers;

/// Series alive at once, at most: what the collector takes from one agent, so that a series it
/// would refuse does not travel.
pub const SERIES_MAX: usize = SERIES_PER_AGENT_MAX;

/// Labels a source may give: the collector adds the reserved ones and the metric's name.
const OWN_LABELS_MAX: usize = LABELS_MAX - RESERVED.len() - 1;

/// All that one source read at one instant.
#[derive(Clone, Copy, Debug)]
pub struct SourceReading<'a> {
    /// The source's name. What it read last time and not now has ended.
    pub source: &'static str,
    /// What it read; empty when it failed.
    pub families: &'a [&'a Family],
}

/// A tick, and what did not get into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batched {
    /// The readings.
    pub tick: Tick,
    /// Readings left out: over [`SERIES_MAX`], labels over the limits, or a series given twice.
    pub refused: u64,
}

/// Turns readings into ticks.
#[derive(Debug, Default)]
pub struct Batcher {
    /// By source, then family, then labels as the source gives them.
    sources: HashMap<&'static str, HashMap<String, KnownFamily>>,
    alive: usize,
    /// Shared with all else that makes ticks.
    numbers: Arc<Numbers>,
    /// Counts the ticks, to tell what was there in this one.
    round: u64,
}

#[derive(Debug)]
struct KnownFamily {
    info: Arc<FamilyInfo>,
    /// The label of all its series that holds its name: one text for all of them.
    name: Label,
    series: HashMap<Labels, Known>,
    /// The series as they stood in the last tick; empty when one of them was refused or twice there.
    order: Vec<(Labels, Arc<Series>)>,
    /// The round of the last reading.
    seen: u64,
    /// Whether this round's reading has the series of the last, in their order.
    as_before: bool,
}

#[derive(Debug)]
struct Known {
    series: Arc<Series>,
    seen: u64,
}

impl Batcher {
    /// A batcher that knows no series.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that shares its numbers.
    #[must_use]
    pub fn numbered(numbers: Arc<Numbers>) -> Self {
        Self { numbers, ..Self::default() }
    }

    /// Series alive now.
    #[must_use]
    pub fn series(&self) -> usize {
        self.alive
    }

    /// The tick of readings taken at `t`. A source that was not due is left out of `readings`.
    pub fn tick(&mut self, t: TimestampMs, readings: &[SourceReading<'_>]) -> Batched {
        self.round += 1;
        let mut batched = Batched { tick: Tick { t, samples: Vec::new() }, refused: 0 };
        batched.tick.samples.reserve(self.alive);
        for reading in readings {
            self.read(reading, &mut batched);
        }
        batched.tick.samples.sort_unstable_by_key(|(series, _)| series.id);
        batched
    }

    fn read(&mut self, reading: &SourceReading<'_>, batched: &mut Batched) {
        let families = self.sources.entry(reading.source).or_default();
        for family in reading.families {
            if !families.contains_key(&family.name) {
                families.insert(family.name.clone(), KnownFamily::new(family));
            }
            let Some(known) = families.get_mut(&family.name) else { continue };
            // A name that stands twice has two orders: what was kept of one says nothing of the other.
            let is_again = known.seen == self.round;
            known.seen = self.round;
            if !is_again && known.is_as_before(family) {
                let samples = known.order.iter().zip(&family.metrics);
                let samples = samples.map(|((_, series), m)| (Arc::clone(series), m.value));
                batched.tick.samples.extend(samples);
                known.as_before = true;
                continue;
            }
            if is_again && std::mem::take(&mut known.as_before) {
                let round = self.round;
                known.series.values_mut().for_each(|series| series.seen = round);
            }
            known.order.clear();
            let refused = batched.refused;
            for metric in &family.metrics {
                let entry = match known.series.get_mut(&metric.labels) {
                    Some(entry) => entry,
                    None => {
                        let fits = self.alive < SERIES_MAX && is_within_limits(&metric.labels);
                        let Some(id) = fits.then(|| self.numbers.next()).flatten() else {
                            batched.refused += 1;
                            continue;
                        };
                        let series = known.series(id, &metric.labels);
                        self.alive += 1;
                        known
                            .series
                            .entry(metric.labels.clone())
                            .or_insert(Known { series, seen: 0 })
                    }
                };
                if entry.seen == self.round {
                    batched.refused += 1;
                    continue;
                }
                entry.seen = self.round;
                known.order.push((metric.labels.clone(), Arc::clone(&entry.series)));
                batched.tick.samples.push((Arc::clone(&entry.series), metric.value));
            }
            if batched.refused > refused || is_again {
                known.order.clear();
            }
        }
        let round = self.round;
        for family in families.values_mut() {
            if std::mem::take(&mut family.as_before) {
                continue;
            }
            if family.seen != round {
                family.order.clear();
            }
            family.series.retain(|_, known| {
                let stays = known.seen == round;
                if !stays {
                    batched.tick.samples.push((Arc::clone(&known.series), stale_nan()));
                    self.alive -= 1;
                }
                stays
            });
        }
        families.retain(|_, family| !family.series.is_empty());
    }
}

impl KnownFamily {
    fn new(family: &Family) -> Self {
        let info = FamilyInfo {
            name: family.name.clone(),
            help: family.help.clone(),
            unit: String::new(),
            kind: family.kind,
        };
        Self {
            name: Label { name: METRIC_NAME.into(), value: family.name.as_str().into() },
            info: Arc::new(info),
            series: HashMap::new(),
            order: Vec::new(),
            seen: 0,
            as_before: false,
        }
    }

    /// Whether the readings are of the very label sets of the last tick: nothing is to be looked up.
    fn is_as_before(&self, family: &Family) -> bool {
        self.order.len() == family.metrics.len()
            && !self.order.is_empty()
            && self
                .order
                .iter()
                .zip(&family.metrics)
                .all(|((labels, _), metric)| labels.is_same(&metric.labels))
    }

    fn series(&self, id: u32, labels: &Labels) -> Arc<Series> {
        let labels = match labels.metric_name() {
            Some(_) => labels.clone(),
            None => labels.with_label(self.name.clone()),
        };
        Arc::new(Series { id, family: Arc::clone(&self.info), labels })
    }
}

fn is_within_limits(labels: &Labels) -> bool {
    labels.len() <= OWN_LABELS_MAX
        && labels.iter().all(|label| label.name.len().max(label.value.len()) <= LABEL_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use stoa_model::{MetricKind, is_stale};

    use super::*;

    fn family(name: &str, values: &[(&str, f64)]) -> Family {
        let mut family = Family::new(name, "Help.", MetricKind::Gauge);
        for &(device, value) in values {
            family.push(Labels::from_pairs([("device", device)]).unwrap(), value);
        }
        family
    }

    /// Gives rounds of (source, families) and says the samples of the last, `x` for stale.
    fn check(rounds: &[&[(&'static str, Vec<Family>)]], expected: &[(u32, &str, &str)]) {
        let mut batcher = Batcher::new();
        let mut last = Batched::default();
        for round in rounds {
            let round: Vec<(&'static str, Vec<&Family>)> =
                round.iter().map(|(source, list)| (*source, list.iter().collect())).collect();
            let readings: Vec<SourceReading<'_>> =
                round.iter().map(|(source, families)| SourceReading { source, families }).collect();
            last = batcher.tick(1000, &readings);
        }
        let got: Vec<(u32, String, String)> = last
            .tick
            .samples
            .iter()
            .map(|(series, value)| {
                let value = if is_stale(*value) { "x".to_owned() } else { value.to_string() };
                (series.id, series.labels.to_string(), value)
            })
            .collect();
        let expected: Vec<(u32, String, String)> = expected
            .iter()
            .map(|&(id, labels, value)| (id, labels.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn series_keep_their_number_and_end_with_a_marker() {
        let first: &[(&'static str, Vec<Family>)] =
            &[("disk", vec![family("io", &[("a", 1.0), ("b", 2.0)])])];
        let second: &[(&'static str, Vec<Family>)] = &[("disk", vec![family("io", &[("b", 3.0)])])];
        check(&[first], &[(0, r#"io{device="a"}"#, "1"), (1, r#"io{device="b"}"#, "2")]);
        check(&[first, second], &[(0, r#"io{device="a"}"#, "x"), (1, r#"io{device="b"}"#, "3")]);
        check(&[first, second, second], &[(1, r#"io{device="b"}"#, "3")]);
        // One that comes back is a new one.
        check(
            &[first, second, first],
            &[(1, r#"io{device="b"}"#, "2"), (2, r#"io{device="a"}"#, "1")],
        );
    }

    #[test]
    fn a_source_that_is_not_due_ends_nothing_and_one_that_failed_ends_all() {
        let both: &[(&'static str, Vec<Family>)] =
            &[("a", vec![family("x", &[("1", 1.0)])]), ("b", vec![family("y", &[("1", 2.0)])])];
        check(&[both, &[("a", vec![family("x", &[("1", 5.0)])])]], &[(0, r#"x{device="1"}"#, "5")]);
        check(&[both, &[("b", vec![])]], &[(1, r#"y{device="1"}"#, "x")]);
    }

    #[test]
    fn the_very_label_sets_of_the_last_tick_give_the_same_samples() {
        let (all, mut batcher) = (family("io", &[("a", 1.0), ("b", 2.0)]), Batcher::new());
        let mut swapped = all.clone();
        swapped.metrics.reverse();
        let equal = family("io", &[("a", 1.0), ("b", 2.0)]);
        let mut twice = all.clone();
        twice.push(all.metrics[0].labels.clone(), 9.0);
        let mut one = all.clone();
        one.metrics.pop();
        let mut tick = |family: &Family| {
            let reading = SourceReading { source: "disk", families: &[family] };
            let batched = batcher.tick(0, &[reading]);
            let ids = batched.tick.samples.iter().map(|(s, v)| (s.id, is_stale(*v))).collect();
            (ids, batched.refused)
        };
        let both: Vec<(u32, bool)> = vec![(0, false), (1, false)];
        for same in [&all, &all, &swapped, &swapped, &equal, &all] {
            assert_eq!(tick(same), (both.clone(), 0));
        }
        assert_eq!(tick(&twice), (both.clone(), 1));
        assert_eq!(tick(&twice), (both.clone(), 1));
        assert_eq!(tick(&all), (both, 0));
        assert_eq!(tick(&one), (vec![(0, false), (1, true)], 0));
        assert_eq!(tick(&one), (vec![(0, false)], 0));
        assert_eq!(tick(&all), (vec![(0, false), (2, false)], 0));
    }

    #[test]
    fn a_family_that_stands_twice_ends_what_is_gone_and_tells_nothing_twice() {
        let (a, b) = (family("io", &[("a", 1.0)]), family("io", &[("b", 2.0)]));
        let mut batcher = Batcher::new();
        let mut tick = |families: &[&Family]| {
            let batched = batcher.tick(0, &[SourceReading { source: "disk", families }]);
            let ids = batched.tick.samples.iter().map(|(s, v)| (s.id, is_stale(*v))).collect();
            (ids, batched.refused)
        };
        let both: Vec<(u32, bool)> = vec![(0, false), (1, false)];
        assert_eq!(tick(&[&a, &b]), (both.clone(), 0));
        assert_eq!(tick(&[&b]), (vec![(0, true), (1, false)], 0));
        assert_eq!(tick(&[&b]), (vec![(1, false)], 0));
        // As it was, and once more.
        assert_eq!(tick(&[&b, &b]), (vec![(1, false)], 1));
        assert_eq!(tick(&[&b]), (vec![(1, false)], 0));
        assert_eq!(tick(&[&b, &a]), (vec![(1, false), (2, false)], 0));
    }

    #[test]
    fn a_label_bomb_is_bounded_and_counted() {
        let mut batcher = Batcher::new();
        let names: Vec<String> = (0..SERIES_MAX + 7).map(|i| i.to_string()).collect();
        let many: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
        let families = [family("bomb", &many), family("io", &[("late", 1.0)])];
        let readings = [SourceReading { source: "textfile", families: &families.each_ref() }];
        let batched = batcher.tick(0, &readings);
        assert_eq!((batched.tick.samples.len(), batched.refused), (SERIES_MAX, 8));
        let again = batcher.tick(0, &[SourceReading { source: "textfile", families: &[] }]);
        assert_eq!((again.tick.samples.len(), batcher.series()), (SERIES_MAX, 0));
        let long = "x".repeat(LABEL_BYTES_MAX + 1);
        let families = [family("io", &[(&long, 1.0), ("a", 1.0), ("a", 2.0)])];
        let readings = [SourceReading { source: "textfile", families: &families.each_ref() }];
        assert_eq!(batcher.tick(0, &readings).refused, 2);
    }
}
