//! Strangers, port scans, and too many at once.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use stoa_transport::{Class, DialError, ListenerConfig, Refused, ResetKeys};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::echo::call;
use crate::site::{Ca, Site};

#[tokio::test]
async fn garbage_on_both_protocols_harms_nobody() {
    let ca = Ca::new();
    let site = Site::with(ListenerConfig {
        handshake_timeout: Duration::from_millis(500),
        ..ListenerConfig::new(ca.server(), ResetKeys::generate().unwrap())
    });
    let connection = ca.dialer(site.addr(), "pve1").connect().await.unwrap();
    let mut rng = SmallRng::seed_from_u64(42);
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut silent = Vec::new();
    for round in 0..60 {
        let mut bytes = vec![0; rng.random_range(1..1500)];
        rng.fill_bytes(&mut bytes);
        match round % 4 {
            // A long header, so that quinn looks at it.
            0 => bytes[0] |= 0xc0,
            // A short one: an unknown connection.
            1 => bytes[0] = 0x40 | (bytes[0] & 0x3f),
            // The start of a TLS record.
            2 => bytes.splice(..0, [22, 3, 1, 2, 0]).for_each(drop),
            _ => {}
        }
        for _ in 0..20 {
            udp.send_to(&bytes, site.addr()).await.unwrap();
        }
        let mut tcp = TcpStream::connect(site.addr()).await.unwrap();
        // The other side may have hung up by now.
        tcp.write_all(&bytes).await.unwrap_or_default();
        if round % 6 == 0 {
            silent.push(tcp);
        }
        let reply = call(&connection.channel(Class::Control), "Echo", "still here").await;
        assert_eq!(reply.unwrap(), "still here");
    }
    // Whoever says nothing is hung up on.
    for mut tcp in silent {
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(8), tcp.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "a silent client was not hung up on");
    }
    let another = ca.dialer(site.addr(), "pve2").connect().await.unwrap();
    assert!(call(&another.channel(Class::Metrics), "Echo", "x").await.is_ok());
    let stats = site.listener.stats();
    println!("{stats:?}");
    assert_eq!(stats.connections, 2);
}

#[tokio::test]
async fn one_connection_too_many_is_told_that_it_is_busy() {
    let ca = Ca::new();
    let site = Site::with(ListenerConfig {
        connections_max: 2,
        ..ListenerConfig::new(ca.server(), ResetKeys::generate().unwrap())
    });
    let first = ca.dialer(site.addr(), "pve1").connect().await.unwrap();
    let _second = ca.dialer(site.addr(), "pve2").connect().await.unwrap();
    let third = ca.dialer(site.addr(), "pve3");
    let error = third.connect().await.unwrap_err();
    assert!(matches!(error, DialError::Refused { reason: Refused::Busy, .. }), "{error:?}");
    assert!(error.passes());
    first.close();
    let served = timeout(Duration::from_secs(10), async {
        while third.connect().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(served.await.is_ok());
}

#[tokio::test]
async fn a_crowd_that_arrives_at_once_is_served_whole() {
    let ca = Ca::new();
    // So few handshakes at once that some must first prove their address, and some come again.
    let site = Site::with(ListenerConfig {
        handshakes_max: 8,
        ..ListenerConfig::new(ca.server(), ResetKeys::generate().unwrap())
    });
    let agents: Vec<_> = (0..30)
        .map(|n| {
            let dialer = ca.dialer(site.addr(), &format!("pve{n}"));
            tokio::spawn(async move {
                loop {
                    match dialer.connect().await {
                        Ok(connection) => break connection,
                        Err(error) => assert!(error.passes(), "{error:?}"),
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    for agent in agents {
        let connection = agent.await.unwrap();
        assert!(call(&connection.channel(Class::Control), "Echo", "x").await.is_ok());
    }
}
