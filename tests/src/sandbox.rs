//! A collector to play with, and its questions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use stoa_agent::agent::Agent;
use stoa_agent::config::Config as AgentConfig;
use stoa_agent::identity::{self, Identity};
use stoa_agent::join;
use stoa_agent::sources::Roots;
use stoa_collector::clock::{self, Clock};
use stoa_collector::config::Config;
use stoa_collector::ingest::IngestFigures;
use stoa_collector::server::Server;
use stoa_model::HostId;
use tempfile::TempDir;

use crate::procfs;

/// How often sandboxed agents read.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// How long something that must happen may take, at most, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A collector in a directory of its own; both end with it.
pub struct Sandbox {
    dir: TempDir,
    config: Config,
    clock: Clock,
    server: Option<Server>,
    http: reqwest::Client,
}

/// A sample of a range: milliseconds and value.
pub type Point = (i64, f64);

impl Sandbox {
    /// A collector with the defaults.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A collector with another configuration.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_clock(clock::system(), change).await
    }

    /// A collector with a clock of its own.
    pub async fn with_clock(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::defaults().unwrap();
        config.data_dir = dir.path().join("collector");
        config.agents.listen = "127.0.0.1:0".parse().unwrap();
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        // A busy machine's own disk is not what is tested.
        config.storage.free_bytes_min = 0;
        change(&mut config);
        let server = Server::start(config.clone(), Arc::clone(&clock)).await.unwrap();
        // The same doors after a restart.
        config.agents.listen = server.agents_addr();
        config.http.listen = server.http_addr();
        // The client wants one, though it speaks plain HTTP only; a second install is refused.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { dir, config, clock, server: Some(server), http }
    }

    /// The collector, which must be running.
    #[must_use]
    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Where everything lives.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What agents have sent so far.
    #[must_use]
    pub fn ingest(&self) -> IngestFigures {
        self.server().parts().figures().ingest
    }

    /// Stops the collector as Ctrl-C does.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await.unwrap();
        }
    }

    /// Starts it again: same directory, same ports.
    pub async fn restart(&mut self, change: impl FnOnce(&mut Config)) {
        self.stop().await;
        change(&mut self.config);
        // The system takes a moment to give the ports back.
        let started = until("the collector starts again", async || {
            Server::start(self.config.clone(), Arc::clone(&self.clock)).await.ok()
        });
        self.server = Some(started.await);
    }

    /// Makes a host a member; its directory.
    pub async fn join(&self, host: &str) -> PathBuf {
        let members = Arc::clone(&self.server().parts().members);
        let name = HostId::parse(host).unwrap();
        let token = tokio::task::spawn_blocking(move || {
            members.create_join_token(Some(&name), 3_600_000, stoa_daemon::unix_ms()).unwrap().0
        });
        let dir = self.dir.path().join(host);
        let address = self.config.agents.listen.to_string();
        join::join(&token.await.unwrap().to_string(), &address, host, &dir).await.unwrap();
        dir
    }

    /// Makes a host a member; who it is.
    pub async fn member(&self, host: &str) -> Identity {
        identity::load(&self.join(host).await).unwrap()
    }

    /// Where agents connect, whether or not the collector runs.
    #[must_use]
    pub fn address(&self) -> String {
        self.config.agents.listen.to_string()
    }

    /// An agent of a new host that reads a small host of fixed values.
    pub async fn agent(&self, host: &str) -> Agent {
        let dir = self.join(host).await;
        self.agent_in(&dir).await
    }

    /// An agent of the host that has joined in `dir`.
    pub async fn agent_in(&self, dir: &Path) -> Agent {
        let root = dir.join("root");
        procfs::write(&root);
        let mut config = AgentConfig::defaults().unwrap();
        config.data_dir = dir.to_owned();
        config.collector = Some(self.address());
        config.interval = INTERVAL;
        config.roots = Roots {
            procfs: root.join("proc"),
            sysfs: root.join("sys"),
            rootfs: root.clone(),
            udev: root.join("udev"),
            textfile: None,
            identity: None,
        };
        Agent::start(config, Arc::new(stoa_daemon::unix_ms)).await.unwrap()
    }

    /// A GET of the collector's: status and body.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> (u16, String) {
        let url = format!("{}{path}", self.server().url());
        let answer = self.http.get(url).query(query).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// An instant query that is answered: its result.
    pub async fn query(&self, promql: &str) -> Vec<Value> {
        let (status, body) = self.get("/api/v1/query", &[("query", promql)]).await;
        assert_eq!(status, 200, "{promql}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["data"]["result"].as_array().unwrap().clone()
    }

    /// The one value of an instant query, if there is any.
    pub async fn value(&self, promql: &str) -> Option<f64> {
        let result = self.query(promql).await;
        assert!(result.len() <= 1, "{promql}: {result:?}");
        Some(number(&result.first()?["value"][1]))
    }

    /// Every sample of one series, of the last hour.
    pub async fn points(&self, selector: &str) -> Vec<Point> {
        let result = self.query(&format!("{selector}[1h]")).await;
        assert!(result.len() <= 1, "{selector}: {result:?}");
        let Some(series) = result.first() else { return Vec::new() };
        let points = series["values"].as_array().unwrap().iter();
        points.map(|point| (millis(&point[0]), number(&point[1]))).collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "instants of today have 41 bits")]
fn millis(seconds: &Value) -> i64 {
    (seconds.as_f64().unwrap() * 1000.0).round() as i64
}

fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

/// Looks again and again until there is something.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    found.await.unwrap_or_else(|_elapsed| panic!("waited {PATIENCE:?} in vain: {what}"))
}
