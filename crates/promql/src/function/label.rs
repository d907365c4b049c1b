//! `label_replace`, `label_join`: other labels, same values.

use stoa_model::METRIC_NAME;
use stoa_model::pattern::anchored;

use crate::error::QueryError;
use crate::eval::{Evaluator, Row};
use crate::parse::ast::Text;

/// What one row is beside looking at samples.
const ROW_VISITS: usize = 512;

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
    rows.into_iter()
        .map(|row| {
            let value = row.labels.get(&source.value).unwrap_or("");
            evaluator.visit(ROW_VISITS + value.len())?;
            let Some(captures) = regex.captures(value) else { return Ok(row) };
            let mut expanded = String::new();
            captures.expand(&template, &mut expanded);
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
