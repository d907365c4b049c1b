//! The protocols in which a target is spoken to: what a request says, and what its answer means.
//!
//! Remote write:
//!
//! | answer | |
//! |---|---|
//! | 2xx | it is taken; of version 2 as far as the answer says |
//! | 5xx, 429, 408, 425, no answer | sent again, after `Retry-After` or a wait that doubles |
//! | 3xx, 401, 403, 404, 405, 407 | sent again: the setting is wrong, not the samples |
//! | 415, or 2xx without word of samples, to version 2 | it knows version 1 only, which it is sent from then on |
//! | 413 | sent again in two halves, each of which is dropped when that is too much still |
//! | any other 4xx | dropped, counted, the first line of the answer logged |
//!
//! OTLP over HTTP ([`grpc`] knows the other), as its specification says but for the third line, which is decision 0010's:
//!
//! | answer | |
//! |---|---|
//! | 2xx | it is taken, but for the points that `partial_success` says were refused: these are dropped and counted; where it cannot be read, that is counted and logged |
//! | 429, 502, 503, 504, no answer | sent again, after `Retry-After` or a wait that doubles |
//! | 3xx, 401, 403, 404, 405, 407 | sent again: the setting is wrong, not the samples |
//! | 413 | sent again in two halves, each of which is dropped when that is too much still |
//! | any other | dropped, counted, the first line of the answer logged |

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::{RequestBuilder, Response, Url};
use stoa_exchange::otlp;
use stoa_exchange::remote_write::Version;
use tokio::time::Instant;

use super::client::{complaint, start_of};
use super::grpc;
use super::message::{self, Message};
use super::points::{self, Read, Waiting, Written};
use crate::config::Wire;
use crate::store::Metadata;

/// The longest wait a target can ask for.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Of an answer of OTLP this much is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

const SAMPLES_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const PROTOCOL: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Taken; how many samples, if that was said.
    Taken(Option<u64>),
    /// Taken; what of it was refused could not be read.
    Unread { why: String },
    /// Taken but for some; how many samples were.
    Partly { why: String, taken: u64 },
    /// Not to be sent again; how many samples were taken all the same.
    Refused { why: String, taken: u64, is_too_large: bool },
    /// To be sent again, after a while if one was named.
    Later { why: String, after: Option<Duration> },
    /// The message is of a version the target does not know.
    OtherVersion,
}

impl Wire {
    /// What was read as messages, the samples in their order, at most `samples_max` in one.
    pub(super) fn written(
        self,
        waiting: &mut Waiting,
        read: &Read<'_>,
        samples_max: usize,
        metadata: &Metadata,
    ) -> Written {
        match self {
            Self::RemoteWrite(version) => {
                let messages = message::messages(version, read.series, samples_max, metadata);
                Written { messages, left_out: 0, apart: 0, cursor: Some(read.end) }
            }
            Self::Otlp | Self::OtlpGrpc => {
                points::written(waiting, read, samples_max, metadata, Instant::now())
            }
        }
    }

    /// A message as two; `None` when it cannot be.
    pub(super) fn halves(self, message: &Message, metadata: &Metadata) -> Option<Vec<Message>> {
        match self {
            Self::RemoteWrite(version) => message::halves(version, message, metadata),
            Self::Otlp | Self::OtlpGrpc => points::halves(message),
        }
    }

    /// Where requests go, by the target's address.
    pub(super) fn url(self, address: &Url) -> Url {
        match self {
            Self::RemoteWrite(_) | Self::Otlp => address.clone(),
            // The path of an address of gRPC is the call's.
            Self::OtlpGrpc => {
                let mut url = address.clone();
                url.set_path(grpc::PATH);
                url
            }
        }
    }

    /// A request with its message and what says how that is written.
    pub(super) fn request(self, request: RequestBuilder, message: &Message) -> RequestBuilder {
        let (content, packed, protocol) = match self {
            Self::RemoteWrite(Version::One) => ("application/x-protobuf", "snappy", Some("0.1.0")),
            Self::RemoteWrite(Version::Two) => (
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                "snappy",
                Some("2.0.0"),
            ),
            Self::Otlp => ("application/x-protobuf", "gzip", None),
            Self::OtlpGrpc => return grpc::request(request, message),
        };
        let request = request
            .header(header::CONTENT_ENCODING, packed)
            .header(header::CONTENT_TYPE, HeaderValue::from_static(content))
            .body(message.body.clone());
        match protocol {
            Some(version) => request.header(PROTOCOL, HeaderValue::from_static(version)),
            None => request,
        }
    }

    /// What an answer means.
    pub(super) async fn judge(self, response: Response, message: &Message) -> Attempt {
        let status = response.status();
        let said = match self {
            Self::OtlpGrpc => return grpc::judge(response, message).await,
            Self::RemoteWrite(_) => written(response.headers()),
            Self::Otlp => None,
        };
        let after = retry_after(response.headers());
        match self.verdict(status, said) {
            Verdict::Taken if self == Self::Otlp => {
                match start_of(response, ANSWER_BYTES_MAX).await {
                    (answer, None) => partly(&answer, message),
                    (_, Some(why)) => Attempt::Unread { why },
                }
            }
            Verdict::Taken => Attempt::Taken(said),
            Verdict::OtherVersion => Attempt::OtherVersion,
            Verdict::Later => {
                let why = format!("{status}: {}", complaint(response).await);
                Attempt::Later { why, after }
            }
            Verdict::Refused => {
                let why = format!("{status}: {}", complaint(response).await);
                let is_too_large = status == StatusCode::PAYLOAD_TOO_LARGE;
                Attempt::Refused { why, taken: said.unwrap_or(0), is_too_large }
            }
        }
    }

    fn verdict(self, status: StatusCode, written: Option<u64>) -> Verdict {
        let is_two = self == Self::RemoteWrite(Version::Two);
        match (status.as_u16(), self) {
            // A receiver of version 1 finds nothing it knows in a message of version 2, and is content.
            (200..=299, _) if is_two && written.is_none() => Verdict::OtherVersion,
            (200..=299, _) => Verdict::Taken,
            (415, _) if is_two => Verdict::OtherVersion,
            (300..=399 | 401 | 403..=405 | 407 | 429, _) => Verdict::Later,
            (502..=504, Self::Otlp | Self::OtlpGrpc) => Verdict::Later,
            (_, Self::Otlp | Self::OtlpGrpc) => Verdict::Refused,
            (408 | 425, Self::RemoteWrite(_)) => Verdict::Later,
            (400..=499, Self::RemoteWrite(_)) => Verdict::Refused,
            (_, Self::RemoteWrite(_)) => Verdict::Later,
        }
    }
}

/// What a status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    Refused,
    Later,
    OtherVersion,
}

/// What an answer of OTLP says of a message that was taken. Of a point of several samples all are
/// refused; how many they are is not said, so it is their share.
pub(super) fn partly(answer: &[u8], message: &Message) -> Attempt {
    match otlp::partial_success(answer) {
        Ok((rejected, why)) if rejected > 0 => {
            let points = message.points.max(1);
            let rejected = rejected.min(points);
            let samples =
                (u128::from(message.samples) * u128::from(rejected)).div_ceil(u128::from(points));
            let samples = u64::try_from(samples).unwrap_or(message.samples);
            Attempt::Partly { why, taken: message.samples.saturating_sub(samples) }
        }
        Ok((_, why)) => {
            if !why.is_empty() {
                tracing::debug!(why, "a warning of a target of OTLP");
            }
            Attempt::Taken(None)
        }
        Err(error) => Attempt::Unread { why: error.to_string() },
    }
}

/// How many samples and histograms an answer of version 2 says were taken.
fn written(headers: &HeaderMap) -> Option<u64> {
    let number = |name| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    let samples = number(SAMPLES_WRITTEN)?;
    Some(samples.saturating_add(number(HISTOGRAMS_WRITTEN).unwrap_or(0)))
}

/// The wait an answer asks for, when it does so in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Wire = Wire::RemoteWrite(Version::One);
    const TWO: Wire = Wire::RemoteWrite(Version::Two);

    #[test]
    fn answers_mean_what_the_tables_say() {
        let check = |wire: Wire, status: u16, written, expected| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(wire.verdict(status, written), expected, "{wire:?} {status}");
        };
        for status in [200, 204] {
            check(ONE, status, None, Verdict::Taken);
            check(Wire::Otlp, status, None, Verdict::Taken);
            check(TWO, status, Some(3), Verdict::Taken);
            check(TWO, status, None, Verdict::OtherVersion);
        }
        for status in [301, 307, 401, 403, 404, 429, 502, 503, 504] {
            check(ONE, status, None, Verdict::Later);
            check(TWO, status, Some(0), Verdict::Later);
            check(Wire::Otlp, status, None, Verdict::Later);
        }
        for status in [408, 500] {
            check(ONE, status, None, Verdict::Later);
            check(TWO, status, Some(0), Verdict::Later);
            check(Wire::Otlp, status, None, Verdict::Refused);
        }
        for status in [400, 409, 413, 422] {
            check(ONE, status, None, Verdict::Refused);
            check(TWO, status, Some(0), Verdict::Refused);
            check(Wire::Otlp, status, None, Verdict::Refused);
        }
        check(ONE, 415, None, Verdict::Refused);
        check(TWO, 415, None, Verdict::OtherVersion);
        check(Wire::Otlp, 415, None, Verdict::Refused);
        check(Wire::Otlp, 501, None, Verdict::Refused);
    }

    #[test]
    fn points_that_were_refused_are_their_share_of_the_samples() {
        let message = Message { body: bytes::Bytes::new(), samples: 100, points: 10 };
        for (rejected, expected) in [(1, 90), (10, 0), (11, 0), (u64::MAX >> 1, 0)] {
            let answer = otlp::response(otlp::Form::Protobuf, rejected, "no");
            let partly_taken = Attempt::Partly { why: "no".to_owned(), taken: expected };
            assert_eq!(partly(&answer, &message), partly_taken);
        }
        assert!(matches!(partly(b"\x0a\xff", &message), Attempt::Unread { .. }));
        for answer in [&b""[..], &otlp::response(otlp::Form::Protobuf, 0, "well")] {
            assert_eq!(partly(answer, &message), Attempt::Taken(None));
        }
    }

    #[test]
    fn a_wait_is_read_in_seconds_and_bounded() {
        let check = |text: &str, expected: Option<u64>| {
            let value = HeaderValue::from_str(text).unwrap();
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value)]);
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{text}");
        };
        check("7", Some(7));
        check("99999", Some(300));
        check("Wed, 21 Oct 2015 07:28:00 GMT", None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
