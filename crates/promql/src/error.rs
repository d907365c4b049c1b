//! Why a query has no answer.

use crate::storage::{SAMPLE_BYTES, StorageError};

/// Why a query has no answer, cut by what the caller tells the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The query is not PromQL, or not a query of the kind asked for (`bad_data`, 400).
    #[error("{0}")]
    Parse(String),
    /// The query is PromQL but has no value over this data (`execution`, 422).
    #[error("{0}")]
    Execution(String),
    /// A range query asks for more points per series than allowed (`bad_data`, 400).
    #[error(
        "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
        grouped(*.max)
    )]
    TooManyPoints {
        /// The limit.
        max: usize,
    },
    /// The query would hold more samples than allowed (`execution`, 422).
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples {
        /// The limit.
        max: usize,
    },
    /// The query would hold more bytes than allowed: samples as they were read, and results
    /// (`execution`, 422).
    #[error("query processing would load too many bytes into memory in query execution")]
    TooManyBytes {
        /// The limit.
        max: usize,
    },
    /// A selector matches more series than allowed (`execution`, 422).
    #[error("the query selects more than {max} series")]
    TooManySeries {
        /// The limit.
        max: usize,
    },
    /// The caller asked to stop, or the deadline passed (`canceled` or `timeout`).
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    /// Storage could not be read (`internal`, 500).
    #[error("select series")]
    Storage(#[source] StorageError),
}

impl QueryError {
    pub(crate) fn execution(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }

    /// Whether less of the same could do.
    pub(crate) fn is_too_much(&self) -> bool {
        matches!(
            self,
            Self::TooManySamples { .. } | Self::TooManyBytes { .. } | Self::TooManySeries { .. }
        )
    }

    pub(crate) fn same_labelset() -> Self {
        Self::execution("vector cannot contain metrics with the same labelset")
    }
}

impl From<StorageError> for QueryError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::TooManySeries { max } => Self::TooManySeries { max },
            StorageError::TooManySamples { max } => {
                Self::TooManyBytes { max: max.saturating_mul(SAMPLE_BYTES) }
            }
            StorageError::Stopped => Self::Cancelled,
            other => Self::Storage(other),
        }
    }
}

/// `11000` as `11,000`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolution_limit_reads_as_prometheus_says_it() {
        assert_eq!(
            QueryError::TooManyPoints { max: 11_000 }.to_string(),
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"
        );
    }
}
