//! Remote write as its senders see it: messages in, answers and stored samples out.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request};
use serde_json::Value;
use stoa_collector::clock::Clock;
use stoa_collector::config::{Config, QueryConfig, StorageConfig};
use stoa_collector::http::Access;
use stoa_collector::http::access::PeerAddress;
use stoa_collector::http::prometheus::{self, Prometheus};
use stoa_collector::http::remote_write::{self, RemoteWrite};
use stoa_collector::store::Store;
use stoa_exchange::remote_write::{Version, Writer};
use stoa_model::MetricKind;
use stoa_model::histogram::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span,
};
use stoa_wal::disk::SimDisk;
use tower::ServiceExt as _;

const NOW: i64 = 1_800_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

struct Receiver {
    router: Router,
    store: Store,
    remote_write: RemoteWrite,
    doubt: Arc<AtomicBool>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Receiver {
    fn new() -> Self {
        Self::within(0, 100)
    }

    /// With a floor of free space and a bound on a sender's series.
    fn within(free_bytes_min: u64, series_max: usize) -> Self {
        let clock: Clock = Arc::new(|| NOW);
        let storage = StorageConfig {
            retention: Duration::from_secs(14 * 86_400),
            retention_1m: Duration::ZERO,
            retention_1h: Duration::ZERO,
            out_of_order: Duration::from_secs(3600),
            free_bytes_min,
            series_max: 1000,
            ..Config::defaults().unwrap().storage
        };
        let disk = Arc::new(SimDisk::new(1));
        let opened = Store::open(disk, Path::new("/data"), &storage, Arc::clone(&clock));
        let (store, _recovery) = opened.unwrap();
        let query = QueryConfig {
            timeout: Duration::from_secs(30),
            samples_max: 10_000,
            series_max: 1000,
            concurrency_max: 2,
            ..Config::defaults().unwrap().query
        };
        let doubt = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&doubt);
        let remote_write = RemoteWrite::new(
            store.clone(),
            series_max,
            Arc::clone(&clock),
            Arc::new(move || asked.load(Ordering::Relaxed)),
        );
        let table = prometheus::routes(Prometheus::new(store.clone(), &query, clock))
            .merge(remote_write::routes(remote_write.clone()));
        let router = table.into_router((), Access::open());
        Self { router, store, remote_write, doubt }
    }

    async fn ask(&self, request: http::request::Builder, body: Vec<u8>) -> Answer {
        let mut request: Request<Body> =
            request.header("host", "localhost:7480").body(Body::from(body)).unwrap();
        request.extensions_mut().insert(PeerAddress(SocketAddr::from(([127, 0, 0, 1], 1))));
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    async fn post(&self, content_type: &str, encoding: &str, body: Vec<u8>) -> Answer {
        let request = Request::builder()
            .method("POST")
            .uri("/api/v1/write")
            .header("content-type", content_type)
            .header("content-encoding", encoding);
        self.ask(request, body).await
    }

    async fn write(&self, version: Version, message: &[u8]) -> Answer {
        let content_type = if version == Version::One { V1 } else { V2 };
        self.post(content_type, "snappy", snappy(message)).await
    }

    /// `series value` lines of a query's answer, sorted.
    async fn query(&self, query: &str) -> Vec<String> {
        let uri = format!("/api/v1/query?query={query}&time={}", NOW / 1000);
        let answer = self.ask(Request::builder().uri(uri), Vec::new()).await;
        let answer: Value = serde_json::from_str(&answer.text).unwrap();
        let line = |series: &Value| {
            let metric = series.get("metric").unwrap().to_string();
            format!("{} {}", metric, series.pointer("/value/1").unwrap().as_str().unwrap())
        };
        let mut lines: Vec<String> =
            answer.pointer("/data/result").unwrap().as_array().unwrap().iter().map(line).collect();
        lines.sort();
        lines
    }
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

/// A series' labels, and its one sample.
type Given<'a> = (&'a [(&'a str, &'a str)], i64, f64);

/// A message of series of one sample each.
fn message(version: Version, series: &[Given<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(version);
    for (labels, t_ms, value) in series {
        writer.series(labels, &[(*t_ms, *value)]);
    }
    writer.finish()
}

fn written(answer: &Answer) -> Vec<Option<&str>> {
    ["samples", "histograms", "exemplars"]
        .map(|what| format!("x-prometheus-remote-write-{what}-written"))
        .iter()
        .map(|name| answer.headers.get(name).map(|value| value.to_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn what_is_sent_is_stored_once() {
    for version in [Version::One, Version::Two] {
        let content_type = if version == Version::One { V1 } else { V2 };
        let receiver = Receiver::new();
        let body = message(
            version,
            &[
                // Not sorted, and with an empty value, which is an absent label.
                (&[("job", "node"), ("__name__", "up"), ("zone", "")], NOW - 1000, 0.0),
                (&[("__name__", "up"), ("job", "node")], NOW, 1.0),
                (&[("__name__", "up"), ("job", "web")], NOW, 2.0),
            ],
        );
        let packed = zstd::bulk::compress(&body, 1).unwrap();
        for (encoding, body) in [("snappy", snappy(&body)), ("zstd", packed)] {
            let answer = receiver.post(content_type, encoding, body).await;
            assert_eq!((answer.status, answer.text.as_str()), (204, ""));
            let expected = match version {
                Version::One => vec![None; 3],
                Version::Two => vec![Some("3"), Some("0"), Some("0")],
            };
            assert_eq!(written(&answer), expected);
        }
        let up = receiver.query("up").await;
        let line = |job, value| format!(r#"{{"__name__":"up","job":"{job}"}} {value}"#);
        assert_eq!(up, [line("node", 1), line("web", 2)]);
        assert_eq!(receiver.query("sum(count_over_time(up[1h]))").await, ["{} 3"]);
        let figures = receiver.remote_write.figures();
        assert_eq!((figures.samples.stored, figures.samples.duplicate), (3, 3));
        assert_eq!((figures.accepted, figures.senders, figures.series), (2, 1, 3));
        receiver.store.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_prometheus_does() {
    let receiver = Receiver::new();
    let good = snappy(&message(Version::One, &[(&[("__name__", "up")], NOW, 1.0)]));
    // A claim of 4 GiB, and one of nothing that goes on.
    let bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    let zeros = zstd::bulk::compress(&vec![0; 65 << 20], 1).unwrap();
    for (content_type, encoding, body, status, text) in [
        ("text/plain", "snappy", good.clone(), 415, "content type \"text/plain\" is not"),
        ("application/x-protobuf;proto=x.Y", "snappy", good.clone(), 415, "message \"x.Y\" is"),
        ("application/x-protobuf;proto", "snappy", good.clone(), 415, "content type parameter"),
        (V1, "gzip", good.clone(), 415, "content encoding \"gzip\" is neither"),
        (V1, "snappy", b"junk".to_vec(), 400, "snappy: "),
        (V1, "snappy", Vec::new(), 400, "snappy: "),
        (V1, "zstd", b"junk".to_vec(), 400, "zstd: "),
        (V1, "snappy", snappy(b"\x0a\xff"), 400, "not a message of the protocol: it ends"),
        (V1, "snappy", bomb, 413, "the message is over"),
        (V2, "zstd", zeros, 413, "the message is over"),
    ] {
        let answer = receiver.post(content_type, encoding, body).await;
        assert_eq!(answer.status, status, "{content_type} {encoding}: {}", answer.text);
        assert!(answer.text.starts_with(text), "{}", answer.text);
    }
    assert_eq!(receiver.remote_write.figures().unreadable, 10);
    // Who says nothing of it means version 1 and snappy.
    let request = Request::builder().method("POST").uri("/api/v1/write");
    assert_eq!(receiver.ask(request, good).await.status, 204);
    let parameters = "application/x-protobuf; charset=utf-8; proto=prometheus.WriteRequest";
    let again = snappy(&message(Version::One, &[(&[("__name__", "up")], NOW, 1.0)]));
    assert_eq!(receiver.post(parameters, "SNAPPY", again).await.status, 204);
}

#[tokio::test]
async fn what_is_refused_for_good_does_not_hold_up_the_rest() {
    for version in [Version::One, Version::Two] {
        let receiver = Receiver::new();
        let up = [("__name__", "up")];
        let before = message(version, &[(&up, NOW, 1.0)]);
        assert_eq!(receiver.write(version, &before).await.status, 204);
        let long = "x".repeat(1025);
        let good = ("__name__", "good");
        for (series, expected) in [
            ((&up[..], NOW, 2.0), "1 samples for times that have another value"),
            ((&up[..], NOW - 2 * HOUR_MS, 2.0), "1 samples too old"),
            ((&up[..], NOW + HOUR_MS, 2.0), "1 samples too far in the future"),
            (
                (&[("job", "x")][..], NOW, 2.0),
                "1 samples with bad labels (first: {job=\"x\"} has no metric name)",
            ),
            (
                (&[good, good][..], NOW, 2.0),
                "1 samples with bad labels (first: label name \"__name__\" stands twice)",
            ),
            (
                (&[good, ("", "x")][..], NOW, 2.0),
                "1 samples with bad labels (first: a label has no name)",
            ),
            (
                (&[good, ("x", &*long)][..], NOW, 2.0),
                "1 samples with bad labels (first: label \"x\" has 1025 bytes, over 1024)",
            ),
            ((&[good; 65][..], NOW, 2.0), "1 samples with bad labels (first: more than 64 labels)"),
        ] {
            let stored = receiver.remote_write.figures().samples.stored;
            let other = format!("x{stored}");
            let both = message(
                version,
                &[(series.0, series.1, series.2), (&[("__name__", &*other)], NOW, 3.0)],
            );
            let answer = receiver.write(version, &both).await;
            assert_eq!(
                (answer.status, answer.text),
                (400, format!("stored 1, refused {expected}\n"))
            );
            assert_eq!(receiver.query(&other).await.len(), 1);
        }
        let figures = receiver.remote_write.figures();
        let samples = figures.samples;
        assert_eq!(
            (samples.conflicting, samples.too_old, samples.ahead, samples.labels),
            (1, 1, 1, 5)
        );
        assert_eq!((figures.accepted, figures.partial), (1, 8));
        assert_eq!(receiver.query("up").await, [r#"{"__name__":"up"} 1"#]);
    }
}

/// A counter of which the buckets up to 1, up to 2 and above have been met so often.
fn custom(counts: [u64; 3]) -> Histogram {
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        sum: 2.5,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        custom_values: vec![1.0, 2.0],
        counts: Counts::Integer(BucketCounts {
            count: counts.iter().sum(),
            positive: counts.to_vec(),
            ..BucketCounts::default()
        }),
        ..Histogram::stale()
    }
}

#[tokio::test]
async fn native_histograms_are_stored_and_answer() {
    for version in [Version::One, Version::Two] {
        let receiver = Receiver::new();
        let (early, reset) = (custom([5, 5, 1]), custom([1, 1, 0]));
        let late = custom([11, 12, 0]);
        // A gauge of floats, as a rule computes it.
        let floats = Histogram {
            schema: 0,
            sum: 3.5,
            zero_threshold: 0.001,
            positive_spans: vec![Span { offset: 1, length: 1 }],
            negative_spans: vec![Span { offset: 0, length: 1 }],
            counts: Counts::Float(BucketCounts {
                count: 4.5,
                zero_count: 1.0,
                positive: vec![2.5],
                negative: vec![1.0],
            }),
            reset: ResetHint::Gauge,
            ..Histogram::stale()
        };
        let message = || {
            let mut writer = Writer::new(version);
            let given = [(NOW - 120_000, &early), (NOW - 60_000, &reset), (NOW, &late)];
            writer.histograms(&[("__name__", "h"), ("job", "a")], &given);
            writer.histograms(&[("__name__", "f")], &[(NOW, &floats)]);
            writer.histograms(&[("__name__", "ended")], &[(NOW - 1000, &early)]);
            writer.histograms(&[("__name__", "ended")], &[(NOW, &Histogram::stale())]);
            writer.series(&[("__name__", "up")], &[(NOW, 1.0)]);
            writer.finish()
        };
        // The second time all of it is there already.
        for _ in 0..2 {
            let answer = receiver.write(version, &message()).await;
            assert_eq!((answer.status, answer.text.as_str()), (204, ""));
            if version == Version::Two {
                assert_eq!(written(&answer), [Some("1"), Some("6"), Some("0")]);
            }
        }
        let figures = receiver.remote_write.figures();
        assert_eq!((figures.samples.stored, figures.samples.duplicate), (7, 7));
        assert_eq!(figures.histograms_refused, 0);
        // 11 below 1 and 12 from 1 to 2, those after the reset included; the counter began 57 s before.
        for (query, expected) in [
            ("round(histogram_count(increase(h[3m])),0.001)", r#"{"job":"a"} 34"#),
            ("round(histogram_quantile(0.75,rate(h[3m])),0.001)", r#"{"job":"a"} 1.521"#),
            ("histogram_count(h)", r#"{"job":"a"} 23"#),
            ("histogram_sum(f)", "{} 3.5"),
            ("resets(h[5m])", r#"{"job":"a"} 1"#),
            ("count_over_time(ended[1m])", "{} 1"),
            ("up", r#"{"__name__":"up"} 1"#),
        ] {
            assert_eq!(receiver.query(query).await, [expected], "{query}");
        }
        assert!(receiver.query("ended").await.is_empty());
        let uri = format!("/api/v1/query?query=f&time={}", NOW / 1000);
        let answer = receiver.ask(Request::builder().uri(uri), Vec::new()).await;
        let answer: Value = serde_json::from_str(&answer.text).unwrap();
        let buckets = serde_json::json!([
            [1, "-1", "-0.5", "1"],
            [3, "-0.001", "0.001", "1"],
            [0, "1", "2", "2.5"]
        ]);
        let expected = serde_json::json!([{
            "metric": {"__name__": "f"},
            "histogram": [NOW / 1000, {"count": "4.5", "sum": "3.5", "buckets": buckets}],
        }]);
        assert_eq!(answer.pointer("/data/result"), Some(&expected));
    }
}

#[tokio::test]
async fn what_is_no_histogram_is_refused_and_exemplars_without_a_series_are_ignored() {
    for version in [Version::One, Version::Two] {
        let receiver = Receiver::new();
        let good = custom([1, 2, 3]);
        let mut wrong = custom([1, 2, 3]);
        wrong.custom_values = vec![2.0, 1.0];
        let mut writer = Writer::new(version);
        writer.histograms(&[("__name__", "h")], &[(NOW - 1, &wrong), (NOW, &good)]);
        writer.histograms(&[("__name__", "h")], &[(NOW, &custom([1, 2, 4]))]);
        writer.histograms(&[("__name__", "h")], &[(NOW + 10 * HOUR_MS, &good)]);
        writer.histograms(&[("job", "nameless")], &[(NOW, &good)]);
        let answer = receiver.write(version, &writer.finish()).await;
        let expected = "stored 1, refused 1 samples for times that have another value, \
                        1 samples too far in the future, 1 samples with bad labels, \
                        1 native histograms that are not valid or too large (first: custom bounds \
                        must be numbers below +Inf in ascending order, 1 is not)\n";
        assert_eq!((answer.status, answer.text.as_str()), (400, expected));
        assert_eq!(receiver.remote_write.figures().histograms_refused, 1);
        if version == Version::Two {
            assert_eq!(written(&answer), [Some("0"), Some("1"), Some("0")]);
        }
        assert_eq!(receiver.query("histogram_count(h)").await, ["{} 6"]);
    }
    let receiver = Receiver::new();
    let mut body = message(Version::One, &[(&[("__name__", "up")], NOW, 1.0)]);
    // A series of an exemplar.
    body.extend([0x0a, 0x02, 0x1a, 0x00]);
    assert_eq!(receiver.write(Version::One, &body).await.status, 204);
    assert_eq!(receiver.remote_write.figures().exemplars_ignored, 1);
}

#[tokio::test]
async fn one_sender_has_so_many_series() {
    let receiver = Receiver::within(0, 2);
    let series = |name| message(Version::One, &[(&[("__name__", name)], NOW, 1.0)]);
    assert_eq!(receiver.write(Version::One, &series("a")).await.status, 204);
    assert_eq!(receiver.write(Version::One, &series("b")).await.status, 204);
    let answer = receiver.write(Version::One, &series("c")).await;
    let expected = "stored 0, refused 1 samples of series over a limit \
                    (first: the sender has 2 series active already)\n";
    assert_eq!((answer.status, answer.text.as_str()), (400, expected));
    assert_eq!(receiver.write(Version::One, &series("a")).await.status, 204);
    assert_eq!(receiver.remote_write.figures().samples.limit, 1);
}

#[tokio::test]
async fn what_cannot_be_stored_now_shall_come_again() {
    let full = Receiver::within(u64::MAX, 10);
    let body = message(Version::Two, &[(&[("__name__", "up")], NOW, 1.0)]);
    let answer = full.write(Version::Two, &body).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.headers["retry-after"], "5");
    assert!(answer.text.starts_with("the disk is full: "), "{}", answer.text);
    assert_eq!(written(&answer), [Some("0"), Some("0"), Some("0")]);
    assert_eq!(full.remote_write.figures().deferred, 1);

    let receiver = Receiver::new();
    receiver.doubt.store(true, Ordering::Relaxed);
    let ahead = message(Version::One, &[(&[("__name__", "up")], NOW + HOUR_MS, 1.0)]);
    let answer = receiver.write(Version::One, &ahead).await;
    assert_eq!((answer.status, receiver.remote_write.figures().samples.ahead), (503, 0));
    let now = message(Version::One, &[(&[("__name__", "up")], NOW, 1.0)]);
    assert_eq!(receiver.write(Version::One, &now).await.status, 204);

    receiver.store.close().await.unwrap();
    let closed = receiver.write(Version::One, &now).await;
    assert_eq!((closed.status, closed.text.as_str()), (503, "the store is closed\n"));
}

#[tokio::test]
async fn what_is_said_about_metrics_is_kept() {
    for version in [Version::One, Version::Two] {
        let receiver = Receiver::new();
        let mut writer = Writer::new(version);
        let said = Some((MetricKind::Histogram, "How long.", "seconds"));
        writer.described(&[("__name__", "x_seconds_bucket"), ("le", "1")], &[(NOW, 1.0)], said);
        writer.metadata("x_seconds", MetricKind::Histogram, "How long.", "seconds");
        assert_eq!(receiver.write(version, &writer.finish()).await.status, 204);
        let kept = receiver.store.metadata().get("x_seconds").unwrap();
        assert_eq!(kept.kind, MetricKind::Histogram);
        assert_eq!((&*kept.help, &*kept.unit), ("How long.", "seconds"));
        assert_eq!(receiver.store.metadata().all().len(), 1);
    }
}
