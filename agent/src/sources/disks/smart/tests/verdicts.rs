//! What bears on the end of a disk, and the verdicts it comes to.

use proptest::prelude::*;

use super::super::device::Known;
use super::super::health::health;
use super::*;
use crate::sources::disks::risk::{Kind, Sign, Signs};

fn signs(pairs: &[(Sign, f64)]) -> Signs {
    let mut signs = Signs::default();
    for (sign, value) in pairs {
        signs.set(*sign, Some(*value));
    }
    signs
}

#[test]
fn what_bears_on_a_disks_end_is_found() {
    let ssd = health(&report(SATA_SSD));
    assert_eq!((ssd.kind, ssd.wear), (Kind::Ssd, Some(0.12)));
    assert_eq!(ssd.power_on_hours, Some(14610.0));

    let hdd = health(&report(SATA_HDD));
    assert_eq!((hdd.kind, hdd.wear), (Kind::Hdd, None));
    let expected = [
        (Sign::Failing, 0.0),
        (Sign::FailedTests, 1.0),
        // Only the temperature was over its limit, which is no sign of failing.
        (Sign::BelowThreshold, 0.0),
        (Sign::WasBelowThreshold, 0.0),
        (Sign::Reallocated, 24.0),
        (Sign::Uncorrectable, 2.0),
        (Sign::Timeouts, 4.0),
        (Sign::Pending, 1.0),
        (Sign::OfflineUncorrectable, 1.0),
        (Sign::BadKinds, 1.0),
        (Sign::Crc, 7.0),
    ];
    assert_eq!(hdd.signs, signs(&expected));

    let sas = health(&report(SAS));
    assert_eq!((sas.kind, sas.power_on_hours), (Kind::SasHdd, Some(31245.0 + 37.0 / 60.0)));
    let expected = [(Sign::Failing, 0.0), (Sign::Reallocated, 12.0), (Sign::Uncorrectable, 1.0)];
    assert_eq!(sas.signs, signs(&expected));

    let nvme = health(&report(NVME));
    assert_eq!((nvme.kind, nvme.wear), (Kind::Nvme, Some(0.91)));
    let expected = [
        (Sign::Temperature, 0.0),
        (Sign::Unreliable, 1.0),
        (Sign::ReadOnly, 0.0),
        (Sign::BackupFailed, 0.0),
        (Sign::MemoryRegion, 0.0),
        (Sign::OtherWarning, 0.0),
        (Sign::Spare, 89.0),
        (Sign::Uncorrectable, 3.0),
        (Sign::Wear, 0.91),
    ];
    assert_eq!(nvme.signs, signs(&expected));
}

/// The verdict on a disk that says so once, with its reasons.
fn verdict(document: &str) -> Vec<String> {
    let text = format!(r#"{{"smartctl": {{"exit_status": 0}}, {document}}}"#);
    let mut known = Known::new("d");
    known.take(report(&text), NOW);
    let mut sheet = Sheet::new();
    known.judge(NOW, &mut sheet);
    let told = lines(&mut sheet);
    let told = told.iter().filter_map(|line| line.strip_prefix("stoa_disk_failure_"));
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split('"').next()?.to_owned())
    };
    told.map(|line| {
        let what = field(line, "kind").or_else(|| field(line, "reason")).unwrap();
        format!("{what} {}", line.rsplit(' ').next().unwrap())
    })
    .collect()
}

const ATA: &str = r#""device": {"protocol": "ATA"}"#;
const SCSI: &str = r#""device": {"protocol": "SCSI"}"#;
const NVME_DEVICE: &str = r#""device": {"protocol": "NVMe"}"#;

#[test]
fn documents_give_verdicts() {
    let attribute = |id: u32, rest: &str| {
        format!(r#""ata_smart_attributes": {{"table": [{{"id": {id}, {rest}}}]}}"#)
    };
    let log = |fields: &str| format!(r#""nvme_smart_health_information_log": {{{fields}}}"#);
    let asc = |asc: u32, ascq: u32| {
        format!(r#""smart_status": {{"passed": false, "scsi": {{"asc": {asc}, "ascq": {ascq}}}}}"#)
    };
    let ssd = format!(r#"{ATA}, "rotation_rate": 0"#);
    let hdd = format!(r#"{ATA}, "rotation_rate": 7200"#);
    let cases: Vec<(String, &[&str])> = vec![
        // Nothing is known, so nothing is said.
        (ATA.to_owned(), &[]),
        (format!("{ATA}, \"smart_status\": {{\"passed\": null}}"), &[]),
        (format!("{hdd}, \"smart_status\": null, \"ata_smart_attributes\": []"), &[]),
        // A controller's volume says it is well whatever its disks are.
        (
            format!(
                r#"{SCSI}, "smart_support": {{"available": false}}, "smart_status": {{"passed": true}}"#
            ),
            &[],
        ),
        (format!("{hdd}, \"smart_status\": {{\"passed\": true}}"), &["hdd 0"]),
        (
            format!("{hdd}, \"smart_status\": {{\"passed\": \"false\"}}"),
            &["hdd 2", "smart_status_failed 2"],
        ),
        // As a number, as a text, packed, and both in one.
        (
            format!("{hdd}, {}", attribute(5, r#""raw": {"value": 24}"#)),
            &["hdd 1", "reallocated_sectors 1"],
        ),
        (
            format!("{hdd}, {}", attribute(5, r#""raw": {"value": "24", "string": null}"#)),
            &["hdd 1", "reallocated_sectors 1"],
        ),
        (
            format!(
                "{hdd}, {}",
                attribute(5, r#""raw": {"value": 3276800, "string": "0 (50 0)"}"#)
            ),
            &["hdd 0"],
        ),
        (format!("{hdd}, {}", attribute(5, r#""raw": {"value": 281470681743360}"#)), &["hdd 0"]),
        (format!("{hdd}, {}", attribute(188, r#""raw": {"value": 4295032833}"#)), &["hdd 0"]),
        (
            format!(
                "{hdd}, {}",
                attribute(1, r#""when_failed": "now", "flags": {"prefailure": true}"#)
            ),
            &["hdd 2", "attribute_below_threshold 2"],
        ),
        (
            format!(
                "{hdd}, {}",
                attribute(190, r#""when_failed": "now", "flags": {"prefailure": false}"#)
            ),
            &["hdd 0"],
        ),
        // Flash.
        (
            format!(
                "{ssd}, {}",
                attribute(5, r#""value": 100, "thresh": 10, "raw": {"value": 900}"#)
            ),
            &["ssd 0"],
        ),
        (
            format!(
                "{ssd}, {}",
                attribute(5, r#""value": 17, "thresh": 10, "raw": {"value": 900}"#)
            ),
            &["ssd 1", "spare_near_threshold 1"],
        ),
        (format!("{ssd}, {}", attribute(232, r#""value": 17, "thresh": 0"#)), &["ssd 0"]),
        (format!("{ssd}, {}", attribute(197, r#""raw": {"value": 1}"#)), &["ssd 0"]),
        (
            format!(
                "{ssd}, {}",
                attribute(187, r#""name": "Reported_Uncorrect", "raw": {"value": 1}"#)
            ),
            &["ssd 1", "uncorrectable_errors 1"],
        ),
        (
            format!(
                "{ssd}, {}",
                attribute(187, r#""name": "Power_On_Hours", "raw": {"value": 4000}"#)
            ),
            &["ssd 0"],
        ),
        (
            format!(
                r#"{ATA}, "model_name": "A SSD 870", {}"#,
                attribute(5, r#""raw": {"value": 1}"#)
            ),
            &["ssd 0"],
        ),
        (
            format!(
                r#"{ssd}, "spare_available": {{"current_percent": 5, "threshold_percent": 10}}"#
            ),
            &["ssd 2", "spare_below_threshold 2"],
        ),
        // NVMe says FAILED when it is only hot.
        (
            format!(
                r#"{NVME_DEVICE}, "smart_status": {{"passed": false}}, {}"#,
                log(r#""critical_warning": 2"#)
            ),
            &["nvme 1", "temperature 1"],
        ),
        (
            format!(r#"{NVME_DEVICE}, "smart_status": {{"passed": false}}"#),
            &["nvme 2", "smart_status_failed 2"],
        ),
        (
            format!(
                "{NVME_DEVICE}, {}",
                log(
                    r#""critical_warning": "0x01", "available_spare": "100%", "available_spare_threshold": 10"#
                )
            ),
            &["nvme 2", "spare_below_threshold 2"],
        ),
        (
            format!(
                "{NVME_DEVICE}, {}",
                log(
                    r#""critical_warning": 0, "available_spare": 15, "available_spare_threshold": 10"#
                )
            ),
            &["nvme 1", "spare_near_threshold 1"],
        ),
        (
            format!(
                "{NVME_DEVICE}, {}",
                log(
                    r#""critical_warning": 0, "available_spare": 100, "available_spare_threshold": 100"#
                )
            ),
            &["nvme 0"],
        ),
        (
            format!(
                "{NVME_DEVICE}, {}",
                log(
                    r#""critical_warning": 1e30, "media_errors": 340282366920938463463374607431768211455, "percentage_used": 1e99"#
                )
            ),
            &["nvme 1", "media_errors 1"],
        ),
        (
            format!("{NVME_DEVICE}, {}", log(r#""critical_warning": 64"#)),
            &["nvme 1", "other_warning 1"],
        ),
        (
            format!(
                r#"{NVME_DEVICE}, "nvme_self_test_log": {{"table": [{{"self_test_result": {{"value": 1}}}}, {{"self_test_result": {{"value": 7}}}}]}}"#
            ),
            &["nvme 2", "self_test_failed 2"],
        ),
        (
            format!(
                r#"{NVME_DEVICE}, "nvme_self_test_log": {{"table": [{{"self_test_result": 0}}, {{"self_test_result": {{"value": 7}}}}]}}"#
            ),
            &["nvme 0"],
        ),
        // SAS says FAILED when it is only hot, too.
        (format!("{SCSI}, {}", asc(11, 1)), &["sas_hdd 1", "temperature 1"]),
        (format!("{SCSI}, {}", asc(11, 3)), &["sas_hdd 1", "other_warning 1"]),
        (format!("{SCSI}, {}", asc(93, 16)), &["sas_hdd 2", "smart_status_failed 2"]),
        (format!(r#"{SCSI}, "scsi_grown_defect_list": "12""#), &["sas_hdd 1", "grown_defects 1"]),
        (format!(r#"{SCSI}, "rotation_rate": 0, "scsi_grown_defect_list": 12"#), &["sas_ssd 0"]),
        (
            format!(r#"{SCSI}, "scsi_percentage_used_endurance_indicator": 100"#),
            &["sas_ssd 1", "endurance_used_up 1"],
        ),
        (
            format!(
                r#"{SCSI}, "scsi_self_test_0": {{"result": {{"value": 4, "string": "Failed"}}}}"#
            ),
            &["sas_hdd 2", "self_test_failed 2"],
        ),
        (format!(r#"{SCSI}, "scsi_self_test_0": {{"result": {{"value": 15}}}}"#), &["sas_hdd 0"]),
        (
            format!(
                r#"{SCSI}, "scsi_error_counter_log": {{"read": null, "write": {{"total_uncorrected_errors": "3"}}}}"#
            ),
            &["sas_hdd 1", "uncorrected_errors 1"],
        ),
    ];
    for (document, expected) in cases {
        assert_eq!(verdict(&document), expected, "{document}");
    }
}

#[test]
fn one_more_block_of_flash_is_no_reason_to_replace_it() {
    let with = |blocks: u32| {
        report(&format!(
            r#"{{"smartctl": {{"exit_status": 0}}, {ATA}, "rotation_rate": 0, "ata_smart_attributes":
                {{"table": [{{"id": 5, "value": 99, "thresh": 10, "raw": {{"value": {blocks}}}}}]}}}}"#
        ))
    };
    let mut known = Known::new("d");
    known.take(with(7), NOW);
    known.take(with(8), NOW);
    let mut sheet = Sheet::new();
    known.judge(NOW, &mut sheet);
    let expected = [r#"stoa_disk_failure_risk{device="d",kind="ssd"} 0"#];
    assert_eq!(lines(&mut sheet), expected);
}

#[track_caller]
fn check_wear(rotation: u32, attributes: &str, expected: Option<f64>) {
    let text = format!(
        r#"{{"smartctl": {{"exit_status": 0}}, "rotation_rate": {rotation},
            "ata_smart_attributes": {{"table": [{attributes}]}}}}"#
    );
    assert_eq!(health(&report(&text)).wear, expected);
}

#[test]
fn wear_is_what_the_maker_calls_so() {
    let crucial = r#"{"id": 202, "name": "Percent_Lifetime_Remain", "value": 96}"#;
    check_wear(0, crucial, Some(0.04));
    check_wear(7200, crucial, None);
    check_wear(0, r#"{"id": 231, "name": "Temperature_Celsius", "value": 60}"#, None);
    check_wear(0, r#"{"id": 231, "name": "SSD_Life_Left", "value": 75}"#, Some(0.25));
    check_wear(0, r#"{"id": 233, "name": "Media_Wearout_Indicator", "value": 98}"#, Some(0.02));
    check_wear(0, r#"{"id": 177, "name": "Wear_Leveling_Count", "value": 253}"#, None);
    check_wear(0, "", None);
}

proptest! {
    #[test]
    fn a_cut_or_broken_report_is_no_panic(
        which in 0_usize..8, at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let texts = [SATA_SSD, SATA_HDD, SAS, NVME, USB_BRIDGE, ASLEEP, DENIED, SCAN];
        let mut text = texts[which].as_bytes().to_vec();
        let at = at.index(text.len());
        let _cut = (parse(&text[..at]), parse_scan(&text[..at]));
        text[at] = byte;
        if let Some(report) = parse(&text) {
            let mut sheet = Sheet::new();
            series::tell(&report, "d", &mut sheet);
            prop_assert!(lines(&mut sheet).iter().all(|line| !line.contains("NaN")));
            let _health = (health(&report), report.outcome(), report.complaint());
        }
    }
}
