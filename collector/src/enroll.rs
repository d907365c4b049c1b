//! The two gRPC services by which hosts come by their certificates: joining, and renewing.
//!
//! Handlers parse, ask [`Members`], and print. Who may call at all is [`methods`](crate::methods)'
//! business; the name of a renewing host is its certificate's, whatever its request says.
//!
//! Bounds: [`JOINS_MAX`] joins and [`RENEWALS_MAX`] renewals at once, a request of at most
//! [`REQUEST_BYTES_MAX`].

use std::error::Error;
use std::sync::Arc;

use stoa_model::HostId;
use stoa_proto::v1::enroll_server::{Enroll, EnrollServer};
use stoa_proto::v1::identity_server::{Identity, IdentityServer};
use stoa_proto::v1::{JoinReply, JoinRequest, RenewReply, RenewRequest};
use stoa_transport::Peer;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::ca::{CaError, HostCert};
use crate::clock::Clock;
use crate::hosts::RenewRefusal;
use crate::members::{JoinAsk, JoinRefusal, Members, MembersError, RenewError};

/// Joins looked at at once: whoever asks has shown no certificate.
pub const JOINS_MAX: usize = 4;

/// Renewals looked at at once; more wait their turn.
pub const RENEWALS_MAX: usize = 4;

/// The largest request, in bytes: a certificate request and a few names.
pub const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Both services, fit for `tonic`'s `add_service`.
#[must_use]
pub fn services(
    members: &Arc<Members>,
    clock: &Clock,
) -> (EnrollServer<Joining>, IdentityServer<Renewing>) {
    let joining = Joining {
        members: Arc::clone(members),
        clock: Arc::clone(clock),
        places: Semaphore::new(JOINS_MAX),
    };
    let renewing = Renewing {
        members: Arc::clone(members),
        clock: Arc::clone(clock),
        places: Semaphore::new(RENEWALS_MAX),
    };
    (
        EnrollServer::new(joining).max_decoding_message_size(REQUEST_BYTES_MAX),
        IdentityServer::new(renewing).max_decoding_message_size(REQUEST_BYTES_MAX),
    )
}

/// The service for hosts that have no certificate yet.
pub struct Joining {
    members: Arc<Members>,
    clock: Clock,
    places: Semaphore,
}

#[tonic::async_trait]
impl Enroll for Joining {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Status::resource_exhausted("too many hosts are joining; try again"));
        };
        let remote = request.extensions().get::<Peer>().map(|peer| peer.remote);
        let message = request.into_inner();
        let ask = JoinAsk {
            token_id: message.token_id,
            secret: message.token_secret.to_vec(),
            csr_der: message.csr_der.to_vec(),
            host_name: message.host_name,
            agent_version: message.agent_version,
        };
        let (members, now_ms) = (Arc::clone(&self.members), (self.clock)());
        let joined = tokio::task::spawn_blocking(move || members.join(&ask, now_ms)).await;
        let (host, cert) = joined.map_err(|error| internal(&error))?.map_err(|refusal| {
            tracing::warn!(remote = remote.map(tracing::field::display), %refusal, "refused a join");
            join_status(&refusal)
        })?;
        tracing::info!(
            %host,
            remote = remote.map(tracing::field::display),
            serial = %cert.serial,
            "a host joined"
        );
        Ok(Response::new(JoinReply {
            chain_der: chain(&cert),
            ca_der: self.members.ca().cert().to_vec().into(),
            host_name: host.as_str().to_owned(),
            not_after_s: cert.not_after_ms / 1000,
        }))
    }
}

/// The service for hosts that have one.
pub struct Renewing {
    members: Arc<Members>,
    clock: Clock,
    places: Semaphore,
}

#[tonic::async_trait]
impl Identity for Renewing {
    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let peer = request.extensions().get::<Peer>();
        let Some((host, serial)) = peer.and_then(identity_of) else {
            return Err(Status::unauthenticated("this needs a host's certificate"));
        };
        let _place = self.places.acquire().await.map_err(|error| internal(&error))?;
        let csr_der = request.into_inner().csr_der;
        let (members, now_ms) = (Arc::clone(&self.members), (self.clock)());
        let (asked, held) = (host.clone(), serial.clone());
        let renew = move || members.renew(&asked, &held, &csr_der, now_ms);
        let renewed = tokio::task::spawn_blocking(renew).await;
        let cert = renewed.map_err(|error| internal(&error))?.map_err(|refusal| {
            tracing::warn!(%host, serial, %refusal, "refused a renewal");
            renew_status(&refusal)
        })?;
        tracing::info!(%host, serial = %cert.serial, "renewed a host's certificate");
        Ok(Response::new(RenewReply {
            chain_der: chain(&cert),
            not_after_s: cert.not_after_ms / 1000,
            ca_der: Vec::new(),
        }))
    }
}

fn identity_of(peer: &Peer) -> Option<(HostId, String)> {
    let host = HostId::parse(peer.host.as_deref()?).ok()?;
    Some((host, peer.serial.clone()))
}

fn chain(cert: &HostCert) -> Vec<tonic::codegen::Bytes> {
    cert.chain.iter().map(|der| tonic::codegen::Bytes::copy_from_slice(der)).collect()
}

fn join_status(refusal: &JoinRefusal) -> Status {
    let sentence = refusal.to_string();
    match refusal {
        JoinRefusal::Token(_) => Status::unauthenticated(sentence),
        JoinRefusal::NameTaken { .. } => Status::already_exists(sentence),
        JoinRefusal::Name(_) => Status::invalid_argument(sentence),
        JoinRefusal::Books(error) => books_status(error),
    }
}

fn renew_status(refusal: &RenewError) -> Status {
    let sentence = refusal.to_string();
    match refusal {
        RenewError::Refused(RenewRefusal::TooMany) => Status::resource_exhausted(sentence),
        RenewError::Refused(
            RenewRefusal::Revoked | RenewRefusal::Fenced | RenewRefusal::Locked,
        ) => Status::permission_denied(sentence),
        RenewError::Books(error) => books_status(error),
    }
}

fn books_status(error: &MembersError) -> Status {
    match error {
        MembersError::Ca(CaError::Request { .. }) => Status::invalid_argument(error.to_string()),
        MembersError::Full { .. } => Status::resource_exhausted(error.to_string()),
        other => internal(other),
    }
}

/// What went wrong inside is for the collector's log; the caller learns that it may try again.
fn internal(error: &(dyn Error + 'static)) -> Status {
    tracing::error!(error, "keep the books of hosts");
    Status::unavailable("the collector could not write this down; its log says why")
}

#[cfg(test)]
mod tests;
