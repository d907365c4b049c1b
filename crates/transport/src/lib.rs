//! QUIC and TLS/TCP with mutual identity, carrying byte streams by traffic class. Knows no message.
//!
//! # Nouns
//!
//! A [`Listener`] (the collector) and a [`Dialer`] (an agent) share one port number, udp and tcp.
//! The dialer tries QUIC, and TLS over TCP when no QUIC handshake answers in time; what it gets is a
//! [`Connection`], and from that one tonic `Channel` per traffic [`Class`]. Each class is an HTTP/2
//! connection of its own – a bidirectional stream of the one QUIC connection, or a TCP connection –
//! so that a storm of logs never stands in front of an order. On the listener's side every stream
//! arrives as a [`ServerIo`], fit for tonic's `serve_with_incoming_shutdown`, and handlers read who
//! is calling as `request.extensions().get::<Peer>()`, on both transports alike.
//!
//! ```text
//! Dialer → Connection → channel(Class) ═ preamble, HTTP/2 ═ Listener → Incoming → ServerIo (Peer)
//!           quic: 1 connection, 1 stream per class │ tcp: 1 TLS connection per class
//! ```
//!
//! # Identity
//!
//! TLS 1.3 only, no resumption, no 0-RTT. The listener's certificate holds the DNS name
//! [`SERVER_NAME`]; dialers verify that name, never an address. A host's certificate holds the host
//! name as its one DNS subject alternative name (see [`CertificateIdentity`]). A client without a
//! certificate is served on the ALPN [`ALPN_JOIN`] alone, for [`Class::Join`].
//!
//! # What ends what
//!
//! The end of a stream is never a commit: tonic shows a cancelled upload as a clean end, so whoever
//! uploads needs acknowledgements of its own. A refusal has a [`Refused`] reason; it is the QUIC
//! close code, or the answer to the preamble, and the listener's log line.
//!
//! # What is absent
//!
//! No message, no certificate issuing, no clock of its own beyond timers, no retry loop: [`Backoff`]
//! is numbers, and whoever holds the [`Dialer`] decides when to dial again.

mod backoff;
pub mod chaos;
mod class;
mod dial;
mod listen;
mod peer;
mod preamble;
mod quic;
mod refused;
mod reset;
mod stream;
mod tcp;
mod tls;

pub use backoff::Backoff;
pub use class::{Class, Via};
pub use dial::{Closed, Connection, DialConfig, DialError, Dialer, join_channel};
pub use listen::{Drained, Incoming, ListenError, Listener, ListenerConfig, ListenerStats, server};
pub use peer::{CertificateIdentity, IdentityError, Peer};
pub use refused::Refused;
pub use reset::{ResetKeys, ResetKeysError};
pub use stream::ServerIo;
pub use tls::{ALPN, ALPN_JOIN, ClientCredentials, SERVER_NAME, ServerCredentials};
