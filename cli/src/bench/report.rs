//! Figures as a table a person reads, or as JSON.

use serde::Serialize;

/// What a bench found.
pub(super) trait Report {
    /// Names and values, in the order to print them.
    fn rows(&self) -> Vec<(&'static str, String)>;

    /// The same for programs.
    ///
    /// # Errors
    /// None in practice.
    fn json(&self) -> serde_json::Result<String>;
}

/// The names flush left, the values behind them.
pub(super) fn table(rows: &[(&'static str, String)]) -> String {
    let wide = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let row =
        |(name, value): &(&str, String)| format!("{name:wide$}  {value}").trim_end().to_owned();
    rows.iter().map(|one| row(one) + "\n").collect()
}

/// Indented, with a line's end.
///
/// # Errors
/// None in practice: keys are strings.
pub(super) fn pretty(report: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}

/// `12.3 MB`, of a million bytes.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Whether a figure is within its goal, said.
pub(super) fn goal(figure: f64, most: f64, unit: &str) -> String {
    let met = if figure <= most { "met" } else { "missed" };
    format!("goal {most} {unit}: {met}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_one_column() {
        let rows = [("a", "1".to_owned()), ("", String::new()), ("µs of all", "2".to_owned())];
        assert_eq!(table(&rows), "a          1\n\nµs of all  2\n");
    }

    #[test]
    fn a_goal_is_met_at_its_edge() {
        assert_eq!(goal(2.0, 2.0, "B"), "goal 2 B: met");
        assert_eq!(goal(2.01, 2.0, "B"), "goal 2 B: missed");
    }
}
