//! What figures are to come to; `docs/performance.md` has them too.

/// A figure's bound, and what would be better still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub(super) bound: f64,
    pub(super) aim: Option<f64>,
    /// Whether more is better.
    pub(super) is_least: bool,
    unit: &'static str,
}

const fn most(bound: f64, aim: Option<f64>, unit: &'static str) -> Goal {
    Goal { bound, aim, is_least: false, unit }
}

pub(super) const DISK_1_S_B: Goal = most(0.45, Some(0.35), "B");
pub(super) const DISK_10_S_B: Goal = most(0.65, Some(0.50), "B");
pub(super) const LOG_B: Goal = most(2.5, None, "B");
pub(super) const WIRE_B: Goal = most(2.0, None, "B");
pub(super) const MEMORY_B: Goal = most(900.0, Some(600.0), "B");
pub(super) const STREAM_CPU_US: Goal = most(0.4, Some(0.2), "µs");
pub(super) const WRITE_CPU_US: Goal = most(1.2, Some(0.7), "µs");
pub(super) const START_S: Goal = most(30.0, None, "s");
pub(super) const IMPORT_M: Goal = Goal { bound: 1.5, aim: None, is_least: true, unit: "million" };
pub(super) const DASHBOARD_1_H_AIM_MS: f64 = 45.0;
pub(super) const DASHBOARD_24_H_AIM_MS: f64 = 90.0;
pub(super) const SINGLE_MS: Goal = most(1.0, None, "ms");
pub(super) const RATE_M: Goal = Goal { bound: 200.0, aim: None, is_least: true, unit: "million" };

impl Goal {
    /// Whether a figure is within it.
    pub(super) fn is_met(&self, figure: f64) -> bool {
        if self.is_least { figure >= self.bound } else { figure <= self.bound }
    }

    /// `goal 0.4 µs: met`.
    pub(super) fn said(&self, figure: f64) -> String {
        let Self { bound, unit, .. } = self;
        format!("goal {bound} {unit}: {}", if self.is_met(figure) { "met" } else { "missed" })
    }

    /// `≤ 0.4`.
    pub(super) fn bound_said(&self) -> String {
        format!("{} {}", if self.is_least { "≥" } else { "≤" }, self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_edge_from_its_side() {
        for (goal, figure, met) in [
            (WRITE_CPU_US, 1.2, true),
            (WRITE_CPU_US, 1.21, false),
            (IMPORT_M, 1.5, true),
            (IMPORT_M, 1.49, false),
        ] {
            assert_eq!(goal.is_met(figure), met, "{goal:?} {figure}");
        }
        assert_eq!(IMPORT_M.said(2.0), "goal 1.5 million: met");
        assert_eq!(WRITE_CPU_US.bound_said(), "≤ 1.2");
    }
}
