//! Which rows of two vectors belong together.

use std::collections::HashMap;

use stoa_model::Labels;

use super::{Evaluator, Row, metadata_label};
use crate::error::QueryError;
use crate::parse::ast::{BinaryOp, Cardinality, Matching};

/// The labels that decide about a match.
pub(super) fn signature(labels: &Labels, matching: &Matching) -> Labels {
    labels.retain(|label| {
        let listed = matching.labels.iter().any(|name| name.as_str() == label.name.as_ref());
        if matching.on { listed } else { !listed && !metadata_label(&label.name) }
    })
}

/// What matching a row is beside looking at samples.
const ROW_VISITS: usize = 64;

/// Rows of both sides by signature.
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
}

#[derive(Default)]
pub(super) struct Group {
    pub(super) signature: Labels,
    /// Indexes of rows on the left.
    pub(super) left: Vec<usize>,
    /// Indexes of rows on the right.
    pub(super) right: Vec<usize>,
}

impl Groups {
    pub(super) fn new(
        evaluator: &Evaluator<'_>,
        left: &[Row],
        right: &[Row],
        matching: &Matching,
    ) -> Result<Self, QueryError> {
        let mut groups: Vec<Group> = Vec::new();
        let mut at_of: HashMap<Labels, usize> = HashMap::new();
        let mut group_of = |row: &Row, groups: &mut Vec<Group>| -> usize {
            let signature = signature(&row.labels, matching);
            *at_of.entry(signature).or_insert_with_key(|signature| {
                groups.push(Group { signature: signature.clone(), ..Group::default() });
                groups.len() - 1
            })
        };
        for (i, row) in left.iter().enumerate() {
            evaluator.visit(ROW_VISITS)?;
            let at = group_of(row, &mut groups);
            if let Some(group) = groups.get_mut(at) {
                group.left.push(i);
            }
        }
        for (i, row) in right.iter().enumerate() {
            evaluator.visit(ROW_VISITS)?;
            let at = group_of(row, &mut groups);
            if let Some(group) = groups.get_mut(at) {
                group.right.push(i);
            }
        }
        Ok(Self { groups })
    }
}

/// The labels of the result of a match. `many` is the left side, or the right one with
/// `group_right`.
pub(super) fn result_labels(
    many: &Labels,
    one: &Labels,
    op: BinaryOp,
    matching: &Matching,
) -> Labels {
    let mut labels = many.clone();
    if op.changes_schema() {
        labels = labels.retain(|label| !metadata_label(&label.name));
    }
    if matching.cardinality == Cardinality::OneToOne {
        labels = labels.retain(|label| {
            let listed = matching.labels.iter().any(|name| name.as_str() == label.name.as_ref());
            listed == matching.on
        });
    }
    for name in &matching.include {
        labels = labels.with(name, one.get(name).unwrap_or(""));
    }
    labels
}

/// Labels as Prometheus prints them in this place: the name among them.
pub(crate) fn labels_text(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|label| format!("{}={}", label.name, crate::number::quote(&label.value)))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
