//! OTLP over gRPC as a client: one unary call in HTTP/2, of one message, with its status in trailers.
//!
//! Sources: `doc/PROTOCOL-HTTP2.md` and `doc/http-grpc-status-mapping.md` of grpc/grpc; the OTLP
//! specification, "OTLP/gRPC Response".
//!
//! | status | |
//! |---|---|
//! | `OK` | it is taken, but for the points that `partial_success` says were refused |
//! | `CANCELLED`, `DEADLINE_EXCEEDED`, `ABORTED`, `OUT_OF_RANGE`, `UNAVAILABLE`, `DATA_LOSS`, none | sent again, after the delay of its `RetryInfo` or a wait that doubles |
//! | `RESOURCE_EXHAUSTED` with `RetryInfo` | the same |
//! | `UNAUTHENTICATED`, `PERMISSION_DENIED`, `UNIMPLEMENTED`, and 3xx of HTTP | sent again: the setting is wrong, not the samples |
//! | `RESOURCE_EXHAUSTED` | sent again in two halves, each of which is dropped when that is too much still |
//! | any other | dropped, counted, what it says logged |

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use reqwest::{RequestBuilder, Response};
use stoa_daemon::error_chain;
use stoa_exchange::otlp::retry_delay;

use super::message::Message;
use super::wire::{Attempt, RETRY_AFTER_MAX, partly};

/// The call, below the target's address.
pub(super) const PATH: &str = "opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Of an answer this much is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Of what an answer says this much is shown.
const WHY_CHARS_MAX: usize = 300;

/// What stands before a message, in bytes.
const FRAME_BYTES: usize = 5;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// A call's request with its message, which is compressed.
pub(super) fn request(request: RequestBuilder, message: &Message) -> RequestBuilder {
    let length = u32::try_from(message.body.len()).unwrap_or(u32::MAX);
    let mut frame = BytesMut::with_capacity(FRAME_BYTES + message.body.len());
    frame.put_u8(1);
    frame.put_u32(length);
    frame.put_slice(&message.body);
    request
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(header::TE, HeaderValue::from_static("trailers"))
        .header(ENCODING, HeaderValue::from_static("gzip"))
        .body(frame.freeze())
}

/// What an answer means.
pub(super) async fn judge(response: Response, message: &Message) -> Attempt {
    let status = response.status();
    let response: http::Response<reqwest::Body> = response.into();
    let (parts, mut body) = response.into_parts();
    // What stands between may have a status of its own; gRPC's counts where it is said.
    if status != StatusCode::OK && !parts.headers.contains_key(STATUS) {
        return meaning(&parts.headers, Said::of(status));
    }
    // Of a call without an answer the status is said at once.
    let mut said = parts.headers.contains_key(STATUS).then_some(parts.headers);
    let (mut answer, mut unread) = (BytesMut::new(), None);
    while said.is_none() {
        match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if answer.len() < ANSWER_BYTES_MAX => answer.extend_from_slice(&data),
                Ok(_more) => {}
                Err(frame) => said = frame.into_trailers().ok(),
            },
            Some(Err(error)) => {
                unread = Some(error_chain(&error.without_url()));
                break;
            }
            None => break,
        }
    }
    let Some(said) = said else {
        let why = unread.unwrap_or_else(|| "an answer without a status".to_owned());
        return Attempt::Later { why, after: None };
    };
    let code = said.get(STATUS).and_then(|code| code.to_str().ok()?.parse::<u8>().ok());
    match code {
        Some(0) => taken(&answer.freeze(), message),
        code => meaning(&said, Said { code: code.unwrap_or(2), why: String::new() }),
    }
}

fn taken(answer: &Bytes, message: &Message) -> Attempt {
    match answer.split_first_chunk::<FRAME_BYTES>() {
        Some(([0, length @ ..], answer))
            if usize::try_from(u32::from_be_bytes(*length)) == Ok(answer.len()) =>
        {
            partly(answer, message)
        }
        Some(([0, ..], _)) => Attempt::Unread { why: "it is cut, or more than one".to_owned() },
        Some(_) => Attempt::Unread { why: "it is compressed".to_owned() },
        None => Attempt::Unread { why: "there is none".to_owned() },
    }
}

/// A status, and what is known of it beside what its headers say.
struct Said {
    code: u8,
    why: String,
}

impl Said {
    /// Of an answer that is HTTP's alone.
    fn of(status: StatusCode) -> Self {
        let code = match status.as_u16() {
            300..=399 | 404 => 12,
            400 => 13,
            401 => 16,
            403 => 7,
            429 | 502..=504 => 14,
            _ => 2,
        };
        Self { code, why: status.to_string() }
    }
}

fn meaning(headers: &HeaderMap, said: Said) -> Attempt {
    let text = |name| headers.get(name).and_then(|text: &HeaderValue| text.to_str().ok());
    let message: String = unescaped(text(MESSAGE).unwrap_or_default())
        .chars()
        .filter(|c| !c.is_control())
        .take(WHY_CHARS_MAX)
        .collect();
    let Said { code, why } = said;
    let why = match (why.is_empty(), message.is_empty()) {
        (false, _) => why,
        (true, true) => name(code).to_owned(),
        (true, false) => format!("{}: {message}", name(code)),
    };
    let delay = text(DETAILS).and_then(retry_delay);
    let after = delay.map(|delay: Duration| delay.min(RETRY_AFTER_MAX));
    match code {
        1 | 4 | 10 | 11 | 14 | 15 => Attempt::Later { why, after },
        8 if after.is_some() => Attempt::Later { why, after },
        7 | 12 | 16 => Attempt::Later { why, after },
        _ => Attempt::Refused { why, taken: 0, is_too_large: code == 8 },
    }
}

/// Text as gRPC writes it: what is no printable ASCII, and `%`, as `%` and two digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn name(code: u8) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(usize::from(code)).copied().unwrap_or("a status that there is not")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn statuses_mean_what_the_table_says() {
        let message = Message { body: Bytes::new(), samples: 10, points: 10 };
        // google.rpc.Status with a RetryInfo of 7 s, in base64 without padding.
        let retry = "CAgaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIBw";
        let of = |code: u8, details: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(MESSAGE, HeaderValue::from_static("100 %25"));
            if let Some(details) = details {
                headers.insert(DETAILS, HeaderValue::from_str(details).unwrap());
            }
            meaning(&headers, Said { code, why: String::new() })
        };
        for code in [1, 4, 7, 10, 11, 12, 14, 15, 16] {
            let why = format!("{}: 100 %", name(code));
            assert_eq!(of(code, None), Attempt::Later { why: why.clone(), after: None }, "{code}");
            let after = Some(Duration::from_secs(7));
            assert_eq!(of(code, Some(retry)), Attempt::Later { why, after }, "{code}");
        }
        for code in [2, 3, 5, 6, 8, 9, 13, 77] {
            let why = format!("{}: 100 %", name(code));
            let refused = Attempt::Refused { why, taken: 0, is_too_large: code == 8 };
            assert_eq!(of(code, None), refused, "{code}");
        }
        assert!(matches!(of(8, Some(retry)), Attempt::Later { after: Some(_), .. }));
        assert!(matches!(of(8, Some("!")), Attempt::Refused { .. }));
        for (status, again) in [
            (401, true),
            (404, true),
            (429, true),
            (503, true),
            (302, true),
            (400, false),
            (500, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let found = meaning(&HeaderMap::new(), Said::of(status));
            assert_eq!(matches!(found, Attempt::Later { .. }), again, "{status}: {found:?}");
        }
        for (status, code, again) in
            [(500, Some("14"), true), (500, None, false), (503, Some("3"), false)]
        {
            let mut answer = http::Response::builder().status(status);
            if let Some(code) = code {
                answer = answer.header(STATUS, code);
            }
            let answer = Response::from(answer.body(Bytes::new()).unwrap());
            let found = judge(answer, &message).await;
            assert_eq!(matches!(found, Attempt::Later { .. }), again, "{status}: {found:?}");
        }
        for (answer, expected) in [
            (&[0, 0, 0, 0, 0][..], Attempt::Taken(None)),
            (&[0, 0, 0, 0, 4, 10, 2, 8, 3], Attempt::Partly { why: String::new(), taken: 7 }),
        ] {
            assert_eq!(taken(&Bytes::copy_from_slice(answer), &message), expected);
        }
        for answer in [&[][..], &[0, 0, 0, 0, 1], &[1, 0, 0, 0, 0]] {
            let found = taken(&Bytes::copy_from_slice(answer), &message);
            assert!(matches!(found, Attempt::Unread { .. }), "{found:?}");
        }
    }
}
