//! How worn a disk is, and whether it is about to fail: rules over what the disk says of itself.
//!
//! Pure: a [`Health`] and what is remembered of the disk in, [`Finding`]s out. The rules and the
//! studies they come from stand in docs/operating/disks.md; change both together.

use crate::sources::Now;

/// Growth counts this long: the span within which the largest study found disks to fail many times
/// as often after a first bad sector (Pinheiro, Weber, Barroso: FAST '07).
const GROWTH_SECONDS: i64 = 60 * 24 * 3600;
/// From here on a disk's rated endurance comes to its end.
const WEAR_WATCH: f64 = 0.9;
/// Wear this small says nothing about its speed: it is told in steps of 1 %.
const WEAR_KNOWN: f64 = 0.02;
/// A disk that ran for less has no steady wear yet.
const HOURS_KNOWN: f64 = 30.0 * 24.0;
const HOURS_PER_YEAR: f64 = 24.0 * 365.25;
/// Life left is told up to here; beyond, other things end a disk.
const YEARS_MAX: f64 = 50.0;

/// What a disk says of itself, as far as it bears on its end; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Health {
    /// Its own verdict.
    pub(super) passed: Option<bool>,
    /// A prefail attribute is at or below its maker's threshold now.
    pub(super) below_threshold: bool,
    /// An attribute was at or below its threshold once.
    pub(super) was_below_threshold: bool,
    /// Part of the rated endurance used up; may be over 1.
    pub(super) wear: Option<f64>,
    pub(super) power_on_hours: Option<f64>,
    /// NVMe's mask of warnings.
    pub(super) critical_warning: Option<f64>,
    /// NVMe: spare blocks left, and what there should be, in percent.
    pub(super) spare: Option<(f64, f64)>,
    /// Self-tests that failed and were not passed since.
    pub(super) failed_tests: Option<f64>,
    pub(super) counts: Counts,
}

/// Counts that a healthy disk has at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts([Option<f64>; COUNTS.len()]);

/// One of [`Counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Reallocated,
    Uncorrectable,
    CommandTimeouts,
    Pending,
    OfflineUncorrectable,
    Crc,
    MediaErrors,
    GrownDefects,
    ScsiUncorrected,
}

/// A rule about a count.
struct Rule {
    count: Count,
    /// The level when it is not 0, with the reason.
    nonzero: Option<&'static str>,
    /// The level when it grew lately, with the reason.
    grown: (Level, &'static str),
    /// Whether it tells of lost sectors: two kinds of them are more than one.
    is_sectors: bool,
}

const COUNTS: [Rule; 9] = [
    Rule {
        count: Count::Reallocated,
        nonzero: Some("reallocated_sectors"),
        grown: (Level::Replace, "reallocated_sectors_growing"),
        is_sectors: true,
    },
    Rule {
        count: Count::Uncorrectable,
        nonzero: Some("uncorrectable_errors"),
        grown: (Level::Replace, "uncorrectable_errors_growing"),
        is_sectors: true,
    },
    Rule {
        count: Count::CommandTimeouts,
        // Packed differently by each maker, and as often the cable: only growth says something.
        nonzero: None,
        grown: (Level::Watch, "command_timeouts_growing"),
        is_sectors: false,
    },
    Rule {
        count: Count::Pending,
        nonzero: Some("pending_sectors"),
        grown: (Level::Watch, "pending_sectors_growing"),
        is_sectors: false,
    },
    Rule {
        count: Count::OfflineUncorrectable,
        nonzero: Some("offline_uncorrectable_sectors"),
        grown: (Level::Replace, "offline_uncorrectable_sectors_growing"),
        is_sectors: true,
    },
    Rule {
        count: Count::Crc,
        nonzero: None,
        grown: (Level::Watch, "interface_errors_growing"),
        is_sectors: false,
    },
    Rule {
        count: Count::MediaErrors,
        nonzero: Some("media_errors"),
        grown: (Level::Replace, "media_errors_growing"),
        is_sectors: false,
    },
    Rule {
        count: Count::GrownDefects,
        nonzero: Some("grown_defects"),
        grown: (Level::Replace, "grown_defects_growing"),
        is_sectors: true,
    },
    Rule {
        count: Count::ScsiUncorrected,
        nonzero: Some("uncorrected_errors"),
        grown: (Level::Replace, "uncorrected_errors_growing"),
        // An error that is not corrected leaves a grown defect.
        is_sectors: false,
    },
];

/// What to do about a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Look at it, have a backup.
    Watch,
    /// Replace it.
    Replace,
}

/// Why a disk is at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) reason: &'static str,
}

/// What is remembered of a disk from reading to reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    last: Counts,
    grown_at: [Option<Now>; COUNTS.len()],
}

impl Counts {
    pub(super) fn set(&mut self, count: Count, value: Option<f64>) {
        for (slot, rule) in self.0.iter_mut().zip(&COUNTS) {
            if rule.count == count {
                *slot = value;
            }
        }
    }
}

impl Level {
    /// 0, 1 or 2, as it is told.
    pub(super) fn number(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Watch => 1.0,
            Self::Replace => 2.0,
        }
    }
}

impl Memory {
    /// Takes in a reading: notes which counts grew since the one before.
    pub(super) fn take(&mut self, counts: &Counts, now: Now) {
        let slots = self.last.0.iter_mut().zip(&mut self.grown_at).zip(counts.0);
        for ((last, grown_at), count) in slots {
            let Some(count) = count else { continue };
            if last.is_some_and(|last| count > last) {
                *grown_at = Some(now);
            }
            *last = Some(count);
        }
    }

    fn grew(&self, at: usize, now: Now) -> bool {
        let grown_at = self.grown_at.get(at).copied().flatten();
        let past = |at: Now| now.unix_micros.saturating_sub(at.unix_micros) / 1_000_000;
        grown_at.is_some_and(|at| past(at) <= GROWTH_SECONDS)
    }
}

/// All that speaks against a disk.
pub(super) fn findings(health: &Health, memory: &Memory, now: Now) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |level, reason| findings.push(Finding { level, reason });
    if health.passed == Some(false) {
        find(Level::Replace, "smart_status_failed");
    }
    if health.below_threshold {
        find(Level::Replace, "attribute_below_threshold");
    } else if health.was_below_threshold {
        find(Level::Watch, "attribute_was_below_threshold");
    }
    if health.failed_tests.is_some_and(|tests| tests > 0.0) {
        find(Level::Replace, "self_test_failed");
    }
    for (bit, level, reason) in CRITICAL_WARNINGS {
        if health.critical_warning.is_some_and(|mask| has_bit(mask, bit)) {
            find(level, reason);
        }
    }
    let is_warned = health.critical_warning.is_some_and(|mask| has_bit(mask, 0));
    if !is_warned && health.spare.is_some_and(|(left, threshold)| left < threshold) {
        find(Level::Replace, "spare_below_threshold");
    }
    match health.wear {
        Some(wear) if wear >= 1.0 => find(Level::Replace, "endurance_used_up"),
        Some(wear) if wear >= WEAR_WATCH => find(Level::Watch, "endurance_nearly_used_up"),
        _ => {}
    }
    let mut kinds = 0;
    for (at, (rule, count)) in COUNTS.iter().zip(health.counts.0).enumerate() {
        if !count.is_some_and(|count| count > 0.0) {
            continue;
        }
        kinds += u32::from(rule.is_sectors);
        let (level, reason) = rule.grown;
        if memory.grew(at, now) {
            find(level, reason);
        } else if let Some(reason) = rule.nonzero {
            find(Level::Watch, reason);
        }
    }
    if kinds >= 2 {
        find(Level::Replace, "several_kinds_of_bad_sectors");
    }
    findings
}

/// The level of a disk with these findings.
pub(super) fn level(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or_default()
}

/// NVMe's warnings (NVM Express Base Specification, SMART / Health Information log).
const CRITICAL_WARNINGS: [(u32, Level, &str); 6] = [
    (0, Level::Replace, "spare_below_threshold"),
    (1, Level::Watch, "temperature"),
    (2, Level::Replace, "reliability_degraded"),
    (3, Level::Replace, "read_only"),
    (4, Level::Replace, "volatile_memory_backup_failed"),
    (5, Level::Watch, "persistent_memory_unreliable"),
];

fn has_bit(mask: f64, bit: u32) -> bool {
    let shifted = (mask / f64::from(1_u32 << bit)).floor();
    shifted.is_finite() && shifted.rem_euclid(2.0) >= 1.0
}

/// Years until the rated endurance is used up, if the disk goes on as it did while it was powered on.
pub(super) fn years_left(health: &Health) -> Option<f64> {
    let hours = health.power_on_hours.filter(|hours| *hours >= HOURS_KNOWN)?;
    let wear = health.wear.filter(|wear| *wear >= WEAR_KNOWN)?;
    let years = (1.0 - wear).max(0.0) / wear * hours / HOURS_PER_YEAR;
    Some(years.min(YEARS_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * 3600 * 1_000_000;

    fn at(day: i64) -> Now {
        Now { unix_micros: 1_770_000_000_000_000 + day * DAY }
    }

    fn counts(pairs: &[(Count, f64)]) -> Counts {
        let mut counts = Counts::default();
        for (count, value) in pairs {
            counts.set(*count, Some(*value));
        }
        counts
    }

    /// What is found on the last of `days`, as `level reason`.
    #[track_caller]
    fn check(days: &[(i64, Health)], expected: &[(Level, &'static str)]) {
        let mut memory = Memory::default();
        for (day, health) in days {
            memory.take(&health.counts, at(*day));
        }
        let (day, health) = days.last().unwrap();
        let found = findings(health, &memory, at(*day));
        let found: Vec<_> = found.iter().map(|f| (f.level, f.reason)).collect();
        assert_eq!(found, expected);
    }

    fn with(pairs: &[(Count, f64)]) -> Health {
        Health { counts: counts(pairs), passed: Some(true), ..Health::default() }
    }

    #[test]
    fn a_healthy_disk_has_no_finding() {
        check(&[(0, with(&[(Count::Reallocated, 0.0), (Count::Pending, 0.0)]))], &[]);
        check(&[(0, Health::default())], &[]);
        assert_eq!(level(&[]).number(), 0.0);
    }

    #[test]
    fn a_few_bad_sectors_are_watched_until_there_are_more() {
        let few = with(&[(Count::Reallocated, 8.0)]);
        let more = with(&[(Count::Reallocated, 9.0)]);
        let watch = [(Level::Watch, "reallocated_sectors")];
        let replace = [(Level::Replace, "reallocated_sectors_growing")];
        check(&[(0, few.clone()), (1, few.clone())], &watch);
        check(&[(0, few.clone()), (1, more.clone())], &replace);
        check(&[(0, few.clone()), (1, more.clone()), (61, more.clone())], &replace);
        check(&[(0, few), (1, more.clone()), (62, more)], &watch);
    }

    #[test]
    fn two_kinds_of_bad_sectors_are_one_too_many() {
        let health = with(&[(Count::Reallocated, 8.0), (Count::Uncorrectable, 1.0)]);
        check(
            &[(0, health)],
            &[
                (Level::Watch, "reallocated_sectors"),
                (Level::Watch, "uncorrectable_errors"),
                (Level::Replace, "several_kinds_of_bad_sectors"),
            ],
        );
        // A pending sector is usually counted as uncorrectable as well.
        let one = with(&[(Count::Pending, 1.0), (Count::OfflineUncorrectable, 1.0)]);
        check(
            &[(0, one)],
            &[(Level::Watch, "pending_sectors"), (Level::Watch, "offline_uncorrectable_sectors")],
        );
    }

    #[test]
    fn timeouts_and_interface_errors_matter_only_while_they_grow() {
        let old = with(&[(Count::CommandTimeouts, 4.0), (Count::Crc, 12.0)]);
        check(&[(0, old.clone())], &[]);
        let new = with(&[(Count::CommandTimeouts, 5.0), (Count::Crc, 13.0)]);
        let expected = [
            (Level::Watch, "command_timeouts_growing"),
            (Level::Watch, "interface_errors_growing"),
        ];
        check(&[(0, old), (1, new)], &expected);
    }

    #[test]
    fn the_disks_own_verdict_counts() {
        let failed = Health { passed: Some(false), below_threshold: true, ..Health::default() };
        let expected = [
            (Level::Replace, "smart_status_failed"),
            (Level::Replace, "attribute_below_threshold"),
        ];
        check(&[(0, failed)], &expected);
        let once = Health { was_below_threshold: true, ..Health::default() };
        check(&[(0, once)], &[(Level::Watch, "attribute_was_below_threshold")]);
        let test = Health { failed_tests: Some(1.0), ..Health::default() };
        check(&[(0, test)], &[(Level::Replace, "self_test_failed")]);
    }

    #[test]
    fn nvme_warnings_are_told_by_name_and_once() {
        let health = Health {
            critical_warning: Some(f64::from(0b1011)),
            spare: Some((3.0, 10.0)),
            ..Health::default()
        };
        let found = findings(&health, &Memory::default(), at(0));
        let reasons: Vec<_> = found.iter().map(|finding| finding.reason).collect();
        assert_eq!(reasons, ["spare_below_threshold", "temperature", "read_only"]);
        assert_eq!(level(&found), Level::Replace);
    }

    #[test]
    fn wear_is_watched_near_its_end() {
        let worn = |wear| Health { wear: Some(wear), ..Health::default() };
        check(&[(0, worn(0.89))], &[]);
        check(&[(0, worn(0.9))], &[(Level::Watch, "endurance_nearly_used_up")]);
        check(&[(0, worn(1.3))], &[(Level::Replace, "endurance_used_up")]);
    }

    #[test]
    fn life_left_is_what_wear_so_far_foretells() {
        let health = |wear, hours| Health {
            wear: Some(wear),
            power_on_hours: Some(hours),
            ..Health::default()
        };
        assert_eq!(years_left(&health(0.25, 2.0 * HOURS_PER_YEAR)), Some(6.0));
        assert_eq!(years_left(&health(1.2, HOURS_PER_YEAR)), Some(0.0));
        assert_eq!(years_left(&health(0.02, 20.0 * HOURS_PER_YEAR)), Some(YEARS_MAX));
        assert_eq!(years_left(&health(0.01, HOURS_PER_YEAR)), None);
        assert_eq!(years_left(&health(0.5, 24.0)), None);
        assert_eq!(years_left(&Health::default()), None);
    }

    proptest! {
        #[test]
        fn any_numbers_give_each_reason_once(
            warning in any::<f64>(), wear in any::<f64>(), hours in any::<f64>(),
            values in prop::collection::vec(prop::option::of(any::<f64>()), COUNTS.len()),
        ) {
            let mut health = Health {
                critical_warning: Some(warning),
                wear: Some(wear),
                power_on_hours: Some(hours),
                spare: Some((wear, hours)),
                ..Health::default()
            };
            for (slot, value) in health.counts.0.iter_mut().zip(values) {
                *slot = value.filter(|value| value.is_finite());
            }
            let mut memory = Memory::default();
            memory.take(&health.counts, at(0));
            let found = findings(&health, &memory, at(1));
            let mut reasons: Vec<_> = found.iter().map(|finding| finding.reason).collect();
            reasons.sort_unstable();
            let all = reasons.len();
            reasons.dedup();
            prop_assert_eq!(all, reasons.len());
            if let Some(years) = years_left(&health) {
                prop_assert!((0.0..=YEARS_MAX).contains(&years));
            }
        }
    }
}
