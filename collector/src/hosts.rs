//! A member host: which certificates it holds, and whether it may have the next.
//!
//! Of a host's certificates one is *current*: the newest the host has been seen with. A renewed one
//! is *pending* until then, because the answer that carried it may have been lost; so the current
//! one stays good for another renewal. All others issued and not expired are *past*.
//!
//! The clone fence: a host never goes back. Whoever asks for a renewal with a past certificate holds
//! a copy of the identity (a cloned container, a stolen key) or was rolled back to an old snapshot.
//! That certificate is revoked at once and the host is *locked*: nobody gets a further certificate
//! under this name until a person has looked, and unlocks it, lets it join anew, or revokes it. The
//! holder of the current certificate keeps working meanwhile.
//!
//! These are rules and records: no clock, no file, no lock.

use serde::{Deserialize, Serialize};
use stoa_model::TimestampMs;

use crate::ca::revoked::RevokedCert;
use crate::ca::{HostCert, Serial};
use crate::state::Table;

/// Hosts by name.
pub const HOSTS: Table<Host> = Table::named("hosts");

/// Most hosts that can be members.
pub const HOSTS_MAX: usize = 10_000;

/// Most certificates of one host that have not expired; a host that asks for more within a week is
/// refused until some have. An honest one has two or three.
pub const CERTS_MAX: usize = 64;

/// A certificate as remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cert {
    /// Its serial number, hex.
    pub serial: String,
    /// When it ends.
    pub not_after_ms: TimestampMs,
}

impl From<&HostCert> for Cert {
    fn from(cert: &HostCert) -> Self {
        Self { serial: cert.serial.to_string(), not_after_ms: cert.not_after_ms }
    }
}

/// Where a host stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Standing {
    /// A member.
    Active,
    /// Fenced: no further certificate, see the module's words.
    Locked {
        /// Since when.
        at_ms: TimestampMs,
        /// The past certificate that came back.
        serial: String,
    },
    /// No member any more.
    Revoked {
        /// Since when.
        at_ms: TimestampMs,
    },
}

/// A host and its certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// When it joined, the last time it did.
    pub joined_ms: TimestampMs,
    /// The agent's version when it joined.
    pub agent_version: String,
    /// How many certificates this name has been given; only grows.
    pub generation: u64,
    /// The newest certificate it has been seen with, or its first.
    pub current: Cert,
    /// A newer one it has not been seen with yet.
    pub pending: Option<Cert>,
    /// All others that have not expired.
    pub past: Vec<Cert>,
    /// Where it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// Why a host gets no certificate. Written for the person who reads the agent's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewRefusal {
    /// The host is no member any more.
    #[error("this host has been revoked")]
    Revoked,
    /// A past certificate: a clone, or an old snapshot.
    #[error(
        "a newer certificate of this host is in use: this is a copy of it, or was rolled back to \
         an old snapshot; the host is locked until it is unlocked or joins anew"
    )]
    Fenced,
    /// Fenced earlier.
    #[error(
        "this host is locked because a copy of its identity was seen; on the collector: stoa host \
         unlock, or stoa token create --host to let it join anew"
    )]
    Locked,
    /// Over [`CERTS_MAX`].
    #[error("this host has been given {CERTS_MAX} certificates within a week")]
    TooMany,
}

impl Host {
    /// A host that has just been given its first certificate.
    #[must_use]
    pub fn joined(cert: Cert, agent_version: &str, now_ms: TimestampMs) -> Self {
        Self {
            joined_ms: now_ms,
            agent_version: agent_version.chars().take(64).collect(),
            generation: 1,
            current: cert,
            pending: None,
            past: Vec::new(),
            standing: Standing::Active,
        }
    }

    /// Whether the holder of this certificate gets another. A certificate that was pending counts
    /// as seen from here on.
    ///
    /// # Errors
    /// [`RenewRefusal`]; at [`RenewRefusal::Fenced`] the caller must [`Host::fence`].
    pub fn may_renew(&mut self, serial: &str, now_ms: TimestampMs) -> Result<(), RenewRefusal> {
        match self.standing {
            Standing::Revoked { .. } => return Err(RenewRefusal::Revoked),
            Standing::Locked { .. } => return Err(RenewRefusal::Locked),
            Standing::Active => {}
        }
        self.seen(serial);
        if self.current.serial != serial {
            return Err(RenewRefusal::Fenced);
        }
        self.past.retain(|cert| cert.not_after_ms > now_ms);
        if self.past.len() + 2 >= CERTS_MAX {
            return Err(RenewRefusal::TooMany);
        }
        Ok(())
    }

    /// Remembers a certificate just made for this host. One that was pending and never seen becomes
    /// past: its answer was lost.
    pub fn renewed(&mut self, cert: Cert) {
        self.past.extend(self.pending.replace(cert));
        self.generation = self.generation.saturating_add(1);
    }

    /// The host was seen with this certificate; says whether that was news.
    pub fn seen(&mut self, serial: &str) -> bool {
        match self.pending.take() {
            Some(pending) if pending.serial == serial => {
                self.past.push(std::mem::replace(&mut self.current, pending));
                true
            }
            other => {
                self.pending = other;
                false
            }
        }
    }

    /// Locks the host because a past certificate came back; returns what to revoke: that one.
    pub fn fence(&mut self, name: &str, cert: Cert, now_ms: TimestampMs) -> Vec<RevokedCert> {
        self.standing = Standing::Locked { at_ms: now_ms, serial: cert.serial.clone() };
        self.past.retain(|past| past.serial != cert.serial);
        revoked_certs(name, [cert])
    }

    /// Ends the lock; says whether there was one.
    pub fn unlock(&mut self) -> bool {
        let locked = matches!(self.standing, Standing::Locked { .. });
        if locked {
            self.standing = Standing::Active;
        }
        locked
    }

    /// Ends the membership; returns what to revoke: everything.
    pub fn revoke(&mut self, name: &str, now_ms: TimestampMs) -> Vec<RevokedCert> {
        self.standing = Standing::Revoked { at_ms: now_ms };
        let all = self.past.drain(..).chain(self.pending.take()).chain([self.current.clone()]);
        let live = all.filter(|cert| cert.not_after_ms > now_ms);
        revoked_certs(name, live.collect::<Vec<_>>())
    }
}

fn revoked_certs(name: &str, certs: impl IntoIterator<Item = Cert>) -> Vec<RevokedCert> {
    let entry = |cert: Cert| {
        let serial = Serial::parse(&cert.serial)?;
        Some(RevokedCert { serial, not_after_ms: cert.not_after_ms, host: name.to_owned() })
    };
    certs.into_iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cert(n: u8) -> Cert {
        Cert { serial: Serial([n; 16]).to_string(), not_after_ms: 1000 * i64::from(n) }
    }

    fn serial(n: u8) -> String {
        cert(n).serial
    }

    fn serials(certs: &[RevokedCert]) -> Vec<u8> {
        certs.iter().map(|cert| cert.serial.0[0]).collect()
    }

    /// Renews with certificate `with`, receiving `next`.
    fn renew(host: &mut Host, with: u8, next: u8) -> Result<(), RenewRefusal> {
        host.may_renew(&serial(with), 0)?;
        host.renewed(cert(next));
        Ok(())
    }

    #[test]
    fn a_lost_answer_costs_nothing() {
        let mut host = Host::joined(cert(1), "0.1", 0);
        renew(&mut host, 1, 2).unwrap(); // the answer with 2 is lost
        renew(&mut host, 1, 3).unwrap();
        assert_eq!(host.pending, Some(cert(3)));
        renew(&mut host, 3, 4).unwrap(); // 3 is seen by its use
        assert_eq!((host.current.clone(), host.pending.clone()), (cert(3), Some(cert(4))));
        assert!(host.seen(&serial(4)) && !host.seen(&serial(4)));
        assert_eq!(host.current, cert(4));
        assert_eq!(host.past, [cert(2), cert(1), cert(3)]);
        assert_eq!(host.generation, 4);
    }

    #[test]
    fn whoever_goes_back_is_fenced_and_the_current_holder_keeps_working() {
        let mut host = Host::joined(cert(1), "0.1", 0);
        renew(&mut host, 1, 2).unwrap();
        assert!(host.seen(&serial(2)));
        assert_eq!(renew(&mut host, 1, 9), Err(RenewRefusal::Fenced));
        assert_eq!(serials(&host.fence("pve1", cert(1), 50)), [1]);
        assert_eq!(host.current, cert(2));
        assert_eq!(renew(&mut host, 2, 9), Err(RenewRefusal::Locked));
        assert!(host.unlock() && !host.unlock());
        renew(&mut host, 2, 3).unwrap();
    }

    #[test]
    fn two_holders_of_one_certificate_meet_at_the_fence() {
        let mut host = Host::joined(cert(1), "0.1", 0);
        renew(&mut host, 1, 2).unwrap(); // the copy
        assert!(host.seen(&serial(2)));
        assert_eq!(renew(&mut host, 1, 3), Err(RenewRefusal::Fenced)); // the original
        let mut host = Host::joined(cert(1), "0.1", 0);
        renew(&mut host, 1, 2).unwrap(); // the copy, not seen since
        renew(&mut host, 1, 3).unwrap(); // the original
        assert!(host.seen(&serial(3)));
        assert_eq!(renew(&mut host, 2, 4), Err(RenewRefusal::Fenced)); // the copy again
    }

    #[test]
    fn revoking_takes_every_certificate_that_is_alive() {
        let mut host = Host::joined(cert(1), "0.1", 0);
        renew(&mut host, 1, 2).unwrap();
        assert!(host.seen(&serial(2)));
        renew(&mut host, 2, 3).unwrap();
        assert_eq!(serials(&host.clone().revoke("pve1", 0)), [1, 3, 2]);
        assert_eq!(serials(&host.revoke("pve1", 1500)), [3, 2]);
        assert_eq!(renew(&mut host, 2, 9), Err(RenewRefusal::Revoked));
        assert!(!host.unlock());
    }

    #[test]
    fn certificates_in_one_week_are_bounded_and_the_expired_forgotten() {
        let mut host = Host::joined(cert(1), "0.1", 0);
        let mut given = 0;
        while renew(&mut host, 1, 2).is_ok() {
            given += 1;
        }
        assert_eq!(given, CERTS_MAX - 1);
        assert_eq!(host.may_renew(&serial(1), 1999), Err(RenewRefusal::TooMany));
        assert_eq!(host.may_renew(&serial(1), 2000), Ok(()));
    }

    #[test]
    fn a_host_reads_back_as_stored() {
        let mut host = Host::joined(cert(1), "0.1", 0);
        host.fence("pve1", cert(7), 50);
        let text = serde_json::to_string(&host).unwrap();
        assert!(text.contains(r#""status":"locked""#), "{text}");
        assert_eq!(serde_json::from_str::<Host>(&text).unwrap(), host);
    }
}
