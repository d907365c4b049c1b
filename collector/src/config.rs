//! The collector's configuration: the file as written, then the [`Config`] as meant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stoa_daemon::log::{LogOptions, LogSection};
use stoa_daemon::{Bytes, ConfigError, Span};
use stoa_model::{Labels, METRIC_NAME};
use stoa_promql::{Feature, Features};
use stoa_proto::convert::LABEL_BYTES_MAX;

use crate::http::Scope;
use crate::http::access::AddressBlock;

mod otlp;
mod push;
mod remote;
mod shown;

pub use otlp::OtlpConfig;
use otlp::WrittenOtlp;
use push::WrittenPush;
pub use push::{PushConfig, START_TIMES};
pub use remote::{
    Credential, Endpoint, EndpointTls, RemoteReadConfig, RemoteWriteConfig, Secret, When, Wire,
};
use remote::{WrittenRemoteRead, WrittenRemoteWrite};

/// Where the file is looked for when none is named.
pub const CONFIG_PATH: &str = "/etc/stoa/collector.toml";

/// Space below which nothing more is accepted, unless the file says otherwise.
pub const FREE_BYTES_MIN: u64 = 512 << 20;

/// Most labels that are added to all series elsewhere.
const EXTERNAL_LABELS_MAX: usize = 16;

const DAY_S: u64 = 86_400;

/// The shortest retention: one block and the one being filled.
const RETENTION_MIN: Duration = Duration::from_secs(4 * 3600);

/// The configuration as meant: every value checked, every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// What tells this collector's series apart elsewhere: they are added to what other servers scrape,
    /// ask and are sent.
    pub external_labels: Labels,
    /// Where agents connect, UDP and TCP.
    pub agents: AgentsConfig,
    /// Where people and Grafana connect.
    pub http: HttpConfig,
    /// Where OTLP is taken, and what comes of it.
    pub otlp: OtlpConfig,
    /// What becomes of what others push.
    pub push: PushConfig,
    /// How long and how much is stored.
    pub storage: StorageConfig,
    /// Where all that is stored is passed on to.
    pub remote_write: Vec<RemoteWriteConfig>,
    /// Who is asked for what is not kept here.
    pub remote_read: Option<RemoteReadConfig>,
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
    /// Ask for a credential on loopback too.
    pub loopback_credentials: bool,
    /// Where the proxies speak from whose `Remote-User` headers are believed.
    pub trusted_proxies: Vec<AddressBlock>,
    /// What a proxy's user holds; never [`Scope::Open`].
    pub proxy_scope: Scope,
    /// Users, or groups written `@group`, that hold admin when a proxy vouches for them.
    pub proxy_admins: Vec<String>,
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
    /// How old the aggregates of each minute get; none are made when zero.
    pub retention_1m: Duration,
    /// How old the aggregates of each hour get; none are made when zero.
    pub retention_1h: Duration,
    /// How much the blocks may take; unbounded when `None`.
    pub retention_bytes_max: Option<u64>,
    /// How late a sample may come.
    pub out_of_order: Duration,
    /// Space below which nothing more is accepted (agents spool).
    pub free_bytes_min: u64,
    /// Most series active over all hosts.
    pub series_max: usize,
    /// Most bytes of their label names and values, each text once.
    pub label_bytes_max: u64,
    /// Most exemplars kept, all in memory; none are when 0.
    pub exemplars_max: usize,
}

/// What one query may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryConfig {
    /// How long it may run.
    pub timeout: Duration,
    /// Samples it may hold at a time, as Prometheus counts them.
    pub samples_max: usize,
    /// Bytes it may hold at a time: of samples as they were read, and of results.
    pub bytes_max: u64,
    /// Series it may select.
    pub series_max: usize,
    /// Bytes of answers that are kept for those who ask again; 0 keeps none.
    pub reuse_bytes_max: u64,
    /// Queries that run at once; more wait.
    pub concurrency_max: usize,
    /// How long one takes that is logged.
    pub slow_after: Duration,
    /// The parts of PromQL that Prometheus has behind switches and that are on.
    pub features: Features,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    data_dir: PathBuf,
    remote_write: Vec<WrittenRemoteWrite>,
    external_labels: BTreeMap<String, String>,
    agents: WrittenAgents,
    http: WrittenHttp,
    otlp: WrittenOtlp,
    push: WrittenPush,
    storage: WrittenStorage,
    query: WrittenQuery,
    log: LogSection,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/stoa".into(),
            remote_write: Vec::new(),
            external_labels: BTreeMap::new(),
            agents: WrittenAgents::default(),
            http: WrittenHttp::default(),
            otlp: WrittenOtlp::default(),
            push: WrittenPush::default(),
            storage: WrittenStorage::default(),
            query: WrittenQuery::default(),
            log: LogSection::default(),
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
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

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenHttp {
    listen: SocketAddr,
    insecure: bool,
    host_names: Vec<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    loopback_credentials: bool,
    trusted_proxies: Vec<AddressBlock>,
    proxy_scope: Scope,
    proxy_admins: Vec<String>,
}

impl Default for WrittenHttp {
    fn default() -> Self {
        Self {
            listen: loopback(7480),
            insecure: false,
            host_names: Vec::new(),
            tls_cert: None,
            tls_key: None,
            loopback_credentials: false,
            trusted_proxies: Vec::new(),
            proxy_scope: Scope::Read,
            proxy_admins: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenStorage {
    retention: Span,
    /// 90 d, or as long as samples when that is longer.
    retention_1m: Option<Span>,
    /// 730 d, or as long as what they are made of when that is longer.
    retention_1h: Option<Span>,
    retention_bytes_max: Option<Bytes>,
    out_of_order: Span,
    free_bytes_min: Bytes,
    series_max: usize,
    label_bytes_max: Bytes,
    exemplars_max: usize,
    remote: Option<WrittenRemoteRead>,
}

impl Default for WrittenStorage {
    fn default() -> Self {
        Self {
            retention: Span(Duration::from_secs(14 * DAY_S)),
            retention_1m: None,
            retention_1h: None,
            retention_bytes_max: None,
            out_of_order: Span(Duration::from_secs(86_400)),
            free_bytes_min: Bytes(FREE_BYTES_MIN),
            series_max: 2_000_000,
            label_bytes_max: Bytes(1 << 30),
            exemplars_max: 100_000,
            remote: None,
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenQuery {
    timeout: Span,
    samples_max: usize,
    bytes_max: Bytes,
    series_max: usize,
    reuse_bytes_max: Bytes,
    concurrency_max: usize,
    slow_after: Span,
    features: Vec<String>,
}

impl Default for WrittenQuery {
    fn default() -> Self {
        Self {
            timeout: Span(Duration::from_secs(120)),
            samples_max: 50_000_000,
            bytes_max: Bytes(1 << 30),
            series_max: 500_000,
            reuse_bytes_max: Bytes(64 << 20),
            concurrency_max: 8,
            slow_after: Span(Duration::from_secs(10)),
            features: names(Features::default()),
        }
    }
}

/// What Prometheus calls the features that are on.
fn names(features: Features) -> Vec<String> {
    let on = Feature::ALL.into_iter().filter(|feature| features.has(*feature));
    on.map(|feature| feature.name().to_owned()).collect()
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
        let (path, text, written) = stoa_daemon::read_or_default(path, Path::new(CONFIG_PATH))?;
        Self::mean(&path, written).map_err(|error| error.in_text(&text))
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
        Self::mean(path, stoa_daemon::read_str(path, text)?).map_err(|error| error.in_text(text))
    }

    fn mean(path: &Path, written: Written) -> Result<Self, ConfigError> {
        let wrong = |key: &'static str, message: String| {
            let path = path.to_path_buf();
            Err(ConfigError::Meaning { path, line: None, key: key.into(), message })
        };
        let Written {
            data_dir,
            remote_write,
            external_labels,
            agents,
            http,
            otlp,
            push,
            storage,
            query,
            log,
        } = written;
        let too_long =
            |(name, value): (&String, &String)| name.len().max(value.len()) > LABEL_BYTES_MAX;
        if external_labels.contains_key(METRIC_NAME) || external_labels.contains_key("") {
            return wrong(
                "external_labels",
                "a metric's name, or no name, is no such label".into(),
            );
        }
        if external_labels.len() > EXTERNAL_LABELS_MAX || external_labels.iter().any(too_long) {
            let most = format!("{EXTERNAL_LABELS_MAX} labels of {LABEL_BYTES_MAX} bytes at most");
            return wrong("external_labels", most);
        }
        let external_labels = Labels::from_pairs_last_wins(external_labels);
        let remote_write = match RemoteWriteConfig::mean(remote_write) {
            Ok(targets) => targets,
            Err(message) => return wrong("remote_write", message),
        };
        let remote_read = match storage.remote.map(RemoteReadConfig::mean).transpose() {
            Ok(remote) => remote,
            Err(message) => return wrong("storage.remote", message),
        };
        if storage.retention.0 < RETENTION_MIN {
            return wrong(
                "storage.retention",
                format!("{:?} is shorter than {RETENTION_MIN:?}", storage.retention.0),
            );
        }
        let retention = storage.retention.0;
        let or = |written: Option<Span>, days: u64, finer: Duration| {
            written.map_or(Duration::from_secs(days * DAY_S).max(finer), |written| written.0)
        };
        let retention_1m = or(storage.retention_1m, 90, retention);
        let retention_1h = or(storage.retention_1h, 730, retention.max(retention_1m));
        // What is coarser stands in for what is finer and must not be all there is of younger samples.
        for (key, kept, finer_key, finer) in [
            ("storage.retention_1m", retention_1m, "storage.retention", retention),
            ("storage.retention_1h", retention_1h, "storage.retention", retention),
            ("storage.retention_1h", retention_1h, "storage.retention_1m", retention_1m),
        ] {
            if !kept.is_zero() && kept < finer {
                let message =
                    format!("{kept:?} is shorter than {finer_key}, {finer:?}; 0s for none");
                return wrong(key, message);
            }
        }
        for (key, value) in [
            ("agents.series_max", agents.series_max),
            ("storage.series_max", storage.series_max),
            ("storage.label_bytes_max", usize::from(storage.label_bytes_max.0 > 0)),
            ("query.samples_max", query.samples_max),
            ("query.series_max", query.series_max),
            ("query.concurrency_max", query.concurrency_max),
        ] {
            if value == 0 {
                return wrong(key, "0 would refuse everything".into());
            }
        }
        let features: Result<Features, _> =
            query.features.iter().map(|name| name.parse()).collect();
        let features: Features = match features {
            Ok(features) => features,
            Err(unknown) => return wrong("query.features", unknown.to_string()),
        };
        let push = match PushConfig::mean(&push) {
            Ok(push) => push,
            Err(message) => return wrong("push.features", message),
        };
        if query.timeout.0.is_zero() {
            return wrong("query.timeout", "0 would refuse everything".into());
        }
        if agents.listen == http.listen && http.listen.port() != 0 {
            return wrong("http.listen", format!("{} is where agents connect", http.listen));
        }
        let otlp = match OtlpConfig::mean(otlp, &[agents.listen, http.listen]) {
            Ok(otlp) => otlp,
            Err((key, message)) => return wrong(key, message),
        };
        let is_taken = |name: &str| remote_write.iter().any(|target| target.name == name);
        if let Some(export) = otlp.exports.iter().find(|export| is_taken(&export.name)) {
            let message = format!("a remote_write is named {:?}; give it a name", export.name);
            return wrong("otlp.export", message);
        }
        let (mut remote_write, mut otlp) = (remote_write, otlp);
        for target in remote_write.iter_mut().chain(&mut otlp.exports) {
            target.external = external_labels.clone();
        }
        if let Some(block) = http.trusted_proxies.iter().find(|block| block.is_everything()) {
            let message = format!("{block} would let anyone name himself a user");
            return wrong("http.trusted_proxies", message);
        }
        if http.proxy_scope == Scope::Open {
            return wrong("http.proxy_scope", "it is one of read, write, admin".into());
        }
        if !http.proxy_admins.is_empty() && http.trusted_proxies.is_empty() {
            return wrong("http.proxy_admins", "no proxy is trusted; set trusted_proxies".into());
        }
        if http.proxy_admins.iter().any(|name| name.strip_prefix('@').unwrap_or(name).is_empty()) {
            return wrong("http.proxy_admins", "an empty name is nobody's".into());
        }
        let tls = match (http.tls_cert, http.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return wrong("http.tls_key", "missing beside tls_cert".into()),
            (None, Some(_)) => return wrong("http.tls_cert", "missing beside tls_key".into()),
        };
        Ok(Self {
            data_dir,
            external_labels,
            agents: AgentsConfig { listen: agents.listen, series_max: agents.series_max },
            http: HttpConfig {
                listen: http.listen,
                insecure: http.insecure,
                host_names: http.host_names,
                tls,
                loopback_credentials: http.loopback_credentials,
                trusted_proxies: http.trusted_proxies,
                proxy_scope: http.proxy_scope,
                proxy_admins: http.proxy_admins,
            },
            otlp,
            push,
            storage: StorageConfig {
                retention,
                retention_1m,
                retention_1h,
                retention_bytes_max: storage.retention_bytes_max.map(|bytes| bytes.0),
                out_of_order: storage.out_of_order.0,
                free_bytes_min: storage.free_bytes_min.0,
                series_max: storage.series_max,
                label_bytes_max: storage.label_bytes_max.0,
                exemplars_max: storage.exemplars_max,
            },
            remote_write,
            remote_read,
            query: QueryConfig {
                timeout: query.timeout.0,
                samples_max: query.samples_max,
                bytes_max: query.bytes_max.0,
                series_max: query.series_max,
                reuse_bytes_max: query.reuse_bytes_max.0,
                concurrency_max: query.concurrency_max,
                slow_after: query.slow_after.0,
                features,
            },
            log: log.options("stoa-collector"),
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
    fn aggregates_are_kept_as_long_as_samples_at_least() {
        let kept = |text: &str| {
            let text = format!("[storage]\n{text}");
            let storage = Config::parse(Path::new("c.toml"), &text).unwrap().storage;
            [storage.retention_1m, storage.retention_1h].map(|kept| kept.as_secs() / DAY_S)
        };
        assert_eq!(kept("retention = \"14d\""), [90, 730]);
        assert_eq!(kept("retention = \"400d\""), [400, 730]);
        assert_eq!(kept("retention_1m = \"800d\""), [800, 800]);
        assert_eq!(kept("retention = \"400d\"\nretention_1m = \"0s\""), [0, 730]);
        assert_eq!(kept("retention = \"400d\"\nretention_1h = \"0s\""), [400, 0]);
    }

    #[test]
    fn the_shipped_example_explains_every_key() {
        let text = include_str!("../../deploy/collector.toml");
        let defaults = Config::parse(Path::new("c.toml"), "").unwrap();
        for (section, key) in defaults.keys() {
            let head = if section.is_empty() { String::new() } else { format!("\n[{section}]\n") };
            let (_, rest) = text.split_once(&head).unwrap();
            let part = rest.split("\n[").next().unwrap();
            let mut explained = false;
            let found = part.lines().any(|line| {
                let is_key = line.trim_start_matches("# ").starts_with(&format!("{key} = "));
                let found = is_key && explained;
                explained = !line.is_empty() && (explained || line.starts_with("# "));
                found
            });
            assert!(found, "{section}.{key} is not explained");
        }
    }

    #[test]
    fn proxies_are_blocks_and_their_users_hold_what_is_said() {
        let text = "[http]\nloopback_credentials = true\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n\
                    proxy_scope = \"write\"\nproxy_admins = [\"ann\", \"@ops\"]";
        let http = Config::parse(Path::new("c.toml"), text).unwrap().http;
        assert!(http.loopback_credentials);
        assert_eq!(http.trusted_proxies[0], "10.0.0.0/8".parse().unwrap());
        assert!(http.trusted_proxies[1].contains("::1".parse().unwrap()));
        assert_eq!((http.proxy_scope, http.proxy_admins.len()), (Scope::Write, 2));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_key() {
        check("[storage]\nretention = \"1h\"", "storage.retention: 3600s is shorter than");
        let storage = |text: &str| format!("[storage]\nretention = \"20d\"\n{text}");
        check(&storage("retention_1m = \"10d\""), "storage.retention_1m: 864000s is shorter than");
        check(&storage("retention_1h = \"10d\""), "storage.retention_1h: 864000s is shorter than");
        check(&storage("retention_1h = \"30d\""), "than storage.retention_1m, 7776000s");
        check("[agents]\nseries_max = 0", "agents.series_max: 0 would refuse everything");
        check(
            "[storage]\nlabel_bytes_max = 0",
            "storage.label_bytes_max: 0 would refuse everything",
        );
        check("[http]\nlisten = \"127.0.0.1:7443\"", "http.listen: 127.0.0.1:7443 is where agents");
        check("[http]\ntls_cert = \"a\"", "http.tls_key: missing beside tls_cert");
        check("[http]\nlisten = \"7480\"", "c.toml:2: http.listen: invalid socket address syntax");
        let proxy = |text: &str| format!("[http]\ntrusted_proxies = [\"10.0.0.1\"]\n{text}");
        check(
            "[http]\ntrusted_proxies = [\"proxy\"]",
            "c.toml:2: http.trusted_proxies[0]: it is not an address",
        );
        check(
            "[http]\ntrusted_proxies = [\"::/0\"]",
            "http.trusted_proxies: ::/0 would let anyone",
        );
        check("[http]\nproxy_admins = [\"ann\"]", "http.proxy_admins: no proxy is trusted");
        check(&proxy("proxy_admins = [\"@\"]"), "http.proxy_admins: an empty name is nobody's");
        check(
            &proxy("proxy_scope = \"open\""),
            "http.proxy_scope: it is one of read, write, admin",
        );
        check(
            &proxy("proxy_scope = \"root\""),
            "c.toml:3: http.proxy_scope: unknown variant, expected",
        );
        check(
            "[query]\nfeatures = [\"promql-magic\"]",
            "query.features: no such feature; there are",
        );
        check("[htttp]", "c.toml:1: unknown field `htttp`");
        check("[storage]\nretention_byte_max = 3", "did you mean \"retention_bytes_max\"?");
    }
}
