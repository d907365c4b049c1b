//! `label_replace`, `label_join`: other labels, same values.
//!
//! What they write counts among the bytes of the query until it ends, and is counted before it is made: calls
//! inside calls make texts many times as long. No text is longer than [`TEXT_BYTES_MAX`].

use stoa_model::METRIC_NAME;
use stoa_model::pattern::anchored;

use crate::error::QueryError;
use crate::eval::{Evaluator, Row};
use crate::parse::ast::Text;

/// What one row is beside looking at samples.
const ROW_VISITS: usize = 512;

/// The longest text of a label.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Refuses a text of at most so many bytes before it is made, if that is too much.
fn check_text(evaluator: &Evaluator<'_>, bytes: usize, function: &str) -> Result<(), QueryError> {
    if bytes > TEXT_BYTES_MAX {
        return Err(QueryError::Execution(format!(
            "label value of more than {TEXT_BYTES_MAX} bytes in {function}()"
        )));
    }
    evaluator.visit(bytes)?;
    evaluator.tally.peek_bytes(bytes)
}

/// The name of a label that is to be written.
fn valid_name<'a>(name: &'a Text, what: &str, function: &str) -> Result<&'a str, QueryError> {
    if name.invalid.is_none() && !name.value.is_empty() {
        Ok(&name.value)
    } else {
        Err(QueryError::Execution(format!(
            "invalid {what} label name in {function}(): {}",
            name.value
        )))
    }
}

pub(crate) fn replace(
    evaluator: &Evaluator<'_>,
    rows: Vec<Row>,
    destination: &Text,
    replacement: &Text,
    source: &Text,
    pattern: &Text,
) -> Result<Vec<Row>, QueryError> {
    let regex = anchored(&pattern.value).map_err(|_reason| {
        QueryError::Execution(format!(
            "invalid regular expression in label_replace(): {}",
            pattern.value
        ))
    })?;
    let destination = valid_name(destination, "destination", "label_replace")?;
    let template = template(&replacement.value);
    let places = template.matches('$').count();
    rows.into_iter()
        .map(|row| {
            let value = row.labels.get(&source.value).unwrap_or("");
            evaluator.visit(ROW_VISITS + value.len())?;
            let Some(captures) = regex.captures(value) else { return Ok(row) };
            // Each place takes a part of the value at most.
            let most = places.saturating_mul(value.len()).saturating_add(template.len());
            check_text(evaluator, most, "label_replace")?;
            let mut expanded = String::new();
            captures.expand(&template, &mut expanded);
            evaluator.tally.pin(expanded.len())?;
            Ok(relabelled(row, destination, &expanded))
        })
        .collect()
}

pub(crate) fn join(
    evaluator: &Evaluator<'_>,
    rows: Vec<Row>,
    destination: &Text,
    separator: &Text,
    sources: &[&Text],
) -> Result<Vec<Row>, QueryError> {
    let mut names = Vec::with_capacity(sources.len());
    for source in sources {
        names.push(valid_name(source, "source", "label_join")?);
    }
    let destination = valid_name(destination, "destination", "label_join")?;
    rows.into_iter()
        .map(|row| {
            evaluator.visit(ROW_VISITS)?;
            let values: Vec<&str> =
                names.iter().map(|name| row.labels.get(name).unwrap_or("")).collect();
            let between = values.len().saturating_sub(1).saturating_mul(separator.value.len());
            let bytes = values.iter().map(|value| value.len()).sum::<usize>();
            let bytes = bytes.saturating_add(between);
            check_text(evaluator, bytes, "label_join")?;
            evaluator.tally.pin(bytes)?;
            let joined = values.join(&separator.value);
            Ok(relabelled(row, destination, &joined))
        })
        .collect()
}

fn relabelled(row: Row, name: &str, value: &str) -> Row {
    // A name that is set on purpose stays.
    let drop_name = row.drop_name && name != METRIC_NAME;
    Row { labels: row.labels.with(name, value), drop_name, column: row.column }
}

/// Go's replacement syntax in the regex crate's: both take `$1`, `${1}`, `$name`, `$$`, but a `$`
/// that starts none of them is itself here and nothing in Go.
fn template(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut rest = replacement.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '$' {
            out.push(c);
            continue;
        }
        match rest.peek() {
            Some('$') => {
                rest.next();
                out.push_str("$$");
            }
            Some(next) if *next == '{' || *next == '_' || next.is_alphanumeric() => out.push('$'),
            _ => out.push_str("$$"),
        }
    }
    out
}
