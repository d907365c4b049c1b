//! What the API tells of the collector around it: who sends here ([`Attendant`]), what is the matter
//! ([`Notice`]), and its own figures. The API asks for it ([`Surroundings`]); where it comes from it
//! does not know.
//!
//! Routes: `targets*` and `scrape_pools*`, `notifications`, `status/self_metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use stoa_model::{Family, Labels, TimestampMs};

use super::params::rfc3339;
use super::reply::{ApiError, ErrorKind, Success};
use super::{Prometheus, Shared, json, pools, self_metrics, targets};
use crate::http::routes::{Routes, Scope};

/// Someone who sends here by itself: an agent, or who pushes by remote write or OTLP.
#[derive(Clone, Debug, PartialEq)]
pub struct Attendant {
    /// What its `up` is labelled with, or would be: `job` is its pool.
    pub labels: Labels,
    /// How it is reached, for people: no address that could be opened.
    pub url: String,
    /// When it was last heard; `None` when never.
    pub seen_ms: Option<TimestampMs>,
    /// How often it sends, as far as that is known.
    pub interval: Option<Duration>,
    /// Whether it is there.
    pub health: Health,
    /// What is wrong with it; empty when nothing is.
    pub error: String,
}

/// Whether someone is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Up,
    /// No.
    Down,
    /// Nothing has been heard yet.
    Unknown,
}

impl Health {
    /// Prometheus's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// Something the people who run it should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A sentence.
    pub text: String,
    /// Since when.
    pub since_ms: TimestampMs,
}

/// The collector around the API. Called on threads that may block.
pub trait Surroundings: Send + Sync {
    /// Who sends here, as of now.
    fn attendants(&self) -> Vec<Attendant>;

    /// What is the matter now.
    fn notices(&self) -> Vec<Notice>;

    /// The collector's own figures.
    fn families(&self) -> Vec<Family>;
}

/// The API, and what is around it.
pub(super) struct About {
    pub(super) prometheus: Arc<Shared>,
    pub(super) around: Arc<dyn Surroundings>,
}

/// The routes that tell of what is around the API.
pub fn around_routes(prometheus: Prometheus, around: Arc<dyn Surroundings>) -> Routes {
    let table: Routes<Arc<About>> = Routes::new()
        .get("/api/v1/targets", Scope::Read, targets::targets)
        .get("/api/v1/targets/metadata", Scope::Read, pools::metadata)
        .get("/api/v1/targets/relabel_steps", Scope::Read, pools::relabel_steps)
        .get("/api/v1/scrape_pools", Scope::Read, pools::scrape_pools)
        .get("/api/v1/scrape_pools/config", Scope::Read, pools::config)
        .get("/api/v1/notifications", Scope::Read, notifications)
        .get("/api/v1/status/self_metrics", Scope::Read, self_metrics::self_metrics);
    table.with_state(Arc::new(About { prometheus: prometheus.0, around }))
}

/// Asks the surroundings on a thread that may block.
pub(super) async fn ask<T: Send + 'static>(
    about: &Arc<About>,
    question: impl FnOnce(&dyn Surroundings) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let about = Arc::clone(about);
    let answer = tokio::task::spawn_blocking(move || question(&*about.around)).await;
    answer.map_err(|_panicked| {
        ApiError::new(ErrorKind::Internal, "the request failed inside the collector")
    })
}

/// `/api/v1/notifications`: what is the matter now. What is over is not kept.
async fn notifications(State(about): State<Arc<About>>) -> Result<Success, ApiError> {
    let notices = ask(&about, |around| around.notices()).await?;
    Ok(Success::data(|out| {
        json::each(out, &notices, |out, notice| {
            out.extend_from_slice(b"{\"text\":");
            json::string(out, &notice.text);
            out.extend_from_slice(b",\"date\":");
            json::string(out, &rfc3339(notice.since_ms));
            out.extend_from_slice(b",\"active\":true}");
        });
    }))
}
