//! Binary operators on scalars and vectors, row by row.

use std::collections::HashMap;

use stoa_model::Labels;

use super::arithmetic::{compare, elements, scalars};
use super::column::{Bits, Cell, Point};
use super::matching::{Group, Groups, labels_text, result_labels};
use super::{Column, Evaluated, Evaluator, Row, Steps, merge};
use crate::error::QueryError;
use crate::number::quote;
use crate::parse::ast::{Binary, BinaryOp, Cardinality, Span, Type};

impl Evaluator<'_> {
    pub(super) fn binary(
        &self,
        span: Span,
        binary: &Binary,
        steps: &Steps,
    ) -> Result<Evaluated, QueryError> {
        let op = binary.op;
        let rows = match (binary.left.value_type(), binary.right.value_type()) {
            (Type::Scalar, Type::Scalar) if op.is_trim() => {
                return Err(QueryError::Execution(format!(
                    "operator {} not allowed for Scalar operations",
                    quote(op.as_str())
                )));
            }
            (Type::Scalar, Type::Scalar) => {
                let left = self.eval_scalar(&binary.left, steps)?;
                let right = self.eval_scalar(&binary.right, steps)?;
                let values = left.iter().zip(&right).map(|(l, r)| scalars(op, *l, *r)).collect();
                return Ok(Evaluated::Scalar(values));
            }
            (Type::Vector, Type::Scalar) => {
                let rows = self.eval_vector(&binary.left, steps)?;
                let scalar = self.eval_scalar(&binary.right, steps)?;
                self.with_scalar(span, binary, rows, &scalar, false)?
            }
            (Type::Scalar, Type::Vector) => {
                let scalar = self.eval_scalar(&binary.left, steps)?;
                let rows = self.eval_vector(&binary.right, steps)?;
                self.with_scalar(span, binary, rows, &scalar, true)?
            }
            _ => {
                let left = self.eval_vector(&binary.left, steps)?;
                let right = self.eval_vector(&binary.right, steps)?;
                if op.is_set() {
                    self.set_operation(binary, left, right, steps)?
                } else {
                    self.vectors(span, binary, &left, &right, steps)?
                }
            }
        };
        Ok(Evaluated::Vector(rows))
    }

    /// `swapped`: the scalar stands on the left.
    fn with_scalar(
        &self,
        span: Span,
        binary: &Binary,
        rows: Vec<Row>,
        scalar: &[f64],
        swapped: bool,
    ) -> Result<Vec<Row>, QueryError> {
        let op = binary.op;
        let mut out = Vec::with_capacity(rows.len());
        for mut row in rows {
            self.check_cancelled()?;
            let changed = !op.is_trim()
                && row.column.change_floats(|step, v| {
                    let number = scalar.get(step).copied().unwrap_or(f64::NAN);
                    let (left, right) = if swapped { (number, *v) } else { (*v, number) };
                    if !op.is_comparison() {
                        *v = scalars(op, left, right);
                        return true;
                    }
                    let holds = compare(op, left, right);
                    if binary.return_bool {
                        *v = f64::from(u8::from(holds));
                    }
                    holds || binary.return_bool
                });
            if changed {
                if !row.column.is_empty() {
                    row.drop_name |= op.changes_schema() || binary.return_bool;
                    out.push(row);
                }
                continue;
            }
            let column = row.column.filter_map(|step, cell| {
                let number = Cell::Float(scalar.get(step).copied().unwrap_or(f64::NAN));
                let (left, right) = if swapped { (number, cell) } else { (cell, number) };
                let outcome = match elements(op, left, right) {
                    Ok(outcome) => outcome,
                    Err(note) => {
                        self.note(&note, span);
                        return None;
                    }
                };
                for note in &outcome.notes {
                    self.note(note, span);
                }
                if binary.return_bool {
                    return Some(truth(outcome.holds));
                }
                if op.is_comparison() {
                    return outcome.holds.then(|| cell.into());
                }
                Some(outcome.point)
            });
            if !column.is_empty() {
                let drop_name = row.drop_name || op.changes_schema() || binary.return_bool;
                out.push(Row { labels: row.labels, drop_name, column });
            }
        }
        Ok(out)
    }

    fn vectors(
        &self,
        span: Span,
        binary: &Binary,
        left: &[Row],
        right: &[Row],
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        // From here on "many" is the left side, or the right one with `group_right`.
        let swapped = binary.matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let groups = Groups::new(self, many, one, &binary.matching)?;
        self.check_size(many.len(), steps)?;
        let mut joined = Joined {
            binary,
            span,
            swapped,
            many,
            one,
            steps: steps.count,
            results: Vec::new(),
            by_labels: HashMap::new(),
            by_rows: HashMap::new(),
        };
        for group in &groups.groups {
            self.check_cancelled()?;
            if joined.join_floats(group)? {
                continue;
            }
            for step in 0..steps.count {
                self.visit(16 * (group.left.len() + group.right.len()))?;
                self.join(&mut joined, group, step)?;
            }
        }
        joined.results.retain(|row| !row.column.is_empty());
        Ok(joined.results)
    }

    /// Matches the samples of one group at one step.
    fn join(&self, joined: &mut Joined<'_>, group: &Group, step: usize) -> Result<(), QueryError> {
        let matching = &joined.binary.matching;
        let cell = |rows: &'_ [Row], at: usize| -> Option<Point> {
            rows.get(at)?.column.get(step).map(Point::from)
        };
        let mut one: Option<(usize, Point)> = None;
        for at in &group.right {
            let Some(point) = cell(joined.one, *at) else { continue };
            if let Some((first, _)) = one {
                return Err(many_to_many(joined, group, first, *at));
            }
            one = Some((*at, point));
        }
        // `fill_left` and `fill_right` speak of the sides as written.
        let (fill_many, fill_one) = if joined.swapped {
            (matching.fill_right, matching.fill_left)
        } else {
            (matching.fill_left, matching.fill_right)
        };
        let mut seen: Vec<usize> = Vec::new();
        // A sample that the operator does not take is not missing.
        let mut is_missing = true;
        for at in &group.left {
            let Some(point) = cell(joined.many, *at) else { continue };
            is_missing = false;
            let (one_at, one_point) = match (&one, fill_one) {
                (Some((one_at, one_point)), _) => (Some(*one_at), one_point.clone()),
                (None, Some(fill)) => (None, Point::Float(fill)),
                (None, None) => continue,
            };
            let Some(point) = self.combine(joined, point, one_point) else { continue };
            let target = joined.target(group, Some(*at), one_at);
            if matching.cardinality == Cardinality::OneToOne && !seen.is_empty() {
                return Err(QueryError::execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                ));
            }
            if seen.contains(&target) {
                return Err(QueryError::execution(
                    "multiple matches for labels: grouping labels must ensure unique matches",
                ));
            }
            seen.push(target);
            if let Some(point) = point {
                joined.set(target, step, point)?;
            }
        }
        if let (true, Some(fill), Some((one_at, one_point))) = (is_missing, fill_many, one)
            && let Some(Some(point)) = self.combine(joined, Point::Float(fill), one_point)
        {
            let target = joined.target(group, None, Some(one_at));
            joined.set(target, step, point)?;
        }
        Ok(())
    }

    /// What the operator makes of two values; none when it does not take them, and a value of none
    /// when a comparison does not hold.
    fn combine(&self, joined: &Joined<'_>, many: Point, one: Point) -> Option<Option<Point>> {
        let (left, right) = if joined.swapped { (one, many) } else { (many, one) };
        let outcome = match elements(joined.binary.op, left.as_cell(), right.as_cell()) {
            Ok(outcome) => outcome,
            Err(note) => {
                self.note(&note, joined.span);
                return None;
            }
        };
        for note in &outcome.notes {
            self.note(note, joined.span);
        }
        if joined.binary.return_bool {
            return Some(Some(truth(outcome.holds)));
        }
        Some(outcome.holds.then_some(outcome.point))
    }
}

/// Two samples on the side that must have one.
fn many_to_many(joined: &Joined<'_>, group: &Group, first: usize, second: usize) -> QueryError {
    let mut both: Vec<&Labels> = [first, second]
        .iter()
        .filter_map(|at| joined.one.get(*at))
        .map(|row| &row.labels)
        .collect();
    both.sort();
    let both: Vec<String> = both.into_iter().map(labels_text).collect();
    QueryError::Execution(format!(
        "found duplicate series for the match group {} on the {} hand-side of the operation: [{}];many-to-many matching not allowed: matching labels must be unique on one side",
        labels_text(&group.signature),
        if joined.swapped { "left" } else { "right" },
        both.join(", "),
    ))
}

fn truth(holds: bool) -> Point {
    Point::Float(if holds { 1.0 } else { 0.0 })
}

/// Two vectors being matched.
struct Joined<'a> {
    binary: &'a Binary,
    span: Span,
    /// Whether `many` is the right side.
    swapped: bool,
    many: &'a [Row],
    one: &'a [Row],
    steps: usize,
    results: Vec<Row>,
    /// Result rows by their labels and whether they lose their name.
    by_labels: HashMap<(Labels, bool), usize>,
    /// Result rows by the rows they come from.
    by_rows: HashMap<(Option<usize>, Option<usize>), usize>,
}

impl Joined<'_> {
    /// Matches all samples of a group of one row on each side, whole columns at a time. False, and
    /// nothing done, when it is another group, or the rows are not of floats only.
    fn join_floats(&mut self, group: &Group) -> Result<bool, QueryError> {
        let (op, matching) = (self.binary.op, &self.binary.matching);
        let ([many_at], [one_at]) = (group.left.as_slice(), group.right.as_slice()) else {
            return Ok(false);
        };
        if op.is_trim() || matching.fill_left.is_some() || matching.fill_right.is_some() {
            return Ok(false);
        }
        let (Some(many), Some(one)) = (self.many.get(*many_at), self.one.get(*one_at)) else {
            return Ok(false);
        };
        let (Some(_), Some(others)) = (many.column.as_floats(), one.column.as_floats()) else {
            return Ok(false);
        };
        if !many.column.present().intersects(one.column.present()) {
            return Ok(true);
        }
        let (swapped, return_bool) = (self.swapped, self.binary.return_bool);
        let mut column = many.column.clone();
        column.keep(one.column.present());
        column.change_floats(|step, v| {
            let other = others.get(step).copied().unwrap_or(f64::NAN);
            let (left, right) = if swapped { (other, *v) } else { (*v, other) };
            if op.is_comparison() {
                let holds = compare(op, left, right);
                *v = if return_bool { f64::from(u8::from(holds)) } else { left };
                return holds || return_bool;
            }
            *v = scalars(op, left, right);
            true
        });
        let target = self.target(group, Some(*many_at), Some(*one_at));
        let Some(row) = self.results.get_mut(target) else { return Ok(true) };
        if row.column.is_empty() {
            row.column = column;
        } else if !row.column.merge(&column) {
            return Err(QueryError::same_labelset());
        }
        Ok(true)
    }

    /// The result row of a match; a filled side has no row.
    fn target(&mut self, group: &Group, many: Option<usize>, one: Option<usize>) -> usize {
        // A missing partner's labels are the group's, so the group is the other row's.
        if let Some(at) = self.by_rows.get(&(many, one)) {
            return *at;
        }
        let many_row = many.and_then(|at| self.many.get(at));
        let one_row = one.and_then(|at| self.one.get(at));
        let labels = result_labels(
            many_row.map_or(&group.signature, |row| &row.labels),
            one_row.map_or(&group.signature, |row| &row.labels),
            self.binary.op,
            &self.binary.matching,
        );
        let drop_name = self.binary.return_bool || many_row.is_some_and(|row| row.drop_name);
        let next = self.results.len();
        let at = *self.by_labels.entry((labels.clone(), drop_name)).or_insert(next);
        if at == next {
            self.results.push(Row { labels, drop_name, column: Column::empty(self.steps) });
        }
        self.by_rows.insert((many, one), at);
        at
    }

    fn set(&mut self, target: usize, step: usize, point: Point) -> Result<(), QueryError> {
        let Some(row) = self.results.get_mut(target) else { return Ok(()) };
        if row.column.get(step).is_some() {
            return Err(QueryError::same_labelset());
        }
        row.column.set(step, point);
        Ok(())
    }
}

impl Evaluator<'_> {
    /// `and`, `or`, `unless`: presence only, whole columns at a time.
    fn set_operation(
        &self,
        binary: &Binary,
        mut left: Vec<Row>,
        mut right: Vec<Row>,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        let groups = Groups::new(self, &left, &right, &binary.matching)?;
        for group in &groups.groups {
            self.visit(steps.count * (group.left.len() + group.right.len()))?;
            let union = |rows: &[Row], indexes: &[usize]| {
                let mut union = Bits::new(steps.count);
                for row in indexes.iter().filter_map(|at| rows.get(*at)) {
                    union.or(row.column.present());
                }
                union
            };
            let (side, indexes, other) = match binary.op {
                BinaryOp::Or => (&mut right, &group.right, union(&left, &group.left)),
                _ => (&mut left, &group.left, union(&right, &group.right)),
            };
            for at in indexes {
                if let Some(row) = side.get_mut(*at) {
                    match binary.op {
                        BinaryOp::And => row.column.keep(&other),
                        _ => row.column.remove(&other),
                    }
                }
            }
        }
        if binary.op == BinaryOp::Or {
            left.append(&mut right);
        }
        left.retain(|row| !row.column.is_empty());
        merge(left)
    }
}
