//! The TCP side's socket settings.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

use crate::quic::{IDLE_TIMEOUT, KEEP_ALIVE};

/// Probes unanswered before the kernel gives a connection up.
const PROBES: u32 = 2;
const _: () = assert!(KEEP_ALIVE.as_secs() * (1 + PROBES as u64) <= IDLE_TIMEOUT.as_secs());

/// No delay for small writes; a peer silently gone is noticed in the same time as over QUIC, by
/// keep-alive probes at rest and by unacknowledged data under load.
pub(crate) fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    sockopt::set_tcp_user_timeout(stream, millis(IDLE_TIMEOUT))?;
    Ok(())
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
