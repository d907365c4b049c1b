//! An expression as text: on one line, or on several as Prometheus lays it out.
//!
//! A node that fits into [`LINE_MAX`] characters stays on its line; of one that does not, each part has a
//! line of its own, indented by two spaces more than the node. What comes out parses to the same
//! expression. Numbers and durations are written as such where they were: so the query is looked at.

use std::fmt::{self, Write};

use stoa_model::{METRIC_NAME, MatchOp, Matcher};

use super::ast::{
    Aggregate, At, Binary, Cardinality, Duration, DurationKind, Expr, ExprKind, Matrix, Selector,
    Shift, Span, Subquery,
};
use super::lexer::is_identifier;
use crate::number::{format_float, format_general, quote, quote_bytes, to_i64};

/// What fits on a line.
const LINE_MAX: usize = 100;

/// Writes an expression of a query.
#[derive(Clone, Copy)]
pub(super) struct Printer<'q> {
    pub(super) query: &'q str,
}

/// Counts what is written, and ends when it is too much.
struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

type Out<'o> = &'o mut dyn Write;

impl Printer<'_> {
    /// The expression over as many lines as it takes.
    pub(super) fn pretty(&self, out: Out<'_>, expr: &Expr, level: usize) -> fmt::Result {
        if self.expr(&mut Room(LINE_MAX), expr).is_ok() {
            // As Prometheus has it, which forgets a subquery.
            if !matches!(expr.kind, ExprKind::Subquery(_)) {
                indent(out, level)?;
            }
            return self.expr(out, expr);
        }
        match &expr.kind {
            ExprKind::Aggregate(aggregate) => {
                indent(out, level)?;
                operator(out, aggregate)?;
                out.write_str("(\n")?;
                if let Some(parameter) = &aggregate.parameter {
                    self.pretty(out, parameter, level + 1)?;
                    out.write_str(",\n")?;
                }
                self.pretty(out, &aggregate.operand, level + 1)?;
                closed(out, level)
            }
            ExprKind::Binary(binary) => {
                self.pretty(out, &binary.left, level + 1)?;
                out.write_char('\n')?;
                indent(out, level)?;
                matching(out, expr, binary)?;
                out.write_char('\n')?;
                self.pretty(out, &binary.right, level + 1)
            }
            ExprKind::Call(call) => {
                indent(out, level)?;
                writeln!(out, "{}(", call.function.name)?;
                for (i, arg) in call.args.iter().enumerate() {
                    if i > 0 {
                        out.write_str(",\n")?;
                    }
                    self.pretty(out, arg, level + 1)?;
                }
                closed(out, level)
            }
            ExprKind::Paren(inner) => {
                indent(out, level)?;
                out.write_str("(\n")?;
                self.pretty(out, inner, level + 1)?;
                closed(out, level)
            }
            ExprKind::Subquery(subquery) => {
                self.pretty(out, &subquery.expr, level)?;
                self.subquery(out, subquery)
            }
            ExprKind::Unary { negate, operand } => {
                indent(out, level)?;
                out.write_char(sign(*negate))?;
                let mut text = String::new();
                self.pretty(&mut text, operand, level)?;
                out.write_str(text.trim())
            }
            ExprKind::Number(_)
            | ExprKind::Text(_)
            | ExprKind::Selector(_)
            | ExprKind::Matrix(_) => {
                indent(out, level)?;
                self.expr(out, expr)
            }
        }
    }

    /// The expression on one line.
    pub(super) fn expr(&self, out: Out<'_>, expr: &Expr) -> fmt::Result {
        match &expr.kind {
            ExprKind::Number(v) => self.number(out, *v, expr.span),
            ExprKind::Text(text) => match &text.invalid {
                Some(bytes) => out.write_str(&quote_bytes(bytes)),
                None => out.write_str(&quote(&text.value)),
            },
            ExprKind::Paren(inner) => {
                out.write_char('(')?;
                self.expr(out, inner)?;
                out.write_char(')')
            }
            ExprKind::Unary { negate, operand } => {
                out.write_char(sign(*negate))?;
                self.expr(out, operand)
            }
            ExprKind::Binary(binary) => {
                self.expr(out, &binary.left)?;
                out.write_char(' ')?;
                matching(out, expr, binary)?;
                out.write_char(' ')?;
                self.expr(out, &binary.right)
            }
            ExprKind::Aggregate(aggregate) => {
                operator(out, aggregate)?;
                out.write_char('(')?;
                if let Some(parameter) = &aggregate.parameter {
                    self.expr(out, parameter)?;
                    out.write_str(", ")?;
                }
                self.expr(out, &aggregate.operand)?;
                out.write_char(')')
            }
            ExprKind::Call(call) => {
                write!(out, "{}(", call.function.name)?;
                for (i, arg) in call.args.iter().enumerate() {
                    if i > 0 {
                        out.write_str(", ")?;
                    }
                    self.expr(out, arg)?;
                }
                out.write_char(')')
            }
            ExprKind::Selector(selector) => {
                series(out, selector)?;
                at(out, &selector.shift)?;
                extension(out, selector)?;
                self.offset(out, &selector.shift)
            }
            ExprKind::Matrix(matrix) => self.matrix(out, matrix),
            ExprKind::Subquery(subquery) => {
                self.expr(out, &subquery.expr)?;
                self.subquery(out, subquery)
            }
        }
    }

    fn matrix(&self, out: Out<'_>, matrix: &Matrix) -> fmt::Result {
        series(out, &matrix.selector)?;
        out.write_char('[')?;
        self.length(out, &matrix.range)?;
        out.write_char(']')?;
        extension(out, &matrix.selector)?;
        at(out, &matrix.selector.shift)?;
        self.offset(out, &matrix.selector.shift)
    }

    /// What stands behind the expression of a subquery.
    fn subquery(&self, out: Out<'_>, subquery: &Subquery) -> fmt::Result {
        out.write_char('[')?;
        self.length(out, &subquery.range)?;
        out.write_char(':')?;
        if let Some(step) = &subquery.step {
            self.length(out, step)?;
        }
        out.write_char(']')?;
        at(out, &subquery.shift)?;
        self.offset(out, &subquery.shift)
    }

    fn offset(&self, out: Out<'_>, shift: &Shift) -> fmt::Result {
        match &shift.offset {
            None => Ok(()),
            Some(offset) if matches!(offset.kind, DurationKind::Seconds(0.0)) => Ok(()),
            Some(offset) => {
                out.write_str(" offset ")?;
                self.length(out, offset)
            }
        }
    }

    /// A duration in brackets or after `offset`, where numbers are seconds.
    fn length(&self, out: Out<'_>, duration: &Duration) -> fmt::Result {
        match &duration.kind {
            DurationKind::Seconds(seconds) => length(out, *seconds),
            _ => self.duration(out, duration),
        }
    }

    fn duration(&self, out: Out<'_>, duration: &Duration) -> fmt::Result {
        let mut call = |name: &str, a: &Duration, b: &Duration| {
            write!(out, "{name}(")?;
            self.duration(out, a)?;
            out.write_str(", ")?;
            self.duration(out, b)?;
            out.write_char(')')
        };
        match &duration.kind {
            DurationKind::Seconds(seconds) => self.number(out, *seconds, duration.span),
            DurationKind::Step => out.write_str("step()"),
            DurationKind::Range => out.write_str("range()"),
            DurationKind::Least(a, b) => call("min_of", a, b),
            DurationKind::Greatest(a, b) => call("max_of", a, b),
            DurationKind::Negate(inner) => {
                out.write_char('-')?;
                self.duration(out, inner)
            }
            DurationKind::Paren(inner) => {
                out.write_char('(')?;
                self.duration(out, inner)?;
                out.write_char(')')
            }
            DurationKind::Binary(op, left, right) => {
                self.duration(out, left)?;
                write!(out, " {} ", op.as_str())?;
                self.duration(out, right)
            }
        }
    }

    /// A number, as a duration where it was written as one.
    fn number(&self, out: Out<'_>, v: f64, span: Span) -> fmt::Result {
        let written = self.query.get(span.start..span.end).unwrap_or("");
        let written = written.trim_matches(|c: char| matches!(c, '(' | ')' | '-' | '+' | ' '));
        if super::parse_duration_ms(written).is_some() {
            return length(out, v);
        }
        // With its sign, infinity would be an operation where it is raised to a power.
        out.write_str(format_float(v).trim_start_matches('+'))
    }
}

fn indent(out: Out<'_>, level: usize) -> fmt::Result {
    (0..level).try_for_each(|_| out.write_str("  "))
}

fn closed(out: Out<'_>, level: usize) -> fmt::Result {
    out.write_char('\n')?;
    indent(out, level)?;
    out.write_char(')')
}

fn sign(negate: bool) -> char {
    if negate { '-' } else { '+' }
}

/// `sum by (a) `
fn operator(out: Out<'_>, aggregate: &Aggregate) -> fmt::Result {
    out.write_str(aggregate.op.as_str())?;
    if aggregate.without || !aggregate.grouping.is_empty() {
        out.write_str(if aggregate.without { " without (" } else { " by (" })?;
        names(out, &aggregate.grouping)?;
        out.write_str(") ")?;
    }
    Ok(())
}

/// `== bool on (a) group_left (b) fill (0)`
fn matching(out: Out<'_>, expr: &Expr, binary: &Binary) -> fmt::Result {
    out.write_str(binary.op.as_str())?;
    if binary.return_bool {
        out.write_str(" bool")?;
    }
    if !expr.matches_vectors() {
        return Ok(());
    }
    let matching = &binary.matching;
    let group = match matching.cardinality {
        Cardinality::ManyToOne => Some("left"),
        Cardinality::OneToMany => Some("right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if matching.on || !matching.labels.is_empty() || group.is_some() {
        out.write_str(if matching.on { " on (" } else { " ignoring (" })?;
        names(out, &matching.labels)?;
        out.write_char(')')?;
    }
    if let Some(side) = group {
        write!(out, " group_{side} (")?;
        names(out, &matching.include)?;
        out.write_char(')')?;
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
            write!(out, " fill ({})", format_general(left))
        }
        (left, right) => {
            if let Some(left) = left {
                write!(out, " fill_left ({})", format_general(left))?;
            }
            if let Some(right) = right {
                write!(out, " fill_right ({})", format_general(right))?;
            }
            Ok(())
        }
    }
}

fn names(out: Out<'_>, names: &[String]) -> fmt::Result {
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            out.write_str(", ")?;
        }
        label(out, name)?;
    }
    Ok(())
}

fn label(out: Out<'_>, name: &str) -> fmt::Result {
    if is_identifier(name) { out.write_str(name) } else { out.write_str(&quote(name)) }
}

/// `name{a="b",c="d"}`
fn series(out: Out<'_>, selector: &Selector) -> fmt::Result {
    let is_name = |matcher: &Matcher| {
        matcher.name() == METRIC_NAME
            && matcher.op() == MatchOp::Equal
            && selector.name.as_deref() == Some(matcher.value())
    };
    if let Some(name) = &selector.name {
        out.write_str(name)?;
    }
    let mut matchers = Vec::new();
    for matcher in selector.matchers.iter().filter(|matcher| !is_name(matcher)) {
        let mut text = String::new();
        label(&mut text, matcher.name())?;
        write!(text, "{}{}", matcher.op().as_str(), quote(matcher.value()))?;
        matchers.push(text);
    }
    if matchers.is_empty() {
        // A selector that only `info` takes.
        return if selector.name.is_none() { out.write_str("{}") } else { Ok(()) };
    }
    matchers.sort();
    write!(out, "{{{}}}", matchers.join(","))
}

fn at(out: Out<'_>, shift: &Shift) -> fmt::Result {
    match shift.at {
        None => Ok(()),
        Some(At::Start) => out.write_str(" @ start()"),
        Some(At::End) => out.write_str(" @ end()"),
        Some(At::Time(t)) => {
            let sign = if t < 0 { "-" } else { "" };
            let (seconds, ms) = (t.unsigned_abs() / 1000, t.unsigned_abs() % 1000);
            write!(out, " @ {sign}{seconds}.{ms:03}")
        }
    }
}

fn extension(out: Out<'_>, selector: &Selector) -> fmt::Result {
    match selector.extension {
        None => Ok(()),
        Some(extension) => write!(out, " {}", extension.as_str()),
    }
}

/// `1h30m`; years and weeks only where nothing else is left.
fn length(out: Out<'_>, seconds: f64) -> fmt::Result {
    let ms = to_i64((seconds * 1000.0).round());
    if ms < 0 {
        out.write_char('-')?;
    }
    let mut ms = ms.unsigned_abs();
    if ms == 0 {
        return out.write_str("0s");
    }
    for (unit, size, is_exact) in [
        ("y", 365 * 86_400_000, true),
        ("w", 7 * 86_400_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1_000, false),
        ("ms", 1, false),
    ] {
        if ms >= size && (!is_exact || ms.is_multiple_of(size)) {
            write!(out, "{}{unit}", ms / size)?;
            ms %= size;
        }
    }
    Ok(())
}
