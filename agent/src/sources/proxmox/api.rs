//! One server's API: its address, token and trust, and what becomes of a question that gets no answer.
//!
//! Knows no question. A token is read anew for each reading, so that a new one counts at once, and is
//! never printed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer, de};

use crate::sources::loose::Text;
use crate::sources::{Problem, read_small};
use crate::web::{Fingerprint, Request, Tls, TlsSettings, Url, WebError};

use super::{ANSWER_BYTES_MAX, PATIENCE};

/// Characters told at most of what a server said.
const SAID_CHARS_MAX: usize = 200;

/// Which of the two is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    VirtualEnvironment,
    BackupServer,
}

impl Product {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::VirtualEnvironment => "Proxmox VE",
            Self::BackupServer => "Proxmox Backup Server",
        }
    }

    pub(super) fn job(self) -> &'static str {
        match self {
            Self::VirtualEnvironment => "pve",
            Self::BackupServer => "pbs",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::VirtualEnvironment => 8006,
            Self::BackupServer => 8007,
        }
    }

    /// How a token is shown: its word, and what stands between its name and its secret.
    fn token(self) -> (&'static str, char) {
        match self {
            Self::VirtualEnvironment => ("PVEAPIToken", '='),
            Self::BackupServer => ("PBSAPIToken", ':'),
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::VirtualEnvironment => "PVEAuditor on /",
            Self::BackupServer => "Audit on /",
        }
    }

    fn fingerprint_command(self) -> &'static str {
        match self {
            Self::VirtualEnvironment => "`pvenode cert info`",
            Self::BackupServer => "`proxmox-backup-manager cert info`",
        }
    }
}

/// A token's text.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "<secret>" })
    }
}

/// A server as it is configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// `https://HOST:PORT`.
    #[serde(deserialize_with = "address")]
    pub(super) url: Option<Url>,
    /// What `instance` is to say, instead of the URL's host.
    pub(super) instance: String,
    /// `USER@REALM!NAME=SECRET`.
    pub(super) token: Token,
    /// The file that says it.
    pub(super) token_file: PathBuf,
    /// The one certificate that is trusted.
    #[serde(deserialize_with = "fingerprint")]
    pub(super) fingerprint: Option<Fingerprint>,
    /// Whose certificates are trusted, PEM; the machine's own roots if empty.
    pub(super) ca: PathBuf,
    /// Whether any certificate is taken.
    pub(super) insecure: bool,
}

/// Reads an address; none if it is empty.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let url: Url = text.parse().map_err(de::Error::custom)?;
    if !url.is_tls {
        return Err(de::Error::custom("expected https://, as the token goes with each question"));
    }
    if url.target != "/" {
        return Err(de::Error::custom("expected https://HOST:PORT without a path"));
    }
    Ok(Some(url))
}

/// Reads a fingerprint; none if it is empty.
pub(super) fn fingerprint<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Fingerprint>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(de::Error::custom)
}

/// Why a question has no answer, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// There is no token that could be shown.
    #[error("{0}")]
    Token(String),
    /// Nothing came.
    #[error("{0}")]
    Web(String),
    /// Another certificate than the one that is trusted.
    #[error(
        "the certificate shown is not the one that is trusted: its fingerprint is {seen}; if {command} \
         on the server says the same, set fingerprint to it"
    )]
    Certificate {
        /// The fingerprint of what was shown.
        seen: String,
        /// What says it on the server.
        command: &'static str,
    },
    /// The token is refused.
    #[error(
        "the token is refused (401 {said}); is it written as USER@REALM!NAME=SECRET, and neither \
         expired nor deleted?"
    )]
    Unauthorized {
        /// The server's words.
        said: String,
    },
    /// The token may not ask this.
    #[error("the token may not ask this (403 {said}); give both the user and the token {role}")]
    Denied {
        /// The server's words, which name the right.
        said: String,
        /// What would do.
        role: &'static str,
    },
    /// The node that the question was for cannot be reached by the one that is asked.
    #[error("the node does not answer the one that is asked ({0})")]
    NodeAway(u16),
    /// Another status.
    #[error("it answers {status} {said}")]
    Status {
        /// The status.
        status: u16,
        /// The server's words.
        said: String,
    },
    /// What came is not what was asked for.
    #[error("it answers what is no JSON; is the url that of {0}?")]
    NotJson(&'static str),
}

impl Fault {
    /// Whether the API lacks this or keeps it from the token, which what is optional may be.
    pub(super) fn is_lack(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Status { status: 400 | 404 | 501, .. })
    }
}

/// A server that is asked.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) product: Product,
    server: Server,
    url: Url,
    /// What is asked with, once its files were read.
    tls: Option<Arc<Tls>>,
    /// Shown with each question.
    credential: Option<HeaderValue>,
}

impl Api {
    /// The server; `None` without an address.
    pub(super) fn new(product: Product, server: Server) -> Option<Self> {
        let url = server.url.clone()?;
        Some(Self { product, server, url, tls: None, credential: None })
    }

    /// What `instance` says.
    pub(super) fn instance(&self) -> String {
        let Url { host, port, .. } = &self.url;
        if !self.server.instance.is_empty() {
            self.server.instance.clone()
        } else if *port == self.product.port() {
            host.clone()
        } else {
            format!("{host}:{port}")
        }
    }

    pub(super) fn problem(&self, wrong: &str) -> Problem {
        let Url { host, port, .. } = &self.url;
        let wrong = format!("{host}:{port}: {wrong}");
        Problem::Answer { asked: self.product.name(), wrong }
    }

    /// Reads what is shown and who is trusted.
    pub(super) fn prepare(&mut self) -> Result<(), Fault> {
        self.credential = Some(self.shown()?);
        if self.tls.is_none() {
            let Server { ca, fingerprint, insecure, .. } = &self.server;
            let settings = TlsSettings {
                ca_file: (!ca.as_os_str().is_empty()).then(|| ca.clone()),
                fingerprint: *fingerprint,
                insecure_skip_verify: *insecure,
                ..TlsSettings::default()
            };
            let tls = settings.prepare().map_err(|error| Fault::Web(error.to_string()))?;
            self.tls = Some(Arc::new(tls));
        }
        Ok(())
    }

    fn shown(&self) -> Result<HeaderValue, Fault> {
        let Server { token, token_file, .. } = &self.server;
        let token = if token_file.as_os_str().is_empty() {
            token.0.clone()
        } else {
            read_small(token_file).map_err(|error| {
                Fault::Token(format!("cannot read {}: {error}", token_file.display()))
            })?
        };
        let (word, between) = self.product.token();
        let parts = token.split_once('!').and_then(|(user, rest)| {
            let (name, secret) = rest.split_once(['=', ':'])?;
            let is_whole = user.contains('@') && !name.is_empty() && !secret.is_empty();
            is_whole.then_some((user, name, secret))
        });
        let wrong = || {
            Fault::Token(format!(
                "{} is not of the form USER@REALM!NAME{between}SECRET",
                if token_file.as_os_str().is_empty() { "token" } else { "what token_file says" }
            ))
        };
        let (user, name, secret) = parts.ok_or_else(wrong)?;
        let text = format!("{word}={user}!{name}{between}{secret}");
        let mut value = HeaderValue::from_str(&text).map_err(|_unsaid| wrong())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Asks; `path` begins behind `/api2/json/`.
    pub(super) async fn get(&self, path: &str, patience: Duration) -> Result<Bytes, Fault> {
        let (Some(tls), Some(credential)) = (&self.tls, &self.credential) else {
            return Err(Fault::Token("nothing is prepared".to_owned()));
        };
        let mut url = self.url.clone();
        url.target = format!("/api2/json/{path}");
        let mut request = Request::get(url, Arc::clone(tls), patience.min(PATIENCE));
        request.headers.insert(AUTHORIZATION, credential.clone());
        request.body_bytes_max = ANSWER_BYTES_MAX;
        let mut hops = Vec::new();
        let answer = request.send_traced(&mut hops).await;
        let answer = answer.map_err(|error| match (error, hops.last()) {
            (error @ WebError::Tls { .. }, Some(hop)) => self.untrusted(&error, hop),
            (error, _) => Fault::Web(error.to_string()),
        })?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(self.refused(status, &answer.body)),
        }
    }

    fn untrusted(&self, error: &WebError, hop: &crate::web::Hop) -> Fault {
        let shown = hop.tls.as_ref().and_then(|tls| tls.chain.first());
        match shown {
            Some(shown) if error.certificate().is_some() => {
                let hex = Fingerprint::of(shown).hex().to_uppercase();
                let pairs: Vec<_> = hex.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
                let command = self.product.fingerprint_command();
                Fault::Certificate { seen: pairs.join(":"), command }
            }
            _ => Fault::Web(error.to_string()),
        }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Fault {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Refusal {
            message: Text,
        }
        let said = match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) => refusal.message.as_str().to_owned(),
            // Proxmox Backup Server's are plain text; a proxy's page says nothing.
            Err(_) if body.starts_with(b"<") => String::new(),
            Err(_) => String::from_utf8_lossy(body).into_owned(),
        };
        let said = if said.trim().is_empty() {
            status.canonical_reason().unwrap_or("without a word").to_owned()
        } else {
            let plain = said.chars().map(|c| if c.is_control() { ' ' } else { c });
            plain.take(SAID_CHARS_MAX).collect::<String>().trim().to_owned()
        };
        match status.as_u16() {
            401 => Fault::Unauthorized { said },
            403 => Fault::Denied { said, role: self.product.role() },
            status @ (595 | 596 | 599) => Fault::NodeAway(status),
            status => Fault::Status { status, said },
        }
    }

    /// What an answer says, by `read`.
    pub(super) fn read<T>(
        &self,
        body: &[u8],
        read: impl FnOnce(&[u8]) -> serde_json::Result<T>,
    ) -> Result<T, Fault> {
        read(body).map_err(|_unsaid| Fault::NotJson(self.product.name()))
    }
}

/// What stands around every answer.
#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

/// Reads an answer.
pub(super) fn data<T: de::DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice::<Envelope<T>>(body).map(|envelope| envelope.data)
}
