//! Damage in the store, as who asks over HTTP sees it: what is whole, and a warning.

#![expect(clippy::unwrap_used, reason = "a test: what goes wrong is to fail it")]

use std::path::{Path, PathBuf};
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
use stoa_wal::Disk as _;
use stoa_wal::disk::SimDisk;
use tower::ServiceExt as _;

const HOUR_MS: i64 = 3_600_000;
const START: i64 = 1_698_883_200_000;
const HOURS: i64 = 6;

/// Six hours of a series, a sample a minute, in three blocks; the directories of these.
fn filled(disk: &SimDisk) -> Vec<PathBuf> {
    let (db, _) =
        Db::open(Arc::new(disk.clone()), Path::new("/data"), Options::default(), START).unwrap();
    let labels = Labels::from_pairs([("__name__", "load")]).unwrap();
    let load = db.resolve(GroupId(1), &labels).unwrap();
    for minute in 0..HOURS * 60 {
        let rows = vec![Row { t_ms: START + minute * 60_000, samples: vec![(load, 1.0)] }];
        db.append(&Batch { group: GroupId(1), rows, marks: Vec::new() }).unwrap();
    }
    db.maintain(START + 2 * HOURS * HOUR_MS).unwrap();
    db.close().unwrap();
    let blocks = Path::new("/data/blocks");
    let mut names = disk.list(blocks).unwrap();
    names.sort();
    names.iter().map(|name| blocks.join(name)).collect()
}

fn spoil(disk: &SimDisk, block: &Path, files: &[&str]) {
    for file in files {
        let spoil = |bytes: &mut Vec<u8>| bytes.iter_mut().skip(16).for_each(|byte| *byte ^= 1);
        disk.corrupt(&block.join(file), spoil).unwrap();
    }
}

struct Asker(axum::Router, Prometheus);

impl Asker {
    fn new(disk: &SimDisk) -> Self {
        let clock: Clock = Arc::new(|| START + 2 * HOURS * HOUR_MS);
        let storage = StorageConfig {
            retention: Duration::from_secs(10 * 86_400),
            retention_1m: Duration::ZERO,
            retention_1h: Duration::ZERO,
            out_of_order: Duration::from_secs(3600),
            free_bytes_min: 0,
            series_max: 1000,
            ..Config::defaults().unwrap().storage
        };
        let disk = Arc::new(disk.clone());
        let (store, _) =
            Store::open(disk, Path::new("/data"), &storage, Arc::clone(&clock)).unwrap();
        let query = QueryConfig {
            timeout: Duration::from_secs(60),
            samples_max: 100_000,
            series_max: 1000,
            concurrency_max: 4,
            ..Config::defaults().unwrap().query
        };
        let prometheus = Prometheus::new(store, &query, clock);
        let outward = prometheus::outward_routes(prometheus.clone(), Labels::empty());
        let routes = prometheus::routes(prometheus.clone()).merge(outward);
        Self(routes.into_router((), Access::open()), prometheus)
    }

    /// How many answers of each kind could not say that they may lack something.
    fn unsaid(&self) -> [u64; 2] {
        self.1.figures().incomplete
    }

    /// The status of what has no place for warnings.
    async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> u16 {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost:7480")
            .body(Body::from(body))
            .unwrap();
        request.extensions_mut().insert(PeerAddress("127.0.0.1:9".parse().unwrap()));
        let answer = self.0.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        axum::body::to_bytes(answer.into_body(), 1 << 26).await.unwrap();
        status
    }

    /// The answer's result and its warnings.
    async fn get(&self, path: &str) -> (Value, Vec<String>) {
        let mut request = http::Request::builder()
            .uri(path)
            .header("host", "localhost:7480")
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(PeerAddress("127.0.0.1:9".parse().unwrap()));
        let answer = self.0.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 26).await.unwrap();
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        let warnings = body.get("warnings").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |warning: &Value| warning.as_str().unwrap().to_owned();
        let warnings = warnings.iter().map(text).collect();
        (body.get_mut("data").unwrap().take(), warnings)
    }

    /// How many samples there are in the two hours before an hour, and the warnings of that answer.
    async fn count(&self, hour: i64) -> (u64, Vec<String>) {
        // A range has what is after its start, and a sample stands on each hour.
        let at = (START + hour * HOUR_MS) / 1000 - 1;
        let path = format!("/api/v1/query?query=count_over_time(load[2h])&time={at}");
        let (data, warnings) = self.get(&path).await;
        let count = data.pointer("/result/0/value/1").and_then(Value::as_str).unwrap_or("0");
        (count.parse().unwrap(), warnings)
    }
}

#[tokio::test]
async fn an_answer_that_lacks_damaged_chunks_says_so() {
    let disk = SimDisk::new(1);
    let blocks = filled(&disk);
    let asker = Asker::new(&disk);
    assert_eq!(asker.count(4).await, (120, Vec::new()));
    spoil(&disk, blocks.get(1).unwrap(), &["chunks"]);
    let (count, warnings) = asker.count(4).await;
    assert!(count < 120, "{count}");
    let [warning] = &*warnings else { panic!("{warnings:?}") };
    let name = blocks.get(1).unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert!(warning.starts_with("samples from 2023-11-0"), "{warning}");
    let end = format!("blocks/{name}/chunks: chunks are damaged or cannot be read");
    assert!(warning.ends_with(&end), "{warning}");
    assert_eq!(asker.count(2).await, (120, Vec::new()), "another time");
    assert_eq!(asker.count(6).await, (120, Vec::new()), "another time");
}

/// A `ReadRequest` for all of `load`, to be answered in a form.
fn read_request(form: u8) -> Vec<u8> {
    let number = |tag: u8, mut value: u64| {
        let mut out = vec![tag];
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
        out
    };
    let end = START + HOURS * HOUR_MS;
    let matcher = b"\x12\x08__name__\x1a\x04load";
    let query = [
        number(0x08, START.cast_unsigned()),
        number(0x10, end.cast_unsigned()),
        vec![0x1a, u8::try_from(matcher.len()).unwrap()],
        matcher.to_vec(),
    ];
    let query = query.concat();
    let message = [&[0x0a, u8::try_from(query.len()).unwrap()], &query[..], &[0x10, form]].concat();
    snap::raw::Encoder::new().compress_vec(&message).unwrap()
}

#[tokio::test]
async fn what_has_no_place_for_warnings_is_counted() {
    let disk = SimDisk::new(4);
    let blocks = filled(&disk);
    let whole = Asker::new(&disk);
    for form in [0, 1] {
        assert_eq!(whole.send("POST", "/api/v1/read", read_request(form)).await, 200);
    }
    assert_eq!(whole.send("GET", "/federate?match[]=load", Vec::new()).await, 200);
    assert_eq!(whole.unsaid(), [0, 0]);
    spoil(&disk, blocks.get(1).unwrap(), &["chunks"]);
    for (at, form) in (1..).zip([0, 1]) {
        assert_eq!(whole.send("POST", "/api/v1/read", read_request(form)).await, 200);
        assert_eq!(whole.unsaid(), [0, at]);
    }
    // Of the last five minutes nothing is missing.
    assert_eq!(whole.send("GET", "/federate?match[]=load", Vec::new()).await, 200);
    assert_eq!(whole.unsaid(), [0, 2]);
    // Nobody knows of when a block was that has no meta any more: it may be missing in all.
    let disk = SimDisk::new(5);
    let blocks = filled(&disk);
    spoil(&disk, blocks.get(2).unwrap(), &["meta", "spare"]);
    let asker = Asker::new(&disk);
    assert_eq!(asker.send("GET", "/federate?match[]=load", Vec::new()).await, 200);
    assert_eq!(asker.unsaid(), [1, 0]);
}

#[tokio::test]
async fn an_answer_that_lacks_a_block_says_so_from_the_start_on() {
    let disk = SimDisk::new(2);
    let blocks = filled(&disk);
    spoil(&disk, blocks.get(1).unwrap(), &["index", "spare"]);
    let asker = Asker::new(&disk);
    let (count, warnings) = asker.count(4).await;
    assert_eq!((count, warnings.len()), (0, 1), "{warnings:?}");
    // Asked again, and for names.
    assert_eq!(asker.count(4).await, (0, warnings.clone()));
    let (start, end) = (START / 1000, START / 1000 + 6 * 3600);
    for path in ["labels", "label/__name__/values", "series"] {
        let path = format!("/api/v1/{path}?match[]=load&start={start}&end={end}");
        assert_eq!(asker.get(&path).await.1, warnings, "{path}");
    }
    assert_eq!(asker.count(2).await, (120, Vec::new()));
    // One whose meta is gone: nobody knows any more of when it was.
    let disk = SimDisk::new(3);
    let blocks = filled(&disk);
    spoil(&disk, blocks.get(1).unwrap(), &["meta", "spare"]);
    let (count, warnings) = Asker::new(&disk).count(4).await;
    assert_eq!((count, warnings.len()), (0, 1), "{warnings:?}");
    assert!(warnings.concat().starts_with("samples before "), "{warnings:?}");
}
