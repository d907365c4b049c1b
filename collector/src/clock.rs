//! The one place where the collector's services get the time from, as a value handed to them.

use std::sync::Arc;

use stoa_model::TimestampMs;

/// Tells the time, in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> TimestampMs + Send + Sync>;

/// The machine's clock.
#[must_use]
pub fn system() -> Clock {
    Arc::new(stoa_daemon::unix_ms)
}
