//! Questions about queries themselves: `format_query`, `parse_query`.
//!
//! Nothing is read from the store, but a query may be long and its patterns costly, so they wait for their
//! turn as queries do.

use std::sync::Arc;

use axum::extract::State;
use stoa_promql::{Features, QueryError};

use super::active::Asked;
use super::params::Params;
use super::reply::{ApiError, Success};
use super::{Shared, json};

/// `/api/v1/format_query`: the query laid out.
///
/// # Errors
/// [`ApiError`] `bad_data` when it is none.
pub(super) async fn format_query(
    State(shared): State<Arc<Shared>>,
    params: Params,
) -> Result<Success, ApiError> {
    let text = of(&shared, "/api/v1/format_query", &params, stoa_promql::format_query).await?;
    Ok(Success::data(|out| json::string(out, &text)))
}

/// `/api/v1/parse_query`: the query as a tree.
///
/// # Errors
/// [`ApiError`] `bad_data` when it is none.
pub(super) async fn parse_query(
    State(shared): State<Arc<Shared>>,
    params: Params,
) -> Result<Success, ApiError> {
    let tree = of(&shared, "/api/v1/parse_query", &params, stoa_promql::query_tree).await?;
    Ok(Success::data(|out| out.extend_from_slice(tree.as_bytes())))
}

async fn of(
    shared: &Arc<Shared>,
    path: &'static str,
    params: &Params,
    make: fn(&str, Features) -> Result<String, QueryError>,
) -> Result<String, ApiError> {
    let timeout = params.timeout(shared.gate.timeout_max())?;
    let query = params.get("query").unwrap_or("").to_owned();
    let features = shared.engine.features();
    let asked = Asked::new(path, query.clone(), shared.now_ms());
    let work =
        move |_: &_| make(&query, features).map_err(|error| ApiError::invalid("query", error));
    shared.gate.run(asked, timeout, work).await
}
