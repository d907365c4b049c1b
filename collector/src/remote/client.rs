//! HTTP to another engine: its certificate, our credential, nothing about what is said.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderValue, Method, header};
use reqwest::{Certificate, Identity, RequestBuilder, Response, Url};
use stoa_daemon::error_chain;

use crate::config::{Credential, Endpoint, Secret};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections kept to one engine.
const IDLE_MAX: usize = 8;

/// Of an answer that says what went wrong this much is read.
const COMPLAINT_BYTES_MAX: usize = 4096;

/// Of that the first line is shown, up to here.
const COMPLAINT_CHARS_MAX: usize = 300;

/// The longest secret read from a file.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Why another engine cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the configuration cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A secret that cannot stand in a header.
    #[error("the credential in {} cannot be sent: it is over 64 KiB or not text", path.display())]
    Secret {
        /// Where it is.
        path: PathBuf,
    },
    /// The TLS or HTTP client cannot be made.
    #[error("make an HTTP client")]
    Build(#[source] reqwest::Error),
}

/// A client of one engine; clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
}

impl Client {
    /// A client; reads the files of its TLS.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(endpoint: &Endpoint) -> Result<Self, ClientError> {
        Self::speaking(endpoint, false)
    }

    /// The same over HTTP/2 from the first byte on, as gRPC has it, or over HTTP/1.1.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn speaking(endpoint: &Endpoint, is_http2: bool) -> Result<Self, ClientError> {
        // Fails only when a provider is there already, which serves as well.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("stoa/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(endpoint.timeout)
            .pool_max_idle_per_host(IDLE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        builder = if is_http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
        if let Some(path) = &endpoint.tls.ca_file {
            let list = Certificate::from_pem_bundle(&read(path)?).ok();
            let list = list.filter(|list| !list.is_empty());
            let what = "certificate";
            let list = list.ok_or_else(|| ClientError::Pem { path: path.clone(), what })?;
            builder = builder.tls_certs_only(list);
        }
        if let Some((cert, key)) = &endpoint.tls.identity {
            let pem = [read(cert)?, read(key)?].concat();
            let what = "certificate and key";
            let identity = Identity::from_pem(&pem)
                .map_err(|_pem| ClientError::Pem { path: cert.clone(), what })?;
            builder = builder.identity(identity);
        }
        if endpoint.tls.insecure_skip_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let http = builder.build().map_err(ClientError::Build)?;
        Ok(Self { http, endpoint: endpoint.clone() })
    }

    /// Where it is, as configured.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.endpoint.url
    }

    /// A request with the headers and the credential of the configuration; secrets in files are read
    /// anew.
    ///
    /// # Errors
    /// [`ClientError::Read`] and [`ClientError::Secret`].
    pub async fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, ClientError> {
        let request = self.http.request(method, url).headers(self.endpoint.headers.clone());
        Ok(match &self.endpoint.credential {
            None => request,
            Some(Credential::Basic { username, password }) => {
                request.basic_auth(username, Some(reveal(password).await?))
            }
            Some(Credential::Header { kind, credentials }) => {
                let value = format!("{kind} {}", reveal(credentials).await?);
                let mut value = HeaderValue::from_str(&value).map_err(|_not_text| {
                    let path = match credentials {
                        Secret::File(path) => path.clone(),
                        Secret::Text(_) => PathBuf::from("the configuration"),
                    };
                    ClientError::Secret { path }
                })?;
                value.set_sensitive(true);
                request.header(header::AUTHORIZATION, value)
            }
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::Read { path: path.to_owned(), source })
}

async fn reveal(secret: &Secret) -> Result<String, ClientError> {
    let path = match secret {
        Secret::Text(text) => return Ok(text.clone()),
        Secret::File(path) => path,
    };
    let failed = |source| ClientError::Read { path: path.clone(), source };
    if tokio::fs::metadata(path).await.map_err(failed)?.len() > SECRET_BYTES_MAX {
        return Err(ClientError::Secret { path: path.clone() });
    }
    let text = tokio::fs::read_to_string(path).await.map_err(failed)?;
    Ok(text.trim().to_owned())
}

/// The first line of what an engine says about a request it did not take.
pub(super) async fn complaint(response: Response) -> String {
    let (body, _why_cut) = start_of(response, COMPLAINT_BYTES_MAX).await;
    let text = String::from_utf8_lossy(&body);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    line.chars().filter(|c| !c.is_control()).take(COMPLAINT_CHARS_MAX).collect()
}

/// How an answer begins: so many bytes, or a part more; and why it broke off, if it did.
pub(super) async fn start_of(
    mut response: Response,
    bytes_max: usize,
) -> (Vec<u8>, Option<String>) {
    let mut body = Vec::new();
    while body.len() < bytes_max {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return (body, Some(error_chain(&error.without_url()))),
        }
    }
    (body, None)
}
