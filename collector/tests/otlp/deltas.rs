//! Points that count from the point before: each is added once, whatever becomes of its request.

use super::*;

/// A delta of so much, of so many seconds ago.
fn delta(value: i64, ago_s: u64) -> Vec<u8> {
    let mut message = message(36.5, value, DELTA);
    for metric in &mut message.resource_metrics[0].scope_metrics[0].metrics {
        let points = match metric.data.as_mut().unwrap() {
            metric::Data::Gauge(gauge) => &mut gauge.data_points,
            metric::Data::Sum(sum) => &mut sum.data_points,
            other => panic!("{other:?}"),
        };
        points[0].time_unix_nano = NOW_NS - ago_s * 1_000_000_000;
    }
    message.encode_to_vec()
}

#[tokio::test]
async fn deltas_are_added_up_and_none_is_added_twice() {
    let receiver = Receiver::new();
    for (value, ago_s) in [(3, 20), (4, 10), (5, 0), (5, 0)] {
        let answer = receiver.post("/v1/metrics", PROTOBUF, "", delta(value, ago_s)).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{value} {ago_s}");
    }
    // Of the same times, as from another scope, and of a sum that does not grow.
    for (value, ago_s, why) in
        [(6, 0, "it is not younger than the point before, which is another"), (-1, 0, "monotonic")]
    {
        let answer = receiver.post("/v1/metrics", PROTOBUF, "", delta(value, ago_s)).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && text.contains(why), "{text}");
    }
    let line = format!(r#"{{"__name__":"disk_io_bytes_total",{LABELS}}} 12"#);
    assert_eq!(receiver.query("disk_io_bytes_total").await, [line]);
    let answer = receiver.post("/v1/metrics", PROTOBUF, "", delta(9, 15)).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.contains("refused 1 points that cannot be kept (first: a delta of"), "{text}");
    assert!(text.contains("it is not younger than the point before"), "{text}");
    let deltas = receiver.otlp.deltas().unwrap();
    assert_eq!((deltas.streams, deltas.added, deltas.repeated), (1, 3, 1));
    assert_eq!((deltas.out_of_order, deltas.unfit), (2, 1));
    assert_eq!(receiver.otlp.figures().points_refused, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[agents]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
                [storage]\nfree_bytes_min = \"0B\"";
    // Whichever test is first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::new();
    // The third finds nothing, as after a crash, and begins anew.
    for (ago_s, expected) in [(30, "3"), (20, "6"), (10, "3")] {
        let mut config = Config::parse(Path::new("c.toml"), text).unwrap();
        config.data_dir = dir.path().to_owned();
        let kept = dir.path().join("otlp.deltas");
        let server = Server::start(config, Arc::new(|| NOW)).await.unwrap();
        assert!(!kept.exists());
        let url = server.url().to_owned();
        let request = client.post(format!("{url}/v1/metrics")).header("content-type", PROTOBUF);
        let answer = request.body(delta(3, ago_s)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, String::new()));
        let at = NOW / 1000 - i64::try_from(ago_s).unwrap();
        let query = format!("{url}/api/v1/query?query=disk_io_bytes_total&time={at}");
        let answer = client.get(query).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer.pointer("/data/result/0/value/1"), Some(&json!(expected)));
        server.stop().await.unwrap();
        assert!(kept.exists());
        if ago_s == 20 {
            std::fs::remove_file(kept).unwrap();
        }
    }
}

/// A message of one metric, in JSON.
fn one_metric(metric: &Value) -> Vec<u8> {
    let message = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]});
    serde_json::to_vec(&message).unwrap()
}

#[tokio::test]
async fn what_goes_below_zero_is_added_up_where_it_may() {
    let receiver = Receiver::new();
    let rounds = [
        (
            json!({"asInt": "5"}),
            json!({"count": 2, "sum": -1.5, "bucketCounts": [2, 0], "explicitBounds": [0]}),
        ),
        (
            json!({"asDouble": -8.5}),
            json!({"count": 1, "sum": -2.0, "bucketCounts": [1, 0], "explicitBounds": [0]}),
        ),
        (
            json!({"asInt": "-1"}),
            json!({"count": 1, "sum": 0.5, "bucketCounts": [0, 1], "explicitBounds": [0]}),
        ),
    ];
    for (ago_s, (number, histogram)) in [20_u64, 10, 0].into_iter().zip(rounds) {
        let at = json!({"timeUnixNano": (NOW_NS - ago_s * 1_000_000_000).to_string()});
        let with_time = |mut point: Value| {
            point.as_object_mut().unwrap().extend(at.as_object().unwrap().clone());
            json!({"aggregationTemporality": 1, "isMonotonic": false, "dataPoints": [point]})
        };
        for (name, kind, point) in [("level", "sum", number), ("change", "histogram", histogram)] {
            let message = one_metric(&json!({"name": name, kind: with_time(point)}));
            let answer = receiver.post("/v1/metrics", JSON, "", message).await;
            assert_eq!((answer.status, answer.json()), (200, json!({})), "{name} {ago_s}");
        }
    }
    for (name, labels, value) in [
        ("level", "", "-4.5"),
        ("change_sum", "", "-3"),
        ("change_count", "", "4"),
        ("change_bucket", r#","le":"0""#, "3"),
        ("change_bucket", r#","le":"+Inf""#, "4"),
    ] {
        let line = format!(r#"{{"__name__":"{name}"{labels}}} {value}"#);
        assert!(receiver.query(name).await.contains(&line), "{:?}", receiver.query(name).await);
    }
    // Monotonic sums do not, and a refused one leaves the sum as it was.
    let answer = receiver.post("/v1/metrics", PROTOBUF, "", delta(-1, 0)).await;
    assert!(String::from_utf8_lossy(&answer.body).contains("said to be monotonic"));
    assert_eq!(receiver.otlp.deltas().unwrap().unfit, 1);
}

#[tokio::test]
async fn what_is_refused_for_its_series_takes_no_room_and_is_not_added() {
    let receiver = Receiver::new();
    let point = |attribute: &str, more: Value| {
        let attributes = json!([{"key": "a", "value": {"stringValue": attribute}}]);
        let mut point = json!({"timeUnixNano": NOW_NS.to_string(), "attributes": attributes});
        point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        point
    };
    let long = "x".repeat(1025);
    let histogram = json!({"count": 1, "bucketCounts": [1, 0], "explicitBounds": [0]});
    for (kind, more) in [("sum", json!({"asInt": "1"})), ("histogram", histogram)] {
        let points = json!([point(&long, more)]);
        let data = json!({"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": points});
        let message = one_metric(&json!({"name": "m", kind: data}));
        let told = receiver.post("/v1/metrics", JSON, "", message).await.json();
        assert_eq!(told["partialSuccess"]["rejectedDataPoints"], "1", "{told}");
        let why = told["partialSuccess"]["errorMessage"].as_str().unwrap();
        assert!(why.contains("with bad labels (first: label \"a\" has 1025 bytes"), "{why}");
    }
    let deltas = receiver.otlp.deltas().unwrap();
    assert_eq!((deltas.streams, deltas.bytes, deltas.added), (0, 0, 0));

    // A sender may have 100 series here; a histogram takes three, and has none or all of them.
    let numbers: Vec<Value> =
        (0..98).map(|n| point(&n.to_string(), json!({"asInt": "1"}))).collect();
    let sum = json!({"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": numbers});
    let message = one_metric(&json!({"name": "n", "sum": sum}));
    assert_eq!(receiver.post("/v1/metrics", JSON, "", message).await.json(), json!({}));
    let more = json!({"count": 1, "bucketCounts": [1, 0], "explicitBounds": [0]});
    let data = json!({"aggregationTemporality": 1, "dataPoints": [point("z", more)]});
    let message = one_metric(&json!({"name": "h", "histogram": data}));
    let told = receiver.post("/v1/metrics", JSON, "", message).await.json();
    let why = told["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(why.contains("samples of series over a limit (first: the sender has 100"), "{why}");
    assert_eq!(receiver.otlp.deltas().unwrap().streams, 98);
    assert_eq!(receiver.query("h_count").await, [""; 0]);
}

/// HTTP/2 as a client begins it, with one call of gRPC and the first bytes of its body.
fn begun_call(frame: &[u8], sent: usize) -> Vec<u8> {
    let of = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", EXPORT),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal that is not indexed, without Huffman's code; each is below 127 bytes.
        for text in [name, value] {
            if text == name {
                headers.push(0);
            }
            headers.push(u8::try_from(text.len()).unwrap());
            headers.extend_from_slice(text.as_bytes());
        }
    }
    let ends = u8::from(sent == frame.len());
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        of(4, 0, 0, &[]),
        of(1, 4, 1, &headers),
        of(0, ends, 1, &frame[..sent]),
    ]
    .concat()
}

#[tokio::test]
async fn a_delta_whose_connection_is_cut_is_added_once() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let receiver = Receiver::new();
    let (addr, _serving) = receiver.served().await;
    let over_http = |body: &[u8], sent: usize| {
        let length = body.len();
        let head = format!(
            "POST /v1/metrics HTTP/1.1\r\nhost: localhost\r\ncontent-type: {PROTOBUF}\r\n\
             content-length: {length}\r\n\r\n"
        );
        [head.as_bytes(), &body[..sent]].concat()
    };
    let mut expected = 0;
    for (n, over_grpc) in [false, true].into_iter().cycle().take(6).enumerate() {
        let n = u64::try_from(n).unwrap();
        expected += n + 1;
        let body = delta(i64::try_from(n + 1).unwrap(), 100 - n);
        let framed = frame(0, &body);
        let bytes = |part: usize| match over_grpc {
            true => begun_call(&framed, framed.len() * part / 4),
            false => over_http(&body, body.len() * part / 4),
        };
        // Cut at once, in the middle, and with nobody left to hear the answer.
        for part in [0, 2, 4] {
            let mut connection = tokio::net::TcpStream::connect(addr).await.unwrap();
            connection.write_all(&bytes(part)).await.unwrap();
            if part == 0 {
                connection.set_zero_linger().unwrap();
            }
            drop(connection);
        }
        // Sent again as it was, and answered.
        if over_grpc {
            let mut client = MetricsServiceClient::connect(format!("http://{addr}")).await.unwrap();
            let message = ExportMetricsServiceRequest::decode(&*body).unwrap();
            let answer = client.export(message).await.unwrap().into_inner();
            assert_eq!(answer.partial_success, None, "{n}");
        } else {
            let mut connection = tokio::net::TcpStream::connect(addr).await.unwrap();
            connection.write_all(&over_http(&body, body.len())).await.unwrap();
            let mut answer = [0; 15];
            connection.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, *b"HTTP/1.1 200 OK");
        }
        let line = format!(r#"{{"__name__":"disk_io_bytes_total",{LABELS}}} {expected}"#);
        assert_eq!(receiver.query("disk_io_bytes_total").await, [line], "{n}");
        let deltas = receiver.otlp.deltas().unwrap();
        assert_eq!((deltas.added, deltas.out_of_order), (n + 1, 0), "{n}");
    }
}
