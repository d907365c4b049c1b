//! Time as Stoa stores it.

/// Milliseconds since the Unix epoch; negative before 1970. The unit of every stored sample.
pub type TimestampMs = i64;
