//! How connections end: by a crash, by revocation, by draining.

use std::net::SocketAddr;
use std::time::Duration;

use stoa_transport::chaos::{Link, Proxy};
use stoa_transport::{
    Class, Closed, Connection, DialConfig, Dialer, ListenerConfig, Refused, ResetKeys, Via,
};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

use crate::echo::call;
use crate::site::{Ca, Site};

/// A collector in a runtime of its own, which can be stopped as dead as a process: no packet, no
/// close, no goodbye.
struct Process {
    runtime: Runtime,
    addr: SocketAddr,
    /// Owned until the kill, which forgets it: its `Drop` would say goodbye.
    site: Site,
}

impl Process {
    fn start(ca: &Ca, addr: SocketAddr, keys: &ResetKeys) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = ListenerConfig::new(ca.server(), keys.clone());
        let site = runtime.block_on(async { Site::at(addr, config) });
        Self { runtime, addr: site.addr(), site }
    }

    /// Ends every task where it stands; their sockets close without a word over QUIC.
    fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        drop(self.site);
    }
}

#[test]
fn a_killed_and_restarted_collector_is_noticed_and_served_again() {
    let ca = Ca::new();
    let keys = ResetKeys::generate().unwrap();
    let first = Process::start(&ca, "127.0.0.1:0".parse().unwrap(), &keys);
    let addr = first.addr;
    let agent = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dialer = ca.dialer(addr, "pve1");
    let connection = agent.block_on(dialer.connect()).unwrap();
    let control = connection.channel(Class::Control);
    agent.block_on(call(&control, "Echo", "before")).unwrap();
    assert_eq!(connection.via(), Via::Quic);

    // An agent that sends something every 200 ms, and dials when told that it must.
    let (served_tx, served) = std::sync::mpsc::channel();
    agent.spawn(async move {
        let mut connection: Connection = connection;
        loop {
            let control = connection.channel(Class::Control);
            let talk = async {
                loop {
                    call(&control, "Echo", "tick").await.unwrap_or_default();
                    sleep(Duration::from_millis(200)).await;
                }
            };
            let closed = tokio::select! {
                closed = connection.closed() => closed,
                () = talk => unreachable!(),
            };
            connection = loop {
                if let Ok(connection) = dialer.connect().await {
                    break connection;
                }
            };
            let control = connection.channel(Class::Control);
            if call(&control, "Echo", "after").await.is_ok() {
                served_tx.send((closed, connection.via())).unwrap();
            }
        }
    });
    first.kill();
    std::thread::sleep(Duration::from_millis(700));
    let second = Process::start(&ca, addr, &keys);
    let listening = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let (closed, via) = served.recv_timeout(Duration::from_secs(12)).unwrap();
    let took = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - listening;
    println!("served again {took:?} after the collector listens, via {via}: {closed:?}");
    assert_eq!(closed, Closed::Lost("the listener has restarted".to_owned()));
    assert!(took < Duration::from_secs(8), "{took:?}: only the idle timeout noticed");
    second.kill();
}

#[tokio::test]
async fn a_revoked_host_is_cut_at_once_on_both_transports() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let proxy = Proxy::start(site.addr(), Link::CLEAR, 1).await.unwrap();
    proxy.block_udp(true);
    let over_tcp = DialConfig::new(proxy.local_addr().to_string(), ca.client("judas"));
    let over_tcp = Dialer::new(over_tcp).unwrap().connect().await.unwrap();
    let over_quic = ca.dialer(site.addr(), "judas").connect().await.unwrap();
    let other = ca.dialer(site.addr(), "peter").connect().await.unwrap();
    assert_eq!((over_tcp.via(), over_quic.via()), (Via::Tcp, Via::Quic));
    call(&over_tcp.channel(Class::Logs), "Echo", "x").await.unwrap();
    let (slow_tcp, slow_quic) =
        (over_tcp.channel(Class::Control), over_quic.channel(Class::Control));
    let slow =
        |channel| tokio::spawn(async move { call(&channel, "Slow", "x".repeat(9000)).await });
    let in_flight = [slow(slow_tcp), slow(slow_quic)];
    sleep(Duration::from_millis(100)).await;

    let started = Instant::now();
    // One connection over QUIC; over TCP one for control, one for logs.
    assert_eq!(site.listener.cut(|peer| peer.host.as_deref() == Some("judas")), 3);
    for call in in_flight {
        assert!(call.await.unwrap().is_err());
    }
    assert_eq!(over_quic.closed().await, Closed::Refused(Refused::Revoked));
    assert_eq!(over_tcp.closed().await, Closed::Lost("tcp connection ended".to_owned()));
    println!("cut within {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(call(&other.channel(Class::Control), "Echo", "here").await.unwrap(), "here");
    assert_eq!(site.listener.stats().cut, 3);
    while site.listener.stats().connections > 1 {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn draining_finishes_the_call_in_flight_and_refuses_the_next() {
    for via in [Via::Quic, Via::Tcp] {
        let ca = Ca::new();
        let site = Site::start(&ca);
        // Narrow: the reply is still under way for 200 ms when its handler has done.
        let link = Link { bytes_per_second: Some(2_000_000), ..Link::CLEAR };
        let link = Link { delay: Duration::from_millis(10), ..link };
        let proxy = Proxy::start(site.addr(), link, 1).await.unwrap();
        proxy.block_udp(via == Via::Tcp);
        let quic_handshake = Duration::from_millis(if via == Via::Tcp { 20 } else { 5000 });
        let config = DialConfig::new(proxy.local_addr().to_string(), ca.client("pve1"));
        let dialer = Dialer::new(DialConfig { quic_handshake, ..config }).unwrap();
        let connection = dialer.connect().await.unwrap();
        assert_eq!(connection.via(), via);
        let control = connection.channel(Class::Control);
        let request = "y".repeat(400);
        let in_flight = tokio::spawn({
            let (control, request) = (control.clone(), request.clone());
            async move { call(&control, "Large", request).await }
        });
        sleep(Duration::from_millis(100)).await;
        let started = Instant::now();
        let drained = site.drain(Duration::from_secs(8)).await;
        println!("drained via {via} in {:?}", started.elapsed());
        assert!(in_flight.await.unwrap().unwrap() == request.repeat(1000));
        assert_eq!(drained.streams_cut, 0);
        let closed = timeout(Duration::from_secs(5), connection.closed()).await.unwrap();
        match via {
            Via::Quic => assert_eq!(closed, Closed::Refused(Refused::Draining)),
            Via::Tcp => assert!(matches!(closed, Closed::Lost(_)), "{closed:?}"),
        }
        assert!(call(&control, "Echo", "x").await.is_err());
    }
}

#[tokio::test]
async fn a_call_without_end_is_cut_when_the_grace_is_over() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let connection = ca.dialer(site.addr(), "pve1").connect().await.unwrap();
    let control = connection.channel(Class::Control);
    let endless = tokio::spawn(async move { call(&control, "Slow", "z".repeat(60_000)).await });
    sleep(Duration::from_millis(100)).await;
    let draining = site.listener.draining();
    assert!(!draining.is_cancelled());
    let drained = site.drain(Duration::from_millis(300)).await;
    assert_eq!(drained.streams_cut, 1);
    assert!(draining.is_cancelled());
    assert!(endless.await.unwrap().is_err());
}

#[tokio::test]
async fn a_cut_amid_a_reply_is_still_told() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    // A long link: when the cut comes, the congestion window is full of the reply's first part.
    let link = Link { delay: Duration::from_millis(60), ..Link::CLEAR };
    let proxy = Proxy::start(site.addr(), link, 5).await.unwrap();
    let connection = ca.dialer(proxy.local_addr(), "pve1").connect().await.unwrap();
    assert_eq!(connection.via(), Via::Quic);
    let control = connection.channel(Class::Control);
    let reply = tokio::spawn(async move { call(&control, "Large", "r".repeat(900)).await });
    sleep(Duration::from_millis(300)).await;
    let drained = site.drain(Duration::from_millis(700)).await;
    assert_eq!(drained.streams_cut, 1);
    let started = Instant::now();
    let closed = timeout(Duration::from_secs(10), connection.closed()).await.unwrap();
    println!("told of the cut {:?} after it", started.elapsed());
    assert_eq!(closed, Closed::Refused(Refused::Draining));
    assert!(reply.await.unwrap().is_err());
}

#[tokio::test]
async fn a_close_here_reaches_the_listener() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let dialer = ca.dialer(site.addr(), "pve1");
    let connection = dialer.connect().await.unwrap();
    let control = connection.channel(Class::Control);
    let in_flight = tokio::spawn(async move { call(&control, "Slow", "x".repeat(9000)).await });
    sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    connection.close();
    assert_eq!(connection.closed().await, Closed::Here);
    assert!(in_flight.await.unwrap().is_err());
    dialer.farewell().await;
    while site.listener.stats().connections > 0 {
        assert!(started.elapsed() < Duration::from_secs(8), "only the idle timeout noticed");
        sleep(Duration::from_millis(5)).await;
    }
}
