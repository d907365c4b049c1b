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
    let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
    (dir, roots)
}

fn read(lvm: &mut Lvm, roots: &Roots) -> (Vec<String>, Reading) {
    let mut reading = Reading::default();
    lvm.read(roots, Now { unix_micros: 0 }, &mut reading);
    let lines = reading.families().flat_map(|family| {
        family
            .metrics
            .iter()
            .map(|metric| format!("{}{} {}", family.name, metric.labels, metric.value))
    });
    (lines.collect(), reading)
}

const TOLD: [&str; 10] = [
    "stoa_lvm_denied{} 0",
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
    let (lines, reading) = read(&mut lvm("lvm"), &roots);
    assert_eq!(lines, TOLD);
    assert!(!reading.failed && reading.problems.is_empty(), "{:?}", reading.problems);
}

#[test]
fn volumes_that_nobody_used_are_not_asked_again() {
    let (dir, roots) = host("1 2 3");
    let mut lvm = lvm("lvm");
    let _first = read(&mut lvm, &roots);
    lvm.settings.programs = fixture("lvm_denied");
    assert_eq!(read(&mut lvm, &roots).0, TOLD);
    std::fs::write(dir.path().join("block/dm-0/stat"), "1 2 4").unwrap();
    assert!(read(&mut lvm, &roots).1.failed);
}

#[test]
fn a_lack_of_rights_is_one_series_and_one_complaint() {
    let (_dir, roots) = host("1");
    let (lines, reading) = read(&mut lvm("lvm_denied"), &roots);
    assert_eq!(lines, ["stoa_lvm_denied{} 1"]);
    assert!(reading.failed);
    let problems: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
    let wrong = "lvs: /run/lock/lvm/P_global:aux: open failed: Permission denied: \
                 docs/operating/disks.md tells what is needed";
    assert_eq!(problems, [wrong]);
}

#[test]
fn a_host_without_volumes_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("block/sda")).unwrap();
    let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
    let (lines, reading) = read(&mut lvm("lvm_denied"), &roots);
    assert_eq!(lines, [""; 0]);
    assert!(reading.failed && reading.problems.is_empty(), "{:?}", reading.problems);
}

#[test]
fn answers_left_by_a_job_are_read_instead() {
    let dir = tempfile::tempdir().unwrap();
    let leave = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    leave("lvs.json", r#"{"report": [{"lv": []}]}"#);
    leave("vgs.json", r#"{"report": [{"vg": [{"vg_uuid": "v", "vg_name": "pve"}]}]}"#);
    leave("pvs.json", "what?");
    let mut lvm = Lvm::with(Settings { programs: fixture("lvm"), reports: dir.path().into() });
    let (_host, roots) = host("1");
    let (lines, reading) = read(&mut lvm, &roots);
    assert_eq!(lines, ["stoa_lvm_denied{} 0", TOLD[5]]);
    assert_eq!(reading.problems.len(), 1);
    std::fs::remove_file(dir.path().join("pvs.json")).unwrap();
    assert_eq!(read(&mut lvm, &roots).0, TOLD);
}
