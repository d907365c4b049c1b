//! The engine that is asked for what is not kept here: Prometheus's HTTP API over HTTP.
//!
//! A question goes out with the parameters it came with and comes back as it is, status and body.
//! The remote engine's failure (no answer, or 5xx) is the caller's to deal with. Nothing is merged: an
//! answer is the other's, or ours.
//!
//! Bounds: [`ANSWER_BYTES_MAX`]; as many questions at once as queries of our own; the endpoint's timeout.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::Url;
use stoa_daemon::error_chain;
use tokio::sync::Semaphore;
use tokio_stream::StreamExt as _;

use super::client::{Client, ClientError, complaint};
use crate::config::{RemoteReadConfig, When};

/// The longest answer that is passed through; a longer one is broken off.
const ANSWER_BYTES_MAX: usize = 256 << 20;

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

/// What the remote engine was asked since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ElsewhereFigures {
    /// Questions it answered, refusals included.
    pub answered: u64,
    /// Questions it failed to answer.
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

    /// Its answer, or in one line why there is none.
    ///
    /// # Errors
    /// When it cannot be reached, takes too long, or answers 3xx, 401, 403, 404 or 5xx.
    pub async fn ask(
        &self,
        question: &Question,
        params: &[(String, String)],
    ) -> Result<Response, String> {
        let answer = self.answer(question, params).await;
        let counter = if answer.is_ok() { &self.0.answered } else { &self.0.failed };
        counter.fetch_add(1, Relaxed);
        answer
    }

    async fn answer(
        &self,
        question: &Question,
        params: &[(String, String)],
    ) -> Result<Response, String> {
        let turn = Arc::clone(&self.0.places).acquire_owned().await;
        let turn = turn.map_err(|_closed| "the collector is stopping".to_owned())?;
        let client = &self.0.client;
        let url = url_of(client.url(), question);
        // Only this one is not taken as a form by all.
        let by_get = matches!(question, Question::LabelValues(_));
        let method = if by_get { Method::GET } else { Method::POST };
        let request = client.request(method, url).await.map_err(|error| error_chain(&error))?;
        let request = if by_get { request.query(params) } else { request.form(params) };
        let response = request.send().await.map_err(|error| error_chain(&error.without_url()))?;
        let status = response.status();
        if !(status.is_success() || status.is_client_error()) || is_setting(status) {
            return Err(format!("{status}: {}", complaint(response).await));
        }
        let json = HeaderValue::from_static("application/json");
        let kind = response.headers().get(header::CONTENT_TYPE).cloned().unwrap_or(json);
        let by = HeaderValue::from_str(self.host());
        let mut left = ANSWER_BYTES_MAX;
        let body = response.bytes_stream().map(move |chunk| {
            let _turn = &turn;
            let chunk = chunk.map_err(|error| io::Error::other(error.without_url()))?;
            left = left.checked_sub(chunk.len()).ok_or(io::ErrorKind::FileTooLarge)?;
            Ok::<_, io::Error>(chunk)
        });
        let mut answer = Response::new(Body::from_stream(body));
        *answer.status_mut() = status;
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Ok(by) = by {
            answer.headers_mut().insert(ANSWERED_BY, by);
        }
        Ok(answer)
    }
}

/// Whether a status speaks of how we come, not of what is asked.
fn is_setting(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 405 | 407)
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
