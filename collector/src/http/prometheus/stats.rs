//! What a query cost, for whoever asks with `stats`: Prometheus's timings, and its counts of samples.
//!
//! `queryPreparationTime` is what reading the store took, here as the selectors are come to and not before;
//! `resultSortTime` putting the answer in order; `innerEvalTime` all else of `evalTotalTime`, parsing
//! included. `execQueueTime` is the wait for a turn, and `execTotalTime` both. Without `stats` no clock is
//! looked at.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use stoa_promql::storage::{HistogramSeries, RolledUp, StartSeries};
use stoa_promql::{Answer, Caller, Hints, SampleStats, Select, Series, Storage, StorageError};
use tokio::time::Instant;

use super::params::Params;
use super::{Stop, json};
use crate::store::StoreView;

/// What of it the sender wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    Totals,
    /// Those of each step too.
    Steps,
}

impl Wanted {
    /// Any word but none asks for totals, as in Prometheus.
    pub(super) fn of(params: &Params) -> Self {
        match params.get("stats") {
            None | Some("") => Self::Nothing,
            Some("all") => Self::Steps,
            Some(_) => Self::Totals,
        }
    }
}

/// A store that is asked, and the one who asks it.
pub(super) struct Asking<'a> {
    view: &'a StoreView,
    stop: &'a Stop,
    wanted: Wanted,
    began: Option<Instant>,
    read_nanos: AtomicU64,
    sorted: OnceLock<Instant>,
}

impl<'a> Asking<'a> {
    /// Evaluation begins.
    pub(super) fn new(view: &'a StoreView, stop: &'a Stop, wanted: Wanted) -> Self {
        let began = (wanted != Wanted::Nothing).then(Instant::now);
        let (read_nanos, sorted) = (AtomicU64::new(0), OnceLock::new());
        Self { view, stop, wanted, began, read_nanos, sorted }
    }

    /// What it cost, if that is wanted. Evaluation has ended.
    pub(super) fn stats(&self, answer: &Answer) -> Option<Stats> {
        let began = self.began?;
        let ended = Instant::now();
        let total = ended.duration_since(began);
        let sort = self.sorted.get().map_or(Duration::ZERO, |at| ended.duration_since(*at));
        let read = Duration::from_nanos(self.read_nanos.load(Relaxed)).min(total);
        let samples = answer.samples.clone();
        Some(Stats { total, sort, read, waited: self.stop.waited(), samples })
    }

    fn timed<T>(&self, read: impl FnOnce(&StoreView) -> T) -> T {
        let began = self.began.map(|_| Instant::now());
        let read = read(self.view);
        if let Some(began) = began {
            let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.read_nanos.fetch_add(nanos, Relaxed);
        }
        read
    }
}

impl Caller for Asking<'_> {
    fn is_gone(&self) -> bool {
        self.stop.asked()
    }

    fn wants_steps(&self) -> bool {
        self.wanted == Wanted::Steps
    }

    fn sorts(&self) {
        if self.began.is_some() {
            self.sorted.get_or_init(Instant::now);
        }
    }
}

impl Storage for Asking<'_> {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        self.timed(|view| view.select(select))
    }

    fn select_newest(&self, select: &Select<'_>) -> Result<Option<Vec<Series>>, StorageError> {
        self.timed(|view| view.select_newest(select))
    }

    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        self.timed(|view| view.select_histograms(select))
    }

    fn select_starts(&self, select: &Select<'_>) -> Result<Vec<StartSeries>, StorageError> {
        self.timed(|view| view.select_starts(select))
    }

    fn windows_ms(&self) -> &[i64] {
        self.view.windows_ms()
    }

    fn select_rollups(
        &self,
        select: &Select<'_>,
        hints: &Hints,
    ) -> Result<Option<RolledUp>, StorageError> {
        self.timed(|view| view.select_rollups(select, hints))
    }
}

/// What a query cost.
#[derive(Clone, Debug)]
pub(super) struct Stats {
    total: Duration,
    sort: Duration,
    read: Duration,
    waited: Duration,
    samples: SampleStats,
}

impl Stats {
    /// Writes `{"timings":{…},"samples":{…}}`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let inner = self.total.saturating_sub(self.sort).saturating_sub(self.read);
        let timings = [
            ("evalTotalTime", self.total),
            ("resultSortTime", self.sort),
            ("queryPreparationTime", self.read),
            ("innerEvalTime", inner),
            ("execQueueTime", self.waited),
            ("execTotalTime", self.waited + self.total),
        ];
        out.extend_from_slice(b"{\"timings\":{");
        for (i, (name, time)) in timings.into_iter().enumerate() {
            key(out, i, name);
            json::float(out, time.as_secs_f64());
        }
        out.extend_from_slice(b"},\"samples\":{");
        let SampleStats { queryable, read, peak, loaded: _, by_step } = &self.samples;
        key(out, 0, "totalQueryableSamples");
        json::integer(out, *queryable);
        key(out, 1, "peakSamples");
        json::integer(out, *peak);
        key(out, 2, "samplesRead");
        json::integer(out, *read);
        if let Some(by_step) = by_step {
            for (i, name) in [(3, "totalQueryableSamplesPerStep"), (4, "samplesReadPerStep")] {
                key(out, i, name);
                out.push(b'[');
                for (at, step) in by_step.iter().enumerate() {
                    out.extend_from_slice(if at > 0 { b",[" } else { b"[" });
                    json::timestamp(out, step.t);
                    out.push(b',');
                    json::integer(out, if i == 3 { step.queryable } else { step.read });
                    out.push(b']');
                }
                out.push(b']');
            }
        }
        out.extend_from_slice(b"}}");
    }
}

fn key(out: &mut Vec<u8>, at: usize, name: &str) {
    if at > 0 {
        out.push(b',');
    }
    json::string(out, name);
    out.push(b':');
}
