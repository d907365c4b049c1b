//! Native histograms over time: buckets upwards, time to the right, the fuller the darker.

use super::histogram::{Bucket, Histogram, fewer};
use crate::chart::{short, times};

/// From nothing to the fullest.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

/// Draws the histograms of one series between two times.
pub(super) fn heatmap(
    list: &[(i64, &Histogram)],
    start: i64,
    end: i64,
    columns: usize,
    rows: usize,
) -> String {
    let bands = bands(list, rows);
    if bands.is_empty() {
        return "  nothing observed\n".to_owned();
    }
    let names: Vec<String> = bands.iter().map(|band| short(band.upper)).collect();
    let margin = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) + 2;
    let width = columns.saturating_sub(margin).max(20);
    let mut cells = vec![0.0_f64; bands.len() * width];
    for (t, histogram) in list {
        let x = place(*t, start, end, width);
        for bucket in histogram.buckets() {
            let band = bands.partition_point(|band| band.upper < bucket.upper);
            if let Some(cell) = cells.get_mut(band.min(bands.len() - 1) * width + x) {
                // Of several points in one column the fullest is seen.
                *cell = cell.max(bucket.count);
            }
        }
    }
    let fullest = cells.iter().copied().filter(|count| count.is_finite()).fold(0.0, f64::max);
    let mut out = String::new();
    for (row, name) in cells.chunks(width).zip(&names).rev() {
        let line: String = row.iter().map(|count| shade(*count, fullest)).collect();
        out.push_str(&format!("{name:>wide$} │{}\n", line.trim_end(), wide = margin - 2));
    }
    out.push_str(&format!("{}└{}\n", " ".repeat(margin - 1), "─".repeat(width)));
    out.push_str(&format!("{} {}\n", " ".repeat(margin - 1), times(start, end, width)));
    out
}

/// The buckets there are at any time, neighbours joined until they fit the rows.
fn bands(list: &[(i64, &Histogram)], rows: usize) -> Vec<Bucket> {
    let mut all: Vec<Bucket> = list.iter().flat_map(|(_, found)| found.buckets()).collect();
    all.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    all.dedup_by(|a, b| a.upper.total_cmp(&b.upper).is_eq());
    fewer(&all, rows)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "one of five shades, clamped to them"
)]
fn shade(count: f64, fullest: f64) -> char {
    if count.is_nan() || count <= 0.0 || fullest <= 0.0 {
        return ' ';
    }
    let step = (count / fullest * 4.0).ceil().clamp(1.0, 4.0) as usize;
    SHADES.get(step).copied().unwrap_or(' ')
}

/// The column of a time; times outside are at the edge.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place on a screen, clamped to it"
)]
fn place(t: i64, start: i64, end: i64, width: usize) -> usize {
    let span = end.saturating_sub(start).max(1) as f64;
    let share = (t.saturating_sub(start) as f64 / span).clamp(0.0, 1.0);
    (share * (width.saturating_sub(1)) as f64).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuller_buckets_are_darker_and_higher_ones_further_up() {
        let of = |low: u32, high: u32| -> Histogram {
            serde_json::from_str(&format!(
                r#"{{"count":"9","sum":"1","buckets":[[0,"0","1","{low}"],[0,"1","2","{high}"]]}}"#
            ))
            .unwrap()
        };
        let (first, last) = (of(8, 1), of(2, 4));
        let text = heatmap(&[(0, &first), (20_000, &last)], 0, 20_000, 23, 8);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("2 │░{}▒", " ".repeat(18)));
        assert_eq!(lines[1], format!("1 │█{}░", " ".repeat(18)));
        assert_eq!(lines[2], format!("  └{}", "─".repeat(20)));
        assert_eq!(heatmap(&[], 0, 1, 40, 8), "  nothing observed\n");
    }
}
