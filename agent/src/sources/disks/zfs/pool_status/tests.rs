use proptest::prelude::*;

use super::*;
use crate::sources::sheet::lines;

const TEXT: &str = include_str!("../../fixtures/zpool_status.txt");

fn pool(name: &str) -> PoolStatus {
    parse(TEXT).into_iter().find(|pool| pool.name == name).unwrap()
}

fn device(pool: &PoolStatus, name: &str) -> Device {
    pool.devices.iter().find(|device| device.name == name).unwrap().clone()
}

#[test]
fn devices_are_read_with_what_they_are_in_and_for() {
    let tank = pool("tank");
    let rows: Vec<_> = tank
        .devices
        .iter()
        .map(|d| (d.class, d.parent.as_str(), d.name.as_str(), d.state.unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            ("pool", "", "tank", 1.0),
            ("data", "", "raidz2-0", 1.0),
            ("data", "raidz2-0", "sda", 0.0),
            ("data", "raidz2-0", "replacing-1", 1.0),
            ("data", "replacing-1", "sdb", 4.0),
            ("data", "replacing-1", "sdx", 0.0),
            ("data", "raidz2-0", "spare-2", 1.0),
            ("data", "spare-2", "sdc", 5.0),
            ("data", "spare-2", "sdh", 0.0),
            ("special", "", "mirror-1", 0.0),
            ("special", "mirror-1", "nvme0n1p2", 0.0),
            ("special", "mirror-1", "nvme1n1p2", 0.0),
            ("log", "", "mirror-2", 0.0),
            ("log", "mirror-2", "nvme0n1p3", 0.0),
            ("log", "mirror-2", "nvme1n1p3", 3.0),
            ("cache", "", "nvme0n1p4", 0.0),
            ("spare", "", "sdg", 7.0),
            ("spare", "", "sdh", 8.0),
        ]
    );
    assert_eq!(tank.data_errors, Some(2.0));
    assert_eq!(tank.message, "ZFS-8000-4J");
    assert_eq!(device(&tank, "sdg").errors, [None; 3]);
}

#[test]
fn names_may_have_spaces() {
    let old = pool("old pool");
    assert_eq!(old.devices[0].class, "pool");
    let spaced = device(&old, "a disk with spaces");
    assert_eq!(spaced.parent, "mirror-0");
    assert_eq!(spaced.errors, [Some(1.0), Some(2.0), Some(3.0)]);
    assert_eq!(spaced.slow_ios, Some(4.0));
    assert_eq!(device(&old, "mirror-0").slow_ios, None);
    assert_eq!((old.data_errors, old.message.as_str()), (Some(0.0), ""));
}

#[test]
fn a_suspended_pool_cannot_tell_its_errors() {
    let rpool = pool("rpool");
    assert_eq!(rpool.data_errors, None);
    assert_eq!(device(&rpool, "rpool").state, Some(4.0));
    assert_eq!(device(&rpool, "sda3").errors, [Some(12345.0), Some(9.0), Some(0.0)]);
    assert_eq!(rpool.scan, Scan::default());
}

#[test]
fn a_resilver_is_told_with_its_end() {
    let scan = pool("tank").scan;
    let tib = 1024_f64.powi(4);
    let gib = 1024_f64.powi(3);
    assert_eq!(
        scan,
        Scan {
            state: State::Resilvering,
            total_bytes: Some(3.6 * tib),
            scanned_bytes: Some(1.2 * tib),
            issued_bytes: Some(640.0 * gib),
            bytes_per_second: Some(433.0 * 1024.0 * 1024.0),
            repaired_bytes: Some(213.0 * gib),
            done: Some(0.1736),
            seconds_left: Some(86_400.0 + 7_293.0),
            ..Scan::default()
        }
    );
}

#[track_caller]
fn check_scan(lines: &str, expected: Scan) {
    let text = format!("  pool: p\n state: ONLINE\n  scan: {lines}\nconfig:\n");
    assert_eq!(parse(&text)[0].scan, expected);
}

#[test]
fn scans_of_all_versions_are_read() {
    let mib = 1024.0 * 1024.0;
    check_scan("none requested", Scan::default());
    let over = Scan {
        state: State::Scrubbed,
        errors: Some(0.0),
        repaired_bytes: Some(0.0),
        completed: Some(1_770_000_000.0),
        ..Scan::default()
    };
    check_scan("scrub repaired 0B in 00:10:34 with 0 errors on Mon Feb  2 02:40:00 2026", over);
    check_scan("scrub repaired 0 in 26h25m with 0 errors on Mon Feb  2 02:40:00 2026", over);
    check_scan(
        "resilvered 1M in 04:22:11 with 3 errors on Mon Feb  2 02:40:00 2026",
        Scan { state: State::Resilvered, errors: Some(3.0), repaired_bytes: Some(mib), ..over },
    );
    check_scan(
        "scrub canceled on Mon Feb  2 02:40:00 2026",
        Scan { state: State::Canceled, ..Scan::default() },
    );
    check_scan(
        "scrub in progress since Tue Dec 31 14:05:14 2019\n\
         \t4M scanned at 2M/s, 3M issued at 1M/s, 6M total\n\
         \t0B repaired, 50.00% done, 00:00:03 to go",
        Scan {
            state: State::Scrubbing,
            total_bytes: Some(6.0 * mib),
            scanned_bytes: Some(4.0 * mib),
            issued_bytes: Some(3.0 * mib),
            bytes_per_second: Some(mib),
            repaired_bytes: Some(0.0),
            done: Some(0.5),
            seconds_left: Some(3.0),
            ..Scan::default()
        },
    );
    check_scan(
        "scrub paused since Tue Dec 31 14:05:14 2019\n\
         \tscrub started on Tue Dec 31 14:05:14 2019\n\
         \t4M / 6M scanned, 3M / 6M issued\n\
         \t0B repaired, 50.00% done",
        Scan {
            state: State::Paused,
            total_bytes: Some(6.0 * mib),
            scanned_bytes: Some(4.0 * mib),
            issued_bytes: Some(3.0 * mib),
            repaired_bytes: Some(0.0),
            done: Some(0.5),
            ..Scan::default()
        },
    );
    check_scan(
        "scrub in progress since Tue Dec 31 14:05:14 2019\n\
         \t0B / 6M scanned, 0B / 6M issued\n\
         \t0B repaired, 0.00% done, no estimated completion time",
        Scan {
            state: State::Scrubbing,
            total_bytes: Some(6.0 * mib),
            scanned_bytes: Some(0.0),
            issued_bytes: Some(0.0),
            repaired_bytes: Some(0.0),
            done: Some(0.0),
            ..Scan::default()
        },
    );
}

#[test]
fn a_scan_that_ended_before_is_remembered_while_another_runs() {
    let mut sheet = Sheet::new();
    tell(&pool("tank"), Some(1_700_000_000.0), &mut sheet);
    let told = lines(&mut sheet);
    let expected = r#"zfs_pool_scrub_last_completed_timestamp_seconds{pool="tank"} 1.7e+09"#;
    assert!(told.iter().any(|line| line == expected), "{told:#?}");
}

#[test]
fn devices_are_bounded() {
    let mut text = String::from("  pool: p\nconfig:\n\n\tNAME  STATE\n");
    for i in 0..DEVICES_MAX + 9 {
        text.push_str(&format!("\t  d{i:04} ONLINE\n"));
    }
    assert_eq!(parse(&text)[0].devices.len(), DEVICES_MAX);
    let pools = "  pool: p\n".repeat(POOLS_MAX + 9);
    assert_eq!(parse(&pools).len(), POOLS_MAX);
}

proptest! {
    #[test]
    fn any_text_is_read(at in 0_usize..TEXT.len(), to in 0_usize..TEXT.len(), noise in "\\PC{0,20}") {
        let (at, to) = (at.min(to), at.max(to));
        let (Some(head), Some(tail)) = (TEXT.get(..at), TEXT.get(to..)) else { return Ok(()) };
        let mut sheet = Sheet::new();
        for pool in parse(&format!("{head}{noise}{tail}")) {
            tell(&pool, None, &mut sheet);
        }
        prop_assert!(lines(&mut sheet).iter().all(|line| !line.contains("NaN")));
    }
}
