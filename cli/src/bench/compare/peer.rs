//! Prometheus and VictoriaMetrics, as processes of ours: started on loopback with a directory of
//! their own, asked for their figures, made to write down what they hold, ended by their ids.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::child::Running;
use super::super::collector::{Figures, free_ports};
use super::super::cost::Cost;
use super::super::fill::{JOB, host_name};

/// How long one may take to serve, or to merge.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is asked whether it does.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Prometheus,
    VictoriaMetrics,
}

impl Kind {
    /// All there are.
    pub(super) const ALL: [Self; 2] = [Self::Prometheus, Self::VictoriaMetrics];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "Prometheus",
            Self::VictoriaMetrics => "VictoriaMetrics",
        }
    }

    /// Its program, where it is installed.
    pub(super) fn program(self) -> Option<PathBuf> {
        find(match self {
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        })
    }

    /// The version of its package, or what it says itself.
    pub(super) fn version(self, program: &Path) -> String {
        let package = program.file_name().unwrap_or_default();
        let query = ["-W", "-f", "${Version}"];
        let packaged = Command::new("dpkg-query").args(query).arg(package).output();
        let said = || Command::new(program).arg("--version").output();
        let of = |output: std::process::Output| {
            let text = [output.stdout, output.stderr].concat();
            number(&String::from_utf8_lossy(&text))
        };
        let version = packaged.ok().and_then(of).or_else(|| said().ok().and_then(of));
        version.unwrap_or_else(|| "of unknown version".to_owned())
    }
}

/// The first thing like `2.42.0` in a text.
fn number(text: &str) -> Option<String> {
    let mut words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    words.find(|word| word.matches('.').count() >= 2).map(str::to_owned)
}

/// The first program of a name in `PATH`.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// What hosts to scrape, for both.
pub(super) struct Scrape {
    pub(super) address: SocketAddr,
    pub(super) hosts: u16,
    pub(super) interval: Duration,
}

/// A running one.
pub(super) struct Peer {
    pub(super) kind: Kind,
    running: Running,
    http: SocketAddr,
    data: PathBuf,
    web: reqwest::Client,
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Disk {
    /// Samples, with what stands among them.
    pub(super) samples: u64,
    /// Index and labels.
    pub(super) index: u64,
}

impl Peer {
    /// Starts one with its data in `dir`, which may hold some, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub(super) async fn start(
        kind: Kind,
        program: &Path,
        dir: &Path,
        scrape: Option<&Scrape>,
    ) -> anyhow::Result<Self> {
        let data = dir.join("data");
        std::fs::create_dir_all(&data)?;
        let config = dir.join("scrape.yml");
        std::fs::write(&config, scrape_config(scrape))?;
        let [http, _] = free_ports()?;
        let mut command = Command::new(program);
        match kind {
            Kind::Prometheus => command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", data.display()))
                .arg(format!("--web.listen-address={http}"))
                .args(["--web.enable-admin-api", "--web.enable-remote-write-receiver"])
                .arg("--storage.tsdb.retention.time=60d")
                .arg("--log.level=warn"),
            Kind::VictoriaMetrics => command
                .arg(format!("-promscrape.config={}", config.display()))
                .arg(format!("-storageDataPath={}", data.display()))
                .arg(format!("-httpListenAddr={http}"))
                .args(["-retentionPeriod=2", "-loggerLevel=WARN"]),
        };
        let running = Running::start(&mut command, &dir.join("words"))?;
        let web = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        let mut peer = Self { kind, running, http, data, web };
        let ready = match kind {
            Kind::Prometheus => "/-/ready",
            Kind::VictoriaMetrics => "/health",
        };
        let began = Instant::now();
        while peer.get(ready).await.is_err() {
            peer.running.check().with_context(|| format!("start {}", kind.name()))?;
            anyhow::ensure!(began.elapsed() < PATIENCE, "{} does not serve", kind.name());
            sleep(ASK_EVERY).await;
        }
        Ok(peer)
    }

    /// Where it answers queries.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// What it has cost so far.
    ///
    /// # Errors
    /// When it runs no more.
    pub(super) fn cost(&mut self) -> anyhow::Result<Cost> {
        self.running.check().context(self.kind.name())?;
        Cost::of(self.running.pid())
    }

    /// Samples it has taken since it was started, and series it holds.
    ///
    /// # Errors
    /// When it does not say.
    pub(super) async fn taken(&self) -> anyhow::Result<(f64, f64)> {
        let page = Figures(self.get("/metrics").await?);
        Ok(match self.kind {
            Kind::Prometheus => (
                page.sum("prometheus_tsdb_head_samples_appended_total"),
                page.sum("prometheus_tsdb_head_series"),
            ),
            Kind::VictoriaMetrics => {
                (page.sum("vm_rows_inserted_total"), page.sum("vm_new_timeseries_created_total"))
            }
        })
    }

    /// Imports lines (VictoriaMetrics only; Prometheus takes blocks).
    ///
    /// # Errors
    /// When it does not take them.
    pub(super) async fn import(&self, lines: String) -> anyhow::Result<()> {
        let url = format!("{}/api/v1/import/prometheus", self.url());
        self.web.post(url).body(lines).send().await?.error_for_status()?;
        Ok(())
    }

    /// Has it write down all that it holds in as few bytes as it would at rest: a snapshot, or a
    /// forced merge.
    ///
    /// # Errors
    /// When it does not.
    pub(super) async fn write_down(&self) -> anyhow::Result<Disk> {
        match self.kind {
            Kind::Prometheus => {
                let url = format!("{}/api/v1/admin/tsdb/snapshot", self.url());
                let answer = self.web.post(url).send().await?.error_for_status()?.text().await?;
                let answer: Value = serde_json::from_str(&answer)?;
                let name = answer.pointer("/data/name").and_then(Value::as_str);
                let dir = self.data.join("snapshots").join(name.context("no snapshot")?);
                blocks_of_prometheus(&dir)
            }
            Kind::VictoriaMetrics => {
                self.get("/internal/force_flush").await?;
                self.get("/internal/force_merge").await?;
                let (began, mut quiet) = (Instant::now(), 0);
                // A merge begins a little after it was asked for.
                while quiet < 10 {
                    sleep(ASK_EVERY).await;
                    let merges = Figures(self.get("/metrics").await?).sum("vm_active_merges");
                    quiet = if merges > 0.0 { 0 } else { quiet + 1 };
                    anyhow::ensure!(began.elapsed() < PATIENCE, "it does not end to merge");
                }
                Ok(Disk {
                    samples: bytes(&self.data.join("data"), &|_| true)?,
                    index: bytes(&self.data.join("indexdb"), &|_| true)?,
                })
            }
        }
    }

    /// Bytes of its log; none has VictoriaMetrics.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub(super) fn log_bytes(&self) -> anyhow::Result<Option<u64>> {
        match self.kind {
            Kind::Prometheus => Ok(Some(bytes(&self.data.join("wal"), &|_| true)?)),
            Kind::VictoriaMetrics => Ok(None),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it does not end well.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.running.stop().await.with_context(|| format!("stop {}", self.kind.name()))
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.web.get(format!("{}{path}", self.url())).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }
}

/// What Prometheus's blocks in a directory take.
///
/// # Errors
/// When they cannot be read.
pub(super) fn blocks_of_prometheus(dir: &Path) -> anyhow::Result<Disk> {
    let is_chunks = |path: &Path| path.parent().is_some_and(|dir| dir.ends_with("chunks"));
    Ok(Disk {
        samples: bytes(dir, &is_chunks)?,
        index: bytes(dir, &|path| path.ends_with("index"))?,
    })
}

/// What samples take in the blocks of a store of ours.
///
/// # Errors
/// When they cannot be read.
pub(super) fn chunks_of_stoa(store: &Path) -> anyhow::Result<u64> {
    bytes(&store.join("blocks"), &|path| path.ends_with("chunks"))
}

/// Bytes of the files below a directory that `counts` says yes to.
fn bytes(dir: &Path, counts: &dyn Fn(&Path) -> bool) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        // A file may go while we look: a log is cut, a part is merged.
        let Ok(entry) = entry else { continue };
        let Ok(about) = entry.metadata() else { continue };
        let path = entry.path();
        if about.is_dir() {
            sum += bytes(&path, counts).unwrap_or(0);
        } else if counts(&path) {
            sum += about.len();
        }
    }
    Ok(sum)
}

fn scrape_config(scrape: Option<&Scrape>) -> String {
    let Some(Scrape { address, hosts, interval }) = scrape else {
        return "scrape_configs: []\n".to_owned();
    };
    let ms = interval.as_millis();
    let mut text = format!(
        "global: {{scrape_interval: {ms}ms, scrape_timeout: {ms}ms}}\nscrape_configs:\n- job_name: {JOB}\n  static_configs:\n"
    );
    for number in 0..*hosts {
        let host = host_name(number);
        text += &format!(
            "  - targets: ['{address}']\n    labels: {{__metrics_path__: /t/{number}/metrics, host: {host}, instance: {host}}}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_its_page_and_name() {
        let address = "127.0.0.1:9".parse().unwrap();
        let scrape = Scrape { address, hosts: 2, interval: Duration::from_secs(1) };
        assert_eq!(
            scrape_config(Some(&scrape)),
            "global: {scrape_interval: 1000ms, scrape_timeout: 1000ms}\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:9']\n    labels: {__metrics_path__: /t/0/metrics, host: bench-0, instance: bench-0}\n  - targets: ['127.0.0.1:9']\n    labels: {__metrics_path__: /t/1/metrics, host: bench-1, instance: bench-1}\n"
        );
    }

    #[test]
    fn a_version_is_found_in_a_text() {
        for (text, want) in [
            ("2.42.0+ds-5+b5", Some("2.42.0")),
            ("prometheus, version 2.42.0 (branch: x)", Some("2.42.0")),
            ("no packages found", None),
        ] {
            assert_eq!(number(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn chunks_and_index_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let block = dir.path().join("01");
        std::fs::create_dir_all(block.join("chunks")).unwrap();
        for (file, bytes) in [("chunks/000001", 5), ("index", 3), ("meta.json", 2)] {
            std::fs::write(block.join(file), vec![0; bytes]).unwrap();
        }
        let disk = blocks_of_prometheus(dir.path()).unwrap();
        assert_eq!((disk.samples, disk.index), (5, 3));
    }
}
