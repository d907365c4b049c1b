//! Docker's or Podman's engine as it is asked over its socket, in Docker's words: Podman answers them too.
//!
//! Owns one engine's socket and the runtime that drives its calls; it rests between readings, no thread is
//! its own. A call has a connection of its own. Bounded: a call waits [`CALL_TIMEOUT`], all of a reading
//! [`PATIENCE`], an answer ends after [`ANSWER_BYTES_MAX`]. An engine that fails is asked again after
//! [`REST`]: one that hangs costs a reading two seconds, not each of them. Knows nothing of what is asked.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use http::header::HOST;
use http::{HeaderValue, Response, Uri};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::texts::cut;
use crate::sources::Now;

/// How long an engine may take to begin an answer, in seconds.
const CALL_TIMEOUT: u64 = 2;
/// How long all calls of a reading may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// A list of a thousand containers with a few labels each takes some 2 MiB.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How long an engine that failed is left alone.
const REST: Duration = Duration::from_secs(25);

type Answering = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Error>> + Send>>;

/// Why an engine tells nothing.
#[derive(Debug)]
pub(super) enum Silence {
    /// There is no socket.
    Absent,
    /// The agent has no right to the socket.
    Denied,
    /// It did not answer, or not as it should.
    Failed(String),
}

impl From<Error> for Silence {
    fn from(error: Error) -> Self {
        match error {
            Error::IOError { err } => err.into(),
            Error::RequestTimeoutError => io::Error::from(io::ErrorKind::TimedOut).into(),
            error => Self::Failed(cut(&chain(&error))),
        }
    }
}

impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::TimedOut => Self::Failed("it does not answer in time".to_owned()),
            io::ErrorKind::ConnectionRefused => {
                Self::Failed("nothing listens at its socket".to_owned())
            }
            _ => Self::Failed(cut(&error.to_string())),
        }
    }
}

/// An error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) version: String,
    pub(super) api_version: String,
    pub(super) is_podman: bool,
}

/// The way to an engine.
pub(super) struct Engine {
    socket: PathBuf,
    runtime: Option<Runtime>,
    docker: Option<Docker>,
    /// What it said last.
    pub(super) about: Option<About>,
    failed_at: Option<Now>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, runtime: None, docker: None, about: None, failed_at: None }
    }

    /// Whether it was found wanting so lately that it is left alone.
    pub(super) fn rests(&self, now: Now) -> bool {
        self.failed_at.is_some_and(|at| !now.is_past(at, REST))
    }

    /// Asks `questions`. Blocks; not to be called from within a runtime.
    ///
    /// # Errors
    /// [`Silence`]; the engine is asked who it is with the next call then.
    pub(super) fn ask<T>(
        &mut self,
        now: Now,
        questions: impl AsyncFnOnce(&Docker) -> Result<T, Error>,
    ) -> Result<T, Silence> {
        self.failed_at = None;
        let asked = self.try_to_ask(questions);
        if asked.is_err() {
            // What a call left behind ends with its runtime.
            (self.docker, self.runtime) = (None, None);
        }
        if matches!(asked, Err(Silence::Failed(_))) {
            self.failed_at = Some(now);
        }
        asked
    }

    fn try_to_ask<T>(
        &mut self,
        questions: impl AsyncFnOnce(&Docker) -> Result<T, Error>,
    ) -> Result<T, Silence> {
        // Before a runtime is made where no engine is.
        std::fs::metadata(&self.socket)?;
        if self.runtime.is_none() {
            self.runtime = Some(Builder::new_current_thread().enable_io().enable_time().build()?);
        }
        let Some(runtime) = &self.runtime else {
            return Err(Silence::Failed("there is no runtime".to_owned()));
        };
        let known = self.docker.take();
        let (socket, about) = (&self.socket, &mut self.about);
        let asked = runtime.block_on(async {
            let all = async {
                let docker = match known {
                    Some(docker) => docker,
                    None => {
                        let (docker, told) = connect(socket).await?;
                        *about = Some(told);
                        docker
                    }
                };
                questions(&docker).await.map(|answer| (answer, docker))
            };
            match timeout(PATIENCE, all).await {
                Ok(asked) => asked.map_err(Silence::from),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        });
        let (answer, docker) = asked?;
        self.docker = Some(docker);
        Ok(answer)
    }
}

/// The client, in a version that the engine knows, and what the engine says of itself.
async fn connect(socket: &Path) -> Result<(Docker, About), Error> {
    let transport = transport(socket.to_owned());
    let address = Some("http://engine");
    let docker = Docker::connect_with_custom_transport(
        transport,
        address,
        CALL_TIMEOUT,
        API_DEFAULT_VERSION,
    )?;
    let docker = docker.negotiate_version().await?;
    let told = docker.version().await?;
    let is_podman = told
        .components
        .iter()
        .flatten()
        .any(|component| component.name.to_ascii_lowercase().contains("podman"));
    let text = |text: Option<String>| cut(&text.unwrap_or_default());
    let about =
        About { version: text(told.version), api_version: text(told.api_version), is_podman };
    Ok((docker, about))
}

/// Each call on a connection of its own that gives no more than an answer may have.
fn transport(socket: PathBuf) -> impl Fn(BollardRequest) -> Answering + Send + Sync + 'static {
    move |mut request| {
        let socket = socket.clone();
        Box::pin(async move {
            *request.uri_mut() = asked_path(request.uri());
            request.headers_mut().insert(HOST, HeaderValue::from_static("engine"));
            let (reader, writer) = UnixStream::connect(&socket).await?.into_split();
            let stream = tokio::io::join(reader.take(ANSWER_BYTES_MAX), writer);
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(sender.send_request(request).await?)
        })
    }
}

/// The path alone. Which versions there are is asked in none: an older engine refuses a newer one.
fn asked_path(uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.ends_with("/version") { "/version" } else { path };
    path.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_asked_without_one() {
        for (uri, expected) in [
            ("http://engine/v1.53/version", "/version"),
            ("http://engine/v1.41/containers/json?all=true", "/v1.41/containers/json?all=true"),
        ] {
            assert_eq!(asked_path(&uri.parse().unwrap()).to_string(), expected);
        }
    }
}
