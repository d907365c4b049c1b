//! A target is asked for its page.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use stoa_daemon::error_chain;
use tokio::sync::Semaphore;

use super::book::PageFormat;
use super::job::{Credential, Protocol, Secret};
use super::target::Target;
use crate::web::{self, Request, Tls, TlsSettings, WebError};

/// Pages up to this size are taken at any time; larger ones a few at once.
const SMALL_BYTES: usize = 256 << 10;

/// Large pages in memory at once.
pub const LARGE_AT_ONCE: usize = 3;

/// Redirects that are followed, at most.
const REDIRECTS_MAX: usize = 10;

/// Asks one target.
#[derive(Debug)]
pub struct Asker {
    target: Arc<Target>,
    /// Or why it cannot be asked.
    request: Result<Request, String>,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// What it says.
    pub body: Bytes,
    /// In which format.
    pub format: PageFormat,
}

impl Asker {
    /// Reads the files that the target's job names; blocks.
    #[must_use]
    pub fn new(target: Arc<Target>) -> Self {
        let request = request(&target);
        Self { target, request }
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The target's page, in time. `is_large` is kept from call to call: a large page waits for
    /// its turn, so that however many there are memory is bounded.
    ///
    /// # Errors
    /// Why there is none, without anything secret.
    pub async fn ask(&self, large: &Semaphore, is_large: &mut bool) -> Result<Page, String> {
        let request = self.request.as_ref().map_err(Clone::clone)?;
        let asking = async {
            let limit = self.target.job.limits.body_bytes;
            if !*is_large {
                let small = SMALL_BYTES.min(limit);
                match send(request, small).await {
                    Err(WebError::TooLarge { .. }) if small < limit => *is_large = true,
                    other => return other.map_err(|error| error_chain(&error)),
                }
            }
            let _turn = large.acquire().await.map_err(|_closed| "the agent stops".to_owned())?;
            send(request, limit).await.map_err(|error| error_chain(&error))
        };
        match tokio::time::timeout(self.target.timeout, asking).await {
            Ok(page) => page?,
            Err(_elapsed) => Err(format!("no page within {:?}", self.target.timeout)),
        }
    }
}

async fn send(request: &Request, body_bytes_max: usize) -> Result<Result<Page, String>, WebError> {
    let request = Request { body_bytes_max, ..request.clone() };
    let answer = request.send().await?;
    if answer.status != http::StatusCode::OK {
        return Ok(Err(format!("the server answers {}", answer.status)));
    }
    let kind = answer.headers.get(http::header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    Ok(Ok(Page { format: PageFormat::of_content_type(kind), body: answer.body }))
}

fn request(target: &Target) -> Result<Request, String> {
    let access = &target.job.access;
    let url = target.url.parse().map_err(|error: WebError| error.to_string())?;
    let tls = &access.tls;
    let settings = TlsSettings {
        ca_file: tls.ca_file.clone(),
        server_name: tls.server_name.clone(),
        insecure_skip_verify: tls.insecure_skip_verify,
        cert_file: tls.cert_file.clone(),
        key_file: tls.key_file.clone(),
        ..TlsSettings::default()
    };
    let tls: Tls = settings.prepare().map_err(|error| error_chain(&error))?;
    let mut headers = HeaderMap::new();
    let set = |text: &str| {
        HeaderValue::from_str(text).map_err(|_invalid| "a header cannot be sent".to_owned())
    };
    headers.insert(ACCEPT, set(&Protocol::accept(&access.protocols))?);
    let seconds = target.timeout.as_secs_f64().to_string();
    headers.insert(HeaderName::from_static("x-prometheus-scrape-timeout-seconds"), set(&seconds)?);
    for (name, value) in &access.headers {
        let name: HeaderName =
            name.parse().map_err(|_invalid| format!("http_headers: {name:?} is no header"))?;
        headers.append(name, set(value)?);
    }
    let secret = |secret: &Secret| match secret {
        Secret::Text(text) => web::Secret::Text(text.clone()),
        Secret::File(path) => web::Secret::File(path.clone()),
    };
    let credential = access.credential.as_ref().map(|credential| match credential {
        Credential::Basic { username, password } => {
            web::Credential::Basic { username: username.clone(), password: secret(password) }
        }
        Credential::Header { kind, credentials } => {
            web::Credential::Header { kind: kind.clone(), credentials: secret(credentials) }
        }
    });
    Ok(Request {
        headers,
        credential,
        accept_gzip: access.compression,
        redirects_max: if access.follow_redirects { REDIRECTS_MAX } else { 0 },
        ..Request::get(url, Arc::new(tls), target.timeout)
    })
}
