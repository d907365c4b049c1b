//! Figures of the store over a recording: bytes per sample of log, head and blocks, nanoseconds per
//! sample of append, cut and select, memory per series.
//!
//! `cargo run --release -p stoa-tsdb --example measure -- RECORDING [HOSTS]`. A recording is lines:
//! `T millis` begins a tick, `D number name|label=value,…` defines a series, `number value` is a
//! reading that changed. With HOSTS the recording is fed once per host: memory and time are then
//! meaningful, bytes per sample are those of one host.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a measuring tool"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use stoa_model::{Labels, Matcher};
use stoa_tsdb::{Batch, Db, GroupId, Options, Row};
use stoa_wal::disk::RealDisk;

type Tick = (i64, Vec<f64>);

fn read(path: &str) -> (Vec<String>, Vec<Tick>) {
    let (mut names, mut ticks, mut now) = (Vec::new(), Vec::<Tick>::new(), Vec::<f64>::new());
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let Some((first, rest)) = line.split_once(' ') else { continue };
        match first {
            "T" => {
                if let Some(last) = ticks.last_mut() {
                    last.1.clone_from(&now);
                }
                ticks.push((rest.parse().unwrap(), Vec::new()));
            }
            "D" => {
                names.push(rest.split_once(' ').unwrap().1.to_owned());
                now.push(0.0);
            }
            number => now[number.parse::<usize>().unwrap()] = rest.parse().unwrap(),
        }
    }
    ticks.pop();
    (names, ticks)
}

fn labels(name: &str, host: u64) -> Labels {
    let (metric, pairs) = name.split_once('|').unwrap();
    let host = format!("host{host}");
    let fixed = [("__name__", metric), ("instance", host.as_str()), ("job", "node")];
    let pairs = pairs.split(',').filter_map(|pair| pair.split_once('='));
    Labels::from_pairs(fixed.into_iter().chain(pairs)).unwrap()
}

fn rss_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

fn files(dir: &Path) {
    for block in std::fs::read_dir(dir.join("blocks")).unwrap() {
        for file in std::fs::read_dir(block.unwrap().path()).unwrap() {
            let file = file.unwrap();
            println!("  {} {}", file.file_name().display(), file.metadata().unwrap().len());
        }
    }
}

/// All of a host, and its newest five minutes, the best of three.
fn select(db: &Db, from: &str) {
    let end = db.stats().max_t.unwrap();
    for (what, start) in [("all", i64::MIN), ("five minutes", end - 300_000)] {
        let mut best = f64::MAX;
        let mut series = 0;
        for _ in 0..3 {
            let matchers = [Matcher::equal("instance", "host0")];
            let selecting = Instant::now();
            let found = db.select(&matchers, start, end, 1 << 20, 1 << 30).unwrap();
            best = best.min(selecting.elapsed().as_nanos() as f64);
            series = found.len();
        }
        println!("select {what} from {from} {:.1} us/series", best / 1000.0 / series as f64);
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let hosts: u64 = args.get(2).map_or(1, |n| n.parse().unwrap());
    let step: usize = args.get(3).map_or(1, |n| n.parse().unwrap());
    let (names, ticks) = read(&args[1]);
    let ticks: Vec<&Tick> = ticks.iter().step_by(step).collect();
    let dir = std::env::temp_dir().join(format!("stoa-measure-{}", std::process::id()));
    let before = rss_bytes();
    let (db, _) = Db::open(Arc::new(RealDisk), Path::new(&dir), Options::default(), 0).unwrap();
    let mut refs = Vec::new();
    let resolving = Instant::now();
    for host in 0..hosts {
        let group = GroupId(host);
        let all = names.iter().map(|name| db.resolve(group, &labels(name, host)).unwrap());
        refs.push(all.collect::<Vec<_>>());
    }
    let series = (names.len() as u64 * hosts) as f64;
    println!("{} series x {hosts}, {} ticks", names.len(), ticks.len());
    println!("resolve {:.0} ns", resolving.elapsed().as_nanos() as f64 / series);
    println!("labels and index {:.0} B/series", (rss_bytes() - before) / series);
    let (mut samples, mut spent) = (0u64, 0u128);
    for (t, values) in &ticks {
        for host in 0..hosts {
            let own = refs[usize::try_from(host).unwrap()].iter().copied();
            let samples_now: Vec<_> = own.zip(values.iter().copied()).collect();
            samples += samples_now.len() as u64;
            let row = Row { t_ms: *t, samples: samples_now };
            let batch = Batch { group: GroupId(host), rows: vec![row], marks: vec![] };
            let appending = Instant::now();
            db.append(&batch).unwrap();
            spent += appending.elapsed().as_nanos();
        }
    }
    let total = samples as f64;
    println!("append {:.1} ns/sample", spent as f64 / total);
    db.sync().unwrap();
    let stats = db.stats();
    println!("log {:.2} B/sample", stats.log_bytes as f64 / total);
    println!("head {:.2} B/sample", stats.head_bytes as f64 / total);
    println!("rss {:.0} B/series", (rss_bytes() - before) / series);
    let selecting = Instant::now();
    let matchers = [Matcher::equal("instance", "host0")];
    let found = db.select(&matchers, i64::MIN, i64::MAX, 1 << 20, 1 << 30).unwrap();
    let count: usize = found.iter().map(|series| series.values.len()).sum();
    println!(
        "select from head {:.1} ns/sample",
        selecting.elapsed().as_nanos() as f64 / count as f64
    );
    drop(found);
    let cutting = Instant::now();
    let done = db.maintain(i64::MAX / 2).unwrap();
    println!("cut {:.1} ns/sample, {done:?}", cutting.elapsed().as_nanos() as f64 / total);
    let stats = db.stats();
    println!("blocks {:.3} B/sample", stats.block_bytes as f64 / stats.block_samples as f64);
    files(&dir);
    select(&db, "block");
    let merging = Instant::now();
    // Once the spans are merged, once more to the longest.
    let done = db.compact(i64::MAX / 2).unwrap();
    println!("merge {:.1} ns/sample, {done:?}", merging.elapsed().as_nanos() as f64 / total);
    let stats = db.stats();
    println!("merged {:.3} B/sample", stats.block_bytes as f64 / stats.block_samples as f64);
    files(&dir);
    select(&db, "merged block");
    drop(db);
    std::fs::remove_dir_all(&dir).unwrap();
}
