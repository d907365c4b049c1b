//! Tells the collector what the host is made of, whenever that is not what the collector has.
//!
//! One call at a time, beside the session's streams, in the class that waits for all others; whatever
//! comes of it, the session goes on. It ends with the session, and begins anew with what the next
//! Welcome says.

use std::time::Duration;

use rand::RngExt as _;
use stoa_proto::message::{Digest, InventoryTold};
use stoa_proto::v1::inventories_client::InventoriesClient;
use stoa_transport::{Class, Connection};
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::sources::inventory::{Named, Outbox, Outcome};

/// How long one telling may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// After one that failed, the next waits this long and up to as long again, at random, seconds.
const RETRY_S: u64 = 30;

/// Tells until dropped; `known` is what the collector has.
pub(super) async fn tell(
    connection: Connection,
    session: u64,
    mut known: Digest,
    mut outbox: Outbox,
) {
    loop {
        let Some(named) = outbox.current().filter(|named| named.digest != known) else {
            outbox.changed().await;
            continue;
        };
        let outcome = tell_once(&connection, session, &named).await;
        outbox.count(outcome);
        match outcome {
            Outcome::Told | Outcome::Refused => known = named.digest.clone(),
            Outcome::Failed => {
                let spread = rand::rng().random_range(0..=RETRY_S);
                sleep(Duration::from_secs(RETRY_S + spread)).await;
            }
        }
    }
}

async fn tell_once(connection: &Connection, session: u64, named: &Named) -> Outcome {
    let (digest, document) = (named.digest.clone(), named.document.clone());
    let told = InventoryTold { session, digest, document };
    // A client of its own each time: there is rarely a second one in a session.
    let mut client = InventoriesClient::new(connection.channel(Class::Logs));
    match timeout(PATIENCE, client.tell(stoa_proto::v1::InventoryTold::from(told))).await {
        Ok(Ok(_kept)) => {
            tracing::info!(bytes = named.document.bytes(), "told the collector what this host is");
            Outcome::Told
        }
        Ok(Err(status)) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {
            tracing::warn!(
                reason = status.message(),
                "the collector does not take this host's inventory"
            );
            Outcome::Refused
        }
        Ok(Err(status)) => {
            tracing::info!(
                reason = status.message(),
                "the inventory cannot be told now; it is tried again in a minute"
            );
            Outcome::Failed
        }
        Err(_elapsed) => Outcome::Failed,
    }
}
