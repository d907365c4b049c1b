//! Other engines: those all samples are passed on to (`remote_write`, `otlp.export`), and the one that is asked for what
//! is not kept here (`storage.remote`). The keys are Prometheus's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use stoa_daemon::Span;
use stoa_exchange::relabel::{self, RelabelRule, WrittenRelabel};
use stoa_exchange::remote_write::Version;
use stoa_model::Labels;

use super::shown::{SECRET, without_secrets};

/// The longest name of a target.
const NAME_BYTES_MAX: usize = 200;

/// Most samples one request may be told to hold.
const SAMPLES_PER_SEND_MAX: usize = 100_000;

/// Headers that are ours to set.
const RESERVED: [&str; 11] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-prometheus-remote-write-version",
];

/// Another engine, and how it is spoken to.
#[derive(Clone)]
pub struct Endpoint {
    /// Where.
    pub url: Url,
    /// Sent with every request, beside those of the protocol.
    pub headers: HeaderMap,
    /// What it wants to see, if anything.
    pub credential: Option<Credential>,
    /// Its certificate, and ours.
    pub tls: EndpointTls,
    /// How long one request may take.
    pub timeout: Duration,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, headers, credential, tls, timeout } = self;
        f.debug_struct("Endpoint")
            .field("url", &without_secrets(url.as_str()))
            .field("headers", headers)
            .field("credential", credential)
            .field("tls", tls)
            .field("timeout", timeout)
            .finish()
    }
}

/// How a caller shows who it is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// HTTP basic authentication.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An `Authorization` header.
    Header {
        /// Its first word: `Bearer`.
        kind: String,
        /// What follows.
        credentials: Secret,
    },
}

/// A secret as it stands in the configuration.
#[derive(Clone)]
pub enum Secret {
    /// The text itself.
    Text(String),
    /// The file that holds it, read for each request; white space around it is left out.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str(SECRET),
            Self::File(path) => path.fmt(f),
        }
    }
}

/// How TLS with the other is to be.
#[derive(Clone, Debug, Default)]
pub struct EndpointTls {
    /// Who is trusted, PEM; the machine's own list when `None`.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether anybody is believed.
    pub insecure_skip_verify: bool,
}

/// What a target is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Prometheus's remote write.
    RemoteWrite(Version),
    /// OTLP over HTTP.
    Otlp,
    /// OTLP over gRPC.
    OtlpGrpc,
}

/// A target of remote write, or of OTLP (`otlp.export`).
#[derive(Clone, Debug)]
pub struct RemoteWriteConfig {
    /// What its cursor is kept under: another name begins anew.
    pub name: String,
    /// Where.
    pub endpoint: Endpoint,
    /// What it is spoken to in.
    pub wire: Wire,
    /// Most samples of one request.
    pub samples_max: usize,
    /// How long samples wait for more of them.
    pub deadline: Duration,
    /// The first wait after a request that may succeed later.
    pub backoff_min: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
    /// What series are labelled with that have no such label.
    pub external: Labels,
    /// Which series it is sent, under which labels.
    pub relabel: Vec<RelabelRule>,
    shown: WrittenRemoteWrite,
}

/// The engine that is asked for what is not kept here.
#[derive(Clone, Debug)]
pub struct RemoteReadConfig {
    /// Where its Prometheus API is, without `/api/v1`.
    pub endpoint: Endpoint,
    /// What it is asked.
    pub when: When,
    shown: WrittenRemoteRead,
}

/// What another engine is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// What reaches before the oldest sample kept here.
    #[default]
    OutsideLocal,
    /// Everything.
    Always,
}

/// A `[[remote_write]]` as written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRemoteWrite {
    url: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default = "timeout")]
    remote_timeout: Span,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    basic_auth: Option<WrittenBasic>,
    #[serde(default)]
    authorization: Option<WrittenAuthorization>,
    #[serde(default)]
    tls_config: WrittenTls,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protobuf_message: Option<Message>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(default)]
    queue_config: WrittenQueue,
    #[serde(default)]
    write_relabel_configs: Vec<WrittenRelabel>,
}

/// `storage.remote` as written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRemoteRead {
    url: String,
    #[serde(default)]
    when: When,
    #[serde(default = "timeout")]
    remote_timeout: Span,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    basic_auth: Option<WrittenBasic>,
    #[serde(default)]
    authorization: Option<WrittenAuthorization>,
    #[serde(default)]
    tls_config: WrittenTls,
}

/// How OTLP is spoken, by the names that its SDKs have for it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
enum Protocol {
    #[default]
    #[serde(rename = "http/protobuf")]
    Http,
    #[serde(rename = "grpc")]
    Grpc,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
enum Message {
    #[default]
    #[serde(rename = "prometheus.WriteRequest")]
    One,
    #[serde(rename = "io.prometheus.write.v2.Request")]
    Two,
}

impl Message {
    fn version(self) -> Version {
        match self {
            Self::One => Version::One,
            Self::Two => Version::Two,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenBasic {
    username: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenAuthorization {
    #[serde(rename = "type", default = "bearer")]
    kind: String,
    credentials: Option<String>,
    credentials_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenTls {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    insecure_skip_verify: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenQueue {
    max_samples_per_send: usize,
    batch_send_deadline: Span,
    min_backoff: Span,
    max_backoff: Span,
}

impl Default for WrittenQueue {
    fn default() -> Self {
        Self {
            max_samples_per_send: 2000,
            batch_send_deadline: Span(Duration::from_secs(1)),
            min_backoff: Span(Duration::from_millis(30)),
            max_backoff: Span(Duration::from_secs(5)),
        }
    }
}

fn timeout() -> Span {
    Span(Duration::from_secs(30))
}

fn bearer() -> String {
    "Bearer".to_owned()
}

impl RemoteWriteConfig {
    pub(super) fn mean(written: Vec<WrittenRemoteWrite>) -> Result<Vec<Self>, String> {
        let targets = written.into_iter().map(|mut written| {
            if written.protocol.is_some() {
                return Err("protocol is for otlp.export".to_owned());
            }
            let message = *written.protobuf_message.get_or_insert_default();
            Self::mean_one(written, Wire::RemoteWrite(message.version()))
        });
        Self::named_apart(targets.collect::<Result<_, _>>()?)
    }

    /// Targets of OTLP, written with the same keys.
    pub(super) fn mean_otlp(written: Vec<WrittenRemoteWrite>) -> Result<Vec<Self>, String> {
        let targets = written.into_iter().map(|mut written| {
            if written.protobuf_message.is_some() {
                return Err("protobuf_message is for remote_write".to_owned());
            }
            match written.protocol.get_or_insert_default() {
                Protocol::Http => Self::mean_one(written, Wire::Otlp),
                Protocol::Grpc => {
                    let target = Self::mean_one(written, Wire::OtlpGrpc)?;
                    let url = &target.endpoint.url;
                    if url.path() != "/" || url.query().is_some() {
                        return Err("url of gRPC is a host and a port, without a path".to_owned());
                    }
                    Ok(target)
                }
            }
        });
        Self::named_apart(targets.collect::<Result<_, _>>()?)
    }

    fn named_apart(given: Vec<Self>) -> Result<Vec<Self>, String> {
        let mut names = BTreeSet::new();
        let mut targets = Vec::new();
        for target in given {
            if !names.insert(target.name.clone()) {
                return Err(format!("two targets are named {:?}; give them a name", target.name));
            }
            targets.push(target);
        }
        Ok(targets)
    }

    fn mean_one(written: WrittenRemoteWrite, wire: Wire) -> Result<Self, String> {
        let mut shown = written.clone();
        shown.url = without_secrets(&written.url);
        hide(&mut shown.headers, &mut shown.basic_auth, &mut shown.authorization);
        let WrittenRemoteWrite { url, name, remote_timeout, headers, .. } = written;
        let credential = credential(written.basic_auth, written.authorization)?;
        let tls = tls(written.tls_config)?;
        let endpoint = endpoint(&url, headers, credential, tls, remote_timeout)?;
        let name = name.unwrap_or_else(|| shown.url.clone());
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(format!("a name is 1 to {NAME_BYTES_MAX} bytes long"));
        }
        let WrittenQueue { max_samples_per_send, batch_send_deadline, min_backoff, max_backoff } =
            written.queue_config;
        if max_samples_per_send == 0 || max_samples_per_send > SAMPLES_PER_SEND_MAX {
            return Err(format!("max_samples_per_send is from 1 to {SAMPLES_PER_SEND_MAX}"));
        }
        if batch_send_deadline.0.is_zero() || min_backoff.0.is_zero() {
            return Err("batch_send_deadline and min_backoff are longer than 0".into());
        }
        if max_backoff.0 < min_backoff.0 {
            return Err("max_backoff is shorter than min_backoff".into());
        }
        Ok(Self {
            name,
            endpoint,
            wire,
            samples_max: max_samples_per_send,
            deadline: batch_send_deadline.0,
            backoff_min: min_backoff.0,
            backoff_max: max_backoff.0,
            external: Labels::empty(),
            relabel: relabel::rules("write_relabel_configs", written.write_relabel_configs)?,
            shown,
        })
    }

    pub(super) fn shown(&self) -> WrittenRemoteWrite {
        self.shown.clone()
    }
}

impl RemoteReadConfig {
    pub(super) fn mean(written: WrittenRemoteRead) -> Result<Self, String> {
        let mut shown = written.clone();
        shown.url = without_secrets(&written.url);
        hide(&mut shown.headers, &mut shown.basic_auth, &mut shown.authorization);
        let WrittenRemoteRead { url, when, remote_timeout, headers, .. } = written;
        let credential = credential(written.basic_auth, written.authorization)?;
        let tls = tls(written.tls_config)?;
        let endpoint = endpoint(&url, headers, credential, tls, remote_timeout)?;
        if endpoint.url.query().is_some() || endpoint.url.path().contains("/api/v1") {
            return Err("url is what stands before /api/v1/query, without a query".into());
        }
        Ok(Self { endpoint, when, shown })
    }

    pub(super) fn shown(&self) -> WrittenRemoteRead {
        self.shown.clone()
    }
}

fn endpoint(
    url: &str,
    headers: BTreeMap<String, String>,
    credential: Option<Credential>,
    tls: EndpointTls,
    timeout: Span,
) -> Result<Endpoint, String> {
    let shown = without_secrets(url);
    let url = Url::parse(url).map_err(|error| format!("url {shown:?}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("url {shown:?}: it begins with http:// or https:// and a host"));
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user && credential.is_some() {
        return Err(format!(
            "url {shown:?}: a user in it excludes basic_auth and authorization; leave one out"
        ));
    }
    if timeout.0.is_zero() {
        return Err("remote_timeout: 0 would refuse everything".into());
    }
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!("headers: {name} is set by Stoa; see basic_auth, authorization"));
        }
        let header = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = HeaderValue::from_str(&value).ok();
        let (Some(header), Some(mut value)) = (header, value) else {
            return Err(format!("headers: {name:?} or its value cannot be sent"));
        };
        // It may be a key.
        value.set_sensitive(true);
        sent.insert(header, value);
    }
    sent.remove(header::ACCEPT_ENCODING);
    Ok(Endpoint { url, headers: sent, credential, tls, timeout: timeout.0 })
}

fn credential(
    basic: Option<WrittenBasic>,
    authorization: Option<WrittenAuthorization>,
) -> Result<Option<Credential>, String> {
    match (basic, authorization) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("basic_auth and authorization exclude each other".into()),
        (Some(basic), None) => Ok(Some(Credential::Basic {
            username: basic.username,
            password: secret("basic_auth.password", basic.password, basic.password_file)?,
        })),
        (None, Some(WrittenAuthorization { kind, credentials, credentials_file })) => {
            if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err("authorization.type is one word, such as Bearer".into());
            }
            let key = "authorization.credentials";
            let credentials = secret(key, credentials, credentials_file)?;
            Ok(Some(Credential::Header { kind, credentials }))
        }
    }
}

fn secret(key: &str, text: Option<String>, file: Option<PathBuf>) -> Result<Secret, String> {
    match (text, file) {
        (Some(text), None) => Ok(Secret::Text(text)),
        (None, Some(file)) => Ok(Secret::File(file)),
        (None, None) => Err(format!("{key} or {key}_file is missing")),
        (Some(_), Some(_)) => Err(format!("{key} and {key}_file exclude each other")),
    }
}

fn tls(written: WrittenTls) -> Result<EndpointTls, String> {
    let WrittenTls { ca_file, cert_file, key_file, insecure_skip_verify } = written;
    let identity = match (cert_file, key_file) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err("tls_config.cert_file and key_file need each other".into()),
    };
    Ok(EndpointTls { ca_file, identity, insecure_skip_verify })
}

/// Leaves secrets out of what is shown; headers may hold keys too.
fn hide(
    headers: &mut BTreeMap<String, String>,
    basic: &mut Option<WrittenBasic>,
    authorization: &mut Option<WrittenAuthorization>,
) {
    let password = basic.as_mut().and_then(|basic| basic.password.as_mut());
    let token = authorization.as_mut().and_then(|header| header.credentials.as_mut());
    for secret in headers.values_mut().chain(password).chain(token) {
        *secret = SECRET.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("c.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_target_is_written_as_prometheus_has_it_and_shown_without_secrets() {
        let config = parse(
            "[[remote_write]]\nurl = \"https://vm.lan:8428/api/v1/write?key=hunter2\"\n\
             basic_auth = { username = \"ann\", password = \"hunter2\" }\n\
             headers = { X-Scope-OrgID = \"hunter2\" }\n\
             tls_config = { ca_file = \"/etc/ca.pem\" }\n\
             [[remote_write]]\nname = \"two\"\nurl = \"http://127.0.0.1:9/w\"\nremote_timeout = \"5s\"\n\
             authorization = { credentials_file = \"/etc/token\" }\n\
             protobuf_message = \"io.prometheus.write.v2.Request\"\n\
             queue_config = { max_samples_per_send = 500, max_backoff = \"1m\" }\n\
             [storage.remote]\nurl = \"http://127.0.0.1:9/select\"\nwhen = \"always\"",
        )
        .unwrap();
        let [one, two] = &config.remote_write[..] else { panic!("{config:?}") };
        assert_eq!(one.name, "https://vm.lan:8428/api/v1/write?<secret>");
        assert_eq!((one.wire, one.samples_max), (Wire::RemoteWrite(Version::One), 2000));
        assert_eq!(one.deadline, Duration::from_secs(1));
        assert_eq!((two.name.as_str(), two.samples_max), ("two", 500));
        assert_eq!(two.wire, Wire::RemoteWrite(Version::Two));
        assert_eq!(two.endpoint.timeout, Duration::from_secs(5));
        let read = config.remote_read.as_ref().unwrap();
        assert_eq!((read.when, read.endpoint.url.path()), (When::Always, "/select"));
        let debug = format!("{:?} {one:?}", config.to_yaml());
        assert!(!one.shown.url.contains("hunter2"));
        assert!(!config.to_yaml().contains("hunter2"), "{}", config.to_yaml());
        assert!(debug.contains("credentials_file") && debug.contains("when"), "{debug}");
    }

    #[test]
    fn no_way_to_write_a_user_shows_it() {
        for url in [
            "https://ann:hunter2@h/w",
            "https:/ann:hunter2@h/w",
            "https:///ann:hunter2@h/w",
            "https:ann:hunter2@h/w",
            "https:\\\\\\\\ann:hunter2@h/w",
            "HTTPS://hunter2@h:8428/w?key=hunter2",
            "https://h/w#hunter2",
            " https://ann:hunter2@h/w",
        ] {
            let text = format!(
                "[[remote_write]]\nurl = \"{url}\"\nheaders = {{ X-Key = \"hunter2\" }}\n\
                 [storage.remote]\nurl = \"https:/ann:hunter2@h\""
            );
            let config = parse(&text).unwrap();
            let target = &config.remote_write[0];
            let debug = format!("{target:?} {:?}", config.remote_read);
            for shown in [config.to_yaml(), target.name.clone(), debug] {
                assert!(!shown.contains("hunter2"), "{url}: {shown}");
            }
            assert!(target.name.contains("<secret>"), "{}", target.name);
        }
        for url in
            ["ann:hunter2@h/w", "//ann:hunter2@h/w", "ftp://ann:hunter2@h", "https://a:hunter2@"]
        {
            let error = parse(&format!("[[remote_write]]\nurl = \"{url}\"")).unwrap_err();
            let first = error.lines().next().unwrap_or("");
            assert!(!first.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = parse(&format!("[[remote_write]]\n{text}")).unwrap_err();
            assert!(error.contains(expected), "{error}\nnot: {expected}");
        };
        let with = |text: &str| format!("url = \"http://h/w\"\n{text}");
        check("name = \"a\"", "missing field `url`");
        check("url = \"vm.lan/w\"", "url \"vm.lan/w\": relative URL");
        check("url = \"ftp://h/w\"", "it begins with http:// or https://");
        check(&with("write_relabel_configs = [{}]"), "replace needs a target_label");
        let shuffle = "write_relabel_configs = [{ action = \"shuffle\" }]";
        check(&with(shuffle), "unknown variant, expected one of `replace`, `keep`, `drop`");
        check(&with("queue_config = { capacity = 3 }"), "unknown field `capacity`");
        check(&with("queue_config = { max_samples_per_send = 0 }"), "is from 1 to 100000");
        check(&with("queue_config = { max_backoff = \"1ms\" }"), "max_backoff is shorter");
        check(&with("remote_timeout = \"0s\""), "0 would refuse everything");
        check(&with("headers = { Authorization = \"x\" }"), "Authorization is set by Stoa");
        check(&with("headers = { \"a b\" = \"x\" }"), "\"a b\" or its value cannot be sent");
        check(&with("basic_auth = { username = \"a\" }"), "basic_auth.password or basic_auth.");
        check(&with("tls_config = { cert_file = \"a\" }"), "cert_file and key_file need");
        check(&with("protobuf_message = \"x\""), "unknown variant, expected");
        check(&with("protocol = \"grpc\""), "protocol is for otlp.export");
        let both = "basic_auth = { username = \"a\", password = \"b\" }\nauthorization = { credentials = \"c\" }";
        check(&with(both), "exclude each other");
        let user = "url = \"https:/ann:b@h/w\"\nauthorization = { credentials = \"c\" }";
        check(user, "a user in it excludes basic_auth and authorization");
        check(&with("[[remote_write]]\nurl = \"http://h/w\""), "two targets are named");
        let read = parse("[storage.remote]\nurl = \"http://h/api/v1/query\"").unwrap_err();
        assert!(read.contains("storage.remote: url is what stands before"), "{read}");
    }
}
