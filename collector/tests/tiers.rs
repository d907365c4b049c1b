//! Queries beyond the time samples are kept: answered from aggregates over HTTP, and said so.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test: what goes wrong is to fail it"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use serde_json::Value;
use stoa_collector::clock::Clock;
use stoa_collector::config::{Config, QueryConfig, StorageConfig};
use stoa_collector::http::Access;
use stoa_collector::http::access::PeerAddress;
use stoa_collector::http::prometheus::{self, Prometheus};
use stoa_collector::store::Store;
use stoa_model::Labels;
use stoa_tsdb::{Batch, Db, GroupId, Options, Row};
use stoa_wal::disk::SimDisk;
use tower::ServiceExt as _;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A Monday, a multiple of four weeks.
const START: i64 = 1_698_883_200_000;
const DAYS: i64 = 12;

fn storage_config() -> StorageConfig {
    StorageConfig {
        retention: Duration::from_secs(2 * 86_400),
        retention_1m: Duration::from_secs(5 * 86_400),
        retention_1h: Duration::from_secs(730 * 86_400),
        out_of_order: Duration::from_secs(6 * 3600),
        free_bytes_min: 0,
        series_max: 1000,
        ..Config::defaults().unwrap().storage
    }
}

/// Twelve days of a counter that is reset at noon and a gauge, a sample a minute at half past; with the
/// options of the collector, or with all samples kept.
fn filled(disk: &SimDisk, config: Option<&StorageConfig>) {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap();
    let options = match config {
        Some(config) => Options {
            retention_ms: millis(config.retention),
            minute_retention_ms: millis(config.retention_1m),
            hour_retention_ms: millis(config.retention_1h),
            out_of_order_ms: millis(config.out_of_order),
            ..Options::default()
        },
        None => Options { retention_ms: 100 * DAY_MS, ..Options::default() },
    };
    let disk = Arc::new(disk.clone());
    let (db, _) = Db::open(disk, Path::new("/data"), options, START).unwrap();
    let group = GroupId(1);
    let labels = |name| Labels::from_pairs([("__name__", name), ("host", "a")]).unwrap();
    for hour in 0..DAYS * 24 {
        let resolve = |name| db.resolve(group, &labels(name)).unwrap();
        let (counter, gauge) = (resolve("requests_total"), resolve("load"));
        let rows = (0..60).map(|minute| {
            let t_ms = START + hour * HOUR_MS + minute * 60_000 + 30_000;
            let since_noon = (t_ms - DAY_MS / 2).rem_euclid(DAY_MS) / 1000;
            let wave = (hour * 60 + minute) % 97;
            Row { t_ms, samples: vec![(counter, since_noon as f64), (gauge, wave as f64)] }
        });
        db.append(&Batch { group, rows: rows.collect(), marks: Vec::new() }).unwrap();
        if hour % 2 == 1 {
            let now = START + (hour + 1) * HOUR_MS;
            db.maintain(now).unwrap();
            db.compact(now).unwrap();
        }
    }
    db.close().unwrap();
}

struct Asker(axum::Router);

impl Asker {
    fn new(disk: SimDisk, config: &StorageConfig) -> Self {
        let clock: Clock = Arc::new(|| START + DAYS * DAY_MS);
        let disk = Arc::new(disk);
        let (store, _) = Store::open(disk, Path::new("/data"), config, Arc::clone(&clock)).unwrap();
        let query = QueryConfig {
            timeout: Duration::from_secs(60),
            samples_max: 10_000_000,
            series_max: 1000,
            concurrency_max: 4,
            ..Config::defaults().unwrap().query
        };
        let routes = prometheus::routes(Prometheus::new(store, &query, clock));
        Self(routes.into_router((), Access::open()))
    }

    /// The answer's data and its infos.
    async fn range(&self, query: &str, from: i64, to: i64, step_s: i64) -> (Value, Vec<String>) {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (start, end) = ((START + from) / 1000, (START + to) / 1000);
        let uri =
            format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={step_s}");
        let mut request = http::Request::builder()
            .uri(uri)
            .header("host", "localhost:7480")
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(PeerAddress("127.0.0.1:9".parse().unwrap()));
        let answer = self.0.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 26).await.unwrap();
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["status"], "success", "{body}");
        let infos = body["infos"].as_array().cloned().unwrap_or_default();
        let infos = infos.iter().map(|info| info.as_str().unwrap().to_owned());
        (body["data"]["result"].take(), infos.collect())
    }
}

/// Points of an answer of one series.
fn points(result: &Value) -> Vec<(f64, f64)> {
    let values = result[0]["values"].as_array().cloned().unwrap_or_default();
    let point = |value: &Value| {
        let value = |at: usize| value[at].to_string().trim_matches('"').parse::<f64>().unwrap();
        (value(0), value(1))
    };
    values.iter().map(point).collect()
}

#[tokio::test]
async fn what_is_older_than_the_samples_is_answered_from_aggregates_and_told() {
    let (disk, whole) = (SimDisk::new(1), SimDisk::new(2));
    let config = storage_config();
    filled(&disk, Some(&config));
    filled(&whole, None);
    let kept = StorageConfig { retention: Duration::from_secs(100 * 86_400), ..config.clone() };
    let kept = StorageConfig { retention_1m: Duration::ZERO, retention_1h: Duration::ZERO, ..kept };
    let (tiers, samples) = (Asker::new(disk, &config), Asker::new(whole, &kept));
    let all = (DAY_MS, DAYS * DAY_MS);

    // On windows: what the samples would have given, and nothing to tell.
    for query in [
        "rate(requests_total[1h])",
        "increase(requests_total[6h])",
        "max_over_time(load[2h])",
        "min_over_time(load[2h])",
        "sum_over_time(load[1h])",
        "avg_over_time(load[3h])",
        "count_over_time(load[1d])",
        "last_over_time(load[1h])",
        "load",
        "timestamp(load)",
        "sum by (host) (rate(requests_total[1h] offset 1h))",
        "absent_over_time(load[1h])",
    ] {
        let (got, infos) = tiers.range(query, all.0, all.1, 3600).await;
        let (expected, _) = samples.range(query, all.0, all.1, 3600).await;
        let (got, expected) = (points(&got), points(&expected));
        assert!(infos.is_empty(), "{query}: {infos:?}");
        assert_eq!(got.len(), expected.len(), "{query}");
        for (got, expected) in got.iter().zip(&expected) {
            let near = (got.1 - expected.1).abs() <= 1e-9 * expected.1.abs();
            assert!(got.0 == expected.0 && near, "{query}: {got:?} is not {expected:?}");
        }
    }

    // Less than the aggregates of an hour can say: near, and told.
    let (got, infos) = tiers.range("rate(requests_total[5m])", 0, 3 * DAY_MS, 600).await;
    let told = "PromQL info: metric \"requests_total\": answered from 1 h aggregates from \
                2023-11-02T00:00:00Z to 2023-11-05T00:00:00Z: raw samples are kept 2 d (1:6)";
    assert_eq!(infos, [told]);
    let got = points(&got);
    assert!(got.len() > 400, "{}", got.len());
    // A second's worth a second; the hour in which it was reset at noon misses half a minute.
    assert!(got.iter().all(|(_, v)| (0.9..1.1).contains(v)), "{got:?}");

    // The newest sample, between the ends of windows: the last one known stands in.
    let (got, infos) = tiers.range("load", DAY_MS, 2 * DAY_MS, 450).await;
    assert_eq!(infos.len(), 1, "{infos:?}");
    assert_eq!(points(&got).len(), 193, "no gaps");

    // Something aggregates do not know, of the last of each minute.
    let (got, infos) =
        tiers.range("quantile_over_time(0.5, load[2h])", 8 * DAY_MS, 9 * DAY_MS, 3600).await;
    assert!(infos.iter().any(|info| info.contains("1 min aggregates")), "{infos:?}");
    let (expected, _) =
        samples.range("quantile_over_time(0.5, load[2h])", 8 * DAY_MS, 9 * DAY_MS, 3600).await;
    assert_eq!(got, expected, "a sample a minute loses nothing");

    // While the samples are there, nothing is told.
    let last = (DAYS * DAY_MS - DAY_MS, DAYS * DAY_MS);
    for query in ["rate(requests_total[5m])", "quantile_over_time(0.5, load[2h])", "load"] {
        let (got, infos) = tiers.range(query, last.0, last.1, 77).await;
        assert!(infos.is_empty(), "{query}: {infos:?}");
        assert_eq!(got, samples.range(query, last.0, last.1, 77).await.0, "{query}");
    }

    // One answer, as an alert asks for, at no end of a window: of the samples.
    let at = last.1 - 53 * 60_000 - 7000;
    for query in ["increase(requests_total[1d])", "last_over_time(load[30h])"] {
        let (got, infos) = tiers.range(query, at, at, 60).await;
        assert!(infos.is_empty(), "{query}: {infos:?}");
        assert_eq!(got, samples.range(query, at, at, 60).await.0, "{query}");
    }

    // Nothing that comes after the end is seen.
    let at = 3 * DAY_MS + 5 * 60_000;
    let query = "ts_of_last_over_time(load[6h])";
    let (got, infos) = tiers.range(query, at, at, 60).await;
    assert_eq!(infos.len(), 1, "{infos:?}");
    assert_eq!(points(&got)[0].1, ((START + 3 * DAY_MS - 30_000) / 1000) as f64);
}
