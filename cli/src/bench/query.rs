//! `stoa bench query`: a collector that holds a day, asked over HTTP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use stoa_daemon::unix_ms;
use tokio::time::Instant;

use super::asker::{Asker, Panels, RANGES, queries};
use super::collector::{Collector, store_dir};
use super::cost::Cost;
use super::latency::Latency;
use super::load::{Asked, Load, Names, millis, ticks_in};
use super::report::{self, Report, megabytes};
use super::{Teller, apart, fill, interval, say};
use crate::table::counted;

/// How long the scan is repeated, CPU time of the collector: its clock's step is 10 ms.
const SCAN_CPU: Duration = Duration::from_secs(1);

/// How long the scan is repeated at most.
const SCAN: Duration = Duration::from_secs(20);

/// What is asked, of what.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct QueryArgs {
    /// A recording made with `stoa record`; without one, values are made up for the series that
    /// this machine's own sources give
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Grafana dashboard to take the queries from [default: Node Exporter Full in the test data
    /// at `$STOA_CONFORMANCE_DATA`]
    #[arg(long, value_name = "FILE")]
    dashboard: Option<PathBuf>,
    /// Hosts in the store; one of them is asked for
    #[arg(long, value_name = "HOSTS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=200))]
    hosts: u16,
    /// Between two readings of a host
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = interval)]
    interval: Duration,
    /// Hours in the store, up to now
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=168))]
    hours: u32,
    /// What made-up values follow from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Print the figures as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs it, with everything below `dir`.
///
/// # Errors
/// When a part did not start, or broke.
pub(super) async fn measure(args: QueryArgs, dir: &Path) -> anyhow::Result<Outcome> {
    let queries = queries(args.dashboard.as_deref(), 0)?;
    let (hours, interval) = (args.hours, args.interval);
    let end_ms = unix_ms().div_euclid(60_000) * 60_000;
    say(&format!("filling a store with {hours} h"));
    let (load, samples) = apart(dir, move |dir, stop| {
        let load = Load::open(&Asked {
            corpus: args.corpus,
            hosts: args.hosts,
            names: Names::OfThisMachine,
            interval,
            ticks: ticks_in(hours * 60, interval)?,
            seed: args.seed,
        })?;
        let mut teller = Teller::new(load.ticks);
        let samples = fill::backfill(&store_dir(dir), &load, end_ms, &mut |number| {
            teller.tell(number, String::new);
            stop.check()
        })?;
        Ok((load, samples))
    })
    .await?;

    let mut collector = Collector::start(dir).await?;
    let asker = Asker::new(collector.url(), true)?;
    let end_s = end_ms / 1000 - i64::try_from(millis(interval).div_ceil(1000))?;
    let (mut panels, mut refreshed) = (Vec::new(), Vec::new());
    match &queries {
        Some(queries) => {
            for range in RANGES {
                say(&format!("asking {} queries over {} h", queries.len(), range.0));
                panels.push(asker.dashboard(queries, end_s, range).await?);
                refreshed.push(asker.refreshed(queries, end_s, range).await?);
            }
        }
        None => say("no dashboard: name one with --dashboard, or set STOA_CONFORMANCE_DATA"),
    }
    say("asking for a single series");
    let single = asker.single(&single_series(), end_s).await?;
    say("scanning");
    let scan = scan(&asker, end_s, hours, || collector.cost()).await?;
    let cost = collector.cost()?;
    collector.stop().await?;
    Ok(Outcome {
        readings: load.said(),
        hosts: load.hosts,
        series_per_host: load.series(),
        interval_s: interval.as_secs_f64(),
        hours: load.ticks as f64 * interval.as_secs_f64() / 3600.0,
        samples,
        panels,
        refreshed,
        single,
        scan,
        collector_rss_bytes: cost.rss_bytes,
    })
}

/// A series that every host has.
pub(super) fn single_series() -> String {
    format!("node_time_seconds{{instance=\"{}\",job=\"{}\"}}", fill::host_name(0), fill::JOB)
}

/// How fast `rate` goes over samples, from the store to the answer.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Scan {
    samples: f64,
    times: u32,
    pub(super) samples_per_s_and_core: f64,
}

/// Has a server take the `rate` of all series of one host over all it holds of them, again and again;
/// `cost` says what the server has cost so far.
///
/// # Errors
/// When there is no answer.
pub(super) async fn scan(
    asker: &Asker,
    end_s: i64,
    hours: u32,
    mut cost: impl FnMut() -> anyhow::Result<Cost>,
) -> anyhow::Result<Scan> {
    let host = format!("instance=\"{}\"", fill::host_name(0));
    let names = asker.names(&format!("{{{host},__name__=~\"node_.+\"}}")).await?;
    // Without their names series of several metrics would be the same: each is asked for by itself, in
    // one question. All of a range but its begin, which a query leaves out.
    let range = |name: &String| format!("{name}{{{host}}}[{hours}h]");
    let mut samples = 0.0;
    for name in &names {
        samples += asker.number(&format!("sum(count_over_time({}))", range(name)), end_s).await?;
    }
    let rates: Vec<String> =
        names.iter().map(|name| format!("count(rate({}))", range(name))).collect();
    let query = rates.join(" or ");
    let before = cost()?;
    let (began, mut times) = (Instant::now(), 0);
    let spent = loop {
        asker.number(&query, end_s).await?;
        times += 1;
        let spent = cost()?.cpu_since(&before);
        if spent >= SCAN_CPU || began.elapsed() >= SCAN {
            break spent;
        }
    };
    let per_s = samples * f64::from(times) / spent.as_secs_f64().max(0.01);
    Ok(Scan { samples, times, samples_per_s_and_core: per_s })
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    readings: String,
    hosts: u16,
    series_per_host: usize,
    interval_s: f64,
    hours: f64,
    samples: u64,
    panels: Vec<Panels>,
    /// The same for who asks again a step later.
    refreshed: Vec<Panels>,
    single: Latency,
    scan: Scan,
    collector_rss_bytes: u64,
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("readings", self.readings.clone()),
            (
                "store",
                format!(
                    "{} of {} series every {} s, {:.1} h, {} samples",
                    counted(u64::from(self.hosts), "host"),
                    self.series_per_host,
                    self.interval_s,
                    self.hours,
                    self.samples
                ),
            ),
        ];
        for panels in &self.panels {
            let title = if panels.hours == 1 { "1 h, step 15 s" } else { "24 h, step 60 s" };
            rows.push((title, panels.said()));
        }
        for panels in &self.refreshed {
            let title = if panels.hours == 1 { "1 h, a step later" } else { "24 h, a step later" };
            rows.push((title, panels.said()));
        }
        let Latency { count, p50_ms, p99_ms, .. } = self.single;
        rows.push((
            "one series, now",
            format!("{p50_ms:.2} ms p50, {p99_ms:.2} ms p99, of {count}"),
        ));
        let Scan { samples, times, samples_per_s_and_core } = self.scan;
        rows.push((
            "rate",
            format!(
                "{:.1} million samples/s and core ({samples:.0} samples, {times} times)",
                samples_per_s_and_core / 1e6
            ),
        ));
        rows.push(("collector's memory", megabytes(self.collector_rss_bytes) + " resident"));
        rows
    }

    fn json(&self) -> serde_json::Result<String> {
        report::pretty(self)
    }
}
