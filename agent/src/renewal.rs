//! Keeping the certificate fresh: at half its life, online, with a new key.
//!
//! [`Schedule`] says when to try, [`renew`] tries once, [`keep`] does both for as long as the agent
//! runs. A renewal goes over a connection of its own, with the certificate in use; on success the
//! new one is on disk before the dialer shows it. What fails is tried again, later and later, until
//! the certificate ends; a verdict of the collector's (revoked, locked) is said at each try.

use std::path::PathBuf;
use std::time::Duration;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use stoa_model::TimestampMs;
use stoa_proto::v1::RenewRequest;
use stoa_proto::v1::identity_client::IdentityClient;
use stoa_transport::{Class, DialError, Dialer};
use tokio_util::sync::CancellationToken;

use crate::identity::{self, Identity, IdentityError};
use crate::join::printable;

/// The first pause after a failed renewal.
const RETRY_MIN: Duration = Duration::from_secs(60);

/// The longest pause between attempts: often enough within the half week that is left.
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// The longest sleep before the clock is looked at again, for machines that were suspended.
const LOOK: Duration = Duration::from_secs(600);

/// How long the collector may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// There is no connection. May pass, unless the certificate is revoked or has expired.
    #[error("reach the collector")]
    Dial(#[from] DialError),
    /// The collector said no, or could not.
    #[error("the collector does not renew this host's certificate: {0}")]
    Refused(String),
    /// No answer in time. May pass.
    #[error("no answer within {} s", ANSWER.as_secs())]
    TimedOut,
    /// The answer does not fit the question.
    #[error("the collector's answer cannot be used: {0}")]
    Answer(&'static str),
    /// The new identity could not be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// When to renew: pure, told the time and the dice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    at_ms: TimestampMs,
    failures: u32,
}

impl Schedule {
    /// For a certificate of this validity: at half of it, up to a tenth later as `dice` (0 to 1)
    /// falls, so that hosts that joined together do not renew together.
    #[must_use]
    pub fn of(not_before_ms: TimestampMs, not_after_ms: TimestampMs, dice: f64) -> Self {
        let life_ms = not_after_ms.saturating_sub(not_before_ms).max(0);
        let late_ms = scaled(life_ms / 10, dice);
        Self { at_ms: not_before_ms.saturating_add(life_ms / 2 + late_ms), failures: 0 }
    }

    /// When the next attempt is due.
    #[must_use]
    pub fn at_ms(&self) -> TimestampMs {
        self.at_ms
    }

    /// How long from `now_ms` until then, milliseconds. After a failure never longer than the longest
    /// pause: a clock that was ahead then and has been set back since must not put it off.
    #[must_use]
    pub fn wait_ms(&self, now_ms: TimestampMs) -> TimestampMs {
        let wait_ms = self.at_ms.saturating_sub(now_ms).max(0);
        if self.failures > 0 { wait_ms.min(millis(RETRY_MAX)) } else { wait_ms }
    }

    /// An attempt failed: the next comes after a pause that doubles, within its bounds, half of it
    /// as `dice` falls.
    pub fn failed(&mut self, now_ms: TimestampMs, dice: f64) {
        let pause_ms =
            millis(RETRY_MIN).saturating_mul(1 << self.failures.min(10)).min(millis(RETRY_MAX));
        self.failures = self.failures.saturating_add(1);
        self.at_ms = now_ms.saturating_add(pause_ms / 2 + scaled(pause_ms / 2, dice));
    }
}

fn millis(span: Duration) -> TimestampMs {
    TimestampMs::try_from(span.as_millis()).unwrap_or(TimestampMs::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a part of a span of days, to the millisecond or not"
)]
fn scaled(ms: TimestampMs, part: f64) -> TimestampMs {
    (ms as f64 * part.clamp(0.0, 1.0)) as TimestampMs
}

/// Renews once: a new key, a request over a connection of `dialer`, the new identity on disk below
/// `dir`, and in use from `dialer`'s next dial on.
///
/// # Errors
/// [`RenewError`]; the old identity stays in use.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn renew(
    current: &Identity,
    dialer: &Dialer,
    dir: PathBuf,
) -> Result<Identity, RenewError> {
    let key = KeyPair::generate().map_err(IdentityError::from)?;
    let request = RenewRequest { csr_der: identity::request_for(&key)?.into() };
    let connection = dialer.connect().await?;
    let mut client = IdentityClient::new(connection.channel(Class::Control));
    let reply = match tokio::time::timeout(ANSWER, client.renew(request)).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Err(RenewError::Refused(printable(status.message()))),
        Err(_elapsed) => return Err(RenewError::TimedOut),
    };
    connection.close();
    let Some(cert) = reply.chain_der.first() else {
        return Err(RenewError::Answer("it holds no certificate"));
    };
    let cert = CertificateDer::from(cert.to_vec());
    let roots = if reply.ca_der.is_empty() {
        current.roots().to_vec()
    } else {
        reply.ca_der.iter().map(|der| CertificateDer::from(der.to_vec())).collect()
    };
    let next = Identity::new(&key, cert, roots).map_err(RenewError::Answer)?;
    if next.host != current.host {
        return Err(RenewError::Answer("its certificate is for another name"));
    }
    let stored = tokio::task::spawn_blocking(move || next.store(&dir, None).map(|()| next)).await;
    let next = match stored {
        Ok(stored) => stored?,
        Err(_panicked) => return Err(RenewError::Answer("it could not be written down")),
    };
    dialer.set_credentials(next.credentials())?;
    Ok(next)
}

/// Keeps the identity below `dir` fresh until `shutdown`.
pub async fn keep(
    mut identity: Identity,
    dialer: Dialer,
    dir: PathBuf,
    clock: impl Fn() -> TimestampMs + Send,
    shutdown: CancellationToken,
) {
    let mut schedule = Schedule::of(identity.not_before_ms, identity.not_after_ms, rand::random());
    loop {
        let wait_ms = u64::try_from(schedule.wait_ms(clock())).unwrap_or_default();
        if wait_ms > 0 {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(wait_ms).min(LOOK)) => continue,
            }
        }
        let renewed = tokio::select! {
            () = shutdown.cancelled() => return,
            renewed = renew(&identity, &dialer, dir.clone()) => renewed,
        };
        match renewed {
            Ok(next) => {
                tracing::info!(host = %next.host, serial = next.serial, "renewed the certificate");
                schedule = Schedule::of(next.not_before_ms, next.not_after_ms, rand::random());
                identity = next;
            }
            Err(error) => {
                let left_s = identity.not_after_ms.saturating_sub(clock()) / 1000;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    left_s,
                    "renew the certificate; trying again"
                );
                schedule.failed(clock(), rand::random());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: TimestampMs = 86_400_000;

    #[test]
    fn renewal_is_due_at_half_the_life_and_a_little_later() {
        let check = |dice, at_ms| assert_eq!(Schedule::of(DAY, 11 * DAY, dice).at_ms(), at_ms);
        check(0.0, 6 * DAY);
        check(1.0, 7 * DAY);
        check(0.5, 6 * DAY + DAY / 2);
        check(7.0, 7 * DAY);
        // A certificate whose end is before its start is due at once.
        assert_eq!(Schedule::of(DAY, 0, 1.0).at_ms(), DAY);
    }

    #[test]
    fn a_clock_set_back_puts_no_attempt_off() {
        let mut schedule = Schedule::of(0, 7 * DAY, 0.0);
        assert_eq!(schedule.wait_ms(-30 * DAY), 30 * DAY + 7 * DAY / 2);
        schedule.failed(400 * DAY, 1.0);
        assert_eq!(schedule.wait_ms(DAY), millis(RETRY_MAX));
        assert_eq!(schedule.wait_ms(401 * DAY), 0);
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_differ_by_the_dice() {
        let mut schedule = Schedule::of(0, DAY, 0.0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            schedule.failed(1000, 1.0);
            pauses.push((schedule.at_ms() - 1000) / 1000);
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        schedule.failed(1000, 0.0);
        assert_eq!(schedule.at_ms(), 1000 + 1_800_000);
    }
}
