//! The listener's UDP socket, for quinn.
//!
//! It differs from quinn's own in two ways. It waits for what can be read only: a socket that is
//! also registered for writing wakes the runtime once more for every packet sent. And while many
//! peers send little it leaves the runtime's registration altogether and is read on a grid
//! ([`super::pace`]), so that a packet wakes nobody.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep};

use super::pace::{PAUSE, Pace};

/// The receive buffer asked for, in bytes; the system gives what it allows.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// How long a sender waits that found the send buffer full.
const FULL_WAIT: Duration = Duration::from_millis(1);

pub(crate) struct ListenSocket {
    socket: Arc<UdpSocket>,
    state: UdpSocketState,
    /// Used by the endpoint's task alone.
    reading: Mutex<Reading>,
    /// A send has just found the buffer full.
    is_full: AtomicBool,
}

struct Reading {
    pace: Pace,
    wait: Wait,
}

enum Wait {
    /// For the next datagram.
    Datagram(AsyncFd<Arc<UdpSocket>>),
    /// For the end of the pause.
    Pause(Pin<Box<Sleep>>),
}

impl ListenSocket {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // Past the system's limit when the process may; else up to it.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)?;
        }
        let buffer_bytes = sockopt::socket_recv_buffer_size(&socket)?;
        let socket = Arc::new(socket);
        let reading = Reading {
            pace: Pace::new(buffer_bytes, Instant::now()),
            wait: Wait::datagram(&socket)?,
        };
        Ok(Self { socket, state, reading: Mutex::new(reading), is_full: AtomicBool::new(false) })
    }
}

impl Wait {
    #[expect(deprecated, reason = "its successor is unsafe; this socket's descriptor stays open")]
    fn datagram(socket: &Arc<UdpSocket>) -> io::Result<Self> {
        AsyncFd::with_interest(Arc::clone(socket), Interest::READABLE).map(Self::Datagram)
    }

    fn pause() -> Self {
        Self::Pause(Box::pin(sleep(PAUSE)))
    }

    /// The socket is empty: what is waited for next.
    fn next(&mut self, pause: bool, socket: &Arc<UdpSocket>) -> io::Result<()> {
        match self {
            Self::Pause(until) if pause => until.as_mut().reset(Instant::now() + PAUSE),
            _ if pause => *self = Self::pause(),
            Self::Pause(_) => *self = Self::datagram(socket)?,
            Self::Datagram(_) => {}
        }
        Ok(())
    }
}

impl AsyncUdpSocket for ListenSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, wait: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send((&*self.socket).into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.is_full.store(true, Ordering::Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let reading = &mut *self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let ready = match &mut reading.wait {
                Wait::Datagram(socket) => Some(ready!(socket.poll_read_ready(cx))?),
                Wait::Pause(until) => {
                    ready!(until.as_mut().poll(cx));
                    None
                }
            };
            let read = self.state.recv((&*self.socket).into(), bufs, meta);
            let messages = match &read {
                Ok(messages) => *messages,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => {
                    // One who listens goes on: an error returned here would end all connections.
                    tracing::debug!(%error, "receiving failed, tried again in a moment");
                    reading.wait = Wait::pause();
                    continue;
                }
            };
            for meta in meta.iter().take(messages) {
                reading.pace.came(meta.addr, meta.len.div_ceil(meta.stride.max(1)));
            }
            // Fewer than fit is all there was.
            if messages < bufs.len() {
                if let Some(mut ready) = ready {
                    ready.clear_ready();
                }
                let pause = reading.pace.emptied(Instant::now());
                if let Err(error) = reading.wait.next(pause, &self.socket) {
                    tracing::debug!(%error, "waiting for datagrams failed, they are read again in a moment");
                    reading.wait = Wait::pause();
                }
            }
            if messages > 0 {
                return Poll::Ready(read);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

impl fmt::Debug for ListenSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenSocket").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Room to send, for one connection. A listener sends little: when the buffer is full once, it looks
/// again in a moment.
#[derive(Debug)]
struct Room {
    socket: Arc<ListenSocket>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.wait.is_none() && this.socket.is_full.swap(false, Ordering::Relaxed) {
            this.wait = Some(Box::pin(sleep(FULL_WAIT)));
        }
        if let Some(wait) = &mut this.wait {
            ready!(wait.as_mut().poll(cx));
            this.wait = None;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// How many messages the next read gives.
    async fn read(socket: &ListenSocket) -> usize {
        let mut bytes = vec![[0; 2048]; 8];
        let mut bufs: Vec<_> = bytes.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
        let mut meta = [RecvMeta::default(); 8];
        poll_fn(|cx| socket.poll_recv(cx, &mut bufs, &mut meta)).await.unwrap()
    }

    #[tokio::test]
    async fn what_comes_in_a_pause_is_read_together_after_it() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = ListenSocket::new(UdpSocket::bind(any).unwrap()).unwrap();
        let to = socket.local_addr().unwrap();
        let peers = [(); 3].map(|()| UdpSocket::bind(any).unwrap());
        peers[0].send_to(b"at once", to).unwrap();
        assert_eq!(read(&socket).await, 1);

        let start = Instant::now();
        socket.reading.lock().unwrap().wait.next(true, &socket.socket).unwrap();
        for peer in &peers {
            peer.send_to(b"together", to).unwrap();
        }
        assert_eq!(read(&socket).await, 3);
        assert!(start.elapsed() >= PAUSE);

        // Three are too few to pause for again.
        let waits = matches!(socket.reading.lock().unwrap().wait, Wait::Pause(_));
        assert!(!waits);
        peers[1].send_to(b"at once", to).unwrap();
        assert_eq!(read(&socket).await, 1);
    }

    #[tokio::test]
    async fn a_sender_that_found_no_room_looks_again_in_a_moment() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = Arc::new(ListenSocket::new(UdpSocket::bind(any).unwrap()).unwrap());
        let mut room = Arc::clone(&socket).create_io_poller();
        let start = Instant::now();
        poll_fn(|cx| room.as_mut().poll_writable(cx)).await.unwrap();
        socket.is_full.store(true, Ordering::Relaxed);
        poll_fn(|cx| room.as_mut().poll_writable(cx)).await.unwrap();
        assert!(start.elapsed() >= FULL_WAIT);
        poll_fn(|cx| room.as_mut().poll_writable(cx)).await.unwrap();
    }
}
