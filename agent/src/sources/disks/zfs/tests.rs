//! The sources over programs that stand for zpool and zfs.

use std::path::Path;

use super::datasets::Settings;
use super::{Datasets, Pools};
use crate::sources::{Now, Reading, Roots, Source};

fn fixture(name: &str) -> String {
    format!("{}/src/sources/disks/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn host() -> (tempfile::TempDir, Roots) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("module/zfs")).unwrap();
    let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
    (dir, roots)
}

fn pools(program: &str) -> Pools {
    Pools::with(settings(&format!("program = {:?}", fixture(program))))
}

fn settings<T: serde::de::DeserializeOwned>(text: &str) -> T {
    toml::from_str(text).unwrap()
}

fn read(source: &mut dyn Source, roots: &Roots) -> (Vec<String>, Reading) {
    read_at(source, roots, 0)
}

fn read_at(source: &mut dyn Source, roots: &Roots, minute: i64) -> (Vec<String>, Reading) {
    let mut reading = Reading::default();
    let now = Now { unix_micros: 1_770_000_000_000_000 + minute * 60_000_000 };
    source.read(roots, now, &mut reading);
    let lines = reading.families().flat_map(|family| {
        family
            .metrics
            .iter()
            .map(|metric| format!("{}{} {}", family.name, metric.labels, metric.value))
    });
    (lines.collect(), reading)
}

#[track_caller]
fn check_pools(program: &str, expected: &[&str]) {
    let (_dir, roots) = host();
    let mut source = pools(program);
    for _ in 0..2 {
        let (lines, reading) = read(&mut source, &roots);
        assert!(!reading.failed && reading.problems.is_empty(), "{:?}", reading.problems);
        for line in expected {
            assert!(lines.iter().any(|l| l == line), "{line} in {lines:#?}");
        }
    }
}

#[test]
fn pools_are_told_by_json_and_by_text() {
    check_pools(
        "zpool.sh",
        &[
            r#"zfs_pool_health{pool="tank"} 1"#,
            r#"zfs_pool_scrub_issued_bytes{pool="tank"} 1000000"#,
            r#"stoa_zfs_device_state{class="spare", device="sdg", pool="tank"} 7"#,
        ],
    );
    check_pools(
        "zpool_old.sh",
        &[
            r#"zfs_pool_health{pool="tank"} 1"#,
            r#"zfs_pool_scrub_last_completed_timestamp_seconds{pool="old pool"} 1770000000"#,
            r#"stoa_zfs_device_state{class="spare", device="sdg", pool="tank"} 7"#,
        ],
    );
}

#[test]
fn a_program_that_printed_no_json_is_asked_for_it_again() {
    let (_dir, roots) = host();
    let mut source = pools("zpool_old.sh");
    assert!(read(&mut source, &roots).1.problems.is_empty());
    // What stands for the newer one prints no text.
    source.use_program(&fixture("zpool.sh"));
    for (minute, problems) in [(1, 1), (59, 1), (60, 0), (61, 0)] {
        assert_eq!(read_at(&mut source, &roots, minute).1.problems.len(), problems, "{minute}");
    }
}

#[test]
fn a_kernel_without_zfs_is_left_alone() {
    let roots = Roots { sysfs: Path::new("/nonexistent").into(), ..Roots::default() };
    let (lines, reading) = read(&mut pools("zpool.sh"), &roots);
    assert_eq!(lines, [""; 0]);
    assert!(reading.failed && reading.problems.is_empty());
}

#[test]
fn a_program_that_fails_is_told() {
    let (_dir, roots) = host();
    let (lines, reading) = read(&mut pools("lvm_denied/lvs"), &roots);
    assert_eq!(lines, [""; 0]);
    assert!(reading.failed);
    let wrong =
        "zpool list: WARNING: Running as a non-root user. Functionality may be unavailable.";
    assert_eq!(reading.problems[0].to_string(), wrong);
}

#[test]
fn datasets_are_listed_again_only_when_pools_change() {
    let (_dir, roots) = host();
    let table = |zfs: &str| {
        format!("program = {:?}\npool_program = {:?}", fixture(zfs), fixture("zpool.sh"))
    };
    let mut source = Datasets::with(settings::<Settings>(&table("zfs.sh")));
    let (lines, reading) = read(&mut source, &roots);
    assert!(!reading.failed, "{:?}", reading.problems);
    for line in [
        r#"zfs_dataset_used_bytes{name="tank", pool="tank", type="filesystem"} 4000000"#,
        r#"stoa_zfs_dataset_snapshots{name="tank", pool="tank", type="filesystem"} 2"#,
        r#"stoa_zfs_datasets{pool="tank"} 1"#,
        "stoa_zfs_datasets_read_timestamp_seconds{} 1770000000",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} in {lines:#?}");
    }
    // A program that fails is not noticed while the pools stand still.
    source.use_program(&fixture("lvm_denied/lvs"));
    assert_eq!(read(&mut source, &roots).0, lines);
    // Snapshots that cannot be listed are missing, and nothing else.
    let mut uncounted = Datasets::with(settings::<Settings>(&table("zfs_without_snapshots.sh")));
    let (without, reading) = read(&mut uncounted, &roots);
    assert!(!reading.failed);
    assert_eq!(reading.problems.len(), 1, "{:?}", reading.problems);
    let expected = lines.iter().filter(|line| !line.starts_with("stoa_zfs_dataset_snapshots"));
    assert_eq!(without, expected.cloned().collect::<Vec<_>>());
    let mut other = Datasets::with(settings::<Settings>(&table("lvm_denied/lvs")));
    assert!(read(&mut other, &roots).1.failed);
}
