//! A load told as lines, for who imports text.

use stoa_model::TimestampMs;

use super::super::fill;
use super::super::load::{Load, Replica};
use super::text;

/// A block of Prometheus's; OpenMetrics is cut there, so that promtool reads each line once.
const BLOCK_MS: i64 = 2 * 3_600_000;

/// About how many bytes of lines go in one part.
const PART_BYTES: usize = 4 << 20;

/// A load's hosts, told tick by tick.
pub(super) struct Lines {
    hosts: Vec<(String, Replica, text::Names)>,
    times: Vec<TimestampMs>,
    /// Ticks told.
    told: usize,
    in_seconds: bool,
    /// Lines told: one a sample.
    pub(super) count: u64,
}

impl Lines {
    /// As OpenMetrics, with times in seconds; the last tick is an interval before `end_ms`.
    pub(super) fn openmetrics(load: &Load, end_ms: TimestampMs) -> Self {
        Self::new(load, end_ms, true)
    }

    /// In Prometheus's format, with times in milliseconds.
    pub(super) fn text(load: &Load, end_ms: TimestampMs) -> Self {
        Self::new(load, end_ms, false)
    }

    fn new(load: &Load, end_ms: TimestampMs, in_seconds: bool) -> Self {
        let host = |number| (fill::host_name(number), load.replica(number), text::Names::default());
        Self {
            hosts: (0..load.hosts).map(host).collect(),
            times: fill::times(load, end_ms).collect(),
            told: 0,
            in_seconds,
            count: 0,
        }
    }

    /// The next lines that fall into one block, as a whole document of OpenMetrics.
    pub(super) fn next_block(&mut self) -> Option<String> {
        let mut out = String::new();
        let block = self.times.get(self.told)?.div_euclid(BLOCK_MS);
        while self.times.get(self.told).is_some_and(|t| t.div_euclid(BLOCK_MS) == block) {
            self.tick(&mut out);
        }
        out.push_str("# EOF\n");
        Some(out)
    }

    /// The next lines, some megabytes of them.
    pub(super) fn next_part(&mut self) -> Option<String> {
        let mut out = String::new();
        while self.told < self.times.len() && out.len() < PART_BYTES {
            self.tick(&mut out);
        }
        (!out.is_empty()).then_some(out)
    }

    /// Ticks told so far.
    pub(super) fn ticks_told(&self) -> u64 {
        self.told as u64
    }

    fn tick(&mut self, out: &mut String) {
        let Some(t) = self.times.get(self.told) else { return };
        let before = out.len();
        for (name, replica, names) in &mut self.hosts {
            if let Some(tick) = replica.tick(*t) {
                names.lines(&tick, name, self.in_seconds, out);
            }
        }
        let made = out.as_bytes().get(before..).unwrap_or_default();
        self.count += made.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.told += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::load::{Asked, Names};
    use super::*;

    #[test]
    fn every_sample_is_a_line_and_a_block_ends_where_prometheus_s_does() {
        let asked = Asked {
            corpus: None,
            hosts: 2,
            names: Names::MadeUp(20),
            interval: Duration::from_secs(60),
            ticks: 150,
            seed: 1,
        };
        let load = Load::open(&asked).unwrap();
        // Ends half an hour into a block: 30 ticks there, 120 in the block before.
        let end = 1000 * BLOCK_MS + 30 * 60_000;
        let mut lines = Lines::openmetrics(&load, end);
        let mut blocks = Vec::new();
        while let Some(block) = lines.next_block() {
            assert!(block.ends_with("\n# EOF\n"));
            blocks.push(block.lines().count() - 1);
        }
        assert_eq!(blocks, [120 * 40, 30 * 40]);
        assert_eq!(lines.count, 150 * 40);
        let mut lines = Lines::text(&load, end);
        let mut told = 0;
        while let Some(part) = lines.next_part() {
            told += part.lines().count();
        }
        assert_eq!((told, lines.count), (6000, 6000));
    }
}
