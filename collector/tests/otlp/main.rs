//! OTLP as its senders see it: messages in both forms over HTTP and gRPC in, answers and stored samples
//! out.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod deltas;
mod exemplars;
mod starts;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use serde_json::{Value, json};
use stoa_collector::clock::{self, Clock};
use stoa_collector::config::{Config, PushConfig, QueryConfig, StorageConfig};
use stoa_collector::http::access::PeerAddress;
use stoa_collector::http::otlp::{self, Otlp};
use stoa_collector::http::prometheus::{self, Prometheus};
use stoa_collector::http::remote_write::{self, RemoteWrite};
use stoa_collector::http::serve::{Limits, Places};
use stoa_collector::http::{Access, AccessConfig, Principal, Scope, serve};
use stoa_collector::push::Pusher;
use stoa_collector::server::Server;
use stoa_collector::store::Store;
use stoa_wal::disk::SimDisk;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::ServiceExt as _;

const NOW: i64 = 1_800_000_000_000;
const NOW_NS: u64 = 1_800_000_000_000_000_000;
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

struct Receiver {
    router: Router,
    store: Store,
    otlp: Otlp,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Receiver {
    fn new() -> Self {
        Self::within(0, Access::open())
    }

    /// With a floor of free space and rules of access.
    fn within(free_bytes_min: u64, access: Arc<Access>) -> Self {
        Self::with(free_bytes_min, access, PushConfig::default())
    }

    fn with(free_bytes_min: u64, access: Arc<Access>, push: PushConfig) -> Self {
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
        let doubt = Arc::new(|| false);
        let pusher = Pusher::with(store.clone(), 100, Arc::clone(&clock), doubt, push);
        let otlp = Otlp::new(pusher.clone(), &Config::defaults().unwrap().otlp);
        let table = prometheus::routes(Prometheus::new(store.clone(), &query, clock))
            .merge(otlp::routes(otlp.clone()))
            .merge(remote_write::routes(RemoteWrite::over(pusher)));
        Self { router: table.into_router((), access), store, otlp }
    }

    async fn ask(&self, request: http::request::Builder, body: Vec<u8>) -> Answer {
        let mut request: Request<Body> =
            request.header("host", "localhost:7480").body(Body::from(body)).unwrap();
        request.extensions_mut().insert(PeerAddress(SocketAddr::from(([127, 0, 0, 1], 1))));
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_vec() }
    }

    async fn post(&self, path: &str, form: &str, encoding: &str, body: Vec<u8>) -> Answer {
        let mut request = Request::builder().method("POST").uri(path).header("content-type", form);
        if !encoding.is_empty() {
            request = request.header("content-encoding", encoding);
        }
        self.ask(request, body).await
    }

    /// `series value` lines of a query's answer, sorted.
    async fn query(&self, query: &str) -> Vec<String> {
        let uri = format!("/api/v1/query?query={query}&time={}", NOW / 1000);
        let answer = self.ask(Request::builder().uri(uri), Vec::new()).await.json();
        let line = |series: &Value| {
            let metric = series.get("metric").unwrap().to_string();
            format!("{} {}", metric, series.pointer("/value/1").unwrap().as_str().unwrap())
        };
        let mut lines: Vec<String> =
            answer.pointer("/data/result").unwrap().as_array().unwrap().iter().map(line).collect();
        lines.sort();
        lines
    }

    /// Serves on a port of loopback, without TLS, until the result is dropped.
    async fn served(&self) -> (SocketAddr, tokio_util::sync::DropGuard) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let places = Places::new(Limits::default());
        tokio::spawn(serve(listener, self.router.clone(), None, places, stop.clone()));
        (addr, stop.drop_guard())
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text).unwrap();
    packed.finish().unwrap()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = any_value::Value::StringValue(value.to_owned());
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// One point each of a gauge and a sum of this temporality.
fn message(gauge: f64, sum: i64, temporality: i32) -> ExportMetricsServiceRequest {
    let point = |value| NumberDataPoint {
        attributes: vec![attribute("disk.name", "sda")],
        time_unix_nano: NOW_NS,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let metric = |name: &str, unit: &str, data| Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: format!("What {name} is."),
        data: Some(data),
        ..Metric::default()
    };
    let gauge = Gauge { data_points: vec![point(number_data_point::Value::AsDouble(gauge))] };
    let sum = Sum {
        data_points: vec![point(number_data_point::Value::AsInt(sum))],
        aggregation_temporality: temporality,
        is_monotonic: true,
    };
    let metrics = vec![
        metric("disk.temperature", "Cel", metric::Data::Gauge(gauge)),
        metric("disk.io", "By", metric::Data::Sum(sum)),
    ];
    let attributes =
        vec![attribute("service.name", "disks"), attribute("service.instance.id", "a")];
    let resource = Resource { attributes, ..Resource::default() };
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource =
        ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

const UNSAID: i32 = 0;
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// The same as [`message`] with 36.5 and 7, in JSON.
fn message_in_json() -> Vec<u8> {
    let attributes = json!([{"key": "disk.name", "value": {"stringValue": "sda"}}]);
    let point = |key: &str, value: Value| {
        json!([
            {"timeUnixNano": NOW_NS.to_string(), "attributes": attributes, key: value}
        ])
    };
    let message = json!({"resourceMetrics": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "disks"}},
            {"key": "service.instance.id", "value": {"stringValue": "a"}},
        ]},
        "scopeMetrics": [{"metrics": [
            {"name": "disk.temperature", "unit": "Cel", "gauge": {"dataPoints": point("asDouble", json!(36.5))}},
            {"name": "disk.io", "unit": "By", "sum": {
                "dataPoints": point("asInt", json!("7")),
                "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
                "isMonotonic": true,
            }},
        ]}],
    }]});
    serde_json::to_vec(&message).unwrap()
}

const LABELS: &str = r#""disk_name":"sda","instance":"a","job":"disks""#;

#[tokio::test]
async fn what_is_sent_is_stored_once_in_every_form_and_packing() {
    let protobuf = message(36.5, 7, CUMULATIVE).encode_to_vec();
    for (form, body, success) in [(PROTOBUF, protobuf, &b""[..]), (JSON, message_in_json(), b"{}")]
    {
        let receiver = Receiver::new();
        let packed = zstd::bulk::compress(&body, 1).unwrap();
        for (path, encoding, body) in [
            ("/v1/metrics", "", body.clone()),
            ("/v1/metrics", "gzip", gzip(&body)),
            ("/api/v1/otlp/v1/metrics", "zstd", packed),
            ("/api/v1/otlp/v1/metrics", "identity", body),
        ] {
            let answer = receiver.post(path, form, encoding, body).await;
            assert_eq!((answer.status, &*answer.body), (200, success), "{form} {path} {encoding}");
            assert_eq!(answer.headers["content-type"], form);
        }
        for (name, value) in [("disk_temperature_celsius", "36.5"), ("disk_io_bytes_total", "7")] {
            let line = format!(r#"{{"__name__":"{name}",{LABELS}}} {value}"#);
            assert_eq!(receiver.query(name).await, [line]);
        }
        let figures = receiver.otlp.figures();
        assert_eq!((figures.samples.stored, figures.samples.duplicate), (2, 6));
        assert_eq!((figures.accepted, figures.senders, figures.series), (4, 1, 2));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_the_form_it_came_in() {
    let receiver = Receiver::new();
    let good = message(36.5, 7, CUMULATIVE).encode_to_vec();
    let zeros = |bytes: usize| zstd::bulk::compress(&vec![0; bytes], 1).unwrap();
    for (form, encoding, body, status, text) in [
        ("text/plain", "", good.clone(), 415, "content type \"text/plain\" is neither"),
        ("", "", good.clone(), 415, "content type \"\" is neither"),
        (PROTOBUF, "snappy", good.clone(), 415, "content encoding \"snappy\" is neither"),
        (PROTOBUF, "gzip", good.clone(), 400, "gzip: "),
        (PROTOBUF, "zstd", good.clone(), 400, "zstd: "),
        (PROTOBUF, "", b"\x0a\xff".to_vec(), 400, "not a message of the protocol: it ends"),
        (JSON, "", good, 400, "not JSON: "),
        (JSON, "gzip", gzip(b"{"), 400, "not JSON: "),
        (PROTOBUF, "zstd", zeros((64 << 20) + 1), 413, "the message is over 67108864 bytes"),
        (PROTOBUF, "gzip", gzip(&vec![0; (64 << 20) + 1]), 413, "the message is over 67108864 "),
        (JSON, "zstd", zeros((16 << 20) + 1), 413, "the message is over 16777216 bytes"),
        (JSON, "", vec![b' '; (16 << 20) + 1], 413, "the message is over 16777216 bytes"),
    ] {
        let answer = receiver.post("/v1/metrics", form, encoding, body).await;
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{form} {encoding}: {told}");
        let told =
            if form == JSON { answer.json()["message"].as_str().unwrap().to_owned() } else { told };
        assert!(told.contains(text), "{form} {encoding}: {told}");
    }
    assert_eq!(receiver.otlp.figures().unreadable, 12);
    let nothing = receiver.post("/v1/metrics", PROTOBUF, "", Vec::new()).await;
    assert_eq!((nothing.status, nothing.body.len()), (200, 0), "an empty message is one");
}

#[tokio::test]
async fn what_is_refused_for_good_is_said_and_does_not_hold_up_the_rest() {
    let receiver = Receiver::new();
    let body = message(36.5, 7, UNSAID);
    let gauges = |names_and_times: &[(&str, u64)]| {
        let gauge = |(name, time_ns): &(&str, u64)| json!({"name": name, "gauge": {"dataPoints": [{"timeUnixNano": time_ns, "asInt": 1}]}});
        let metrics: Vec<Value> = names_and_times.iter().map(gauge).collect();
        let message = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]});
        serde_json::to_vec(&message).unwrap()
    };
    let before = receiver.post("/v1/metrics", JSON, "", gauges(&[("late", NOW_NS)])).await;
    assert_eq!((before.status, before.json()), (200, json!({})));
    let json = gauges(&[("up", NOW_NS), ("late", NOW_NS - 7_200_000_000_000)]);
    let answer = receiver.post("/v1/metrics", JSON, "", json).await;
    assert_eq!(answer.status, 200);
    let told = answer.json();
    let told = told.get("partialSuccess").unwrap();
    assert_eq!(told["rejectedDataPoints"], "1");
    assert_eq!(told["errorMessage"], "stored 1, refused 1 samples too old");

    // A histogram is one point, of however many samples, and a target_info is none.
    let points = |ms: u64| {
        let time_ns = NOW_NS - ms * 1_000_000;
        let histogram = json!({"timeUnixNano": time_ns, "count": 6, "bucketCounts": [1, 2, 3], "explicitBounds": [1, 2]});
        json!([{"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [histogram]}}, {"name": "g", "gauge": {"dataPoints": [{"timeUnixNano": time_ns, "asInt": 1}]}}])
    };
    let attributes = json!([{"key": "service.name", "value": {"stringValue": "s"}}, {"key": "x", "value": {"stringValue": "y"}}]);
    for (ms, rejected, refused) in [(0, None, 0), (7_200_000, Some("2"), 6)] {
        let message = json!({"resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": points(ms)}]}]});
        let message = serde_json::to_vec(&message).unwrap();
        let told = receiver.post("/v1/metrics", JSON, "", message).await.json();
        let found = told.pointer("/partialSuccess/rejectedDataPoints").and_then(Value::as_str);
        assert_eq!(found, rejected, "{told}");
        assert_eq!(receiver.otlp.figures().samples.too_old, 1 + refused);
    }

    let answer = receiver.post("/v1/metrics", PROTOBUF, "", body.encode_to_vec()).await;
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 200);
    assert!(text.contains("stored 1, refused 1 points that cannot be kept (first: "), "{text}");
    assert!(text.contains("not cumulative"), "{text}");
    assert!(receiver.query("disk_io_bytes_total").await.is_empty());
    assert_eq!(receiver.query("disk_temperature_celsius").await.len(), 1);
    let figures = receiver.otlp.figures();
    assert_eq!((figures.partial, figures.points_refused, figures.samples.too_old), (3, 1, 7));
}

#[tokio::test]
async fn what_cannot_be_stored_now_shall_come_again() {
    let full = Receiver::within(u64::MAX, Access::open());
    let body = message(36.5, 7, CUMULATIVE);
    for form in [PROTOBUF, JSON] {
        let bytes = if form == JSON { message_in_json() } else { body.encode_to_vec() };
        let answer = full.post("/v1/metrics", form, "", bytes).await;
        assert_eq!((answer.status, &answer.headers["retry-after"]), (503, &"5".parse().unwrap()));
        assert!(String::from_utf8_lossy(&answer.body).contains("the disk is full: "));
    }
    let (addr, _serving) = full.served().await;
    let mut client = MetricsServiceClient::connect(format!("http://{addr}")).await.unwrap();
    let refused = client.export(body).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().starts_with("the disk is full: "), "{refused}");
    assert_eq!(full.otlp.figures().deferred, 3);
}

#[tokio::test]
async fn a_client_of_grpc_is_served_where_http_is() {
    let receiver = Receiver::new();
    let (addr, _serving) = receiver.served().await;
    let mut client = MetricsServiceClient::connect(format!("http://{addr}")).await.unwrap();
    let answer = client.export(message(36.5, 7, CUMULATIVE)).await.unwrap().into_inner();
    assert_eq!(answer.partial_success, None);
    let answer = client.export(message(36.5, 7, UNSAID)).await.unwrap().into_inner();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 1);
    assert!(partial.error_message.contains("not cumulative"), "{}", partial.error_message);
    drop(rustls::crypto::ring::default_provider().install_default());
    let answer = reqwest::get(format!(
        "http://{addr}/api/v1/query?query=disk_io_bytes_total&time=1800000000"
    ));
    let answer: Value = serde_json::from_str(&answer.await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(answer.pointer("/data/result/0/value/1"), Some(&json!("7")));
    // Larger than HTTP/2's windows, and the longest there may be.
    let mut large = message(36.5, 7, CUMULATIVE);
    large.resource_metrics[0].schema_url = "x".repeat(31 << 20);
    assert_eq!(client.export(large.clone()).await.unwrap().into_inner().partial_success, None);
    large.resource_metrics[0].schema_url = "x".repeat(32 << 20);
    assert_eq!(client.export(large).await.unwrap_err().code(), Code::ResourceExhausted);
}

/// A call's bytes, its answer's status and what is said of it; the status of HTTP is always 200.
async fn call(receiver: &Receiver, path: &str, encoding: &str, body: &[u8]) -> (String, String) {
    let mut request = Request::builder()
        .method("POST")
        .uri(path)
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    if !encoding.is_empty() {
        request = request.header("grpc-encoding", encoding);
    }
    let answer = receiver.ask(request, body.to_vec()).await;
    assert_eq!(answer.headers["grpc-accept-encoding"], "identity,gzip,zstd");
    let text = |name: &str| answer.headers.get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!((answer.status, text("content-type")), (200, "application/grpc"));
    (text("grpc-status").to_owned(), text("grpc-message").to_owned())
}

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

#[tokio::test]
async fn a_call_says_how_it_is_packed_and_is_told_in_grpc_what_is_wrong() {
    let receiver = Receiver::new();
    let good = message(36.5, 7, CUMULATIVE).encode_to_vec();
    let zstd = zstd::bulk::compress(&good, 1).unwrap();
    for (encoding, body) in [
        ("", frame(0, &good)),
        ("gzip", frame(1, &gzip(&good))),
        ("zstd", frame(1, &zstd)),
        ("gzip", frame(0, &good)),
    ] {
        // Success is said in trailers.
        assert_eq!(call(&receiver, EXPORT, encoding, &body).await, (String::new(), String::new()));
    }
    assert_eq!(receiver.otlp.figures().samples.duplicate, 6);
    let zeros = zstd::bulk::compress(&vec![0; (64 << 20) + 1], 1).unwrap();
    let logs = EXPORT.replace("metrics.v1.Metrics", "logs.v1.Logs");
    for (path, encoding, body, status, text) in [
        (EXPORT, "snappy", frame(1, &good), "12", "grpc encoding"),
        (EXPORT, "gzip", frame(1, &good), "3", "gzip: "),
        (EXPORT, "", frame(0, b"\x0a\xff"), "3", "not a message of the protocol"),
        (EXPORT, "", good.clone(), "13", "a message of"),
        (EXPORT, "", Vec::new(), "13", "a call without a message"),
        (EXPORT, "", frame(1, &good), "13", "a compressed message without grpc-encoding"),
        (EXPORT, "identity", frame(1, &good), "13", "a compressed message without grpc-encoding"),
        (EXPORT, "zstd", frame(1, &zeros), "8", "the message is over"),
        (&logs, "", frame(0, &good), "12", "Stoa takes metrics by OTLP"),
        ("/grpc.health.v1.Health/Check", "", frame(0, &good), "12", "404 page not found"),
    ] {
        let (found, told) = call(&receiver, path, encoding, &body).await;
        assert_eq!(found, status, "{path} {encoding}: {told}");
        assert!(told.starts_with(text), "{path} {encoding}: {told}");
    }
}

#[tokio::test]
async fn logs_and_traces_are_not_taken() {
    let receiver = Receiver::new();
    for path in ["/v1/logs", "/otlp/v1/logs", "/v1/traces"] {
        let answer = receiver.post(path, JSON, "", b"{}".to_vec()).await;
        assert_eq!(answer.status, 501, "{path}");
        let told =
            json!({"code": 12, "message": "Stoa takes metrics by OTLP, no logs and no traces"});
        assert_eq!(answer.json(), told, "{path}");
    }
    // Who speaks no gRPC is not told in gRPC.
    let mut unreadable = 3;
    for service in ["metrics.v1.Metrics", "logs.v1.Logs", "trace.v1.Trace"] {
        let path = EXPORT.replace("metrics.v1.Metrics", service);
        let no_call = receiver.post(&path, JSON, "", b"{}".to_vec()).await;
        assert_eq!((no_call.status, no_call.headers.get("grpc-status")), (415, None), "{path}");
        unreadable += 1;
    }
    assert_eq!(receiver.otlp.figures().unreadable, unreadable);
}

#[tokio::test]
async fn bodies_that_are_long_in_coming_leave_room_for_others() {
    let receiver = Receiver::new();
    let mut slow = Vec::new();
    for length in [None, Some(32 << 20)].into_iter().cycle().take(40) {
        let begun = tokio_stream::iter([Ok::<_, std::convert::Infallible>(vec![b'x'; 100_000])]);
        let body = Body::from_stream(begun.chain(tokio_stream::pending()));
        let mut request = Request::post("/v1/metrics").header("host", "localhost:7480");
        if let Some(length) = length {
            request = request.header("content-length", length.to_string());
        }
        let mut request = request.header("content-type", PROTOBUF).body(body).unwrap();
        request.extensions_mut().insert(PeerAddress(SocketAddr::from(([127, 0, 0, 1], 1))));
        slow.push(tokio::spawn(receiver.router.clone().oneshot(request)));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let good = message(36.5, 7, CUMULATIVE).encode_to_vec();
    let answer = receiver.post("/v1/metrics", PROTOBUF, "", good);
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(slow.iter().all(|request| !request.is_finished()));
}

#[tokio::test]
async fn a_call_needs_what_a_request_needs() {
    // As on another address, behind TLS.
    let config = AccessConfig {
        loopback_credentials: true,
        ..AccessConfig::on("127.0.0.1:4317".parse().unwrap())
    };
    let access = Access::new(
        config,
        Box::new(|secret| {
            let scope = match secret {
                "may-read" => Scope::Read,
                "may-write" => Scope::Write,
                _ => return None,
            };
            Some(Principal { name: secret.to_owned(), scope })
        }),
    );
    let receiver = Receiver::within(0, access);
    let (addr, _serving) = receiver.served().await;
    let mut client = MetricsServiceClient::connect(format!("http://{addr}")).await.unwrap();
    for (token, expected) in [
        ("", Err((Code::Unauthenticated, "a credential is needed"))),
        ("guessed", Err((Code::Unauthenticated, "the token is not known here"))),
        ("may-read", Err((Code::PermissionDenied, "this needs the scope write"))),
        ("may-write", Ok(())),
    ] {
        let mut request = tonic::Request::new(message(36.5, 7, CUMULATIVE));
        if !token.is_empty() {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        match (client.export(request).await, expected) {
            (Ok(_), Ok(())) => {}
            (Err(status), Err((code, why))) => {
                assert_eq!(status.code(), code, "{token}: {status}");
                assert!(status.message().starts_with(why), "{token}: {status}");
            }
            (answer, expected) => panic!("{token}: {answer:?}, not {expected:?}"),
        }
    }
    let answer = receiver.post("/v1/metrics", JSON, "", b"{}".to_vec()).await;
    assert_eq!(answer.status, 401);
}

/// What a node of Proxmox VE 9 sends, as its Perl writes it: numbers of 64 bits as numbers, a guest's
/// number where text is due, units of its own.
fn sent_by_pve() -> Vec<u8> {
    let node = json!([{"key": "node", "value": {"stringValue": "pve1"}}]);
    let guest = json!([
        {"key": "vmid", "value": {"stringValue": 101}},
        {"key": "node", "value": {"stringValue": "pve1"}},
        {"key": "name", "value": {"stringValue": "web"}},
        {"key": "type", "value": {"stringValue": "qemu"}},
    ]);
    let point = |attributes: &Value, key: &str, value: Value| json!([{"timeUnixNano": NOW_NS, "attributes": attributes, key: value}]);
    let gauge = |name: &str, unit: &str, points: Value| json!({"name": name, "unit": unit, "gauge": {"dataPoints": points}});
    let counter = |name: &str, unit: &str, points: Value| {
        let sum = json!({"dataPoints": points, "aggregationTemporality": 2, "isMonotonic": true});
        json!({"name": name, "unit": unit, "sum": sum})
    };
    let message = json!({"resourceMetrics": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "proxmox-ve"}},
            {"key": "service.version", "value": {"stringValue": "9.1.1"}},
            {"key": "proxmox.cluster", "value": {"stringValue": "home"}},
            {"key": "proxmox.node", "value": {"stringValue": "pve1"}},
        ]},
        "scopeMetrics": [{"scope": {}, "metrics": [
            gauge("proxmox_node_cpustat_cpu", "percent", point(&node, "asDouble", json!(0.25))),
            counter("proxmox_node_cpustat_iowait_total", "seconds", point(&node, "asInt", json!(4711))),
            gauge("proxmox_node_cpustat_avg1", "1", point(&node, "asDouble", json!(0.5))),
            gauge("proxmox_node_memory_memtotal", "bytes", point(&node, "asInt", json!(68_719_476_736_u64))),
            gauge("proxmox_node_uptime", "seconds", point(&node, "asInt", json!(86_400))),
            gauge("proxmox_vm_maxmem", "bytes", point(&guest, "asInt", json!(8_589_934_592_u64))),
            counter("proxmox_vm_netin_total", "bytes", point(&guest, "asInt", json!(99))),
        ]}],
    }]});
    serde_json::to_vec(&message).unwrap()
}

#[tokio::test]
async fn a_proxmox_node_is_seen_by_the_names_dashboards_use() {
    let receiver = Receiver::new();
    let body = gzip(&sent_by_pve());
    let answer = receiver.post("/v1/metrics", JSON, "gzip", body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({})));
    let node = r#""job":"proxmox-ve","node":"pve1""#;
    let guest = r#""job":"proxmox-ve","name":"web","node":"pve1","type":"qemu","vmid":"101""#;
    for (name, labels, value) in [
        ("proxmox_node_cpustat_cpu_percent", node, "0.25"),
        ("proxmox_node_cpustat_iowait_seconds_total", node, "4711"),
        ("proxmox_node_cpustat_avg1_ratio", node, "0.5"),
        ("proxmox_node_memory_memtotal_bytes", node, "68719476736"),
        ("proxmox_node_uptime_seconds", node, "86400"),
        ("proxmox_vm_maxmem_bytes", guest, "8589934592"),
        ("proxmox_vm_netin_bytes_total", guest, "99"),
        (
            "target_info",
            r#""job":"proxmox-ve","proxmox_cluster":"home","proxmox_node":"pve1","service_version":"9.1.1""#,
            "1",
        ),
    ] {
        let line = format!(r#"{{"__name__":"{name}",{labels}}} {value}"#);
        assert_eq!(receiver.query(name).await, [line]);
    }
    let kept = receiver.store.metadata().get("proxmox_node_memory_memtotal_bytes").unwrap();
    assert_eq!(&*kept.unit, "bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_listens_where_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[otlp]\nhttp_listen = \"127.0.0.1:0\"\ngrpc_listen = \"127.0.0.1:0\"\n\
                [agents]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
                [storage]\nfree_bytes_min = \"0B\"";
    let mut config = Config::parse(Path::new("c.toml"), text).unwrap();
    config.data_dir = dir.path().to_owned();
    let server = Server::start(config, clock::system()).await.unwrap();
    assert_eq!(server.otlp_addrs().len(), 2);
    // Whichever test is first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::new();
    let mut addrs = server.otlp_addrs().to_vec();
    addrs.push(server.http_addr());
    for addr in addrs {
        let request = client.post(format!("http://{addr}/v1/metrics"));
        let answer = request.header("content-type", JSON).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut grpc = MetricsServiceClient::connect(format!("http://{addr}")).await.unwrap();
        grpc.export(ExportMetricsServiceRequest::default()).await.unwrap();
        let answer = client.get(format!("http://{addr}/metrics")).send().await.unwrap();
        let expected = if addr == server.http_addr() { 200 } else { 404 };
        assert_eq!(answer.status(), expected, "only OTLP is served on OTLP's ports");
    }
    assert_eq!(server.parts().figures().otlp.accepted, 6);
    server.stop().await.unwrap();
}
