//! `stoa bench write`: remote write in, as a receiver bears it.
//!
//! Each store is given the same bodies, byte for byte, one store after the other, in virtual time: as
//! fast as it answers [`SENDERS`] that each wait for their answer, as Prometheus's shards do. Then it
//! is started again. Bodies are made while they are sent, by this process, whose CPU is not counted.
//!
//! Bounds: one body per sender; labels of all series.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use stoa_daemon::unix_ms;
use stoa_exchange::remote_write::{Version, Writer};
use stoa_model::{Labels, TimestampMs};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::collector::Collector;
use super::super::cost::Cost;
use super::super::load::{Load, Readings, Replica, ticks_in};
use super::super::report::{self, Report};
use super::super::{Stop, StopOnDrop, fill, interval, say};
use super::peer::Peer;
use super::table::line;
use super::{Found, find_peers, goals};
use crate::table::counted;

/// Samples of a body: what Prometheus sends at a time.
const BODY_SAMPLES: usize = 2000;

/// Who send at once; a host's samples come from the same one, in order.
const SENDERS: usize = 4;

/// How long a store has for what it still does after the last answer; it counts.
const SETTLE: Duration = Duration::from_secs(3);

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// How long a store may say that it takes nothing now, and how long a sender waits then.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(100);

/// What is sent.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct WriteArgs {
    /// Hosts
    #[arg(long, value_name = "HOSTS", default_value_t = 330, value_parser = clap::value_parser!(u16).range(1..=800))]
    pub(super) hosts: u16,
    /// Between two readings of a host
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = interval)]
    pub(super) interval: Duration,
    /// Virtual time, sent as fast as it goes
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=720))]
    pub(super) minutes: u32,
    #[command(flatten)]
    pub(super) readings: Readings,
    /// Print the figures as JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

/// Runs it with the programs that are there, everything below `dir`.
///
/// # Errors
/// When Stoa did not start, or did not take what it was sent; if another does, that is said.
pub(in super::super) async fn run(args: &WriteArgs, dir: &Path) -> anyhow::Result<Outcome> {
    measure(args, &find_peers(), dir).await
}

/// Runs it.
///
/// # Errors
/// As [`run`].
pub(super) async fn measure(
    args: &WriteArgs,
    found: &[Found],
    dir: &Path,
) -> anyhow::Result<Outcome> {
    let ticks = ticks_in(args.minutes, args.interval)?;
    let load = Load::open(&args.readings.asked(args.hosts, args.interval, ticks))?;
    let end_ms = unix_ms();
    let (mut stores, mut failed) = (Vec::new(), Vec::new());
    for (name, version) in [("Stoa", Version::One), ("Stoa, version 2", Version::Two)] {
        let dir = dir.join(format!("stoa-{version:?}"));
        std::fs::create_dir_all(&dir)?;
        stores.push(store(name, &Server::stoa(&dir), version, &load, end_ms).await?);
        drop(std::fs::remove_dir_all(&dir));
    }
    for one in found {
        let dir = dir.join(one.kind.name());
        let server = Server::Peer(one.clone(), dir.clone());
        match store(one.kind.name(), &server, Version::One, &load, end_ms).await {
            Ok(store) => stores.push(store),
            Err(error) => failed.push(format!("{}: {error:#}", one.kind.name())),
        }
        drop(std::fs::remove_dir_all(&dir));
    }
    let mut same = stores.iter().filter(|store| store.version == 1).map(|store| store.body_bytes);
    let first = same.next();
    anyhow::ensure!(
        same.all(|bytes| Some(bytes) == first),
        "the stores were sent different bodies"
    );
    Ok(Outcome {
        readings: load.said(),
        hosts: load.hosts,
        series_per_host: load.series(),
        interval_s: load.interval.as_secs_f64(),
        ticks: load.ticks,
        stores,
        failed,
    })
}

/// A store that can be started, in a directory.
enum Server {
    Stoa(PathBuf),
    Peer(Found, PathBuf),
}

/// One that runs.
enum Running {
    Stoa(Collector),
    Peer(Peer),
}

impl Server {
    fn stoa(dir: &Path) -> Self {
        Self::Stoa(dir.to_owned())
    }

    async fn start(&self) -> anyhow::Result<Running> {
        Ok(match self {
            Self::Stoa(dir) => Running::Stoa(Collector::start(dir).await?),
            Self::Peer(Found { kind, program, .. }, dir) => {
                Running::Peer(Peer::start(*kind, program, dir, None).await?)
            }
        })
    }
}

impl Running {
    fn url(&self) -> String {
        match self {
            Self::Stoa(collector) => collector.url(),
            Self::Peer(peer) => peer.url(),
        }
    }

    fn cost(&mut self) -> anyhow::Result<Cost> {
        match self {
            Self::Stoa(collector) => collector.cost(),
            Self::Peer(peer) => peer.cost(),
        }
    }

    /// Samples it says that it has taken.
    async fn taken(&self) -> anyhow::Result<f64> {
        match self {
            Self::Stoa(collector) => {
                let stored = "stoa_collector_remote_write_samples_total{outcome=\"stored\"}";
                Ok(collector.figures().await?.one(stored))
            }
            Self::Peer(peer) => Ok(peer.taken().await?.0),
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Stoa(collector) => collector.stop().await,
            Self::Peer(peer) => peer.stop().await,
        }
    }
}

async fn store(
    name: &'static str,
    server: &Server,
    version: Version,
    load: &Load,
    end_ms: TimestampMs,
) -> anyhow::Result<Store> {
    let mut running = server.start().await.with_context(|| format!("start {name}"))?;
    sleep(Duration::from_secs(1)).await;
    let idle = running.cost()?;
    // Its own figures may count what it takes from itself.
    let taken_before = running.taken().await?;
    let sent = Arc::new(Sent::default());
    let stop = Stop::default();
    let _stopped = StopOnDrop(stop.clone());
    let mut senders = JoinSet::new();
    for number in 0..SENDERS {
        let sender = Sender::new(number, version, running.url(), load, Arc::clone(&sent))?;
        let (times, stop) = (fill::times(load, end_ms).collect(), stop.clone());
        senders.spawn(sender.run(times, stop));
    }
    let began = Instant::now();
    let due = (load.all_series() as u64).saturating_mul(load.ticks);
    while !senders.is_empty() {
        tokio::select! {
            Some(done) = senders.join_next() => {
                done?.with_context(|| format!("send to {name}"))?;
            }
            () = sleep(TELL_EVERY) => {
                running.cost().with_context(|| name.to_owned())?;
                tell(name, sent.samples.load(Relaxed), due, began.elapsed());
            }
        }
    }
    let wall_s = began.elapsed().as_secs_f64();
    sleep(SETTLE).await;
    let after = running.cost()?;
    let (samples, taken) = (sent.samples.load(Relaxed), running.taken().await? - taken_before);
    anyhow::ensure!(samples as f64 <= taken, "{name} was sent {samples} samples and took {taken}");
    running.stop().await?;
    let began = Instant::now();
    let again = server.start().await.with_context(|| format!("start {name} again"))?;
    let start_again_s = began.elapsed().as_secs_f64();
    again.stop().await?;
    let grown = after.rss_bytes.saturating_sub(idle.rss_bytes);
    Ok(Store {
        name,
        version: if version == Version::One { 1 } else { 2 },
        samples,
        bodies: sent.bodies.load(Relaxed),
        body_bytes: sent.bytes.load(Relaxed),
        put_off: sent.put_off.load(Relaxed),
        wall_s,
        cpu_us_per_sample: after.cpu_since(&idle).as_secs_f64() * 1e6 / samples.max(1) as f64,
        rss_bytes: after.rss_bytes,
        rss_idle_bytes: idle.rss_bytes,
        rss_grown_bytes_per_series: grown as f64 / load.all_series().max(1) as f64,
        start_again_s,
    })
}

fn tell(name: &str, samples: u64, due: u64, took: Duration) {
    let rate = samples as f64 / took.as_secs_f64().max(1e-3);
    let left_s = due.saturating_sub(samples) as f64 / rate.max(1.0);
    let part = samples as f64 / due.max(1) as f64 * 100.0;
    say(&format!("{part:3.0} %, about {left_s:.0} s left: {name}, {rate:.0} samples/s"));
}

/// What was sent and taken so far.
#[derive(Debug, Default)]
struct Sent {
    samples: AtomicU64,
    bodies: AtomicU64,
    bytes: AtomicU64,
    put_off: AtomicU64,
}

/// Sends some of the hosts.
struct Sender {
    version: Version,
    url: String,
    web: reqwest::Client,
    hosts: Vec<Host>,
    writer: Writer,
    held: usize,
    sent: Arc<Sent>,
}

struct Host {
    name: String,
    replica: Replica,
    /// By the series' number, as a sender would name them.
    labels: Vec<Option<Labels>>,
}

impl Sender {
    fn new(
        number: usize,
        version: Version,
        url: String,
        load: &Load,
        sent: Arc<Sent>,
    ) -> anyhow::Result<Self> {
        let host = |number| Host {
            name: fill::host_name(number),
            replica: load.replica(number),
            labels: Vec::new(),
        };
        let is_own = |host: &u16| usize::from(*host) % SENDERS == number;
        Ok(Self {
            version,
            url: format!("{url}/api/v1/write"),
            web: reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?,
            hosts: (0..load.hosts).filter(is_own).map(host).collect(),
            writer: Writer::new(version),
            held: 0,
            sent,
        })
    }

    async fn run(mut self, times: Vec<TimestampMs>, stop: Stop) -> anyhow::Result<()> {
        for t in times {
            for number in 0..self.hosts.len() {
                stop.check()?;
                let Some(host) = self.hosts.get_mut(number) else { break };
                let Some(tick) = host.replica.tick(t) else { continue };
                for (series, value) in &tick.samples {
                    let Some(host) = self.hosts.get_mut(number) else { break };
                    let labels = host.labels(series.id, &series.labels);
                    let pairs: Vec<(&str, &str)> =
                        labels.iter().map(|label| (&*label.name, &*label.value)).collect();
                    self.writer.series(&pairs, &[(t, *value)]);
                    self.held += 1;
                    if self.held == BODY_SAMPLES {
                        self.send().await?;
                    }
                }
            }
        }
        self.send().await
    }

    async fn send(&mut self) -> anyhow::Result<()> {
        let samples = std::mem::take(&mut self.held) as u64;
        if samples == 0 {
            return Ok(());
        }
        let message = std::mem::replace(&mut self.writer, Writer::new(self.version)).finish();
        let body = snap::raw::Encoder::new().compress_vec(&message).context("compress a body")?;
        let bytes = body.len() as u64;
        let (content_type, version) = match self.version {
            Version::One => ("application/x-protobuf", "0.1.0"),
            Version::Two => {
                ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0")
            }
        };
        let began = Instant::now();
        loop {
            let request = self.web.post(&self.url).header("content-type", content_type);
            let request = request.header("content-encoding", "snappy");
            let request = request.header("x-prometheus-remote-write-version", version);
            let answer = request.body(body.clone()).send().await?;
            let status = answer.status();
            if status.is_success() {
                break;
            }
            let is_later = status.is_server_error() && began.elapsed() < PATIENCE;
            let text = answer.text().await.unwrap_or_default();
            anyhow::ensure!(is_later, "{status}: {}", text.trim());
            self.sent.put_off.fetch_add(1, Relaxed);
            sleep(AGAIN).await;
        }
        self.sent.samples.fetch_add(samples, Relaxed);
        self.sent.bodies.fetch_add(1, Relaxed);
        self.sent.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }
}

impl Host {
    fn labels<'a>(&'a mut self, id: u32, own: &'a Labels) -> &'a Labels {
        let at = usize::try_from(id).unwrap_or(usize::MAX);
        if self.labels.len() <= at {
            self.labels.resize(at + 1, None);
        }
        let name = &self.name;
        match self.labels.get_mut(at) {
            Some(labels) => labels.get_or_insert_with(|| fill::labels(own, name)),
            None => own,
        }
    }
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    readings: String,
    hosts: u16,
    series_per_host: usize,
    interval_s: f64,
    ticks: u64,
    pub(super) stores: Vec<Store>,
    /// Who of the others failed, and why.
    pub(super) failed: Vec<String>,
}

/// Of one store.
#[derive(Debug, Serialize)]
pub(super) struct Store {
    pub(super) name: &'static str,
    /// Of the protocol.
    pub(super) version: u8,
    samples: u64,
    bodies: u64,
    body_bytes: u64,
    /// Answers that it takes nothing now.
    put_off: u64,
    wall_s: f64,
    pub(super) cpu_us_per_sample: f64,
    rss_bytes: u64,
    rss_idle_bytes: u64,
    pub(super) rss_grown_bytes_per_series: f64,
    /// Until it served again, with all of it in its log.
    pub(super) start_again_s: f64,
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let stores = &self.stores;
        let whole = |figure: f64| Some(format!("{figure:.0}"));
        let two = |figure: f64| Some(format!("{figure:.2}"));
        let mut rows = vec![
            ("REMOTE WRITE IN", line(stores, |store| Some(store.name.to_owned()))),
            ("samples taken", line(stores, |store| Some(store.samples.to_string()))),
            (
                "samples/s",
                line(stores, |store| whole(store.samples as f64 / store.wall_s.max(1e-3))),
            ),
            ("put off", line(stores, |store| Some(store.put_off.to_string()))),
            (
                "body, B/sample",
                line(stores, |store| two(store.body_bytes as f64 / store.samples.max(1) as f64)),
            ),
            ("CPU, µs/sample", line(stores, |store| two(store.cpu_us_per_sample))),
            ("resident, MB", line(stores, |store| whole(store.rss_bytes as f64 / 1e6))),
            ("idle before, MB", line(stores, |store| whole(store.rss_idle_bytes as f64 / 1e6))),
            ("grown by, B/series", line(stores, |store| whole(store.rss_grown_bytes_per_series))),
            ("start again, s", line(stores, |store| two(store.start_again_s))),
            (
                "",
                format!(
                    "{} of {} series every {} s, {} ticks in virtual time; {}",
                    counted(u64::from(self.hosts), "host"),
                    self.series_per_host,
                    self.interval_s,
                    self.ticks,
                    self.readings
                ),
            ),
            (
                "",
                format!(
                    "One store after another, the same bodies of {BODY_SAMPLES} samples over {SENDERS} connections, as fast as it answers. Goals: CPU {} µs/sample, memory {} B/series.",
                    goals::WRITE_CPU_US.bound_said(),
                    goals::MEMORY_B.bound_said()
                ),
            ),
        ];
        rows.extend(self.failed.iter().map(|failed| ("failed", failed.clone())));
        rows
    }

    fn json(&self) -> serde_json::Result<String> {
        report::pretty(self)
    }
}
