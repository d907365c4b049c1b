//! What an agent read at one instant, as the codec takes it.

use std::sync::Arc;

use stoa_model::{Labels, MetricKind, TimestampMs};

/// What an exporter says about all series of one metric name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FamilyInfo {
    /// The family's name, as in a `# HELP` line.
    pub name: String,
    /// What it means, one sentence.
    pub help: String,
    /// The unit, as in a `# UNIT` line; empty when not said.
    pub unit: String,
    /// What it measures.
    pub kind: MetricKind,
}

/// A series as its agent knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The agent process's own number for it: dense, from 0, never given twice in one process.
    pub id: u32,
    /// What its family is.
    pub family: Arc<FamilyInfo>,
    /// Its labels, the metric's name among them.
    pub labels: Labels,
}

/// All readings of one instant.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// When they were read.
    pub t: TimestampMs,
    /// The readings, ascending by [`Series::id`], no series twice. A stale marker says that a
    /// series has ended.
    pub samples: Vec<(Arc<Series>, f64)>,
}

impl PartialEq for Tick {
    /// Bit equality of values.
    fn eq(&self, other: &Self) -> bool {
        self.t == other.t
            && self.samples.len() == other.samples.len()
            && self
                .samples
                .iter()
                .zip(&other.samples)
                .all(|((a, x), (b, y))| a == b && x.to_bits() == y.to_bits())
    }
}
