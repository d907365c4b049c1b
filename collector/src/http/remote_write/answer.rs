//! Answers as senders understand them.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use stoa_exchange::remote_write::Version;

use crate::http::pushed::Refusal;
use crate::push::Tally;

/// How long a sender shall wait before it comes again, in seconds; its own back-off may be longer.
const RETRY_AFTER_S: &str = "5";

const SAMPLES: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// What a sender is told.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    version: Version,
    pub(super) told: Result<Tally, Refusal>,
}

impl Answer {
    pub(super) fn told(version: Version, tally: Tally) -> Self {
        Self { version, told: Ok(tally) }
    }

    pub(super) fn refused(version: Version, refusal: Refusal) -> Self {
        Self { version, told: Err(refusal) }
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        let (status, text) = match &answer.told {
            Ok(tally) => match tally.complaint() {
                None => (StatusCode::NO_CONTENT, String::new()),
                Some(complaint) => (StatusCode::BAD_REQUEST, complaint),
            },
            Err(Refusal::Unknown(text)) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, text.clone()),
            Err(Refusal::TooLarge(text)) => (StatusCode::PAYLOAD_TOO_LARGE, text.clone()),
            Err(Refusal::Bad(text) | Refusal::Unframed(text)) => {
                (StatusCode::BAD_REQUEST, text.clone())
            }
            Err(Refusal::Later(text)) => (StatusCode::SERVICE_UNAVAILABLE, text.clone()),
        };
        let mut response = if text.is_empty() {
            status.into_response()
        } else {
            (status, format!("{text}\n")).into_response()
        };
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        if answer.version == Version::Two {
            let written = answer.told.as_ref().map_or(0, Tally::written);
            let histograms = answer.told.as_ref().map_or(0, |tally| tally.histograms_written);
            headers.insert(SAMPLES, HeaderValue::from(written.saturating_sub(histograms)));
            headers.insert(HISTOGRAMS, HeaderValue::from(histograms));
            let exemplars = answer.told.as_ref().map_or(0, |tally| tally.exemplars_written);
            headers.insert(EXEMPLARS, HeaderValue::from(exemplars));
        }
        response
    }
}
