//! Questions, and who answers them: the store, or, for what is not kept here, another engine where one is
//! configured (`storage.remote`).
//!
//! With `outside_local` it is asked what reaches more than five minutes before the time from which on
//! everything that came is here ([`StoreView::whole_since`](crate::store::StoreView::whole_since)): for
//! names that is their `start`, for a query the earliest sample that any of its selectors wants, its
//! ranges, offsets and `@` included. Where it fails, the answer is ours, with a warning that says so.
//! With `always` it is asked everything, and its failure is an error.
//!
//! How far a query reaches is found by asking it of nothing, in the turn in which it is answered if it is
//! answered here: one of many steps or deep subqueries costs something even so.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use stoa_model::TimestampMs;
use stoa_promql::{Engine, QueryError, Select, Series, Storage, StorageError};
use tokio::time::Instant;

use super::active::Asked;
use super::params::{Params, TIME_MIN_MS};
use super::reply::{ApiError, ErrorKind, Success};
use super::{Shared, Stop, Work, at_once, in_place, query, series};
use crate::config::When;
use crate::remote::Question;

/// What a question may reach before that time and still be answered here: Prometheus's lookback.
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
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Response {
    match name {
        Ok(Path(name)) => answered(state, Question::LabelValues(name), params).await,
        Err(refused) => ApiError::bad_data(format!("invalid label name: {}", refused.body_text()))
            .into_response(),
    }
}

async fn answered(state: State<Arc<Shared>>, question: Question, params: Params) -> Response {
    match answer(&state, question, params).await {
        Ok(answer) => answer,
        Err(error) => error.into_response(),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    question: Question,
    params: Params,
) -> Result<Response, ApiError> {
    let timeout = params.timeout(shared.gate.timeout_max())?;
    let Some(elsewhere) = shared.elsewhere.clone() else {
        if question == Question::Query
            && let Some(answer) = at_once::answer(shared, &params)
        {
            return Ok(answer.into_response());
        }
        let mut work = here(shared, &question, &params)?;
        if matches!(question, Question::Query | Question::QueryRange) {
            if let Some(answer) = in_place::answer(shared, &params, work) {
                return Ok(answer.into_response());
            }
            work = here(shared, &question, &params)?;
        }
        let asked = asked(shared, &question, &params);
        return shared.gate.run(asked, timeout, work).await.map(Success::into_response);
    };
    let deadline = Instant::now() + timeout;
    if elsewhere.when() == When::OutsideLocal
        && let Some(answer) = unless_beyond(shared, &question, &params, timeout).await?
    {
        return Ok(answer.into_response());
    }
    let listed = shared.gate.list(asked(shared, &question, &params));
    let failure = match elsewhere.ask(&question, params.pairs(), deadline, listed).await {
        Ok(answer) => return Ok(answer),
        Err(failure) => failure,
    };
    let host = elsewhere.host();
    if elsewhere.when() == When::Always {
        let message = format!("the remote engine {host} did not answer: {failure}");
        return Err(ApiError::new(ErrorKind::Unavailable, message));
    }
    let warning = format!(
        "the remote engine {host} did not answer, this is only what is kept here: {failure}"
    );
    let work = here(shared, &question, &params)?;
    let answer = shared.gate.run(asked(shared, &question, &params), timeout, work).await?;
    Ok(answer.warnings([warning]).into_response())
}

/// What answers a question from what is kept here.
///
/// # Errors
/// Of its parameters.
fn here(shared: &Arc<Shared>, question: &Question, params: &Params) -> Result<Work, ApiError> {
    match question {
        Question::Query => query::query(shared, params),
        Question::QueryRange => query::query_range(shared, params),
        Question::Series => series::series(shared, params),
        Question::Labels => series::labels(shared, params),
        Question::LabelValues(name) => series::label_values(shared, name, params),
    }
}

/// The answer from here, or `None` when it is the other engine's to give. A question that cannot be read
/// is not: it is refused here.
///
/// # Errors
/// As those of the answer from here; when it takes too long, or too many wait.
async fn unless_beyond(
    asked: &Arc<Shared>,
    question: &Question,
    params: &Params,
    timeout: Duration,
) -> Result<Option<Success>, ApiError> {
    let now_ms = asked.now_ms();
    let of = self::asked(asked, question, params);
    let (shared, question, params) = (Arc::clone(asked), question.clone(), params.clone());
    let work = here(asked, &question, &params)?;
    let engine = query::engine(asked, &params)?;
    let look = move |stop: &Stop| {
        let reach = reach(&engine, &question, &params, now_ms, stop);
        // Where a clock was ahead when it began, what comes now is here all the same.
        let whole_since = shared.store.view().whole_since().min(now_ms);
        let border = whole_since.saturating_sub(LOOKBACK_MS);
        let is_beyond = matches!(reach, Ok(Some(reach)) if reach < border);
        // One that was told to stop has nobody who waits for this.
        if is_beyond { Ok(None) } else { work(stop).map(Some) }
    };
    asked.gate.run(of, timeout, look).await
}

/// A question, for people to recognize.
fn asked(shared: &Shared, question: &Question, params: &Params) -> Asked {
    let path = match question {
        Question::Query => "/api/v1/query",
        Question::QueryRange => "/api/v1/query_range",
        Question::Series => "/api/v1/series",
        Question::Labels => "/api/v1/labels",
        Question::LabelValues(_) => "/api/v1/label/{name}/values",
    };
    let text = match question {
        Question::Query | Question::QueryRange => params.get("query").unwrap_or("").to_owned(),
        _ => params.all("match[]").collect::<Vec<_>>().join(" "),
    };
    Asked::new(path, text, shared.now_ms())
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
