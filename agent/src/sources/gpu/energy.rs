//! Energy of a GPU that counts none itself (before Volta): its power over time.
//!
//! Between two readings the power is taken to have gone from one to the other in a straight line. A gap of
//! more than [`GAP_MAX`] – a sleep, a driver that was away, a source that is asked so rarely – counts
//! nothing. The count begins at 0 with the agent, as a counter may. Knows no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sources::Now;

const GAP_MAX: Duration = Duration::from_secs(300);
/// GPUs counted at most.
const GPUS_MAX: usize = 64;

/// What GPUs have used.
#[derive(Debug, Default)]
pub(super) struct Energy {
    /// By UUID.
    counts: BTreeMap<String, Count>,
}

#[derive(Debug)]
struct Count {
    joules: f64,
    watts: f64,
    at: Now,
}

impl Energy {
    /// Joules since it was first seen, of which it draws so many watts now.
    pub(super) fn of(&mut self, uuid: &str, watts: f64, now: Now) -> f64 {
        if let Some(count) = self.counts.get_mut(uuid) {
            let micros = now.unix_micros.saturating_sub(count.at.unix_micros);
            let gap = u64::try_from(micros).map(Duration::from_micros);
            if let Ok(gap) = gap
                && gap <= GAP_MAX
            {
                count.joules += (count.watts + watts) / 2.0 * gap.as_secs_f64();
            }
            (count.watts, count.at) = (watts, now);
            return count.joules;
        }
        if self.counts.len() < GPUS_MAX {
            self.counts.insert(uuid.to_owned(), Count { joules: 0.0, watts, at: now });
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_over_time_is_energy_and_a_gap_is_none() {
        let mut energy = Energy::default();
        let mut at = |second: i64, watts: f64| {
            energy.of("GPU-1", watts, Now { unix_micros: second * 1_000_000 })
        };
        assert_eq!(at(100, 50.0), 0.0);
        assert_eq!(at(110, 50.0), 500.0);
        assert_eq!(at(112, 150.0), 700.0);
        // An hour of sleep, and a clock that was set back.
        assert_eq!(at(3712, 50.0), 700.0);
        assert_eq!(at(3700, 50.0), 700.0);
        assert_eq!(at(3701, 50.0), 750.0);
    }
}
