//! What is handed out to other servers: `/federate`, which they scrape, and `/api/v1/read`, which they ask
//! by remote read. Both add the labels that say whose series these are (`external_labels`).

use std::sync::Arc;

use stoa_model::Labels;
use stoa_promql::{QueryError, StorageError};
use stoa_tsdb::SelectError;
use tokio::sync::Semaphore;

use super::reply::{ApiError, ErrorKind};
use super::{Prometheus, Shared, federate, read};
use crate::http::routes::{Routes, Scope};

/// The API, and what its series are labelled with elsewhere.
pub(super) struct Outward {
    pub(super) prometheus: Arc<Shared>,
    pub(super) external: Labels,
    /// Places for answers that go out while they are read.
    pub(super) streams: Arc<Semaphore>,
}

/// The routes; both only read.
pub fn outward_routes(prometheus: Prometheus, external: Labels) -> Routes {
    let table: Routes<Arc<Outward>> = Routes::new()
        .get("/federate", Scope::Read, federate::federate)
        .post("/api/v1/read", Scope::Read, read::read)
        .body_bytes_max(read::BODY_BYTES_MAX);
    let prometheus = prometheus.0;
    let streams = Arc::new(Semaphore::new(prometheus.gate.running_max()));
    table.with_state(Arc::new(Outward { prometheus, external, streams }))
}

impl Outward {
    /// A series' labels as others see them: those it has not are added.
    pub(super) fn labelled(&self, labels: &Labels) -> Labels {
        labels.with_missing(&self.external)
    }
}

/// Why series were not listed or read, in the words of queries.
pub(super) fn unlisted(error: &SelectError) -> ApiError {
    let text = match *error {
        SelectError::Stopped => return unread(&StorageError::Stopped),
        SelectError::TooManySeries { max } => QueryError::TooManySeries { max },
        SelectError::TooManySamples { max } => QueryError::TooManySamples { max },
        SelectError::TooManyBytes { max } => QueryError::TooManyBytes { max },
    };
    ApiError::new(ErrorKind::Execution, text.to_string())
}

/// Why what is stored could not be handed out.
pub(super) fn unread(error: &StorageError) -> ApiError {
    match error {
        StorageError::Stopped => {
            ApiError::new(ErrorKind::Canceled, "nobody waits for the answer any more")
        }
        other => ApiError::new(ErrorKind::Execution, stoa_daemon::error_chain(other)),
    }
}
