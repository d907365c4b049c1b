//! Two ends that get along.

use std::time::Duration;

use bytes::Bytes;
use ring::digest;
use stoa_transport::{Class, Closed, DialConfig, Dialer, Via, join_channel};

use crate::echo::{call, sink};
use crate::site::{Ca, Site, patient};

#[tokio::test]
async fn each_class_is_served_over_one_quic_connection() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let connection = ca.dialer(site.addr(), "pve1").connect().await.unwrap();
    assert_eq!(connection.via(), Via::Quic);
    for class in Class::AGENT {
        let channel = connection.channel(class);
        let who = call(&channel, "Whoami", "").await.unwrap();
        assert_eq!(who, format!("pve1 quic {class}"));
        let big = "x".repeat(3_000_000);
        assert_eq!(call(&channel, "Echo", big.clone()).await.unwrap(), big);
    }
    let stats = site.listener.stats();
    assert_eq!((stats.connections, stats.streams, stats.accepted), (1, 3, 1));
    assert_eq!(stats.refused, []);

    connection.close();
    assert_eq!(connection.closed().await, Closed::Here);
    assert!(call(&connection.channel(Class::Control), "Echo", "x").await.is_err());
}

#[tokio::test]
async fn a_long_upload_arrives_whole() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let connection = ca.dialer(site.addr(), "pve1").connect().await.unwrap();
    let chunks = (0..2000).map(|n| Bytes::from(vec![b'x'; n]));
    let total = sink(&connection.channel(Class::Logs), tokio_stream::iter(chunks)).await.unwrap();
    assert_eq!(total, (0..2000).sum::<usize>().to_string());
}

#[tokio::test]
async fn an_ipv6_listener_serves_too() {
    let ca = Ca::new();
    let keys = stoa_transport::ResetKeys::generate().unwrap();
    let config = stoa_transport::ListenerConfig::new(ca.server(), keys);
    let site = Site::at("[::1]:0".parse().unwrap(), config);
    let connection = ca.dialer(site.addr(), "pve6").connect().await.unwrap();
    let who = call(&connection.channel(Class::Control), "Whoami", "").await.unwrap();
    assert_eq!(who, "pve6 quic control");
}

#[tokio::test]
async fn a_client_without_certificate_joins_by_the_hash_of_the_ca() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let addr = site.addr().to_string();
    let hash = digest::digest(&digest::SHA256, &ca.der).as_ref().try_into().unwrap();
    let channel = join_channel(&addr, hash).await.unwrap();
    let who = call(&channel, "Whoami", "").await.unwrap();
    assert!(["- quic join", "- tcp join"].contains(&who.as_str()), "{who}");
    drop(channel);

    let error = join_channel(&addr, [7; 32]).await.unwrap_err();
    assert!(error.to_string().contains("not trusted"), "{error}");
    assert!(!error.passes());
}

#[tokio::test]
async fn renewed_certificates_serve_the_next_connection_and_leave_the_old() {
    let (old, new) = (Ca::new(), Ca::new());
    let site = Site::start(&old);
    let before = old.dialer(site.addr(), "pve1").connect().await.unwrap();
    site.listener.set_credentials(new.server()).unwrap();

    assert!(old.dialer(site.addr(), "pve1").connect().await.is_err());
    let dialer = new.dialer(site.addr(), "pve2");
    let after = dialer.connect().await.unwrap();
    for (connection, host) in [(&before, "pve1"), (&after, "pve2")] {
        let who = call(&connection.channel(Class::Metrics), "Whoami", "").await.unwrap();
        assert_eq!(who, format!("{host} quic metrics"));
    }

    dialer.set_credentials(new.client("pve3")).unwrap();
    let renewed = dialer.connect().await.unwrap();
    let who = call(&renewed.channel(Class::Control), "Whoami", "").await.unwrap();
    assert_eq!(who, "pve3 quic control");
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let ca = Ca::new();
    let site = Site::start(&ca);
    let addr = site.addr();
    assert_eq!(site.drain(Duration::ZERO).await.streams_cut, 0);
    let config = DialConfig::new(addr.to_string(), ca.client("pve1"));
    let started = tokio::time::Instant::now();
    let error = Dialer::new(config).unwrap().connect().await.unwrap_err();
    println!("nobody there: {error}, after {:?}", started.elapsed());
    assert!(error.passes(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());

    let config = patient(DialConfig::new("no-such-host.invalid:1", ca.client("pve1")));
    let error = Dialer::new(config).unwrap().connect().await.unwrap_err();
    assert_eq!(error.to_string(), "resolve no-such-host.invalid:1");
}
