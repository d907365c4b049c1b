//! What a fleet of hosts costs: memory per series, time per sample of append and log, bytes of log,
//! time of maintenance, time of the next start.
//!
//! `cargo run --release -p stoa-tsdb --example fleet -- [GROUPS [SERIES [STEP_MS [MINUTES [DIR]]]]]`,
//! by default 330 groups of 550 series, one tick in 10 s, 40 minutes of virtual time, as fast as it
//! goes. Labels and values are made up: names and labels as `node_exporter` has them for 8 CPUs, of
//! twenty series thirteen never change, four are counters, three are gauges.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a measuring tool"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoa_model::{Labels, Matcher};
use stoa_tsdb::{Batch, Db, GroupId, Mark, Options, Row, SeriesRef};
use stoa_wal::Disk;
use stoa_wal::disk::RealDisk;

const START_MS: i64 = 1_700_006_400_000;
const MINUTE_MS: i64 = 60_000;

fn labels(host: u64, n: usize) -> Labels {
    let host_name = format!("host-{host:04}.example.net");
    let instance = format!("{host_name}:9100");
    let (metric, rest): (String, Vec<(&str, String)>) = match n {
        0..64 => (
            "node_cpu_seconds_total".into(),
            vec![
                ("cpu", (n / 8).to_string()),
                (
                    "mode",
                    ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"][n % 8]
                        .into(),
                ),
            ],
        ),
        64..144 => (
            format!("node_network_{}_total", (n - 64) % 16),
            vec![("device", format!("eth{}", (n - 64) / 16))],
        ),
        144..240 => (
            format!("node_filesystem_{}_bytes", (n - 144) % 6),
            vec![
                ("device", format!("/dev/mapper/vg0-lv{}", (n - 144) / 6)),
                ("fstype", "ext4".into()),
                ("mountpoint", format!("/srv/data{}", (n - 144) / 6)),
            ],
        ),
        240..340 => (
            format!("node_disk_{}_total", (n - 240) % 17),
            vec![(
                "device",
                format!("sd{}", char::from(b'a' + u8::try_from((n - 240) / 17).unwrap())),
            )],
        ),
        _ => (format!("node_memory_and_others_{n}_bytes"), vec![]),
    };
    let fixed =
        [("__name__", metric), ("host", host_name), ("instance", instance), ("job", "node".into())];
    Labels::from_pairs(fixed.into_iter().chain(rest)).unwrap()
}

/// The next value of a series; the sequence repeats after longer than any run.
fn value(host: u64, n: usize, tick: u64, last: f64) -> f64 {
    let mut z = (host << 40 ^ (n as u64) << 24 ^ tick).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let dice = (z >> 33) as f64 / (1u64 << 31) as f64;
    match n % 20 {
        0..13 if tick == 0 => (n * 17 % 1000) as f64,
        0..13 => last,
        13 | 14 => last + (dice * 20.0).floor(),
        15 => last + (dice * 100_000.0).floor(),
        16 => ((last + dice * 10.0) * 100.0).round() / 100.0,
        17 => 4096.0 * (1_000_000.0 + dice * 5000.0).floor(),
        18 => 40.0 + (dice * 50.0).floor() / 10.0,
        _ => (dice * 8.0).floor(),
    }
}

fn rss_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    };
    field("RssAnon:")
}

/// Time this process has spent on a CPU.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// What each block takes on disk.
fn blocks(dir: &Path, series: f64) {
    for block in std::fs::read_dir(dir.join("blocks")).into_iter().flatten() {
        let block = block.unwrap().path();
        let bytes = |name: &str| std::fs::metadata(block.join(name)).unwrap().len() as f64;
        let [chunks, index, spare] = ["chunks", "index", "spare"].map(bytes);
        println!(
            "block: chunks {:.1} MB, index {:.1} MB ({:.1} B/series), spare {:.1} MB ({:.1} B/series)",
            chunks / 1e6,
            index / 1e6,
            index / series,
            spare / 1e6,
            spare / series
        );
    }
}

struct Host {
    group: GroupId,
    refs: Vec<SeriesRef>,
    values: Vec<f64>,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize, default: u64| args.get(at).map_or(default, |n| n.parse().unwrap());
    let (groups, per_group) = (number(1, 330), usize::try_from(number(2, 550)).unwrap());
    let (step_ms, minutes) = (number(3, 10_000).cast_signed(), number(4, 40).cast_signed());
    let dir = args.get(5).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("stoa-fleet-{}", std::process::id()));
    let base = rss_bytes();
    let (db, _) = Db::open(Arc::new(RealDisk), &dir, Options::default(), START_MS).unwrap();
    let resolving = cpu();
    let host = |host: u64| Host {
        group: GroupId(host + 1),
        refs: (0..per_group)
            .map(|n| db.resolve(GroupId(host + 1), &labels(host, n)).unwrap())
            .collect(),
        values: vec![0.0; per_group],
    };
    let mut hosts: Vec<Host> = (0..groups).map(host).collect();
    let series = groups as f64 * per_group as f64;
    // What this program itself keeps of each series.
    let own = series * 12.0 + base;
    println!("{series} series, {step_ms} ms, {minutes} minutes");
    println!(
        "resolve {:.0} ns/series with making the labels",
        (cpu() - resolving).as_nanos() as f64 / series
    );
    println!("labels and index {:.0} B/series", (rss_bytes() - own) / series);
    let (mut samples, mut append_wall, mut append_max) = (0u64, Duration::ZERO, Duration::ZERO);
    let (mut sync_wall, mut syncs, mut maintain_max) = (Duration::ZERO, 0u64, Duration::ZERO);
    let (mut rss_max, mut slow) = (0f64, 0u64);
    let whole = Instant::now();
    let (cpu_before, mut making) = (cpu(), Duration::ZERO);
    for tick in 0..minutes * MINUTE_MS / step_ms {
        let t_ms = START_MS + tick * step_ms;
        for (at, host) in hosts.iter_mut().enumerate() {
            let made = cpu();
            for (n, v) in host.values.iter_mut().enumerate() {
                *v = value(at as u64, n, tick.cast_unsigned(), *v);
            }
            let row = Row {
                t_ms: t_ms + (at as i64 * 7919) % step_ms,
                samples: host.refs.iter().copied().zip(host.values.iter().copied()).collect(),
            };
            samples += row.samples.len() as u64;
            let mark = Mark {
                key: host.group.0.to_le_bytes().to_vec(),
                value: tick.to_le_bytes().to_vec(),
            };
            let batch = Batch { group: host.group, rows: vec![row], marks: vec![mark] };
            making += cpu() - made;
            let appending = Instant::now();
            db.append(&batch).unwrap();
            let took = appending.elapsed();
            append_wall += took;
            append_max = append_max.max(took);
            slow += u64::from(took > Duration::from_millis(2));
            // A group commit every 200 ms would hold this many batches.
            if (at as u64).is_multiple_of(groups * 200 / step_ms.cast_unsigned() + 1) {
                let syncing = Instant::now();
                db.sync().unwrap();
                sync_wall += syncing.elapsed();
                syncs += 1;
            }
        }
        if (tick * step_ms) % MINUTE_MS < step_ms {
            let maintaining = Instant::now();
            let done = db.maintain(t_ms).unwrap();
            let took = maintaining.elapsed();
            maintain_max = maintain_max.max(took);
            if done != stoa_tsdb::Maintenance::default() {
                println!("  minute {}: {done:?} in {took:.2?}", tick * step_ms / MINUTE_MS);
            }
            rss_max = rss_max.max(rss_bytes());
        }
    }
    let total = samples as f64;
    let stats = db.stats();
    let cpu_all = cpu() - cpu_before - making;
    println!("{samples} samples in {:.1?}", whole.elapsed());
    println!(
        "append {:.1} ns/sample wall, longest {append_max:.2?}, {slow} over 2 ms",
        append_wall.as_nanos() as f64 / total
    );
    println!(
        "cpu of append, sync and maintenance {:.1} ns/sample",
        cpu_all.as_nanos() as f64 / total
    );
    println!("sync {:.2?} each, {syncs}", sync_wall / u32::try_from(syncs).unwrap());
    println!("longest maintenance {maintain_max:.2?}");
    println!("log now {:.2} MB", stats.log_bytes as f64 / 1e6);
    println!(
        "head now {:.2} B/sample, {} samples",
        stats.head_bytes as f64 / stats.head_samples.max(1) as f64,
        stats.head_samples
    );
    println!(
        "rss at its most {:.0} B/series, now {:.0}",
        (rss_max - own) / series,
        (rss_bytes() - own) / series
    );
    let name =
        [Matcher::equal("__name__", "node_cpu_seconds_total"), Matcher::equal("mode", "idle")];
    let host = [Matcher::equal("host", "host-0000.example.net")];
    for matchers in [name.as_slice(), &host] {
        let select = || {
            let selecting = Instant::now();
            let found = db.select(matchers, START_MS, i64::MAX, 1 << 20, 1 << 30).unwrap();
            let count: usize = found.iter().map(|series| series.values.len()).sum();
            (selecting.elapsed(), found.len(), count)
        };
        let (took, found, count) = (0..5).map(|_| select()).min().unwrap();
        println!("select {found} series, {count} samples in {took:.2?}, best of 5");
    }
    db.sync().unwrap();
    drop((db, hosts));
    let bytes = |dir: &str| -> u64 {
        std::fs::read_dir(dir)
            .map_or(0, |names| names.map(|name| name.unwrap().metadata().unwrap().len()).sum())
    };
    for part in ["wal", "head"] {
        println!("{part}: {:.1} MB", bytes(&dir.join(part).to_string_lossy()) as f64 / 1e6);
    }
    let (opening, opening_cpu) = (Instant::now(), cpu());
    let (db, recovery) = Db::open(Arc::new(RealDisk), &dir, Options::default(), START_MS).unwrap();
    println!(
        "reopen {:.2?}, cpu {:.2?}: {} series, {} samples, {} records, {} damaged",
        opening.elapsed(),
        cpu() - opening_cpu,
        recovery.series,
        recovery.samples,
        recovery.records,
        recovery.damaged
    );
    println!("rss {:.0} B/series", (rss_bytes() - base) / series);
    let selecting = Instant::now();
    let found = db.select(&name, START_MS, START_MS + MINUTE_MS, 1 << 20, 1 << 30).unwrap();
    println!("first select, indexes read: {} series in {:.2?}", found.len(), selecting.elapsed());
    drop((found, db));
    blocks(&dir, series);
    let checking = Instant::now();
    let report = stoa_tsdb::fsck(&(Arc::new(RealDisk) as Arc<dyn Disk>), &dir, None).unwrap();
    println!("fsck {:.2?}, {} damaged", checking.elapsed(), report.damage.len());
    std::fs::remove_dir_all(&dir).unwrap();
}
