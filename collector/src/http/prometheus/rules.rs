//! `rules`, `alerts`, `alertmanagers`: the shapes Grafana and others ask for. No rules are evaluated yet,
//! so there are none of either; what a request asks for is checked all the same, with Prometheus's words.

use std::sync::Arc;

use axum::extract::State;

use super::Shared;
use super::active::Asked;
use super::params::Params;
use super::reply::{ApiError, Success};

/// `/api/v1/rules`.
///
/// # Errors
/// Of its parameters.
pub(super) async fn rules(
    State(prometheus): State<Arc<Shared>>,
    params: Params,
) -> Result<Success, ApiError> {
    if let Some(kind) = params.get("type")
        && !matches!(&*kind.to_ascii_lowercase(), "alert" | "record")
    {
        return Err(ApiError::invalid("type", format!("not supported value {kind:?}")));
    }
    if let Some(text) = params.get("exclude_alerts")
        && !is_bool(text)
    {
        let reason = format!(
            "error converting exclude_alerts: strconv.ParseBool: parsing {text:?}: invalid syntax"
        );
        return Err(ApiError::invalid("exclude_alerts", reason));
    }
    if params.all("match[]").next().is_some() {
        // Patterns are compiled, which may take a while.
        let text = params.all("match[]").collect::<Vec<_>>().join(" ");
        let asked = Asked::new("/api/v1/rules", text, prometheus.now_ms());
        let given = params.clone();
        let work = move |_: &_| given.selectors().map(drop).map_err(ApiError::bad_data);
        prometheus.gate.run(asked, prometheus.gate.timeout_max(), work).await?;
    }
    page(&params)?;
    Ok(Success::data(|out| out.extend_from_slice(br#"{"groups":[]}"#)))
}

/// The page asked for: of no groups there is but the first.
fn page(params: &Params) -> Result<(), ApiError> {
    let (limit, token) = ("group_limit", "group_next_token");
    let next = params.get(token);
    let Some(text) = params.get(limit) else {
        let reason = "group_limit needs to be present in order to paginate over the groups";
        return next.map_or(Ok(()), |_| Err(ApiError::invalid(token, reason)));
    };
    let number: i32 = text.parse().map_err(|_says_less| {
        let reason = format!(
            "group_limit needs to be a valid number: strconv.ParseInt: parsing {text:?}: \
             invalid syntax"
        );
        ApiError::invalid(limit, reason)
    })?;
    if number <= 0 {
        return Err(ApiError::invalid(limit, "group_limit needs to be greater than 0"));
    }
    next.map_or(Ok(()), |next| {
        let reason = format!("invalid group_next_token '{next}'. were rule groups changed?");
        Err(ApiError::invalid(token, reason))
    })
}

/// What Go's `strconv.ParseBool` takes.
fn is_bool(text: &str) -> bool {
    let words = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
    words.contains(&text)
}

/// `/api/v1/alerts`: no rules, no alerts.
pub(super) async fn alerts() -> Success {
    Success::data(|out| out.extend_from_slice(br#"{"alerts":[]}"#))
}

/// `/api/v1/alertmanagers`: notifications are sent by nobody yet, so to none.
pub(super) async fn alertmanagers() -> Success {
    Success::data(|out| {
        out.extend_from_slice(br#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#);
    })
}
