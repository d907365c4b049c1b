//! A collector of our own, as a process, on free ports of loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use stoa_collector::http::admin::{TokenAsk, TokenMade};
use tokio::time::Instant;

use super::child::Running;
use super::cost::Cost;
use crate::client::{Client, ServerArgs};

/// How long it may take to serve, with whatever it has to read first.
const START: Duration = Duration::from_secs(120);

/// How often it is asked whether it serves.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A running collector.
pub(super) struct Collector {
    running: Running,
    client: Client,
    web: reqwest::Client,
    http: SocketAddr,
    agents: SocketAddr,
}

impl Collector {
    /// Starts one with its data below `dir`, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub(super) async fn start(dir: &Path) -> anyhow::Result<Self> {
        let [http, agents] = free_ports()?;
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command
            .args(["up", "--no-agent", "--http"])
            .arg(http.to_string())
            .arg("--agents")
            .arg(agents.to_string())
            .arg("--data-dir")
            .arg(Self::data_dir(dir));
        let running = Running::start(&mut command, &dir.join("collector.log"))?;
        let server = Some(format!("http://{http}"));
        let client = Client::new(&ServerArgs { server, ..ServerArgs::default() })?;
        let web = reqwest::Client::builder().timeout(START).build()?;
        let mut collector = Self { running, client, web, http, agents };
        let deadline = Instant::now() + START;
        while !collector.serves().await {
            collector.running.check().context("start the collector")?;
            anyhow::ensure!(Instant::now() < deadline, "the collector does not serve in time");
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(collector)
    }

    /// Where agents reach it.
    pub(super) fn agents(&self) -> String {
        self.agents.to_string()
    }

    /// The directory of its data, as `--data-dir` names it.
    pub(super) fn data_dir(dir: &Path) -> PathBuf {
        dir.join("data")
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
        self.running.check().context("the collector")?;
        Cost::of(self.running.pid())
    }

    /// A join token.
    ///
    /// # Errors
    /// When it makes none.
    pub(super) async fn token(&self) -> anyhow::Result<String> {
        let ask = serde_json::to_value(TokenAsk::Join { host: None, ttl_s: None })?;
        let made = self.client.own(Method::POST, &["tokens"], Some(ask)).await?;
        Ok(serde_json::from_str::<TokenMade>(&made)?.token)
    }

    /// The value of a query with one series in its answer, if it has one now.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn ask(&self, query: &str) -> anyhow::Result<Option<f64>> {
        let form = [("query", query.to_owned())];
        let answer = self.client.prometheus("/api/v1/query", &form).await?;
        let document: serde_json::Value = serde_json::from_str(&answer.text)?;
        let value = document.pointer("/data/result/0/value/1").and_then(|value| value.as_str());
        Ok(value.map(str::parse).transpose()?)
    }

    /// Its own figures.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn figures(&self) -> anyhow::Result<Figures> {
        let text = self.get("/metrics").await?.error_for_status()?.text().await?;
        Ok(Figures(text))
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it does not end well.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.running.stop().await.context("stop the collector")
    }

    async fn serves(&self) -> bool {
        self.get("/-/ready").await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        self.web.get(format!("http://{}{path}", self.http)).send().await
    }
}

/// Where a collector that is started below `dir` keeps its samples.
pub(super) fn store_dir(dir: &Path) -> PathBuf {
    dir.join("data/collector/metrics")
}

/// A page of figures as Prometheus would read it.
pub(super) struct Figures(pub(super) String);

impl Figures {
    /// The sum of all series of a name; 0 when there are none.
    pub(super) fn sum(&self, name: &str) -> f64 {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labels) => labels.rsplit_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split(' ').next()?.parse::<f64>().ok()
        });
        values.sum()
    }

    /// The value of one series, written as the page writes it; 0 when there is none.
    pub(super) fn one(&self, series: &str) -> f64 {
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value).unwrap_or(0.0)
    }

    /// Bytes of frames that came, and samples in them.
    pub(super) fn wire(&self) -> (f64, f64) {
        let samples = ["stored", "known", "repeated"]
            .map(|what| self.sum(&format!("stoa_collector_ingest_samples_{what}_total")));
        (self.sum("stoa_collector_ingest_payload_bytes_total"), samples.iter().sum())
    }

    /// Bytes of log and blocks per sample in them.
    pub(super) fn disk_bytes_per_sample(&self) -> f64 {
        let both = |log: &str, blocks: &str| {
            self.sum(&format!("stoa_collector_tsdb_{log}"))
                + self.sum(&format!("stoa_collector_tsdb_{blocks}"))
        };
        both("wal_bytes", "block_bytes") / both("head_samples", "block_samples").max(1.0)
    }
}

/// Two ports that nobody uses now; both are held until both are known.
pub(super) fn free_ports() -> anyhow::Result<[SocketAddr; 2]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port");
    let (one, other) = (listen()?, listen()?);
    Ok([one.local_addr()?, other.local_addr()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_summed_by_whole_name() {
        let page = Figures(
            "# HELP a A.\n# TYPE a counter\na{x=\"} 9\"} 1\na{x=\"2\"} 2.5\nab 7\nb 3\n".into(),
        );
        for (name, want) in [("a", 3.5), ("ab", 7.0), ("b", 3.0), ("c", 0.0)] {
            assert!((page.sum(name) - want).abs() < 1e-9, "{name}: {}", page.sum(name));
        }
        for (series, want) in [("a{x=\"2\"}", 2.5), ("b", 3.0), ("a", 0.0)] {
            assert!((page.one(series) - want).abs() < 1e-9, "{series}: {}", page.one(series));
        }
    }

    #[test]
    fn ports_differ() {
        let [one, other] = free_ports().unwrap();
        assert_ne!(one.port(), other.port());
    }
}
