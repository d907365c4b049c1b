//! What there is: `series`, `labels`, `label/{name}/values`, `metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use stoa_model::{Matcher, TimestampMs};

use super::outward::unlisted;
use super::params::{Params, TIME_MAX_MS, TIME_MIN_MS, label_name};
use super::pools::described;
use super::reply::{ApiError, Success};
use super::{Shared, Work, json};
use crate::store::{Description, Span};

/// Most results printed, whatever limit is asked for; more would be some hundred megabytes.
const RESULTS_MAX: usize = 1_000_000;

/// What a name takes in memory beside its text, about.
const NAME_BYTES: usize = 64;

/// What a request about names looks at: series that match any of the selectors, in a range of time.
struct Scope {
    selectors: Vec<Vec<Matcher>>,
    start: TimestampMs,
    end: TimestampMs,
    limit: Option<usize>,
}

impl Scope {
    /// Selectors are compiled on the thread of whoever calls this.
    fn of(params: &Params, refused: impl FnOnce(String) -> ApiError) -> Result<Self, ApiError> {
        let selectors = params.selectors().map_err(refused)?;
        let start = params.time_or("start", TIME_MIN_MS)?;
        let end = params.time_or("end", TIME_MAX_MS)?;
        if end < start {
            let reason = "end timestamp must not be before start time";
            return Err(ApiError::invalid("end", reason));
        }
        Ok(Self { selectors, start, end, limit: params.limit("limit")? })
    }

    /// How many results are printed.
    fn most(&self) -> usize {
        self.limit.unwrap_or(RESULTS_MAX).min(RESULTS_MAX)
    }

    /// What the store is asked for: one more than is printed, which shows whether there are more.
    fn span(&self, bytes_max: usize) -> Span {
        let (start_ms, end_ms) = (self.start, self.end);
        // Printed they take about as much again.
        Span { start_ms, end_ms, limit: self.most() + 1, bytes_max: bytes_max / 2 }
    }

    /// Every selector; one that matches everything when there is none.
    fn selectors(&self) -> impl Iterator<Item = &[Matcher]> {
        let everything: Option<&[Matcher]> = self.selectors.is_empty().then_some(&[]);
        self.selectors.iter().map(Vec::as_slice).chain(everything)
    }
}

/// `/api/v1/series`: the label sets that match, sorted.
///
/// # Errors
/// Of its parameters.
pub(super) fn series(prometheus: &Arc<Shared>, params: &Params) -> Result<Work, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (asked, params) = (Arc::clone(prometheus), params.clone());
    Ok(Box::new(move |stop| {
        let scope = Scope::of(&params, |reason| ApiError::invalid("match[]", reason))?;
        let sets: Vec<&[Matcher]> = scope.selectors().collect();
        let view = asked.store.view().until(stop.flag());
        let found = view.series(&sets, &scope.span(asked.bytes_max));
        let found = found.map_err(|error| unlisted(&error))?;
        Ok(list(&found, scope.most(), json::labels).warnings(view.warnings()))
    }))
}

/// `/api/v1/labels`: the names of labels, sorted.
///
/// # Errors
/// Of its parameters.
pub(super) fn labels(prometheus: &Arc<Shared>, params: &Params) -> Result<Work, ApiError> {
    names(prometheus, params, None)
}

/// `/api/v1/label/{name}/values`: the values of one label, sorted.
///
/// # Errors
/// Of its parameters.
pub(super) fn label_values(
    prometheus: &Arc<Shared>,
    name: &str,
    params: &Params,
) -> Result<Work, ApiError> {
    names(prometheus, params, Some(label_name(name)))
}

fn names(
    prometheus: &Arc<Shared>,
    params: &Params,
    label: Option<String>,
) -> Result<Work, ApiError> {
    let (asked, params) = (Arc::clone(prometheus), params.clone());
    Ok(Box::new(move |stop| {
        let scope = Scope::of(&params, ApiError::bad_data)?;
        let view = asked.store.view().until(stop.flag());
        let mut found: BTreeSet<String> = BTreeSet::new();
        let mut left = asked.bytes_max;
        for matchers in scope.selectors() {
            let span = scope.span(left);
            let names = match &label {
                Some(name) => view.label_values(name, matchers, &span),
                None => view.label_names(matchers, &span),
            };
            let names = names.map_err(|error| unlisted(&error))?;
            for name in names {
                // Held and printed, as those of the next selector will be.
                let bytes = (NAME_BYTES + name.len()) * 2;
                if found.insert(name) {
                    left = left.saturating_sub(bytes);
                }
            }
        }
        let found: Vec<String> = found.into_iter().collect();
        let names = list(&found, scope.most(), |out, name| json::string(out, name));
        Ok(names.warnings(view.warnings()))
    }))
}

fn list<T>(found: &[T], most: usize, item: impl Fn(&mut Vec<u8>, &T)) -> Success {
    Success::data(|out| {
        out.push(b'[');
        for (i, one) in found.iter().take(most).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            item(out, one);
        }
        out.push(b']');
    })
    .truncated(found.len() > most)
}

/// A number of what is printed; negative ones stand for all of it, as does none.
pub(super) fn count(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let number: i64 = text
        .parse()
        .map_err(|_says_less| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(number).ok())
}

/// `/api/v1/metadata`: what exporters say about metrics.
pub(super) async fn metadata(
    State(prometheus): State<Arc<Shared>>,
    params: Params,
) -> Result<Success, ApiError> {
    let limit = count(&params, "limit")?.unwrap_or(usize::MAX);
    count(&params, "limit_per_metric")?; // one description is kept per metric
    let known = prometheus.store.metadata();
    let found: BTreeMap<Arc<str>, Description> = match params.get("metric") {
        Some(name) => known.get(name).map(|d| (Arc::from(name), d)).into_iter().collect(),
        None => known.all().into_iter().take(limit).collect(),
    };
    Ok(Success::data(|out| {
        out.push(b'{');
        for (i, (name, description)) in found.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json::string(out, name);
            out.extend_from_slice(b":[{");
            described(out, description);
            out.extend_from_slice(b"}]");
        }
        out.push(b'}');
    }))
}
