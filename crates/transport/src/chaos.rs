//! Test support: a proxy that makes a loopback link slow, lossy, narrow, or deaf to UDP, by seed.
//!
//! It stands between a dialer and a listener on one port, udp and tcp. Each direction is one link
//! shared by all flows: a bandwidth with a queue before it, then a delay. Packets keep their order;
//! jitter delays them as a group. TCP loses no bytes: a loss there is a pause, as a retransmission
//! would make it. Not for production: nothing here authenticates anyone.
//!
//! The same seed drops the same packets of the same sequence; what the kernel's scheduling does to
//! that sequence is not ours.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Packets under way per direction; more are dropped.
const PACKETS_MAX: usize = 4096;
/// Clients over UDP at once; more are dropped.
const FLOWS_MAX: usize = 64;
/// Bytes TCP is forwarded by at once.
const CHUNK_BYTES: usize = 4096;
/// The pause that a loss makes in a TCP connection.
const TCP_LOSS_PAUSE: Duration = Duration::from_millis(200);

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Added to the delay, evenly from zero to this.
    pub jitter: Duration,
    /// The share of packets lost at random, 0 to 1.
    pub loss: f64,
    /// Bytes a second; `None` for no limit.
    pub bytes_per_second: Option<u64>,
    /// Bytes that wait for the bandwidth; packets beyond are lost.
    pub queue_bytes: u64,
}

impl Link {
    /// A link that does nothing to what it carries.
    pub const CLEAR: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        bytes_per_second: None,
        queue_bytes: u64::MAX,
    };
}

/// A running proxy; ends when dropped, and takes its connections with it.
#[derive(Debug)]
pub struct Proxy {
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What has become of the packets so far, both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyStats {
    /// UDP packets handed on.
    pub passed: u64,
    /// UDP packets lost: by chance, by a full queue, or blocked.
    pub lost: u64,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    up: Mutex<Direction>,
    down: Mutex<Direction>,
    udp_blocked: AtomicBool,
    passed: AtomicU64,
    lost: AtomicU64,
    /// By client, as a NAT keeps them.
    flows: Mutex<HashMap<SocketAddr, Flow>>,
    /// Ends the TCP connections of now; replaced by `cut_tcp`.
    tcp: Mutex<CancellationToken>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Flow {
    socket: Arc<UdpSocket>,
    _stop: DropGuard,
}

impl Proxy {
    /// Listens on a loopback port of its own, udp and tcp, for `upstream`; `link` is what each
    /// direction does.
    ///
    /// # Errors
    /// No port could be bound.
    pub async fn start(upstream: SocketAddr, link: Link, seed: u64) -> io::Result<Self> {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind((upstream.ip(), 0)).await?;
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?).await {
                break (tcp, udp);
            }
        };
        let local_addr = tcp.local_addr()?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            upstream,
            up: Mutex::new(Direction::new(link, seed)),
            down: Mutex::new(Direction::new(link, seed.wrapping_add(1))),
            udp_blocked: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            flows: Mutex::default(),
            tcp: Mutex::new(stop.child_token()),
            stop: stop.clone(),
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(run_udp(Arc::clone(&shared), udp)));
        tokio::spawn(stop.clone().run_until_cancelled_owned(run_tcp(Arc::clone(&shared), tcp)));
        Ok(Self { local_addr, shared, _stop: stop.drop_guard() })
    }

    /// Where to dial.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// From now on, loses every UDP packet, as a firewall does; or no longer.
    pub fn block_udp(&self, blocked: bool) {
        self.shared.udp_blocked.store(blocked, Ordering::Relaxed);
    }

    /// Forgets the UDP clients, as a NAT does: their next packets come from another port.
    pub fn rebind_udp(&self) {
        lock(&self.shared.flows).clear();
    }

    /// Ends the TCP connections that are open.
    pub fn cut_tcp(&self) {
        let fresh = self.shared.stop.child_token();
        std::mem::replace(&mut *lock(&self.shared.tcp), fresh).cancel();
    }

    /// From now on, another link; what is under way stays so.
    pub fn set_link(&self, link: Link) {
        lock(&self.shared.up).link = link;
        lock(&self.shared.down).link = link;
    }

    /// The packets so far.
    #[must_use]
    pub fn stats(&self) -> ProxyStats {
        ProxyStats {
            passed: self.shared.passed.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One direction's state: pure, told the time.
#[derive(Debug)]
struct Direction {
    link: Link,
    rng: SmallRng,
    /// When the bandwidth has carried what waits for it.
    free_at: Option<Instant>,
    /// The last arrival given: none is earlier.
    last_due: Option<Instant>,
}

impl Direction {
    fn new(link: Link, seed: u64) -> Self {
        Self { link, rng: SmallRng::seed_from_u64(seed), free_at: None, last_due: None }
    }

    /// When a packet of `bytes` arrives; `None` when it is lost.
    fn packet(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        if self.is_lost() || self.waiting_bytes(now) > self.link.queue_bytes {
            return None;
        }
        Some(self.arrival(now, bytes))
    }

    fn is_lost(&mut self) -> bool {
        self.link.loss > 0.0 && self.rng.random_bool(self.link.loss.min(1.0))
    }

    fn waiting_bytes(&self, now: Instant) -> u64 {
        let wait = self.free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let rate = u128::from(self.link.bytes_per_second.unwrap_or(0));
        u64::try_from(wait.as_nanos() * rate / 1_000_000_000).unwrap_or(u64::MAX)
    }

    /// How long the bandwidth takes for so many bytes.
    fn carrying(&self, bytes: u64) -> Duration {
        let rate = self.link.bytes_per_second.unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate)
    }

    fn arrival(&mut self, now: Instant, bytes: usize) -> Instant {
        let start = self.free_at.map_or(now, |at| at.max(now));
        let carried = start + self.carrying(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.free_at = Some(carried);
        let jitter = self.link.jitter.mul_f64(self.rng.random_range(0.0..=1.0));
        let due = carried + self.link.delay + jitter;
        let due = self.last_due.map_or(due, |last| due.max(last));
        self.last_due = Some(due);
        due
    }
}

// ---- udp ----

/// A packet under way.
struct Packet {
    due: Instant,
    bytes: Vec<u8>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

async fn run_udp(shared: Arc<Shared>, front: UdpSocket) {
    let front = Arc::new(front);
    let (up, up_rx) = mpsc::channel(PACKETS_MAX);
    let (down, down_rx) = mpsc::channel(PACKETS_MAX);
    tokio::spawn(deliver(up_rx));
    tokio::spawn(deliver(down_rx));
    let mut buf = vec![0; 65536];
    loop {
        let Ok((len, client)) = front.recv_from(&mut buf).await else {
            continue;
        };
        let Some(socket) = flow(&shared, &front, &down, client).await else {
            continue;
        };
        let bytes = buf.get(..len).unwrap_or_default().to_vec();
        shared.forward(&shared.up, &up, bytes, socket, shared.upstream);
    }
}

/// The socket by which a client's packets go on; a new one when it is not known.
async fn flow(
    shared: &Arc<Shared>,
    front: &Arc<UdpSocket>,
    down: &mpsc::Sender<Packet>,
    client: SocketAddr,
) -> Option<Arc<UdpSocket>> {
    if let Some(flow) = lock(&shared.flows).get(&client) {
        return Some(Arc::clone(&flow.socket));
    }
    let socket = Arc::new(UdpSocket::bind((shared.upstream.ip(), 0)).await.ok()?);
    let stop = shared.stop.child_token();
    let back = {
        let (shared, front) = (Arc::clone(shared), Arc::clone(front));
        let (socket, down) = (Arc::clone(&socket), down.clone());
        async move {
            let mut buf = vec![0; 65536];
            loop {
                // An error here is an ICMP message about an earlier packet.
                let Ok((len, _upstream)) = socket.recv_from(&mut buf).await else {
                    continue;
                };
                let bytes = buf.get(..len).unwrap_or_default().to_vec();
                shared.forward(&shared.down, &down, bytes, Arc::clone(&front), client);
            }
        }
    };
    let mut flows = lock(&shared.flows);
    if flows.len() >= FLOWS_MAX {
        return None;
    }
    tokio::spawn(stop.clone().run_until_cancelled_owned(back));
    flows.insert(client, Flow { socket: Arc::clone(&socket), _stop: stop.drop_guard() });
    Some(socket)
}

impl Shared {
    fn forward(
        &self,
        direction: &Mutex<Direction>,
        queue: &mpsc::Sender<Packet>,
        bytes: Vec<u8>,
        socket: Arc<UdpSocket>,
        to: SocketAddr,
    ) {
        let due = if self.udp_blocked.load(Ordering::Relaxed) {
            None
        } else {
            lock(direction).packet(Instant::now(), bytes.len())
        };
        let sent = due.map(|due| queue.try_send(Packet { due, bytes, socket, to }));
        let counter = if matches!(sent, Some(Ok(()))) { &self.passed } else { &self.lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn deliver(mut queue: mpsc::Receiver<Packet>) {
    while let Some(packet) = queue.recv().await {
        sleep_until(packet.due).await;
        // A listener that is down, or a client that has gone: as on a network, nobody is told.
        packet.socket.send_to(&packet.bytes, packet.to).await.unwrap_or_default();
    }
}

// ---- tcp ----

async fn run_tcp(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((client, _addr)) = listener.accept().await else {
            continue;
        };
        let cut = lock(&shared.tcp).clone();
        let pump = pump(Arc::clone(&shared), client);
        tokio::spawn(cut.run_until_cancelled_owned(pump));
    }
}

async fn pump(shared: Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let server = TcpStream::connect(shared.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(
        carry(&shared.up, from_client, to_server),
        carry(&shared.down, from_server, to_client),
    )?;
    Ok(())
}

/// Carries bytes one way; reading waits while the link's queue is full.
async fn carry(
    direction: &Mutex<Direction>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    let (queue, mut rx) = mpsc::channel::<(Instant, Vec<u8>)>(PACKETS_MAX);
    let read = async move {
        let mut buf = vec![0; CHUNK_BYTES];
        loop {
            // After a reset too, what was read before it still arrives.
            let len = from.read(&mut buf).await.unwrap_or(0);
            if len == 0 {
                return io::Result::Ok(());
            }
            let (due, wait) = {
                let mut direction = lock(direction);
                let now = Instant::now();
                let pause = if direction.is_lost() { TCP_LOSS_PAUSE } else { Duration::ZERO };
                let due = direction.arrival(now, len) + pause;
                let over = direction.waiting_bytes(now).saturating_sub(direction.link.queue_bytes);
                (due, now + direction.carrying(over))
            };
            let bytes = buf.get(..len).unwrap_or_default().to_vec();
            if queue.send((due, bytes)).await.is_err() {
                return Ok(());
            }
            sleep_until(wait).await;
        }
    };
    let write = async move {
        while let Some((due, bytes)) = rx.recv().await {
            sleep_until(due).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(link: Link, seed: u64, packets: &[(u64, usize)]) -> Vec<Option<u64>> {
        let start = Instant::now();
        let mut direction = Direction::new(link, seed);
        let at = |ms| start + Duration::from_millis(ms);
        let arrival = |(ms, bytes): &(u64, usize)| {
            let due = direction.packet(at(*ms), *bytes)?;
            Some(u64::try_from(due.duration_since(start).as_millis()).unwrap())
        };
        packets.iter().map(arrival).collect()
    }

    #[test]
    fn a_link_delays_carries_and_drops_from_a_full_queue() {
        let slow = Link { delay: Duration::from_millis(20), ..Link::CLEAR };
        assert_eq!(arrivals(slow, 1, &[(0, 1000), (5, 1000)]), [Some(20), Some(25)]);
        // 100 kB/s: a packet of 1000 bytes takes 10 ms; 2000 bytes may wait.
        let narrow = Link { bytes_per_second: Some(100_000), queue_bytes: 2000, ..slow };
        let packets = [(0, 1000), (0, 1000), (0, 1000), (0, 1000), (30, 1000)];
        assert_eq!(arrivals(narrow, 1, &packets), [Some(30), Some(40), Some(50), None, Some(60)],);
    }

    #[test]
    fn one_seed_loses_the_same_packets_and_jitter_keeps_order() {
        let lossy = Link { loss: 0.3, jitter: Duration::from_millis(9), ..Link::CLEAR };
        let packets: Vec<_> = (0..1000).map(|ms| (ms, 100)).collect();
        let first = arrivals(lossy, 7, &packets);
        assert_eq!(first, arrivals(lossy, 7, &packets));
        assert_ne!(first, arrivals(lossy, 8, &packets));
        let lost = first.iter().filter(|due| due.is_none()).count();
        assert!((200..400).contains(&lost), "{lost} of 1000 lost");
        let there: Vec<_> = first.into_iter().flatten().collect();
        assert!(there.is_sorted());
    }
}
