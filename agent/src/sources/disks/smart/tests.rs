//! Reports of each kind of disk, and the source over programs that stand for smartctl.

use std::time::Duration;

use proptest::prelude::*;

use super::health::health;
use super::report::{Outcome, Report, parse, parse_scan};
use super::{Settings, Smart, series};
use crate::sources::disks::risk::{Count, Counts};
use crate::sources::disks::sheet::{Sheet, lines};
use crate::sources::{Now, Reading, Roots, Source};

const SATA_SSD: &str = include_str!("../fixtures/smart_sata_ssd.json");
const SATA_HDD: &str = include_str!("../fixtures/smart_sata_hdd.json");
const SAS: &str = include_str!("../fixtures/smart_sas.json");
const NVME: &str = include_str!("../fixtures/smart_nvme.json");
const USB_BRIDGE: &str = include_str!("../fixtures/smart_usb_bridge.json");
const ASLEEP: &str = include_str!("../fixtures/smart_asleep.json");
const DENIED: &str = include_str!("../fixtures/smart_denied.json");
const SCAN: &str = include_str!("../fixtures/smart_scan.json");

fn report(text: &str) -> Report {
    parse(text.as_bytes()).unwrap()
}

fn told(text: &str, device: &str) -> Vec<String> {
    let mut sheet = Sheet::new();
    let report = report(text);
    series::tell_program(&report, &mut sheet);
    series::tell(&report, device, &mut sheet);
    lines(&mut sheet)
}

#[test]
fn a_sata_ssd_is_told_as_smartctl_exporter_does() {
    insta::assert_snapshot!(told(SATA_SSD, "sda").join("\n"));
}

#[test]
fn a_sata_hdd_is_told_as_smartctl_exporter_does() {
    insta::assert_snapshot!(told(SATA_HDD, "sdb").join("\n"));
}

#[test]
fn a_sas_disk_is_told_as_smartctl_exporter_does() {
    insta::assert_snapshot!(told(SAS, "sdc").join("\n"));
}

#[test]
fn an_nvme_disk_is_told_as_smartctl_exporter_does() {
    insta::assert_snapshot!(told(NVME, "nvme0").join("\n"));
}

#[test]
fn what_came_of_asking_is_known() {
    for (text, expected) in [
        (SATA_SSD, Outcome::Told),
        (SATA_HDD, Outcome::Told),
        (NVME, Outcome::Told),
        (USB_BRIDGE, Outcome::Failed),
        (ASLEEP, Outcome::Asleep),
        (DENIED, Outcome::Denied),
    ] {
        assert_eq!(report(text).outcome(), expected);
    }
    assert_eq!(
        report(USB_BRIDGE).complaint(),
        "/dev/sdd: Unknown USB bridge [0x1234:0x5678 (0x100)]"
    );
}

#[test]
fn devices_found_have_the_exporters_names() {
    let scan = parse_scan(SCAN.as_bytes()).unwrap();
    let names: Vec<_> = scan.devices.0.iter().map(|device| device.label()).collect();
    assert_eq!(names, ["sda", "sdb", "bus_0_megaraid_disk_07", "nvme0", "sdd"]);
}

#[test]
fn what_is_not_smartctls_is_refused() {
    for text in ["", "{}", "[]", "null", "{\"smartctl\": 3}", "smartctl: not found", "{\"a\": "] {
        assert!(parse(text.as_bytes()).is_none(), "{text}");
        assert!(parse_scan(text.as_bytes()).is_none(), "{text}");
    }
}

fn counts(pairs: &[(Count, f64)]) -> Counts {
    let mut counts = Counts::default();
    for (count, value) in pairs {
        counts.set(*count, Some(*value));
    }
    counts
}

#[test]
fn what_bears_on_a_disks_end_is_found() {
    let ssd = health(&report(SATA_SSD));
    assert_eq!((ssd.passed, ssd.wear), (Some(true), Some(0.12)));
    assert_eq!(ssd.power_on_hours, Some(14610.0));
    let expected = [(Count::Reallocated, 0.0), (Count::Uncorrectable, 0.0), (Count::Crc, 0.0)];
    assert_eq!(ssd.counts, counts(&expected));

    let hdd = health(&report(SATA_HDD));
    assert_eq!((hdd.wear, hdd.failed_tests), (None, Some(1.0)));
    // Only the temperature was over its limit, which is no sign of failing.
    assert!(!hdd.below_threshold && !hdd.was_below_threshold);
    let expected = [
        (Count::Reallocated, 24.0),
        (Count::Uncorrectable, 2.0),
        (Count::CommandTimeouts, 4.0),
        (Count::Pending, 1.0),
        (Count::OfflineUncorrectable, 1.0),
        (Count::Crc, 7.0),
    ];
    assert_eq!(hdd.counts, counts(&expected));

    let sas = health(&report(SAS));
    assert_eq!(sas.power_on_hours, Some(31245.0 + 37.0 / 60.0));
    let expected = [(Count::GrownDefects, 12.0), (Count::ScsiUncorrected, 1.0)];
    assert_eq!(sas.counts, counts(&expected));

    let nvme = health(&report(NVME));
    assert_eq!((nvme.passed, nvme.wear), (Some(false), Some(0.91)));
    assert_eq!((nvme.critical_warning, nvme.spare), (Some(4.0), Some((99.0, 10.0))));
    assert_eq!(nvme.counts, counts(&[(Count::MediaErrors, 3.0)]));
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

const NOW: Now = Now { unix_micros: 1_770_000_000_000_000 };

fn fixture(name: &str) -> String {
    format!("{}/src/sources/disks/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The source with a program of the fixtures, without left answers.
fn smart(program: &str) -> Smart {
    let mut smart = Smart::with(Settings {
        program: fixture(program),
        reports: "/nonexistent".into(),
        ..Settings::default()
    });
    smart.timeout = Duration::from_secs(10);
    smart
}

/// What a reading tells, and what it complains of.
fn read(smart: &mut Smart, minute: i64) -> (Vec<String>, Reading) {
    let sys = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(sys.path().join("block/sda")).unwrap();
    let roots = Roots { sysfs: sys.path().into(), ..Roots::default() };
    let now = Now { unix_micros: NOW.unix_micros + minute * 60_000_000 };
    let mut reading = Reading::default();
    smart.read(&roots, now, &mut reading);
    let families: Vec<_> = reading.families().cloned().collect();
    let mut out = Vec::new();
    stoa_exchange::exposition::write(&families, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    (lines.collect(), reading)
}

fn problems(reading: &Reading) -> Vec<String> {
    reading.problems.iter().map(ToString::to_string).collect()
}

/// The lines of the agent's own families.
fn own(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| line.starts_with("stoa_")).collect()
}

#[test]
fn disks_are_found_asked_and_judged() {
    let mut smart = smart("smartctl.sh");
    let (lines, reading) = read(&mut smart, 0);
    assert_eq!(
        own(&lines),
        [
            "stoa_smart_denied 0",
            r#"stoa_smart_asleep{device="sda"} 0"#,
            r#"stoa_smart_asleep{device="sdb"} 0"#,
            r#"stoa_smart_asleep{device="bus_0_megaraid_disk_07"} 0"#,
            r#"stoa_smart_asleep{device="nvme0"} 0"#,
            r#"stoa_smart_asleep{device="sdd"} 0"#,
            r#"stoa_smart_failed{device="sda"} 0"#,
            r#"stoa_smart_failed{device="sdb"} 0"#,
            r#"stoa_smart_failed{device="bus_0_megaraid_disk_07"} 0"#,
            r#"stoa_smart_failed{device="nvme0"} 0"#,
            r#"stoa_smart_failed{device="sdd"} 1"#,
            r#"stoa_smart_read_timestamp_seconds{device="sda"} 1.77e+09"#,
            r#"stoa_smart_read_timestamp_seconds{device="sdb"} 1.77e+09"#,
            r#"stoa_smart_read_timestamp_seconds{device="bus_0_megaraid_disk_07"} 1.77e+09"#,
            r#"stoa_smart_read_timestamp_seconds{device="nvme0"} 1.77e+09"#,
            r#"stoa_disk_wear_ratio{device="sda"} 0.12"#,
            r#"stoa_disk_wear_ratio{device="nvme0"} 0.91"#,
            r#"stoa_disk_wear_left_years{device="sda"} 12.222222222222223"#,
            r#"stoa_disk_wear_left_years{device="nvme0"} 0.19780219780219774"#,
            r#"stoa_disk_failure_risk{device="sda"} 0"#,
            r#"stoa_disk_failure_risk{device="sdb"} 2"#,
            r#"stoa_disk_failure_risk{device="bus_0_megaraid_disk_07"} 1"#,
            r#"stoa_disk_failure_risk{device="nvme0"} 2"#,
            r#"stoa_disk_failure_reason{device="sdb",reason="self_test_failed"} 2"#,
            r#"stoa_disk_failure_reason{device="sdb",reason="reallocated_sectors"} 1"#,
            r#"stoa_disk_failure_reason{device="sdb",reason="uncorrectable_errors"} 1"#,
            r#"stoa_disk_failure_reason{device="sdb",reason="pending_sectors"} 1"#,
            r#"stoa_disk_failure_reason{device="sdb",reason="offline_uncorrectable_sectors"} 1"#,
            r#"stoa_disk_failure_reason{device="sdb",reason="several_kinds_of_bad_sectors"} 2"#,
            r#"stoa_disk_failure_reason{device="bus_0_megaraid_disk_07",reason="grown_defects"} 1"#,
            r#"stoa_disk_failure_reason{device="bus_0_megaraid_disk_07",reason="uncorrected_errors"} 1"#,
            r#"stoa_disk_failure_reason{device="nvme0",reason="smart_status_failed"} 2"#,
            r#"stoa_disk_failure_reason{device="nvme0",reason="reliability_degraded"} 2"#,
            r#"stoa_disk_failure_reason{device="nvme0",reason="endurance_nearly_used_up"} 1"#,
            r#"stoa_disk_failure_reason{device="nvme0",reason="media_errors"} 1"#,
        ]
    );
    assert!(lines.contains(&"smartctl_devices 5".to_owned()));
    let wrong = "smartctl: sdd: /dev/sdd: Unknown USB bridge [0x1234:0x5678 (0x100)]";
    assert_eq!(problems(&reading), [wrong]);
    assert!(!reading.failed);
    // It is said once.
    assert_eq!(problems(&read(&mut smart, 10).1), [""; 0]);
}

#[test]
fn a_disk_that_sleeps_keeps_its_last_readings() {
    let mut smart = smart("smartctl.sh");
    let (awake, _) = read(&mut smart, 0);
    smart.program = fixture("smartctl_asleep.sh");
    let (asleep, reading) = read(&mut smart, 10);
    let changed: Vec<_> = asleep.iter().filter(|line| !awake.contains(line)).collect();
    assert_eq!(changed, [r#"stoa_smart_asleep{device="sdb"} 1"#]);
    assert_eq!(awake.len(), asleep.len());
    assert_eq!(problems(&reading), [""; 0]);
}

#[test]
fn disks_that_hang_or_rave_do_not_keep_others_from_being_told() {
    let mut smart = smart("smartctl_hostile.sh");
    let (lines, reading) = read(&mut smart, 0);
    let told = |line: &str| lines.iter().any(|l| l == line);
    assert!(told(r#"stoa_disk_failure_risk{device="sda"} 0"#), "{lines:#?}");
    for device in ["garbage", "silent", "hang", "huge"] {
        assert!(told(&format!("stoa_smart_failed{{device=\"{device}\"}} 1")), "{device}");
    }
    let problems = problems(&reading);
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems[2].contains("hang: ") && problems[2].contains("did not end within"));
    assert!(problems[3].contains("huge: ") && problems[3].contains("said more than"));
}

#[test]
fn a_lack_of_rights_is_one_series_and_one_complaint() {
    let mut smart = smart("smartctl_denied.sh");
    let (lines, reading) = read(&mut smart, 0);
    assert!(lines.contains(&"stoa_smart_denied 2".to_owned()), "{lines:?}");
    assert!(reading.failed);
    let problems = problems(&reading);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].contains("2 disks may not be opened by this user: docs/operating/disks.md")
    );
}

#[test]
fn a_host_without_smartctl_tells_nothing() {
    let mut smart = smart("no such program");
    let (lines, reading) = read(&mut smart, 0);
    assert_eq!(lines, [""; 0]);
    assert!(reading.failed);
    assert_eq!(problems(&reading), [""; 0]);
}

#[test]
fn a_host_without_disks_is_left_alone() {
    let sys = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(sys.path().join("block/loop0")).unwrap();
    let roots = Roots { sysfs: sys.path().into(), ..Roots::default() };
    let mut reading = Reading::default();
    smart("smartctl.sh").read(&roots, NOW, &mut reading);
    assert!(reading.failed && reading.is_empty() && reading.problems.is_empty());
}

#[test]
fn answers_left_by_a_job_are_read_instead() {
    let dir = tempfile::tempdir().unwrap();
    let leave = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    leave("smart-sda.json", SATA_SSD);
    leave("smart-sdb.json", ASLEEP);
    leave("smart-sdd.json", USB_BRIDGE);
    leave("smart-odd.json", "Segmentation fault");
    leave("lvs.json", "{}");
    let mut smart = smart("no such program");
    smart.reports = dir.path().into();
    let (lines, reading) = read(&mut smart, 0);
    assert!(lines.contains(&"smartctl_devices 3".to_owned()));
    assert!(lines.contains(&r#"stoa_smart_asleep{device="sdb"} 1"#.to_owned()));
    assert!(lines.contains(&r#"stoa_smart_failed{device="sdd"} 1"#.to_owned()));
    assert!(lines.contains(&r#"stoa_disk_wear_ratio{device="sda"} 0.12"#.to_owned()));
    assert!(!reading.failed);
    assert_eq!(problems(&reading).len(), 2, "{:?}", problems(&reading));
    std::fs::remove_file(dir.path().join("smart-sda.json")).unwrap();
    let (lines, _) = read(&mut smart, 10);
    assert!(lines.contains(&"smartctl_devices 2".to_owned()));
}

#[test]
fn a_disk_in_anothers_place_has_no_past() {
    let mut smart = smart("smartctl.sh");
    let mut reading = Reading::default();
    let first = report(SATA_SSD);
    let mut second = report(SATA_SSD);
    second.serial_number = "another".into();
    for attribute in &mut second.ata_smart_attributes.0.table.0 {
        attribute.0.raw.0.value = crate::sources::disks::loose::Number(Some(50.0));
    }
    let known = smart.known_as("sda");
    known.take(first, NOW, &mut reading);
    known.take(second, NOW, &mut reading);
    let mut sheet = Sheet::new();
    known.tell(NOW, &mut sheet);
    let lines = lines(&mut sheet);
    assert!(lines.iter().all(|line| !line.contains("_growing")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("reallocated_sectors")), "{lines:#?}");
}
