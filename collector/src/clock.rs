//! The one place where the collector's services get the time from, as values handed to them.

use std::sync::Arc;

use stoa_model::TimestampMs;

/// Tells the time, in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> TimestampMs + Send + Sync>;

/// The machine's clock.
#[must_use]
pub fn system() -> Clock {
    Arc::new(stoa_daemon::unix_ms)
}

/// Tells the milliseconds since it was made, whatever anybody sets the machine's clock to. It may
/// stand still while the machine sleeps.
pub type Steady = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A steady clock that begins now.
#[must_use]
pub fn steady() -> Steady {
    let began = tokio::time::Instant::now();
    Arc::new(move || i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX))
}
