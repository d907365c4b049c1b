//! Passing on by remote write: a receiver that fails, throttles, refuses and comes back gets everything
//! in order, over restarts too.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use stoa_collector::clock;
use stoa_collector::config::Config;
use stoa_collector::remote::TargetFigures;
use stoa_collector::server::Server;
use stoa_exchange::remote_write::{self, Metadata, Series, Version, Visitor};
use stoa_model::{Labels, METRIC_NAME, MetricKind};
use stoa_tsdb::GroupId;
use tempfile::TempDir;
use tokio::sync::watch;

/// How long something that must happen may take, at most, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// How the receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// As a receiver of version 1, which reads anything as that.
    One,
    /// As one of version 2.
    Two,
    /// As one of version 1 that looks at what it is sent.
    OnlyOne,
    /// With a status and nothing else.
    Answers(u16),
    /// 429 with `Retry-After`, every second time.
    Throttles,
    /// 400 for messages in which a metric of this name stands; takes the others.
    Refuses(&'static str),
    /// 413 for messages of more samples.
    AtMost(usize),
}

/// What the receiver took: per series its values in the order they came.
#[derive(Debug, Default)]
struct Taken {
    values: BTreeMap<String, Vec<u64>>,
    described: BTreeMap<String, MetricKind>,
    requests: u64,
    headers: HeaderMap,
}

impl Visitor for Taken {
    fn series(&mut self, series: &Series<'_>) {
        let mut key = String::new();
        for (name, value) in series.labels.unwrap() {
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            write!(key, "{name}={value} ").unwrap();
        }
        if key.contains("__name__=t_") {
            let values = series.samples.iter().map(|(_, v)| *v as u64);
            self.values.entry(key).or_default().extend(values);
        }
    }

    fn metadata(&mut self, metadata: &Metadata<'_>) {
        let name = String::from_utf8_lossy(metadata.name).into_owned();
        self.described.insert(name, metadata.kind);
    }
}

struct Receiver {
    mood: Mutex<Mood>,
    taken: Mutex<Taken>,
    seen: watch::Sender<u64>,
}

impl Receiver {
    /// A receiver, and its URL.
    async fn start(mood: Mood) -> (Arc<Self>, String) {
        let receiver = Arc::new(Self {
            mood: Mutex::new(mood),
            taken: Mutex::default(),
            seen: watch::Sender::new(0),
        });
        let router = Router::new().route("/w", post(take)).with_state(Arc::clone(&receiver));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/w", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        (receiver, url)
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn requests(&self) -> u64 {
        *self.seen.borrow()
    }

    /// Waits until `is_so` holds of what was taken.
    async fn until(&self, what: &str, is_so: impl Fn(&Taken) -> bool) {
        let mut seen = self.seen.subscribe();
        let wait = seen.wait_for(|_| is_so(&self.taken.lock().unwrap()));
        let met = tokio::time::timeout(PATIENCE, wait).await.is_ok_and(|seen| seen.is_ok());
        assert!(met, "not in time: {what}; {:?}", self.taken.lock().unwrap().values);
    }

    /// Waits until so many requests came, whatever the answers.
    async fn requested(&self, more: u64) {
        let mut seen = self.seen.subscribe();
        let least = *seen.borrow() + more;
        let wait = seen.wait_for(|requests| *requests >= least);
        tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();
    }
}

async fn take(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> Response {
    let mood = *receiver.mood.lock().unwrap();
    let is_two = headers["content-type"] == V2;
    let answer = {
        let mut taken = receiver.taken.lock().unwrap();
        taken.requests += 1;
        let version = if is_two { Version::Two } else { Version::One };
        let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        let named = |name: &str| String::from_utf8_lossy(&message).contains(name);
        match mood {
            Mood::Answers(status) => StatusCode::from_u16(status).unwrap().into_response(),
            Mood::Throttles if taken.requests % 2 == 0 => {
                (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "slowly").into_response()
            }
            Mood::Refuses(name) if named(name) => {
                (StatusCode::BAD_REQUEST, "out of order sample\nand more").into_response()
            }
            Mood::OnlyOne if is_two => StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(),
            Mood::AtMost(most) if counted(&message) > most => {
                StatusCode::PAYLOAD_TOO_LARGE.into_response()
            }
            Mood::One | Mood::OnlyOne | Mood::Throttles | Mood::Refuses(_) | Mood::AtMost(_) => {
                remote_write::read(Version::One, &message, &mut *taken).unwrap();
                taken.headers = headers;
                StatusCode::NO_CONTENT.into_response()
            }
            Mood::Two => {
                remote_write::read(version, &message, &mut *taken).unwrap();
                taken.headers = headers;
                let written = [("x-prometheus-remote-write-samples-written", "999999")];
                (StatusCode::NO_CONTENT, written).into_response()
            }
        }
    };
    receiver.seen.send_modify(|requests| *requests += 1);
    answer
}

/// How many samples a message of version 1 holds.
fn counted(message: &[u8]) -> usize {
    struct Count(usize);
    impl Visitor for Count {
        fn series(&mut self, series: &Series<'_>) {
            self.0 += series.samples.len();
        }
        fn metadata(&mut self, _metadata: &Metadata<'_>) {}
    }
    let mut count = Count(0);
    remote_write::read(Version::One, message, &mut count).unwrap();
    count.0
}

/// A collector that passes on.
struct Collector {
    dir: TempDir,
    text: String,
    server: Option<Server>,
    /// The number of the last row.
    rows: u64,
}

impl Collector {
    async fn start(text: &str) -> Self {
        let mut collector = Self {
            dir: tempfile::tempdir().unwrap(),
            text: text.to_owned(),
            server: None,
            rows: 0,
        };
        collector.open().await;
        collector
    }

    async fn open(&mut self) {
        let mut config = Config::parse(std::path::Path::new("c.toml"), &self.text).unwrap();
        config.data_dir = self.dir.path().to_owned();
        config.agents.listen = "127.0.0.1:0".parse().unwrap();
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        config.storage.free_bytes_min = 0;
        self.server = Some(Server::start(config, clock::system()).await.unwrap());
    }

    async fn stop(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }

    fn figures(&self) -> TargetFigures {
        self.server.as_ref().unwrap().parts().figures().handoff.remove(0)
    }

    /// Stores rows of two series, whose values count up.
    async fn append(&mut self, name: &str, rows: u64) {
        let parts = self.server.as_ref().unwrap().parts();
        parts.store.metadata().describe(name, MetricKind::Gauge, "Rows.", "");
        let start = stoa_daemon::unix_ms() - 100_000;
        let mut pending = Vec::new();
        for _ in 0..rows {
            self.rows += 1;
            let t = start + i64::try_from(self.rows).unwrap();
            let readings = ["a", "b"].map(|n| {
                let labels = Labels::from_pairs([(METRIC_NAME, name), ("n", n)]).unwrap();
                (labels, self.rows as f64)
            });
            let group = GroupId(77);
            pending.push(parts.store.submit_labelled(group, t, readings.to_vec()).await.unwrap());
        }
        for pending in pending {
            pending.stored().await.unwrap();
        }
    }
}

fn target(url: &str, more: &str) -> String {
    format!(
        "[[remote_write]]\nurl = \"{url}\"\n{more}\n\
         queue_config = {{ max_samples_per_send = 10, batch_send_deadline = \"20ms\", \
         min_backoff = \"5ms\", max_backoff = \"50ms\" }}\n"
    )
}

/// Each series has these rows, in order.
fn has(taken: &Taken, name: &str, rows: std::ops::RangeInclusive<u64>) -> bool {
    ["a", "b"].iter().all(|n| {
        let key = format!("__name__={name} n={n} ");
        taken.values.get(&key).is_some_and(|values| values.iter().copied().eq(rows.clone()))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_throttles_and_comes_back_gets_everything_in_order() {
    let (receiver, url) = Receiver::start(Mood::One).await;
    let mut collector = Collector::start(&target(&url, "")).await;
    collector.append("t_x", 30).await;
    receiver.until("the first rows", |taken| has(taken, "t_x", 1..=30)).await;
    for mood in [Mood::Answers(500), Mood::Answers(401), Mood::Throttles, Mood::Answers(503)] {
        receiver.set(mood);
        collector.append("t_x", 20).await;
        receiver.requested(3).await;
    }
    let figures = collector.figures();
    assert!(figures.failing && figures.pending_bytes > 0, "{figures:?}");
    receiver.set(Mood::One);
    collector.append("t_x", 20).await;
    receiver.until("all rows, each once", |taken| has(taken, "t_x", 1..=130)).await;
    {
        let taken = receiver.taken.lock().unwrap();
        assert_eq!(taken.headers["content-encoding"], "snappy");
        assert_eq!(taken.headers["content-type"], "application/x-protobuf");
        assert_eq!(taken.headers["x-prometheus-remote-write-version"], "0.1.0");
        assert!(taken.headers["user-agent"].to_str().unwrap().starts_with("stoa/"));
    }
    receiver.requested(1).await;
    let figures = collector.figures();
    assert!(!figures.failing && figures.requests_failed > 5, "{figures:?}");
    assert!(figures.samples_sent >= 260 && figures.samples_retried > 0, "{figures:?}");
    assert_eq!((figures.samples_rejected, figures.samples_lost), (0, 0));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_ended() {
    let (receiver, url) = Receiver::start(Mood::One).await;
    let mut collector = Collector::start(&target(&url, "name = \"one\"")).await;
    collector.append("t_x", 25).await;
    receiver.until("the first rows", |taken| has(taken, "t_x", 1..=25)).await;
    receiver.set(Mood::Answers(503));
    collector.append("t_x", 25).await;
    receiver.requested(2).await;
    collector.stop().await;
    collector.open().await;
    collector.append("t_x", 25).await;
    receiver.requested(2).await;
    receiver.set(Mood::One);
    receiver.until("all rows, each once", |taken| has(taken, "t_x", 1..=75)).await;
    collector.stop().await;
    collector.open().await;
    collector.append("t_x", 1).await;
    receiver.until("nothing twice", |taken| has(taken, "t_x", 1..=76)).await;
    // A target that is gone is forgotten: it begins anew.
    collector.stop().await;
    let text = std::mem::take(&mut collector.text);
    collector.open().await;
    collector.append("t_x", 10).await;
    collector.stop().await;
    collector.text = text;
    collector.open().await;
    receiver.requested(1).await;
    collector.append("t_y", 1).await;
    receiver.until("what came after", |taken| has(taken, "t_y", 87..=87)).await;
    assert!(has(&receiver.taken.lock().unwrap(), "t_x", 1..=76));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_is_dropped_and_counted() {
    let (receiver, url) = Receiver::start(Mood::Refuses("t_bad")).await;
    let mut collector = Collector::start(&target(&url, "")).await;
    collector.append("t_x", 5).await;
    receiver.until("what is good", |taken| has(taken, "t_x", 1..=5)).await;
    collector.append("t_bad", 15).await;
    receiver.requested(4).await;
    collector.append("t_y", 5).await;
    receiver.until("what comes after", |taken| has(taken, "t_y", 21..=25)).await;
    let figures = collector.figures();
    assert!(figures.samples_rejected >= 30 && figures.requests_rejected >= 3, "{figures:?}");
    assert!(!receiver.taken.lock().unwrap().values.keys().any(|key| key.contains("t_bad")));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_sent_in_halves() {
    let (receiver, url) = Receiver::start(Mood::AtMost(5)).await;
    let mut collector = Collector::start(&target(&url, "")).await;
    collector.append("t_x", 25).await;
    receiver.until("all rows, each once", |taken| has(taken, "t_x", 1..=25)).await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_gets_the_series_it_is_to_get_under_the_labels_it_is_to_see() {
    let (receiver, url) = Receiver::start(Mood::One).await;
    let rules = "write_relabel_configs = [
        { source_labels = [\"__name__\", \"n\"], regex = \"t_x;b|t_y.*\", action = \"drop\" },
        { source_labels = [\"__name__\"], regex = \"t_(.*)\", target_label = \"of\" },
        { regex = \"n\", action = \"labeldrop\" }]";
    let mut collector = Collector::start(&target(&url, rules)).await;
    collector.append("t_x", 15).await;
    collector.append("t_y", 10).await;
    collector.append("t_z", 1).await;
    receiver.until("the last row", |taken| taken.values.contains_key("__name__=t_z of=z ")).await;
    {
        let taken = receiver.taken.lock().unwrap();
        assert!(taken.values["__name__=t_x of=x "].iter().copied().eq(1..=15));
        assert_eq!(taken.values.len(), 2, "{:?}", taken.values);
    }
    // Beside what the collector says of itself: all of that is sent.
    let figures = collector.figures();
    assert_eq!((figures.samples_filtered, figures.samples_lost), (35, 0));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_two_is_sent_to_those_who_take_it() {
    let (receiver, url) = Receiver::start(Mood::Two).await;
    let two = "protobuf_message = \"io.prometheus.write.v2.Request\"";
    let mut collector = Collector::start(&target(&url, two)).await;
    collector.append("t_x", 25).await;
    receiver.until("all rows", |taken| has(taken, "t_x", 1..=25)).await;
    {
        let taken = receiver.taken.lock().unwrap();
        assert_eq!(taken.headers["content-type"], V2);
        assert_eq!(taken.headers["x-prometheus-remote-write-version"], "2.0.0");
        assert_eq!(taken.described["t_x"], MetricKind::Gauge);
    }
    // One that knows version 1 only says nothing of samples, or refuses the message.
    for mood in [Mood::One, Mood::OnlyOne] {
        let (old, url) = Receiver::start(mood).await;
        let mut collector = Collector::start(&target(&url, two)).await;
        collector.append("t_x", 25).await;
        old.until("all rows, by version 1", |taken| has(taken, "t_x", 1..=25)).await;
        assert_eq!(old.taken.lock().unwrap().headers["content-type"], "application/x-protobuf");
        collector.stop().await;
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_shown_who_we_are_and_told_what_metrics_mean() {
    let (receiver, url) = Receiver::start(Mood::One).await;
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let more = format!(
        "authorization = {{ credentials_file = \"{}\" }}\nheaders = {{ X-Scope-OrgID = \"home\" }}",
        file.display()
    );
    let mut collector = Collector::start(&target(&url, &more)).await;
    collector.append("t_x", 1).await;
    // What is known at the start is told at once.
    collector.stop().await;
    collector.open().await;
    receiver.until("a description", |taken| taken.described.contains_key("t_x")).await;
    {
        let taken = receiver.taken.lock().unwrap();
        assert_eq!(taken.headers["authorization"], "Bearer s3cret");
        assert_eq!(taken.headers["x-scope-orgid"], "home");
    }
    // A secret that cannot be read is waited for.
    std::fs::remove_file(&file).unwrap();
    let before = receiver.requests();
    collector.append("t_x", 5).await;
    let figures = || collector.figures();
    tokio::time::timeout(PATIENCE, async {
        while !figures().failing {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(receiver.requests() <= before + 1);
    std::fs::write(&file, "an0ther").unwrap();
    receiver.until("the rest", |taken| has(taken, "t_x", 1..=6)).await;
    assert_eq!(receiver.taken.lock().unwrap().headers["authorization"], "Bearer an0ther");
    collector.stop().await;
}

/// An engine that says what it was asked.
async fn engine(status: u16) -> String {
    let answer = move |uri: http::Uri, body: String| async move {
        let status = StatusCode::from_u16(status).unwrap();
        (status, [("content-type", "application/json")], format!("{{\"asked\":\"{uri} {body}\"}}"))
    };
    let router = Router::new().route("/base/api/v1/{*rest}", get(answer).post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

/// Asks a collector: status, who answered, text.
async fn ask(collector: &Collector, path: &str) -> (u16, bool, String) {
    let url = format!("{}/api/v1/{path}", collector.server.as_ref().unwrap().url());
    let _already = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).send().await.unwrap();
    let status = answer.status().as_u16();
    let by = answer.headers().contains_key("x-stoa-answered-by");
    (status, by, answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_here_is_asked_of_the_other_engine() {
    let other = engine(200).await;
    let mut collector = Collector::start(&format!("[storage.remote]\nurl = \"{other}\"")).await;
    collector.append("t_x", 5).await;
    let now = stoa_daemon::unix_ms() / 1000;
    let check = async |path: String, expected: Option<&str>| {
        let (status, by, text) = ask(&collector, &path).await;
        assert_eq!((status, by), (200, expected.is_some()), "{path}: {text}");
        let expected = expected.unwrap_or("\"status\":\"success\"");
        assert!(text.contains(expected), "{path}: {text}\nnot: {expected}");
    };
    check("query?query=t_x".into(), None).await;
    check("query?query=t_x+offset+1h".into(), Some("/base/api/v1/query query=t_x+offset+1h")).await;
    let recent = format!("query_range?query=t_x&start={}&end={}&step=1", now + 2, now + 60);
    check(recent, None).await;
    let old = format!("query_range?query=t_x&start={}&end={now}&step=60", now - 7200);
    check(old, Some("/base/api/v1/query_range query=t_x&start=")).await;
    check("label/n/values".into(), Some("/base/api/v1/label/n/values ")).await;
    check(format!("label/n/values?start={now}"), None).await;
    check("labels?start=1".into(), Some("/base/api/v1/labels start=1")).await;
    check("series?match[]=t_x".into(), Some("/base/api/v1/series match%5B%5D=t_x")).await;
    let (status, by, _) = ask(&collector, "query?query=(").await;
    assert_eq!((status, by), (400, false));
    let figures = collector.server.as_ref().unwrap().parts().figures();
    let elsewhere = figures.elsewhere.unwrap();
    assert_eq!((elsewhere.answered, elsewhere.failed), (5, 0));
    // Each took one turn, whoever answered; what cannot be read took one to find that out.
    assert_eq!(figures.queries.started, 9);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_old_sample_does_not_make_the_past_ours() {
    let other = engine(200).await;
    let mut collector = Collector::start(&format!("[storage.remote]\nurl = \"{other}\"")).await;
    collector.append("t_x", 5).await;
    let store = &collector.server.as_ref().unwrap().parts().store;
    let now_ms = stoa_daemon::unix_ms();
    let labels = Labels::from_pairs([(METRIC_NAME, "t_old")]).unwrap();
    let hours = |n: i64| now_ms - n * 3_600_000;
    let late = store.submit_labelled(GroupId(78), hours(20), vec![(labels, 1.0)]).await.unwrap();
    late.stored().await.unwrap();
    assert!(store.view().stats().min_t <= Some(hours(20)));
    for query in ["t_x+offset+2h", "t_old+offset+19h", "rate(t_x[1h])"] {
        let (status, by, text) = ask(&collector, &format!("query?query={query}")).await;
        assert_eq!((status, by), (200, true), "{query}: {text}");
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_fails_is_said_to() {
    let check = async |status: u16, when: &str, expected: (u16, bool, &str)| {
        let other = engine(status).await;
        let text = format!("[storage.remote]\nurl = \"{other}\"\nwhen = \"{when}\"");
        let mut collector = Collector::start(&text).await;
        collector.append("t_x", 5).await;
        let (status, by, text) = ask(&collector, "query?query=sum(t_x+offset+1h)+or+t_x").await;
        assert_eq!((status, by), (expected.0, expected.1), "{text}");
        assert!(text.contains(expected.2), "{text}");
        collector.stop().await;
    };
    check(
        503,
        "outside_local",
        (200, false, "\"warnings\":[\"the remote engine 127.0.0.1 did not"),
    )
    .await;
    check(503, "always", (503, false, "\"errorType\":\"unavailable\"")).await;
    for status in [408, 425, 429] {
        let said = format!("this is only what is kept here: it answered {status}");
        check(status, "outside_local", (200, false, &said)).await;
    }
    let said = "this is only what is kept here: it answered 401 Unauthorized\"";
    check(401, "outside_local", (200, false, said)).await;
    check(422, "outside_local", (422, true, "asked")).await;
    check(400, "always", (400, true, "asked")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_told_what_failed_and_no_more() {
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("hunter2");
    let nobody = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let other = engine(500).await.replace("http://", "");
    let credential = format!("authorization = {{ credentials_file = \"{}\" }}", file.display());
    for (url, more, expected) in [
        // What the other says, its own address among it, is in the log.
        (format!("http://zelda:hunter2@{other}"), "", "it answered 500 Internal Server Error"),
        (format!("http://zelda:hunter2@{nobody}/base"), "", "it cannot be reached, the log"),
        (format!("http://{other}"), credential.as_str(), "it cannot be asked now, the log"),
    ] {
        for when in ["outside_local", "always"] {
            let text = format!("[storage.remote]\nurl = \"{url}\"\nwhen = \"{when}\"\n{more}");
            let mut collector = Collector::start(&text).await;
            let (_, by, text) = ask(&collector, "query?query=t_x+offset+1h").await;
            assert!(!by && text.contains(expected), "{text}");
            for secret in ["hunter2", "zelda", "base", "error sending", "No such file"] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
            collector.stop().await;
        }
    }
}

/// An engine whose answers have no end, or break off when told `breaks`.
async fn endless(breaks: bool) -> String {
    let answer = move || async move {
        let piece = move |n: u64| match n {
            9.. if breaks => Err(std::io::Error::other("on purpose")),
            _ => Ok(Bytes::from_static(&[b' '; 1 << 16])),
        };
        axum::body::Body::from_stream(tokio_stream::iter((0..).map(piece)))
    };
    let router = Router::new().route("/api/v1/{*rest}", get(answer).post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_does_not_keep_a_place() {
    let other = endless(false).await;
    let text = format!(
        "[query]\nconcurrency_max = 1\n[storage.remote]\nurl = \"{other}\"\nwhen = \"always\""
    );
    let mut collector = Collector::start(&text).await;
    let at = collector.server.as_ref().unwrap().url();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |timeout: &str| {
        let url = format!("{at}/api/v1/query?query=up&timeout={timeout}");
        let send = client.get(url).send();
        async { tokio::time::timeout(PATIENCE, send).await.unwrap().unwrap() }
    };
    // Two that hold their answers and read none of them.
    let first = ask("2s").await;
    let second = ask("30s").await;
    assert!(first.headers().contains_key("x-stoa-answered-by"));
    assert!(second.headers().contains_key("x-stoa-answered-by"));
    // One that finds no place in its time is told so.
    assert_eq!(ask("100ms").await.status().as_u16(), 503);
    // What was not read in time is not taken for the whole.
    assert!(first.bytes().await.is_err());
    // One that goes away leaves its place at once.
    drop(second);
    assert_eq!(ask("20s").await.status().as_u16(), 200);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_a_failure() {
    let other = endless(true).await;
    let text = format!("[storage.remote]\nurl = \"{other}\"\nwhen = \"always\"");
    let mut collector = Collector::start(&text).await;
    let url = format!("{}/api/v1/query?query=up", collector.server.as_ref().unwrap().url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(client.get(url).send().await.unwrap().bytes().await.is_err());
    let figures = collector.server.as_ref().unwrap().parts().figures().elsewhere.unwrap();
    assert_eq!((figures.answered, figures.failed), (0, 1));
    collector.stop().await;
}
