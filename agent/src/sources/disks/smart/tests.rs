//! Reports of each kind of disk, and the source over programs that stand for smartctl.

use std::time::Duration;

use super::report::{Device, Outcome, Report, parse, parse_scan};
use super::{Settings, Smart, series};
use crate::sources::sheet::{Sheet, lines};
use crate::sources::{Now, Reading, Roots, Source};

mod verdicts;

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
fn a_device_that_sleeps_is_known_by_what_is_said_of_it() {
    for (status, message, expected) in [
        (2, "Device is in STANDBY mode, exit(2)", Outcome::Asleep),
        (2, "Device is in STANDBY BY COMMAND mode, exit(2)", Outcome::Asleep),
        (2, "Smartctl open device: /dev/sda failed: Permission denied", Outcome::Denied),
        (2, "Smartctl open device: /dev/sda failed: No such device", Outcome::Failed),
        (1, "/dev/sda: Unable to detect device type", Outcome::Failed),
        (0, "Device is in STANDBY mode, exit(0)", Outcome::Told),
        // Some command failed, the disk fails, it did so before, its logs have errors.
        (4 + 8 + 16 + 32 + 64 + 128, "", Outcome::Told),
        (2 + 64, "", Outcome::Failed),
        (300, "", Outcome::Failed),
    ] {
        let text = format!(
            r#"{{"smartctl": {{"exit_status": {status}, "messages": [{{"string": "{message}"}}]}}}}"#
        );
        assert_eq!(report(&text).outcome(), expected, "{text}");
    }
}

#[test]
fn devices_found_have_the_exporters_names() {
    let scan = parse_scan(SCAN.as_bytes()).unwrap();
    let names: Vec<_> = scan.devices.0.iter().map(|device| device.label()).collect();
    assert_eq!(names, ["sda", "sdb", "bus_0_megaraid_7", "nvme0", "sdd"]);
    for (name, kind, expected) in [
        ("/dev/sda", "auto", "sda"),
        ("/dev/bus/0", "megaraid,1", "bus_0_megaraid_1"),
        ("/dev/bus/0", "sat+megaraid,1", "bus_0_sat+megaraid_1"),
        ("/dev/disk/by-id/ata-CT500_AB", "auto", "ata-CT500_AB"),
        ("/dev/sdb", "usbjmicron,1", "sdb_usbjmicron_1"),
        ("/dev/sdb", "aacraid,1,0,4", "sdb_aacraid_1_0_4"),
        ("/dev/cciss/c0d0", "cciss,0", "cciss_c0d0_cciss_0"),
        ("", "", ""),
    ] {
        let device = Device { name: name.into(), r#type: kind.into(), ..Device::default() };
        assert_eq!(device.label(), expected);
    }
}

#[test]
fn a_disk_behind_a_controller_is_the_one_that_was_asked_for() {
    for argv in [r#""-d", "cciss,7""#, r#""--device", "cciss,7""#, r#""--device=cciss,7""#] {
        let text = format!(
            r#"{{"smartctl": {{"exit_status": 0, "argv": ["smartctl", "-a", {argv}, "/dev/sg2"]}},
                "device": {{"name": "/dev/sg2", "type": "cciss"}}}}"#
        );
        assert_eq!(report(&text).asked().label(), "sg2_cciss_7");
    }
    let text = r#"{"smartctl": {"exit_status": 0, "argv": ["-d", "sat", "-d"]},
        "device": {"name": "/dev/sda", "type": "sat"}}"#;
    assert_eq!(report(text).asked().label(), "sda");
}

#[test]
fn what_is_not_smartctls_is_refused() {
    for text in ["", "{}", "[]", "null", "{\"smartctl\": 3}", "smartctl: not found", "{\"a\": "] {
        assert!(parse(text.as_bytes()).is_none(), "{text}");
        assert!(parse_scan(text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn a_line_before_the_document_is_passed_over() {
    assert!(parse(b"Pending defect count:{\"smartctl\": {\"exit_status\": 0}}").is_some());
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
            r#"stoa_smart_asleep{device="bus_0_megaraid_7"} 0"#,
            r#"stoa_smart_asleep{device="nvme0"} 0"#,
            r#"stoa_smart_asleep{device="sdd"} 0"#,
            r#"stoa_smart_failed{device="sda"} 0"#,
            r#"stoa_smart_failed{device="sdb"} 0"#,
            r#"stoa_smart_failed{device="bus_0_megaraid_7"} 0"#,
            r#"stoa_smart_failed{device="nvme0"} 0"#,
            r#"stoa_smart_failed{device="sdd"} 1"#,
            r#"stoa_smart_read_timestamp_seconds{device="sda"} 1.77e+09"#,
            r#"stoa_smart_read_timestamp_seconds{device="sdb"} 1.77e+09"#,
            r#"stoa_smart_read_timestamp_seconds{device="bus_0_megaraid_7"} 1.77e+09"#,
            r#"stoa_smart_read_timestamp_seconds{device="nvme0"} 1.77e+09"#,
            r#"stoa_disk_wear_ratio{device="sda"} 0.12"#,
            r#"stoa_disk_wear_ratio{device="nvme0"} 0.91"#,
            r#"stoa_disk_wear_left_years{device="sda"} 12.222222222222223"#,
            r#"stoa_disk_wear_left_years{device="nvme0"} 0.19780219780219774"#,
            r#"stoa_disk_failure_risk{device="sda",kind="ssd"} 0"#,
            r#"stoa_disk_failure_risk{device="sdb",kind="hdd"} 2"#,
            r#"stoa_disk_failure_risk{device="bus_0_megaraid_7",kind="sas_hdd"} 1"#,
            r#"stoa_disk_failure_risk{device="nvme0",kind="nvme"} 2"#,
            r#"stoa_disk_failure_reason{device="sdb",meaning="the disk failed a self-test and has passed none of the kind since",reason="self_test_failed"} 2"#,
            r#"stoa_disk_failure_reason{device="sdb",meaning="the disk has lost sectors and replaced them by spare ones",reason="reallocated_sectors"} 1"#,
            r#"stoa_disk_failure_reason{device="sdb",meaning="the disk once gave errors instead of data",reason="uncorrectable_errors"} 1"#,
            r#"stoa_disk_failure_reason{device="sdb",meaning="sectors of the disk cannot be read until they are written again",reason="pending_sectors"} 1"#,
            r#"stoa_disk_failure_reason{device="sdb",meaning="the disk found sectors that it cannot read",reason="offline_uncorrectable_sectors"} 1"#,
            r#"stoa_disk_failure_reason{device="bus_0_megaraid_7",meaning="the disk has lost sectors and replaced them by spare ones",reason="grown_defects"} 1"#,
            r#"stoa_disk_failure_reason{device="bus_0_megaraid_7",meaning="the disk once gave errors instead of data",reason="uncorrected_errors"} 1"#,
            r#"stoa_disk_failure_reason{device="nvme0",meaning="nearly as much was written as the disk is rated for",reason="endurance_nearly_used_up"} 1"#,
            r#"stoa_disk_failure_reason{device="nvme0",meaning="the disk says that it is no longer reliable",reason="reliability_degraded"} 2"#,
            r#"stoa_disk_failure_reason{device="nvme0",meaning="the disk once gave errors instead of data",reason="media_errors"} 1"#,
        ]
    );
    assert!(lines.contains(&"smartctl_devices 5".to_owned()));
    let wrong = "smartctl: sdd: /dev/sdd: Unknown USB bridge [0x1234:0x5678 (0x100)]";
    assert_eq!(problems(&reading), [wrong]);
    assert!(!reading.failed);
    // It goes on: what fails is not mended by being said.
    assert_eq!(problems(&read(&mut smart, 10).1), [wrong]);
}

#[test]
fn a_disk_that_sleeps_keeps_its_last_readings() {
    let mut smart = smart("smartctl.sh");
    let (awake, _) = read(&mut smart, 0);
    smart.program = fixture("smartctl_asleep.sh");
    let (asleep, reading) = read(&mut smart, 10);
    let changed = asleep.iter().filter(|line| !awake.contains(line));
    let changed: Vec<_> = changed.filter(|line| line.contains("\"sdb\"")).collect();
    assert_eq!(changed, [r#"stoa_smart_asleep{device="sdb"} 1"#]);
    assert_eq!(awake.len(), asleep.len());
    assert_eq!(
        problems(&reading),
        ["smartctl: sdd: /dev/sdd: Unknown USB bridge [0x1234:0x5678 (0x100)]"]
    );
}

#[test]
fn disks_that_hang_or_rave_do_not_keep_others_from_being_told() {
    let mut smart = smart("smartctl_hostile.sh");
    let (lines, reading) = read(&mut smart, 0);
    let told = |line: &str| lines.iter().any(|l| l == line);
    assert!(told(r#"stoa_disk_failure_risk{device="sda",kind="ssd"} 0"#), "{lines:#?}");
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
    let mut absent = smart("");
    absent.program = "stoa-no-such-program".to_owned();
    let (lines, reading) = read(&mut absent, 0);
    assert_eq!(lines, [""; 0]);
    assert!(reading.failed);
    assert_eq!(problems(&reading), [""; 0]);
    assert!(reading.absent.is_some());
    // One that is named by its path is expected to be there.
    let (lines, reading) = read(&mut smart("no such program"), 0);
    assert_eq!(lines, [""; 0]);
    assert!(reading.failed);
    assert!(problems(&reading)[0].ends_with("no such program is not installed"));
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
fn disks_that_may_not_be_opened_are_asked_ever_more_rarely() {
    let mut smart = smart("smartctl_denied.sh");
    let _first = read(&mut smart, 0);
    // The rights are there from now on.
    smart.program = fixture("smartctl.sh");
    for minute in [5, 10, 20, 30, 40, 60] {
        let (lines, reading) = read(&mut smart, minute);
        assert!(lines.contains(&"stoa_smart_denied 2".to_owned()), "{lines:?}");
        assert!(reading.failed && reading.problems.len() == 1);
    }
    let (lines, reading) = read(&mut smart, 70);
    assert!(lines.contains(&"stoa_smart_denied 0".to_owned()), "{lines:?}");
    assert!(!reading.failed);
}

#[test]
fn disks_are_opened_to_find_them_only_when_there_are_others() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let program = dir.path().join("smartctl");
    let script = r#"#!/bin/sh
here=${0%/*}
for last; do :; done
echo $last >>$here/asked
case $last in
--scan*) cat $here/$last ;;
*) echo '{"smartctl": {"exit_status": 0}}' ;;
esac
"#;
    write("smartctl", script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let found =
        r#"{"smartctl": {"exit_status": 0}, "devices": [{"name": "/dev/sda", "type": "sat"}]}"#;
    write("--scan", "sda\n");
    write("--scan-open", found);
    let mut smart = smart("");
    smart.program = program.display().to_string();
    let mut check = |minute: i64, expected: &str| {
        write("asked", "");
        read(&mut smart, minute);
        let asked = std::fs::read_to_string(dir.path().join("asked")).unwrap();
        assert_eq!(asked.replace('\n', " "), expected, "{minute}");
    };
    check(0, "--scan --scan-open /dev/sda ");
    check(50, "/dev/sda ");
    check(60, "--scan /dev/sda ");
    write("--scan", "sda\nanother\n");
    write("--scan-open", &found.replace("\"sat\"", r#""sat", "open_error": "busy""#));
    check(110, "/dev/sda ");
    check(120, "--scan --scan-open /dev/sda ");
    // One that could not be opened is tried again.
    check(180, "--scan --scan-open /dev/sda ");
}

#[test]
fn a_disk_that_answers_no_more_is_told_for_an_hour() {
    let mut smart = smart("smartctl.sh");
    let (awake, _) = read(&mut smart, 0);
    smart.program = fixture("smartctl_dead.sh");
    let told = |lines: &[String], start: &str| lines.iter().any(|line| line.starts_with(start));
    let of_sdb = r#"smartctl_device_temperature{device="sdb""#;
    let risk = r#"stoa_disk_failure_risk{device="sdb""#;
    let read_at = r#"stoa_smart_read_timestamp_seconds{device="sdb"} 1.77e+09"#;
    assert!(told(&awake, of_sdb) && told(&awake, risk));
    for (minute, is_told) in [(50, true), (60, false), (70, false)] {
        let (lines, _) = read(&mut smart, minute);
        assert!(lines.contains(&r#"stoa_smart_failed{device="sdb"} 1"#.to_owned()));
        assert!(lines.contains(&read_at.to_owned()), "{lines:#?}");
        assert_eq!((told(&lines, of_sdb), told(&lines, risk)), (is_told, is_told), "{minute}");
        assert!(told(&lines, r#"smartctl_device_temperature{device="nvme0""#));
    }
}

#[test]
fn a_disk_that_sleeps_is_told_for_as_long_as_it_sleeps() {
    let mut smart = smart("smartctl.sh");
    let (awake, _) = read(&mut smart, 0);
    smart.program = fixture("smartctl_asleep.sh");
    for minute in (10..600).step_by(10) {
        let (asleep, _) = read(&mut smart, minute);
        assert_eq!(asleep.len(), awake.len(), "{minute}");
    }
}

/// A directory in which a job left answers, at `NOW` and so many minutes.
struct LeftAnswers(tempfile::TempDir);

impl LeftAnswers {
    fn leave(&self, name: &str, text: &str, minute: u64) {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        let at = std::time::UNIX_EPOCH + Duration::from_secs(1_770_000_000 + 60 * minute);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    fn smart(&self) -> Smart {
        let mut smart = smart("no such program");
        smart.reports = self.0.path().into();
        smart
    }
}

#[test]
fn answers_left_by_a_job_are_read_instead() {
    let left = LeftAnswers(tempfile::tempdir().unwrap());
    left.leave("smart-sda.json", SATA_SSD, 0);
    left.leave("smart-sdb.json", ASLEEP, 0);
    left.leave("smart-sdd.json", USB_BRIDGE, 0);
    left.leave("smart-odd.json", "Segmentation fault", 0);
    left.leave("lvs.json", "{}", 0);
    let mut smart = left.smart();
    let (lines, reading) = read(&mut smart, 0);
    assert!(lines.contains(&"smartctl_devices 3".to_owned()));
    assert!(lines.contains(&r#"stoa_smart_asleep{device="sdb"} 1"#.to_owned()));
    assert!(lines.contains(&r#"stoa_smart_failed{device="sdd"} 1"#.to_owned()));
    assert!(lines.contains(&r#"stoa_disk_wear_ratio{device="sda"} 0.12"#.to_owned()));
    assert!(!reading.failed);
    assert_eq!(problems(&reading).len(), 2, "{:?}", problems(&reading));
    std::fs::remove_file(left.0.path().join("smart-sda.json")).unwrap();
    let (lines, _) = read(&mut smart, 10);
    assert!(lines.contains(&"smartctl_devices 2".to_owned()));
}

#[test]
fn a_job_that_died_is_seen() {
    let left = LeftAnswers(tempfile::tempdir().unwrap());
    left.leave("smart-sda.json", SATA_SSD, 0);
    left.leave("smart-nvme0.json", NVME, 0);
    // Before the agent began, or after.
    for began in [0, 5000] {
        let mut smart = left.smart();
        for minute in [began, 5010, 5020] {
            let (lines, reading) = read(&mut smart, minute);
            let is_dead = minute > 0;
            assert_eq!(lines.iter().any(|line| line.contains("temperature")), !is_dead);
            assert_eq!(lines.iter().any(|line| line.contains("_wear_")), !is_dead);
            for device in ["sda", "nvme0"] {
                let of =
                    |family: &str, value: &str| format!("{family}{{device=\"{device}\"}} {value}");
                assert!(lines.contains(&of("stoa_smart_read_timestamp_seconds", "1.77e+09")));
                let failed = if is_dead { "1" } else { "0" };
                assert!(lines.contains(&of("stoa_smart_failed", failed)), "{minute} {lines:#?}");
            }
            assert_eq!(reading.failed, is_dead);
        }
    }
    // One that lacks an answer, of several.
    left.leave("smart-sda.json", SATA_SSD, 5020);
    let (lines, reading) = read(&mut left.smart(), 5020);
    assert!(lines.contains(&r#"stoa_smart_failed{device="nvme0"} 1"#.to_owned()));
    assert!(lines.contains(&r#"stoa_disk_wear_ratio{device="sda"} 0.12"#.to_owned()));
    assert!(!reading.failed);
}

#[test]
fn two_ways_to_a_disk_are_one_verdict() {
    let path = |device: &str, serial: &str| {
        format!(
            r#"{{"smartctl": {{"exit_status": 0}}, "device": {{"name": "/dev/{device}",
                "protocol": "SCSI"}}, "logical_unit_id": "0x5000c500000003",
                "serial_number": "{serial}", "scsi_grown_defect_list": 3}}"#
        )
    };
    let left = LeftAnswers(tempfile::tempdir().unwrap());
    for (device, serial) in [("sda", "one"), ("sdb", "two"), ("sdc", "one"), ("sdd", "one")] {
        left.leave(&format!("smart-{device}.json"), &path(device, serial), 0);
    }
    let (lines, _) = read(&mut left.smart(), 0);
    let told = lines.iter().filter(|line| {
        line.starts_with("stoa_disk_failure_risk") || line.starts_with("stoa_smart_same_disk")
    });
    let told: Vec<&str> = told.map(String::as_str).collect();
    assert_eq!(
        told,
        [
            r#"stoa_disk_failure_risk{device="sda",kind="sas_hdd"} 1"#,
            r#"stoa_disk_failure_risk{device="sdb",kind="sas_hdd"} 1"#,
            r#"stoa_smart_same_disk{device="sdc",other="sda"} 1"#,
            r#"stoa_smart_same_disk{device="sdd",other="sda"} 1"#,
        ]
    );
    let defects = lines.iter().filter(|line| line.starts_with("smartctl_scsi_grown_defect_list"));
    assert_eq!(defects.count(), 4);
}

#[test]
fn a_disk_in_anothers_place_has_no_past() {
    let mut smart = smart("smartctl.sh");
    let first = report(SATA_HDD);
    let mut second = report(SATA_HDD);
    second.serial_number = "another".into();
    for attribute in &mut second.ata_smart_attributes.0.table.0 {
        attribute.0.raw.0.string = "5000".into();
    }
    let known = smart.known_as("sda");
    known.take(first, NOW);
    known.take(second, NOW);
    let mut sheet = Sheet::new();
    known.judge(NOW, &mut sheet);
    let lines = lines(&mut sheet);
    assert!(lines.iter().all(|line| !line.contains("_growing")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("reallocated_sectors")), "{lines:#?}");
}
