//! The collector's configuration: the file as written, then the [`Config`] as meant.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use stoa_daemon::log::LogOptions;
use stoa_daemon::{Bytes, ConfigError, Span};

/// Where the file is looked for when none is named.
pub const CONFIG_PATH: &str = "/etc/stoa/collector.toml";

/// The shortest retention: one block and the one being filled.
const RETENTION_MIN: Duration = Duration::from_secs(4 * 3600);

/// The configuration as meant: every value checked, every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// Where agents connect, UDP and TCP.
    pub agents: AgentsConfig,
    /// Where people and Grafana connect.
    pub http: HttpConfig,
    /// How long and how much is stored.
    pub storage: StorageConfig,
    /// What one query may cost.
    pub query: QueryConfig,
    /// What to log.
    pub log: LogOptions,
}

/// Where agents connect and what each may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentsConfig {
    /// Address, for QUIC (UDP) and TLS (TCP) alike.
    pub listen: SocketAddr,
    /// Most series one agent may have active.
    pub series_max: usize,
}

/// Where people and Grafana connect, and who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address.
    pub listen: SocketAddr,
    /// Serve without TLS and credentials beyond loopback. Said in the log at every start.
    pub insecure: bool,
    /// Names under which browsers and Grafana may reach it, beside loopback and `listen`.
    pub host_names: Vec<String>,
    /// Certificate chain and key (PEM) to serve; the collector's own CA issues one when unset.
    pub tls: Option<TlsFiles>,
    /// Proxies whose `Remote-User` headers are believed.
    pub trusted_proxies: Vec<IpAddr>,
}

/// A certificate as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Chain, leaf first, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// How long and how much is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// How old samples get.
    pub retention: Duration,
    /// How much the blocks may take; unbounded when `None`.
    pub retention_bytes_max: Option<u64>,
    /// How late a sample may come.
    pub out_of_order: Duration,
    /// Space below which nothing more is accepted (agents spool).
    pub free_bytes_min: u64,
    /// Most series active over all hosts.
    pub series_max: usize,
}

/// What one query may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryConfig {
    /// How long it may run.
    pub timeout: Duration,
    /// Samples it may load.
    pub samples_max: usize,
    /// Series it may select.
    pub series_max: usize,
    /// Queries that run at once; more wait.
    pub concurrency_max: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    data_dir: PathBuf,
    agents: WrittenAgents,
    http: WrittenHttp,
    storage: WrittenStorage,
    query: WrittenQuery,
    log: WrittenLog,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/stoa".into(),
            agents: WrittenAgents::default(),
            http: WrittenHttp::default(),
            storage: WrittenStorage::default(),
            query: WrittenQuery::default(),
            log: WrittenLog::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenAgents {
    listen: SocketAddr,
    series_max: usize,
}

impl Default for WrittenAgents {
    fn default() -> Self {
        Self { listen: loopback(7443), series_max: 20_000 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenHttp {
    listen: SocketAddr,
    insecure: bool,
    host_names: Vec<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    trusted_proxies: Vec<IpAddr>,
}

impl Default for WrittenHttp {
    fn default() -> Self {
        Self {
            listen: loopback(7480),
            insecure: false,
            host_names: Vec::new(),
            tls_cert: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenStorage {
    retention: Span,
    retention_bytes_max: Option<Bytes>,
    out_of_order: Span,
    free_bytes_min: Bytes,
    series_max: usize,
}

impl Default for WrittenStorage {
    fn default() -> Self {
        Self {
            retention: Span(Duration::from_secs(14 * 86_400)),
            retention_bytes_max: None,
            out_of_order: Span(Duration::from_secs(86_400)),
            free_bytes_min: Bytes(512 << 20),
            series_max: 2_000_000,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenQuery {
    timeout: Span,
    samples_max: usize,
    series_max: usize,
    concurrency_max: usize,
}

impl Default for WrittenQuery {
    fn default() -> Self {
        Self {
            timeout: Span(Duration::from_secs(120)),
            samples_max: 50_000_000,
            series_max: 500_000,
            concurrency_max: 8,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenLog {
    level: String,
    otlp_endpoint: Option<String>,
}

impl Default for WrittenLog {
    fn default() -> Self {
        Self { level: "info".into(), otlp_endpoint: None }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Config {
    /// Reads a file; `None` reads [`CONFIG_PATH`] if it is there and takes the defaults otherwise.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and what is wrong.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path {
            Some(path) => Self::mean(path, stoa_daemon::read(path)?),
            None if Path::new(CONFIG_PATH).exists() => Self::load(Some(Path::new(CONFIG_PATH))),
            None => Self::mean(Path::new(CONFIG_PATH), Written::default()),
        }
    }

    /// The defaults alone, whatever file there is: for a program that is told everything else.
    ///
    /// # Errors
    /// None in practice: the defaults are good.
    pub fn defaults() -> Result<Self, ConfigError> {
        Self::mean(Path::new(CONFIG_PATH), Written::default())
    }

    /// Reads a text; `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::mean(path, stoa_daemon::read_str(path, text)?)
    }

    fn mean(path: &Path, written: Written) -> Result<Self, ConfigError> {
        let wrong = |key, message: String| {
            Err(ConfigError::Meaning { path: path.to_path_buf(), key, message })
        };
        let Written { data_dir, agents, http, storage, query, log } = written;
        if storage.retention.0 < RETENTION_MIN {
            return wrong(
                "storage.retention",
                format!("{:?} is shorter than {RETENTION_MIN:?}", storage.retention.0),
            );
        }
        for (key, value) in [
            ("agents.series_max", agents.series_max),
            ("storage.series_max", storage.series_max),
            ("query.samples_max", query.samples_max),
            ("query.series_max", query.series_max),
            ("query.concurrency_max", query.concurrency_max),
        ] {
            if value == 0 {
                return wrong(key, "0 would refuse everything".into());
            }
        }
        if query.timeout.0.is_zero() {
            return wrong("query.timeout", "0 would refuse everything".into());
        }
        if agents.listen == http.listen && http.listen.port() != 0 {
            return wrong("http.listen", format!("{} is where agents connect", http.listen));
        }
        let tls = match (http.tls_cert, http.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return wrong("http.tls_key", "missing beside tls_cert".into()),
            (None, Some(_)) => return wrong("http.tls_cert", "missing beside tls_key".into()),
        };
        Ok(Self {
            data_dir,
            agents: AgentsConfig { listen: agents.listen, series_max: agents.series_max },
            http: HttpConfig {
                listen: http.listen,
                insecure: http.insecure,
                host_names: http.host_names,
                tls,
                trusted_proxies: http.trusted_proxies,
            },
            storage: StorageConfig {
                retention: storage.retention.0,
                retention_bytes_max: storage.retention_bytes_max.map(|bytes| bytes.0),
                out_of_order: storage.out_of_order.0,
                free_bytes_min: storage.free_bytes_min.0,
                series_max: storage.series_max,
            },
            query: QueryConfig {
                timeout: query.timeout.0,
                samples_max: query.samples_max,
                series_max: query.series_max,
                concurrency_max: query.concurrency_max,
            },
            log: LogOptions {
                level: log.level,
                otlp_endpoint: log.otlp_endpoint,
                service: "stoa-collector",
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        match Config::parse(Path::new("c.toml"), text) {
            Ok(config) => panic!("{text} was accepted: {config:?}"),
            Err(error) => assert!(error.to_string().contains(expected), "{error}\nnot: {expected}"),
        }
    }

    #[test]
    fn the_shipped_example_says_the_defaults() {
        let text = include_str!("../../deploy/collector.toml");
        let example = Config::parse(Path::new("c.toml"), text).unwrap();
        let defaults = Config::parse(Path::new("c.toml"), "").unwrap();
        assert_eq!(format!("{example:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_key() {
        check("[storage]\nretention = \"1h\"", "storage.retention: 3600s is shorter than");
        check("[agents]\nseries_max = 0", "agents.series_max: 0 would refuse everything");
        check("[http]\nlisten = \"127.0.0.1:7443\"", "http.listen: 127.0.0.1:7443 is where agents");
        check("[http]\ntls_cert = \"a\"", "http.tls_key: missing beside tls_cert");
        check("[http]\nlisten = \"7480\"", "c.toml:2: invalid socket address syntax");
        check("[htttp]", "c.toml:1: unknown field `htttp`");
        check("[storage]\nretention_byte_max = 3", "did you mean \"retention_bytes_max\"?");
    }
}
