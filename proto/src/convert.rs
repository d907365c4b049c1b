//! The one place where wire meets model, with the limits that bytes from outside must hold.

mod inventory;
mod messages;
mod series;

pub use inventory::INVENTORY_BYTES_MAX;
#[cfg(any(test, feature = "fuzzing"))]
pub use inventory::read_inventory;
pub use messages::ConvertError;
pub use series::{
    COLLECTOR_JOB, LABEL_BYTES_MAX, LABELS_MAX, RESERVED, SERIES_PER_AGENT_MAX, SeriesError,
    TARGET_INSTANCE, TARGET_JOB, labels_of,
};
pub(crate) use series::{kind_code, kind_of_code};
