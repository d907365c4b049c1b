//! `/federate`: the newest sample of each series that any `match[]` matches, for another Prometheus to
//! scrape.
//!
//! As Prometheus does it: samples of the look-back, with their times, without stale markers; families
//! without help and of no type; the external labels that a series has not, `instance=""` if it has none,
//! so that the scraper gives it none of its own. Text has no form for native histograms, so they are left
//! out of it; who takes protobuf gets them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use stoa_exchange::exposition::{Format, MetricType, Printer};
use stoa_exchange::federation::{Families, Value};
use stoa_model::{Histogram, Labels, METRIC_NAME, Matcher, TimestampMs, is_stale};
use stoa_promql::{Select, Storage as _, StorageError};

use super::active::Asked;
use super::outward::{Outward, unread};
use super::params::Params;
use super::reply::{ApiError, ErrorKind};
use super::{Shared, Stop};
use crate::http::negotiate::{Agreed, Escaping, Form};

/// How far back the newest sample may lie: Prometheus's look-back.
const LOOKBACK_MS: i64 = 5 * 60 * 1000;

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
    let selectors = params.selectors().map_err(ApiError::bad_data)?;
    let now = outward.prometheus.now_ms();
    let text = params.all("match[]").collect::<Vec<_>>().join(" ");
    let asked = Arc::clone(outward);
    let work = move |stop: &Stop| {
        let found = newest(&asked.prometheus, &selectors, now, stop)?;
        Ok(asked.print(&found, agreed))
    };
    let gate = &outward.prometheus.gate;
    gate.run(Asked::new("/federate", text, now), gate.timeout_max(), work).await
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
    selectors: &[Vec<Matcher>],
    now: TimestampMs,
    stop: &Stop,
) -> Result<BTreeMap<Labels, Newest>, ApiError> {
    let view = prometheus.store.view().until(stop.flag());
    let mut found: BTreeMap<Labels, Newest> = BTreeMap::new();
    let mut keep = |labels: Labels, t: TimestampMs, value: Either| {
        if found.get(&labels).is_none_or(|known| known.t < t) {
            found.insert(labels, Newest { t, value });
        }
    };
    for matchers in selectors {
        if stop.asked() {
            return Err(unread(&StorageError::Stopped));
        }
        let select = Select {
            matchers,
            start_ms: now.saturating_sub(LOOKBACK_MS),
            end_ms: now,
            series_max: prometheus.series_max,
            samples_max: prometheus.samples_max,
        };
        for series in view.select(&select).map_err(|error| unread(&error))? {
            if let (Some(t), Some(v)) = (series.timestamps.last(), series.values.last()) {
                keep(series.labels, *t, Either::Float(*v));
            }
        }
        for mut series in view.stored_histograms(&select).map_err(|error| unread(&error))? {
            if let Some((t, histogram)) = series.samples.pop() {
                keep(series.labels, t, Either::Histogram(histogram));
            }
        }
    }
    found.retain(|_, newest| !newest.is_stale());
    Ok(found)
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
