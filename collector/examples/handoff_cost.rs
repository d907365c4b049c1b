//! What passing samples on costs: CPU time per sample, bytes on the wire, samples per second. Prints one
//! table; takes some seconds (200 ticks, 2.2 million samples a row).
//!
//! `cargo run --release -p stoa-collector --example handoff_cost [TICKS]`
//!
//! Twenty hosts of 550 series with ten labels, a tick a second, are stored first and then passed on from
//! the log as fast as one connection takes them: read only, as remote write 1 and 2, and through three
//! rules of relabelling of which one drops nothing. The receiver is in this process, reads the bodies and
//! looks no further: its part of HTTP is in the figures.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use http::StatusCode;
use rustix::time::{ClockId, clock_gettime};
use stoa_collector::clock;
use stoa_collector::config::Config;
use stoa_collector::remote::Target;
use stoa_collector::store::Store;
use stoa_model::Labels;
use stoa_tsdb::{Batch, GroupId, Row};
use stoa_wal::disk::RealDisk;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const HOSTS: u64 = 20;
const SERIES: u64 = 550;
const NAME: &str = "cost";

/// What is measured beside reading: a name, and keys of the target.
const TARGETS: [(&str, &str); 3] = [
    ("remote write 1", ""),
    ("remote write 2", "protobuf_message = \"io.prometheus.write.v2.Request\""),
    (
        "remote write 1, relabelled",
        "write_relabel_configs = [
           { source_labels = [\"__name__\"], regex = \"go_.*\", action = \"drop\" },
           { regex = \"rack\", action = \"labeldrop\" },
           { source_labels = [\"host\"], regex = \"(.*)[.]lan\", target_label = \"site\" }]",
    ),
];

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "its purpose")]
async fn main() -> Result<(), Failure> {
    let ticks: u64 = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    let bytes = Arc::new(AtomicU64::new(0));
    let router = Router::new().route("/w", post(take)).with_state(Arc::clone(&bytes));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/w", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });

    println!(
        "{:<28}{:>10}{:>16}{:>10}{:>12}",
        "", "samples", "µs CPU/sample", "B/sample", "samples/s"
    );
    let row = |name: &str, samples: u64, cpu: f64, bytes: u64, wall: f64| {
        let n = samples as f64;
        let (cpu, bytes, rate) = (cpu / n, bytes as f64 / n, n / wall);
        println!("{name:<28}{samples:>10}{cpu:>16.3}{bytes:>10.2}{rate:>12.0}");
    };
    for (number, (name, more)) in TARGETS.into_iter().enumerate() {
        let dir = tempfile::tempdir()?;
        let (config, store) = open(dir.path(), &url, more)?;
        let _follower = store.follow(NAME)?;
        let total = fill(&store, ticks).await?;
        if number == 0 {
            let (cpu, begin) = (cpu_micros(), Instant::now());
            let mut follower = store.follow(NAME)?;
            let (mut read, mut is_all) = (0, false);
            while !is_all {
                let followed = store.read_on(&mut follower, 8000);
                (read, is_all) = (read + followed.samples as u64, followed.is_all);
            }
            row("read of the log", read, cpu_micros() - cpu, 0, begin.elapsed().as_secs_f64());
        }
        let target = Target::new(config.remote_write.into_iter().next().ok_or("no target")?)?;
        let stop = CancellationToken::new();
        bytes.store(0, Ordering::Relaxed);
        let (cpu, begin) = (cpu_micros(), Instant::now());
        let sending = tokio::spawn(target.clone().keep(store.clone(), stop.clone()));
        while target.figures(&store, 0).samples_sent < total {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (cpu, wall) = (cpu_micros() - cpu, begin.elapsed().as_secs_f64());
        row(name, total, cpu, bytes.load(Ordering::Relaxed), wall);
        stop.cancel();
        sending.await?;
        store.close().await?;
    }
    Ok(())
}

/// Takes everything, and says so as version 2 wants it.
async fn take(State(bytes): State<Arc<AtomicU64>>, body: Bytes) -> impl IntoResponse {
    bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    let written = [("x-prometheus-remote-write-samples-written", "999999999")];
    (StatusCode::NO_CONTENT, written)
}

fn open(dir: &Path, url: &str, more: &str) -> Result<(Config, Store), Failure> {
    let text = format!("[[remote_write]]\nname = \"{NAME}\"\nurl = \"{url}\"\n{more}");
    let config = Config::parse(Path::new("cost.toml"), &text)?;
    let opened = Store::open(Arc::new(RealDisk), dir, &config.storage, clock::system())?;
    Ok((config, opened.0))
}

/// Stores the ticks of all hosts; says how many samples.
async fn fill(store: &Store, ticks: u64) -> Result<u64, Failure> {
    let start = stoa_daemon::unix_ms() - i64::try_from(ticks)? * 1000;
    let mut hosts = Vec::new();
    for host in 0..HOSTS {
        let name = format!("host{host:02}.lan");
        let mut series = Vec::new();
        for n in 0..SERIES {
            let n = n.to_string();
            let labels = Labels::from_pairs([
                ("__name__", "node_network_receive_packets_total"),
                ("job", "node"),
                ("instance", &name),
                ("host", &name),
                ("device", &n),
                ("operstate", "up"),
                ("duplex", "full"),
                ("adminstate", "up"),
                ("address", "52:54:00:12:34:56"),
                ("rack", "cellar"),
            ])?;
            series.push(store.resolve(GroupId(host + 1), &labels)?);
        }
        hosts.push((GroupId(host + 1), series));
    }
    for tick in 0..ticks {
        let t_ms = start + i64::try_from(tick)? * 1000;
        let mut pending = Vec::new();
        for (group, series) in &hosts {
            let value = |n: u64| (tick * (n % 97) * 1371 + n) as f64;
            let samples = series.iter().zip(0..).map(|(series, n)| (*series, value(n))).collect();
            let rows = vec![Row { t_ms, samples }];
            let batch = Batch { group: *group, rows, marks: Vec::new() };
            pending.push(store.submit(batch).await?);
        }
        for pending in pending {
            pending.stored().await?;
        }
    }
    Ok(ticks * HOSTS * SERIES)
}

/// CPU time of this process so far, all threads.
fn cpu_micros() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
