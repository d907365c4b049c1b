//! Rows: labels and a column.

use std::collections::HashMap;

use stoa_model::{Labels, METRIC_NAME};

use super::Column;
use crate::error::QueryError;

/// One series of a vector.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    /// Whether the name no longer says what the values are; it goes in the end.
    pub(crate) drop_name: bool,
    pub(crate) column: Column,
}

impl Row {
    pub(crate) fn new(labels: Labels, column: Column) -> Self {
        Self { labels, drop_name: false, column }
    }

    /// A scalar as a series without labels.
    pub(crate) fn of_scalar(values: Vec<f64>) -> Self {
        Self::new(Labels::empty(), Column::full(values))
    }

    pub(crate) fn metric(&self) -> &str {
        self.labels.metric_name().unwrap_or("")
    }
}

/// The label that says what kind of metric it is, where types and units are labels.
pub(crate) const TYPE_LABEL: &str = "__type__";

/// Whether a label describes the metric itself: it goes with its name, and is ignored where that is.
pub(crate) fn metadata_label(name: &str) -> bool {
    matches!(name, METRIC_NAME | TYPE_LABEL | "__unit__")
}

/// Drops the names that no longer fit.
pub(crate) fn finish(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    let rows = rows
        .into_iter()
        .filter(|row| !row.column.is_empty())
        .map(|row| {
            if row.drop_name {
                let labels = row.labels.retain(|label| !metadata_label(&label.name));
                Row { labels, drop_name: false, column: row.column }
            } else {
                row
            }
        })
        .collect();
    merge(rows)
}

/// Makes rows with equal labels one, unless one of them loses its name in the end and the other
/// does not.
///
/// # Errors
/// When two of them have a sample at the same step.
pub(crate) fn merge(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    if rows.len() < 2 {
        return Ok(rows);
    }
    let mut at_of: HashMap<(Labels, bool), usize> = HashMap::with_capacity(rows.len());
    let mut merged: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        let next = merged.len();
        let at = *at_of.entry((row.labels.clone(), row.drop_name)).or_insert(next);
        match merged.get_mut(at) {
            Some(first) => {
                if !first.column.merge(&row.column) {
                    return Err(QueryError::same_labelset());
                }
            }
            None => merged.push(row),
        }
    }
    Ok(merged)
}
