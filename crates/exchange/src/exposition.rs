//! Exposition text: Prometheus's text format 0.0.4 and OpenMetrics 1.0, read and written.
//!
//! A text is lines. [`Reader`] reads them one by one from a stream of any length in bounded memory;
//! [`Printer`] writes them. [`parse()`] and [`write()`] are the same for one whole page of families,
//! as an exporter serves it. A histogram's or summary's `_bucket`, `_sum` and `_count` belong to its
//! family and keep their full name as `__name__`.
//!
//! The same families as protobuf messages (`io.prometheus.client.MetricFamily`, each after its length) are
//! read by [`protobuf`]; nobody is served them.
//!
//! Both formats may quote names, so that a name is any text: `{"my.name", "a label"="b"} 1`.
//! Sources: <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.

mod family;
mod line;
mod number;
mod print;
pub mod protobuf;
mod read;
mod series;

pub use family::{Parsed, parse, write, write_as};
pub use line::{Exemplar, Line, MetricType, Sample, SyntaxError};
pub use number::value_text;
pub use print::Printer;
pub use read::{LINE_BYTES_MAX, ReadError, Reader};
pub use series::SeriesText;

/// The `Content-Type` of what [`write()`] produces.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The `Content-Type` of OpenMetrics.
pub const OPENMETRICS_CONTENT_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The last line of an OpenMetrics text.
pub const OPENMETRICS_END: &str = "# EOF";

/// Which of the two formats a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// Prometheus's text format 0.0.4: timestamps are whole milliseconds, comments are free.
    #[default]
    Text,
    /// OpenMetrics 1.0: timestamps are seconds, samples may carry an exemplar, `# EOF` ends it.
    OpenMetrics,
}

impl Format {
    /// The format a `Content-Type` names; text when it names neither.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// The format of a text that ends so: only OpenMetrics ends with `# EOF`.
    #[must_use]
    pub fn of_tail(tail: &[u8]) -> Self {
        if tail.trim_ascii_end().ends_with(OPENMETRICS_END.as_bytes()) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}
