//! Bars of text: a name, a bar, a value, one line each.

use crate::table::figure;

/// One bar.
pub(super) struct Bar {
    /// What it is of, printable.
    pub(super) name: String,
    /// Its value as it came.
    pub(super) value: String,
    /// How long it is, as a share of the longest; what is no number or below zero has none.
    pub(super) size: f64,
}

/// The shortest the longest bar may be, in columns.
const BAR_COLUMNS_MIN: usize = 10;

/// Eighths of a cell.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// Bars below each other, names flush left, in so many columns; indented by `indent`.
pub(super) fn bars(list: &[Bar], columns: usize, indent: usize) -> String {
    let wide = |text: &str| text.chars().count();
    let values: Vec<String> = list.iter().map(|bar| figure(&bar.value)).collect();
    let value_width = values.iter().map(|value| wide(value)).max().unwrap_or(0);
    let room = columns.saturating_sub(indent + value_width + 4 + BAR_COLUMNS_MIN);
    let names: Vec<String> = list.iter().map(|bar| cut(&bar.name, room.max(12))).collect();
    let name_width = names.iter().map(|name| wide(name)).max().unwrap_or(0);
    let bar_width =
        columns.saturating_sub(indent + name_width + value_width + 4).max(BAR_COLUMNS_MIN);
    let largest = list.iter().map(|bar| bar.size).filter(|size| size.is_finite());
    let largest = largest.fold(0.0, f64::max);
    let mut out = String::new();
    for ((bar, name), value) in list.iter().zip(&names).zip(&values) {
        let share = if largest > 0.0 { bar.size / largest } else { 0.0 };
        let drawn = drawn(share, bar_width);
        let pad = " ".repeat(name_width - wide(name));
        let gap = " ".repeat((bar_width - wide(&drawn)) + (value_width - wide(value)));
        out.push_str(&" ".repeat(indent));
        out.push_str(&format!("{name}{pad}  {drawn}{gap}  {value}\n"));
    }
    out
}

/// A text of at most so many characters; of a longer one the end is left, which tells series apart.
fn cut(text: &str, chars_max: usize) -> String {
    let over = text.chars().count().saturating_sub(chars_max);
    if over == 0 {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(over + 1)).collect()
}

/// A bar of a share of `columns`; anything above nothing is seen.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a length on a screen, clamped to it"
)]
fn drawn(share: f64, columns: usize) -> String {
    if share.is_nan() || share <= 0.0 {
        return String::new();
    }
    let eighths = ((share.min(1.0) * (columns * 8) as f64).round() as usize).max(1);
    let mut out = "█".repeat(eighths / 8);
    out.extend((eighths % 8).checked_sub(1).and_then(|at| EIGHTHS.get(at)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        let bar = |name: &str, value: &str| Bar {
            name: name.into(),
            value: value.into(),
            size: value.parse().unwrap_or(0.0),
        };
        let list =
            [bar("a", "8"), bar("long", "4"), bar("b", "0.01"), bar("c", "-3"), bar("d", "NaN")];
        assert_eq!(
            bars(&list, 22, 1),
            " a     ██████████     8\n long  █████          4\n b     ▏           0.01\n c                   -3\n d                  NaN\n"
        );
        assert_eq!(bars(&[bar("x", "0")], 10, 0), "x              0\n");
        assert_eq!(cut("abcdef", 4), "…def");
    }
}
