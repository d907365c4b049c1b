//! `stoa bench agent`: the real agent of this machine, as a process, and how fast its readings can
//! be asked for.
//!
//! `node_time_seconds` is the time at which its source was read. It is asked for every
//! [`ASK_EVERY`]; the first answer with a new value, less that value, is how long a reading takes to
//! be seen: reading the other sources, sending, syncing, one query, and up to one pause between
//! two.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use stoa_agent::join;
use stoa_agent::sources::registry;
use stoa_daemon::{Misuse, unix_ms};
use tokio::time::{Instant, sleep};

use super::child::Running;
use super::collector::Collector;
use super::cost::Cost;
use super::latency::Latency;
use super::report::{self, Report, megabytes};
use super::{Run, say};

mod peer;

use peer::Peer;

/// The pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// How long the first reading may take.
const FIRST: Duration = Duration::from_secs(30);

/// What runs before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(10);

/// What is asked for.
const QUERY: &str = "node_time_seconds";

/// Which agent.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AgentArgs {
    /// The agent's program [default: stoa-agent beside this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Every source there is, those that are off by default too
    #[arg(long)]
    all: bool,
    /// Not this source (may be given several times), such as slabinfo, which has a thousand series
    #[arg(long, value_name = "SOURCE")]
    without: Vec<String>,
    /// Scrape node_exporter beside it, at the same interval and with the same collectors, and print
    /// the ratio [alone: prometheus-node-exporter]
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, default_missing_value = peer::PROGRAM)]
    node_exporter: Option<PathBuf>,
    #[command(flatten)]
    pub(super) run: Run,
}

/// Runs it, with everything below `dir`.
///
/// # Errors
/// When a part did not start, or broke.
pub(super) async fn measure(args: AgentArgs, dir: &Path) -> anyhow::Result<Outcome> {
    let program = program(args.program.clone())?;
    let unknown = args.without.iter().find(|name| !registry::names().contains(&name.as_str()));
    if let Some(name) = unknown {
        return Err(Misuse(registry::no_such(name)).into());
    }
    say("starting the collector");
    let mut collector = Collector::start(dir).await?;
    say("starting the agent");
    let mut agent = start(&program, &collector, &args, dir).await?;
    let peer = match &args.node_exporter {
        Some(program) => Some(Peer::start(program, &sources(&args), args.run.interval, dir).await?),
        None => None,
    };
    let began = Instant::now();
    while collector.ask(QUERY).await?.is_none() {
        agent.check()?;
        anyhow::ensure!(began.elapsed() < FIRST, "the agent's readings do not come");
        sleep(ASK_EVERY).await;
    }
    sleep(WARM_UP).await;

    say(&format!("measuring for {} s", args.run.seconds));
    let seconds = Duration::from_secs(args.run.seconds.into());
    let peer_before = peer.as_ref().map(Peer::cost).transpose()?;
    let (before, wire_before) = (Cost::of(agent.pid())?, collector.figures().await?.wire());
    let collector_before = collector.cost()?;
    let latencies = latencies(&collector, &mut agent, seconds).await?;
    let (after, wire_after) = (Cost::of(agent.pid())?, collector.figures().await?.wire());
    let collector_after = collector.cost()?;
    let peer_after = peer.as_ref().map(Peer::cost).transpose()?;
    let peer_series = peer.map_or(0, Peer::end);
    agent.stop().await.context("stop the agent")?;
    collector.stop().await?;

    let samples = wire_after.1 - wire_before.1;
    let ticks = latencies.len().max(1) as f64;
    let percent = |cpu: Duration| cpu.as_secs_f64() / seconds.as_secs_f64() * 100.0;
    let node_exporter = peer_before.zip(peer_after).map(|(before, after)| PeerCost {
        series: peer_series,
        rss_bytes: after.rss_bytes,
        cpu_percent_of_core: percent(after.cpu_since(&before)),
    });
    Ok(Outcome {
        node_exporter,
        interval_s: args.run.interval.as_secs_f64(),
        measured_s: seconds.as_secs_f64(),
        series: samples / ticks,
        agent_rss_bytes: after.rss_bytes,
        agent_cpu_percent_of_core: percent(after.cpu_since(&before)),
        agent_cpu_ms_per_tick: after.cpu_since(&before).as_secs_f64() * 1000.0 / ticks,
        wire_payload_bytes_per_sample: (wire_after.0 - wire_before.0) / samples.max(1.0),
        read_to_query_latency: Latency::of(latencies),
        collector_rss_bytes: collector_after.rss_bytes,
        collector_cpu_percent_of_core: percent(collector_after.cpu_since(&collector_before)),
    })
}

fn program(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe().context("find this program")?.with_file_name("stoa-agent");
    let program = given.unwrap_or(beside);
    if !program.is_file() {
        let build = "cargo build --release -p stoa-agent";
        let text = format!("there is no {}; build it with `{build}`", program.display());
        return Err(Misuse(text).into());
    }
    Ok(program)
}

/// Those that are read.
fn sources(args: &AgentArgs) -> Vec<&'static str> {
    let off = registry::names_off_by_default();
    let mut names = registry::names();
    names.retain(|name| args.all || !off.contains(name));
    names.retain(|name| !args.without.iter().any(|without| without == name));
    names
}

async fn start(
    program: &Path,
    collector: &Collector,
    args: &AgentArgs,
    dir: &Path,
) -> anyhow::Result<Running> {
    let data_dir = dir.join("agent");
    let (token, address) = (collector.token().await?, collector.agents());
    join::join(&token, &address, "bench", &data_dir).await.context("join")?;
    let config = dir.join("agent.toml");
    let (on, off): (Vec<&str>, Vec<&str>) = {
        let read = sources(args);
        registry::names().into_iter().partition(|name| read.contains(name))
    };
    let text = format!(
        "data_dir = {:?}\ncollector = {address:?}\n[sampling]\ninterval = \"{}ms\"\nenable = {on:?}\ndisable = {off:?}\n[log]\nlevel = \"warn\"\n",
        data_dir.display().to_string(),
        args.run.interval.as_millis(),
    );
    std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(&config);
    Running::start(&mut command, &dir.join("agent.log"))
}

/// How old each reading was when it was first seen.
async fn latencies(
    collector: &Collector,
    agent: &mut Running,
    seconds: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let end = Instant::now() + seconds;
    let mut seen = collector.ask(QUERY).await?;
    let mut all = Vec::new();
    while Instant::now() < end {
        sleep(ASK_EVERY).await;
        let value = collector.ask(QUERY).await?;
        let now_s = unix_ms() as f64 / 1000.0;
        if value != seen {
            agent.check()?;
            let age_s = value.map_or(0.0, |read_s| (now_s - read_s).max(0.0));
            all.push(Duration::try_from_secs_f64(age_s).context("compare clocks")?);
            seen = value;
        }
    }
    Ok(all)
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    interval_s: f64,
    measured_s: f64,
    series: f64,
    agent_rss_bytes: u64,
    agent_cpu_percent_of_core: f64,
    agent_cpu_ms_per_tick: f64,
    wire_payload_bytes_per_sample: f64,
    read_to_query_latency: Latency,
    collector_rss_bytes: u64,
    /// With all the queries of the measurement.
    collector_cpu_percent_of_core: f64,
    node_exporter: Option<PeerCost>,
}

/// What node_exporter cost in the same time.
#[derive(Debug, Serialize)]
struct PeerCost {
    /// Lines of its last page.
    series: usize,
    rss_bytes: u64,
    cpu_percent_of_core: f64,
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let Latency { count, p50_ms, p99_ms, max_ms } = self.read_to_query_latency;
        let rss_mb = self.agent_rss_bytes as f64 / 1e6;
        let (cpu, wire) = (self.agent_cpu_percent_of_core, self.wire_payload_bytes_per_sample);
        let mut rows = vec![
            (
                "load",
                format!(
                    "this machine, {:.0} series every {} s, for {:.0} s",
                    self.series, self.interval_s, self.measured_s
                ),
            ),
            (
                "agent's memory",
                format!(
                    "{} resident ({})",
                    megabytes(self.agent_rss_bytes),
                    report::goal(rss_mb, 15.0, "MB")
                ),
            ),
            (
                "agent's CPU",
                format!(
                    "{cpu:.2} % of a core ({}), {:.2} ms a tick",
                    report::goal(cpu, 0.5, "%"),
                    self.agent_cpu_ms_per_tick
                ),
            ),
            ("wire", format!("{wire:.2} B/sample of payload ({})", report::goal(wire, 2.0, "B"))),
            (
                "read to first answer",
                format!(
                    "{p50_ms:.1} ms p50, {p99_ms:.1} ms p99 ({}), {max_ms:.1} ms at most, of {count}",
                    report::goal(p99_ms, 200.0, "ms")
                ),
            ),
            (
                "collector",
                format!(
                    "{} resident, {:.1} % of a core with the queries",
                    megabytes(self.collector_rss_bytes),
                    self.collector_cpu_percent_of_core
                ),
            ),
        ];
        if let Some(peer) = &self.node_exporter {
            let (rss, percent) = (peer.rss_bytes as f64, peer.cpu_percent_of_core);
            rows.push((
                "node_exporter",
                format!(
                    "{} resident, {percent:.2} % of a core, {} series; the agent takes {:.2} of its \
                     memory and {:.2} of its CPU",
                    megabytes(peer.rss_bytes),
                    peer.series,
                    self.agent_rss_bytes as f64 / rss.max(1.0),
                    cpu / percent.max(0.001)
                ),
            ));
        }
        rows
    }

    fn json(&self) -> serde_json::Result<String> {
        report::pretty(self)
    }
}
