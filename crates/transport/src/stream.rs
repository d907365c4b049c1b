//! One class's byte stream, over either transport, as tonic wants it at each end.
//!
//! Shutting a stream down waits until the other side has all of it: over QUIC until every byte is
//! acknowledged, over TCP until the peer has ended its side too. A connection closed before that
//! loses what was still under way, though the write had returned. A QUIC stream dropped without
//! having been shut down is reset, so that half a message never looks like a whole one.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::{RecvStream, SendStream, StoppedError, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::listen::Held;
use crate::{Class, Peer};

/// The reset code of a stream dropped before its end: whoever reads it treats it as lost.
const DROPPED: VarInt = VarInt::from_u32(0x80);
/// How long a TCP peer may take to end its side after we have ended ours.
const TCP_LINGER: Duration = Duration::from_secs(3);

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// A bidirectional QUIC stream.
pub(crate) struct QuicStream {
    send: SendStream,
    recv: RecvStream,
    /// Set once `finish` was called: completes when all bytes are acknowledged.
    stopped: Option<Stopped>,
    shut: bool,
}

impl QuicStream {
    pub(crate) fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv, stopped: None, shut: false }
    }

    /// Lets this stream's bytes pass those of less urgent classes.
    pub(crate) fn set_class(&self, class: Class) {
        // Fails only on a stream already closed, whose next use says so.
        self.send.set_priority(class.priority()).unwrap_or_default();
    }

    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        if self.stopped.is_none() {
            // Fails only when the peer stopped reading or the stream is closed: nothing to wait for.
            if self.send.finish().is_err() {
                self.shut = true;
                return Poll::Ready(Ok(()));
            }
            self.stopped = Some(Box::pin(self.send.stopped()));
        }
        if let Some(stopped) = &mut self.stopped {
            let ended = ready!(stopped.as_mut().poll(cx));
            self.shut = true;
            return Poll::Ready(ended.map(|_code| ()).map_err(io::Error::other));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        if self.stopped.is_none() {
            // Fails on a stream that is closed already.
            self.send.reset(DROPPED).unwrap_or_default();
        }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.get_mut().recv), cx, buf)
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().send), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // quinn sends by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_shut(cx)
    }
}

/// A TLS connection over TCP.
struct TcpWire {
    stream: Box<TlsStream<TcpStream>>,
    /// Set once our side is shut: how long the peer has for its own.
    linger: Option<Pin<Box<Sleep>>>,
}

impl TcpWire {
    /// Shuts our side and reads until the peer shuts its own. A socket closed before that answers
    /// whatever still comes in (a window update will do) with a reset, and that destroys what the
    /// peer had not read yet.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let linger = match &mut self.linger {
            Some(linger) => linger,
            none => {
                ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                none.insert(Box::pin(sleep(TCP_LINGER)))
            }
        };
        loop {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; 1024];
            let mut rest = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut rest));
            if read.is_err() || rest.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// The stream of either transport.
enum Wire {
    Quic(QuicStream),
    Tcp(TcpWire),
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(tcp) => Pin::new(&mut tcp.stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Quic(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tcp(tcp) => Pin::new(&mut tcp.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(tcp) => Pin::new(&mut tcp.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(tcp) => tcp.poll_shut(cx),
        }
    }
}

/// A wire that can be cut from elsewhere by a token; QUIC streams also end with their connection.
pub(crate) struct Io {
    wire: Wire,
    cut: Cut,
    /// Cancelled when this stream is dropped: what ends with it.
    _ends: Option<DropGuard>,
}

enum Cut {
    At(Pin<Box<WaitForCancellationFutureOwned>>),
    Done,
}

impl Io {
    pub(crate) fn quic(stream: QuicStream, cut: &CancellationToken) -> Self {
        Self::new(Wire::Quic(stream), cut)
    }

    pub(crate) fn tcp(stream: Box<TlsStream<TcpStream>>, cut: &CancellationToken) -> Self {
        Self::new(Wire::Tcp(TcpWire { stream, linger: None }), cut)
    }

    fn new(wire: Wire, cut: &CancellationToken) -> Self {
        let cut = Cut::At(Box::pin(cut.clone().cancelled_owned()));
        Self { wire, cut, _ends: None }
    }

    /// The same stream, whose end is the end of something more.
    pub(crate) fn ends(self, what: DropGuard) -> Self {
        Self { _ends: Some(what), ..self }
    }

    /// An error once cut. Each poll registers the task, so that a reader at rest wakes too.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let cut = match &mut self.cut {
            Cut::At(cut) => cut.as_mut().poll(cx).is_ready(),
            Cut::Done => true,
        };
        if cut {
            self.cut = Cut::Done;
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "connection was cut"));
        }
        Ok(())
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        Pin::new(&mut this.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        Pin::new(&mut this.wire).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        Pin::new(&mut this.wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}

/// The listener's end of one class's stream.
///
/// tonic takes these from [`crate::Incoming`]; handlers then find the [`Peer`] in the extensions of
/// each request.
pub struct ServerIo {
    io: Io,
    peer: Peer,
    /// What this stream counts against, given back on drop.
    _held: Held,
}

impl ServerIo {
    pub(crate) const fn new(io: Io, peer: Peer, held: Held) -> Self {
        Self { io, peer, _held: held }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl fmt::Debug for ServerIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIo").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connected for ServerIo {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
