//! A job: how targets of one kind are found, asked and understood. What a configuration means.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use stoa_exchange::relabel::RelabelRule;

/// How targets of one kind are found, asked and understood.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name, the `job` of its targets unless relabelled.
    pub name: String,
    /// A number of all that is written of it: another one is another job.
    pub stamp: u64,
    /// How often a target is asked.
    pub interval: Duration,
    /// How long that may take.
    pub timeout: Duration,
    /// The path that is asked for.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// What the address is asked with, name by name.
    pub params: Vec<(String, Vec<String>)>,
    /// Whether a target's own labels win over those it is given.
    pub honor_labels: bool,
    /// What is too much.
    pub limits: Limits,
    /// By which targets are chosen and labelled.
    pub relabel: Vec<RelabelRule>,
    /// By which what they tell is chosen and labelled.
    pub metric_relabel: Vec<RelabelRule>,
    /// Targets that stand in the configuration.
    pub groups: Vec<Group>,
    /// Files that name targets; the last part may have `*` in it.
    pub files: Vec<PathBuf>,
    /// How it is asked.
    pub access: Access,
}

/// Targets that share labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Addresses.
    pub targets: Vec<String>,
    /// What all of them are labelled with.
    pub labels: Vec<(String, String)>,
}

/// What is too much; `None`: no limit but our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a page.
    pub body_bytes: usize,
    /// Samples of a page, after relabelling.
    pub samples: Option<usize>,
    /// Labels of a series.
    pub labels: Option<usize>,
    /// Bytes of a label's name.
    pub name_bytes: Option<usize>,
    /// Bytes of a label's value.
    pub value_bytes: Option<usize>,
    /// Targets of the job; over it, all of them are down.
    pub targets: Option<usize>,
}

/// The most bytes of a page, whatever is written.
pub const BODY_BYTES_MAX: usize = 16 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: BODY_BYTES_MAX,
            samples: None,
            labels: None,
            name_bytes: None,
            value_bytes: None,
            targets: None,
        }
    }
}

/// How a target is asked.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// What it wants to see.
    pub credential: Option<Credential>,
    /// Whom it is believed to be.
    pub tls: TlsWritten,
    /// Sent beside those of a scrape.
    pub headers: Vec<(String, String)>,
    /// Whether it may send elsewhere.
    pub follow_redirects: bool,
    /// Whether pages come packed.
    pub compression: bool,
    /// Which formats, best first.
    pub protocols: Vec<Protocol>,
}

/// A format of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Delimited `MetricFamily` messages.
    Protobuf,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// OpenMetrics 0.0.1.
    OpenMetricsOld,
    /// Text 0.0.4.
    Text,
}

impl Protocol {
    /// What is asked for unless said otherwise.
    pub const DEFAULT: [Self; 3] = [Self::OpenMetrics, Self::OpenMetricsOld, Self::Text];

    /// Prometheus's name for it, and that of HTTP.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Protobuf => (
                "PrometheusProto",
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            ),
            Self::OpenMetrics => {
                ("OpenMetricsText1.0.0", "application/openmetrics-text;version=1.0.0")
            }
            Self::OpenMetricsOld => {
                ("OpenMetricsText0.0.1", "application/openmetrics-text;version=0.0.1")
            }
            Self::Text => ("PrometheusText0.0.4", "text/plain;version=0.0.4"),
        }
    }

    /// The format of a name in a configuration.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [Self::Protobuf, Self::OpenMetrics, Self::OpenMetricsOld, Self::Text];
        // Escaping of names is all that is newer in it.
        let word = if word == "PrometheusText1.0.0" { "PrometheusText0.0.4" } else { word };
        all.into_iter().find(|protocol| protocol.words().0 == word)
    }

    /// An `Accept` header for these, as Prometheus writes it.
    #[must_use]
    pub fn accept(protocols: &[Self]) -> String {
        let mut weight = protocols.len() + 1;
        let mut parts = Vec::new();
        for protocol in protocols {
            parts.push(format!("{};q=0.{weight}", protocol.words().1));
            weight -= 1;
        }
        parts.push(format!("*/*;q=0.{weight}"));
        parts.join(",")
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Text(String),
    /// The file that holds it.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("<secret>"),
            Self::File(path) => path.fmt(f),
        }
    }
}

/// How the agent shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// HTTP basic authentication.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An `Authorization` header of two words.
    Header {
        /// The first: `Bearer`.
        kind: String,
        /// The second.
        credentials: Secret,
    },
}

/// `tls_config` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct TlsWritten {
    /// Who is trusted, PEM.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// The name that the certificate is to have.
    pub server_name: Option<String>,
    /// Whether anybody is believed.
    pub insecure_skip_verify: bool,
}
