//! What is handed out to other servers, of what came by remote write: `/federate`, remote read, exemplars.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use serde_json::{Value, json};
use stoa_collector::clock::Clock;
use stoa_collector::config::{Config, QueryConfig, StorageConfig};
use stoa_collector::http::Access;
use stoa_collector::http::access::PeerAddress;
use stoa_collector::http::prometheus::{self, Prometheus};
use stoa_collector::http::remote_write::{self, RemoteWrite};
use stoa_collector::store::Store;
use stoa_exchange::remote_write::{Metadata, Series, Version, Visitor, Writer, WrittenExemplar};
use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};
use stoa_model::{Labels, stale_nan};
use stoa_wal::disk::SimDisk;
use tokio_stream::StreamExt as _;
use tower::ServiceExt as _;

const NOW: i64 = 1_800_000_000_000;

struct Server {
    router: Router,
    prometheus: Prometheus,
}

fn query_config() -> QueryConfig {
    QueryConfig {
        timeout: Duration::from_secs(30),
        samples_max: 200,
        series_max: 1000,
        concurrency_max: 2,
        ..Config::defaults().unwrap().query
    }
}

struct Answer {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

impl Server {
    /// A server whose series are `site="home"` elsewhere, with what remote write brought.
    async fn loaded() -> Self {
        Self::with(&query_config()).await
    }

    /// The same with other limits.
    async fn with(query: &QueryConfig) -> Self {
        let clock: Clock = Arc::new(|| NOW);
        let storage = StorageConfig {
            retention: Duration::from_secs(14 * 86_400),
            retention_1m: Duration::ZERO,
            retention_1h: Duration::ZERO,
            out_of_order: Duration::from_secs(86_400),
            free_bytes_min: 0,
            series_max: 1000,
            ..Config::defaults().unwrap().storage
        };
        let disk = Arc::new(SimDisk::new(1));
        let opened = Store::open(disk, Path::new("/data"), &storage, Arc::clone(&clock));
        let (store, _recovery) = opened.unwrap();
        let doubt = Arc::new(|| false);
        let remote_write = RemoteWrite::new(store.clone(), 1000, Arc::clone(&clock), doubt);
        let prometheus = Prometheus::new(store, query, clock);
        let external = Labels::from_pairs([("site", "home")]).unwrap();
        let table = prometheus::routes(prometheus.clone())
            .merge(prometheus::outward_routes(prometheus.clone(), external))
            .merge(remote_write::routes(remote_write));
        let server = Self { router: table.into_router((), Access::open()), prometheus };
        let mut writer = Writer::new(Version::One);
        let ten: Vec<(i64, f64)> =
            (0..10_i32).map(|i| (NOW - 10_000 + i64::from(i) * 1000, f64::from(i))).collect();
        for instance in ["a", "b"] {
            writer.series(&[("__name__", "up"), ("instance", instance), ("job", "node")], &ten);
        }
        writer.series(&[("__name__", "gone"), ("job", "node")], &[(NOW - 9, stale_nan())]);
        writer.series(&[("__name__", "old"), ("job", "node")], &[(NOW - 300_001, 1.0)]);
        writer.series(&[("__name__", "two.words"), ("a b", "c"), ("site", "far")], &[(NOW, 0.5)]);
        writer.histograms(&[("__name__", "h"), ("job", "node")], &[(NOW - 5, &histogram())]);
        let body = writer.finish();
        let sent = server.send("/api/v1/write", &[], snappy(&body)).await;
        assert_eq!(sent.status, 204, "{}", sent.text());
        server
    }

    async fn begin(&self, request: http::request::Builder, body: Vec<u8>) -> Response {
        let mut request: Request<Body> =
            request.header("host", "localhost:7480").body(Body::from(body)).unwrap();
        request.extensions_mut().insert(PeerAddress(SocketAddr::from(([127, 0, 0, 1], 1))));
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn ask(&self, request: http::request::Builder, body: Vec<u8>) -> Answer {
        let (parts, body) = self.begin(request, body).await.into_parts();
        let content_type = parts.headers.get("content-type");
        let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
        Answer {
            status: parts.status.as_u16(),
            content_type: content_type.unwrap_or_default(),
            body: axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        }
    }

    async fn get(&self, uri: &str, headers: &[(&str, &str)]) -> Answer {
        let request = Request::builder().uri(uri);
        let request = headers.iter().fold(request, |request, (n, v)| request.header(*n, *v));
        self.ask(request, Vec::new()).await
    }

    /// The pieces of a stream of chunks.
    async fn read_stream(&self, request: Vec<u8>) -> axum::body::BodyDataStream {
        let answer =
            self.begin(Request::builder().method("POST").uri("/api/v1/read"), request).await;
        assert_eq!(answer.status().as_u16(), 200);
        answer.into_body().into_data_stream()
    }

    /// Stores series of values that do not compress, a sample a millisecond until now.
    async fn fill(&self, names: &[&str], samples: i64) {
        for (seed, name) in (1u64..).zip(names) {
            let noise = |i: i64| (i.cast_unsigned() * seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let noisy: Vec<(i64, f64)> =
                (0..samples).map(|i| (NOW - samples + i, f64::from_bits(noise(i) >> 2))).collect();
            let mut writer = Writer::new(Version::One);
            writer.series(&[("__name__", *name), ("job", "noise")], &noisy);
            let sent = self.send("/api/v1/write", &[], snappy(&writer.finish())).await;
            assert_eq!(sent.status, 204, "{}", sent.text());
        }
    }

    async fn send(&self, uri: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let request = Request::builder().method("POST").uri(uri);
        let request = headers.iter().fold(request, |request, (n, v)| request.header(*n, *v));
        self.ask(request, body).await
    }
}

fn histogram() -> Histogram {
    Histogram {
        schema: 0,
        zero_threshold: 0.001,
        sum: 3.0,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        negative_spans: Vec::new(),
        custom_values: Vec::new(),
        counts: Counts::Integer(BucketCounts {
            count: 3,
            zero_count: 0,
            positive: vec![1, 2],
            negative: Vec::new(),
        }),
        reset: ResetHint::Unknown,
    }
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

fn unsnapped(body: &[u8]) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(body).unwrap()
}

#[tokio::test]
async fn what_is_newest_is_there_to_be_scraped() {
    let server = Server::loaded().await;
    let all = "/federate?match[]=%7Bjob=%22node%22%7D&match[]=%7Bsite=%22far%22%7D&match[]=up";
    let answer = server.get(all, &[]).await;
    assert_eq!(
        (answer.status, &*answer.content_type),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    let t = NOW - 1000;
    let expected = format!(
        "# TYPE two_words untyped\ntwo_words{{a_b=\"c\",site=\"far\",instance=\"\"}} 0.5 {NOW}\n\
         # TYPE up untyped\nup{{instance=\"a\",job=\"node\",site=\"home\"}} 9 {t}\n\
         up{{instance=\"b\",job=\"node\",site=\"home\"}} 9 {t}\n"
    );
    assert_eq!(answer.text(), expected);
    let utf8 = [("accept", "text/plain;version=1.0.0;escaping=allow-utf-8")];
    let answer = server.get("/federate?match[]=%7Bsite=%22far%22%7D", &utf8).await;
    let expected = format!(
        "# TYPE \"two.words\" untyped\n{{\"two.words\",\"a b\"=\"c\",site=\"far\",instance=\"\"}} 0.5 {NOW}\n"
    );
    assert_eq!(answer.text(), expected);
    assert_eq!(
        answer.content_type,
        "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
    );
}

#[tokio::test]
async fn who_takes_protobuf_gets_native_histograms() {
    let server = Server::loaded().await;
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let answer = server.get("/federate?match[]=h", &[("accept", accept)]).await;
    assert!(answer.content_type.starts_with("application/vnd.google.protobuf; proto="));
    // A family of one histogram: its length, its name, kind 4, its metric.
    let head = [b"\x0a\x01h\x18\x04\x22".as_slice(), b"\x0a\x0b\x0a\x03job\x12\x04node"].concat();
    assert_eq!(usize::from(answer.body[0]), answer.body.len() - 1);
    let without_length = [&answer.body[1..7], &answer.body[8..]].concat();
    assert!(without_length.starts_with(&head), "{:?}", answer.body);
    let text = server.get("/federate?match[]=h", &[]).await;
    assert_eq!((text.status, text.text()), (200, ""));
}

#[tokio::test]
async fn what_cannot_be_federated_is_said() {
    let server = Server::loaded().await;
    assert_eq!(server.get("/federate", &[]).await.body, b"");
    for (uri, status, why) in [
        ("/federate?match[]=sum(up)", 400, "expected a series selector"),
        ("/federate?match[]=%7B%7D", 400, "match[] must contain at least one non-empty matcher"),
    ] {
        let answer = server.get(uri, &[]).await;
        assert_eq!(answer.status, status, "{uri}");
        assert!(answer.text().contains(why), "{}", answer.text());
    }
}

/// A `ReadRequest` of one query.
fn read_request(matchers: &[(u8, &str, &str)], start: i64, forms: &[u8]) -> Vec<u8> {
    read_requests(&[matchers], start, forms)
}

/// A `ReadRequest` of some queries.
fn read_requests(queries: &[&[(u8, &str, &str)]], start: i64, forms: &[u8]) -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = (bytes.len() & 0x7f, bytes.len() >> 7);
        let length = [u8::try_from(length.0).unwrap() | 0x80, u8::try_from(length.1).unwrap()];
        [&[number << 3 | 2], &length[..], bytes].concat()
    }
    fn number(number: u8, value: i64) -> Vec<u8> {
        let mut out = vec![number << 3];
        let mut value = value.cast_unsigned();
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
        out
    }
    let mut request = Vec::new();
    for matchers in queries {
        let mut query = [number(1, start), number(2, NOW)].concat();
        for (op, name, value) in *matchers {
            let matcher =
                [number(1, i64::from(*op)), field(2, name.as_bytes()), field(3, value.as_bytes())];
            query.extend(field(3, &matcher.concat()));
        }
        request.extend(field(1, &query));
    }
    if !forms.is_empty() {
        request.extend(field(2, forms));
    }
    snappy(&request)
}

/// Series as text; a query's result has them where a message of remote write has them.
fn results(body: &[u8]) -> Vec<String> {
    struct Lines(Vec<String>);
    impl Visitor for Lines {
        fn series(&mut self, series: &Series<'_>) {
            let pairs = series.labels.unwrap().iter();
            let labels = Labels::from_pairs(pairs.map(|(name, value)| {
                (str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap())
            }));
            let floats = series.samples.len();
            let last = series.samples.last().map(|(t, v)| (NOW - t, *v));
            let sums: Vec<f64> = series.histograms.iter().map(|(_, h)| h.sum).collect();
            self.0.push(format!("{} {floats} {last:?} {sums:?}", labels.unwrap()));
        }
        fn metadata(&mut self, _metadata: &Metadata<'_>) {}
    }
    // The one field of the response, of less than 16 KiB: its tag and its length go before it.
    let ([0x0a, 0..0x80, message @ ..] | [0x0a, _, _, message @ ..]) = body else {
        panic!("no response: {body:?}")
    };
    let mut lines = Lines(Vec::new());
    stoa_exchange::remote_write::read(Version::One, message, &mut lines).unwrap();
    lines.0
}

#[tokio::test]
async fn another_prometheus_reads_samples() {
    let server = Server::loaded().await;
    let of_node = [(0, "job", "node"), (0, "site", "home")];
    let request = read_request(&of_node, NOW - 5000, &[]);
    let answer = server.send("/api/v1/read", &[], request).await;
    assert_eq!((answer.status, &*answer.content_type), (200, "application/x-protobuf"));
    let found = results(&unsnapped(&answer.body));
    let expected = [
        r#"gone{job="node", site="home"} 1 Some((9, NaN)) []"#,
        r#"h{job="node", site="home"} 0 None [3.0]"#,
        r#"up{instance="a", job="node", site="home"} 5 Some((1000, 9.0)) []"#,
        r#"up{instance="b", job="node", site="home"} 5 Some((1000, 9.0)) []"#,
    ];
    assert_eq!(found, expected);
    // Another site is not here, but for what says so itself.
    let far = read_request(&[(0, "site", "far")], 0, &[0]);
    let answer = server.send("/api/v1/read", &[], far).await;
    assert_eq!(results(&unsnapped(&answer.body)).len(), 1);
}

#[tokio::test]
async fn who_takes_chunks_first_gets_a_stream_of_them() {
    let server = Server::loaded().await;
    let request = read_request(&[(2, "__name__", "up|h")], 0, &[1, 0]);
    let answer = server.send("/api/v1/read", &[], request).await;
    let expected = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!((answer.status, &*answer.content_type), (200, expected));
    let (mut rest, mut frames) = (&answer.body[..], 0);
    while let [len, after @ ..] = rest {
        // Short ones: a length of two bytes at most.
        let (len, after) = match (usize::from(*len), after) {
            (len, after) if len < 0x80 => (len, after),
            (len, [high, after @ ..]) => (len - 0x80 + (usize::from(*high) << 7), after),
            _ => panic!("cut"),
        };
        let (crc, after) = after.split_at(4);
        let (message, after) = after.split_at(len);
        assert_eq!(crc, crc32c::crc32c(message).to_be_bytes());
        (rest, frames) = (after, frames + 1);
    }
    assert_eq!(frames, 3);
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let server = Server::loaded().await;
    let up = [(0, "__name__", "up")];
    for (headers, body, status, why) in [
        (&[][..], b"no snappy".to_vec(), 400, "snappy"),
        (&[("content-encoding", "gzip")], Vec::new(), 400, "content encoding"),
        (&[], snappy(b"\x0a\x05abc"), 400, "not a message of the protocol"),
        (&[], read_request(&[(2, "a", "(")], 0, &[]), 400, "("),
        (&[], read_request(&up, 0, &[7]), 400, "does not support any of the requested response"),
    ] {
        let answer = server.send("/api/v1/read", headers, body).await;
        assert_eq!(answer.status, status, "{why}");
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    // More samples than a query may load.
    let mut writer = Writer::new(Version::One);
    let many: Vec<(i64, f64)> = (0..300).map(|i| (NOW - 4000 + i, 1.0)).collect();
    writer.series(&[("__name__", "many")], &many);
    assert_eq!(server.send("/api/v1/write", &[], snappy(&writer.finish())).await.status, 204);
    let request = read_request(&[(0, "__name__", "many")], 0, &[]);
    let answer = server.send("/api/v1/read", &[], request).await;
    assert_eq!((answer.status, answer.text()), (400, "exceeded sample limit (200)\n"));
}

#[tokio::test]
async fn the_queries_of_a_request_share_its_limits() {
    let server = Server::loaded().await;
    server.fill(&["one", "two"], 150).await;
    let (one, two) = (&[(0, "__name__", "one")][..], &[(0, "__name__", "two")][..]);
    for form in [0, 1] {
        let alone = server.send("/api/v1/read", &[], read_requests(&[one], 0, &[form])).await;
        assert_eq!(alone.status, 200);
        let both = server.send("/api/v1/read", &[], read_requests(&[one, two], 0, &[form])).await;
        assert_eq!((both.status, both.text()), (400, "exceeded sample limit (200)\n"));
    }
    // Each has fewer patterns than a query may, all together more.
    let names: Vec<String> = (0..100).map(|n| format!("l{n}")).collect();
    let patterns: Vec<_> = names.iter().map(|name| (2u8, &**name, "a.*b.*c")).collect();
    let query = &patterns[..];
    for form in [0, 1] {
        let some = server.send("/api/v1/read", &[], read_requests(&[query; 2], 0, &[form])).await;
        assert_eq!(some.status, 200, "{}", some.text());
        let all = server.send("/api/v1/read", &[], read_requests(&[query; 3], 0, &[form])).await;
        assert_eq!(all.status, 400);
        assert!(all.text().contains("regular expressions"), "{}", all.text());
    }
}

#[tokio::test]
async fn what_is_held_of_an_answer_has_its_limit() {
    let loads = "query processing would load too many bytes into memory in query execution";
    let config = QueryConfig { samples_max: 1 << 20, bytes_max: 256 << 10, ..query_config() };
    let server = Server::with(&config).await;
    server.fill(&["one", "two"], 6000).await;
    server.fill(&["long"], 12_000).await;
    // A series is held at a time, and of the message all that is compressed.
    let (one, two) = (&[(0, "__name__", "one")][..], &[(0, "__name__", "two")][..]);
    let long = &[(0, "__name__", "long")][..];
    for (queries, form, status) in [
        (&[one, two][..], 1, 200),
        (&[one][..], 0, 200),
        (&[one, two][..], 0, 400),
        (&[long][..], 0, 400),
        (&[long][..], 1, 400),
    ] {
        let answer = server.send("/api/v1/read", &[], read_requests(queries, 0, &[form])).await;
        assert_eq!(answer.status, status, "{} queries as {form}", queries.len());
        assert!(status == 200 || answer.text().contains(loads), "{}", answer.text());
    }
    // A list of series is held too.
    let config = QueryConfig { bytes_max: 500, ..query_config() };
    let server = Server::with(&config).await;
    for form in [0, 1] {
        let all = read_request(&[(2, "__name__", ".+")], 0, &[form]);
        let answer = server.send("/api/v1/read", &[], all).await;
        assert_eq!((answer.status, answer.text()), (400, &*format!("{loads}\n")));
    }
    let answer = server.get("/federate?match[]=%7Bjob=%22node%22%7D", &[]).await;
    assert_eq!((answer.status, answer.text()), (500, &*format!("{loads}\n")));
    for uri in ["series?match[]=%7Bjob=%22node%22%7D", "labels", "label/__name__/values"] {
        let answer = server.get(&format!("/api/v1/{uri}"), &[]).await;
        assert_eq!(answer.status, 422, "{uri}");
        assert!(answer.text().contains(loads), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_stream_goes_out_as_it_is_read() {
    let config = QueryConfig { samples_max: 1 << 20, concurrency_max: 1, ..query_config() };
    let server = Server::with(&config).await;
    server.fill(&["one", "two", "three", "four"], 150_000).await;
    let request = read_request(&[(0, "job", "noise")], 0, &[1]);
    let mut pieces = server.read_stream(request.clone()).await;
    let first = pieces.next().await.unwrap().unwrap();
    assert!((1 << 20..3 << 20).contains(&first.len()), "{}", first.len());
    // Nobody takes more for now: the one turn there is is another's.
    while server.prometheus.figures().running > 0 {
        tokio::task::yield_now().await;
    }
    let other = server.get("/api/v1/query?query=count(up)", &[]).await;
    assert_eq!(other.status, 200, "{}", other.text());
    let mut length = first.len();
    while let Some(piece) = pieces.next().await {
        length += piece.unwrap().len();
    }
    let whole = server.send("/api/v1/read", &[], request.clone()).await;
    assert_eq!((whole.status, whole.body.len()), (200, length));
    assert_eq!(server.prometheus.figures().abandoned, 0);
    // One who leaves ends it.
    let mut pieces = server.read_stream(request).await;
    pieces.next().await.unwrap().unwrap();
    drop(pieces);
    while server.prometheus.figures().abandoned < 1 || server.prometheus.figures().running > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stream_that_is_not_whole_is_broken_off() {
    let config = QueryConfig { samples_max: 200_000, ..query_config() };
    let server = Server::with(&config).await;
    server.fill(&["one", "two"], 150_000).await;
    let (one, two) = (&[(0, "__name__", "one")][..], &[(0, "__name__", "two")][..]);
    let mut pieces = server.read_stream(read_requests(&[one, two], 0, &[1])).await;
    assert!(pieces.next().await.unwrap().is_ok());
    let error = loop {
        match pieces.next().await.expect("it is not whole") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("exceeded sample limit (200000)"), "{error}");
    assert!(pieces.next().await.is_none());
    // What is seen to be too much before anything is read has an answer of its own.
    let both = read_request(&[(0, "job", "noise")], 0, &[1]);
    let answer = server.send("/api/v1/read", &[], both).await;
    assert_eq!((answer.status, answer.text()), (400, "exceeded sample limit (200000)\n"));
}

#[tokio::test]
async fn the_selectors_of_a_federation_share_its_limits() {
    let server = Server::loaded().await;
    server.fill(&["one", "two"], 150).await;
    let alone = server.get("/federate?match[]=one", &[]).await;
    assert_eq!(alone.text().lines().count(), 2, "{}", alone.text());
    let both = server.get("/federate?match[]=one&match[]=two", &[]).await;
    let loads = "query processing would load too many samples into memory in query execution\n";
    assert_eq!((both.status, both.text()), (500, loads));
    // Of what is sealed beside an open window nothing is read.
    let config = QueryConfig { samples_max: 5000, ..query_config() };
    let server = Server::with(&config).await;
    server.fill(&["one"], 20_000).await;
    let newest = server.get("/federate?match[]=one", &[]).await;
    assert_eq!(newest.text().lines().count(), 2, "{}", newest.text());
}

#[tokio::test]
async fn exemplars_of_remote_write_are_found_by_the_query_that_reads_their_series() {
    let long = "x".repeat(200);
    for (version, content_type) in [
        (Version::One, "application/x-protobuf"),
        (Version::Two, "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ] {
        let server = Server::loaded().await;
        let mut writer = Writer::new(version);
        let bucket = |le| [("__name__", "x_seconds_bucket"), ("le", le)];
        let (first, second, too_long) =
            ([("trace_id", "a1")], [("trace_id", "b2")], [("trace_id", &*long)]);
        let of_one: [WrittenExemplar<'_>; 4] = [
            (&first, 0.5, NOW - 2500),
            (&second, 0.75, NOW - 1000),
            (&second, 0.75, NOW - 1000),
            (&first, 0.5, NOW - 2000),
        ];
        let of_two: [WrittenExemplar<'_>; 2] =
            [(&too_long, 3.0, NOW), (&first, f64::INFINITY, NOW + 3_600_000)];
        writer.exemplars(&bucket("1"), &of_one);
        writer.exemplars(&bucket("+Inf"), &of_two);
        let headers = [("content-type", content_type)];
        let sent = server.send("/api/v1/write", &headers, snappy(&writer.finish())).await;
        assert_eq!(sent.status, 204, "{}", sent.text());
        let query = "rate(x_seconds_bucket[5m])";
        let uri = format!("/api/v1/query_exemplars?query={query}&start={}", NOW / 1000 - 100);
        let answer = server.get(&uri, &[]).await;
        let found: Value = serde_json::from_str(answer.text()).unwrap();
        let expected = json!({ "status": "success", "data": [{
            "seriesLabels": { "__name__": "x_seconds_bucket", "le": "1" },
            "exemplars": [
                { "labels": { "trace_id": "a1" }, "value": "0.5", "timestamp": 1_799_999_997.5 },
                { "labels": { "trace_id": "b2" }, "value": "0.75", "timestamp": 1_799_999_999 },
            ],
        }]});
        assert_eq!(found, expected, "{version:?}");
        for (query, start) in [("other", 0), ("x_seconds_bucket", NOW / 1000)] {
            let uri = format!("/api/v1/query_exemplars?query={query}&start={start}");
            let answer = server.get(&uri, &[]).await;
            assert_eq!(answer.text(), r#"{"status":"success","data":[]}"#);
        }
    }
}
