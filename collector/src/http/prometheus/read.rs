//! `/api/v1/read`: Prometheus remote read, as one message of samples or as a stream of chunks, whichever
//! the asker names first.
//!
//! Answered are raw samples, native histograms and stale markers included; aggregates of long history are
//! not. A query's matcher that asks for an external label by its value asks for all series here, and these
//! get that label.
//!
//! Bounds: a request of [`BODY_BYTES_MAX`], [`MESSAGE_BYTES_MAX`] decompressed; the samples, series, bytes,
//! time and concurrency of queries (`query.*`), over all queries of a request together ([`walk`]). A message
//! is held compressed, beside one series at a time, and until its reader has taken it, which no turn is kept
//! for: whoever wants little held here asks for a stream. That is held by the piece, and its turn only while
//! it is read ([`stream`]); there are as many at a time as queries may run, for a place among which a request
//! waits [`PLACE_WAIT`] at most.

mod packed;
mod stream;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use stoa_exchange::remote_read::{self, Form, Query, Request};

use super::Stop;
use super::active::Asked;
use super::gate::Outgoing;
use super::outward::Outward;
use super::reply::{ApiError, ErrorKind};
use crate::http::pushed::Refusal;
use crate::http::pushed::body::Compression;
use packed::Packed;
use stream::Frames;
use walk::{Met, Next, Walk};

/// How long a request waits for a place among the streams.
const PLACE_WAIT: Duration = Duration::from_secs(5);

/// The largest request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// The largest request after decompression, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const STREAMED: HeaderValue = HeaderValue::from_static(
    "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse",
);

/// The route. Errors are plain text, as in Prometheus.
pub(super) async fn read(State(outward): State<Arc<Outward>>, request: HttpRequest) -> Response {
    match answer(&outward, request).await {
        Ok(answer) => answer,
        Err(error) => {
            let status = match error.kind() {
                // Prometheus's client takes every other code for a fault that goes away.
                ErrorKind::Execution => StatusCode::BAD_REQUEST,
                kind => kind.status(),
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}

async fn answer(outward: &Arc<Outward>, request: HttpRequest) -> Result<Response, ApiError> {
    let request = message(request).await?;
    let form = request.form().ok_or_else(|| {
        let known = "supported: [SAMPLES STREAMED_XOR_CHUNKS]";
        let why = "server does not support any of the requested response types";
        ApiError::bad_data(format!("{why}; {known}"))
    })?;
    let now = outward.prometheus.now_ms();
    let text = request.queries.iter().map(shown).collect::<Vec<_>>().join(" ");
    let of = Asked::new(Outgoing::Read.path(), text, now);
    let gate = &outward.prometheus.gate;
    let walk = Walk::new(Arc::clone(outward), request.queries);
    match form {
        Form::Samples => {
            let pieces = gate.run(of, gate.timeout_max(), |stop| samples(walk, stop)).await?;
            gate.incomplete(Outgoing::Read, &pieces.1);
            Ok(message_of(pieces.0))
        }
        Form::Chunks => {
            let turns = gate.enter(of, gate.timeout_max())?;
            let place = Arc::clone(&outward.streams).acquire_owned();
            let place = tokio::time::timeout(PLACE_WAIT, place).await;
            let Some(place) = place.ok().and_then(Result::ok) else {
                let error = ApiError::new(ErrorKind::Timeout, "query timed out in query queue");
                turns.end(Some(&error));
                return Err(error);
            };
            let frames = Frames::begin(Arc::clone(outward), walk, turns, place).await?;
            Ok(([(header::CONTENT_TYPE, STREAMED)], Body::from_stream(frames)).into_response())
        }
    }
}

/// All samples as one message, in pieces, and why it may be incomplete.
fn samples(mut walk: Walk, stop: &Stop) -> Result<(Vec<Bytes>, Vec<String>), ApiError> {
    let too_long = |error: packed::TooLong| ApiError::new(ErrorKind::Execution, error.to_string());
    let mut packed = Packed::new();
    let mut message = Vec::new();
    walk.go(stop, &mut |met| {
        match met {
            Met::Series(_, series) => {
                message.clear();
                remote_read::put_samples(&mut message, &series);
                packed.put(&message).map_err(too_long)?;
            }
            Met::QueryEnd => packed.end_part(remote_read::result_head).map_err(too_long)?,
        }
        Ok(Next::On(packed.bytes() + message.capacity()))
    })?;
    Ok((packed.finish(), walk.warnings()))
}

fn message_of(pieces: Vec<Bytes>) -> Response {
    let length = pieces.iter().map(Bytes::len).sum::<usize>();
    let headers = [
        (header::CONTENT_TYPE, PROTOBUF),
        (header::CONTENT_ENCODING, HeaderValue::from_static("snappy")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    let pieces = pieces.into_iter().map(Ok::<_, std::convert::Infallible>);
    (headers, Body::from_stream(tokio_stream::iter(pieces))).into_response()
}

async fn message(request: HttpRequest) -> Result<Request, ApiError> {
    let refused = |refusal: Refusal| match refusal {
        Refusal::Later(why) => ApiError::new(ErrorKind::Unavailable, why),
        Refusal::Unknown(why)
        | Refusal::TooLarge(why)
        | Refusal::Bad(why)
        | Refusal::Unframed(why) => ApiError::bad_data(why),
    };
    let known = [Compression::Snappy];
    let compression = Compression::of(request.headers(), &header::CONTENT_ENCODING, &known);
    let compression = compression.map_err(refused)?;
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await;
    let body = body.map_err(|error| ApiError::bad_data(format!("read the request: {error}")))?;
    let message = compression.decompress(&body, MESSAGE_BYTES_MAX).map_err(refused)?;
    Request::read(&message).map_err(|error| ApiError::bad_data(error.to_string()))
}

/// A query, for people to recognize.
fn shown(query: &Query) -> String {
    let each = query.matchers.iter();
    let each =
        each.map(|matcher| format!("{}{}{:?}", matcher.name, matcher.op.as_str(), matcher.value));
    format!("{{{}}}", each.collect::<Vec<_>>().join(","))
}
