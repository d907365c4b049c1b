//! The wall clock, read here and in no other library.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; negative before it. What `main` hands to everything else.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place where programs read the clock")]
pub fn unix_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}
