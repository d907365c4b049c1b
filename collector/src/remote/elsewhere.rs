//! The engine that is asked for what is not kept here: Prometheus's HTTP API over HTTP.
//!
//! A question goes out with the parameters it came with and comes back as it is, status and body.
//! The remote engine's failure (no answer, 5xx, or that we come wrongly or too often) is the caller's to
//! deal with. Nothing is merged: an answer is the other's, or ours.
//!
//! An answer is passed on by a task of its own, which holds the question's place: it ends when all is
//! passed on, when the one who asked has gone, and at the question's deadline, whoever is slow by then.
//! An answer that does not come whole is broken off, never ended as if it were all.
//!
//! Bounds: [`ANSWER_BYTES_MAX`]; as many questions at once as queries of our own, [`WAITING_MAX`] before
//! them; the caller's deadline and the endpoint's timeout.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::Url;
use stoa_daemon::error_chain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_stream::Stream;

use super::client::{Client, ClientError, complaint};
use crate::config::{RemoteReadConfig, When};

/// The longest answer that is passed through; a longer one is broken off.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Most questions that wait for their turn, as many as queries of our own.
const WAITING_MAX: usize = 1024;

/// Pieces of an answer read ahead of the one who asked.
const PIECES_AHEAD: usize = 4;

/// Says that an answer is another engine's.
pub const ANSWERED_BY: HeaderName = HeaderName::from_static("x-stoa-answered-by");

/// A question of Prometheus's API that another engine can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `query`.
    Query,
    /// `query_range`.
    QueryRange,
    /// `series`.
    Series,
    /// `labels`.
    Labels,
    /// `label/{name}/values`.
    LabelValues(String),
}

/// Why there is no answer, as far as whoever asked may know: nothing of what the other engine said, which
/// is not about the question, and nothing of how it is spoken to. The log has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The question's time is up, the wait for a turn included.
    #[error("it took too long")]
    Slow,
    /// Too many wait.
    #[error("more than {WAITING_MAX} questions to it are waiting")]
    Crowded,
    /// Our credential cannot be read or sent.
    #[error("it cannot be asked now, the log says why")]
    Unasked,
    /// No connection, or no answer over it.
    #[error("it cannot be reached, the log says why")]
    Unreached,
    /// An answer that is not about the question.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// The collector is going down.
    #[error("the collector is stopping")]
    Stopping,
}

/// What the remote engine was asked since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ElsewhereFigures {
    /// Questions it answered, refusals included, and those whose sender went away meanwhile.
    pub answered: u64,
    /// Questions it failed to answer, or not to the end.
    pub failed: u64,
}

/// The remote engine; clones are the same.
#[derive(Clone, Debug)]
pub struct Elsewhere(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    when: When,
    places: Arc<Semaphore>,
    waiting: Semaphore,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Elsewhere {
    /// The engine of a configuration, asked at most `concurrency_max` questions at once.
    ///
    /// # Errors
    /// [`ClientError`] when the files of its TLS cannot be used.
    pub fn new(config: &RemoteReadConfig, concurrency_max: usize) -> Result<Self, ClientError> {
        let places = concurrency_max.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self(Arc::new(Shared {
            client: Client::new(&config.endpoint)?,
            when: config.when,
            places: Arc::new(Semaphore::new(places)),
            waiting: Semaphore::new(WAITING_MAX),
            answered: AtomicU64::default(),
            failed: AtomicU64::default(),
        })))
    }

    /// What it is asked.
    #[must_use]
    pub fn when(&self) -> When {
        self.0.when
    }

    /// Its host, to name it by.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.client.url().host_str().unwrap_or("")
    }

    /// What it was asked since the start.
    #[must_use]
    pub fn figures(&self) -> ElsewhereFigures {
        let Shared { answered, failed, .. } = &*self.0;
        ElsewhereFigures { answered: answered.load(Relaxed), failed: failed.load(Relaxed) }
    }

    /// Its answer, or why there is none. The wait for a turn and the whole answer are over at `deadline`.
    ///
    /// # Errors
    /// When it cannot be reached, takes too long, answers 3xx, 5xx or a 4xx that is not about the
    /// question, or too many wait.
    pub async fn ask<E: Ends>(
        &self,
        question: &Question,
        params: &[(String, String)],
        deadline: Instant,
        listed: E,
    ) -> Result<Response, Failure> {
        let begun = timeout_at(deadline, self.begin(question, params)).await;
        match begun.unwrap_or_else(|_elapsed| Err((Failure::Slow, String::new()))) {
            Ok((response, turn)) => Ok(self.passed_on(response, (turn, listed), deadline)),
            Err((failure, detail)) => {
                listed.end("not answered elsewhere");
                self.0.failed.fetch_add(1, Relaxed);
                let host = self.host();
                tracing::warn!(host, %failure, detail, "the remote engine did not answer");
                Err(failure)
            }
        }
    }

    /// The head of an answer, with the place the question takes; or why there is none, and more of it for
    /// the log.
    async fn begin(
        &self,
        question: &Question,
        params: &[(String, String)],
    ) -> Result<(reqwest::Response, OwnedSemaphorePermit), (Failure, String)> {
        let turn = self.turn().await.map_err(|failure| (failure, String::new()))?;
        let client = &self.0.client;
        let url = url_of(client.url(), question);
        // Only this one is not taken as a form by all.
        let by_get = matches!(question, Question::LabelValues(_));
        let method = if by_get { Method::GET } else { Method::POST };
        let request = client.request(method, url).await;
        let request = request.map_err(|error| (Failure::Unasked, error_chain(&error)))?;
        let request = if by_get { request.query(params) } else { request.form(params) };
        let response = request.send().await.map_err(|error| {
            let failure = if error.is_timeout() { Failure::Slow } else { Failure::Unreached };
            (failure, error_chain(&error.without_url()))
        })?;
        let status = response.status();
        if is_failure(status) {
            return Err((Failure::Status(status), complaint(response).await));
        }
        Ok((response, turn))
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let places = Arc::clone(&self.0.places);
        let _waiting = self.0.waiting.try_acquire().map_err(|_full| Failure::Crowded)?;
        places.acquire_owned().await.map_err(|_closed| Failure::Stopping)
    }

    fn passed_on<E: Ends>(
        &self,
        response: reqwest::Response,
        (turn, listed): (OwnedSemaphorePermit, E),
        deadline: Instant,
    ) -> Response {
        let json = HeaderValue::from_static("application/json");
        let kind = response.headers().get(header::CONTENT_TYPE).cloned().unwrap_or(json);
        let (pieces, passing) = mpsc::channel(PIECES_AHEAD);
        let status = response.status();
        let elsewhere = self.clone();
        tokio::spawn(async move {
            elsewhere.pass_on(response, pieces, deadline, &listed).await;
            drop((turn, listed));
        });
        let mut answer = Response::new(Body::from_stream(Passing { pieces: passing, over: false }));
        *answer.status_mut() = status;
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Ok(by) = HeaderValue::from_str(self.host()) {
            answer.headers_mut().insert(ANSWERED_BY, by);
        }
        answer
    }

    /// Passes an answer on, and counts what became of the question.
    async fn pass_on(
        &self,
        response: reqwest::Response,
        pieces: Pieces,
        deadline: Instant,
        listed: &impl Ends,
    ) {
        let outcome = pass(response, &pieces, deadline).await;
        // Counted before the end is told: who has the answer finds it counted.
        let counter = if outcome.is_ok() { &self.0.answered } else { &self.0.failed };
        counter.fetch_add(1, Relaxed);
        match outcome {
            Ok(Passed::All) => {
                // An error is that nobody reads any more.
                listed.end("answered elsewhere");
                let _told = timeout_at(deadline, pieces.send(None)).await;
            }
            Ok(Passed::NotTaken) => {}
            Err(why) => {
                listed.end("broken off elsewhere");
                let host = self.host();
                tracing::warn!(host, why, "an answer of the remote engine is broken off");
            }
        }
    }
}

/// Who is told how a question ended.
pub trait Ends: Send + Sync + 'static {
    /// It has ended, in this way.
    fn end(&self, outcome: &str);
}

/// The pieces of an answer; `None` after the last, without which it is not whole.
type Pieces = mpsc::Sender<Option<Bytes>>;

/// How passing on an answer ended when it was not the engine's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    All,
    /// The one who asked went away, or did not read in time.
    NotTaken,
}

async fn pass(
    mut response: reqwest::Response,
    pieces: &Pieces,
    deadline: Instant,
) -> Result<Passed, String> {
    let mut left = ANSWER_BYTES_MAX;
    loop {
        let read = tokio::select! {
            read = timeout_at(deadline, response.chunk()) => read,
            () = pieces.closed() => return Ok(Passed::NotTaken),
        };
        let read = read.map_err(|_elapsed| "it took too long".to_owned())?;
        let read = read.map_err(|error| error_chain(&error.without_url()))?;
        let Some(piece) = read else { return Ok(Passed::All) };
        let too_long = || format!("it is longer than {} MiB", ANSWER_BYTES_MAX >> 20);
        left = left.checked_sub(piece.len()).ok_or_else(too_long)?;
        if !matches!(timeout_at(deadline, pieces.send(Some(piece))).await, Ok(Ok(()))) {
            return Ok(Passed::NotTaken);
        }
    }
}

/// An answer as it is passed on; ends with an error when it is not whole.
struct Passing {
    pieces: mpsc::Receiver<Option<Bytes>>,
    over: bool,
}

impl Stream for Passing {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(cx).map(|received| {
            self.over = !matches!(received, Some(Some(_)));
            match received {
                Some(piece) => piece.map(Ok),
                None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        })
    }
}

/// Whether a status says nothing about what is asked: the engine fails, has too much to do, or does not
/// take how we come.
fn is_failure(status: StatusCode) -> bool {
    match status.as_u16() {
        401 | 403 | 404 | 405 | 407 | 408 | 425 | 429 => true,
        _ => !(status.is_success() || status.is_client_error()),
    }
}

fn url_of(base: &Url, question: &Question) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["api", "v1"]);
        match question {
            Question::Query => path.push("query"),
            Question::QueryRange => path.push("query_range"),
            Question::Series => path.push("series"),
            Question::Labels => path.push("labels"),
            Question::LabelValues(name) => path.extend(["label", name, "values"]),
        };
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_go_below_what_is_configured() {
        let check = |base: &str, question: Question, expected: &str| {
            assert_eq!(url_of(&Url::parse(base).unwrap(), &question).as_str(), expected);
        };
        check("http://vm:8428", Question::Query, "http://vm:8428/api/v1/query");
        check(
            "http://m/prometheus/",
            Question::QueryRange,
            "http://m/prometheus/api/v1/query_range",
        );
        let values = Question::LabelValues("a/b".to_owned());
        check(
            "http://c/select/0/prometheus",
            values,
            "http://c/select/0/prometheus/api/v1/label/a%2Fb/values",
        );
    }
}
