//! The addresses behind the name that is dialled.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a lookup may hold up a dial when the addresses of an earlier one are known: the machine
/// that is away may be the one that answers for its name.
const PATIENCE: Duration = Duration::from_millis(200);

/// Resolves one name, again and again, with one lookup under way at most: each keeps a blocking
/// thread for as long as the system's resolver takes, which without an answer is many seconds.
pub(super) struct Names {
    addr: String,
    /// Under way since an earlier dial; taken out while it is awaited.
    lookup: tokio::sync::Mutex<Option<Lookup>>,
    /// What the last good lookup found.
    known: Mutex<Vec<SocketAddr>>,
}

type Lookup = JoinHandle<io::Result<Vec<SocketAddr>>>;

impl Names {
    /// For a `host:port` or `address:port`.
    pub(super) fn new(addr: String) -> Self {
        Self { addr, lookup: tokio::sync::Mutex::default(), known: Mutex::default() }
    }

    /// The addresses now, or, when the resolver does not answer, those it last gave.
    pub(super) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(addr) = self.addr.parse() {
            return Ok(vec![addr]);
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Awaited in its place: a dial that is given up leaves the lookup to the next one.
        let mut slot = self.lookup.lock().await;
        let lookup = slot.get_or_insert_with(|| tokio::spawn(look_up(self.addr.clone())));
        let found = if known.is_empty() {
            lookup.await
        } else {
            match timeout(PATIENCE, lookup).await {
                Ok(found) => found,
                Err(_elapsed) => return Ok(known),
            }
        };
        *slot = None;
        match found.map_err(io::Error::other).and_then(|found| found) {
            Ok(found) => {
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = found.clone();
                Ok(found)
            }
            Err(_) if !known.is_empty() => Ok(known),
            Err(error) => Err(error),
        }
    }
}

async fn look_up(addr: String) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host(addr).await?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_found_serves_while_the_resolver_is_silent_or_fails() {
        let names = Names::new("localhost:7443".to_owned());
        let found = names.resolve().await.unwrap();
        assert!(found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 7443));
        let silent = tokio::spawn(std::future::pending());
        *names.lookup.lock().await = Some(silent);
        for _ in 0..2 {
            assert_eq!(names.resolve().await.unwrap(), found);
        }
        let failed = tokio::spawn(async { Err(io::Error::other("no such name")) });
        *names.lookup.lock().await = Some(failed);
        assert_eq!(names.resolve().await.unwrap(), found);
        assert!(names.lookup.lock().await.is_none(), "the next dial asks anew");
        // Nothing known: the error is the answer.
        let names = Names::new("localhost:7443".to_owned());
        let failed = tokio::spawn(async { Err(io::Error::other("no such name")) });
        *names.lookup.lock().await = Some(failed);
        names.resolve().await.unwrap_err();
    }
}
