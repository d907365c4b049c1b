use std::sync::atomic::AtomicI64;

use stoa_model::{Labels, MetricKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

fn families() -> Vec<Family> {
    let mut load = Family::new("node_load1", "1m load average.", MetricKind::Gauge);
    load.push(Labels::empty(), 0.25);
    let mut seconds = Family::new("node_cpu_seconds_total", "Seconds.", MetricKind::Counter);
    seconds.push(Labels::from_pairs_last_wins([("cpu", "0")]), 7.5);
    let mut interrupts = Family::new("node_intr", "Not named as one.", MetricKind::Counter);
    interrupts.push(Labels::empty(), 3.0);
    let mut up = Family::new("up", "Of the scraper.", MetricKind::Gauge);
    up.push(Labels::empty(), 1.0);
    vec![load, seconds, interrupts, up]
}

struct Served {
    address: SocketAddr,
    writer: PageWriter,
    now: Arc<AtomicI64>,
    stop: CancellationToken,
}

async fn served() -> Served {
    let now = Arc::new(AtomicI64::new(100_000));
    let clock = Arc::clone(&now);
    let config = PageConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        interval: Duration::from_secs(1),
        patience: Duration::from_secs(2),
    };
    let (page, writer) = Page::open(config, Arc::new(move || clock.load(Relaxed))).await.unwrap();
    let address = page.address().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(page.serve(stop.clone()));
    Served { address, writer, now, stop }
}

/// Status line and body.
async fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_last_tick_is_served_in_both_formats() {
    let mut served = served().await;
    served.writer.tell(99_000, families().iter());
    let (head, body) = ask(served.address, "GET /metrics HTTP/1.1\nHost: localhost:1\n\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert_eq!(
        body,
        "# HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 0.25\n\
         # HELP node_cpu_seconds_total Seconds.\n# TYPE node_cpu_seconds_total counter\n\
         node_cpu_seconds_total{cpu=\"0\"} 7.5\n\
         # HELP node_intr Not named as one.\n# TYPE node_intr counter\nnode_intr 3\n"
    );
    let request = "GET /metrics HTTP/1.1\nHost: [::1]:1\nAccept: application/openmetrics-text\n\n";
    let (head, body) = ask(served.address, request).await;
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert_eq!(
        body,
        "# HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 0.25\n\
         # HELP node_cpu_seconds Seconds.\n# TYPE node_cpu_seconds counter\n\
         node_cpu_seconds_total{cpu=\"0\"} 7.5\n\
         # HELP node_intr Not named as one.\n# TYPE node_intr unknown\nnode_intr 3\n# EOF\n"
    );
    assert_eq!(served.writer.figures(), PageFigures { given: 2, refused: 0 });
    served.stop.cancel();
}

#[tokio::test]
async fn what_is_not_asked_rightly_or_old_is_refused() {
    let mut served = served().await;
    let nothing_read = ask(served.address, "GET /metrics HTTP/1.1\nHost: localhost\n\n").await;
    assert!(nothing_read.0.starts_with("HTTP/1.1 503"), "{}", nothing_read.0);
    served.writer.tell(100_000, families().iter());
    let mut refused = 1;
    let mut check = async |request: &str, status: &str| {
        let (head, _) = ask(served.address, request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
        refused += 1;
        assert_eq!(served.writer.figures(), PageFigures { given: 0, refused });
    };
    check("GET / HTTP/1.1\nHost: localhost\n\n", "404").await;
    check("POST /metrics HTTP/1.1\nHost: localhost\n\n", "405").await;
    check("GET /metrics HTTP/1.1\nHost: evil.example\n\n", "403").await;
    served.now.store(110_001, Relaxed);
    check("GET /metrics HTTP/1.1\nHost: 127.0.0.1\n\n", "503").await;
    served.stop.cancel();
}

#[tokio::test]
async fn idle_connections_leave_room_in_time() {
    let mut served = served().await;
    served.writer.tell(100_000, families().iter());
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        idle.push(TcpStream::connect(served.address).await.unwrap());
    }
    // All places are taken: this one waits until the others are given up.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (head, _) = ask(served.address, "GET /metrics HTTP/1.1\nHost: localhost\n\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    drop(idle);
    served.stop.cancel();
}
