//! What every answer is wrapped in: `{"status":"success","data":…}`, or an error with Prometheus's
//! code and word for it.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::json;

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

/// A successful answer under construction: `data` is written first, notices follow at the end.
#[derive(Debug)]
pub struct Success {
    body: Vec<u8>,
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
        Self { body, warnings: Vec::new(), infos: Vec::new() }
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
        for (key, list) in [(&b"warnings"[..], self.warnings), (b"infos", self.infos)] {
            if !list.is_empty() {
                body.extend_from_slice(b",\"");
                body.extend_from_slice(key);
                body.extend_from_slice(b"\":");
                json::strings(&mut body, list);
            }
        }
        body.push(b'}');
        json_response(StatusCode::OK, body)
    }
}

fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], body).into_response()
}
