//! From a name to a connection: all its addresses are tried, those of the family that is preferred
//! first, each with its share of the time that is left.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::{Hop, Phase, WebError};

/// The most addresses of a name that are tried.
pub(super) const ADDRESSES_MAX: usize = 16;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum IpFamily {
    /// IPv4
    #[serde(rename = "ip4")]
    Ip4,
    /// IPv6
    #[serde(rename = "ip6")]
    Ip6,
}

impl IpFamily {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ip4 } else { Self::Ip6 }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ip4 => "IPv4",
            Self::Ip6 => "IPv6",
        }
    }
}

/// Which addresses of a name are tried, and in what order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// Those first; `None`: in the resolver's order.
    pub preferred: Option<IpFamily>,
    /// Whether the others are tried too.
    pub fallback: bool,
}

impl Default for Addressing {
    fn default() -> Self {
        Self { preferred: None, fallback: true }
    }
}

/// The addresses of a host, which may be an address itself, best first; at least one.
///
/// # Errors
/// [`WebError::Resolve`], [`WebError::NoAddress`].
pub async fn resolve(
    host: &str,
    port: u16,
    addressing: Addressing,
) -> Result<Vec<SocketAddr>, WebError> {
    let mut addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => lookup_host((host, port))
            .await
            .map_err(|source| WebError::Resolve { host: host.to_owned(), source })?
            .collect(),
    };
    if let Some(preferred) = addressing.preferred {
        let is_other = |address: &SocketAddr| IpFamily::of(address.ip()) != preferred;
        addresses.sort_by_key(is_other);
        if !addressing.fallback {
            addresses.retain(|address| !is_other(address));
        }
    }
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    if addresses.is_empty() {
        let family = addressing.preferred.filter(|_| !addressing.fallback);
        let family = family.map_or("IP", IpFamily::name);
        return Err(WebError::NoAddress { host: host.to_owned(), family });
    }
    Ok(addresses)
}

/// A connection to the first of its addresses that takes one, within `patience`.
///
/// # Errors
/// [`WebError`] of the phases [`Phase::Resolve`] and [`Phase::Connect`].
pub async fn connect(
    host: &str,
    port: u16,
    addressing: Addressing,
    patience: Duration,
    hop: &mut Hop,
) -> Result<TcpStream, WebError> {
    let until = Instant::now() + patience;
    let addresses = resolve(host, port, addressing).await?;
    hop.enter(Phase::Connect);
    let mut left = u32::try_from(addresses.len()).unwrap_or(1);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        hop.peer = Some(address);
        let share = until.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small requests are not to wait for more of them.
                stream.set_nodelay(true).map_err(|source| failed(hop, source))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed(hop, last))
}

fn failed(hop: &Hop, source: io::Error) -> WebError {
    WebError::Connect { peer: hop.peer_name(), source }
}
