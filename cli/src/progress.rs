//! The line under a running `stoa up`: what flows, and what it costs.

use stoa_model::TimestampMs;

/// Counters as of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Series being written.
    pub(crate) series: u64,
    /// Samples stored since the start.
    pub(crate) stored: u64,
    /// Bytes and samples of frames received since the start.
    pub(crate) wire_bytes: u64,
    /// Samples in those frames.
    pub(crate) wire_samples: u64,
    /// Bytes of log and blocks on disk.
    pub(crate) disk_bytes: u64,
    /// Samples in them.
    pub(crate) disk_samples: u64,
    /// Hosts enrolled and hosts up.
    pub(crate) hosts: (usize, usize),
    /// Samples the agent beside us still holds.
    pub(crate) waiting: u64,
}

/// Turns readings into the line.
#[derive(Debug)]
pub(crate) struct Progress {
    started_ms: TimestampMs,
    last: (TimestampMs, Reading),
}

impl Progress {
    pub(crate) fn new(first: Reading, now_ms: TimestampMs) -> Self {
        Self { started_ms: now_ms, last: (now_ms, first) }
    }

    /// The line for the time since the last one.
    pub(crate) fn line(&mut self, now: Reading, now_ms: TimestampMs) -> String {
        let (then_ms, then) = self.last;
        self.last = (now_ms, now);
        let seconds = ((now_ms - then_ms).max(1)) as f64 / 1000.0;
        let rate = now.stored.saturating_sub(then.stored) as f64 / seconds;
        let wire = per(now.wire_bytes - then.wire_bytes, now.wire_samples - then.wire_samples);
        let disk = per(now.disk_bytes, now.disk_samples);
        let waiting = match now.waiting {
            0 => String::new(),
            samples => format!(" · {samples} samples waiting to be sent"),
        };
        format!(
            "{} of {} hosts up · {} series · {rate:.0} samples/s · {wire} on the wire · {disk} on disk{waiting} · up {}",
            now.hosts.1,
            now.hosts.0,
            now.series,
            span(now_ms - self.started_ms),
        )
    }
}

fn per(bytes: u64, samples: u64) -> String {
    if samples == 0 {
        return "– B/sample".to_owned();
    }
    format!("{:.2} B/sample", bytes as f64 / samples as f64)
}

fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_rates_since_the_last_one() {
        let first = Reading { disk_bytes: 100, disk_samples: 50, ..Reading::default() };
        let mut progress = Progress::new(first, 0);
        let now = Reading {
            series: 550,
            stored: 1100,
            wire_bytes: 1650,
            wire_samples: 1100,
            disk_bytes: 1725,
            disk_samples: 1150,
            hosts: (2, 1),
            waiting: 0,
        };
        assert_eq!(
            progress.line(now, 2000),
            "1 of 2 hosts up · 550 series · 550 samples/s · 1.50 B/sample on the wire · 1.50 B/sample on disk · up 2 s"
        );
        let stalled = Reading { waiting: 550, ..now };
        assert_eq!(
            progress.line(stalled, 3_661_000),
            "1 of 2 hosts up · 550 series · 0 samples/s · – B/sample on the wire · 1.50 B/sample on disk · 550 samples waiting to be sent · up 1 h 1 min"
        );
    }
}
