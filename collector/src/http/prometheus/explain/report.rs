//! The explanation as JSON. Times and lengths are milliseconds, durations seconds; the tree is a list, each
//! node before those below it, as deep ones are more than readers of JSON take.

use serde::Serialize;
use stoa_tsdb::Surveyed;

/// All of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    pub(super) query: &'a str,
    pub(super) asked: Asked,
    pub(super) limits: Limits,
    pub(super) plan: Total,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<Run>,
    pub(super) nodes: Vec<Node>,
}

/// For which times.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    /// None at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step_ms: Option<i64>,
    pub(super) steps: u64,
    /// How long a sample stands for its series.
    pub(super) lookback_ms: i64,
}

/// What a query may cost.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    /// Held at a time, as Prometheus counts: `query.samples_max`.
    pub(super) samples: usize,
    /// Held at a time: `query.bytes_max`.
    pub(super) bytes: usize,
    /// Of one selector: `query.series_max`.
    pub(super) series: usize,
    /// Of a range.
    pub(super) steps: usize,
}

/// What all reads are together.
#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Total {
    pub(super) selectors: u64,
    /// Those that take what another reads are none.
    pub(super) reads: u64,
    /// Of the read that finds most.
    pub(super) series_most: u64,
    pub(super) series: u64,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) samples: u64,
    /// What all of it takes in memory at most, were it held at once.
    pub(super) held_bytes: u64,
}

/// What an evaluation took.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    /// Samples that storage handed over.
    pub(super) loaded_samples: u64,
    pub(super) result_series: u64,
    pub(super) result_samples: u64,
    /// What Prometheus tells with `stats=all`.
    pub(super) stats: serde_json::Value,
}

/// An expression.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    /// How many it stands in.
    pub(super) depth: usize,
    pub(super) operation: String,
    /// Bytes of the query, the last excluded.
    pub(super) position: [usize; 2],
    #[serde(rename = "type")]
    pub(super) value: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) selects: Option<Selects>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) measured: Option<Measured>,
}

/// What a selector wants, and what is read for it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Selects {
    pub(super) matchers: Vec<String>,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    /// Positions of selectors that take what is read for this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) shared_with: Vec<[usize; 2]>,
    /// The position of the one it takes its series from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) taken_from: Option<[usize; 2]>,
    pub(super) reads: Vec<Reading>,
}

/// What is read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reading {
    /// `samples`, `newest` (of each series the newest sample), or `rollups`.
    pub(super) of: &'static str,
    /// The length of the windows of rollups; none where samples are taken as long as they are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) window_ms: Option<i64>,
    /// Why these.
    pub(super) why: String,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) series: u64,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    /// Or rollups.
    pub(super) samples: u64,
    pub(super) places: Vec<Place>,
    /// Places that are not told one by one.
    pub(super) places_left_out: usize,
}

/// Where it is read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    /// `head`, `block` or `tier`.
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) series: u64,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) samples: u64,
}

/// What an expression took.
#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    /// What is below included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<f64>,
    /// The rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) own_seconds: Option<f64>,
    /// Of its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) series: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read: Option<ReadMeasured>,
}

/// What reading took.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadMeasured {
    pub(super) seconds: f64,
    pub(super) series: u64,
    pub(super) samples: u64,
}

impl From<&Surveyed> for Place {
    fn from(surveyed: &Surveyed) -> Self {
        use stoa_tsdb::Where;
        let (kind, tier, name) = match &surveyed.place {
            Where::Head => ("head", None, None),
            Where::Block(name) => ("block", None, Some(name.clone())),
            Where::Tier(tier, name) => ("tier", Some(tier.name()), Some(name.clone())),
        };
        let Surveyed { start_ms, end_ms, weight, .. } = *surveyed;
        let series = surveyed.series as u64;
        let (chunks, bytes, samples) = (weight.chunks, weight.bytes, weight.samples);
        Self { kind, tier, name, start_ms, end_ms, series, chunks, bytes, samples }
    }
}
