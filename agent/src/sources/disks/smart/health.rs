//! What of a report bears on the disk's end.

use super::report::Report;
use crate::sources::disks::risk::{Count, Counts, Health};

/// ATA attributes by number; what they mean is agreed on, if not standardised.
const REALLOCATED: f64 = 5.0;
const UNCORRECTABLE: f64 = 187.0;
const COMMAND_TIMEOUTS: f64 = 188.0;
const PENDING: f64 = 197.0;
const OFFLINE_UNCORRECTABLE: f64 = 198.0;
const CRC: f64 = 199.0;

/// Attributes whose normalized value is the part of its life a solid-state disk has left, in percent.
/// Numbers mean other things elsewhere, so the name must have one of the words.
const LIFE_LEFT: [(f64, &[&str]); 7] = [
    (231.0, &["Life", "Wear", "Remain"]),
    (233.0, &["Wearout"]),
    (202.0, &["Lifetime", "Life_", "Remain"]),
    (169.0, &["Lifetime", "Remain"]),
    (177.0, &["Wear"]),
    (173.0, &["Wear", "Erase", "Erasure"]),
    (230.0, &["Life_Curve", "Lifetime"]),
];

/// Attribute 188 of some makers holds three counts of 16 bits; the lowest counts all timeouts.
const PACKED_COUNT: f64 = 65_536.0;

pub(super) fn health(report: &Report) -> Health {
    let nvme = &report.nvme_smart_health_information_log;
    let attributes = || report.ata_smart_attributes.table.0.iter();
    let is_failing = |when: &str| {
        attributes().any(|attribute| {
            attribute.when_failed.as_str() == when && attribute.flags.prefailure.is_true()
        })
    };
    let tests = report.ata_smart_self_test_log.0.values();
    let failed = tests.filter_map(|log| {
        let outdated = log.error_count_outdated.0.unwrap_or_default();
        log.error_count_total.0.map(|total| (total - outdated).max(0.0))
    });
    Health {
        passed: report.smart_status.passed.0.map(|passed| passed != 0.0),
        below_threshold: is_failing("now"),
        was_below_threshold: is_failing("past"),
        wear: wear(report),
        power_on_hours: report.power_on_seconds().map(|seconds| seconds / 3600.0),
        critical_warning: nvme.critical_warning.0,
        spare: nvme.available_spare.0.zip(nvme.available_spare_threshold.0),
        failed_tests: failed.reduce(f64::max),
        counts: counts(report),
    }
}

fn counts(report: &Report) -> Counts {
    let scsi = &report.scsi_error_counter_log;
    let uncorrected = [&scsi.read, &scsi.write, &scsi.verify];
    let uncorrected =
        uncorrected.into_iter().filter_map(|counters| counters.total_uncorrected_errors.0);
    let nvme = &report.nvme_smart_health_information_log;
    let mut counts = Counts::default();
    counts.set(Count::Reallocated, report.raw(REALLOCATED));
    counts.set(Count::Uncorrectable, report.raw(UNCORRECTABLE));
    let timeouts = report.raw(COMMAND_TIMEOUTS).map(|raw| raw.rem_euclid(PACKED_COUNT));
    counts.set(Count::CommandTimeouts, timeouts);
    counts.set(Count::Pending, report.raw(PENDING));
    counts.set(Count::OfflineUncorrectable, report.raw(OFFLINE_UNCORRECTABLE));
    counts.set(Count::Crc, report.raw(CRC));
    counts.set(Count::MediaErrors, nvme.media_errors.0);
    counts.set(Count::GrownDefects, report.scsi_grown_defect_list.0);
    counts.set(Count::ScsiUncorrected, uncorrected.reduce(|a, b| a + b));
    counts
}

/// The part of its rated endurance that a disk has used up.
fn wear(report: &Report) -> Option<f64> {
    let told = [
        report.nvme_smart_health_information_log.percentage_used.0,
        report.statistic("Percentage Used Endurance Indicator"),
        report.scsi_percentage_used_endurance_indicator.0,
    ];
    let used = told.into_iter().flatten().next().or_else(|| {
        let left = report.is_solid_state().then(|| life_left(report)).flatten();
        left.map(|left| 100.0 - left).or(report.endurance_used.current_percent.0)
    })?;
    (used >= 0.0).then_some(used / 100.0)
}

/// Percent, by the first attribute that tells it.
fn life_left(report: &Report) -> Option<f64> {
    LIFE_LEFT.iter().find_map(|(id, words)| {
        let mut attributes = report.ata_smart_attributes.table.0.iter();
        let attribute = attributes.find(|attribute| attribute.id.0 == Some(*id))?;
        let name = attribute.name.as_str();
        let value = attribute.value.0?;
        let is_told = words.iter().any(|word| name.contains(word));
        // Some begin above 100 or count from 200 or 253: these are no percents.
        (is_told && (0.0..=100.0).contains(&value)).then_some(value)
    })
}
