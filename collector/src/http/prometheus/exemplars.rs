//! `query_exemplars`: the exemplars of the series that a query reads.

use std::sync::Arc;

use axum::extract::State;
use stoa_promql::selector_groups;

use super::active::Asked;
use super::params::{Params, TIME_MAX_MS, TIME_MIN_MS};
use super::reply::{ApiError, ErrorKind, Success};
use super::{Shared, Stop, json};
use crate::store::Exemplar;

/// Selectors of one question, at most.
const SELECTORS_MAX: usize = 100;

/// The exemplars of a range of time, by series.
///
/// # Errors
/// Of its parameters.
pub(super) async fn query_exemplars(
    State(prometheus): State<Arc<Shared>>,
    params: Params,
) -> Result<Success, ApiError> {
    let start = params.time_or("start", TIME_MIN_MS)?;
    let end = params.time_or("end", TIME_MAX_MS)?;
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let text = params.get("query").unwrap_or("").to_owned();
    let asked = Arc::clone(&prometheus);
    let of = Asked::new("/api/v1/query_exemplars", text.clone(), prometheus.now_ms());
    let work = move |stop: &Stop| {
        // Patterns are compiled here: it may take a while.
        let sets = selector_groups(&text).map_err(|error| ApiError::bad_data(error.to_string()))?;
        if sets.len() > SELECTORS_MAX {
            return Err(ApiError::bad_data(format!("more than {SELECTORS_MAX} selectors")));
        }
        let found = asked.store.exemplars().select(&sets, start, end, &|| stop.asked());
        let gone = || ApiError::new(ErrorKind::Canceled, "nobody waits for the answer");
        let found = found.ok_or_else(gone)?;
        Ok(Success::data(|out| {
            json::each(out, &found, |out, (series, exemplars)| {
                out.extend_from_slice(b"{\"seriesLabels\":");
                json::labels(out, series);
                out.extend_from_slice(b",\"exemplars\":");
                json::each(out, exemplars, print);
                out.push(b'}');
            });
        }))
    };
    prometheus.gate.run(of, prometheus.gate.timeout_max(), work).await
}

fn print(out: &mut Vec<u8>, exemplar: &Exemplar) {
    out.extend_from_slice(b"{\"labels\":");
    json::labels(out, &exemplar.labels);
    out.extend_from_slice(b",\"value\":\"");
    json::float(out, exemplar.value);
    out.extend_from_slice(b"\",\"timestamp\":");
    json::timestamp(out, exemplar.t_ms);
    out.push(b'}');
}
