//! The JSON of `zpool status -jps --json-int`, OpenZFS 2.3 and later: the same as its text, exact.

use serde::Deserialize;

use super::pool_list::state;
use super::pool_status::{Device, PoolStatus};
use super::scan::{self, Scan, State};
use super::{DEVICES_MAX, POOLS_MAX};
use crate::sources::Now;
use crate::sources::loose::{Number, Part, Table, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    output_version: Part<OutputVersion>,
    pools: Table<Part<Pool>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputVersion {
    command: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pool {
    name: Text,
    msgid: Text,
    error_count: Number,
    scan_stats: Part<ScanStats>,
    vdevs: Table<Part<Vdev>>,
    logs: Table<Part<Vdev>>,
    l2cache: Table<Part<Vdev>>,
    spares: Table<Part<Vdev>>,
    special: Table<Part<Vdev>>,
    dedup: Table<Part<Vdev>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ScanStats {
    function: Text,
    state: Text,
    end_time: Text,
    to_examine: Number,
    examined: Number,
    skipped: Number,
    processed: Number,
    errors: Number,
    pass_start: Text,
    scrub_pause: Text,
    scrub_spent_paused: Number,
    issued_bytes_per_scan: Number,
    issued: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Vdev {
    name: Text,
    vdev_type: Text,
    state: Text,
    read_errors: Number,
    write_errors: Number,
    checksum_errors: Number,
    slow_ios: Number,
    vdevs: Table<Part<Self>>,
}

/// Reads a status; `None` when the text is not one.
pub(super) fn parse(text: &[u8], now: Now) -> Option<Vec<PoolStatus>> {
    let Part(document): Part<Document> = serde_json::from_slice(text).ok()?;
    if !document.output_version.command.as_str().starts_with("zpool status") {
        return None;
    }
    let pools = document.pools.0.iter().take(POOLS_MAX);
    let mut room = DEVICES_MAX;
    Some(pools.map(|(key, pool)| status(key, pool, now, &mut room)).collect())
}

fn status(key: &str, pool: &Pool, now: Now, room: &mut usize) -> PoolStatus {
    let mut devices = Vec::new();
    for (class, vdevs) in [
        ("data", &pool.vdevs),
        ("special", &pool.special),
        ("dedup", &pool.dedup),
        ("log", &pool.logs),
        ("cache", &pool.l2cache),
        ("spare", &pool.spares),
    ] {
        add(class, "", vdevs, &mut devices, room);
    }
    PoolStatus {
        name: pool.name.or(key).to_owned(),
        scan: scan_of(&pool.scan_stats, now),
        data_errors: pool.error_count.0,
        message: pool.msgid.as_str().to_owned(),
        devices,
    }
}

fn add(
    class: &'static str,
    parent: &str,
    vdevs: &Table<Part<Vdev>>,
    devices: &mut Vec<Device>,
    room: &mut usize,
) {
    for (key, vdev) in &vdevs.0 {
        if *room == 0 {
            return;
        }
        *room -= 1;
        let name = vdev.name.or(key);
        let is_pool = vdev.vdev_type.as_str() == "root";
        devices.push(Device {
            name: name.to_owned(),
            parent: parent.to_owned(),
            class: if is_pool { "pool" } else { class },
            state: state(vdev.state.as_str()),
            errors: [vdev.read_errors.0, vdev.write_errors.0, vdev.checksum_errors.0],
            slow_ios: vdev.slow_ios.0,
        });
        add(class, if is_pool { "" } else { name }, &vdev.vdevs, devices, room);
    }
}

fn scan_of(stats: &ScanStats, now: Now) -> Scan {
    let is_resilver = stats.function.as_str() == "RESILVER";
    let is_paused = time(&stats.scrub_pause).is_some_and(|at| at > 0.0);
    let state = match (stats.state.as_str(), is_resilver) {
        ("SCANNING", true) => State::Resilvering,
        ("SCANNING", false) if is_paused => State::Paused,
        ("SCANNING", false) => State::Scrubbing,
        ("FINISHED", true) => State::Resilvered,
        ("FINISHED", false) => State::Scrubbed,
        ("CANCELED", _) => State::Canceled,
        _ => return Scan::default(),
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let now = (now.unix_micros / 1_000_000) as f64;
    let spent_paused = stats.scrub_spent_paused.0.unwrap_or_default();
    let elapsed = time(&stats.pass_start).map(|start| now - start - spent_paused);
    let elapsed = elapsed.filter(|elapsed| *elapsed >= 1.0);
    let skipped = stats.skipped.0.unwrap_or_default();
    let is_over = matches!(state, State::Scrubbed | State::Resilvered);
    Scan {
        state,
        errors: stats.errors.0,
        repaired_bytes: stats.processed.0,
        completed: time(&stats.end_time).filter(|_| is_over),
        total_bytes: stats.to_examine.0.map(|total| total - skipped),
        scanned_bytes: stats.examined.0,
        issued_bytes: stats.issued.0,
        bytes_per_second: stats
            .issued_bytes_per_scan
            .0
            .zip(elapsed)
            .map(|(issued, elapsed)| issued / elapsed),
        ..Scan::default()
    }
    .completed_by_sums()
}

/// Seconds, or a date where the version of ZFS writes one; `-` is none.
fn time(text: &Text) -> Option<f64> {
    crate::sources::number(text.as_str()).or_else(|| scan::date(text.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pool_status::tell;
    use super::*;
    use crate::sources::sheet::{Sheet, lines};

    const NOW: Now = Now { unix_micros: 1_770_000_000_000_000 };

    #[test]
    fn a_pool_that_resilvers_is_told() {
        let text = include_bytes!("../fixtures/zpool_status.json");
        let pools = parse(text, NOW).unwrap();
        assert_eq!(pools.len(), 2);
        let mut sheet = Sheet::new();
        for pool in &pools {
            tell(pool, None, &mut sheet);
        }
        let told = lines(&mut sheet);
        for expected in [
            r#"zfs_pool_scrub_state{pool="tank"} 5"#,
            r#"zfs_pool_scrub_state{pool="old pool"} 2"#,
            r#"zfs_pool_scrub_total_bytes{pool="tank"} 4e+06"#,
            r#"zfs_pool_scrub_scanned_bytes{pool="tank"} 3e+06"#,
            r#"zfs_pool_scrub_issued_bytes{pool="tank"} 1e+06"#,
            r#"zfs_pool_scrub_rate_bytes_per_second{pool="tank"} 1000"#,
            r#"zfs_pool_scrub_last_completed_timestamp_seconds{pool="tank"} 0"#,
            r#"zfs_pool_scrub_last_completed_timestamp_seconds{pool="old pool"} 1.768e+09"#,
            r#"zfs_pool_scrub_repaired_bytes{pool="old pool"} 4096"#,
            r#"zfs_pool_scrub_total_bytes{pool="old pool"} 0"#,
            r#"stoa_zfs_scrub_progress_ratio{pool="tank"} 0.25"#,
            r#"stoa_zfs_scrub_left_seconds{pool="tank"} 3000"#,
            r#"stoa_zfs_pool_data_errors{pool="tank"} 2"#,
            r#"stoa_zfs_pool_message{message="ZFS-8000-8A",pool="tank"} 1"#,
            r#"stoa_zfs_device_state{class="pool",device="tank",pool="tank"} 1"#,
            r#"stoa_zfs_device_state{class="data",device="raidz1-0",pool="tank"} 1"#,
            r#"stoa_zfs_device_state{class="data",device="sdb",parent="replacing-1",pool="tank"} 4"#,
            r#"stoa_zfs_device_errors_total{class="data",device="sda",kind="checksum",parent="raidz1-0",pool="tank"} 7"#,
            r#"stoa_zfs_device_slow_ios_total{class="data",device="sda",parent="raidz1-0",pool="tank"} 3"#,
            r#"stoa_zfs_device_state{class="spare",device="sdg",pool="tank"} 7"#,
            r#"stoa_zfs_device_state{class="cache",device="nvme0n1p4",pool="tank"} 0"#,
        ] {
            assert!(told.iter().any(|line| line == expected), "{expected} in {told:#?}");
        }
        assert!(
            told.iter().all(|line| !line.starts_with("stoa_zfs_scrub") || line.contains("tank"))
        );
    }

    #[test]
    fn what_is_no_status_is_refused() {
        assert_eq!(parse(b"invalid option 'j'\nusage:\n", NOW), None);
        assert_eq!(parse(b"{}", NOW), None);
        assert_eq!(parse(b"[1]", NOW), None);
        let empty = br#"{"output_version": {"command": "zpool status"}, "pools": {}}"#;
        assert_eq!(parse(empty, NOW), Some(Vec::new()));
        let odd = br#"{"output_version": {"command": "zpool status"}, "pools": {"a": [], "b": {"vdevs": 3}}}"#;
        let names: Vec<_> = parse(odd, NOW).unwrap().into_iter().map(|pool| pool.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    proptest! {
        #[test]
        fn a_cut_or_broken_document_is_no_panic(at in 0_usize..4000, byte in any::<u8>()) {
            let mut text = include_bytes!("../fixtures/zpool_status.json").to_vec();
            let at = at % text.len();
            let _cut = parse(&text[..at], NOW);
            text[at] = byte;
            let _broken = parse(&text, NOW);
        }
    }
}
