//! Who may call which gRPC method: one table, asked before any handler.
//!
//! A method that is not in the table is refused, whoever calls: adding a service does not open it,
//! adding a line here does. [`MethodGate`] is the tower layer that asks; it also takes note of hosts
//! that are seen with a renewed certificate for the first time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use stoa_transport::Peer;
use tonic::Status;
use tower::{Layer, Service};

use crate::members::Members;

/// What a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Without a certificate, on a stream opened to join.
    Joining,
    /// A host, by its certificate.
    Host,
}

/// Every method there is, by its path on the wire.
pub const METHODS: [(&str, Caller); 5] = [
    ("/stoa.v1.Enroll/Join", Caller::Joining),
    ("/stoa.v1.Identity/Renew", Caller::Host),
    ("/stoa.v1.Control/Session", Caller::Host),
    ("/stoa.v1.Ingest/Push", Caller::Host),
    ("/stoa.v1.Inventories/Tell", Caller::Host),
];

/// Decides about one call. A `peer` of `None` is a stream that the listener did not mark.
///
/// # Errors
/// The status to answer with: unimplemented for what is not in the table, unauthenticated without a
/// host's certificate, permission denied with one where none belongs.
pub fn admit(path: &str, peer: Option<&Peer>) -> Result<(), Status> {
    let Some((_path, caller)) = METHODS.iter().find(|(method, _)| *method == path) else {
        return Err(Status::unimplemented("there is no such method"));
    };
    let Some(peer) = peer else {
        return Err(Status::unauthenticated("the caller is not known"));
    };
    match (caller, &peer.host) {
        (Caller::Joining, None) | (Caller::Host, Some(_)) => Ok(()),
        (Caller::Host, None) => {
            Err(Status::unauthenticated("this needs a host's certificate; join first"))
        }
        (Caller::Joining, Some(_)) => {
            Err(Status::permission_denied("a host that has a certificate does not join"))
        }
    }
}

/// The layer that asks the table, for `tonic`'s `Server::layer`.
#[derive(Clone, Debug)]
pub struct MethodGate {
    members: Arc<Members>,
}

impl MethodGate {
    /// A gate that tells `members` who was seen.
    #[must_use]
    pub fn new(members: Arc<Members>) -> Self {
        Self { members }
    }
}

impl<S> Layer<S> for MethodGate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, members: Arc::clone(&self.members) }
    }
}

/// Services behind the gate.
#[derive(Clone, Debug)]
pub struct Gated<S> {
    inner: S,
    members: Arc<Members>,
}

impl<S, B, R> Service<http::Request<B>> for Gated<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        match admit(request.uri().path(), peer) {
            Ok(()) => {
                if let Some(peer) = peer {
                    note_seen(&self.members, peer);
                }
                Box::pin(self.inner.call(request))
            }
            Err(status) => {
                tracing::warn!(
                    path = request.uri().path().chars().take(100).collect::<String>(),
                    host = peer.and_then(|peer| peer.host.as_deref()),
                    remote = peer.map(|peer| tracing::field::display(peer.remote)),
                    refused = status.message(),
                    "refused a call"
                );
                let answer = status.into_http();
                Box::pin(async move { Ok(answer) })
            }
        }
    }
}

/// Writes down, elsewhere than on this thread, that a renewed certificate has arrived.
fn note_seen(members: &Arc<Members>, peer: &Peer) {
    let Some(host) = peer.host.clone().filter(|_| members.awaits(&peer.serial)) else { return };
    let (members, serial) = (Arc::clone(members), peer.serial.clone());
    tokio::task::spawn_blocking(move || {
        if let Err(error) = members.seen(&host, &serial) {
            tracing::error!(host, error = &error as &dyn std::error::Error, "note a renewed host");
        }
    });
}
