//! `info`: adds the labels of info series (`target_info` and the like) to series of the same
//! `instance` and `job`. Info series are looked at where the first selector of the enriched
//! expression looks, so that `@` and `offset` hold for both.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stoa_model::{Labels, METRIC_NAME, MatchOp, Matcher, TimestampMs};

use crate::error::QueryError;
use crate::eval::{Cell, Column, Evaluator, Point, Row, Steps, labels_text, metadata_label};
use crate::number::to_i64;
use crate::parse::ast::{Selector, Shift};

const DEFAULT_INFO: &str = "target_info";

/// What info series are called where nothing says so.
const ANY_INFO: &str = ".+_info";

/// The labels that say which info series belongs to a series.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The series with the labels the selector asks for.
pub(crate) fn enrich(
    evaluator: &Evaluator<'_>,
    base: Vec<Row>,
    selector: Option<&Selector>,
    shift: Shift,
    steps: &Steps,
) -> Result<Vec<Row>, QueryError> {
    let all = selector.map_or(&[][..], |selector| &selector.matchers);
    let names = info_names(all)?;
    let data: Vec<&Matcher> = all.iter().filter(|matcher| matcher.name() != METRIC_NAME).collect();
    let is_info = |row: &Row| names.iter().all(|matcher| matcher.matches(row.metric()));
    let matchers = info_matchers(base.iter().filter(|row| !is_info(row)), &names, &data)?;
    let infos = match matchers {
        None => Vec::new(),
        Some(matchers) => {
            let selector = Selector { name: None, matchers, shift, extension: None };
            evaluator.select_newest(&selector, steps, |_, t, point| match point {
                Point::Float(_) => Point::Float(crate::number::seconds(t) * 1000.0),
                histogram @ Point::Histogram(_) => histogram,
            })?
        }
    };
    let mut out: Vec<Row> = Vec::new();
    let mut at_of: HashMap<(Labels, bool), usize> = HashMap::new();
    let by_identity = by_identity(&infos);
    for row in base {
        evaluator.check_cancelled()?;
        if is_info(&row) {
            out.push(row);
            continue;
        }
        let candidates = by_identity.get(&identity(&row.labels));
        for (step, cell) in row.column.cells() {
            let found = match candidates {
                Some(candidates) => newest(candidates, step)?,
                None => Vec::new(),
            };
            if found.is_empty() && data.iter().any(|matcher| !matcher.matches_absent()) {
                continue;
            }
            let labels = with_info(&row.labels, &found, &data)?;
            let next = out.len();
            let at = *at_of.entry((labels.clone(), row.drop_name)).or_insert(next);
            if at == next {
                let column = Column::empty(steps.count);
                out.push(Row { labels, drop_name: row.drop_name, column });
            }
            let Some(target) = out.get_mut(at) else { continue };
            if target.column.get(step).is_some() {
                return Err(QueryError::same_labelset());
            }
            target.column.set(step, cell.into());
        }
    }
    Ok(out)
}

/// What the names of info series match: what is asked, `target_info` where nothing is, and of
/// whatever looks like one where it is only said what they are not called.
fn info_names(asked: &[Matcher]) -> Result<Vec<Matcher>, QueryError> {
    let mut names: Vec<Matcher> =
        asked.iter().filter(|matcher| matcher.name() == METRIC_NAME).cloned().collect();
    if names.is_empty() {
        names.push(Matcher::equal(METRIC_NAME, DEFAULT_INFO));
    } else if names.iter().all(|name| matches!(name.op(), MatchOp::NotEqual | MatchOp::NotRegex)) {
        names.push(matcher(METRIC_NAME, MatchOp::Regex, ANY_INFO.to_owned())?);
    }
    Ok(names)
}

fn matcher(name: &str, op: MatchOp, value: String) -> Result<Matcher, QueryError> {
    Matcher::new(name, op, value).map_err(|error| QueryError::Execution(error.to_string()))
}

/// What selects the info series of some series; none when they cannot have any.
fn info_matchers<'a>(
    base: impl Iterator<Item = &'a Row>,
    names: &[Matcher],
    data: &[&Matcher],
) -> Result<Option<Vec<Matcher>>, QueryError> {
    let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in base {
        for name in IDENTIFYING {
            if let Some(value) = row.labels.get(name) {
                values.entry(name).or_default().insert(regex::escape(value));
            }
        }
    }
    if values.is_empty() {
        return Ok(None);
    }
    let mut matchers: Vec<Matcher> = data.iter().copied().cloned().collect();
    matchers.extend(names.iter().cloned());
    for (name, values) in values {
        let pattern = values.into_iter().collect::<Vec<_>>().join("|");
        matchers.push(matcher(name, MatchOp::Regex, pattern)?);
    }
    Ok(Some(matchers))
}

fn identity(labels: &Labels) -> Labels {
    labels.retain(|label| IDENTIFYING.contains(&label.name.as_ref()))
}

fn by_identity(infos: &[Row]) -> HashMap<Labels, Vec<&Row>> {
    let mut all: HashMap<Labels, Vec<&Row>> = HashMap::new();
    for row in infos {
        all.entry(identity(&row.labels)).or_default().push(row);
    }
    all
}

/// The newest info series of each name at a step.
fn newest<'a>(candidates: &[&'a Row], step: usize) -> Result<Vec<&'a Row>, QueryError> {
    let mut found: BTreeMap<&str, (TimestampMs, &Row)> = BTreeMap::new();
    for row in candidates {
        let t = match row.column.get(step) {
            None => continue,
            Some(Cell::Float(t)) => to_i64(t),
            Some(Cell::Histogram(_)) => {
                return Err(QueryError::execution(format!(
                    "this should be an info metric, with float samples: {}",
                    labels_text(&row.labels)
                )));
            }
        };
        match found.get(row.metric()) {
            Some((other, _)) if *other > t => {}
            Some((other, existing)) if *other == t => {
                return Err(QueryError::Execution(format!(
                    "found duplicate series for info metric: existing {} @ {other}, new {} @ {t}",
                    labels_text(&existing.labels),
                    labels_text(&row.labels),
                )));
            }
            _ => {
                found.insert(row.metric(), (t, row));
            }
        }
    }
    Ok(found.into_values().map(|(_, row)| row).collect())
}

fn with_info(base: &Labels, infos: &[&Row], data: &[&Matcher]) -> Result<Labels, QueryError> {
    let mut added: BTreeMap<&str, &str> = BTreeMap::new();
    for info in infos {
        for label in &info.labels {
            let name = label.name.as_ref();
            let asked = data.is_empty() || data.iter().any(|matcher| matcher.name() == name);
            if metadata_label(name) || !asked {
                continue;
            }
            if added.get(name).is_some_and(|value| *value != label.value.as_ref()) {
                return Err(QueryError::Execution(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                added.insert(name, &label.value);
            }
        }
    }
    let mut labels = base.clone();
    for (name, value) in added {
        labels = labels.with(name, value);
    }
    Ok(labels)
}
