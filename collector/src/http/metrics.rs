//! `/metrics`: the collector's own figures, for whoever scrapes; in OpenMetrics 1.0 for those who ask for
//! it, else in the text format.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use stoa_exchange::exposition;
use stoa_model::Family;

use super::negotiate::{Agreed, Form};
use super::routes::{Routes, Scope};

/// Reads the figures as families; called on a thread that may block.
pub type Figures = Arc<dyn Fn() -> Vec<Family> + Send + Sync>;

/// The route.
pub fn routes(figures: Figures) -> Routes {
    Routes::new().get("/metrics", Scope::Read, page).with_state(figures)
}

async fn page(State(figures): State<Figures>, headers: HeaderMap) -> Response {
    let agreed = Agreed::of(&headers, &[Form::OpenMetrics, Form::Text]);
    let page = tokio::task::spawn_blocking(move || {
        let mut page = Vec::new();
        exposition::write_as(figures(), agreed.format(), &mut page).map(|()| page)
    });
    match page.await {
        Ok(Ok(page)) => ([(header::CONTENT_TYPE, agreed.content_type())], page).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
