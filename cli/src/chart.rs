//! A line chart in a terminal: braille dots, an axis on the left, times below, a legend.
//!
//! Pure: points and a size in, text out. A cell has 2 × 4 dots; where lines share a cell the later
//! one gives the colour. Points that are not finite are gaps.

mod axis;

use std::fmt::Write as _;

pub(crate) use axis::{short, times};

/// One line to draw.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its name in the legend, printable.
    pub(crate) name: String,
    /// Milliseconds since 1970 and value, in order of time.
    pub(crate) points: Vec<(i64, f64)>,
}

/// Where a chart is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Canvas {
    /// Columns in all, the axis included; at least [`COLUMNS_MIN`] are used.
    pub(crate) columns: usize,
    /// Rows of dots, without the time axis and the legend.
    pub(crate) rows: usize,
    /// Whether the terminal takes colours.
    pub(crate) colours: bool,
}

/// Narrower charts say nothing.
pub(crate) const COLUMNS_MIN: usize = 40;

/// The most lines drawn: more cannot be told apart; the rest is counted in the legend.
pub(crate) const LINES_MAX: usize = 8;

/// Colours of the lines in order: the terminal's own bright palette.
const COLOURS: [&str; LINES_MAX] = ["96", "93", "92", "95", "94", "91", "36", "33"];

/// Draws lines between two times and `step_ms` apart; points further apart than that are not
/// joined, so that a gap in the data is a gap in the line.
#[must_use]
pub(crate) fn chart(
    lines: &[Line],
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
    canvas: Canvas,
) -> String {
    let drawn = lines.get(..lines.len().min(LINES_MAX)).unwrap_or_default();
    let finite = || {
        drawn.iter().flat_map(|line| line.points.iter()).filter(|(_, v)| v.is_finite()).map(|p| p.1)
    };
    if finite().next().is_none() {
        return "no points in this range\n".to_owned();
    }
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    let scale = axis::Scale::around(low, high, canvas.rows);
    let ticks = scale.ticks();
    let margin = ticks.iter().map(|(_, text)| text.len()).max().unwrap_or(0) + 2;
    let columns = canvas.columns.max(COLUMNS_MIN) - margin;

    let mut grid = Grid::new(columns, canvas.rows);
    for (colour, line) in drawn.iter().enumerate() {
        let mut last: Option<(i64, usize, usize)> = None;
        for &(t, value) in &line.points {
            if !value.is_finite() {
                last = None;
                continue;
            }
            let x = place(t, start_ms, end_ms, grid.dots_wide());
            let y = scale.dot(value, grid.dots_high());
            match last {
                Some((before, x0, y0)) if t - before <= step_ms.saturating_mul(3) / 2 => {
                    grid.line((x0, y0), (x, y), colour);
                }
                _ => grid.dot(x, y, colour),
            }
            last = Some((t, x, y));
        }
    }

    let mut out = String::new();
    for row in 0..canvas.rows {
        let tick = ticks.iter().find(|(at, _)| *at == row).map_or("", |(_, text)| text);
        let mark = if tick.is_empty() { '│' } else { '┤' };
        let text = grid.row(row, canvas.colours);
        push(&mut out, format_args!("{tick:>wide$} {mark}{text}\n", wide = margin - 2));
    }
    let pad = " ".repeat(margin - 1);
    push(&mut out, format_args!("{pad}└{}\n", "─".repeat(columns)));
    push(&mut out, format_args!("{pad} {}\n", times(start_ms, end_ms, columns)));
    for (colour, line) in drawn.iter().enumerate() {
        legend(&mut out, line, colour, canvas.colours);
    }
    if let more @ 1.. = lines.len() - drawn.len() {
        push(&mut out, format_args!("  and {more} more, not drawn\n"));
    }
    out
}

fn legend(out: &mut String, line: &Line, colour: usize, colours: bool) {
    let values = || line.points.iter().map(|p| p.1).filter(|v| v.is_finite());
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let figures = match values().next_back() {
        Some(last) => format!("last {}  min {}  max {}", short(last), short(low), short(high)),
        None => "no points".to_owned(),
    };
    let dot = painted("●", colour, colours);
    push(out, format_args!("{dot} {}  {figures}\n", line.name));
}

/// The dot a time falls on; times outside are drawn at the edge.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place on a screen: clamped to it, and to the nearest dot is near enough"
)]
fn place(t: i64, start: i64, end: i64, dots: usize) -> usize {
    let span = (end.saturating_sub(start)).max(1) as f64;
    let share = (t.saturating_sub(start) as f64 / span).clamp(0.0, 1.0);
    (share * (dots.saturating_sub(1)) as f64).round() as usize
}

/// Dots in braille cells, and which line coloured each cell last.
struct Grid {
    columns: usize,
    rows: usize,
    cells: Vec<(u8, Option<usize>)>,
}

impl Grid {
    fn new(columns: usize, rows: usize) -> Self {
        Self { columns, rows, cells: vec![(0, None); columns * rows] }
    }

    fn dots_wide(&self) -> usize {
        self.columns * 2
    }

    fn dots_high(&self) -> usize {
        self.rows * 4
    }

    /// Sets a dot; `y` counts from the bottom.
    fn dot(&mut self, x: usize, y: usize, colour: usize) {
        let from_top = self.dots_high().saturating_sub(1).saturating_sub(y);
        let at = (from_top / 4) * self.columns + x / 2;
        let bit = match (x % 2, from_top % 4) {
            (0, row @ 0..3) => 1 << row,
            (_, row @ 0..3) => 8 << row,
            (0, _) => 0x40,
            _ => 0x80,
        };
        if let Some((bits, owner)) = self.cells.get_mut(at) {
            *bits |= bit;
            *owner = Some(colour);
        }
    }

    /// Sets the dots from one to the other (Bresenham, over both axes at once).
    fn line(&mut self, from: (usize, usize), to: (usize, usize), colour: usize) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1));
        for step in 0..=steps {
            let along = |a: usize, b: usize| match steps {
                0 => a,
                _ if b >= a => a + ((b - a) * step + steps / 2) / steps,
                _ => a - ((a - b) * step + steps / 2) / steps,
            };
            self.dot(along(from.0, to.0), along(from.1, to.1), colour);
        }
    }

    fn row(&self, row: usize, colours: bool) -> String {
        let from = row * self.columns;
        let cells = self.cells.get(from..from + self.columns).unwrap_or_default();
        let mut out = String::new();
        for &(bits, owner) in cells {
            let cell = char::from_u32(0x2800 + u32::from(bits)).unwrap_or(' ');
            match owner {
                Some(colour) => out.push_str(&painted(&cell.to_string(), colour, colours)),
                None => out.push(' '),
            }
        }
        out.truncate(out.trim_end_matches(' ').len());
        out
    }
}

fn painted(text: &str, colour: usize, colours: bool) -> String {
    match COLOURS.get(colour).filter(|_| colours) {
        Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        None => text.to_owned(),
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "BUG: a write to memory failed");
}

#[cfg(test)]
mod tests;
