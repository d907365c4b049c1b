//! The collector's explanation: what of its JSON is shown. Times and lengths are milliseconds.

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Body {
    pub(super) data: Explanation,
}

#[derive(Deserialize)]
pub(super) struct Explanation {
    pub(super) asked: Asked,
    pub(super) limits: Limits,
    pub(super) plan: Total,
    pub(super) run: Option<Run>,
    /// Each before those below it.
    pub(super) nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) step_ms: Option<i64>,
    pub(super) steps: u64,
    pub(super) lookback_ms: i64,
}

#[derive(Deserialize)]
pub(super) struct Limits {
    pub(super) samples: u64,
    pub(super) bytes: u64,
    pub(super) series: u64,
    pub(super) steps: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Total {
    pub(super) selectors: u64,
    pub(super) reads: u64,
    pub(super) series_most: u64,
    pub(super) series: u64,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) samples: u64,
    pub(super) held_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    pub(super) loaded_samples: u64,
    pub(super) result_series: u64,
    pub(super) result_samples: u64,
    pub(super) stats: Stats,
}

/// Prometheus's own.
#[derive(Deserialize)]
pub(super) struct Stats {
    pub(super) timings: Timings,
    pub(super) samples: Samples,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timings {
    pub(super) eval_total_time: f64,
    pub(super) result_sort_time: f64,
    pub(super) query_preparation_time: f64,
    pub(super) inner_eval_time: f64,
    pub(super) exec_queue_time: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Samples {
    pub(super) total_queryable_samples: u64,
    pub(super) peak_samples: u64,
    pub(super) samples_read: u64,
    #[serde(default)]
    pub(super) total_queryable_samples_per_step: Vec<(f64, u64)>,
}

#[derive(Deserialize)]
pub(super) struct Node {
    pub(super) depth: usize,
    pub(super) operation: String,
    #[serde(rename = "type")]
    pub(super) value: String,
    pub(super) selects: Option<Selects>,
    pub(super) measured: Option<Measured>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Selects {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    /// Bytes of the query.
    #[serde(default)]
    pub(super) shared_with: Vec<(usize, usize)>,
    pub(super) taken_from: Option<(usize, usize)>,
    pub(super) reads: Vec<Reading>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reading {
    pub(super) of: String,
    pub(super) window_ms: Option<i64>,
    pub(super) why: String,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) series: u64,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) samples: u64,
    pub(super) places: Vec<Place>,
    pub(super) places_left_out: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    pub(super) kind: String,
    pub(super) tier: Option<String>,
    pub(super) name: Option<String>,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) series: u64,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) samples: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    pub(super) seconds: Option<f64>,
    pub(super) own_seconds: Option<f64>,
    pub(super) series: Option<u64>,
    pub(super) read: Option<ReadMeasured>,
}

#[derive(Deserialize)]
pub(super) struct ReadMeasured {
    pub(super) seconds: f64,
    pub(super) series: u64,
    pub(super) samples: u64,
}
