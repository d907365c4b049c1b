//! Rows of labels with a value, as aligned columns a person can read.
//!
//! Text from the network is printed with its control characters escaped: a label value cannot
//! drive the terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// One row: labels and what stands at its right end.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The labels, the metric's name under `__name__`.
    pub(crate) labels: BTreeMap<String, String>,
    /// The value as text.
    pub(crate) value: String,
}

/// Draws a table with one column per label name, the value last and flush right; the header is
/// bold when `colours` says so. No rows give a sentence that says so.
#[must_use]
pub(crate) fn table(rows: &[Row], colours: bool) -> String {
    if rows.is_empty() {
        return "no series match\n".to_owned();
    }
    let names: BTreeSet<&str> =
        rows.iter().flat_map(|row| row.labels.keys().map(String::as_str)).collect();
    let header = names.iter().map(|&name| if name == METRIC_NAME { "metric" } else { name });
    let mut lines: Vec<Vec<String>> = vec![header.chain(["value"]).map(printable).collect()];
    for row in rows {
        let cells = names.iter().map(|&name| row.labels.get(name).map_or("", String::as_str));
        lines.push(cells.chain([row.value.as_str()]).map(printable).collect());
    }
    let widths: Vec<usize> = (0..=names.len())
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(|c| width(c)).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        let mut text = String::new();
        for (column, (cell, &wide)) in line.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(wide - width(cell).min(wide));
            if column == names.len() {
                text.push_str(&pad);
                text.push_str(cell);
            } else {
                text.push_str(cell);
                text.push_str(&pad);
                text.push_str("  ");
            }
        }
        if i == 0 && colours {
            text = format!("\u{1b}[1m{text}\u{1b}[0m");
        }
        out.push_str(&text);
        out.push('\n');
    }
    out
}

const METRIC_NAME: &str = "__name__";

/// Rows of as many cells each, the first the titles, as aligned columns.
#[must_use]
pub(crate) fn columns<R: AsRef<[String]>>(rows: &[R]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.as_ref().iter().map(|c| printable(c)).collect()).collect();
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or_default()];
    for row in &rows {
        for (wide, cell) in widths.iter_mut().zip(row) {
            *wide = width(cell).max(*wide);
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut text = String::new();
        for (cell, &wide) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(wide + 2 - width(cell).min(wide)));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Whether a character steers a terminal, or reorders or hides text.
#[must_use]
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Text of several lines as a terminal may be given it, line by line.
#[must_use]
pub(crate) fn printable_lines(text: &str) -> String {
    text.lines().fold(String::with_capacity(text.len()), |out, line| out + &printable(line) + "\n")
}

/// Text with control characters (and what reorders or hides text) escaped.
#[must_use]
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A moment to the second, for people.
#[must_use]
pub(crate) fn moment(ms: i64) -> String {
    stoa_collector::http::prometheus::rfc3339(ms - ms.rem_euclid(1000))
}

/// A value as a person reads it: whole numbers whole, others with about six digits and never fewer
/// than three decimals. What is not a number stays as it is, as far as it can be printed.
#[must_use]
pub(crate) fn figure(text: &str) -> String {
    let Ok(value) = text.parse::<f64>() else { return printable(text) };
    if text.len() <= FIGURE_CHARS || !value.is_finite() || value.fract() == 0.0 {
        return text.to_owned();
    }
    if value.abs() < 1e-4 {
        return format!("{value:.3e}");
    }
    let decimals = [(100.0, 3), (10.0, 4), (1.0, 5), (0.1, 6), (0.01, 7), (0.001, 8)]
        .into_iter()
        .find(|(from, _)| value.abs() >= *from)
        .map_or(9, |(_, decimals)| decimals);
    let digits = format!("{value:.decimals$}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Shorter values are shown as they came.
const FIGURE_CHARS: usize = 7;

/// How many columns a text takes, near enough: one per character.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// A series as PromQL writes it, printable: `up{job="node"}`.
#[must_use]
pub(crate) fn series_name(labels: &BTreeMap<String, String>) -> String {
    let mut out = labels.get(METRIC_NAME).cloned().unwrap_or_default();
    let rest: Vec<(&String, &String)> =
        labels.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
    if rest.is_empty() && !out.is_empty() {
        return printable(&out);
    }
    out.push('{');
    for (i, (name, value)) in rest.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        let written = write!(out, "{comma}{name}=\"{escaped}\"");
        debug_assert!(written.is_ok(), "BUG: a write to memory failed");
    }
    out.push('}');
    printable(&out)
}

/// A count of things whose word takes an s.
#[must_use]
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(labels: &[(&str, &str)], value: &str) -> Row {
        let labels = labels.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        Row { labels, value: value.to_owned() }
    }

    #[test]
    fn columns_are_aligned_and_values_flush_right() {
        let rows = [
            row(&[("__name__", "up"), ("mode", "idle")], "0.5"),
            row(&[("__name__", "up"), ("cpu", "10")], "12345"),
        ];
        assert_eq!(
            table(&rows, false),
            "metric  cpu  mode  value\n\
             up           idle    0.5\n\
             up      10         12345\n"
        );
        assert!(table(&rows, true).starts_with("\u{1b}[1mmetric"));
        assert_eq!(table(&[row(&[], "1")], false), "value\n    1\n");
        assert_eq!(table(&[], false), "no series match\n");
    }

    #[test]
    fn one_is_no_plural() {
        for (count, want) in [(0, "0 blocks"), (1, "1 block"), (2, "2 blocks")] {
            assert_eq!(counted(count, "block"), want);
        }
    }

    #[test]
    fn values_are_short_and_whole_numbers_whole() {
        for (text, want) in [
            ("1.5045535757575739", "1.50455"),
            ("27924434944", "27924434944"),
            ("1795211836.5724", "1795211836.572"),
            ("0.00017031060605657877", "0.000170311"),
            ("0.8762480681818152", "0.876248"),
            ("-0.01000000000000001", "-0.01"),
            ("1.2345678901e-9", "1.235e-9"),
            ("12.49", "12.49"),
            ("NaN", "NaN"),
            ("+Inf", "+Inf"),
            ("a string", "a string"),
        ] {
            assert_eq!(figure(text), want, "{text}");
        }
        assert_eq!(moment(1999), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn a_label_cannot_drive_the_terminal() {
        let text = table(&[row(&[("a", "\u{1b}[2J\n\u{202e}x")], "1")], false);
        assert!(text.contains("\\u{1b}[2J\\n\\u{202e}x"), "{text}");
        assert_eq!(
            series_name(&row(&[("__name__", "x"), ("a", "\"\u{7}")], "").labels),
            r#"x{a="\"\u{7}"}"#
        );
        assert_eq!(series_name(&row(&[("__name__", "x")], "").labels), "x");
        assert_eq!(series_name(&row(&[], "").labels), "{}");
    }
}
