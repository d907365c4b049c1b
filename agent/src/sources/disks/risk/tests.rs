//! Signs in, verdict and reasons out; the tables against the docs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::Level::{Replace, Watch};
use super::*;

const DAY: i64 = DAY_MICROS;
const HOUR: i64 = DAY / 24;
const KINDS: [Kind; 5] = [Kind::Hdd, Kind::Ssd, Kind::Nvme, Kind::SasHdd, Kind::SasSsd];

fn at(micros: i64) -> Now {
    Now { unix_micros: 20_486 * DAY + micros }
}

fn signs(pairs: &[(Sign, f64)]) -> Signs {
    let mut signs = Signs::default();
    for (sign, value) in pairs {
        signs.set(*sign, Some(*value));
    }
    signs
}

/// What is found after readings at these times.
fn found(kind: Kind, readings: &[(i64, &[(Sign, f64)])]) -> Vec<(Level, &'static str)> {
    let mut memory = Memory::default();
    for (time, pairs) in readings {
        memory.take(kind, &signs(pairs), at(*time));
    }
    memory.findings().map(|rule| (rule.level, rule.reason)).collect()
}

#[test]
fn signs_of_one_reading_give_a_verdict() {
    type Case<'a> = (Kind, &'a [(Sign, f64)], &'a [(Level, &'static str)]);
    let cases: [Case<'_>; 31] = [
        (Kind::Hdd, &[], &[]),
        (Kind::Hdd, &[(Sign::Failing, 0.0), (Sign::Reallocated, 0.0)], &[]),
        (Kind::Hdd, &[(Sign::Failing, 1.0)], &[(Replace, "smart_status_failed")]),
        (Kind::Hdd, &[(Sign::FailedTests, 2.0)], &[(Replace, "self_test_failed")]),
        (Kind::Hdd, &[(Sign::BelowThreshold, 1.0)], &[(Replace, "attribute_below_threshold")]),
        (Kind::Hdd, &[(Sign::WasBelowThreshold, 1.0)], &[(Watch, "attribute_was_below_threshold")]),
        (Kind::Hdd, &[(Sign::Reallocated, 900.0)], &[(Watch, "reallocated_sectors")]),
        (Kind::Hdd, &[(Sign::Uncorrectable, 1.0)], &[(Watch, "uncorrectable_errors")]),
        (Kind::Hdd, &[(Sign::Pending, 8.0)], &[(Watch, "pending_sectors")]),
        (
            Kind::Hdd,
            &[(Sign::OfflineUncorrectable, 1.0)],
            &[(Watch, "offline_uncorrectable_sectors")],
        ),
        (Kind::Hdd, &[(Sign::BadKinds, 1.0)], &[]),
        (Kind::Hdd, &[(Sign::BadKinds, 2.0)], &[(Replace, "several_kinds_of_bad_sectors")]),
        (Kind::Hdd, &[(Sign::Crc, 9000.0), (Sign::Timeouts, 4.0)], &[]),
        // Platters do not wear.
        (Kind::Hdd, &[(Sign::Wear, 2.0)], &[]),
        // Flash loses blocks and has spare ones for it.
        (Kind::Ssd, &[(Sign::Reallocated, 900.0), (Sign::Pending, 1.0)], &[]),
        (Kind::Ssd, &[(Sign::Spare, 100.0)], &[]),
        (Kind::Ssd, &[(Sign::Spare, 9.0)], &[(Watch, "spare_near_threshold")]),
        (Kind::Ssd, &[(Sign::Spare, -1.0)], &[(Replace, "spare_below_threshold")]),
        (Kind::Ssd, &[(Sign::Uncorrectable, 3.0)], &[(Watch, "uncorrectable_errors")]),
        (Kind::Ssd, &[(Sign::Wear, 0.89)], &[]),
        (Kind::Ssd, &[(Sign::Wear, 0.9)], &[(Watch, "endurance_nearly_used_up")]),
        (Kind::Nvme, &[(Sign::Wear, 1.3)], &[(Watch, "endurance_used_up")]),
        (Kind::Nvme, &[(Sign::Uncorrectable, 3.0)], &[(Watch, "media_errors")]),
        (
            Kind::Nvme,
            &[(Sign::Temperature, 1.0), (Sign::ReadOnly, 1.0)],
            &[(Watch, "temperature"), (Replace, "read_only")],
        ),
        (
            Kind::Nvme,
            &[(Sign::Unreliable, 1.0), (Sign::BackupFailed, 1.0), (Sign::MemoryRegion, 1.0)],
            &[
                (Replace, "reliability_degraded"),
                (Replace, "volatile_memory_backup_failed"),
                (Watch, "persistent_memory_unreliable"),
            ],
        ),
        (Kind::Nvme, &[(Sign::OtherWarning, 1.0)], &[(Watch, "other_warning")]),
        (Kind::SasHdd, &[(Sign::Reallocated, 12.0)], &[(Watch, "grown_defects")]),
        (Kind::SasHdd, &[(Sign::Uncorrectable, 1.0)], &[(Watch, "uncorrected_errors")]),
        (Kind::SasHdd, &[(Sign::Temperature, 1.0)], &[(Watch, "temperature")]),
        (Kind::SasSsd, &[(Sign::Reallocated, 12.0)], &[]),
        (Kind::SasSsd, &[(Sign::Wear, 1.0)], &[(Watch, "endurance_used_up")]),
    ];
    for (kind, pairs, expected) in cases {
        assert_eq!(found(kind, &[(0, pairs)]), expected, "{kind:?} {pairs:?}");
    }
}

#[test]
fn growth_is_judged_by_kind_and_amount() {
    let cases = [
        (Kind::Hdd, Sign::Reallocated, 8.0, Some((Watch, "reallocated_sectors"))),
        (Kind::Hdd, Sign::Reallocated, 10.0, Some((Replace, "reallocated_sectors_growing"))),
        (Kind::Hdd, Sign::Uncorrectable, 1.0, Some((Replace, "uncorrectable_errors_growing"))),
        (Kind::Hdd, Sign::Pending, 99.0, Some((Watch, "pending_sectors"))),
        (
            Kind::Hdd,
            Sign::OfflineUncorrectable,
            9.0,
            Some((Watch, "offline_uncorrectable_sectors")),
        ),
        (
            Kind::Hdd,
            Sign::OfflineUncorrectable,
            10.0,
            Some((Replace, "offline_uncorrectable_sectors_growing")),
        ),
        (Kind::Hdd, Sign::Timeouts, 4.0, None),
        (Kind::Hdd, Sign::Timeouts, 5.0, Some((Watch, "command_timeouts_growing"))),
        (Kind::Hdd, Sign::Crc, 1.0, None),
        (Kind::Hdd, Sign::Crc, 10.0, Some((Watch, "interface_errors_growing"))),
        (Kind::Ssd, Sign::Reallocated, 1.0, None),
        (Kind::Ssd, Sign::Reallocated, 99.0, None),
        (Kind::Ssd, Sign::Reallocated, 100.0, Some((Watch, "reallocated_blocks_growing_fast"))),
        (Kind::Ssd, Sign::Uncorrectable, 9.0, Some((Watch, "uncorrectable_errors"))),
        (Kind::Ssd, Sign::Uncorrectable, 10.0, Some((Replace, "uncorrectable_errors_growing"))),
        (Kind::Nvme, Sign::Uncorrectable, 9.0, Some((Watch, "media_errors"))),
        (Kind::Nvme, Sign::Uncorrectable, 10.0, Some((Replace, "media_errors_growing"))),
        (Kind::SasHdd, Sign::Reallocated, 9.0, Some((Watch, "grown_defects"))),
        (Kind::SasHdd, Sign::Reallocated, 10.0, Some((Replace, "grown_defects_growing"))),
        (Kind::SasHdd, Sign::Uncorrectable, 1.0, Some((Replace, "uncorrected_errors_growing"))),
        (Kind::SasSsd, Sign::Reallocated, 100.0, Some((Watch, "grown_defects_growing_fast"))),
        (Kind::SasSsd, Sign::Uncorrectable, 1.0, Some((Watch, "uncorrected_errors"))),
        (Kind::SasSsd, Sign::Uncorrectable, 10.0, Some((Replace, "uncorrected_errors_growing"))),
    ];
    for (kind, sign, by, expected) in cases {
        let told = found(kind, &[(0, &[(sign, 0.0)]), (DAY, &[(sign, by)])]);
        assert_eq!(told, Vec::from_iter(expected), "{kind:?} {sign:?} {by}");
    }
}

#[test]
fn what_was_there_when_the_agent_began_has_not_grown() {
    let watch = [(Watch, "reallocated_sectors")];
    assert_eq!(found(Kind::Hdd, &[(0, &[(Sign::Reallocated, 5000.0)])]), watch);
    let same: &[(Sign, f64)] = &[(Sign::Reallocated, 5000.0)];
    assert_eq!(found(Kind::Hdd, &[(0, same), (DAY, same)]), watch);
}

#[test]
fn growth_adds_up_and_is_forgotten() {
    let count = |count| [(Sign::Reallocated, count)];
    let grown = [(Replace, "reallocated_sectors_growing")];
    let watch = [(Watch, "reallocated_sectors")];
    let (a, b, c) = (count(1.0), count(6.0), count(11.0));
    let slowly: [(i64, &[(Sign, f64)]); 3] = [(0, &a), (20 * DAY, &b), (40 * DAY, &c)];
    assert_eq!(found(Kind::Hdd, &slowly), grown);
    let with = |day: i64| {
        let mut readings = slowly.to_vec();
        readings.extend((41..=day).map(|day| (day * DAY, c.as_slice())));
        found(Kind::Hdd, &readings)
    };
    assert_eq!(with(80), grown);
    // The first five are past; the finding stands for a day.
    assert_eq!(with(81), watch);
}

#[test]
fn a_verdict_does_not_flap() {
    let (hot, cool) = ([(Sign::Temperature, 1.0)], [(Sign::Temperature, 0.0)]);
    let read =
        |last: i64| found(Kind::Nvme, &[(0, &hot), (HOUR, &cool), (2 * HOUR, &hot), (last, &cool)]);
    assert_eq!(read(3 * HOUR), [(Watch, "temperature")]);
    assert_eq!(read(25 * HOUR), [(Watch, "temperature")]);
    assert!(read(26 * HOUR).is_empty());
    // A count that goes up and down has grown no more than once.
    let (low, high) = ([(Sign::Uncorrectable, 0.0)], [(Sign::Uncorrectable, 4.0)]);
    let mut readings: Vec<(i64, &[(Sign, f64)])> = Vec::new();
    for hour in 0..20 {
        readings.push((hour * HOUR, if hour % 2 == 0 { &low } else { &high }));
    }
    assert_eq!(found(Kind::Ssd, &readings), [(Watch, "uncorrectable_errors")]);
    // A worse one takes over at once, a lesser one when the day is over.
    let (worst, near) = ([(Sign::Spare, -1.0)], [(Sign::Spare, 1.0)]);
    let readings: [(i64, &[(Sign, f64)]); 3] = [(0, &near), (HOUR, &worst), (2 * HOUR, &near)];
    assert_eq!(found(Kind::Nvme, &readings), [(Replace, "spare_below_threshold")]);
}

#[test]
fn a_verdict_is_the_worst_finding() {
    let mut memory = Memory::default();
    assert_eq!(memory.level().number(), 0.0);
    memory.take(Kind::Nvme, &signs(&[(Sign::Wear, 0.95)]), at(0));
    assert_eq!(memory.level().number(), 1.0);
    memory.take(Kind::Nvme, &signs(&[(Sign::Wear, 0.95), (Sign::ReadOnly, 1.0)]), at(1));
    assert_eq!(memory.level().number(), 2.0);
}

#[test]
fn the_docs_have_each_rule() {
    let docs = include_str!("../../../../../docs/operating/disks.md");
    let mut reasons: BTreeMap<&str, (Level, &str, Vec<&str>)> = BTreeMap::new();
    for kind in KINDS {
        for rule in rules::of(kind) {
            let entry =
                reasons.entry(rule.reason).or_insert((rule.level, rule.meaning, Vec::new()));
            assert_eq!((entry.0, entry.1), (rule.level, rule.meaning), "{}", rule.reason);
            entry.2.push(kind.name());
        }
    }
    for (reason, (level, _, kinds)) in &reasons {
        let kinds = if kinds.len() == KINDS.len() { "all".to_owned() } else { kinds.join(", ") };
        let row = format!("\n| `{reason}` | {} | {kinds} | ", level.number());
        assert!(docs.contains(&row), "{row}");
    }
    let told = docs.lines().filter(|line| line.starts_with("| `") && line.contains("` | "));
    let rows = told.filter(|line| line.contains("` | 1 | ") || line.contains("` | 2 | "));
    assert_eq!(rows.count(), reasons.len());
}

#[test]
fn life_left_is_what_wear_so_far_foretells() {
    let years = |wear, hours| years_left(Some(wear), Some(hours));
    assert_eq!(years(0.25, 2.0 * HOURS_PER_YEAR), Some(6.0));
    assert_eq!(years(1.2, HOURS_PER_YEAR), Some(0.0));
    assert_eq!(years(0.02, 20.0 * HOURS_PER_YEAR), Some(YEARS_MAX));
    assert_eq!(years(0.01, HOURS_PER_YEAR), None);
    assert_eq!(years(0.5, 24.0), None);
    assert_eq!(years_left(None, None), None);
}

proptest! {
    #[test]
    fn any_numbers_give_each_reason_once(
        kind in 0..KINDS.len(), times in prop::collection::vec(any::<i32>(), 4),
        values in prop::collection::vec(prop::option::of(-1e200..1e200_f64), 4 * Sign::COUNT),
        wear in any::<f64>(), hours in any::<f64>(),
    ) {
        let mut memory = Memory::default();
        for (time, values) in times.iter().zip(values.chunks(Sign::COUNT)) {
            let mut signs = Signs::default();
            for (slot, value) in signs.0.iter_mut().zip(values) {
                *slot = *value;
            }
            memory.take(KINDS[kind], &signs, at(i64::from(*time) * HOUR));
            let mut reasons: Vec<_> = memory.findings().map(|rule| rule.reason).collect();
            reasons.sort_unstable();
            let all = reasons.len();
            reasons.dedup();
            prop_assert_eq!(all, reasons.len());
            prop_assert!(memory.trails.iter().all(|trail| trail.growth.len() <= times.len()));
        }
        if let Some(years) = years_left(Some(wear), Some(hours)) {
            prop_assert!((0.0..=YEARS_MAX).contains(&years));
        }
    }
}
