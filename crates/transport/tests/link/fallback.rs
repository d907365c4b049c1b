//! UDP is blocked, and works again.

use std::time::Duration;

use stoa_transport::chaos::{Link, Proxy};
use stoa_transport::{Class, Closed, DialConfig, Dialer, Via};
use tokio::time::{Instant, timeout};

use crate::echo::{call, sink};
use crate::site::{Ca, Site};

#[tokio::test]
async fn udp_blocked_means_tcp_within_a_second_and_quic_again_later() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let proxy = Proxy::start(site.addr(), Link::CLEAR, 1).await.unwrap();
    proxy.block_udp(true);
    let dialer = Dialer::new(DialConfig {
        quic_retry: Duration::from_millis(300),
        ..DialConfig::new(proxy.local_addr().to_string(), ca.client("pve1"))
    });
    let dialer = dialer.unwrap();

    let started = Instant::now();
    let connection = dialer.connect().await.unwrap();
    let control = connection.channel(Class::Control);
    assert_eq!(call(&control, "Whoami", "").await.unwrap(), "pve1 tcp control");
    println!("first reply over tcp after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(connection.via(), Via::Tcp);
    for class in [Class::Metrics, Class::Logs] {
        let who = call(&connection.channel(class), "Whoami", "").await.unwrap();
        assert_eq!(who, format!("pve1 tcp {class}"));
    }
    let upload = tokio_stream::once(vec![1; 100_000].into());
    assert_eq!(sink(&connection.channel(Class::Logs), upload).await.unwrap(), "100000");
    assert_eq!(site.listener.stats().connections, 3);
    // While it is blocked, there is no better path.
    assert!(timeout(Duration::from_millis(700), connection.better_path()).await.is_err());

    proxy.block_udp(false);
    let started = Instant::now();
    timeout(Duration::from_secs(10), connection.better_path()).await.unwrap();
    println!("quic found again after {:?}", started.elapsed());
    let back = loop {
        // On a machine that hangs for 400 ms, tcp may win once more.
        let back = dialer.connect().await.unwrap();
        if back.via() == Via::Quic {
            break back;
        }
    };
    let who = call(&back.channel(Class::Control), "Whoami", "").await.unwrap();
    assert_eq!(who, "pve1 quic control");
    connection.close();
    assert_eq!(connection.closed().await, Closed::Here);
    assert!(call(&control, "Echo", "x").await.is_err());
}

#[tokio::test]
async fn a_cut_tcp_path_ends_the_connection() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let proxy = Proxy::start(site.addr(), Link::CLEAR, 1).await.unwrap();
    proxy.block_udp(true);
    let config = DialConfig::new(proxy.local_addr().to_string(), ca.client("pve1"));
    let connection = Dialer::new(config).unwrap().connect().await.unwrap();
    call(&connection.channel(Class::Metrics), "Echo", "x").await.unwrap();
    proxy.cut_tcp();
    let closed = timeout(Duration::from_secs(5), connection.closed()).await.unwrap();
    assert_eq!(closed, Closed::Lost("tcp connection ended".to_owned()));
    assert!(call(&connection.channel(Class::Metrics), "Echo", "x").await.is_err());
}

#[tokio::test]
async fn a_nat_that_forgets_does_not_end_a_quic_connection() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let proxy = Proxy::start(site.addr(), Link::CLEAR, 1).await.unwrap();
    let connection = ca.dialer(proxy.local_addr(), "pve1").connect().await.unwrap();
    assert_eq!(connection.via(), Via::Quic);
    for _ in 0..3 {
        proxy.rebind_udp();
        let control = connection.channel(Class::Control);
        let reply = call(&control, "Echo", "still here");
        let reply = timeout(Duration::from_secs(5), reply).await.unwrap();
        assert_eq!(reply.unwrap(), "still here");
    }
    assert_eq!(site.listener.stats().accepted, 1);
}
