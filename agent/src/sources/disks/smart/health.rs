//! What of a report bears on the disk's end.

use super::report::{Attribute, Report};
use crate::sources::disks::risk::{Kind, Sign, Signs};

/// ATA attributes by number; what they mean on disks with platters is agreed on, if not standardised.
const REALLOCATED: f64 = 5.0;
const UNCORRECTABLE: f64 = 187.0;
const COMMAND_TIMEOUTS: f64 = 188.0;
const PENDING: f64 = 197.0;
const OFFLINE_UNCORRECTABLE: f64 = 198.0;
const CRC: f64 = 199.0;

/// Attributes of flash whose normalized value falls from 100 to the maker's threshold as spare blocks
/// are used.
const SPARE: [f64; 5] = [5.0, 170.0, 179.0, 180.0, 232.0];

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

/// Some makers hold several counts of 16 bits in one raw value; the lowest counts all.
const PACKED_COUNT: f64 = 65_536.0;
/// What no count comes to.
const COUNT_MAX: f64 = 4_294_967_296.0;
/// One bad sector of 4 KiB is counted as up to eight of 512 bytes, and may be counted as each kind.
const ONE_BAD_SECTOR: f64 = 8.0;

/// The most percent used that fits in the byte of each protocol.
const PERCENT_MAX: f64 = 255.0;

/// SCSI's additional sense code of a warning that is not about failing, and its temperature.
const WARNING: f64 = 11.0;
const WARNING_TEMPERATURE: f64 = 1.0;

/// Bits of NVMe's mask of warnings (NVM Express Base Specification, SMART / Health Information log).
const NVME_WARNINGS: [(u32, Sign); 5] = [
    (1, Sign::Temperature),
    (2, Sign::Unreliable),
    (3, Sign::ReadOnly),
    (4, Sign::BackupFailed),
    (5, Sign::MemoryRegion),
];
const NVME_SPARE_BIT: u32 = 0;

/// What a report says of its disk's end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Health {
    pub(super) kind: Kind,
    pub(super) signs: Signs,
    pub(super) wear: Option<f64>,
    pub(super) power_on_hours: Option<f64>,
}

pub(super) fn health(report: &Report) -> Health {
    let kind = kind(report);
    let wear = wear(report);
    let mut signs = Signs::default();
    // A volume of a controller answers in the place of disks that it does not speak for.
    if report.smart_support.available.0 != Some(0.0) {
        signs.set(Sign::Wear, wear);
        match kind {
            Kind::Hdd | Kind::Ssd => ata(report, kind, &mut signs),
            Kind::Nvme => nvme(report, &mut signs),
            Kind::SasHdd | Kind::SasSsd => scsi(report, &mut signs),
        }
    }
    let power_on_hours = report.power_on_seconds().map(|seconds| seconds / 3600.0);
    Health { kind, signs, wear, power_on_hours }
}

fn kind(report: &Report) -> Kind {
    let has_attributes = !report.ata_smart_attributes.table.0.is_empty();
    let has_endurance = report.scsi_percentage_used_endurance_indicator.0.is_some();
    let is_flash = report.is_solid_state();
    match report.device.protocol.as_str() {
        "NVMe" => Kind::Nvme,
        "SCSI" if !has_attributes && (is_flash || has_endurance) => Kind::SasSsd,
        "SCSI" if !has_attributes => Kind::SasHdd,
        _ if report.nvme_smart_health_information_log.percentage_used.0.is_some() => Kind::Nvme,
        _ if is_flash => Kind::Ssd,
        _ => Kind::Hdd,
    }
}

fn ata(report: &Report, kind: Kind, signs: &mut Signs) {
    signs.set(Sign::Failing, failing(report));
    let logs = report.ata_smart_self_test_log.0.values();
    let failed = logs.filter_map(|log| {
        let outdated = log.error_count_outdated.0.unwrap_or_default();
        log.error_count_total.0.map(|total| (total - outdated).max(0.0))
    });
    signs.set(Sign::FailedTests, failed.reduce(f64::max));
    let attributes = || report.ata_smart_attributes.table.0.iter().map(|attribute| &attribute.0);
    if attributes().next().is_some() {
        let is_failing = |when: &str| {
            truth(attributes().any(|attribute| {
                attribute.when_failed.as_str() == when && attribute.flags.prefailure.is_true()
            }))
        };
        signs.set(Sign::BelowThreshold, Some(is_failing("now")));
        signs.set(Sign::WasBelowThreshold, Some(is_failing("past")));
    }
    let count = |id| report.attribute(id).and_then(count);
    signs.set(Sign::Reallocated, count(REALLOCATED));
    signs.set(Sign::Crc, count(CRC));
    if kind == Kind::Hdd {
        let bad = [REALLOCATED, UNCORRECTABLE, OFFLINE_UNCORRECTABLE].map(count);
        signs.set(Sign::Uncorrectable, count(UNCORRECTABLE));
        signs.set(Sign::OfflineUncorrectable, count(OFFLINE_UNCORRECTABLE));
        signs.set(Sign::Pending, count(PENDING));
        signs.set(Sign::Timeouts, count(COMMAND_TIMEOUTS).map(|all| all.rem_euclid(PACKED_COUNT)));
        if bad.iter().any(Option::is_some) {
            let many = bad.into_iter().flatten().filter(|count| *count > ONE_BAD_SECTOR);
            signs.set(Sign::BadKinds, Some(many.map(|_| 1.0).sum()));
        }
    } else {
        // Makers of flash use the number for other things too.
        let uncorrectable = report.attribute(UNCORRECTABLE);
        let uncorrectable = uncorrectable.filter(|it| it.name.as_str().contains("Uncorr"));
        signs.set(Sign::Uncorrectable, uncorrectable.and_then(self::count));
        let spares = SPARE.iter().filter_map(|id| {
            let attribute = report.attribute(*id)?;
            over_threshold(attribute.value.0?, attribute.thresh.0?)
        });
        signs.set(Sign::Spare, told_spare(report).or(spares.reduce(f64::min)));
    }
}

fn nvme(report: &Report, signs: &mut Signs) {
    let log = &report.nvme_smart_health_information_log;
    let spare = log.available_spare.0.zip(log.available_spare_threshold.0);
    let spare = spare.and_then(|(left, least)| over_threshold(left, least));
    signs.set(Sign::Spare, spare.or_else(|| told_spare(report)));
    signs.set(Sign::Uncorrectable, log.media_errors.0);
    match log.critical_warning.0.filter(|mask| (0.0..256.0).contains(mask)) {
        // The disk's verdict is FAILED when any bit is set, were it that of its temperature.
        Some(mask) => {
            for (bit, sign) in NVME_WARNINGS {
                signs.set(sign, Some(truth(has_bit(mask, bit))));
            }
            if has_bit(mask, NVME_SPARE_BIT) {
                signs.set(Sign::Spare, Some(-1.0));
            }
            signs.set(Sign::OtherWarning, Some(truth(has_bit(mask, 6) || has_bit(mask, 7))));
        }
        None => signs.set(Sign::Failing, failing(report)),
    }
    // Newest first; from 1 to 4, and over 7, it was only broken off.
    let results = report.nvme_self_test_log.table.0.iter().map(|test| test.self_test_result.0);
    let ended = results.flatten().find(|result| [0.0, 5.0, 6.0, 7.0].contains(result));
    signs.set(Sign::FailedTests, ended.map(|result| truth(result > 0.0)));
}

fn scsi(report: &Report, signs: &mut Signs) {
    let status = &report.smart_status;
    let is_failing = failing(report);
    if is_failing == Some(1.0) && status.scsi.asc.0 == Some(WARNING) {
        let is_temperature = status.scsi.ascq.0 == Some(WARNING_TEMPERATURE);
        signs.set(Sign::Temperature, Some(truth(is_temperature)));
        signs.set(Sign::OtherWarning, Some(truth(!is_temperature)));
        signs.set(Sign::Failing, Some(0.0));
    } else {
        signs.set(Sign::Failing, is_failing);
    }
    signs.set(Sign::Reallocated, report.scsi_grown_defect_list.0);
    let log = &report.scsi_error_counter_log;
    let uncorrected = [&log.read, &log.write, &log.verify];
    let uncorrected = uncorrected.into_iter().filter_map(|it| it.total_uncorrected_errors.0);
    signs.set(Sign::Uncorrectable, uncorrected.reduce(|a, b| a + b));
    signs.set(Sign::Spare, told_spare(report));
    // 1 and 2 were broken off, 15 is under way.
    let newest = report.scsi_self_test_0.result.0;
    let failed = newest.map(|result| truth((3.0..=7.0).contains(&result)));
    signs.set(Sign::FailedTests, failed);
}

fn failing(report: &Report) -> Option<f64> {
    report.smart_status.passed.0.map(|passed| truth(passed == 0.0))
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn told_spare(report: &Report) -> Option<f64> {
    let spare = &report.spare_available;
    let (left, least) = spare.current_percent.0.zip(spare.threshold_percent.0)?;
    over_threshold(left, least)
}

/// How far spare blocks are above the maker's threshold, if it gave one; one that used none has
/// plenty, were its threshold no lower.
fn over_threshold(left: f64, least: f64) -> Option<f64> {
    if least <= 0.0 {
        return None;
    }
    Some(if left >= 100.0 { 100.0 } else { left - least })
}

/// What an attribute counts: as the maker packs it, where smartctl knows that.
fn count(attribute: &Attribute) -> Option<f64> {
    let text = attribute.raw.string.as_str();
    let digits = text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
    let count = crate::sources::number(digits).or(attribute.raw.value.0)?;
    Some(if count < COUNT_MAX { count } else { count.rem_euclid(PACKED_COUNT) })
}

fn has_bit(mask: f64, bit: u32) -> bool {
    let shifted = (mask / f64::from(1_u32 << bit)).floor();
    shifted.rem_euclid(2.0) >= 1.0
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
    (0.0..=PERCENT_MAX).contains(&used).then_some(used / 100.0)
}

/// Percent, by the first attribute that tells it.
fn life_left(report: &Report) -> Option<f64> {
    LIFE_LEFT.iter().find_map(|(id, words)| {
        let attribute = report.attribute(*id)?;
        let name = attribute.name.as_str();
        let value = attribute.value.0?;
        let is_told = words.iter().any(|word| name.contains(word));
        // Some begin above 100 or count from 200 or 253: these are no percents.
        (is_told && (0.0..=100.0).contains(&value)).then_some(value)
    })
}
