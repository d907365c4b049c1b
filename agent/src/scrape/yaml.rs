//! `prometheus.yml`: of it `global`, `scrape_configs` and `scrape_config_files`, with Prometheus's keys,
//! defaults and meanings.
//!
//! What else stands there is no agent's (`rule_files`, `remote_write`, …) or not done here (other service
//! discoveries, `oauth2`): it is named with its line in [`Read::left_out`] and nothing is made of it. A file that Prometheus would refuse is
//! refused. Errors and notes never carry a value: it may be a password.
//!
//! Bounds: [`FILE_BYTES_MAX`], [`JOBS_MAX`]; the reader's own on depth and aliases.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use stoa_daemon::Span;
use stoa_exchange::relabel::{self, WrittenRelabel};

use super::job::{
    Access, BODY_BYTES_MAX, Credential, Group, Job, Limits, Protocol, Secret, TlsWritten,
};

/// The largest file read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Most jobs of one file.
pub const JOBS_MAX: usize = 1_000;

/// What a file says.
#[derive(Debug, Default)]
pub struct Read {
    /// Its jobs.
    pub jobs: Vec<Job>,
    /// Other files with jobs, as patterns.
    pub more: Vec<PathBuf>,
    /// What stands there and is not used.
    pub left_out: Vec<String>,
}

/// Why a file is no good.
#[derive(Debug, thiserror::Error)]
#[error("{}: {wrong}", path.display())]
pub struct YamlError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, with its line where that is known.
    pub wrong: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    global: Option<Global>,
    scrape_configs: Option<Vec<WrittenJob>>,
    scrape_config_files: Option<Vec<PathBuf>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Global {
    scrape_interval: Option<Span>,
    scrape_timeout: Option<Span>,
    scrape_protocols: Option<Vec<String>>,
    #[serde(flatten)]
    limits: WrittenLimits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenLimits {
    body_size_limit: Option<Size>,
    sample_limit: Option<usize>,
    label_limit: Option<usize>,
    label_name_length_limit: Option<usize>,
    label_value_length_limit: Option<usize>,
    target_limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenJob {
    job_name: String,
    scrape_interval: Option<Span>,
    scrape_timeout: Option<Span>,
    scrape_protocols: Option<Vec<String>>,
    metrics_path: Option<String>,
    scheme: Option<String>,
    params: Option<BTreeMap<String, Vec<String>>>,
    honor_labels: bool,
    follow_redirects: Option<bool>,
    enable_compression: Option<bool>,
    basic_auth: Option<WrittenBasic>,
    authorization: Option<WrittenAuthorization>,
    bearer_token: Option<String>,
    bearer_token_file: Option<PathBuf>,
    tls_config: Option<TlsWritten>,
    http_headers: Option<BTreeMap<String, WrittenHeader>>,
    static_configs: Option<Vec<WrittenGroup>>,
    file_sd_configs: Option<Vec<WrittenFiles>>,
    relabel_configs: Option<Vec<WrittenRelabel>>,
    metric_relabel_configs: Option<Vec<WrittenRelabel>>,
    #[serde(flatten)]
    limits: WrittenLimits,
}

#[derive(Debug, Deserialize)]
struct WrittenBasic {
    #[serde(default)]
    username: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct WrittenAuthorization {
    #[serde(rename = "type")]
    kind: Option<String>,
    credentials: Option<String>,
    credentials_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct WrittenHeader {
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    secrets: Vec<String>,
}

/// Targets, as `static_configs` and the files of `file_sd_configs` write them.
#[derive(Debug, Deserialize)]
struct WrittenGroup {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct WrittenFiles {
    files: Vec<PathBuf>,
}

impl From<WrittenGroup> for Group {
    fn from(written: WrittenGroup) -> Self {
        let labels = written.labels.unwrap_or_default().into_iter().collect();
        Self { targets: written.targets, labels }
    }
}

/// A size, `10MB`, of 1024s, or a number of bytes.
#[derive(Clone, Copy, Debug)]
struct Size(usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let shift = match unit {
            "" | "B" => 0,
            "KB" | "KiB" => 10,
            "MB" | "MiB" => 20,
            "GB" | "GiB" => 30,
            "TB" | "TiB" => 40,
            _ => return Err(de::Error::custom("expected a size such as 10MB")),
        };
        let number: usize = digits
            .trim()
            .parse()
            .map_err(|_nan| de::Error::custom("expected a size such as 10MB"))?;
        Ok(Self(number.saturating_mul(1 << shift)))
    }
}

/// Reads a file's text; `path` is what relative paths begin at, and named in errors.
///
/// # Errors
/// [`YamlError`] with what is wrong.
pub fn parse(path: &Path, text: &str) -> Result<Read, YamlError> {
    let wrong = |wrong: String| YamlError { path: path.to_owned(), wrong };
    let file: Option<File> = from_yaml(text).map_err(wrong)?;
    let file = file.unwrap_or_default();
    let global = file.global.unwrap_or_default();
    let dir = path.parent().unwrap_or(Path::new(""));
    let written = file.scrape_configs.unwrap_or_default();
    if written.len() > JOBS_MAX {
        return Err(wrong(format!("scrape_configs: more than {JOBS_MAX}")));
    }
    let mut read = Read::default();
    for job in written {
        let name = job.job_name.clone();
        let job = mean(&global, job, dir);
        let job = job.map_err(|why| wrong(format!("scrape_configs: job {name:?}: {why}")))?;
        if read.jobs.iter().any(|other: &Job| other.name == name) {
            return Err(wrong(format!("scrape_configs: job {name:?} stands twice")));
        }
        read.jobs.push(job);
    }
    let more = file.scrape_config_files.unwrap_or_default();
    read.more = more.into_iter().map(|more| dir.join(more)).collect();
    let tree: Node = from_yaml(text).map_err(wrong)?;
    Keys { path, left_out: &mut read.left_out }.top(&tree);
    Ok(read)
}

/// Reads groups of targets, YAML or JSON.
///
/// # Errors
/// What is wrong.
pub fn groups(text: &str) -> Result<Vec<Group>, String> {
    let groups: Option<Vec<WrittenGroup>> = from_yaml(text)?;
    Ok(groups.unwrap_or_default().into_iter().map(Group::from).collect())
}

fn from_yaml<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.without_snippet().to_string())
}

fn mean(global: &Global, written: WrittenJob, dir: &Path) -> Result<Job, String> {
    // Of this process only: what is hashed is printed nowhere.
    let mut hasher = DefaultHasher::new();
    format!("{global:?}{written:?}").hash(&mut hasher);
    if written.job_name.is_empty() {
        return Err("job_name is missing or empty".into());
    }
    let interval = written.scrape_interval.or(global.scrape_interval);
    let interval = interval.map_or(Duration::from_secs(60), |span| span.0);
    let timeout = match (written.scrape_timeout, global.scrape_timeout) {
        (Some(own), _) => own.0,
        (None, all) => all.map_or(Duration::from_secs(10), |span| span.0).min(interval),
    };
    if interval.is_zero() || timeout > interval {
        return Err(format!(
            "scrape_timeout {timeout:?} is longer than scrape_interval {interval:?}"
        ));
    }
    let scheme = written.scheme.unwrap_or_else(|| "http".to_owned());
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err("scheme is http or https".into());
    }
    let protocols = match written.scrape_protocols.or_else(|| global.scrape_protocols.clone()) {
        None => Protocol::DEFAULT.to_vec(),
        Some(words) => {
            let mut protocols = Vec::new();
            for word in words {
                let protocol = Protocol::of_word(&word)
                    .ok_or_else(|| format!("scrape_protocols: {word:?} is not known"))?;
                if !protocols.contains(&protocol) {
                    protocols.push(protocol);
                }
            }
            if protocols.is_empty() {
                return Err("scrape_protocols is empty".into());
            }
            protocols
        }
    };
    let mut headers = Vec::new();
    for (name, WrittenHeader { values, secrets }) in written.http_headers.unwrap_or_default() {
        headers.extend(values.into_iter().chain(secrets).map(|value| (name.clone(), value)));
    }
    let mut tls = written.tls_config.unwrap_or_default();
    for file in [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file].into_iter().flatten() {
        *file = dir.join(&*file);
    }
    let credential = credential(
        written.basic_auth,
        written.authorization,
        (written.bearer_token, written.bearer_token_file),
        dir,
    )?;
    let files = written.file_sd_configs.unwrap_or_default();
    let files = files.into_iter().flat_map(|files| files.files).map(|file| dir.join(file));
    let groups = written.static_configs.unwrap_or_default().into_iter().map(Group::from);
    let of_rules =
        |key: &str, rules: Option<Vec<_>>| relabel::rules(key, rules.unwrap_or_default());
    Ok(Job {
        stamp: hasher.finish(),
        interval,
        timeout,
        metrics_path: written.metrics_path.unwrap_or_else(|| "/metrics".to_owned()),
        scheme,
        params: written.params.unwrap_or_default().into_iter().collect(),
        honor_labels: written.honor_labels,
        limits: limits(&written.limits, &global.limits),
        relabel: of_rules("relabel_configs", written.relabel_configs)?,
        metric_relabel: of_rules("metric_relabel_configs", written.metric_relabel_configs)?,
        groups: groups.collect(),
        files: files.collect(),
        access: Access {
            credential,
            tls,
            headers,
            follow_redirects: written.follow_redirects.unwrap_or(true),
            compression: written.enable_compression.unwrap_or(true),
            protocols,
        },
        name: written.job_name,
    })
}

/// What of a job's limits stands; 0 is none, as in Prometheus.
fn limits(own: &WrittenLimits, global: &WrittenLimits) -> Limits {
    let limit = |of: fn(&WrittenLimits) -> Option<usize>| {
        of(own).or_else(|| of(global)).filter(|limit| *limit > 0)
    };
    let body = limit(|all| all.body_size_limit.map(|Size(bytes)| bytes));
    Limits {
        body_bytes: body.map_or(BODY_BYTES_MAX, |bytes| bytes.min(BODY_BYTES_MAX)),
        samples: limit(|all| all.sample_limit),
        labels: limit(|all| all.label_limit),
        name_bytes: limit(|all| all.label_name_length_limit),
        value_bytes: limit(|all| all.label_value_length_limit),
        targets: limit(|all| all.target_limit),
    }
}

fn credential(
    basic: Option<WrittenBasic>,
    authorization: Option<WrittenAuthorization>,
    bearer: (Option<String>, Option<PathBuf>),
    dir: &Path,
) -> Result<Option<Credential>, String> {
    let secret = |key: &str, text: Option<String>, file: Option<PathBuf>| match (text, file) {
        (Some(_), Some(_)) => Err(format!("{key} and {key}_file exclude each other")),
        (Some(text), None) => Ok(Secret::Text(text)),
        (None, Some(file)) => Ok(Secret::File(dir.join(file))),
        (None, None) => Ok(Secret::Text(String::new())),
    };
    let bearer = match bearer {
        (None, None) => None,
        (text, file) => Some(secret("bearer_token", text, file)?),
    };
    let ways = [basic.is_some(), authorization.is_some(), bearer.is_some()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return Err("basic_auth, authorization and bearer_token exclude each other".into());
    }
    if let Some(WrittenBasic { username, password, password_file }) = basic {
        let password = secret("password", password, password_file)?;
        return Ok(Some(Credential::Basic { username, password }));
    }
    if let Some(WrittenAuthorization { kind, credentials, credentials_file }) = authorization {
        let credentials = secret("credentials", credentials, credentials_file)?;
        let kind = kind.unwrap_or_else(|| "Bearer".to_owned());
        return Ok(Some(Credential::Header { kind, credentials }));
    }
    Ok(bearer.map(|credentials| Credential::Header { kind: "Bearer".to_owned(), credentials }))
}

/// A file's keys with their lines.
enum Node {
    Map(Vec<(String, u64, Self)>),
    List(Vec<Self>),
    Else,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let line = key.referenced.line();
                    pairs.push((key.value, line, map.next_value()?));
                }
                Ok(Node::Map(pairs))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Else)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Else)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Else)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Else)
            }

            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node::Else)
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Else)
            }

            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
                from.deserialize_any(self)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Else)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
                IgnoredAny::deserialize(from).map(|_| Node::Else)
            }
        }
        from.deserialize_any(Any)
    }
}

const TOP: [&str; 3] = ["global", "scrape_configs", "scrape_config_files"];
const LIMITS: [&str; 6] = [
    "body_size_limit",
    "sample_limit",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "target_limit",
];
const GLOBAL: [&str; 3] = ["scrape_interval", "scrape_timeout", "scrape_protocols"];
const JOB: [&str; 20] = [
    "job_name",
    "scrape_interval",
    "scrape_timeout",
    "scrape_protocols",
    "metrics_path",
    "scheme",
    "params",
    "honor_labels",
    "follow_redirects",
    "enable_compression",
    "basic_auth",
    "authorization",
    "bearer_token",
    "bearer_token_file",
    "tls_config",
    "http_headers",
    "static_configs",
    "file_sd_configs",
    "relabel_configs",
    "metric_relabel_configs",
];
/// Those within others, but where every key is a name.
const INNER: [(&str, &[&str]); 5] = [
    ("basic_auth", &["username", "password", "password_file"]),
    ("authorization", &["type", "credentials", "credentials_file"]),
    ("tls_config", &["ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"]),
    ("static_configs", &["targets", "labels"]),
    // Files are looked at all the time, however often is written.
    ("file_sd_configs", &["files", "refresh_interval"]),
];

/// Looks for keys that nothing is made of.
struct Keys<'a> {
    path: &'a Path,
    left_out: &'a mut Vec<String>,
}

impl Keys<'_> {
    fn top(&mut self, tree: &Node) {
        let Node::Map(pairs) = tree else { return };
        for (key, line, node) in pairs {
            match (key.as_str(), node) {
                ("global", Node::Map(pairs)) => {
                    self.expect(pairs, "global.", &[&GLOBAL, &LIMITS]);
                }
                ("scrape_configs", Node::List(jobs)) => jobs.iter().for_each(|job| self.job(job)),
                _ if TOP.contains(&key.as_str()) => {}
                _ => self.note(*line, "", key),
            }
        }
    }

    fn job(&mut self, job: &Node) {
        let Node::Map(pairs) = job else { return };
        self.expect(pairs, "", &[&JOB, &LIMITS]);
        for (key, _, node) in pairs {
            let Some((name, known)) = INNER.iter().find(|(name, _)| name == key) else { continue };
            let within = format!("{name}.");
            match node {
                Node::Map(pairs) => self.expect(pairs, &within, &[known]),
                Node::List(items) => {
                    for item in items {
                        if let Node::Map(pairs) = item {
                            self.expect(pairs, &within, &[known]);
                        }
                    }
                }
                Node::Else => {}
            }
        }
    }

    fn expect(&mut self, pairs: &[(String, u64, Node)], within: &str, known: &[&[&str]]) {
        for (key, line, node) in pairs {
            // What is said to be off is off.
            let is_default = matches!(
                key.as_str(),
                "honor_timestamps" | "track_timestamps_staleness" | "enable_http2"
            );
            let is_known = known.iter().any(|known| known.contains(&key.as_str()));
            let says_nothing = matches!(node, Node::List(items) if items.is_empty());
            if !is_known && !is_default && !says_nothing {
                self.note(*line, within, key);
            }
        }
    }

    fn note(&mut self, line: u64, within: &str, key: &str) {
        let what = match key {
            "rule_files"
            | "alerting"
            | "remote_write"
            | "remote_read"
            | "storage"
            | "tracing"
            | "otlp"
            | "evaluation_interval"
            | "external_labels"
            | "query_log_file"
            | "runtime" => "is the collector's to do",
            _ if key.ends_with("_sd_configs") => {
                "is not done here; the targets it finds are not scraped"
            }
            "proxy_url" | "oauth2" => "is not done here; the targets are asked without it",
            _ => "is not known and left out",
        };
        self.left_out.push(format!("{}:{line}: {within}{key} {what}", self.path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Read {
        parse(Path::new("/etc/prometheus/prometheus.yml"), text).unwrap()
    }

    #[test]
    fn prometheus_own_example_is_read_as_it_is() {
        let read = parsed(
            "# my global config
global:
  scrape_interval: 15s # Set the scrape interval to every 15 seconds.
  evaluation_interval: 15s
alerting:
  alertmanagers:
    - static_configs:
        - targets:
          # - alertmanager:9093
rule_files:
  # - \"first_rules.yml\"
scrape_configs:
  - job_name: \"prometheus\"
    static_configs:
      - targets: [\"localhost:9090\"]
        labels:
          app: \"prometheus\"
  - job_name: node
    scrape_timeout: 5s
    kubernetes_sd_configs:
      - role: node
    tls_config:
      ca_file: ca.pem
      min_version: TLS12
    file_sd_configs:
      - files: ['targets/*.yml']
        refresh_interval: 5m
scrape_config_files: [more/*.yml]
",
        );
        let [prometheus, node] = &read.jobs[..] else { panic!("{read:?}") };
        assert_eq!(prometheus.interval, Duration::from_secs(15));
        assert_eq!(prometheus.timeout, Duration::from_secs(10));
        let labels = vec![("app".to_owned(), "prometheus".to_owned())];
        assert_eq!(prometheus.groups, [Group { targets: vec!["localhost:9090".into()], labels }]);
        assert_eq!(node.timeout, Duration::from_secs(5));
        assert_eq!(node.files, [Path::new("/etc/prometheus/targets/*.yml")]);
        assert_eq!(node.access.tls.ca_file.as_deref(), Some(Path::new("/etc/prometheus/ca.pem")));
        assert_eq!(read.more, [Path::new("/etc/prometheus/more/*.yml")]);
        let said: Vec<&str> = read
            .left_out
            .iter()
            .map(|note| note.trim_start_matches("/etc/prometheus/prometheus.yml:"))
            .collect();
        assert_eq!(
            said,
            [
                "4: global.evaluation_interval is the collector's to do",
                "5: alerting is the collector's to do",
                "10: rule_files is the collector's to do",
                "20: kubernetes_sd_configs is not done here; the targets it finds are not scraped",
                "24: tls_config.min_version is not known and left out",
            ]
        );
    }

    #[test]
    fn limits_credentials_and_headers_are_read() {
        let read = parsed(
            "global: {sample_limit: 5, body_size_limit: 1MB}
scrape_configs:
- job_name: a
  sample_limit: 0
  label_limit: 30
  basic_auth: {username: u, password: p}
  http_headers: {X-A: {values: [b]}}
  scrape_protocols: [PrometheusProto, PrometheusText0.0.4]
- job_name: b
  authorization: {credentials_file: token}
",
        );
        let [a, b] = &read.jobs[..] else { panic!("{read:?}") };
        let Limits { body_bytes, samples, labels, .. } = a.limits;
        assert_eq!((body_bytes, samples, labels), (1 << 20, None, Some(30)));
        assert_eq!(b.limits.samples, Some(5));
        let password = Secret::Text("p".into());
        assert_eq!(a.access.credential, Some(Credential::Basic { username: "u".into(), password }));
        assert_eq!(a.access.headers, [("X-A".to_owned(), "b".to_owned())]);
        assert_eq!(
            Protocol::accept(&a.access.protocols),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.3,\
             text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        );
        let credentials = Secret::File("/etc/prometheus/token".into());
        assert_eq!(
            b.access.credential,
            Some(Credential::Header { kind: "Bearer".into(), credentials })
        );
        assert!(!format!("{a:?}").contains("\"p\""));
    }

    #[test]
    fn what_prometheus_refuses_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = parse(Path::new("p.yml"), text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        let job = |more: &str| format!("scrape_configs:\n- job_name: j\n  {more}\n");
        check("scrape_configs: [{metrics_path: /x}]", "job_name is missing");
        check("scrape_configs: [{job_name: j}, {job_name: j}]", "\"j\" stands twice");
        check(&job("scrape_timeout: 2m"), "scrape_timeout 120s is longer than scrape_interval 60s");
        check(&job("scheme: ftp"), "scheme is http or https");
        check(&job("scrape_interval: soon"), "expected a duration");
        check(&job("body_size_limit: 3 cakes"), "expected a size such as 10MB");
        check(&job("relabel_configs: [{action: shuffle}]"), "shuffle");
        check(
            &job("relabel_configs: [{action: hashmod, target_label: a}]"),
            "job \"j\": relabel_configs, number 1: hashmod",
        );
        check(&job("basic_auth: {username: a}\n  bearer_token: b"), "exclude each other");
        check(&job("scrape_protocols: [Morse]"), "\"Morse\" is not known");
        check("scrape_configs: {", "p.yml: ");
        assert_eq!(parsed("").jobs.len(), 0);
        assert_eq!(
            groups("[{\"targets\": [\"a:1\"], \"labels\": {\"x\": \"y\"}}]").unwrap().len(),
            1
        );
    }
}
