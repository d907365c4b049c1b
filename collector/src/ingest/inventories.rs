//! The gRPC side of inventories: a host's document, from the process whose session is current, is
//! kept before it is acknowledged. Beside the streams of samples, which never wait for it.

use std::sync::Arc;

use stoa_daemon::error_chain;
use stoa_proto::message::InventoryTold;
use stoa_proto::v1;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::Ingest;
use super::agent::Event;
use super::service::host_of;
use crate::inventory::KeepError;

/// Documents of hosts.
#[derive(Debug)]
pub struct Tellings(pub(super) Arc<Ingest>);

#[tonic::async_trait]
impl v1::inventories_server::Inventories for Tellings {
    async fn tell(
        &self,
        request: Request<v1::InventoryTold>,
    ) -> Result<Response<v1::InventoryKept>, Status> {
        let ingest = &self.0;
        let host = host_of(&request)?;
        let told = InventoryTold::try_from(request.into_inner()).map_err(|error| {
            ingest.inventories.malformed();
            tracing::warn!(%host, %error, "refused a malformed inventory");
            Status::invalid_argument(error.to_string())
        })?;
        let (answer, is_current) = oneshot::channel();
        let ask = Event::IsCurrent { session: told.session, answer };
        let asked = ingest.agent(host.clone()).events.send(ask).await;
        if asked.is_err() || !is_current.await.unwrap_or(false) {
            return Err(Status::failed_precondition("the session has ended"));
        }
        // One at a time, of all hosts: the disk is the samples' first.
        let Ok(permit) = Arc::clone(&ingest.keeping).acquire_owned().await else {
            return Err(Status::unavailable("the collector is stopping"));
        };
        let (inventories, now_ms) = (Arc::clone(&ingest.inventories), (ingest.clock)());
        let steady_ms = ingest.steady_ms();
        let kept = tokio::task::spawn_blocking(move || {
            let kept = inventories.keep(&host, &told, now_ms, steady_ms);
            drop(permit);
            kept.inspect(|kept| tracing::debug!(%host, ?kept, "the host told its inventory"))
                .inspect_err(|error| {
                    tracing::warn!(%host, error = error_chain(error), "refused an inventory");
                })
        });
        match kept.await {
            Ok(Ok(_)) => Ok(Response::new(v1::InventoryKept {})),
            Ok(Err(error @ (KeepError::TooSoon | KeepError::Full))) => {
                Err(Status::resource_exhausted(error.to_string()))
            }
            Ok(Err(_)) | Err(_) => Err(Status::internal("the inventory cannot be stored")),
        }
    }
}
