//! The place an error names, shown below the line of the expression it is in.
//!
//! Prometheus's messages name it `line:column`, both from 1, columns in bytes.

use crate::table::printable;

/// The most characters of a line that are shown; a longer one is cut around the place.
const LINE_CHARS_MAX: usize = 100;

/// The line a message is about with a caret below the place; `None` when it names none.
pub(super) fn of(message: &str, expr: &str, colours: bool) -> Option<String> {
    let (line, column) = place(message)?;
    let text = expr.split('\n').nth(line.checked_sub(1)?)?;
    let mut at = column.checked_sub(1)?.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let (before, after) = text.split_at(at);
    let (before, after) = (printable(before), printable(after));
    let long = before.chars().count().saturating_sub(LINE_CHARS_MAX * 2 / 3);
    let ellipsis = if long > 0 { "…" } else { "" };
    let before: String = before.chars().skip(long).collect();
    let room = LINE_CHARS_MAX.saturating_sub(before.chars().count());
    let is_cut = after.chars().count() > room;
    let after: String = after.chars().take(room).collect();
    let rest = if is_cut { "…" } else { "" };
    let pad = " ".repeat(ellipsis.chars().count() + before.chars().count());
    let caret = if colours { "\u{1b}[1;31m^\u{1b}[0m" } else { "^" };
    Some(format!("  {ellipsis}{before}{after}{rest}\n  {pad}{caret}"))
}

/// The `line:column` before `: parse error`, or that in parentheses at the end.
fn place(message: &str) -> Option<(usize, usize)> {
    if let Some((before, _)) = message.split_once(": parse error") {
        return numbers(before.rsplit_once(' ').map_or(before, |(_, last)| last));
    }
    let inside = message.trim_end().strip_suffix(')')?.rsplit_once('(')?.1;
    numbers(inside)
}

fn numbers(text: &str) -> Option<(usize, usize)> {
    let (line, column) = text.split_once(':')?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::of;

    fn check(message: &str, expr: &str, want: Option<&str>) {
        assert_eq!(of(message, expr, false).as_deref(), want, "{message}");
    }

    #[test]
    fn the_place_is_shown_below_its_line() {
        check("invalid parameter \"query\": 1:5: parse error: x", "sum(", Some("  sum(\n      ^"));
        check("2:3: parse error: unexpected", "a\n  )\nb", Some("    )\n    ^"));
        check(
            "metric might not be a counter (1:6)",
            "rate(x[5m])",
            Some("  rate(x[5m])\n       ^"),
        );
        check("1:2: parse error: bytes", "äö", Some("  äö\n  ^"));
        check("1:3: parse error: a tab", "\t\tx", Some("  \\t\\tx\n      ^"));
        check("1:99: parse error: beyond", "x", Some("  x\n   ^"));
        for none in ["execution: no place", "(0:1)", "9:1: parse error: no line", "(a:b)", "(1)"] {
            check(none, "x", None);
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let long = "x".repeat(500);
        let text = of("1:250: parse error: x", &long, true).unwrap();
        let (line, caret) = text.split_once('\n').unwrap();
        assert!(line.chars().count() < 110 && line.contains('…'), "{line}");
        let column = caret.find('\u{1b}').unwrap();
        assert_eq!(column, 2 + 1 + 66, "{caret:?}");
    }
}
