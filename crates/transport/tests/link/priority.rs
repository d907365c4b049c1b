//! A storm of logs does not delay an order.

use std::time::Duration;

use bytes::Bytes;
use stoa_transport::chaos::{Link, Proxy};
use stoa_transport::{Class, Connection, Via};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::echo::{call, sink};
use crate::site::{Ca, Site};

/// How often an order is sent while measuring, and how many of them.
const EVERY: Duration = Duration::from_millis(20);
const ORDERS: usize = 150;

/// Round trips of 200 bytes on the control class, sorted, in milliseconds.
async fn round_trips(connection: &Connection) -> Vec<f64> {
    let control = connection.channel(Class::Control);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut calls = Vec::new();
    for _ in 0..ORDERS {
        ticks.tick().await;
        let control = control.clone();
        calls.push(tokio::spawn(async move {
            let started = Instant::now();
            call(&control, "Echo", "o".repeat(200)).await.unwrap();
            started.elapsed().as_secs_f64() * 1000.0
        }));
    }
    let mut times = Vec::new();
    for call in calls {
        times.push(call.await.unwrap());
    }
    times.sort_by(f64::total_cmp);
    times
}

/// The p99s of the control class, without bulk and with more than the link carries.
async fn check(name: &str, link: Link) -> (f64, f64) {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let proxy = Proxy::start(site.addr(), link, 11).await.unwrap();
    let connection = ca.dialer(proxy.local_addr(), "pve1").connect().await.unwrap();
    assert_eq!(connection.via(), Via::Quic);
    let idle = round_trips(&connection).await;

    let logs = connection.channel(Class::Logs);
    let chunk = Bytes::from(vec![b'l'; 16 * 1024]);
    let bulk =
        tokio::spawn(
            async move { sink(&logs, tokio_stream::iter(std::iter::repeat(chunk))).await },
        );
    sleep(Duration::from_millis(700)).await;
    let before = proxy.stats();
    let started = Instant::now();
    let busy = round_trips(&connection).await;
    let after = proxy.stats();
    assert!(!bulk.is_finished(), "the bulk was not endless: {:?}", bulk.await);
    bulk.abort();

    let at = |times: &[f64], percent: usize| times[(times.len() - 1) * percent / 100];
    let packets = (after.passed - before.passed) as f64 / started.elapsed().as_secs_f64();
    let lost = after.lost - before.lost;
    println!(
        "{name}: idle p50/p99 {:.0}/{:.0} ms, with bulk {:.0}/{:.0} ms ({packets:.0} packets/s, {lost} lost)",
        at(&idle, 50),
        at(&idle, 99),
        at(&busy, 50),
        at(&busy, 99),
    );
    (at(&idle, 99), at(&busy, 99))
}

/// 20 ms and 2 % loss each way: what bounds the bulk is the congestion control.
#[tokio::test]
async fn bulk_on_a_lossy_link_leaves_control_its_round_trip() {
    let link = Link { delay: Duration::from_millis(20), loss: 0.02, ..Link::CLEAR };
    let link = Link { bytes_per_second: Some(25_000_000), queue_bytes: 1_000_000, ..link };
    let (idle, busy) = check("lossy", link).await;
    assert!(busy <= 10.0 * idle, "{busy} ms against {idle} ms");
}

/// 8 Mbit/s with a queue of one bandwidth-delay product: what bounds the bulk is the link.
#[tokio::test]
async fn bulk_on_a_narrow_link_leaves_control_its_round_trip() {
    let link = Link { delay: Duration::from_millis(20), ..Link::CLEAR };
    let link = Link { bytes_per_second: Some(1_000_000), queue_bytes: 40_000, ..link };
    let (idle, busy) = check("narrow", link).await;
    assert!(busy <= 10.0 * idle, "{busy} ms against {idle} ms");
}
