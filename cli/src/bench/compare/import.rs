//! `stoa bench import`: history brought in, by each one's own way.
//!
//! The history is written as OpenMetrics, a file for each two hours, and as Prometheus's blocks (by
//! `stoa export`, of what was imported). Then each way is one or more processes; their CPU is the
//! kernel's, that of a collector that takes it with that of the command that sends it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use stoa_collector::import::ImportSummary;
use stoa_daemon::unix_ms;
use stoa_model::TimestampMs;
use tokio::time::Instant;

use super::super::child::Running;
use super::super::collector::Collector;
use super::super::cost::Cost;
use super::super::load::{Load, Readings, ticks_in};
use super::super::report::{self, Report};
use super::super::{apart, interval, say};
use super::lines::Lines;
use super::peer::{Kind, Peer, find};
use super::{Found, day, find_peers, goals};
use crate::table::counted;

/// A block of Prometheus's: the history ends with one, so that all of it can be in blocks.
const BLOCK_MS: i64 = 2 * 3_600_000;

/// How long a server has for what it still does after its last answer.
const SETTLE: Duration = Duration::from_secs(3);

/// What is brought in.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct ImportArgs {
    /// Hosts
    #[arg(long, value_name = "HOSTS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) hosts: u16,
    /// Between two readings of a host
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = interval)]
    pub(super) interval: Duration,
    /// How much history; a sample is about 100 bytes of text
    #[arg(long, value_name = "MINUTES", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=10_080))]
    pub(super) minutes: u32,
    #[command(flatten)]
    pub(super) readings: Readings,
    /// Print the figures as JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

/// How it is brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// Text, in the program's own directory.
    TextToDirectory,
    /// Text, sent to the server that runs.
    TextToServer,
    /// Prometheus's blocks, in the program's own directory.
    BlocksToDirectory,
}

/// Runs it with the programs that are there, everything below `dir`.
///
/// # Errors
/// When an import into Stoa failed, or brought in more or less than there was; if another's does,
/// that is said.
pub(in super::super) async fn run(args: &ImportArgs, dir: &Path) -> anyhow::Result<Outcome> {
    measure(args, &find_peers(), dir).await
}

/// Runs it.
///
/// # Errors
/// As [`run`].
pub(super) async fn measure(
    args: &ImportArgs,
    found: &[Found],
    dir: &Path,
) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(dir)?;
    let ticks = ticks_in(args.minutes, args.interval)?;
    let load = Load::open(&args.readings.asked(args.hosts, args.interval, ticks))?;
    let end_ms = unix_ms().div_euclid(BLOCK_MS) * BLOCK_MS;
    say("import: writing the history as OpenMetrics");
    let of_files = load.clone();
    let history = apart(dir, move |dir, stop| History::write(&of_files, end_ms, dir, stop)).await?;
    let mut bench = Bench { history, ways: Vec::new(), dir: dir.to_owned() };
    let first = dir.join("directory");
    bench.stoa_to_directory(Way::TextToDirectory, &bench.history.files.clone(), &first).await?;
    bench.stoa_to_server().await?;
    let blocks = bench.export(&first, &load, end_ms).await?;
    bench.stoa_to_directory(Way::BlocksToDirectory, &[blocks], &dir.join("blocks-in")).await?;
    let mut failed = Vec::new();
    for one in found {
        let done = match (one.kind, find("promtool")) {
            (Kind::Prometheus, Some(promtool)) => bench.promtool(&promtool).await,
            (Kind::Prometheus, None) => Err(anyhow::anyhow!("promtool is not installed")),
            (Kind::VictoriaMetrics, _) => bench.victoria_metrics(one, &load, end_ms).await,
        };
        if let Err(error) = done {
            failed.push(format!("{}: {error:#}", one.kind.name()));
        }
    }
    Ok(Outcome {
        readings: load.said(),
        hosts: load.hosts,
        series_per_host: load.series(),
        interval_s: load.interval.as_secs_f64(),
        samples: bench.history.samples,
        text_bytes: bench.history.bytes,
        imports: bench.ways,
        failed,
    })
}

/// What is brought in, as text.
struct History {
    files: Vec<PathBuf>,
    samples: u64,
    bytes: u64,
}

impl History {
    fn write(
        load: &Load,
        end_ms: TimestampMs,
        dir: &Path,
        stop: &super::super::Stop,
    ) -> anyhow::Result<Self> {
        let mut lines = Lines::openmetrics(load, end_ms);
        let (mut files, mut bytes) = (Vec::new(), 0);
        while let Some(block) = lines.next_block() {
            stop.check()?;
            let file = dir.join(format!("history-{}.om", files.len()));
            std::fs::write(&file, &block).with_context(|| format!("write {}", file.display()))?;
            bytes += block.len() as u64;
            files.push(file);
        }
        Ok(Self { files, samples: lines.count, bytes })
    }
}

struct Bench {
    history: History,
    ways: Vec<Imported>,
    dir: PathBuf,
}

impl Bench {
    async fn stoa_to_directory(
        &mut self,
        way: Way,
        files: &[PathBuf],
        dir: &Path,
    ) -> anyhow::Result<()> {
        say(&format!("import: Stoa, {}", way.said()));
        // What tells the directory of a collector.
        std::fs::create_dir_all(dir.join("metrics"))?;
        let to = ["--data-dir".into(), dir.as_os_str().to_owned()];
        let began = Instant::now();
        let (cost, summary) = self.import(&to, files).await?;
        self.add("Stoa", way, summary.samples, cost.cpu, began.elapsed())
    }

    async fn stoa_to_server(&mut self) -> anyhow::Result<()> {
        let way = Way::TextToServer;
        say(&format!("import: Stoa, {}", way.said()));
        let dir = self.dir.join("collector");
        std::fs::create_dir_all(&dir)?;
        let mut collector = Collector::start(&dir).await?;
        let to = ["--server".into(), collector.url().into()];
        let before = collector.cost()?;
        let began = Instant::now();
        let (cost, summary) = self.import(&to, &self.history.files.clone()).await?;
        let cpu = cost.cpu + collector.cost()?.cpu_since(&before);
        let took = began.elapsed();
        collector.stop().await?;
        self.add("Stoa", way, summary.samples, cpu, took)
    }

    /// Runs `stoa import`.
    async fn import(
        &self,
        to: &[std::ffi::OsString],
        files: &[PathBuf],
    ) -> anyhow::Result<(Cost, ImportSummary)> {
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        command.args(["import", "--json"]).args(to).args(files);
        let words = self.dir.join("import.words");
        let running = Running::start(&mut command, &words)?;
        let cost = running.done().await.context("stoa import")?;
        let said = std::fs::read_to_string(&words)?;
        let summary = said.lines().find(|line| line.starts_with('{')).context("no summary")?;
        Ok((cost, serde_json::from_str(summary)?))
    }

    /// Has `stoa export` make Prometheus's blocks of what was imported; where they are.
    async fn export(
        &self,
        from: &Path,
        load: &Load,
        end_ms: TimestampMs,
    ) -> anyhow::Result<PathBuf> {
        say("import: making Prometheus's blocks");
        let blocks = self.dir.join("blocks");
        let times = super::super::fill::times(load, end_ms);
        let start_s = times.min().context("no ticks")?.div_euclid(1000);
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        command.args(["export", "{__name__!=\"\"}", "--format", "prometheus-block", "--start"]);
        command.arg(start_s.to_string()).arg("--end").arg((end_ms / 1000).to_string());
        command.arg("--out").arg(&blocks).arg("--data-dir").arg(from);
        let running = Running::start(&mut command, &self.dir.join("export.words"))?;
        running.done().await.context("stoa export")?;
        Ok(blocks)
    }

    async fn promtool(&mut self, promtool: &Path) -> anyhow::Result<()> {
        let way = Way::TextToDirectory;
        say(&format!("import: Prometheus, {}", way.said()));
        let data = self.dir.join("promtool");
        std::fs::create_dir_all(&data)?;
        let (began, mut cpu) = (Instant::now(), Duration::ZERO);
        for file in &self.history.files {
            let words = self.dir.join("promtool.words");
            cpu += day::create_blocks(promtool, file, &data, &words).await?.cpu;
        }
        self.add("Prometheus", way, self.history.samples, cpu, began.elapsed())
    }

    async fn victoria_metrics(
        &mut self,
        one: &Found,
        load: &Load,
        end_ms: TimestampMs,
    ) -> anyhow::Result<()> {
        let way = Way::TextToServer;
        say(&format!("import: {}, {}", one.kind.name(), way.said()));
        let dir = self.dir.join(one.kind.name());
        let mut peer = Peer::start(one.kind, &one.program, &dir, None).await?;
        let before = peer.cost()?;
        let began = Instant::now();
        let samples = day::import(&peer, load, end_ms).await?;
        // What it does after it has answered is part of it.
        tokio::time::sleep(SETTLE).await;
        let cpu = peer.cost()?.cpu_since(&before);
        let took = began.elapsed().saturating_sub(SETTLE);
        peer.stop().await?;
        self.add(one.kind.name(), way, samples, cpu, took)
    }

    fn add(
        &mut self,
        name: &'static str,
        way: Way,
        samples: u64,
        cpu: Duration,
        took: Duration,
    ) -> anyhow::Result<()> {
        let all = self.history.samples;
        anyhow::ensure!(samples == all, "{name} took {samples} of {all} samples, {}", way.said());
        let cpu_s = cpu.as_secs_f64();
        self.ways.push(Imported {
            name,
            way,
            samples,
            cpu_s,
            wall_s: took.as_secs_f64(),
            // The clock's step is 10 ms.
            samples_per_s_and_core: samples as f64 / cpu_s.max(0.01),
        });
        Ok(())
    }
}

impl Way {
    fn said(self) -> &'static str {
        match self {
            Self::TextToDirectory => "text into its directory",
            Self::TextToServer => "text over HTTP",
            Self::BlocksToDirectory => "Prometheus's blocks into its directory",
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
    samples: u64,
    text_bytes: u64,
    imports: Vec<Imported>,
    /// Who of the others failed, and why.
    pub(super) failed: Vec<String>,
}

/// By one way into one store.
#[derive(Debug, Serialize)]
struct Imported {
    name: &'static str,
    way: Way,
    samples: u64,
    cpu_s: f64,
    wall_s: f64,
    samples_per_s_and_core: f64,
}

impl Outcome {
    /// Samples per second and core of a store's way.
    pub(super) fn rate(&self, name: &str, way: Way) -> Option<f64> {
        let mut imports = self.imports.iter();
        let import = imports.find(|import| import.name == name && import.way == way)?;
        Some(import.samples_per_s_and_core)
    }
}

impl Report for Outcome {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("readings", self.readings.clone()),
            (
                "history",
                format!(
                    "{} of {} series every {} s, {} samples, {} of text",
                    counted(u64::from(self.hosts), "host"),
                    self.series_per_host,
                    self.interval_s,
                    self.samples,
                    report::megabytes(self.text_bytes)
                ),
            ),
        ];
        for import in &self.imports {
            let Imported { name, way, cpu_s, wall_s, samples_per_s_and_core, .. } = import;
            let rate = samples_per_s_and_core / 1e6;
            let verdict = match *name {
                "Stoa" => format!(" ({})", goals::IMPORT_M.said(rate)),
                _ => String::new(),
            };
            rows.push((
                *name,
                format!(
                    "{rate:.2} million samples/s and core{verdict}: {}, {cpu_s:.2} s of CPU in {wall_s:.1} s",
                    way.said()
                ),
            ));
        }
        rows.push((
            "",
            "Over HTTP: Stoa with the command that sends, VictoriaMetrics without. Prometheus by promtool.".to_owned(),
        ));
        rows.extend(self.failed.iter().map(|failed| ("failed", failed.clone())));
        rows
    }

    fn json(&self) -> serde_json::Result<String> {
        report::pretty(self)
    }
}
