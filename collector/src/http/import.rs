//! `POST /api/v1/import/prometheus`: history as text, straight into blocks.
//!
//! The body is exposition text of any length, read as it comes in bounded memory: the text format, or
//! OpenMetrics when the `Content-Type` says so; gzip when the `Content-Encoding` does. Parameters, as
//! VictoriaMetrics has them: `extra_label=name=value` (several), `timestamp=<milliseconds>` for
//! samples without one. All of a request is stored, or nothing: what was read becomes visible when
//! the answer is given, a summary in JSON. A second import at the same time is told to come again.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use stoa_exchange::exposition::Format;
use stoa_model::TimestampMs;
use tokio::sync::Semaphore;
use tokio_stream::StreamExt as _;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::prometheus::{ApiError, ErrorKind, Success};
use super::routes::{Routes, Scope};
use crate::clock::Clock;
use crate::import::{Import, ImportError, ImportSummary};
use crate::store::{Store, StoreState};

/// An import whose sender says nothing for this long ends, and the next may begin.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What the route needs.
#[derive(Clone)]
pub struct Importer {
    store: Store,
    clock: Clock,
    /// One at a time: each may use a few hundred megabytes.
    turn: Arc<Semaphore>,
}

impl Importer {
    /// An importer into a store.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, turn: Arc::new(Semaphore::new(1)) }
    }
}

impl std::fmt::Debug for Importer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Importer").finish_non_exhaustive()
    }
}

/// The route.
pub fn routes(importer: Importer) -> Routes {
    Routes::new().post("/api/v1/import/prometheus", Scope::Write, import).with_state(importer)
}

async fn import(
    State(importer): State<Importer>,
    query: Result<Query<Pairs>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let busy = "another import is running; come again when it is done";
    let Ok(turn) = Arc::clone(&importer.turn).try_acquire_owned() else {
        return ApiError::new(ErrorKind::Unavailable, busy).into_response();
    };
    let ask = query.map_err(|wrong| ApiError::bad_data(wrong.body_text()));
    let ask = match ask.and_then(|Query(pairs)| Ask::of(pairs, &headers)) {
        Ok(ask) => ask,
        Err(error) => return error.into_response(),
    };
    let chunks = body.into_data_stream().timeout(SILENCE_MAX).map(|chunk| match chunk {
        Ok(chunk) => chunk.map_err(io::Error::other),
        Err(_silent) => Err(io::Error::new(io::ErrorKind::TimedOut, "the sender is silent")),
    });
    let source = SyncIoBridge::new(StreamReader::new(Box::pin(chunks)));
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        importer.run(source, &ask)
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
        let mut import = Import::new(&mut bulk, &ask.extra, &mut summary);
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
            ApiError::new(ErrorKind::Unavailable, told(&error))
        })?;
        summary.add_written(&written);
        tracing::info!(?summary, "imported");
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
    let told = told(&error);
    match error {
        ImportError::Bulk(_) => ApiError::new(ErrorKind::Unavailable, told),
        ImportError::Text(_) | ImportError::Block(_) => {
            ApiError::bad_data(format!("{told}; nothing of this request was stored"))
        }
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
