//! Aggregations that choose among series, `topk`, `bottomk`, `limitk`, `limit_ratio`, and the one
//! that counts their values, `count_values`.

use std::cmp::Ordering;
use std::collections::HashMap;

use stoa_model::Labels;

use super::aggregate::group_labels;
use super::column::{Bits, Cell};
use super::{Column, Evaluator, Row, Steps, merge};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::number::{count, format_float, format_general, quote_bytes, to_usize};
use crate::parse::ast::{Aggregate, AggregateOp, ExprKind, Span};

impl Evaluator<'_> {
    pub(super) fn pick(
        &self,
        span: Span,
        aggregate: &Aggregate,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        let op = aggregate.op;
        let Some(parameter_expr) = &aggregate.parameter else { return Ok(Vec::new()) };
        let parameter = self.eval_scalar(parameter_expr, steps)?;
        let mut rows = self.in_order(self.eval_vector(&aggregate.operand, steps)?)?;
        self.check_parameter(op, &parameter, parameter_expr.span)?;
        let ratios: Vec<f64> = match op {
            AggregateOp::LimitRatio => rows.iter().map(|row| ratio_of(&row.labels)).collect(),
            _ => Vec::new(),
        };
        let shows_order = self.ordered == Some(span);
        let mut order: Vec<usize> = Vec::new();
        let mut kept: Vec<Bits> = rows.iter().map(|_| Bits::new(steps.count)).collect();
        let mut candidates: Vec<(usize, f64)> = Vec::new();
        for group in self.groups(&rows, &aggregate.grouping, aggregate.without)? {
            self.check_cancelled()?;
            for step in 0..steps.count {
                self.visit(1 + group.rows.len())?;
                let parameter = parameter.get(step).copied().unwrap_or(f64::NAN);
                candidates.clear();
                for at in &group.rows {
                    match (rows.get(*at).and_then(|row| row.column.get(step)), op) {
                        (None, _) => {}
                        (Some(Cell::Float(v)), _) => candidates.push((*at, v)),
                        (Some(_), AggregateOp::LimitK | AggregateOp::LimitRatio) => {
                            candidates.push((*at, 0.0));
                        }
                        (Some(Cell::Histogram(_)), _) if parameter >= 1.0 => {
                            self.note(&Note::HistogramIgnored { aggregation: op.as_str() }, span);
                        }
                        (Some(_), _) => {}
                    }
                }
                match op {
                    AggregateOp::TopK => candidates.sort_by(|a, b| by_value(b.1, a.1, a.1, b.1)),
                    AggregateOp::BottomK => candidates.sort_by(|a, b| by_value(a.1, b.1, a.1, b.1)),
                    AggregateOp::LimitRatio => candidates.retain(|(at, _)| {
                        ratios.get(*at).is_some_and(|ratio| is_sampled(parameter, *ratio))
                    }),
                    _ => {}
                }
                if op != AggregateOp::LimitRatio {
                    candidates.truncate(to_usize(parameter));
                }
                for (at, _) in &candidates {
                    if let Some(bits) = kept.get_mut(*at) {
                        bits.set(step);
                    }
                    if shows_order {
                        order.push(*at);
                    }
                }
            }
        }
        for (row, bits) in rows.iter_mut().zip(&kept) {
            row.column.keep(bits);
        }
        if shows_order {
            // An instant query shows them in the order they were chosen.
            let mut slots: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
            return Ok(order.into_iter().filter_map(|at| slots.get_mut(at)?.take()).collect());
        }
        rows.retain(|row| !row.column.is_empty());
        Ok(rows)
    }

    fn check_parameter(
        &self,
        op: AggregateOp,
        parameter: &[f64],
        span: Span,
    ) -> Result<(), QueryError> {
        // A parameter that is read is no number in a rehearsal.
        let nan = !self.caller.rehearses() && parameter.iter().any(|v| v.is_nan());
        let largest = parameter.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let smallest = parameter.iter().copied().fold(f64::INFINITY, f64::min);
        if op == AggregateOp::LimitRatio {
            if nan {
                return Err(QueryError::execution("Ratio value is NaN"));
            }
            if largest > 1.0 {
                self.note(&Note::InvalidRatio { got: largest, used: 1.0 }, span);
            }
            if smallest < -1.0 {
                self.note(&Note::InvalidRatio { got: smallest, used: -1.0 }, span);
            }
            return Ok(());
        }
        if nan {
            return Err(QueryError::execution("Parameter value is NaN"));
        }
        if largest >= 1.0 {
            if smallest <= -9_223_372_036_854_775_808.0 {
                return Err(QueryError::Execution(format!(
                    "Scalar value {} underflows int64",
                    format_general(smallest)
                )));
            }
            if largest >= 9_223_372_036_854_775_808.0 {
                return Err(QueryError::Execution(format!(
                    "Scalar value {} overflows int64",
                    format_general(largest)
                )));
            }
        }
        Ok(())
    }

    pub(super) fn count_values(
        &self,
        aggregate: &Aggregate,
        steps: &Steps,
    ) -> Result<Vec<Row>, QueryError> {
        let Some(ExprKind::Text(label)) =
            aggregate.parameter.as_ref().map(|parameter| &parameter.unwrapped().kind)
        else {
            return Ok(Vec::new());
        };
        if label.invalid.is_some() || label.value.is_empty() {
            let bytes = label.invalid.as_deref().unwrap_or(label.value.as_bytes());
            return Err(QueryError::Execution(format!(
                "invalid label name {}",
                quote_bytes(bytes)
            )));
        }
        let mut grouping = aggregate.grouping.clone();
        if !aggregate.without {
            grouping.push(label.value.clone());
        }
        let rows = self.eval_vector(&aggregate.operand, steps)?;
        let mut at_of: HashMap<Labels, usize> = HashMap::new();
        let mut out: Vec<Row> = Vec::new();
        for row in &rows {
            self.check_cancelled()?;
            self.visit(8 * steps.count)?;
            let mut by_text: HashMap<String, usize> = HashMap::new();
            for (step, cell) in row.column.cells() {
                let text = match cell {
                    Cell::Float(v) => format_float(v),
                    Cell::Histogram(histogram) => histogram.to_string(),
                };
                let at = if let Some(at) = by_text.get(&text) {
                    *at
                } else {
                    let labelled = row.labels.with(&label.value, &text);
                    let labels = group_labels(&labelled, &grouping, aggregate.without);
                    let next = out.len();
                    let at = *at_of.entry(labels.clone()).or_insert(next);
                    if at == next {
                        self.check_size(next + 1, steps)?;
                        out.push(Row::new(labels, Column::empty(steps.count)));
                    }
                    by_text.insert(text, at);
                    at
                };
                if let Some(counts) = out.get_mut(at) {
                    let so_far = match counts.column.get(step) {
                        Some(Cell::Float(v)) => v,
                        _ => 0.0,
                    };
                    counts.column.set_float(step, so_far + 1.0);
                }
            }
        }
        merge(out)
    }
}

/// NaN last, whichever way the others are ordered.
fn by_value(first: f64, second: f64, a: f64, b: f64) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then(first.partial_cmp(&second).unwrap_or(Ordering::Equal))
}

/// Whether a series belongs to a sample of that ratio; a negative one is the complement.
fn is_sampled(ratio: f64, place: f64) -> bool {
    if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
}

/// Where a series stands in 0..1, the same in every query.
fn ratio_of(labels: &Labels) -> f64 {
    let mut bytes = Vec::with_capacity(labels.text_bytes() + 2 * labels.len());
    for label in labels {
        for text in [&label.name, &label.value] {
            push_length(&mut bytes, text.len());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    let hash = crate::function::xxhash::xxh64(&bytes);
    count(usize::try_from(hash).unwrap_or(usize::MAX)) / 18_446_744_073_709_551_616.0
}

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short) if short < 255 => bytes.push(short),
        _ => {
            bytes.push(255);
            bytes.extend(length.to_le_bytes().into_iter().take(3));
        }
    }
}
