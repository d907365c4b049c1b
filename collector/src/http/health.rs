//! Liveness and readiness: `/-/healthy` says the process answers, `/-/ready` (and Loki's `/ready`)
//! that what it serves is complete. Both are open, and tell nothing about what is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use http::StatusCode;

use super::routes::{Routes, Scope};

/// Whether the server has recovered and serves. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says that the server serves (or, at shutdown, no longer does).
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether the server serves.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What keeps a server that has started from serving all it should, in a sentence; `None`: nothing.
pub type Trouble = Arc<dyn Fn() -> Option<&'static str> + Send + Sync>;

/// The health routes; `trouble` is asked each time.
pub fn routes(ready: Ready, trouble: Trouble) -> Routes {
    Routes::new()
        .get("/-/healthy", Scope::Open, async || "Stoa is healthy.\n")
        .get("/-/ready", Scope::Open, answer)
        .get("/ready", Scope::Open, answer)
        .with_state((ready, trouble))
}

async fn answer(
    State((ready, trouble)): State<(Ready, Trouble)>,
) -> Result<&'static str, (StatusCode, &'static str)> {
    let trouble = if ready.is_set() { trouble() } else { Some("Stoa is starting.\n") };
    trouble
        .map_or(Ok("Stoa is ready.\n"), |trouble| Err((StatusCode::SERVICE_UNAVAILABLE, trouble)))
}
