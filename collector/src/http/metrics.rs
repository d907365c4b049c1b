//! `/metrics`: the collector's own figures, for whoever scrapes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use stoa_exchange::exposition;
use stoa_model::Family;

use super::routes::{Routes, Scope};

/// Reads the figures as families; called on a thread that may block.
pub type Figures = Arc<dyn Fn() -> Vec<Family> + Send + Sync>;

/// The route.
pub fn routes(figures: Figures) -> Routes {
    Routes::new().get("/metrics", Scope::Read, page).with_state(figures)
}

async fn page(State(figures): State<Figures>) -> Response {
    let page = tokio::task::spawn_blocking(move || {
        let mut page = Vec::new();
        exposition::write(&figures(), &mut page).map(|()| page)
    });
    match page.await {
        Ok(Ok(page)) => ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], page).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
