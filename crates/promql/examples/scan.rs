//! How fast functions of ranges go over samples that are in memory already: what is left of a query
//! when the store costs nothing.
//!
//! `cargo run --release -p stoa-promql --example scan -- [SERIES [SAMPLES]]`, by default 400 series of
//! 5,760 samples, a day at one in 15 s, of which every third never changes. One thread; the best of
//! several rounds, in samples handed over per second.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measuring tool"
)]

use std::sync::Arc;
use std::time::Instant;

use stoa_model::{Labels, TimestampMs};
use stoa_promql::storage::{Select, Series, Storage, StorageError};
use stoa_promql::{Engine, Limits};

const STEP_MS: i64 = 15_000;

/// Hands out copies of what it holds, whatever is asked for.
struct Held(Vec<Series>);

impl Storage for Held {
    fn select(&self, _: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        Ok(self.0.clone())
    }
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().unwrap());
    let (series, samples) = (args.next().unwrap_or(400), args.next().unwrap_or(5760));
    let times: Arc<[TimestampMs]> =
        (0i64..).take(samples).map(|n| n * STEP_MS).collect::<Vec<_>>().into();
    let one = |number: usize| Series {
        labels: Labels::from_pairs([("__name__", "x_total"), ("n", &number.to_string())]).unwrap(),
        timestamps: Arc::clone(&times),
        values: (0..samples)
            .map(|n| if number.is_multiple_of(3) { 7.0 } else { (n * number) as f64 })
            .collect(),
    };
    let held = Held((0..series).map(one).collect());
    let end = times.last().copied().unwrap();
    let engine = Engine::new(Limits { samples_max: usize::MAX, ..Limits::default() });
    let day = end / 1000 + 1;
    let instant = |query: &str| {
        engine.instant(&held, query, end, &|| false).unwrap();
    };
    let range = |query: &str| {
        engine.range(&held, query, 0, end, 60_000, &|| false).unwrap();
    };
    let copied = best(series * samples, || drop(held.0.clone()));
    println!("copies alone                {copied:8.0} million samples/s");
    for function in ["rate", "delta", "sum_over_time", "max_over_time"] {
        let query = format!("count({function}(x_total[{day}s]))");
        let speed = best(series * samples, || instant(&query));
        println!("{query:<28}{speed:8.0} million samples/s");
    }
    for query in ["rate(x_total[5m])", "sum(rate(x_total[5m]))", "x_total", "sum(x_total) / 2"] {
        let speed = best(series * samples, || range(query));
        println!("{query:<28}{speed:8.0} million samples/s, over all at 60 s steps");
    }
}

/// Millions of samples per second, the best of ten rounds.
fn best(samples: usize, mut round: impl FnMut()) -> f64 {
    let rounds = (0..10).map(|_| {
        let began = Instant::now();
        round();
        samples as f64 / began.elapsed().as_secs_f64() / 1e6
    });
    rounds.fold(0.0, f64::max)
}
