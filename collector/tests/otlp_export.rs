//! What is stored, passed on by OTLP: to another Stoa, which then answers the same, and to a receiver that
//! fails, refuses and comes back.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value as Number};
use prost::Message as _;
use serde_json::{Value, json};
use stoa_collector::ca::Ca;
use stoa_collector::clock;
use stoa_collector::config::Config;
use stoa_collector::http::serve;
use stoa_collector::http::serve::{Limits, Places};
use stoa_collector::http::tls::{CertSource, HttpTls};
use stoa_collector::remote::TargetFigures;
use stoa_collector::server::Server;
use stoa_model::{Labels, METRIC_NAME};
use stoa_tsdb::GroupId;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long something that must happen may take, at most, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A collector with this in its configuration.
async fn start(text: &str) -> (Server, TempDir) {
    // Whichever test is first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::parse(Path::new("c.toml"), text).unwrap();
    config.data_dir = dir.path().to_owned();
    config.agents.listen = "127.0.0.1:0".parse().unwrap();
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config.storage.free_bytes_min = 0;
    (Server::start(config, clock::system()).await.unwrap(), dir)
}

/// Sends what `test_` series say, and nothing else.
fn target(url: &str) -> String {
    target_of("http/protobuf", url)
}

fn target_of(protocol: &str, url: &str) -> String {
    format!(
        "[[otlp.export]]\nname = \"one\"\nurl = \"{url}\"\nprotocol = \"{protocol}\"\n\
         write_relabel_configs = [{{ source_labels = [\"__name__\"], regex = \"test_.*\", action = \"keep\" }}]\n\
         queue_config = {{ max_samples_per_send = 10, batch_send_deadline = \"20ms\", \
         min_backoff = \"5ms\", max_backoff = \"50ms\" }}\n"
    )
}

/// All series of these names and their values, as they are answered.
async fn answer(url: &str) -> Value {
    let query = r#"{__name__=~"test_.*"}"#;
    let form = [("query", query)];
    let request = reqwest::Client::new().post(format!("{url}/api/v1/query")).form(&form);
    let answer: Value =
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    let mut result = answer["data"]["result"].as_array().unwrap().clone();
    for series in &mut result {
        // When it was asked.
        for key in ["value", "histogram"] {
            if let Some(time) = series.pointer_mut(&format!("/{key}/0")) {
                *time = Value::Null;
            }
        }
    }
    result.sort_by_key(Value::to_string);
    Value::Array(result)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_stoa_answers_the_same() {
    let (other, _other_dir) = start("").await;
    answers_the_same(other, |url| target(&format!("{url}/v1/metrics"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_stoa_answers_the_same_over_grpc() {
    let (other, _other_dir) = start("").await;
    answers_the_same(other, |url| target_of("grpc", url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_is_spoken_behind_tls() {
    let dir = tempfile::tempdir().unwrap();
    let now_ms = stoa_daemon::unix_ms();
    let ca = Ca::open(dir.path(), false, now_ms).unwrap();
    let source = CertSource::own("127.0.0.1".parse().unwrap(), &[]);
    let tls = Arc::new(HttpTls::new(source, &ca, now_ms).unwrap());
    let (receiver, addr, _serving) = Receiver::start_grpc(Some(tls)).await;
    let target = target_of("grpc", &format!("https://{addr}"));
    let ca_file = dir.path().join("ca/ca.pem");
    let text = format!("{target}tls_config = {{ ca_file = \"{}\" }}\n", ca_file.display());
    let (server, _dir) = start(&text).await;
    append(&server, "test_x", 1, 5).await;
    receiver.has("test_x", &counted(1, 5)).await;
    let figures = settled(&server, 5).await;
    assert_eq!((figures.samples_sent, figures.requests_failed), (5, 0), "{figures:?}");
    server.stop().await.unwrap();
}

/// What is sent to one is answered by the other, which `target` says how to reach.
async fn answers_the_same(other: Server, target: impl Fn(&str) -> String) {
    let (one, _one_dir) = start(&target(other.url())).await;
    let now_ns = u64::try_from(stoa_daemon::unix_ms()).unwrap() * 1_000_000;
    let attributes = json!([{"key": "path", "value": {"stringValue": "/"}}]);
    let point = |more: Value| {
        let mut point = json!({"timeUnixNano": now_ns.to_string(), "attributes": attributes});
        point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([point])
    };
    let message = json!({"resourceMetrics": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "service.instance.id", "value": {"stringValue": "a"}},
        ]},
        "scopeMetrics": [{"metrics": [
            {"name": "test.temp", "unit": "Cel", "gauge": {"dataPoints": point(json!({"asDouble": 36.5}))}},
            {"name": "test.io", "unit": "By", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
                "dataPoints": point(json!({"asInt": "7"}))}},
            {"name": "test.lat", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints":
                point(json!({"count": "6", "sum": 7.5, "bucketCounts": [1, 2, 3], "explicitBounds": [1, 2.5]}))}},
            {"name": "test.exp", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints":
                point(json!({"count": "6", "sum": 7.5, "scale": 3, "zeroCount": "1",
                    "positive": {"offset": -1, "bucketCounts": ["2", "0", "3"]}}))}},
            {"name": "test.rpc", "summary": {"dataPoints":
                point(json!({"count": "4", "sum": 1.0, "quantileValues": [{"quantile": 0.5, "value": 0.25}]}))}},
        ]}],
    }]});
    let request = reqwest::Client::new().post(format!("{}/v1/metrics", one.url()));
    let request = request.header("content-type", "application/json").body(message.to_string());
    assert_eq!(request.send().await.unwrap().status(), 200);
    let expected = answer(one.url()).await;
    // A gauge, a counter, five of a histogram, an exponential one, three of a summary.
    assert_eq!(expected.as_array().unwrap().len(), 11, "{expected:#}");
    let same = async {
        while answer(other.url()).await != expected {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, same).await.is_err() {
        assert_eq!(answer(other.url()).await, expected);
    }
    let said = other.parts().store.metadata().get("test_io_bytes_total").unwrap();
    assert_eq!(&*said.unit, "bytes");
    let figures = one.parts().figures().handoff.remove(0);
    assert_eq!((figures.samples_sent, figures.samples_rejected), (11, 0), "{figures:?}");
    one.stop().await.unwrap();
    other.stop().await.unwrap();
}

/// How the receiver answers.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Takes,
    Answers(u16),
    /// 413 for messages of more points.
    AtMost(usize),
    /// Refuses one point of each message.
    Partly,
    /// Of a call: this status, with a delay of nothing or without.
    Says(u8, bool),
}

struct Receiver {
    mood: Mutex<Mood>,
    /// The values of each series in the order they came.
    taken: Mutex<BTreeMap<String, Vec<f64>>>,
    requests: watch::Sender<u64>,
}

async fn take(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["content-encoding"], "gzip");
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&*body).read_to_end(&mut text).unwrap();
    let message = ExportMetricsServiceRequest::decode(&*text).unwrap();
    let mut values = Vec::new();
    for resource in message.resource_metrics {
        assert!(resource.resource.is_some());
        for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            let Some(Data::Gauge(gauge)) = metric.data else { panic!("{metric:?}") };
            for point in gauge.data_points {
                let Some(Number::AsDouble(value)) = point.value else { panic!("{point:?}") };
                values.push((metric.name.clone(), value));
            }
        }
    }
    let mood = *receiver.mood.lock().unwrap();
    let answer = match mood {
        Mood::Answers(status) => {
            (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")], "no\n").into_response()
        }
        Mood::AtMost(most) if values.len() > most => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Mood::Says(..) => panic!("{mood:?}"),
        Mood::Takes | Mood::AtMost(_) | Mood::Partly => {
            let partial_success = match mood {
                Mood::Partly => Some(ExportMetricsPartialSuccess {
                    rejected_data_points: 1,
                    error_message: "too old".to_owned(),
                }),
                _ => None,
            };
            let mut taken = receiver.taken.lock().unwrap();
            for (name, value) in values {
                taken.entry(name).or_default().push(value);
            }
            ExportMetricsServiceResponse { partial_success }.encode_to_vec().into_response()
        }
    };
    receiver.requests.send_modify(|requests| *requests += 1);
    answer
}

/// The same as a call of gRPC: its status is said at once where there is no answer.
async fn call(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(
        (&headers["content-type"], &headers["te"]),
        (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
    );
    assert_eq!(headers["grpc-encoding"], "gzip");
    assert_eq!(body[0], 1);
    assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5);
    let mood = *receiver.mood.lock().unwrap();
    let mut told = HeaderMap::new();
    told.insert("content-type", "application/grpc".parse().unwrap());
    if let Mood::Says(code, has_delay) = mood {
        told.insert("grpc-status", u16::from(code).into());
        told.insert("grpc-message", "100 %25".parse().unwrap());
        if has_delay {
            // A google.rpc.Status with a RetryInfo of 0 s.
            let details = "CAgaLgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxICCgA";
            told.insert("grpc-status-details-bin", details.parse().unwrap());
        }
        receiver.requests.send_modify(|requests| *requests += 1);
        return (told, Body::empty()).into_response();
    }
    let as_http = HeaderMap::from_iter([
        (header::CONTENT_TYPE, "application/x-protobuf".parse().unwrap()),
        (header::CONTENT_ENCODING, "gzip".parse().unwrap()),
    ]);
    let answer = take(State(Arc::clone(&receiver)), as_http, body.slice(5..)).await;
    if answer.status() == StatusCode::PAYLOAD_TOO_LARGE {
        told.insert("grpc-status", 8.into());
        return (told, Body::empty()).into_response();
    }
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
    let frame = [&[0][..], &length, &answer].concat();
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), 0.into())]);
    let body = Full::new(Bytes::from(frame)).with_trailers(std::future::ready(Some(Ok(trailers))));
    (told, Body::new(body)).into_response()
}

impl Receiver {
    fn router(self: &Arc<Self>) -> Router {
        const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        let router = Router::new().route("/v1/metrics", post(take)).route(EXPORT, post(call));
        router.with_state(Arc::clone(self))
    }

    /// One of gRPC, and what ends it.
    async fn start_grpc(tls: Option<Arc<HttpTls>>) -> (Arc<Self>, SocketAddr, DropGuard) {
        let (receiver, _url) = Self::start().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let places = Places::new(Limits::default());
        tokio::spawn(serve(listener, receiver.router(), tls, places, stop.clone()));
        (receiver, addr, stop.drop_guard())
    }

    async fn start() -> (Arc<Self>, String) {
        let receiver = Arc::new(Self {
            mood: Mutex::new(Mood::Takes),
            taken: Mutex::default(),
            requests: watch::Sender::new(0),
        });
        let router = receiver.router();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        (receiver, url)
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Waits until so many more requests came, whatever the answers.
    async fn requested(&self, more: u64) {
        let mut requests = self.requests.subscribe();
        let least = *requests.borrow() + more;
        let wait = requests.wait_for(|requests| *requests >= least);
        tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();
    }

    /// Waits until the series has had these values, in order.
    async fn has(&self, name: &str, values: &[f64]) {
        let mut requests = self.requests.subscribe();
        let has = || self.taken.lock().unwrap().get(name).is_some_and(|taken| taken == values);
        let met = tokio::time::timeout(PATIENCE, requests.wait_for(|_| has())).await.is_ok();
        assert!(met, "{name}: {:?}, not {values:?}", self.taken.lock().unwrap());
    }
}

/// Stores rows of one series, whose values count up from `from`.
async fn append(server: &Server, name: &str, from: i32, rows: i32) {
    let store = &server.parts().store;
    let start = stoa_daemon::unix_ms() - 100_000;
    let mut pending = Vec::new();
    for value in from..from + rows {
        let labels = Labels::from_pairs([(METRIC_NAME, name)]).unwrap();
        let readings = vec![(labels, f64::from(value))];
        let t_ms = start + i64::from(value);
        pending.push(store.submit_labelled(GroupId(77), t_ms, readings).await.unwrap());
    }
    for pending in pending {
        pending.stored().await.unwrap();
    }
}

fn counted(from: i32, to: i32) -> Vec<f64> {
    (from..=to).map(f64::from).collect()
}

/// The figures, once so many samples have an end.
async fn settled(server: &Server, samples: u64) -> TargetFigures {
    let figures = || server.parts().figures().handoff.remove(0);
    let ended = |figures: &TargetFigures| figures.samples_sent + figures.samples_rejected;
    let wait = async {
        while ended(&figures()) < samples {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let met = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    assert!(met, "{:?}", figures());
    figures()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_succeed_later_is_sent_again_in_order() {
    let (receiver, url) = Receiver::start().await;
    let (server, _dir) = start(&target(&url)).await;
    append(&server, "test_x", 1, 20).await;
    receiver.has("test_x", &counted(1, 20)).await;
    for (n, status) in (0..).zip([503, 429, 401, 502, 504]) {
        receiver.set(Mood::Answers(status));
        append(&server, "test_x", 21 + n * 10, 10).await;
        receiver.requested(3).await;
    }
    receiver.set(Mood::Takes);
    receiver.has("test_x", &counted(1, 70)).await;
    let figures = settled(&server, 70).await;
    assert_eq!((figures.samples_sent, figures.samples_rejected), (70, 0), "{figures:?}");
    assert!(figures.requests_failed >= 10, "{figures:?}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_is_dropped_and_counted() {
    let (receiver, url) = Receiver::start().await;
    let (server, _dir) = start(&target(&url)).await;
    for (n, status) in (0..).zip([400, 500, 501]) {
        receiver.set(Mood::Answers(status));
        append(&server, "test_bad", 1 + n, 1).await;
        settled(&server, u64::try_from(n).unwrap() + 1).await;
    }
    receiver.set(Mood::AtMost(6));
    append(&server, "test_x", 1, 10).await;
    receiver.has("test_x", &counted(1, 10)).await;
    let figures = settled(&server, 13).await;
    assert_eq!((figures.samples_sent, figures.samples_rejected), (10, 3), "{figures:?}");
    assert_eq!(figures.requests_rejected, 3);
    receiver.set(Mood::Partly);
    append(&server, "test_x", 11, 1).await;
    let figures = settled(&server, 14).await;
    assert_eq!((figures.samples_sent, figures.samples_rejected), (10, 4), "{figures:?}");
    assert!(!figures.failing);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_of_grpc_mean_what_the_specification_says() {
    let (receiver, addr, _serving) = Receiver::start_grpc(None).await;
    let (server, _dir) = start(&target_of("grpc", &format!("http://{addr}"))).await;
    append(&server, "test_x", 1, 20).await;
    receiver.has("test_x", &counted(1, 20)).await;
    let later =
        [(14, false), (1, false), (4, false), (15, false), (8, true), (16, false), (12, false)];
    for (n, (code, has_delay)) in (0..).zip(later) {
        receiver.set(Mood::Says(code, has_delay));
        append(&server, "test_x", 21 + n * 10, 10).await;
        receiver.requested(2).await;
    }
    receiver.set(Mood::Takes);
    receiver.has("test_x", &counted(1, 90)).await;
    let figures = settled(&server, 90).await;
    assert_eq!((figures.samples_sent, figures.samples_rejected), (90, 0), "{figures:?}");
    assert!(figures.requests_failed >= 12, "{figures:?}");
    // Too much at once, for good, and in part.
    receiver.set(Mood::AtMost(6));
    append(&server, "test_y", 1, 10).await;
    receiver.has("test_y", &counted(1, 10)).await;
    for (n, code) in (0..).zip([3, 13]) {
        receiver.set(Mood::Says(code, false));
        append(&server, "test_bad", 1 + n, 1).await;
        settled(&server, 101 + u64::try_from(n).unwrap()).await;
    }
    receiver.set(Mood::Partly);
    append(&server, "test_x", 91, 1).await;
    let figures = settled(&server, 103).await;
    assert_eq!((figures.samples_sent, figures.samples_rejected), (100, 3), "{figures:?}");
    assert!(!figures.failing && figures.answers_unread == 0, "{figures:?}");
    server.stop().await.unwrap();
}
