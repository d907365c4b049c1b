//! `/federate`: the newest sample of each series that any `match[]` matches, for another Prometheus to
//! scrape.
//!
//! As Prometheus does it: samples of the look-back, with their times, without stale markers; families
//! without help and of no type; the external labels that a series has not, `instance=""` if it has none,
//! so that the scraper gives it none of its own. Text has no form for native histograms, so they are left
//! out of it; who takes protobuf gets them. No form has a place for warnings: that something is missing
//! because of damage is logged and counted.
//!
//! Bounds, over all selectors of a request together: the patterns of one query, the samples that are read
//! (`query.samples_max`, of each series about one), series of each selector (`query.series_max`), and the
//! bytes of what was found and of the page (`query.bytes_max`).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use stoa_exchange::exposition::{Format, MetricType, Printer};
use stoa_exchange::federation::{Families, Value};
use stoa_model::{Histogram, Labels, METRIC_NAME, Matcher, TimestampMs, is_stale};
use stoa_promql::{Select, Storage as _, StorageError};
use stoa_tsdb::SelectError;

use super::active::Asked;
use super::gate::Outgoing;
use super::outward::{Outward, unlisted, unread};
use super::params::Params;
use super::reply::{ApiError, ErrorKind};
use super::{Shared, Stop};
use crate::http::negotiate::{Agreed, Escaping, Form};
use crate::store::StoreView;

/// How far back the newest sample may lie: Prometheus's look-back.
const LOOKBACK_MS: i64 = 5 * 60 * 1000;

/// What a sample takes while it is read.
const SAMPLE_BYTES: usize = 16;

/// What a series takes in what was found and on the page beside its labels, about.
const SERIES_BYTES: usize = 128;

/// What a label takes there beside its text.
const LABEL_BYTES: usize = 64;

/// The label a scraper would set itself where there is none.
const INSTANCE: &str = "instance";

/// The route. Errors are plain text, as scrapers show them.
pub(super) async fn federate(
    State(outward): State<Arc<Outward>>,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let agreed = Agreed::of(&headers, &[Form::Protobuf, Form::Text]);
    match page(&outward, agreed, &params).await {
        Ok(page) => ([(header::CONTENT_TYPE, agreed.content_type())], page).into_response(),
        Err(error) => {
            let status = match error.kind() {
                ErrorKind::Execution => StatusCode::INTERNAL_SERVER_ERROR,
                kind => kind.status(),
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}

async fn page(
    outward: &Arc<Outward>,
    agreed: Agreed,
    params: &Params,
) -> Result<Vec<u8>, ApiError> {
    let now = outward.prometheus.now_ms();
    let text = params.all("match[]").collect::<Vec<_>>().join(" ");
    let (asked, params) = (Arc::clone(outward), params.clone());
    let work = move |stop: &Stop| {
        // Patterns are compiled here: it may take a while.
        let selectors = params.selectors().map_err(ApiError::bad_data)?;
        let view = asked.prometheus.store.view().until(stop.flag());
        let found = newest(&asked.prometheus, &view, &selectors, now)?;
        Ok((asked.print(&found, agreed), view.warnings()))
    };
    let gate = &outward.prometheus.gate;
    let path = Outgoing::Federation.path();
    let (page, warnings) = gate.run(Asked::new(path, text, now), gate.timeout_max(), work).await?;
    gate.incomplete(Outgoing::Federation, &warnings);
    Ok(page)
}

/// The newest sample of a series.
#[derive(Debug)]
struct Newest {
    t: TimestampMs,
    value: Either,
}

#[derive(Debug)]
enum Either {
    Float(f64),
    Histogram(Histogram),
}

impl Newest {
    fn is_stale(&self) -> bool {
        match &self.value {
            Either::Float(value) => is_stale(*value),
            Either::Histogram(histogram) => histogram.is_stale(),
        }
    }
}

fn newest(
    prometheus: &Shared,
    view: &StoreView,
    selectors: &[Vec<Matcher>],
    now: TimestampMs,
) -> Result<BTreeMap<Labels, Newest>, ApiError> {
    let mut kept = Kept {
        found: BTreeMap::new(),
        samples_left: prometheus.samples_max,
        bytes_left: prometheus.bytes_max,
    };
    for matchers in selectors {
        let (samples_left, bytes_left) = (kept.samples_left, kept.bytes_left);
        let samples_max = samples_left.min(bytes_left / SAMPLE_BYTES);
        let select = Select {
            matchers,
            start_ms: now.saturating_sub(LOOKBACK_MS),
            end_ms: now,
            series_max: prometheus.series_max,
            samples_max,
        };
        let too_much = |error: StorageError| match error {
            StorageError::TooManySamples { .. } if samples_max < samples_left => {
                unlisted(&SelectError::TooManyBytes { max: prometheus.bytes_max })
            }
            StorageError::TooManySamples { .. } => {
                unlisted(&SelectError::TooManySamples { max: prometheus.samples_max })
            }
            other => unread(&other),
        };
        let floats = match view.select_newest(&select).map_err(too_much)? {
            Some(newest) => newest,
            None => view.select(&select).map_err(too_much)?,
        };
        for series in floats {
            if let (Some(t), Some(v)) = (series.timestamps.last(), series.values.last()) {
                kept.keep(series.labels, *t, Either::Float(*v), series.values.len())?;
            }
        }
        let samples_max = kept.samples_left.min(kept.bytes_left / SAMPLE_BYTES);
        let select = Select { samples_max, ..select };
        for mut series in view.newest_histograms(&select).map_err(too_much)? {
            let weight = series.weight();
            if let Some((t, histogram)) = series.samples.pop() {
                kept.keep(series.labels, t, Either::Histogram(histogram), weight)?;
            }
        }
    }
    let mut found = kept.found;
    found.retain(|_, newest| !newest.is_stale());
    Ok(found)
}

/// What was found so far, and how much more may be.
struct Kept {
    found: BTreeMap<Labels, Newest>,
    samples_left: usize,
    bytes_left: usize,
}

impl Kept {
    /// Keeps a sample that is newer than what is known of its series; `samples` were read for it.
    fn keep(
        &mut self,
        labels: Labels,
        t: TimestampMs,
        value: Either,
        samples: usize,
    ) -> Result<(), ApiError> {
        self.samples_left = self.samples_left.saturating_sub(samples);
        let known = self.found.get(&labels).map(|known| known.t);
        if known.is_some_and(|known| known >= t) {
            return Ok(());
        }
        if known.is_none() {
            // In memory, and printed.
            let text = labels.text_bytes();
            let bytes = SERIES_BYTES + 2 * text + labels.len() * LABEL_BYTES;
            let of_value =
                if matches!(value, Either::Float(_)) { 0 } else { samples * SAMPLE_BYTES };
            let left = self.bytes_left.checked_sub(bytes + of_value);
            let too_many = || unlisted(&SelectError::TooManyBytes { max: self.bytes_left });
            self.bytes_left = left.ok_or_else(too_many)?;
        }
        self.found.insert(labels, Newest { t, value });
        Ok(())
    }
}

impl Outward {
    fn print(&self, found: &BTreeMap<Labels, Newest>, agreed: Agreed) -> Vec<u8> {
        let named = found
            .iter()
            .filter_map(|(labels, newest)| Some((labels.metric_name()?, labels, newest)));
        let mut named: Vec<_> = named.collect();
        // Stable: those of one name stay in order of their labels.
        named.sort_by_key(|(name, _, _)| *name);
        let escaping = agreed.escaping;
        if agreed.form == Form::Protobuf {
            let mut families = Families::default();
            for (name, labels, newest) in named {
                let value = match &newest.value {
                    Either::Float(value) => Value::Float(*value),
                    // Which buckets those are, the message has no place for.
                    Either::Histogram(histogram) if histogram.has_custom_buckets() => continue,
                    Either::Histogram(histogram) => Value::Histogram(histogram),
                };
                let pairs = self.pairs(labels, escaping);
                families.sample(&escaping.name(name), shown(&pairs), value, newest.t);
            }
            return families.finish();
        }
        let mut printer = Printer::new(Vec::new(), Format::Text);
        let mut last = None;
        for (name, labels, newest) in named {
            let Either::Float(value) = newest.value else { continue };
            let shown_name = escaping.name(name);
            if last.replace(name) != Some(name) {
                // A vector takes all that is written; so below.
                drop(printer.kind(&shown_name, MetricType::Unknown));
            }
            let pairs = self.pairs(labels, escaping);
            drop(printer.sample_of_pairs(&shown_name, shown(&pairs), value, Some(newest.t)));
        }
        printer.finish().unwrap_or_default()
    }

    /// The labels but for the name, then those that are added.
    fn pairs(&self, labels: &Labels, escaping: Escaping) -> Vec<(String, String)> {
        let own = labels.iter().filter(|label| *label.name != *METRIC_NAME);
        let own = own.map(|label| (&*label.name, &*label.value));
        let mut added: Vec<(&str, &str)> = self
            .external
            .iter()
            .map(|label| (&*label.name, &*label.value))
            .chain(self.external.get(INSTANCE).is_none().then_some((INSTANCE, "")))
            .filter(|(name, _)| labels.get(name).is_none())
            .collect();
        added.sort_unstable();
        let all = own.chain(added);
        all.map(|(name, value)| (escaping.name(name).into_owned(), value.to_owned())).collect()
    }
}

fn shown(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}
