//! How fast samples come out of the store: a host's day, from blocks as cut and as merged.
//!
//! `cargo run --release -p stoa-tsdb --example scan -- [SERIES [STEP_MS]]`, by default 400 series every
//! 15 s for 24 h. Made up: of twenty series thirteen never change, four are counters, three are
//! gauges. One thread; the best of several rounds, in samples per second.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measuring tool"
)]

use std::sync::Arc;
use std::time::Instant;

use stoa_model::{Labels, Matcher};
use stoa_tsdb::{Batch, Db, GroupId, Options, Row};
use stoa_wal::disk::RealDisk;

const START_MS: i64 = 1_700_006_400_000;
const HOUR_MS: i64 = 3_600_000;

/// The value of a series at a tick; `noise` is another number each time.
fn value(series: i64, tick: i64, noise: i64) -> f64 {
    match series % 20 {
        0..13 => (series * 1024) as f64,
        13..15 => (tick * 40 + noise % 37) as f64,
        15 => (tick * 4096 + (noise % 9) * 1500) as f64,
        16 => (tick * 1500 + noise % 90) as f64 / 100.0,
        17 => ((1 << 20) + noise % 500 * 4096) as f64,
        18 => (4000 + noise % 60) as f64 / 100.0,
        _ => (noise % 4) as f64,
    }
}

fn scan(db: &Db, what: &str) {
    let host = [Matcher::equal("instance", "host")];
    let mut best = 0.0f64;
    let mut samples = 0;
    for _ in 0..10 {
        let began = Instant::now();
        let found = db.select(&host, i64::MIN, i64::MAX, 1 << 20, 1 << 30).unwrap();
        samples = found.iter().map(|series| series.values.len()).sum::<usize>();
        drop(found);
        best = best.max(samples as f64 / began.elapsed().as_secs_f64());
    }
    let blocks = db.stats().blocks;
    println!("{what}: {:.0} million samples/s ({samples} of {blocks} blocks)", best / 1e6);
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<i64>().unwrap());
    let (series, step_ms) = (args.next().unwrap_or(400), args.next().unwrap_or(15_000));
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = Db::open(Arc::new(RealDisk), dir.path(), Options::default(), 0).unwrap();
    let group = GroupId(1);
    let labels = |n: i64| {
        let name = format!("metric_{}", n % 50);
        let device = format!("d{}", n / 50);
        let pairs = [("__name__", name.as_str()), ("instance", "host"), ("device", &device)];
        db.resolve(group, &Labels::from_pairs(pairs).unwrap()).unwrap()
    };
    let refs: Vec<_> = (0..series).map(labels).collect();
    let mut noise = 1i64;
    for tick in 0..24 * HOUR_MS / step_ms {
        let t_ms = START_MS + tick * step_ms;
        let samples = refs.iter().zip(0..).map(|(series, number)| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*series, value(number, tick, (noise >> 33).abs()))
        });
        let row = Row { t_ms, samples: samples.collect() };
        db.append(&Batch { group, rows: vec![row], marks: vec![] }).unwrap();
        if t_ms % (HOUR_MS / 6) == 0 {
            db.maintain(t_ms).unwrap();
        }
    }
    let end = START_MS + 48 * HOUR_MS;
    db.maintain(end).unwrap();
    scan(&db, "as cut");
    for _ in 0..8 {
        db.compact(end).unwrap();
    }
    scan(&db, "merged");
}
