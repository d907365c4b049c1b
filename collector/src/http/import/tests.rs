use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use stoa_model::Matcher;
use stoa_promql::storage::{Select, Storage as _};
use stoa_wal::disk::SimDisk;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::ServiceExt as _;

use super::*;
use crate::config::{Config, StorageConfig};
use crate::http::Access;
use crate::http::access::PeerAddress;

const NOW: i64 = 1_700_000_000_000;
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Collector {
    importer: Importer,
    disk: SimDisk,
    router: Router,
}

impl Collector {
    fn new(free_bytes_min: u64) -> Self {
        let config = StorageConfig {
            retention: Duration::from_secs(10 * 86_400),
            retention_1m: Duration::ZERO,
            retention_1h: Duration::ZERO,
            out_of_order: Duration::from_secs(3600),
            free_bytes_min,
            series_max: 3,
            ..Config::defaults().unwrap().storage
        };
        let disk = SimDisk::new(1);
        let clock: Clock = Arc::new(|| NOW);
        let opened =
            Store::open(Arc::new(disk.clone()), Path::new("/data"), &config, Arc::clone(&clock));
        let importer = Importer::new(opened.unwrap().0, clock);
        let router = routes(importer.clone()).into_router((), Access::open());
        Self { importer, disk, router }
    }

    /// Sends a request; the status and the body of the answer.
    async fn send(
        &self,
        query: &str,
        headers: &[(header::HeaderName, &str)],
        body: impl Into<Body>,
    ) -> (StatusCode, String) {
        let path = format!("/api/v1/import/prometheus?{query}");
        let mut request = Request::post(path).header(header::HOST, "localhost");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(PeerAddress(([127, 0, 0, 1], 5555).into()));
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Every sample there is: metric, instant, value.
    fn stored(&self) -> Vec<(String, i64, f64)> {
        let select = Select {
            matchers: &[Matcher::equal("job", "old")],
            start_ms: i64::MIN,
            end_ms: i64::MAX,
            series_max: 100,
            samples_max: 1000,
        };
        let mut all = Vec::new();
        for series in self.importer.store.view().select(&select).unwrap() {
            let name = series.labels.metric_name().unwrap();
            let samples = series.timestamps.iter().zip(&series.values);
            all.extend(samples.map(|(t, v)| (name.to_owned(), *t, *v)));
        }
        all
    }
}

fn at(name: &str, t_ms: i64, value: f64) -> (String, i64, f64) {
    (name.to_owned(), t_ms, value)
}

#[tokio::test]
async fn gzip_is_read_and_stored() {
    let collector = Collector::new(0);
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    write!(packed, "m 1 {}\nm 2 {}\nold 3 1000\nnow 4\n", NOW - 2000, NOW - 1000).unwrap();
    let headers = [(header::CONTENT_ENCODING, "gzip")];
    let query = format!("extra_label=job=old&timestamp={}", NOW - 5);
    let (status, body) = collector.send(&query, &headers, packed.finish().unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["data"]["samples"], 3);
    assert_eq!(answer["data"]["tooOld"], 1);
    let expected = [at("m", NOW - 2000, 1.0), at("m", NOW - 1000, 2.0), at("now", NOW - 5, 4.0)];
    assert_eq!(collector.stored(), expected);
    let figures = collector.importer.figures();
    let expected = ImportFigures { requests: 1, stored: 3, too_old: 1, ..Default::default() };
    assert_eq!(figures, expected);
}

#[tokio::test]
async fn the_content_type_says_openmetrics() {
    // Seconds there, milliseconds in text.
    let text = format!("m{{job=\"old\"}} 1 {}\n# EOF\n", NOW / 1000);
    let collector = Collector::new(0);
    let headers = [(header::CONTENT_TYPE, OPENMETRICS)];
    let (status, body) = collector.send("", &headers, text.clone()).await;
    assert_eq!((status, collector.stored()), (StatusCode::OK, vec![at("m", NOW, 1.0)]), "{body}");
    let collector = Collector::new(0);
    let (status, body) = collector.send("", &[], text).await;
    assert_eq!((status, collector.stored()), (StatusCode::OK, vec![]), "{body}");
    assert!(body.contains("\"tooOld\":1"), "{body}");
}

#[tokio::test]
async fn what_cannot_be_read_stores_nothing() {
    let collector = Collector::new(0);
    let right = format!("m{{job=\"old\"}} 1 {NOW}\n");
    let four: String = (0..4).map(|n| format!("m{n} 1\n")).collect();
    let long = format!("extra_label=a={}", "x".repeat(LABEL_BYTES_MAX + 1));
    let gzip = (header::CONTENT_ENCODING, "gzip");
    let openmetrics = (header::CONTENT_TYPE, OPENMETRICS);
    let wrong = [
        ("", vec![], format!("{right}m{{ 1\n"), "line 2"),
        ("", vec![gzip], right.clone(), "read the text"),
        ("", vec![openmetrics], format!("m{{job=\"old\"}} 1 {}\n", NOW / 1000), "cut off"),
        ("", vec![(header::CONTENT_ENCODING, "br")], right.clone(), "send gzip or none"),
        ("extra_label=x", vec![], right.clone(), "name=value"),
        (long.as_str(), vec![], right.clone(), "over 1024 bytes"),
        ("timestamp=yesterday", vec![], right.clone(), "timestamp"),
        ("", vec![], format!("{right}{four}"), "import in parts"),
    ];
    for (query, headers, body, why) in &wrong {
        let (status, answer) = collector.send(query, headers, body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer.contains(why), "{why}: {answer}");
    }
    assert!(collector.stored().is_empty());
    let figures = collector.importer.figures();
    assert_eq!((figures.requests, figures.failed_request, figures.stored), (8, 8, 0));
    assert_eq!(collector.send("", &[], right).await.0, StatusCode::OK);
    assert_eq!(collector.stored(), [at("m", NOW, 1.0)]);
}

#[tokio::test]
async fn one_at_a_time_and_wrong_ones_do_not_take_the_turn() {
    let collector = Collector::new(0);
    let (sender, parts) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = Body::from_stream(ReceiverStream::new(parts));
    let first = collector.send("", &[], body);
    let others = async {
        // Taken in once the one before has been read.
        for _ in 0..3 {
            sender.send(Ok(Bytes::from_static(b"m{job=\"old\"} 1\n"))).await.unwrap();
        }
        let (busy, body) = collector.send("", &[], "m 1\n").await;
        assert_eq!(busy, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("another import"), "{body}");
        let (wrong, _) = collector.send("timestamp=x", &[], "m 1\n").await;
        assert_eq!(wrong, StatusCode::BAD_REQUEST, "judged before its turn");
        drop(sender);
    };
    let ((status, body), ()) = tokio::join!(first, others);
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(collector.stored(), [at("m", NOW, 1.0)]);
    let figures = collector.importer.figures();
    assert_eq!((figures.requests, figures.failed_busy, figures.failed_request), (3, 1, 1));
    assert_eq!((figures.stored, figures.duplicate), (1, 2));
    assert_eq!(collector.send("", &[], "m 1\n").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_full_disk_is_left_its_room() {
    let collector = Collector::new(1 << 20);
    collector.disk.set_capacity(Some(collector.disk.used_bytes() + (1 << 20)));
    let text = format!("m{{job=\"old\"}} 1 {NOW}\n");
    let (status, body) = collector.send("", &[], text.clone()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body.contains("the disk is full: ") && body.contains("1048576"), "{body}");
    assert_eq!((collector.stored(), collector.importer.figures().failed_store), (vec![], 1));
    collector.disk.set_capacity(None);
    assert_eq!(collector.send("", &[], text).await.0, StatusCode::OK);
    assert_eq!(collector.stored().len(), 1);
}
