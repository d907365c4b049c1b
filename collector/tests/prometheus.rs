//! The Prometheus API as its callers see it: requests and expected answers as data, over a store
//! loaded with known samples; then every expression of a real dashboard.
//!
//! A case in `tests/prometheus/*.http` is a comment, a request line, parameters (`name: value`), a
//! status (`-> 200`) and the expected body. JSON is compared as JSON; an expected `"*"`, also at
//! the end of a text, stands for anything.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use serde_json::Value;
use stoa_collector::clock::Clock;
use stoa_collector::config::{Config, QueryConfig, StorageConfig};
use stoa_collector::dashboard;
use stoa_collector::http::Access;
use stoa_collector::http::access::PeerAddress;
use stoa_collector::http::metrics;
use stoa_collector::http::prometheus::{self, Attendant, Health, Notice, Prometheus, Surroundings};
use stoa_collector::http::storage::{self, StorageAdmin};
use stoa_collector::store::Store;
use stoa_model::{Family, Labels, MetricKind};
use stoa_tsdb::GroupId;
use stoa_wal::disk::SimDisk;
use tower::ServiceExt as _;

/// Samples every 15 s from 0 to here.
const LAST_S: i32 = 600;
const NOW_MS: i64 = 610_000;

fn storage_config() -> StorageConfig {
    StorageConfig {
        retention: Duration::from_secs(14 * 86_400),
        retention_1m: Duration::ZERO,
        retention_1h: Duration::ZERO,
        out_of_order: Duration::from_secs(86_400),
        free_bytes_min: 0,
        series_max: 1000,
        ..Config::defaults().unwrap().storage
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// A collector with one host that is silent, one that never spoke, and one sender.
struct Around;

impl Surroundings for Around {
    fn attendants(&self) -> Vec<Attendant> {
        let attendant = |job, instance, health, error: &str| Attendant {
            labels: labels(&[("job", job), ("instance", instance)]),
            url: format!("stoa://{instance}"),
            seen_ms: (health != Health::Unknown).then_some(599_000),
            interval: None,
            health,
            error: error.to_owned(),
        };
        vec![
            attendant("node", "b", Health::Down, "the host has fallen silent"),
            attendant("node", "c", Health::Unknown, ""),
            attendant("remote_write", "token1", Health::Up, ""),
        ]
    }

    fn notices(&self) -> Vec<Notice> {
        vec![Notice { text: "The disk is full.".to_owned(), since_ms: 1500 }]
    }

    fn families(&self) -> Vec<Family> {
        let mut up = Family::new("stoa_up", "Whether it is.", MetricKind::Gauge);
        up.push(labels(&[("part", "a")]), 1.0);
        vec![up, Family::new("stoa_other", "", MetricKind::Counter)]
    }
}

async fn loaded() -> (Store, Router) {
    let (store, _disk, router) = stored().await;
    (store, router)
}

async fn stored() -> (Store, Arc<SimDisk>, Router) {
    let clock: Clock = Arc::new(|| NOW_MS);
    let sim = Arc::new(SimDisk::new(1));
    let disk = Arc::clone(&sim);
    let (store, _) =
        Store::open(disk, Path::new("/data"), &storage_config(), Arc::clone(&clock)).unwrap();
    let name = "__name__";
    for t in (0..=LAST_S).step_by(15) {
        let t_f = f64::from(t);
        let up = |instance| labels(&[(name, "up"), ("job", "node"), ("instance", instance)]);
        let requests = |code| labels(&[(name, "requests_total"), ("job", "web"), ("code", code)]);
        let odd = |kind| labels(&[(name, "odd"), ("kind", kind)]);
        let readings = [
            (up("a"), 1.0),
            (up("b"), 0.0),
            (requests("200"), t_f),
            (requests("500"), t_f / 5.0),
            (odd("nan"), f64::NAN),
            (odd("inf"), f64::INFINITY),
            (odd("minus"), f64::NEG_INFINITY),
            (odd("small"), 1e-7),
            (odd("num"), 1.0),
            (labels(&[(name, "odd"), ("kind", "num"), ("http.status_code", "404")]), 1.0),
        ];
        let done = store.append_labelled(GroupId(1), i64::from(t) * 1000, &readings).await.unwrap();
        assert_eq!(done.stored, 10);
    }
    store.metadata().describe("up", MetricKind::Gauge, "Whether it answers.", "");
    store.metadata().describe("requests_total", MetricKind::Counter, "Requests \"served\".", "");
    store.metadata().describe("odd", MetricKind::Untyped, "", "bytes");
    let query = QueryConfig {
        timeout: Duration::from_secs(30),
        samples_max: 399,
        series_max: 1000,
        concurrency_max: 4,
        ..Config::defaults().unwrap().query
    };
    let prometheus = Prometheus::new(store.clone(), &query, clock);
    let own = Arc::new(|| {
        let mut family = Family::new("stoa_up", "Whether it is.", MetricKind::Gauge);
        family.push(Labels::empty(), 1.0);
        vec![family]
    });
    let config =
        "[http]\nproxy_scope = \"write\"\n[log]\notlp_endpoint = \"http://ann:hunter2@otlp.lan\"";
    let config = Config::parse(Path::new("c.toml"), config).unwrap();
    let clock: Clock = Arc::new(|| NOW_MS);
    let table = prometheus::routes(prometheus.clone())
        .merge(prometheus::around_routes(prometheus, Arc::new(Around)))
        .merge(storage::routes(StorageAdmin::new(store.clone(), clock)))
        .merge(prometheus::settings_routes(&config))
        .merge(metrics::routes(own));
    let router = table.into_router((), Access::open());
    (store, sim, router)
}

fn encoded(params: &[(String, String)]) -> String {
    let encode = |text: &str| {
        text.bytes().fold(String::new(), |out, b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out + &char::from(b).to_string(),
            b => out + &format!("%{b:02X}"),
        })
    };
    let pairs: Vec<String> =
        params.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

async fn ask(
    router: &Router,
    method: &str,
    path: &str,
    params: &[(String, String)],
) -> (u16, String) {
    let builder = http::Request::builder().method(method).header("host", "localhost:7480");
    let mut request = if method == "POST" {
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let builder = builder.uri(path).header("content-type", form);
        builder.body(Body::from(encoded(params))).unwrap()
    } else {
        builder.uri(format!("{path}?{}", encoded(params))).body(Body::empty()).unwrap()
    };
    request.extensions_mut().insert(PeerAddress(SocketAddr::from(([127, 0, 0, 1], 1))));
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Whether an answer is the expected one, `*` standing for anything.
fn agrees(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::String(expected), _) if expected == "*" => true,
        (Value::String(expected), Value::String(got)) => match expected.strip_suffix('*') {
            Some(start) => got.starts_with(start),
            None => got == expected,
        },
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len() && expected.iter().zip(got).all(|(e, g)| agrees(e, g))
        }
        (Value::Object(expected), Value::Object(got)) => {
            expected.len() == got.len()
                && expected.iter().all(|(key, e)| got.get(key).is_some_and(|g| agrees(e, g)))
        }
        (Value::Number(expected), Value::Number(got)) => expected.as_f64() == got.as_f64(),
        _ => expected == got,
    }
}

/// Runs the cases of a file; every failure is shown with its line.
async fn check(file: &str) {
    let (store, router) = loaded().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prometheus").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let mut failures = Vec::new();
    let mut line = 1;
    for case in text.split("\n\n") {
        let place = format!("{file}:{line}");
        line += case.matches('\n').count() + 2;
        let (request, expected) = case.split_once("-> ").expect(&place);
        let mut lines = request.lines().filter(|line| !line.starts_with('#'));
        let (method, path) = lines.next().unwrap().split_once(' ').expect(&place);
        let params: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect(&place))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let (status, body) = expected.split_once('\n').unwrap_or((expected, ""));
        let (got_status, got_body) = ask(&router, method, path, &params).await;
        let same_body = match serde_json::from_str(body) {
            Ok(expected) => {
                serde_json::from_str(&got_body).is_ok_and(|got| agrees(&expected, &got))
            }
            Err(_) => body.trim_end() == got_body.trim_end(),
        };
        if status.parse() != Ok(got_status) || !same_body {
            failures.push(format!("{place}\n{case}\ngot {got_status}\n{got_body}\n"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn query() {
    check("query.http").await;
}

#[tokio::test]
async fn query_range() {
    check("query_range.http").await;
}

/// Where there are several threads questions are tried in place first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_in_place() {
    check("query.http").await;
    check("query_range.http").await;
}

#[tokio::test]
async fn explain() {
    check("explain.http").await;
}

#[tokio::test]
async fn series_labels_and_metadata() {
    check("series.http").await;
}

#[tokio::test]
async fn targets() {
    check("targets.http").await;
}

#[tokio::test]
async fn rules() {
    check("rules.http").await;
}

#[tokio::test]
async fn status() {
    check("status.http").await;
}

#[tokio::test]
async fn the_kind_of_result_precedes_it_and_it_is_json() {
    let (_store, router) = loaded().await;
    let params = [("query".to_owned(), "up".to_owned())];
    let request = http::Request::builder()
        .uri(format!("/api/v1/query?{}", encoded(&params)))
        .header("host", "localhost:7480")
        .body(Body::empty())
        .unwrap();
    let answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    assert!(body.starts_with(br#"{"status":"success","data":{"resultType":"vector","result":[{"#));
}

#[tokio::test]
async fn every_expression_of_node_exporter_full_is_answered() {
    let Ok(data) = std::env::var("STOA_CONFORMANCE_DATA") else {
        println!("skipped: STOA_CONFORMANCE_DATA names no directory");
        return;
    };
    let path = Path::new(&data).join("dashboards/node-exporter-full-1860.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let found = dashboard::expressions(&dashboard);
    assert!(found.len() >= 286, "{} expressions", found.len());
    let (_store, router) = loaded().await;
    let mut failures = Vec::new();
    for expr in &found {
        let variables = [("__rate_interval", "1m"), ("node", "a"), ("job", "node")];
        let expr = dashboard::filled(expr, &variables);
        let param = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let range =
            [param("query", &expr), param("start", "0"), param("end", "600"), param("step", "60")];
        for path in ["/api/v1/query_range", "/api/v1/query"] {
            let (status, body) = ask(&router, "POST", path, &range).await;
            if status != 200 {
                failures.push(format!("{path} {expr}\n{status} {body}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn what_is_deleted_is_in_no_answer_and_a_snapshot_opens() {
    let (store, disk, router) = stored().await;
    let form = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let count = async |store: &Router, selector: &str| -> u64 {
        let query = format!("sum(count_over_time({selector}[1h]))");
        let asked = form(&[("query", &query), ("time", "610")]);
        let (status, text) = ask(store, "GET", "/api/v1/query", &asked).await;
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["data"]["result"][0]["value"][1].as_str().map_or(0, |n| n.parse().unwrap())
    };
    assert_eq!(count(&router, "up").await, 82);
    let admin = async |name: &str, pairs: &[(&str, &str)]| -> (u16, String) {
        ask(&router, "POST", &format!("/api/v1/admin/tsdb/{name}"), &form(pairs)).await
    };
    // As it was before.
    let (status, text) = admin("snapshot", &[]).await;
    assert_eq!(status, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let name = answer["data"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("19700101T001010Z-"), "{name}");
    // A part of one series, by any of the selectors.
    let pairs = [("match[]", "up{instance=\"a\"}"), ("match[]", "nothing"), ("end", "299")];
    assert_eq!(admin("delete_series", &pairs).await, (204, String::new()));
    assert_eq!(count(&router, "up").await, 82 - 20);
    let all = [("match[]", "{__name__=\"odd\"}")];
    assert_eq!(admin("delete_series", &all).await.0, 204);
    assert_eq!(count(&router, "odd").await, 0);
    assert!(store.view().stats().tombstones > 0);
    assert_eq!(admin("clean_tombstones", &[]).await, (204, String::new()));
    assert_eq!((store.view().stats().tombstones, count(&router, "up").await), (0, 62));
    // Refused, and nothing done.
    for (pairs, why) in [
        (&[][..], "no match[] parameter"),
        (&[("match[]", "sum(up)")], "invalid parameter"),
        (&[("match[]", "{}")], "invalid parameter"),
        (&[("match[]", "up"), ("start", "2"), ("end", "1")], "before start"),
    ] {
        let (status, text) = admin("delete_series", pairs).await;
        assert!(status == 400 && text.contains(why), "{status} {text}");
    }
    let (status, text) = admin("snapshot", &[("skip_head", "true")]).await;
    assert_eq!(status, 400, "{text}");
    assert_eq!(count(&router, "up").await, 62);
    // The copy has what was deleted since.
    let dir = Path::new("/data/snapshots").join(name);
    let clock: Clock = Arc::new(|| NOW_MS);
    let (copy, recovery) = Store::open(disk, &dir, &storage_config(), clock).unwrap();
    assert_eq!(recovery.damaged, 0);
    let series = copy.view().stats().series;
    assert_eq!(series, 10);
    copy.close().await.unwrap();
    store.close().await.unwrap();
}
