//! The log: standard error always, OTLP traces when configured.
//!
//! Lines on standard error carry a journald priority prefix (`<4>`) instead of a time when systemd
//! reads them (it sets `JOURNAL_STREAM`), and a time and colour when a person does.
//!
//! The level is for the lines. Over OTLP go Stoa's own spans down to debug, with the events in them,
//! whatever the level: who configures an endpoint wants to see what the time went to.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use serde::{Deserialize, Serialize};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer as _};

/// What to log and where.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// `error`, `warn`, `info`, `debug`, `trace`, or tracing's filter syntax per module.
    pub level: String,
    /// Where spans go over OTLP/gRPC, as `http://host:4317`; none when unset. A receiver that is away
    /// costs its spans: the exporter's queue is bounded and drops, saying so.
    pub otlp_endpoint: Option<String>,
    /// The `service.name` of those spans.
    pub service: &'static str,
}

/// The `[log]` section of a configuration file as written, the same in every program.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// See [`LogOptions::level`].
    pub level: String,
    /// See [`LogOptions::otlp_endpoint`].
    pub otlp_endpoint: Option<String>,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info".into(), otlp_endpoint: None }
    }
}

impl LogSection {
    /// What it means for the program whose spans are called `service`.
    #[must_use]
    pub fn options(self, service: &'static str) -> LogOptions {
        LogOptions { level: self.level, otlp_endpoint: self.otlp_endpoint, service }
    }
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not understood.
    #[error("log level {level:?} is not understood; use off, error, warn, info, debug or trace")]
    Level {
        /// As given.
        level: String,
        /// What the parser said.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A word of the level is none.
    #[error(
        "log level {word:?} is not understood; use off, error, warn, info, debug or trace, for one module as MODULE=LEVEL"
    )]
    Word {
        /// As given.
        word: String,
    },
    /// The OTLP endpoint is not usable.
    #[error("open OTLP export to {endpoint}")]
    Otlp {
        /// As given.
        endpoint: String,
        /// What the exporter said.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// A log is open already in this process.
    #[error("open the log a second time")]
    Twice(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Keeps OTLP export alive; spans still queued are sent when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the OTLP export"]
pub struct LogGuard(Option<opentelemetry_sdk::trace::SdkTracerProvider>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "spans were lost at shutdown");
        }
    }
}

/// Opens the log for the whole process; needs a tokio runtime when OTLP is configured.
///
/// # Errors
/// [`LogError`] when the level or endpoint is unusable or a log is open already.
pub fn open(options: &LogOptions) -> Result<LogGuard, LogError> {
    open_to(options, |line| {
        // Whoever reads it has gone: no reason to stop working.
        let _gone = io::stderr().write_all(line);
    })
}

/// As [`open`], but each line is handed to `sink`, which brings it to standard error: for a program
/// that draws there itself.
///
/// # Errors
/// As [`open`].
pub fn open_to(
    options: &LogOptions,
    sink: impl Fn(&[u8]) + Send + Sync + 'static,
) -> Result<LogGuard, LogError> {
    let sink: Sink = Arc::new(sink);
    let filter = filter(&options.level)?;
    let provider = options
        .otlp_endpoint
        .as_ref()
        .map(|endpoint| provider(endpoint, options.service))
        .transpose()?;
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("stoa"))
            .with_filter(Targets::new().with_target("stoa", Level::DEBUG))
    });
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || Line(Arc::clone(&sink)))
        .with_ansi(!journal && io::stderr().is_terminal())
        .event_format(Lines { journal, person: Format::default().with_target(false) })
        .with_filter(filter);
    let subscriber = tracing_subscriber::registry().with(spans).with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(LogError::Twice)?;
    Ok(LogGuard(provider))
}

/// The filter takes a bare word for a module, of which everything is logged, and nothing else: a
/// misspelt level would go unnoticed.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let filter = EnvFilter::try_new(level)
        .map_err(|source| LogError::Level { level: level.to_owned(), source })?;
    let mut words = level.split(',').map(str::trim);
    let unknown = words.find(|word| {
        let is_bare = !word.is_empty() && !word.contains(['=', '[', ']', '{', '}']);
        is_bare && word.parse::<LevelFilter>().is_err()
    });
    match unknown {
        Some(word) => Err(LogError::Word { word: word.to_owned() }),
        None => Ok(filter),
    }
}

fn provider(
    endpoint: &str,
    service: &'static str,
) -> Result<opentelemetry_sdk::trace::SdkTracerProvider, LogError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|source| LogError::Otlp { endpoint: endpoint.to_owned(), source })?;
    Ok(opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(opentelemetry_sdk::Resource::builder().with_service_name(service).build())
        .build())
}

type Sink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Takes one line, which the layer gives in one piece.
struct Line(Sink);

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        (self.0)(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Lines {
    journal: bool,
    person: Format,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !self.journal {
            return self.person.format_event(ctx, writer, event);
        }
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        ctx.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// The syslog priority journald reads from a line's prefix (`sd-daemon(3)`).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_word_is_a_level() {
        for level in [
            "info",
            "WARN",
            "off",
            "warn,stoa_tsdb=debug",
            "stoa=trace, info",
            "[span{a=b}],[span]=debug",
            "",
        ] {
            assert!(filter(level).is_ok(), "{level:?}");
        }
        for (level, word) in
            [("banana", "banana"), ("stoa=debug,infos", "infos"), ("stoa_tsdb", "stoa_tsdb")]
        {
            let error = filter(level).unwrap_err().to_string();
            let start = format!("log level {word:?} is not understood; use off, error, warn,");
            assert!(error.starts_with(&start), "{error}");
        }
        assert!(matches!(filter("stoa=banana"), Err(LogError::Level { .. })));
    }
}
