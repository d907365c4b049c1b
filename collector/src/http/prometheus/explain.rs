//! `/stoa/api/v1/explain`: what a query reads and may cost, and, unless `dry=true`, what it took.
//!
//! Parameters are those of `query` (with `time`) or of `query_range` (with `start`, `end`, `step`), and `dry`.
//! The plan is a rehearsal: the engine evaluates over a store that says what it has by its indexes and gives
//! nothing ([`rehearsal`]), so what is planned is what the engine decides, and costs the time of the steps. A
//! run is the query itself, watched ([`measure`]). Both take one turn at the gate, as any query does; what
//! another engine would answer (`storage.remote`) is explained as answered from here.
//!
//! Bounds: queries of [`TEXT_BYTES_MAX`], a node of the answer for each expression, those of a rehearsal and
//! of a query.

mod measure;
mod rehearsal;
mod report;

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use stoa_promql::{Answer, Caller, Engine, Place, PlanNode, QueryError, Storage, Value};
use stoa_tsdb::Tier;

use self::measure::{Measuring, Taken};
use self::rehearsal::{Kind, Read, Rehearsal, Selection, Sharing};
use self::report::{Measured, Node, Reading, Report, Run, Selects, Total};
use super::active::Asked;
use super::params::Params;
use super::reply::{ApiError, ErrorKind, Success};
use super::stats::{Asking, Wanted};
use super::{Shared, Stop, query};
use crate::store::StoreView;

const PATH: &str = "/stoa/api/v1/explain";

/// The longest query that is explained; people write shorter ones.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// What a sample takes in memory at most, and a rollup.
const SAMPLE_BYTES: u64 = stoa_promql::SAMPLE_BYTES as u64;
const ROLLUP_BYTES: u64 = size_of::<stoa_model::Rollup>() as u64;

/// The handler.
pub(super) async fn explain(state: State<Arc<Shared>>, params: Params) -> Response {
    match answer(&state, &params).await {
        Ok(success) => success.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn answer(shared: &Arc<Shared>, params: &Params) -> Result<Success, ApiError> {
    let timeout = params.timeout(shared.gate.timeout_max())?;
    let engine = query::engine(shared, params)?;
    let is_range = ["start", "end", "step"].iter().any(|name| params.get(name).is_some());
    let times = if is_range {
        Times::Range(query::Range::of(params)?)
    } else {
        Times::Instant(params.time_or("time", shared.now_ms())?)
    };
    let is_dry = match params.get("dry") {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(other) => {
            let reason = format!("{other:?} is neither true nor false");
            return Err(ApiError::invalid("dry", reason));
        }
    };
    let text = params.get("query").unwrap_or("").to_owned();
    if text.len() > TEXT_BYTES_MAX {
        let reason = format!("queries of more than {TEXT_BYTES_MAX} bytes are not explained");
        return Err(ApiError::invalid("query", reason));
    }
    let asked = Asked::new(PATH, text.clone(), shared.now_ms());
    let of = Arc::clone(shared);
    let work = move |stop: &Stop| {
        let question = Question { engine, text: &text, times };
        let view = of.store.view().until(stop.flag());
        question.explained(&view, stop, is_dry)
    };
    shared.gate.run(asked, timeout, work).await
}

/// For which times.
#[derive(Clone, Copy, Debug)]
enum Times {
    Instant(i64),
    Range(query::Range),
}

struct Question<'a> {
    engine: Engine,
    text: &'a str,
    times: Times,
}

impl Question<'_> {
    fn explained(&self, view: &StoreView, stop: &Stop, is_dry: bool) -> Result<Success, ApiError> {
        let outline = self.engine.outline(self.text).map_err(query::refused)?;
        let rehearsal = Rehearsal::new(view, stop);
        self.evaluate(&rehearsal, &rehearsal).map_err(query::refused)?;
        let selections = rehearsal.finish();
        let ran = if is_dry { None } else { Some(self.run(view, stop)?) };
        let told = Told::new(&outline, &selections, view, ran.as_ref().map(|ran| &ran.taken));
        let (mut nodes, mut total) = (Vec::new(), Total::default());
        told.node(&outline, 0, &mut nodes);
        selections.iter().for_each(|selection| total.add(selection));
        let mut warnings: Vec<String> = Vec::new();
        for read in selections.iter().flat_map(|selection| &selection.reads) {
            if read.held_bytes() / SAMPLE_BYTES > read.samples_max as u64 {
                warnings.push(too_much(read));
            }
        }
        warnings.truncate(10);
        let limits = self.engine.limits();
        let report = Report {
            query: self.text,
            asked: self.asked(),
            limits: report::Limits {
                samples: limits.samples_max,
                bytes: limits.bytes_max,
                series: limits.series_max,
                steps: limits.points_per_series_max,
            },
            plan: total,
            run: ran.as_ref().map(Ran::report).transpose()?,
            nodes,
        };
        let json = serde_json::to_vec(&report).map_err(unwritten)?;
        let success = Success::data(|out| out.extend_from_slice(&json))
            .warnings(warnings)
            .warnings(view.warnings());
        Ok(match ran {
            Some(Ran { answer, .. }) => success.warnings(answer.warnings).infos(answer.infos),
            None => success,
        })
    }

    fn evaluate(&self, storage: &dyn Storage, caller: &dyn Caller) -> Result<Answer, QueryError> {
        match self.times {
            Times::Instant(at) => self.engine.instant(storage, self.text, at, caller),
            Times::Range(r) => {
                self.engine.range(storage, self.text, r.start, r.end, r.step, caller)
            }
        }
    }

    fn run(&self, view: &StoreView, stop: &Stop) -> Result<Ran, ApiError> {
        let asking = Asking::new(view, stop, Wanted::Steps);
        let measuring = Measuring::new(&asking);
        let answer = self.evaluate(&measuring, &measuring).map_err(query::refused)?;
        let mut stats = Vec::new();
        asking.stats(&answer).into_iter().for_each(|all| all.write(&mut stats));
        Ok(Ran { taken: measuring.finish(), answer, stats })
    }

    fn asked(&self) -> report::Asked {
        let lookback_ms = self.engine.limits().lookback_ms;
        match self.times {
            Times::Instant(at) => {
                report::Asked { start_ms: at, end_ms: at, step_ms: None, steps: 1, lookback_ms }
            }
            Times::Range(query::Range { start, end, step }) => report::Asked {
                start_ms: start,
                end_ms: end,
                step_ms: Some(step),
                steps: 1 + end.abs_diff(start) / step.unsigned_abs().max(1),
                lookback_ms,
            },
        }
    }
}

/// What a run left.
struct Ran {
    answer: Answer,
    taken: Taken,
    /// JSON.
    stats: Vec<u8>,
}

impl Ran {
    fn report(&self) -> Result<Run, ApiError> {
        let (result_series, result_samples) = match &self.answer.value {
            Value::Scalar { .. } | Value::String { .. } => (1, 1),
            Value::Vector(list) => (list.len(), list.len()),
            Value::Matrix(list) => {
                let samples = list.iter().map(|one| one.points.len() + one.histograms.len());
                (list.len(), samples.sum())
            }
        };
        Ok(Run {
            loaded_samples: self.answer.samples.loaded,
            result_series: result_series as u64,
            result_samples: result_samples as u64,
            stats: serde_json::from_slice(&self.stats).map_err(unwritten)?,
        })
    }
}

/// All that is told of the expressions of a query.
struct Told<'a> {
    view: &'a StoreView,
    selections: HashMap<Place, &'a Selection>,
    /// Who takes from whom, and the other way round.
    taken_from: HashMap<Place, Place>,
    shared_with: HashMap<Place, Vec<[usize; 2]>>,
    taken: Option<&'a Taken>,
}

impl<'a> Told<'a> {
    fn new(
        outline: &PlanNode,
        selections: &'a [Selection],
        view: &'a StoreView,
        taken: Option<&'a Taken>,
    ) -> Self {
        let mut keys: HashMap<Place, String> = HashMap::new();
        each(outline, &mut |node| {
            keys.extend(node.matchers.as_ref().map(|all| (node.place, texts(all).join(","))));
        });
        // Where series are read for others: the stretches of one selection never overlap.
        let mut readers: HashMap<&str, Vec<&Selection>> = HashMap::new();
        let (mut taken_from, mut shared_with) = (HashMap::new(), HashMap::new());
        for selection in selections {
            let Some(key) = keys.get(&selection.place) else { continue };
            let known = readers.entry(key).or_default();
            match selection.sharing {
                Sharing::Alone => {}
                Sharing::ForOthers(..) => known.push(selection),
                Sharing::Taken => {
                    let has_it = |reader: &&&Selection| match reader.sharing {
                        Sharing::ForOthers(start, end) => {
                            start <= selection.start_ms && selection.end_ms <= end
                        }
                        Sharing::Alone | Sharing::Taken => false,
                    };
                    if let Some(reader) = known.iter().find(has_it) {
                        taken_from.insert(selection.place, reader.place);
                        let takers: &mut Vec<_> = shared_with.entry(reader.place).or_default();
                        takers.push(position(selection.place));
                    }
                }
            }
        }
        let by_place = |selection| (Selection::place(selection), selection);
        let selections = selections.iter().map(by_place).collect();
        Self { view, selections, taken_from, shared_with, taken }
    }

    /// A node and those below it, in order.
    fn node(&self, planned: &PlanNode, depth: usize, nodes: &mut Vec<Node>) {
        let place = planned.place;
        nodes.push(Node {
            depth,
            operation: planned.operation.clone(),
            position: position(place),
            value: planned.value,
            selects: self.selections.get(&place).map(|selection| self.selects(planned, selection)),
            measured: self.taken.and_then(|taken| measured(taken, planned)),
        });
        planned.children.iter().for_each(|child| self.node(child, depth + 1, nodes));
    }

    fn selects(&self, planned: &PlanNode, selection: &Selection) -> Selects {
        let mut reads = Vec::new();
        for (at, read) in selection.reads.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| selection.reads.get(at));
            reads.push(Reading::new(read, self.why(selection, read, before)));
        }
        Selects {
            matchers: planned.matchers.as_deref().map(texts).unwrap_or_default(),
            start_ms: selection.start_ms,
            end_ms: selection.end_ms,
            shared_with: self.shared_with.get(&selection.place).cloned().unwrap_or_default(),
            taken_from: self.taken_from.get(&selection.place).copied().map(position),
            reads,
        }
    }

    /// Why samples or rollups are read.
    fn why(&self, selection: &Selection, read: &Read, before: Option<&Read>) -> String {
        let choice = selection.hints.choice(self.view.windows_ms());
        match (read.kind, choice, before.map(|before| before.kind)) {
            (Kind::Rollups(Some(_)), ..) => "range and steps go with these windows".to_owned(),
            (Kind::Rollups(None), ..) => "samples of some of this time are gone".to_owned(),
            (_, _, Some(Kind::Rollups(_))) => "rollups know nothing of histograms".to_owned(),
            (_, _, Some(_)) => "histograms are not shared".to_owned(),
            (_, Ok(window_ms), None) => {
                let tier = Tier::ALL.into_iter().find(|tier| tier.window_ms() == window_ms);
                format!("no rollups of {} have any of this time", tier.map_or("this", Tier::name))
            }
            (_, Err(why), None) => why.to_owned(),
        }
    }
}

fn measured(taken: &Taken, planned: &PlanNode) -> Option<Measured> {
    let (node, read) = (taken.nodes.get(&planned.place), taken.reads.get(&planned.place));
    if node.is_none() && read.is_none() {
        return None;
    }
    let below = planned.children.iter().filter_map(|child| taken.nodes.get(&child.place));
    let below = below.map(|below| below.took).sum();
    Some(Measured {
        seconds: node.map(|node| node.took.as_secs_f64()),
        own_seconds: node.map(|node| node.took.saturating_sub(below).as_secs_f64()),
        series: node.map(|node| node.series),
        read: read.map(|read| report::ReadMeasured {
            seconds: read.took.as_secs_f64(),
            series: read.series,
            samples: read.samples,
        }),
    })
}

impl Selection {
    fn place(&self) -> Place {
        self.place
    }
}

impl Read {
    /// What it takes in memory at most.
    fn held_bytes(&self) -> u64 {
        let each = match self.kind {
            Kind::Rollups(_) => ROLLUP_BYTES,
            Kind::Samples | Kind::Newest => SAMPLE_BYTES,
        };
        self.weight.samples.saturating_mul(each)
    }
}

impl Reading {
    fn new(read: &Read, why: String) -> Self {
        let (of, window_ms) = match read.kind {
            Kind::Samples => ("samples", None),
            Kind::Newest => ("newest", None),
            Kind::Rollups(window_ms) => ("rollups", window_ms),
        };
        Self {
            of,
            window_ms,
            why,
            start_ms: read.start_ms,
            end_ms: read.end_ms,
            series: read.series as u64,
            chunks: read.weight.chunks,
            bytes: read.weight.bytes,
            samples: read.weight.samples,
            places: read.places.iter().map(report::Place::from).collect(),
            places_left_out: read.places_left_out,
        }
    }
}

impl Total {
    fn add(&mut self, selection: &Selection) {
        self.selectors += 1;
        for read in &selection.reads {
            let series = read.series as u64;
            self.reads += 1;
            self.series_most = self.series_most.max(series);
            self.series = self.series.saturating_add(series);
            self.chunks = self.chunks.saturating_add(read.weight.chunks);
            self.bytes = self.bytes.saturating_add(read.weight.bytes);
            self.samples = self.samples.saturating_add(read.weight.samples);
            self.held_bytes = self.held_bytes.saturating_add(read.held_bytes());
        }
    }
}

fn too_much(read: &Read) -> String {
    format!(
        "{{{}}}: about {} samples, and query.bytes_max lets {} be held",
        texts(&read.matchers).join(", "),
        read.weight.samples,
        read.samples_max
    )
}

fn texts(matchers: &[stoa_model::Matcher]) -> Vec<String> {
    matchers.iter().map(ToString::to_string).collect()
}

fn each(node: &PlanNode, f: &mut impl FnMut(&PlanNode)) {
    f(node);
    node.children.iter().for_each(|child| each(child, f));
}

fn position(place: Place) -> [usize; 2] {
    [place.start, place.end]
}

fn unwritten(error: serde_json::Error) -> ApiError {
    ApiError::new(ErrorKind::Internal, format!("write the explanation: {error}"))
}

#[cfg(test)]
mod tests;
