//! node_exporter, scraped on loopback beside the agent.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context as _;
use stoa_daemon::Misuse;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, sleep};

use super::super::child::Running;
use super::super::cost::Cost;

/// What it is called where it is packaged.
pub(super) const PROGRAM: &str = "prometheus-node-exporter";

/// How long it may take to serve its first page.
const FIRST: Duration = Duration::from_secs(10);

/// A running node_exporter, and who scrapes it.
pub(super) struct Peer {
    running: Running,
    scraping: JoinHandle<()>,
    /// Lines with a value on the last page.
    series: Arc<AtomicUsize>,
}

impl Peer {
    /// Starts it with the collectors that the agent reads, of those that both have, and scrapes it
    /// every `interval`.
    pub(super) async fn start(
        program: &Path,
        wanted: &[&str],
        interval: Duration,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let known = collectors(program)?;
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(program);
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=error");
        for name in known {
            let no = if wanted.contains(&name.as_str()) { "" } else { "no-" };
            command.arg(format!("--{no}collector.{name}"));
        }
        let running = Running::start(&mut command, &dir.join("node_exporter.log"))?;
        let url = format!("http://{address}/metrics");
        let client = reqwest::Client::new();
        let began = Instant::now();
        while page(&client, &url).await.is_err() {
            anyhow::ensure!(began.elapsed() < FIRST, "node_exporter does not answer at {url}");
            sleep(Duration::from_millis(50)).await;
        }
        let series = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&series);
        let scraping = tokio::spawn(async move {
            let mut pace = tokio::time::interval(interval);
            pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                pace.tick().await;
                if let Ok(text) = page(&client, &url).await {
                    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
                    counted.store(lines, Relaxed);
                }
            }
        });
        Ok(Self { running, scraping, series })
    }

    pub(super) fn cost(&self) -> anyhow::Result<Cost> {
        Cost::of(self.running.pid()).context("node_exporter")
    }

    /// Ends it; how many series its last page had. It knows no end but by a signal, so how it ended
    /// says nothing.
    pub(super) fn end(self) -> usize {
        self.scraping.abort();
        self.series.load(Relaxed)
    }
}

async fn page(client: &reqwest::Client, url: &str) -> reqwest::Result<String> {
    client.get(url).send().await?.error_for_status()?.text().await
}

/// The collectors it has, by its help.
fn collectors(program: &Path) -> anyhow::Result<Vec<String>> {
    let help = Command::new(program).arg("--help").output();
    let help = help.map_err(|error| {
        Misuse(format!("cannot run {}: {error}; name it with --node-exporter", program.display()))
    })?;
    // Which of its outputs it writes its help to differs between versions.
    let text = [help.stdout, help.stderr].concat();
    Ok(named(&String::from_utf8_lossy(&text)))
}

/// `--collector.arp` or `--[no-]collector.arp`; what has another dot is a collector's own flag.
fn named(help: &str) -> Vec<String> {
    let names = help.split_ascii_whitespace().filter_map(|word| {
        let word = word.strip_prefix("--")?;
        word.strip_prefix("[no-]").unwrap_or(word).strip_prefix("collector.")
    });
    names.filter(|name| !name.contains(['.', '=', '-'])).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_found_in_the_help_of_either_version() {
        let help = "  --collector.arp.device-include=X  Regexp\n  --collector.arp  Enable\n  \
                    --[no-]collector.wifi  Enable\n  --collector.disable-defaults  Set";
        assert_eq!(named(help), ["arp", "wifi"]);
    }
}
