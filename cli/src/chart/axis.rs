//! The scale on the left and the times below.

/// A range of values with round ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    rows: usize,
}

impl Scale {
    /// A scale that shows `low` to `high`: from zero when that costs little, else a bit around.
    pub(super) fn around(low: f64, high: f64, rows: usize) -> Self {
        let (mut bottom, mut top) = (low, high);
        if low > 0.0 && low < high / 2.0 {
            bottom = 0.0;
        }
        if high < 0.0 && high > low / 2.0 {
            top = 0.0;
        }
        if bottom == top {
            let around = if bottom == 0.0 { 1.0 } else { bottom.abs() / 2.0 };
            (bottom, top) = (bottom - around, top + around);
            if low >= 0.0 {
                bottom = bottom.max(0.0);
            }
        }
        Self { low: bottom, high: top, rows }
    }

    /// The dot row of a value, counted from the bottom.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place on a screen: clamped to it, and to the nearest dot is near enough"
    )]
    pub(super) fn dot(self, value: f64, dots: usize) -> usize {
        // halves, so that the span of the widest values stays finite
        let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        (share.clamp(0.0, 1.0) * dots.saturating_sub(1) as f64).round() as usize
    }

    /// Rows from the top that carry a tick, with its text.
    pub(super) fn ticks(self) -> Vec<(usize, String)> {
        let last = self.rows.saturating_sub(1);
        let every = (last / 4).max(1);
        let mut ticks = Vec::new();
        for row in (0..=last).step_by(every) {
            #[expect(clippy::cast_precision_loss, reason = "rows of a terminal")]
            let share = if last == 0 { 0.0 } else { row as f64 / last as f64 };
            ticks.push((row, short(self.high * (1.0 - share) + self.low * share)));
        }
        ticks
    }
}

/// A value in at most four digits with a prefix: `1.5k`, `12M`, `0.25`, `3.1e-9`.
#[must_use]
pub(crate) fn short(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e15).contains(&size) {
        return format!("{value:.1e}");
    }
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (unit, prefix) = prefixes.into_iter().find(|(unit, _)| size >= *unit).unwrap_or((1.0, ""));
    let scaled = value / unit;
    let decimals = match scaled.abs() {
        100.0.. => 1,
        10.0.. => 2,
        1.0.. => 3,
        0.1.. => 4,
        _ => 6,
    };
    let text = format!("{scaled:.decimals$}");
    format!("{}{prefix}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The line of times under a chart: the ends, and the middle where there is room.
#[must_use]
pub(crate) fn times(start_ms: i64, end_ms: i64, columns: usize) -> String {
    let with_date = end_ms - start_ms > 86_400_000;
    let text = |t: i64| clock(t, with_date);
    let (left, right) = (text(start_ms), format!("{} UTC", text(end_ms)));
    let middle = text(start_ms + (end_ms - start_ms) / 2);
    let room = columns.saturating_sub(left.len() + right.len());
    if room < middle.len() + 4 {
        return format!("{left}{}{right}", " ".repeat(room.max(1)));
    }
    let before = (columns / 2).saturating_sub(left.len() + middle.len() / 2).max(1);
    let after = room.saturating_sub(before + middle.len()).max(1);
    format!("{left}{}{middle}{}{right}", " ".repeat(before), " ".repeat(after))
}

fn clock(t: i64, with_date: bool) -> String {
    let text = stoa_collector::http::prometheus::rfc3339(t - t.rem_euclid(1000));
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    let time = time.trim_end_matches('Z');
    if with_date {
        let minutes = time.rsplit_once(':').map_or(time, |(minutes, _)| minutes);
        format!("{date} {minutes}")
    } else {
        time.to_owned()
    }
}
