//! Strangers, port scans, and too many at once.

use std::net::SocketAddr;
use std::sync::Arc;
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

/// How many refusals for that reason there were.
fn refused(site: &Site, reason: Refused) -> u64 {
    let counts = site.listener.stats().refused;
    counts.iter().find(|(counted, _)| *counted == reason).map_or(0, |(_, count)| *count)
}

/// Waits until it is so.
async fn until(what: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(10), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "it did not come to that");
}

/// A listener at which an address may have four handshakes under way, loopback's too.
fn strict(ca: &Ca) -> Site {
    Site::with(ListenerConfig {
        handshakes_per_address_max: 4,
        is_exempt: Arc::new(|_address| false),
        handshake_timeout: Duration::from_secs(20),
        ..ListenerConfig::new(ca.server(), ResetKeys::generate().unwrap())
    })
}

#[tokio::test]
async fn silent_tcp_clients_of_one_address_do_not_keep_another_out() {
    let ca = Ca::new();
    let site = strict(&ca);
    let mut silent = Vec::new();
    for _ in 0..10 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        silent.push(socket.connect(site.addr()).await.unwrap());
    }
    until(|| refused(&site, Refused::AddressBusy) == 6).await;
    assert_eq!(site.listener.stats().handshakes, 4);
    // The kernel hands connections over in order: the first four are waited for.
    for stream in silent.iter_mut().skip(4) {
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok() && rest.is_empty(), "not hung up on");
    }
    let connection = ca.dialer(site.addr(), "pve1").connect().await.unwrap();
    let reply = call(&connection.channel(Class::Control), "Echo", "still here").await;
    assert_eq!(reply.unwrap(), "still here");
    drop(silent);
    until(|| site.listener.stats().handshakes == 0).await;
}

/// The first datagrams of `count` QUIC handshakes, as a real client sends them.
async fn first_datagrams(count: usize) -> Vec<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    tls.alpn_protocols = vec![stoa_transport::ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let mut datagrams = Vec::new();
    for _ in 0..count {
        // One socket each: what is sent again would be taken for another's first.
        let sink = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = sink.local_addr().unwrap();
        let connecting = endpoint.connect_with(config.clone(), to, "x").unwrap();
        let mut datagram = vec![0; 2000];
        let len = sink.recv(&mut datagram).await.unwrap();
        datagram.truncate(len);
        datagrams.push(datagram);
        drop(connecting);
    }
    datagrams
}

#[tokio::test]
async fn quic_clients_of_a_busy_address_must_prove_it_first() {
    let ca = Ca::new();
    let site = strict(&ca);
    let udp = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    // As from forged addresses: never answered, so never past the first datagram.
    for datagram in first_datagrams(10).await {
        udp.send_to(&datagram, site.addr()).await.unwrap();
    }
    until(|| site.listener.stats().retries == 8).await;
    let stats = site.listener.stats();
    assert_eq!((stats.handshakes, refused(&site, Refused::AddressBusy)), (2, 0), "{stats:?}");
    // Other addresses are not asked; those that are can still come in.
    let other = ca.dialer(site.addr(), "pve1").connect().await.unwrap();
    assert!(call(&other.channel(Class::Control), "Echo", "x").await.is_ok());
    assert_eq!(site.listener.stats().retries, 8);
}

#[tokio::test]
async fn agents_behind_one_address_all_come_in() {
    let ca = Ca::new();
    let site = strict(&ca);
    let agents: Vec<_> = (0..12)
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
    let mut connections = Vec::new();
    for agent in agents {
        connections.push(agent.await.unwrap());
    }
    assert_eq!(connections.len(), 12);
    until(|| site.listener.stats().handshakes == 0).await;
}
