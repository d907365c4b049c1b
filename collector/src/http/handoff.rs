//! How passing on to other engines goes: `GET /stoa/api/v1/handoff`, one line per target.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::routes::{Routes, Scope};
use crate::remote::TargetFigures;

/// Tells the figures as of now; called on a thread that may block.
pub type Told = Arc<dyn Fn() -> Vec<TargetFigures> + Send + Sync>;

/// The route.
pub fn routes(told: Told) -> Routes {
    Routes::new().get("/stoa/api/v1/handoff", Scope::Read, handoff).with_state(told)
}

async fn handoff(State(told): State<Told>) -> Response {
    match tokio::task::spawn_blocking(move || told()).await {
        Ok(figures) => Json(figures).into_response(),
        // What it broke of is in the log.
        Err(_panicked) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
