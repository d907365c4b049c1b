use std::path::Path;

use super::*;

fn fixture(name: &str) -> String {
    format!("{}/src/sources/disks/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn lvm(programs: &str) -> Lvm {
    Lvm::with(Settings { programs: fixture(programs), reports: "/nonexistent".into() })
}

/// A host with one logical volume that has done as much as `stat` says.
fn host(stat: &str) -> (tempfile::TempDir, Roots) {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("block/dm-0");
    std::fs::create_dir_all(device.join("dm")).unwrap();
    std::fs::write(device.join("dm/uuid"), "LVM-abc\n").unwrap();
    std::fs::write(device.join("size"), "8\n").unwrap();
    std::fs::write(device.join("stat"), stat).unwrap();
    let roots = Roots { sysfs: dir.path().into(), udev: "/nonexistent".into(), ..Roots::default() };
    (dir, roots)
}

const NOW: u64 = 1_770_000_000;

fn read(lvm: &mut Lvm, roots: &Roots, minute: i64) -> (Vec<String>, Reading) {
    let mut reading = Reading::default();
    let now = Now { unix_micros: (1_770_000_000 + minute * 60) * 1_000_000 };
    lvm.read(roots, now, &mut reading);
    let lines = reading.families().flat_map(|family| {
        family
            .metrics
            .iter()
            .map(|metric| format!("{}{} {}", family.name, metric.labels, metric.value))
    });
    (lines.collect(), reading)
}

fn problems(reading: &Reading) -> Vec<String> {
    reading.problems.iter().map(ToString::to_string).collect()
}

/// Of those lines, what is not of the agent's own.
fn of_lvm(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| line.starts_with("lvm_")).collect()
}

const TOLD: [&str; 13] = [
    "stoa_lvm_denied{} 0",
    r#"stoa_lvm_read_timestamp_seconds{program="lvs"} 1770000000"#,
    r#"stoa_lvm_read_timestamp_seconds{program="vgs"} 1770000000"#,
    r#"stoa_lvm_read_timestamp_seconds{program="pvs"} 1770000000"#,
    r#"lvm_lv_info{lv_full_name="pve/data", lv_name="data", lv_uuid="l"} 1"#,
    r#"lvm_lv_layout{lv_layout="thin,pool", lv_uuid="l"} 1"#,
    r#"lvm_lv_data_percent{lv_uuid="l"} 71.25"#,
    r#"lvm_lv_metadata_percent{lv_uuid="l"} 3.5"#,
    r#"lvm_vg_info{vg_name="pve", vg_uuid="v"} 1"#,
    r#"lvm_vg_size_bytes{vg_uuid="v"} 500"#,
    r#"lvm_vg_free_bytes{vg_uuid="v"} 16"#,
    r#"lvm_pv_info{pv_fmt="lvm2", pv_name="/dev/sda3", pv_uuid="p"} 1"#,
    r#"lvm_pv_size_bytes{pv_uuid="p"} 500"#,
];

#[test]
fn a_host_with_volumes_tells_them() {
    let (_dir, roots) = host("1 2 3");
    let (lines, reading) = read(&mut lvm("lvm"), &roots, 0);
    assert_eq!(lines, TOLD);
    assert!(!reading.failed && reading.problems.is_empty(), "{:?}", reading.problems);
}

#[test]
fn a_group_without_active_volumes_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("block/sda")).unwrap();
    std::fs::create_dir_all(dir.path().join("udev")).unwrap();
    let found = "E:ID_FS_VERSION=LVM2 001\nE:ID_FS_TYPE=LVM2_member\nG:systemd\n";
    std::fs::write(dir.path().join("udev/b8:3"), found).unwrap();
    std::fs::write(dir.path().join("udev/b8:1"), "E:ID_FS_TYPE=ext4\n").unwrap();
    let roots =
        Roots { sysfs: dir.path().into(), udev: dir.path().join("udev"), ..Roots::default() };
    assert_eq!(read(&mut lvm("lvm"), &roots, 0).0, TOLD);
}

#[test]
fn volumes_that_nobody_used_are_not_asked_again() {
    let (dir, roots) = host("1 2 3");
    let mut lvm = lvm("lvm");
    let _first = read(&mut lvm, &roots, 0);
    lvm.settings.programs = fixture("lvm_denied");
    for minute in (5..300).step_by(5) {
        assert_eq!(read(&mut lvm, &roots, minute).0, TOLD);
    }
    // Used, and nobody answers: what was said is told for another hour.
    std::fs::write(dir.path().join("block/dm-0/stat"), "1 2 4").unwrap();
    for (minute, is_told) in [(300, true), (350, true), (356, false)] {
        let (lines, reading) = read(&mut lvm, &roots, minute);
        assert!(reading.failed);
        assert_eq!(of_lvm(&lines).is_empty(), !is_told, "{minute}");
        assert!(lines.contains(&TOLD[1].to_owned()));
    }
}

#[test]
fn a_lack_of_rights_is_one_series_and_one_complaint_and_rarely_tried() {
    let (_dir, roots) = host("1");
    let mut lvm = lvm("lvm_denied");
    let check = |lvm: &mut Lvm, minute| {
        let (lines, reading) = read(lvm, &roots, minute);
        assert_eq!(lines, ["stoa_lvm_denied{} 1"]);
        assert!(reading.failed);
        let wrong = "lvs: /run/lock/lvm/P_global:aux: open failed: Permission denied: \
                     docs/operating/disks.md tells what is needed";
        assert_eq!(problems(&reading), [wrong]);
    };
    check(&mut lvm, 0);
    check(&mut lvm, 10);
    // It is asked at 30, 70, 150 and so on from here.
    lvm.settings.programs = fixture("lvm");
    check(&mut lvm, 15);
    check(&mut lvm, 25);
    let (lines, reading) = read(&mut lvm, &roots, 30);
    assert_eq!(of_lvm(&lines), TOLD[4..]);
    assert!(!reading.failed);
}

#[test]
fn a_host_without_volumes_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("block/sda")).unwrap();
    let roots = Roots { sysfs: dir.path().into(), udev: dir.path().into(), ..Roots::default() };
    let (lines, reading) = read(&mut lvm("lvm_denied"), &roots, 0);
    assert_eq!(lines, [""; 0]);
    assert!(reading.failed && reading.problems.is_empty(), "{:?}", reading.problems);
}

#[test]
fn programs_that_are_named_and_missing_are_a_fault_and_nothing_is_told() {
    let (_dir, roots) = host("1");
    let mut lvm = lvm("no such directory");
    for minute in [0, 5, 10] {
        let (lines, reading) = read(&mut lvm, &roots, minute);
        assert_eq!(lines, ["stoa_lvm_denied{} 0"]);
        assert!(reading.failed && reading.problems.len() == 1, "{:?}", reading.problems);
    }
}

fn leave(directory: &Path, name: &str, text: &str, minute: u64) {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    let at = std::time::UNIX_EPOCH + Duration::from_secs(NOW + 60 * minute);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

#[test]
fn answers_left_by_a_job_are_read_instead() {
    let dir = tempfile::tempdir().unwrap();
    leave(dir.path(), "lvs.json", r#"{"report": [{"lv": []}]}"#, 0);
    let vgs = r#"{"report": [{"vg": [{"vg_uuid": "v", "vg_name": "pve"}]}]}"#;
    leave(dir.path(), "vgs.json", vgs, 0);
    leave(dir.path(), "pvs.json", "what?", 0);
    let mut lvm =
        Lvm::with(Settings { programs: fixture("lvm_denied"), reports: dir.path().into() });
    let (_host, roots) = host("1");
    let (lines, reading) = read(&mut lvm, &roots, 0);
    assert_eq!(lines, [TOLD[0], TOLD[1], TOLD[2], TOLD[3], TOLD[8]]);
    assert_eq!(reading.problems.len(), 1);
    // A job that died: when it spoke last is told, and what it said for an hour.
    let told = |minute| read(&mut lvm, &roots, minute);
    let [at_59, at_60, days_later] = [59, 60, 5000].map(told);
    assert_eq!(of_lvm(&at_59.0), [TOLD[8]]);
    assert!(!at_59.1.failed);
    for (lines, reading) in [at_60, days_later] {
        assert_eq!(lines, ["stoa_lvm_denied{} 1", TOLD[1], TOLD[2], TOLD[3]]);
        assert!(reading.failed);
        assert_eq!(problems(&reading)[0], format!("lvs: {}", reports::OLD));
    }
    // It is back, with one of its answers at first.
    leave(dir.path(), "vgs.json", vgs, 5001);
    let (lines, reading) = read(&mut lvm, &roots, 5001);
    assert_eq!(of_lvm(&lines), [TOLD[8]]);
    assert!(lines.contains(&TOLD[0].to_owned()) && !reading.failed);
}

#[test]
fn an_agent_that_may_asks_by_itself_when_the_job_died() {
    let dir = tempfile::tempdir().unwrap();
    leave(dir.path(), "vgs.json", "{}", 0);
    let mut lvm = Lvm::with(Settings { programs: fixture("lvm"), reports: dir.path().into() });
    let (_host, roots) = host("1");
    for minute in [5000, 5005] {
        let (lines, reading) = read(&mut lvm, &roots, minute);
        assert_eq!(of_lvm(&lines), TOLD[4..], "{minute}");
        assert!(!reading.failed);
    }
}
