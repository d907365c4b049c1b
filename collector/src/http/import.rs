//! `POST /api/v1/import/prometheus`: history as text, straight into blocks.
//!
//! The body is exposition text of any length, read as it comes in bounded memory: the text format, or
//! OpenMetrics when the `Content-Type` says so; gzip when the `Content-Encoding` does. Parameters, as
//! VictoriaMetrics has them: `extra_label=name=value` (several), `timestamp=<milliseconds>` for
//! samples without one. What cannot be read to its end stores nothing. What was read is stored a day
//! at a time before the answer, a summary in JSON: a disk that fails or fills meanwhile may leave whole
//! days of it, which sending it again completes. A second import at the same time is told to come
//! again; so that none waits for long, the sender must keep a pace.

mod figures;
mod pace;

use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use stoa_exchange::exposition::Format;
use stoa_model::TimestampMs;
use stoa_proto::convert::LABEL_BYTES_MAX;
use stoa_tsdb::BulkError;
use tokio::sync::Semaphore;
use tokio_util::io::{StreamReader, SyncIoBridge};

use self::figures::Counters;
pub use self::figures::ImportFigures;
use self::pace::{Paced, WAIT_MAX};
use super::prometheus::{ApiError, ErrorKind, Success};
use super::routes::{Routes, Scope};
use crate::clock::Clock;
use crate::import::{Descriptions, Import, ImportError, ImportSummary};
use crate::store::{Store, StoreState};

/// Where history is brought to. Its body has a pace of its own: what is piped in may be silent for long.
pub(crate) const PATH: &str = "/api/v1/import/prometheus";

/// What the route needs.
#[derive(Clone)]
pub struct Importer {
    store: Store,
    clock: Clock,
    /// One at a time: each may use a few hundred megabytes.
    turn: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl Importer {
    /// An importer into a store.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, turn: Arc::new(Semaphore::new(1)), counters: Arc::default() }
    }

    /// What imports have come to so far.
    #[must_use]
    pub fn figures(&self) -> ImportFigures {
        self.counters.read()
    }
}

impl std::fmt::Debug for Importer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Importer").finish_non_exhaustive()
    }
}

/// The route.
pub fn routes(importer: Importer) -> Routes {
    Routes::new().post(PATH, Scope::Write, import).with_state(importer)
}

async fn import(
    State(importer): State<Importer>,
    query: Result<Query<Pairs>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    importer.counters.began();
    let ask = query
        .map_err(|wrong| ApiError::bad_data(wrong.body_text()))
        .and_then(|Query(pairs)| Ask::of(pairs, &headers));
    let ask = match ask {
        Ok(ask) => ask,
        Err(error) => {
            importer.counters.failed(error.kind());
            return error.into_response();
        }
    };
    let Ok(turn) = Arc::clone(&importer.turn).try_acquire_owned() else {
        importer.counters.busy();
        let busy = "another import is running; come again when it is done";
        return ApiError::new(ErrorKind::Unavailable, busy).into_response();
    };
    let parts = Paced::new(body.into_data_stream(), WAIT_MAX);
    let source = SyncIoBridge::new(StreamReader::new(Box::pin(parts)));
    let counters = Arc::clone(&importer.counters);
    // It goes on to its end, and is counted, even if the sender goes away.
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let done = importer.run(source, &ask);
        match &done {
            Ok(summary) => importer.counters.done(summary),
            Err(error) => importer.counters.failed(error.kind()),
        }
        done
    });
    match work.await {
        Ok(Ok(summary)) => {
            let data = Success::data(|out| {
                // A vector takes all that is written.
                drop(serde_json::to_writer(out, &summary));
            });
            data.into_response()
        }
        Ok(Err(error)) => error.into_response(),
        Err(_panicked) => {
            counters.failed(ErrorKind::Internal);
            let why = "the import failed inside the collector; its log says more";
            ApiError::new(ErrorKind::Internal, why).into_response()
        }
    }
}

/// Parameters in the order given.
type Pairs = Vec<(String, String)>;

/// How a body is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ask {
    format: Format,
    is_gzip: bool,
    extra: Vec<(String, String)>,
    timestamp: Option<TimestampMs>,
}

impl Ask {
    fn of(pairs: Pairs, headers: &HeaderMap) -> Result<Self, ApiError> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let is_gzip = match header(header::CONTENT_ENCODING).unwrap_or("identity") {
            "identity" => false,
            "gzip" => true,
            other => {
                let why = format!("content encoding {other:?} is not read here; send gzip or none");
                return Err(ApiError::bad_data(why));
            }
        };
        let content_type = header(header::CONTENT_TYPE).unwrap_or_default();
        let mut ask = Self {
            format: Format::of_content_type(content_type),
            is_gzip,
            extra: Vec::new(),
            timestamp: None,
        };
        for (name, value) in pairs {
            match name.as_str() {
                "extra_label" => match value.split_once('=') {
                    Some((name, value)) if name.len().max(value.len()) > LABEL_BYTES_MAX => {
                        let why = format!("over {LABEL_BYTES_MAX} bytes");
                        return Err(ApiError::invalid("extra_label", why));
                    }
                    Some((name, value)) if !name.is_empty() => {
                        ask.extra.push((name.to_owned(), value.to_owned()));
                    }
                    _ => return Err(ApiError::invalid("extra_label", "expected name=value")),
                },
                "timestamp" => {
                    let invalid = |error| ApiError::invalid("timestamp", error);
                    ask.timestamp = Some(value.parse().map_err(invalid)?);
                }
                _ => {}
            }
        }
        Ok(ask)
    }
}

impl Importer {
    fn run(&self, source: impl Read, ask: &Ask) -> Result<ImportSummary, ApiError> {
        self.check_room()?;
        let now_ms = (self.clock)();
        let mut bulk = self.store.bulk(now_ms);
        let mut summary = ImportSummary::default();
        let mut descriptions = Descriptions::default();
        let mut import =
            Import::new(&mut bulk, &ask.extra, &mut summary).describing(&mut descriptions);
        let t_ms = ask.timestamp.unwrap_or(now_ms);
        let read = if ask.is_gzip {
            import.text(MultiGzDecoder::new(source), ask.format, t_ms, |_| {})
        } else {
            import.text(source, ask.format, t_ms, |_| {})
        };
        read.map_err(failure)?;
        self.check_room()?;
        let written = self.store.write_bulk(bulk, now_ms).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "write imported blocks");
            let partly = "whole days of this request may be stored; send it again";
            ApiError::new(ErrorKind::Unavailable, format!("{}; {partly}", told(&error)))
        })?;
        descriptions.add_to(self.store.metadata());
        summary.add_written(&written);
        tracing::info!(series = summary.series, samples = summary.samples, "imported");
        Ok(summary)
    }

    fn check_room(&self) -> Result<(), ApiError> {
        let why = match self.store.state() {
            StoreState::Open => return Ok(()),
            StoreState::DiskFull { .. } => "the disk is full; make room and come again".to_owned(),
            StoreState::Failed(reason) => format!("the store has failed: {reason}"),
            StoreState::Closed => "the collector is stopping; come again".to_owned(),
        };
        Err(ApiError::new(ErrorKind::Unavailable, why))
    }
}

fn failure(error: ImportError) -> ApiError {
    let told = format!("{}; nothing of this request was stored", told(&error));
    match error {
        ImportError::Bulk(BulkError::NoRoom(_) | BulkError::Spill { .. }) => {
            tracing::error!(error = told, "put imported samples aside");
            ApiError::new(ErrorKind::Unavailable, told)
        }
        ImportError::Bulk(BulkError::TooManySeries { .. } | BulkError::LabelBytes { .. })
        | ImportError::Text(_)
        | ImportError::Block(_) => ApiError::bad_data(told),
    }
}

/// An error with its causes, on one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    text
}

#[cfg(test)]
mod tests;
