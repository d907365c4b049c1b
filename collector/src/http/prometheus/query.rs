//! Questions in PromQL: `query`, `query_range`.

use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_promql::{Answer, Engine, QueryError, Value};

use super::params::{Params, duration};
use super::reply::{ApiError, ErrorKind, Success};
use super::reuse::Question;
use super::stats::{Asking, Stats, Wanted};
use super::{Shared, Work};

/// `/api/v1/query`: the value at one instant.
///
/// # Errors
/// Of its parameters.
pub(super) fn query(prometheus: &Arc<Shared>, params: &Params) -> Result<Work, ApiError> {
    let limit = params.limit("limit")?;
    let engine = engine(prometheus, params)?;
    let at = params.time_or("time", prometheus.now_ms())?;
    let text = params.get("query").unwrap_or("").to_owned();
    let stats = Wanted::of(params);
    let asked = Arc::clone(prometheus);
    Ok(Box::new(move |stop| {
        let view = asked.store.view().until(stop.flag()).by(stop.deadline());
        let asking = Asking::new(&view, stop, stats);
        let answer = engine.instant(&asking, &text, at, &asking).map_err(refused)?;
        let stats = asking.stats(&answer);
        Ok(printed(answer, limit, stats).warnings(view.warnings()))
    }))
}

/// `/api/v1/query_range`: the values over a range, one per step.
///
/// # Errors
/// Of its parameters.
pub(super) fn query_range(prometheus: &Arc<Shared>, params: &Params) -> Result<Work, ApiError> {
    let limit = params.limit("limit")?;
    let engine = engine(prometheus, params)?;
    let range = Range::of(params)?;
    let text = params.get("query").unwrap_or("").to_owned();
    let stats = Wanted::of(params);
    // Whose figures are wanted is evaluated as a whole.
    let may_reuse = stats == Wanted::Nothing && !is_set(params, "nocache");
    let asked = Arc::clone(prometheus);
    Ok(Box::new(move |stop| {
        let view = asked.store.view().until(stop.flag()).by(stop.deadline());
        let asking = Asking::new(&view, stop, stats);
        let answer = if may_reuse {
            let question = Question { engine, text: &text, range, now_ms: asked.now_ms() };
            asked.reuse.answer(&question, &view, &asking)
        } else {
            engine.range(&asking, &text, range.start, range.end, range.step, &asking)
        };
        let answer = answer.map_err(refused)?;
        let stats = asking.stats(&answer);
        Ok(printed(answer, limit, stats).warnings(view.warnings()))
    }))
}

/// Whether a parameter says yes, as VictoriaMetrics reads it.
fn is_set(params: &Params, name: &str) -> bool {
    let value = params.get(name).unwrap_or("").to_ascii_lowercase();
    !matches!(value.as_str(), "" | "0" | "f" | "false" | "no")
}

/// The engine, with the lookback a request asks for.
///
/// # Errors
/// [`ApiError`] `bad_data` when that is no duration.
pub(super) fn engine(prometheus: &Shared, params: &Params) -> Result<Engine, ApiError> {
    with_lookback(prometheus.engine, params)
}

/// The same of another engine.
///
/// # Errors
/// As of [`engine`].
pub(super) fn with_lookback(engine: Engine, params: &Params) -> Result<Engine, ApiError> {
    let lookback_ms = params.get("lookback_delta").map(duration).transpose().map_err(|error| {
        ApiError::bad_data(format!("error parsing lookback delta duration: {error}"))
    })?;
    Ok(engine.with_lookback(lookback_ms))
}

/// The range of a query, in milliseconds: in order, with a step forward. How many steps there may be
/// is the engine's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: TimestampMs,
    pub(super) end: TimestampMs,
    pub(super) step: i64,
}

impl Range {
    pub(super) fn of(params: &Params) -> Result<Self, ApiError> {
        let (start, end) = (params.time("start")?, params.time("end")?);
        if end < start {
            let reason = "end timestamp must not be before start time";
            return Err(ApiError::invalid("end", reason));
        }
        let step = params
            .duration_ms("step")?
            .ok_or_else(|| ApiError::invalid("step", "cannot parse \"\" to a valid duration"))?;
        if step <= 0 {
            return Err(ApiError::invalid(
                "step",
                "zero or negative query resolution step widths are not accepted. \
                 Try a positive integer",
            ));
        }
        Ok(Self { start, end, step })
    }
}

pub(super) fn printed(answer: Answer, limit: Option<usize>, stats: Option<Stats>) -> Success {
    let mut found = answer.value;
    let cut = limit.is_some_and(|limit| cut(&mut found, limit));
    Success::value(found, |out| {
        if let Some(stats) = &stats {
            out.extend_from_slice(br#","stats":"#);
            stats.write(out);
        }
    })
    .warnings(answer.warnings)
    .truncated(cut)
    .infos(answer.infos)
}

/// Cuts a list to `limit` series; says whether there was something to cut.
fn cut(value: &mut Value, limit: usize) -> bool {
    match value {
        Value::Vector(list) if list.len() > limit => list.truncate(limit),
        Value::Matrix(list) if list.len() > limit => list.truncate(limit),
        _ => return false,
    }
    true
}

/// Why a query has no value, in Prometheus's terms.
pub(super) fn refused(error: QueryError) -> ApiError {
    match error {
        QueryError::Parse(_) => ApiError::invalid("query", error),
        QueryError::TooManyPoints { .. } => ApiError::bad_data(error.to_string()),
        QueryError::Cancelled => ApiError::new(ErrorKind::Canceled, error.to_string()),
        QueryError::Execution(_)
        | QueryError::TooManySamples { .. }
        | QueryError::TooManyBytes { .. }
        | QueryError::TooManySeries { .. } => {
            ApiError::new(ErrorKind::Execution, error.to_string())
        }
        QueryError::Storage(_) => {
            let message = stoa_daemon::error_chain(&error);
            tracing::error!(error = message, "a query could not read the store");
            ApiError::new(ErrorKind::Internal, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: Result<(i64, i64, i64), &str>) {
        let params = Params::parse(b"", query.as_bytes()).unwrap();
        let range = Range::of(&params).map(|range| (range.start, range.end, range.step));
        assert_eq!(range.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn a_parameter_says_yes_or_no() {
        let is_set =
            |query: &str| is_set(&Params::parse(b"", query.as_bytes()).unwrap(), "nocache");
        for yes in ["nocache=1", "nocache=true", "nocache=yes", "nocache=x"] {
            assert!(is_set(yes), "{yes}");
        }
        for no in ["", "nocache", "nocache=0", "nocache=False", "nocache=no", "other=1"] {
            assert!(!is_set(no), "{no}");
        }
    }

    #[test]
    fn ranges_go_forward() {
        check("start=1&end=2&step=0.5", Ok((1000, 2000, 500)));
        check("start=1&end=1&step=15s", Ok((1000, 1000, 15_000)));
        check(
            "start=2&end=1&step=1",
            Err("invalid parameter \"end\": end timestamp must not be before start time"),
        );
        let forward = "invalid parameter \"step\": zero or negative query resolution step widths \
                       are not accepted. Try a positive integer";
        check("start=1&end=2&step=0", Err(forward));
        check("start=1&end=2&step=-1", Err(forward));
        check(
            "start=1&end=2",
            Err("invalid parameter \"step\": cannot parse \"\" to a valid duration"),
        );
        check(
            "end=2&step=1",
            Err("invalid parameter \"start\": cannot parse \"\" to a valid timestamp"),
        );
    }
}
