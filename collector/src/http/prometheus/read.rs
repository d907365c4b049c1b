//! `/api/v1/read`: Prometheus remote read, as one message of samples or as a stream of chunks, whichever
//! the asker names first.
//!
//! Answered are raw samples, native histograms and stale markers included; aggregates of long history are
//! not. A query's matcher that asks for an external label by its value asks for all series here, and these
//! get that label. Bounds: a request of [`BODY_BYTES_MAX`], [`MESSAGE_BYTES_MAX`] decompressed; the samples,
//! series, time and concurrency of queries (`query.*`), over all queries of a request together.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use stoa_exchange::remote_read::{self, Form, Query, Request, SamplesWriter};
use stoa_model::{Histogram, Labels, MatchOp, Matcher, PatternBudget, TimestampMs};
use stoa_promql::{Select, Storage as _, StorageError};

use super::Stop;
use super::active::Asked;
use super::outward::{Outward, unread};
use super::reply::{ApiError, ErrorKind};
use crate::http::pushed::Refusal;
use crate::http::pushed::body::Compression;
use crate::store::StoreView;

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
    let asked = Arc::clone(outward);
    let work = move |stop: &Stop| {
        let view = asked.prometheus.store.view().until(stop.flag());
        let mut left = asked.prometheus.samples_max;
        let mut samples = SamplesWriter::default();
        let mut frames: Vec<Bytes> = Vec::new();
        for (number, query) in request.queries.iter().enumerate() {
            let series = asked.select(&view, query, &mut left)?;
            for (labels, Samples { floats, histograms }) in &series {
                if stop.asked() {
                    return Err(unread(&StorageError::Stopped));
                }
                let series = remote_read::Series { labels, floats, histograms };
                match form {
                    Form::Samples => samples.series(&series),
                    Form::Chunks => remote_read::chunk_frames(number, &series, |frame| {
                        frames.push(frame.into());
                    }),
                }
            }
            samples.end_query();
        }
        Ok(match form {
            Form::Samples => Answer::Samples(packed(&samples.finish())?),
            Form::Chunks => Answer::Chunks(frames),
        })
    };
    let gate = &outward.prometheus.gate;
    let of = Asked::new("/api/v1/read", text, now);
    Ok(match gate.run(of, gate.timeout_max(), work).await? {
        Answer::Samples(body) => {
            let snappy = HeaderValue::from_static("snappy");
            let headers = [(header::CONTENT_TYPE, PROTOBUF), (header::CONTENT_ENCODING, snappy)];
            (headers, body).into_response()
        }
        Answer::Chunks(frames) => {
            let frames = frames.into_iter().map(Ok::<_, std::convert::Infallible>);
            let body = Body::from_stream(tokio_stream::iter(frames));
            ([(header::CONTENT_TYPE, STREAMED)], body).into_response()
        }
    })
}

enum Answer {
    Samples(Vec<u8>),
    Chunks(Vec<Bytes>),
}

fn packed(message: &[u8]) -> Result<Vec<u8>, ApiError> {
    // Its length must fit 32 bits.
    let packed = snap::raw::Encoder::new().compress_vec(message);
    packed.map_err(|error| ApiError::new(ErrorKind::Execution, format!("snappy: {error}")))
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

/// The samples of one series, each kind in order of time.
#[derive(Debug, Default)]
struct Samples {
    floats: Vec<(TimestampMs, f64)>,
    histograms: Vec<(TimestampMs, Histogram)>,
}

/// The samples of two series that external labels make one; of two of one time the first.
fn merged<V>(
    mut one: Vec<(TimestampMs, V)>,
    other: Vec<(TimestampMs, V)>,
) -> Vec<(TimestampMs, V)> {
    if one.is_empty() {
        return other;
    }
    one.extend(other);
    one.sort_by_key(|(t_ms, _)| *t_ms);
    one.dedup_by_key(|(t_ms, _)| *t_ms);
    one
}

impl Outward {
    /// What a query asks for, under the labels others know it by; `left` says how many samples may be
    /// read.
    fn select(
        &self,
        view: &StoreView,
        query: &Query,
        left: &mut usize,
    ) -> Result<BTreeMap<Labels, Samples>, ApiError> {
        let samples_max = self.prometheus.samples_max;
        let failed = |error: StorageError| match error {
            StorageError::TooManySamples { .. } => {
                let text = format!("exceeded sample limit ({samples_max})");
                ApiError::new(ErrorKind::Execution, text)
            }
            other => unread(&other),
        };
        let matchers = self.matchers(query)?;
        let select = |left: usize| Select {
            matchers: &matchers,
            start_ms: query.start_ms,
            end_ms: query.end_ms,
            series_max: self.prometheus.series_max,
            samples_max: left,
        };
        let mut found: BTreeMap<Labels, Samples> = BTreeMap::new();
        for series in view.select(&select(*left)).map_err(failed)? {
            *left = left.saturating_sub(series.values.len());
            let floats = series.timestamps.iter().copied().zip(series.values).collect();
            let samples = found.entry(self.labelled(&series.labels)).or_default();
            samples.floats = merged(std::mem::take(&mut samples.floats), floats);
        }
        for series in view.stored_histograms(&select(*left)).map_err(failed)? {
            *left = left.saturating_sub(series.weight());
            let samples = found.entry(self.labelled(&series.labels)).or_default();
            samples.histograms = merged(std::mem::take(&mut samples.histograms), series.samples);
        }
        for Samples { floats, histograms } in found.values_mut() {
            histograms.retain(|(t_ms, _)| floats.binary_search_by_key(t_ms, |(t, _)| *t).is_err());
        }
        Ok(found)
    }

    /// The matchers as they hold for what is stored, which has no external labels.
    fn matchers(&self, query: &Query) -> Result<Vec<Matcher>, ApiError> {
        let mut budget = PatternBudget::default();
        let each = query.matchers.iter().map(|matcher| {
            let own = self.external.get(&matcher.name);
            let is_ours = matcher.op == MatchOp::Equal && own == Some(matcher.value.as_str());
            let value = if is_ours { "" } else { &matcher.value };
            Matcher::within(&*matcher.name, matcher.op, value, &mut budget)
                .map_err(|error| ApiError::bad_data(stoa_daemon::error_chain(&error)))
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_that_become_one_keep_what_each_has() {
        let one = vec![(1, 'a'), (3, 'a')];
        assert_eq!(merged(one.clone(), Vec::new()), one);
        assert_eq!(merged(Vec::new(), one.clone()), one);
        let both = merged(one, vec![(0, 'b'), (1, 'b'), (4, 'b')]);
        assert_eq!(both, [(0, 'b'), (1, 'a'), (3, 'a'), (4, 'b')]);
    }
}
