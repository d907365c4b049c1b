//! `stoa bench agents`: many simulated hosts, all of the real protocol.
//!
//! Each host's ticks stand at their own phase of the interval. After a warm-up (dictionaries sent,
//! the store's first files made) the counters of all parts are read at the begin, the middle and
//! the end of the measurement; then the hosts stop, what is under way is acknowledged, and whatever
//! is missing then is a loss.
//!
//! A corpus that is shorter than warm-up and measurement shortens the measurement.
//!
//! Bounds: hosts and series by the arguments; latencies by hosts times ticks.

pub(super) mod host;
pub(super) mod outcome;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use stoa_daemon::Misuse;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::collector::Collector;
use super::cost::{Cost, loopback_bytes};
use super::latency::Latency;
use super::load::{Load, Readings, millis};
use super::{Run, say};
use host::{Acknowledged, Hosts};
use outcome::{Outcome, Totals};

/// Joins at once: as many as the collector looks at.
const JOINS: usize = 4;

/// How long hosts may take to connect.
const CONNECT: Duration = Duration::from_secs(60);

/// What runs before the measurement begins, at least and at most: until no more waits than one tick
/// of all hosts, for [`STEADY`] in a row.
const WARM_UP: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(30);

/// A shorter measurement says nothing.
const MEASURED_MIN: Duration = Duration::from_secs(4);

/// How long the queue must be short before the measurement.
const STEADY: Duration = Duration::from_secs(3);

/// How long the last readings are waited for. What holds takes [`outcome::DRAINED`] at most.
const DRAIN: Duration = Duration::from_secs(30);

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How many hosts of how many series.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AgentsArgs {
    /// Simulated hosts
    #[arg(long, value_name = "HOSTS", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub(super) count: u16,
    #[command(flatten)]
    pub(super) readings: Readings,
    #[command(flatten)]
    pub(super) run: Run,
}

/// Runs it, with everything below `dir`.
///
/// # Errors
/// When a part did not start, or broke.
pub(super) async fn measure(args: AgentsArgs, dir: &Path) -> anyhow::Result<Outcome> {
    let wanted = Duration::from_secs(args.run.seconds.into());
    let ticks = ticks_of(*WARM_UP.end() + wanted, args.run.interval);
    let asked = args.readings.asked(args.count, args.run.interval, ticks);
    let load = super::apart(dir, move |_, _| Load::open(&asked)).await?;
    let seconds = measured(&load, wanted)?;
    let (readings, series) = (load.said(), load.series());
    say("starting the collector");
    let mut collector = Collector::start(dir).await?;
    let idle = collector.cost()?;
    let mut hosts = Hosts::new(load);
    join(&collector, &mut hosts, args.count, dir).await?;
    timeout(CONNECT, hosts.connected()).await.context("wait for all hosts to connect")?;

    let began = hosts.begin();
    let mut progress = Progress::new(&hosts);
    warm_up(&mut progress, &mut collector, &hosts, began).await?;
    let first = read(&mut collector, &hosts)?;
    watch(&mut progress, &mut collector, &hosts, first.at + seconds / 2).await?;
    let middle = read(&mut collector, &hosts)?;
    watch(&mut progress, &mut collector, &hosts, first.at + seconds).await?;
    let last = read(&mut collector, &hosts)?;

    hosts.end_ticks();
    let ended = Instant::now();
    let drained = timeout(DRAIN, hosts.drained()).await.is_ok().then(|| ended.elapsed());
    let totals = hosts.totals();
    let figures = collector.figures().await?;
    let acknowledged = hosts.stop().await?;
    collector.stop().await?;
    let within = |one: &&Acknowledged| (first.at..last.at).contains(&one.handed_in);
    let latency = acknowledged.iter().filter(within).map(|one| one.latency).collect();
    Ok(Outcome::new(outcome::Measured {
        readings,
        hosts: args.count,
        series,
        interval: args.run.interval,
        idle,
        moments: [first, middle, last],
        end: totals,
        drained,
        stored: figures.wire().1,
        disk_bytes_per_sample: figures.disk_bytes_per_sample(),
        latency: Latency::of(latency),
    }))
}

/// Ticks of an interval that begin within a time, and one for what is lost in rounding.
fn ticks_of(time: Duration, interval: Duration) -> u64 {
    millis(time) / millis(interval).max(1) + 2
}

/// How long is measured: what was asked for, or what a corpus has left after the longest warm-up.
///
/// # Errors
/// [`Misuse`] when that is too short to say anything.
fn measured(load: &Load, wanted: Duration) -> Result<Duration, Misuse> {
    let has = Duration::from_millis(millis(load.interval).saturating_mul(load.ticks));
    let left = has.saturating_sub(*WARM_UP.end()).min(wanted);
    if left < wanted.min(MEASURED_MIN) {
        let text = format!(
            "the corpus lasts {} s for so many hosts: {} s are needed, of which {} s for the warm-up",
            has.as_secs(),
            (*WARM_UP.end() + MEASURED_MIN).as_secs(),
            WARM_UP.end().as_secs()
        );
        return Err(Misuse(text));
    }
    Ok(left)
}

/// What all parts have counted at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    totals: Totals,
    collector: Cost,
    own: Cost,
    loopback_bytes: u64,
}

fn read(collector: &mut Collector, hosts: &Hosts) -> anyhow::Result<Reading> {
    Ok(Reading {
        at: Instant::now(),
        totals: hosts.totals(),
        collector: collector.cost()?,
        own: Cost::of(std::process::id())?,
        loopback_bytes: loopback_bytes(),
    })
}

/// Joins all hosts, a few at once, and starts their uplinks.
///
/// # Errors
/// When the collector does not take one.
pub(super) async fn join(
    collector: &Collector,
    hosts: &mut Hosts,
    count: u16,
    dir: &Path,
) -> anyhow::Result<()> {
    let mut joining = JoinSet::new();
    let mut told = Instant::now();
    for number in 0..count {
        if joining.len() == JOINS {
            next(&mut joining, hosts).await?;
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            say(&format!("{} of {} hosts have joined", hosts.len(), count));
        }
        let (token, address) = (collector.token().await?, collector.agents());
        let dir = dir.join(format!("host-{number}"));
        joining.spawn(async move { host::join(number, &token, &address, &dir).await });
    }
    while !joining.is_empty() {
        next(&mut joining, hosts).await?;
    }
    Ok(())
}

async fn next(
    joining: &mut JoinSet<anyhow::Result<host::Joined>>,
    hosts: &mut Hosts,
) -> anyhow::Result<()> {
    let Some(joined) = joining.join_next().await else { return Ok(()) };
    hosts.start(joined??)
}

/// Waits until the queue is short and stays so, or long enough.
async fn warm_up(
    progress: &mut Progress,
    collector: &mut Collector,
    hosts: &Hosts,
    began: Instant,
) -> anyhow::Result<()> {
    watch(progress, collector, hosts, began + *WARM_UP.start() - STEADY).await?;
    let mut steady_since = Instant::now();
    while began.elapsed() < *WARM_UP.end() && steady_since.elapsed() < STEADY {
        watch(progress, collector, hosts, Instant::now() + TELL_EVERY).await?;
        if hosts.totals().waiting() > hosts.one_tick() {
            steady_since = Instant::now();
        }
    }
    Ok(())
}

/// Waits, and tells what happens.
async fn watch(
    progress: &mut Progress,
    collector: &mut Collector,
    hosts: &Hosts,
    until: Instant,
) -> anyhow::Result<()> {
    while Instant::now() + TELL_EVERY < until {
        sleep(TELL_EVERY).await;
        let cost = collector.cost()?;
        say(&progress.line(hosts.totals(), cost));
    }
    sleep_until(until).await;
    Ok(())
}

/// Turns totals into lines.
struct Progress {
    began: Instant,
    last: (Instant, Totals, Cost),
}

impl Progress {
    fn new(hosts: &Hosts) -> Self {
        let now = Instant::now();
        Self { began: now, last: (now, hosts.totals(), Cost::default()) }
    }

    fn line(&mut self, totals: Totals, cost: Cost) -> String {
        let now = Instant::now();
        let (then, before, cost_before) = self.last;
        self.last = (now, totals, cost);
        let seconds = now.duration_since(then).as_secs_f64().max(1e-3);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        format!(
            "{:3} s: {:.0} samples/s produced, {:.0} acknowledged, {} waiting; collector {:.0} % of a core, {}",
            now.duration_since(self.began).as_secs(),
            rate(totals.produced, before.produced),
            rate(totals.acknowledged, before.acknowledged),
            totals.waiting(),
            cost.cpu_since(&cost_before).as_secs_f64() / seconds * 100.0,
            super::report::megabytes(cost.rss_bytes),
        )
    }
}

/// The wall clock, for uplinks and ticks.
fn clock() -> stoa_agent::uplink::Clock {
    Arc::new(stoa_daemon::unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_shortens_the_measurement_and_is_refused_when_there_is_none_left() {
        let load = |ticks| {
            let readings = Readings { corpus: None, series: 1, seed: 1 };
            Load::open(&readings.asked(1, Duration::from_secs(2), ticks)).unwrap()
        };
        let minute = Duration::from_secs(60);
        assert_eq!(ticks_of(*WARM_UP.end() + minute, Duration::from_secs(2)), 47);
        assert_eq!(measured(&load(47), minute).unwrap(), minute);
        assert_eq!(measured(&load(25), minute).unwrap(), Duration::from_secs(20));
        let error = measured(&load(16), minute).unwrap_err();
        assert!(error.to_string().contains("lasts 32 s"), "{error}");
    }
}
