//! The agents' port, as far as identity goes: what it shows, whom it believes, whom it cuts off.
//!
//! [`listener_config`] is what the listener starts with; [`keep`] runs beside it for as long as it
//! lives: connections of revoked hosts are cut when they are revoked, the listener's own certificate
//! is replaced at half its life.

use std::sync::Arc;
use std::time::Duration;

use stoa_model::TimestampMs;
use stoa_transport::{Listener, ListenerConfig, ResetKeys, ServerCredentials};
use tokio_util::sync::CancellationToken;

use crate::ca::CaError;
use crate::clock::Clock;
use crate::members::Members;

/// How often it is looked whether the certificate is due.
const LOOK: Duration = Duration::from_secs(3600);

/// How long a revoked host's connections stay, so that the answer that tells a fenced host why still
/// reaches it. New connections are refused from the first moment.
const FAREWELL: Duration = Duration::from_millis(250);

/// What the listener shows and believes now, and when to ask again.
///
/// # Errors
/// [`CaError`] when the certificate cannot be made.
pub fn credentials(
    members: &Members,
    now_ms: TimestampMs,
) -> Result<(ServerCredentials, TimestampMs), CaError> {
    let cert = members.ca().issue_server(&[], &[], now_ms)?;
    let client_roots = vec![members.ca().cert().clone()];
    let credentials = ServerCredentials { chain: cert.chain, key: cert.key, client_roots };
    Ok((credentials, cert.renew_at_ms))
}

/// What the listener starts with: the CA's certificate for it, and the check for revoked hosts.
///
/// # Errors
/// [`CaError`] when the certificate cannot be made.
pub fn listener_config(
    members: &Arc<Members>,
    reset_keys: ResetKeys,
    now_ms: TimestampMs,
) -> Result<ListenerConfig, CaError> {
    let (credentials, _renew_at_ms) = credentials(members, now_ms)?;
    let mut config = ListenerConfig::new(credentials, reset_keys);
    let members = Arc::clone(members);
    config.is_revoked = Arc::new(move |serial| members.is_revoked(serial));
    Ok(config)
}

/// Cuts revoked hosts off and renews the listener's certificate, until `shutdown`.
pub async fn keep(
    listener: Arc<Listener>,
    members: Arc<Members>,
    clock: Clock,
    shutdown: CancellationToken,
) {
    let mut revocations = members.revocations();
    let half_life = i64::try_from(crate::ca::SERVER_CERT_VALID.as_millis() / 2).unwrap_or(i64::MAX);
    let mut renew_at_ms = clock().saturating_add(half_life);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = revocations.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(FAREWELL).await;
                let is_out = |peer: &stoa_transport::Peer| {
                    peer.host.is_some() && members.is_revoked(&peer.serial)
                };
                let cut = listener.cut(is_out);
                if cut > 0 {
                    tracing::warn!(connections = cut, "cut connections of revoked hosts");
                }
            }
            () = tokio::time::sleep(LOOK) => {
                let now_ms = clock();
                if now_ms >= renew_at_ms {
                    match renew(&listener, &members, now_ms) {
                        Ok(next_ms) => renew_at_ms = next_ms,
                        Err(error) => tracing::error!(
                            error = error.as_ref() as &dyn std::error::Error,
                            "renew the certificate of the agents' port; trying again in an hour"
                        ),
                    }
                }
            }
        }
    }
}

fn renew(
    listener: &Listener,
    members: &Members,
    now_ms: TimestampMs,
) -> Result<TimestampMs, Box<dyn std::error::Error + Send + Sync>> {
    let (credentials, renew_at_ms) = credentials(members, now_ms)?;
    listener.set_credentials(credentials)?;
    tracing::info!("renewed the certificate of the agents' port");
    Ok(renew_at_ms)
}
