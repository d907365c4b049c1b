//! What tiers take on disk and what a month costs from them, beside the samples.
//!
//! `cargo run --release -p stoa-collector --example tiers -- SERIES STEP_MS DAYS DIR`. The readings are
//! made up: of twenty series thirteen never change, four are counters and three gauges. Samples and both
//! tiers are kept for the whole time, and each query is asked twice, once of the samples alone.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring tool"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stoa_collector::clock::Clock;
use stoa_collector::config::{Config, StorageConfig};
use stoa_collector::store::{Store, StoreView};
use stoa_model::Labels;
use stoa_promql::{Engine, Limits, Select, Series, Storage, StorageError};
use stoa_tsdb::{Batch, Db, GroupId, Options, Row};
use stoa_wal::disk::RealDisk;

const DAY_MS: i64 = 86_400_000;
/// A multiple of four weeks.
const START: i64 = 1_698_883_200_000;

/// The samples alone.
struct Samples(StoreView);

impl Storage for Samples {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.0.select(select)
    }
}

/// Numbers without end, from a seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> f64 {
        (self.next() % n) as f64
    }
}

fn labels(at: usize) -> Labels {
    let name = match at % 20 {
        0 | 1 => "events_total",
        2 => "bytes_total",
        3 => "seconds_total",
        4..=6 => "gauge",
        _ => "constant",
    };
    Labels::from_pairs([("__name__", name), ("number", at.to_string().as_str())]).unwrap()
}

fn advance(numbers: &mut Numbers, values: &mut [f64]) {
    for (at, value) in values.iter_mut().enumerate() {
        match at % 20 {
            0 | 1 => *value += numbers.below(20),
            2 => *value += numbers.below(1_000_000),
            3 => *value = ((*value + numbers.below(100) / 100.0) * 100.0).round() / 100.0,
            4 => *value = (1_000_000.0 + numbers.below(10_000)) * 4096.0,
            5 => *value = (400.0 + numbers.below(40)) / 10.0,
            6 => *value = numbers.below(5),
            _ => {}
        }
    }
}

fn fill(dir: &Path, options: Options, series: usize, step_ms: i64, days: i64) {
    let (db, _) = Db::open(Arc::new(RealDisk), dir, options, START).unwrap();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut values: Vec<f64> = (0..series).map(|at| at as f64).collect();
    let group = GroupId(1);
    let mut next_work = START + 2 * 3_600_000;
    let refs: Vec<_> = (0..series).map(|at| db.resolve(group, &labels(at)).unwrap()).collect();
    let mut rows = Vec::new();
    for t_ms in (START..START + days * DAY_MS).step_by(usize::try_from(step_ms).unwrap()) {
        advance(&mut numbers, &mut values);
        rows.push(Row {
            t_ms,
            samples: refs.iter().copied().zip(values.iter().copied()).collect(),
        });
        if rows.len() == 60 {
            let rows = std::mem::take(&mut rows);
            db.append(&Batch { group, rows, marks: Vec::new() }).unwrap();
        }
        if t_ms >= next_work {
            next_work += 2 * 3_600_000;
            db.maintain(t_ms).unwrap();
            db.compact(t_ms).unwrap();
        }
    }
    db.close().unwrap();
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [series, step_ms, days, dir] = args.as_slice() else {
        println!("usage: tiers SERIES STEP_MS DAYS DIR");
        return;
    };
    let (series, step_ms) = (series.parse().unwrap(), step_ms.parse().unwrap());
    let (days, dir): (i64, _) = (days.parse().unwrap(), Path::new(dir));
    let options = Options {
        retention_ms: 1000 * DAY_MS,
        minute_retention_ms: 1000 * DAY_MS,
        hour_retention_ms: 1000 * DAY_MS,
        ..Options::default()
    };
    let begun = Instant::now();
    fill(dir, options, series, step_ms, days);
    println!("filled in {:.1} s", begun.elapsed().as_secs_f64());

    let kept = Duration::from_secs(1000 * 86_400);
    let config = StorageConfig {
        retention: kept,
        retention_1m: kept,
        retention_1h: kept,
        out_of_order: Duration::from_secs(86_400),
        free_bytes_min: 0,
        series_max: 1 << 20,
        ..Config::defaults().unwrap().storage
    };
    let end = START + days * DAY_MS;
    let clock: Clock = Arc::new(move || end);
    let (store, _) = Store::open(Arc::new(RealDisk), dir, &config, clock).unwrap();
    let stats = store.view().stats();
    let per = |bytes: u64, n: u64| bytes as f64 / n.max(1) as f64;
    let a_day = |bytes: u64, n: u64, ms: i64| per(bytes, n) * (DAY_MS / ms) as f64;
    println!(
        "samples: {} blocks, {} bytes, {:.3} B/sample, {:.0} B a series and day",
        stats.blocks,
        stats.block_bytes,
        per(stats.block_bytes, stats.block_samples),
        a_day(stats.block_bytes, stats.block_samples, step_ms),
    );
    for tier in &stats.tiers {
        println!(
            "tier {}: {} blocks, {} bytes, {:.3} B/window, {:.0} B a series and day",
            tier.tier.name(),
            tier.blocks,
            tier.bytes,
            per(tier.bytes, tier.windows),
            a_day(tier.bytes, tier.windows, tier.tier.window_ms()),
        );
    }

    let view = store.view();
    let samples = Samples(store.view());
    let engine = Engine::new(Limits { samples_max: 1 << 31, ..Limits::default() });
    for query in [
        "rate(events_total[1h])",
        "sum(rate(bytes_total[1h15s]))",
        "max_over_time(gauge[1h])",
        "avg_over_time(gauge[1d])",
        "gauge",
    ] {
        let ask = |storage: &dyn Storage| {
            let mut fastest = f64::MAX;
            let mut loaded = 0;
            for _ in 0..3 {
                let begun = Instant::now();
                let month = (end - 30 * DAY_MS, end);
                let answer =
                    engine.range(storage, query, month.0, month.1, 3_600_000, &|| false).unwrap();
                fastest = fastest.min(begun.elapsed().as_secs_f64() * 1000.0);
                loaded = answer.samples.loaded;
            }
            (fastest, loaded)
        };
        let (from_samples, from_tiers) = (ask(&samples), ask(&view));
        println!(
            "{query}: {:.1} ms of {} samples, {:.1} ms of {} from tiers",
            from_samples.0, from_samples.1, from_tiers.0, from_tiers.1
        );
    }
}
