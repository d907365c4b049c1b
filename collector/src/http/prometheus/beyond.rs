//! Questions that reach beyond what is kept here, which another engine answers when one is configured
//! (`storage.remote`).
//!
//! With `outside_local` it is asked what reaches more than five minutes before the oldest sample here:
//! for names that is their `start`, for a query the earliest sample that any of its selectors wants, its
//! ranges, offsets and `@` included. Where it fails, the answer is ours, with a warning that says so.
//! With `always` it is asked everything, and its failure is an error.
//!
//! How far a query reaches is found by asking it of nothing, which takes a turn and has a deadline as any
//! query: one of many steps or deep subqueries costs something even so.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use stoa_model::TimestampMs;
use stoa_promql::{Engine, QueryError, Select, Series, Storage, StorageError};
use tokio::time::Instant;

use super::params::{Params, TIME_MIN_MS};
use super::reply::{ApiError, ErrorKind, Success};
use super::{Shared, Stop, query, series};
use crate::config::When;
use crate::remote::{Elsewhere, Question};

/// What a question may reach before the oldest sample and still be answered here: Prometheus's lookback.
/// Else each would go out in a collector's first minutes.
const LOOKBACK_MS: i64 = 300_000;

pub(super) async fn query(state: State<Arc<Shared>>, params: Params) -> Response {
    answered(state, Question::Query, params).await
}

pub(super) async fn query_range(state: State<Arc<Shared>>, params: Params) -> Response {
    answered(state, Question::QueryRange, params).await
}

pub(super) async fn series(state: State<Arc<Shared>>, params: Params) -> Response {
    answered(state, Question::Series, params).await
}

pub(super) async fn labels(state: State<Arc<Shared>>, params: Params) -> Response {
    answered(state, Question::Labels, params).await
}

pub(super) async fn label_values(
    state: State<Arc<Shared>>,
    Path(name): Path<String>,
    params: Params,
) -> Response {
    answered(state, Question::LabelValues(name), params).await
}

async fn answered(state: State<Arc<Shared>>, question: Question, params: Params) -> Response {
    let Some(elsewhere) = state.elsewhere.clone() else {
        return here(state, question, params).await.into_response();
    };
    let timeout = match params.timeout(state.gate.timeout_max()) {
        Ok(timeout) => timeout,
        Err(error) => return error.into_response(),
    };
    let deadline = Instant::now() + timeout;
    match is_beyond(&state, &elsewhere, &question, &params, deadline).await {
        Ok(true) => {}
        Ok(false) => return here(state, question, params).await.into_response(),
        Err(error) => return error.into_response(),
    }
    let why = match elsewhere.ask(&question, params.pairs(), deadline).await {
        Ok(answer) => return answer,
        Err(why) => why,
    };
    let host = elsewhere.host().to_owned();
    tracing::warn!(host, why, "the remote engine did not answer");
    if elsewhere.when() == When::Always {
        let message = format!("the remote engine {host} did not answer: {why}");
        return ApiError::new(ErrorKind::Unavailable, message).into_response();
    }
    let warning =
        format!("the remote engine {host} did not answer, this is only what is kept here: {why}");
    let answer = here(state, question, params).await;
    answer.map(|answer| answer.warnings([warning])).into_response()
}

async fn here(
    state: State<Arc<Shared>>,
    question: Question,
    params: Params,
) -> Result<Success, ApiError> {
    match question {
        Question::Query => query::query(state, params).await,
        Question::QueryRange => query::query_range(state, params).await,
        Question::Series => series::series(state, params).await,
        Question::Labels => series::labels(state, params).await,
        Question::LabelValues(name) => series::label_values(state, Path(name), params).await,
    }
}

/// Whether a question goes to the other engine. One that cannot be read does not: it is refused here.
///
/// # Errors
/// When finding out takes too long, or too many wait.
async fn is_beyond(
    shared: &Arc<Shared>,
    elsewhere: &Elsewhere,
    question: &Question,
    params: &Params,
    deadline: Instant,
) -> Result<bool, ApiError> {
    if elsewhere.when() == When::Always {
        return Ok(true);
    }
    let (asked, now_ms) = (shared, shared.now_ms());
    let (shared, question, params) = (Arc::clone(shared), question.clone(), params.clone());
    let look = move |stop: &Stop| match reach(&shared.engine, &question, &params, now_ms, stop) {
        Ok(Some(reach)) => {
            let oldest = shared.store.view().oldest();
            let border = oldest.map(|oldest| oldest.saturating_sub(LOOKBACK_MS));
            Ok(border.is_none_or(|border| reach < border))
        }
        // One that was told to stop has nobody who waits for this.
        Ok(None) | Err(Unknown::Unreadable | Unknown::Stopped) => Ok(false),
    };
    asked.gate.run(deadline.saturating_duration_since(Instant::now()), look).await
}

/// Why it is not known how far a question reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    /// It cannot be read.
    Unreadable,
    /// It was told to stop.
    Stopped,
}

/// The earliest time a question wants something of; `None` when it wants nothing.
fn reach(
    engine: &Engine,
    question: &Question,
    params: &Params,
    now_ms: TimestampMs,
    stop: &Stop,
) -> Result<Option<TimestampMs>, Unknown> {
    let text = params.get("query").unwrap_or("");
    let probe = Probe(AtomicI64::new(i64::MAX));
    let unreadable = |_refused: ApiError| Unknown::Unreadable;
    let is_asked = || stop.asked();
    let asked = match question {
        Question::Query => {
            let at = params.time_or("time", now_ms).map_err(unreadable)?;
            engine.instant(&probe, text, at, &is_asked)
        }
        Question::QueryRange => {
            let query::Range { start, end, step } = query::Range::of(params).map_err(unreadable)?;
            engine.range(&probe, text, start, end, step, &is_asked)
        }
        Question::Series | Question::Labels | Question::LabelValues(_) => {
            return params.time_or("start", TIME_MIN_MS).map(Some).map_err(unreadable);
        }
    };
    match asked {
        Ok(_nothing) => Ok(Some(probe.0.into_inner()).filter(|earliest| *earliest != i64::MAX)),
        Err(QueryError::Cancelled) => Err(Unknown::Stopped),
        Err(_refused) => Err(Unknown::Unreadable),
    }
}

/// A storage of nothing that remembers from when on it was asked.
struct Probe(AtomicI64);

impl Storage for Probe {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.0.fetch_min(select.start_ms, Relaxed);
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use stoa_promql::Limits;

    use super::*;

    #[test]
    fn a_question_reaches_as_far_as_its_selectors() {
        let check = |question: Question, params: &str, expected: Option<i64>| {
            let params = Params::parse(b"", params.as_bytes()).unwrap();
            let engine = Engine::new(Limits::default());
            let found = reach(&engine, &question, &params, 9_000_000, &Stop::said(false)).unwrap();
            // A selector wants what is after its start.
            let near = |ms: i64| (ms - 1..=ms + 1).contains(&found.unwrap_or(i64::MAX));
            assert!(expected.map_or(found.is_none(), |s| near(s * 1000)), "{params:?}: {found:?}");
        };
        check(Question::Query, "query=up&time=5000", Some(4700));
        check(Question::Query, "query=up", Some(8700));
        check(Question::Query, "query=1%2B1", None);
        check(Question::Query, "query=rate(x[30m])%2By%20offset%202h&time=9000", Some(1500));
        check(Question::Query, "query=x%20%40%20600&time=9000", Some(300));
        // The first whole minute of the hour is 5460.
        check(Question::Query, "query=max_over_time(rate(x[5m])[1h:1m])&time=9000", Some(5160));
        check(
            Question::QueryRange,
            "query=a%20and%20rate(b[1h])&start=8000&end=9000&step=10",
            Some(4400),
        );
        check(Question::Labels, "start=70", Some(70));
        let params = Params::parse(b"", b"query=(").unwrap();
        let engine = Engine::new(Limits::default());
        let found = reach(&engine, &Question::Query, &params, 0, &Stop::said(false));
        assert_eq!(found, Err(Unknown::Unreadable));
    }

    #[test]
    fn finding_out_ends_when_it_is_told_to() {
        let params = Params::parse(b"", b"query=max_over_time(vector(1)[1d:1s])").unwrap();
        let engine = Engine::new(Limits::default());
        let found = reach(&engine, &Question::Query, &params, 9_000_000, &Stop::said(true));
        assert_eq!(found, Err(Unknown::Stopped));
    }
}
