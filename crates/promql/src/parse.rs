//! Text to expression.
//!
//! The lexer makes tokens, the grammar a tree of them, the check gives every node a type or says
//! why it has none. A tree that comes out of here is well typed: functions have the arguments they
//! take, operators the operands. Every node carries the span of text it came from, because
//! annotations name it. What is known here of evaluation is nothing.
//!
//! The language is Prometheus 3.14's. Its experimental parts are read whatever [`Features`] are on,
//! and then refused where they are not.

pub(crate) mod ast;
mod check;
mod duration;
mod gate;
mod grammar;
mod lexer;
mod printer;
pub(crate) mod signature;
mod string;
mod tree;
mod vocabulary;

use stoa_model::{Matcher, PatternBudget};

use crate::error::QueryError;
use crate::features::Features;
use ast::{Expr, ExprKind, Span};

pub(crate) use lexer::parse_duration_ms;
pub(crate) use string::unquote;
pub use vocabulary::{WordKind, vocabulary};

/// Longest query accepted, in bytes: longer ones are made by mistake.
const QUERY_BYTES_MAX: usize = 1 << 20;

/// Deepest nesting accepted; deeper ones would exhaust a thread's stack.
const DEPTH_MAX: usize = 100;

/// Highest tree accepted; operators in a row nest to the left.
const HEIGHT_MAX: usize = 350;

/// What is wrong with the text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParseError {
    pub(crate) span: Span,
    pub(crate) message: String,
}

impl ParseError {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }

    fn located(&self, query: &str) -> QueryError {
        QueryError::Parse(format!(
            "{}: parse error: {}",
            line_and_column(query, self.span.start),
            self.message
        ))
    }
}

/// A well typed expression, of any part of the language.
pub(crate) fn parse(query: &str) -> Result<Expr, QueryError> {
    parse_with(query, Features::all())
}

/// A well typed expression of what is switched on.
pub(crate) fn parse_with(query: &str, features: Features) -> Result<Expr, QueryError> {
    let expr = parsed(query)?;
    gate::check(&expr, features).map_err(|error| error.located(query))?;
    check::check(&expr).map_err(|error| error.located(query))?;
    Ok(expr)
}

/// An expression whose types nobody has looked at.
fn parsed(query: &str) -> Result<Expr, QueryError> {
    parsed_within(query, &mut PatternBudget::default())
}

fn parsed_within(query: &str, patterns: &mut PatternBudget) -> Result<Expr, QueryError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(QueryError::Parse(format!("query is longer than {QUERY_BYTES_MAX} bytes")));
    }
    grammar::parse_expression(query, patterns).map_err(|error| error.located(query))
}

/// Longest query that is shown laid out or as a tree, in bytes: it takes many times its length.
const SHOWN_BYTES_MAX: usize = 64 << 10;

/// A query as Prometheus lays it out: what takes more than 100 characters on several lines.
///
/// # Errors
/// [`QueryError::Parse`] when the text is not PromQL, or too long.
pub fn format_query(query: &str, features: Features) -> Result<String, QueryError> {
    let expr = for_showing(query, features)?;
    let mut text = String::new();
    let written = printer::Printer { query }.pretty(&mut text, &expr, 0);
    debug_assert!(written.is_ok(), "BUG: a write to memory failed");
    Ok(text)
}

fn for_showing(query: &str, features: Features) -> Result<Expr, QueryError> {
    if query.len() > SHOWN_BYTES_MAX {
        let message = format!("query is longer than {SHOWN_BYTES_MAX} bytes");
        return Err(QueryError::Parse(message));
    }
    parse_with(query, features)
}

/// A query as a tree in JSON, one object per node, as Prometheus's `parse_query` shows it.
///
/// # Errors
/// [`QueryError::Parse`] when the text is not PromQL, or too long.
pub fn query_tree(query: &str, features: Features) -> Result<String, QueryError> {
    let expr = for_showing(query, features)?;
    let mut text = String::new();
    tree::node(&mut text, &expr);
    Ok(text)
}

/// The matchers of a series selector, as `match[]` parameters carry them.
///
/// # Errors
/// [`QueryError::Parse`] when the text is no instant vector selector, or one that could match
/// every series.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    parse_selector_within(text, &mut PatternBudget::default())
}

/// The same, its patterns on a budget for those of many selectors.
///
/// # Errors
/// As [`parse_selector`], and [`QueryError::Parse`] when the budget does not allow it.
pub fn parse_selector_within(
    text: &str,
    patterns: &mut PatternBudget,
) -> Result<Vec<Matcher>, QueryError> {
    let expr = parsed_within(text, patterns)?;
    match expr.kind {
        ExprKind::Selector(selector) if selector.is_plain() => {
            if selector.matchers.iter().all(Matcher::matches_absent) {
                let message = "match[] must contain at least one non-empty matcher";
                return Err(QueryError::Parse(message.into()));
            }
            Ok(selector.matchers)
        }
        _ => Err(QueryError::Parse("1:1: parse error: expected a series selector".into())),
    }
}

/// The matchers of every selector a query reads, for asking what it depends on.
///
/// # Errors
/// [`QueryError::Parse`] when the text is not PromQL.
pub fn selector_groups(query: &str) -> Result<Vec<Vec<Matcher>>, QueryError> {
    let mut groups = Vec::new();
    parse(query)?.visit(&mut |expr| {
        if let ExprKind::Selector(selector) = &expr.kind {
            groups.push(selector.matchers.clone());
        }
        if let ExprKind::Matrix(matrix) = &expr.kind {
            groups.push(matrix.selector.matchers.clone());
        }
    });
    Ok(groups)
}

/// `line:column` of a byte offset, both from 1, as error messages and annotations name a place.
pub(crate) fn line_and_column(query: &str, offset: usize) -> String {
    let before = query.get(..offset.min(query.len())).unwrap_or(query);
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests;
