//! What every answer is wrapped in: `{"status":"success","data":…}`, or an error with Prometheus's
//! code and word for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use stoa_promql::Value;
use tokio_stream::Stream;

use super::json;
use super::value::Printing;

/// A refusal or failure, by what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    kind: ErrorKind,
    message: String,
}

/// Prometheus's error types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong; sending it again will not help (400).
    BadData,
    /// The request is right, evaluating it failed (422).
    Execution,
    /// It took longer than allowed, or waited too long for its turn (503).
    Timeout,
    /// The sender went away (499).
    Canceled,
    /// What was asked for is not there (404).
    NotFound,
    /// The collector cannot answer now (503).
    Unavailable,
    /// A fault of the collector (500).
    Internal,
}

impl ErrorKind {
    /// Prometheus's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The status Grafana expects: it reads the body of 400, 422 and 503 only.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Timeout | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl ApiError {
    /// An error of a kind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The request is wrong.
    #[must_use]
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadData, message)
    }

    /// One parameter is wrong.
    #[must_use]
    pub fn invalid(parameter: &str, reason: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {parameter:?}: {reason}"))
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(64 + self.message.len());
        body.extend_from_slice(br#"{"status":"error","errorType":"#);
        json::string(&mut body, self.kind.as_str());
        body.extend_from_slice(br#","error":"#);
        json::string(&mut body, &self.message);
        body.push(b'}');
        json_response(self.kind.status(), body)
    }
}

/// What Prometheus says when a `limit` cut the answer.
pub const TRUNCATED: &str = "results truncated due to limit";

/// Bytes of an answer that are printed at once. A longer one is sent in such pieces, each printed when the
/// one before has been taken: on the thread of the connection, which is held for less than a millisecond.
const PIECE_BYTES: usize = 64 << 10;

/// A successful answer under construction: `data` is written first, notices follow at the end.
#[derive(Debug)]
pub struct Success {
    body: Vec<u8>,
    /// What of `data` is not printed yet, and what comes behind it.
    rest: Option<(Printing, Vec<u8>)>,
    warnings: Vec<String>,
    infos: Vec<String>,
}

impl Success {
    /// Writes `data` with `write`.
    #[must_use]
    pub fn data(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut body = Vec::with_capacity(1024);
        body.extend_from_slice(br#"{"status":"success","data":"#);
        write(&mut body);
        Self { body, rest: None, warnings: Vec::new(), infos: Vec::new() }
    }

    /// Prints the value of a query, and behind it in `data` what `write` writes.
    pub(super) fn value(value: Value, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut printing = Printing::new(value);
        let mut is_all = false;
        let mut success = Self::data(|out| {
            out.push(b'{');
            is_all = printing.fill(out, PIECE_BYTES);
        });
        if is_all {
            write(&mut success.body);
            success.body.push(b'}');
        } else {
            let mut behind = Vec::new();
            write(&mut behind);
            behind.push(b'}');
            success.rest = Some((printing, behind));
        }
        success
    }

    /// Adds warnings: the answer may be wrong or incomplete.
    #[must_use]
    pub fn warnings(mut self, list: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(list);
        self
    }

    /// Adds the warning that a limit cut the answer, if it did.
    #[must_use]
    pub fn truncated(self, cut: bool) -> Self {
        self.warnings(cut.then(|| TRUNCATED.to_owned()))
    }

    /// Adds infos: the query may not mean what its writer thinks.
    #[must_use]
    pub fn infos(mut self, list: impl IntoIterator<Item = String>) -> Self {
        self.infos.extend(list);
        self
    }
}

impl IntoResponse for Success {
    fn into_response(self) -> Response {
        let mut body = self.body;
        let mut rest = self.rest;
        let end = rest.as_mut().map_or(&mut body, |(_, behind)| behind);
        for (key, list) in [(&b"warnings"[..], self.warnings), (b"infos", self.infos)] {
            if !list.is_empty() {
                end.extend_from_slice(b",\"");
                end.extend_from_slice(key);
                end.extend_from_slice(b"\":");
                json::strings(end, list);
            }
        }
        end.push(b'}');
        match rest {
            None => json_response(StatusCode::OK, body),
            Some((printing, behind)) => {
                let pieces = Pieces { first: body, rest: Some((printing, behind)) };
                json_response(StatusCode::OK, Body::from_stream(pieces))
            }
        }
    }
}

/// A long answer, piece by piece.
struct Pieces {
    first: Vec<u8>,
    rest: Option<(Printing, Vec<u8>)>,
}

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            return Poll::Ready(Some(Ok(first.into())));
        }
        let Some((mut printing, behind)) = self.rest.take() else { return Poll::Ready(None) };
        let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        if printing.fill(&mut piece, PIECE_BYTES) {
            piece.extend_from_slice(&behind);
        } else {
            self.rest = Some((printing, behind));
        }
        Poll::Ready(Some(Ok(piece.into())))
    }
}

fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], body.into()).into_response()
}
