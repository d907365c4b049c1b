//! What the kernel says a process has cost.

use std::time::Duration;

use anyhow::Context as _;

/// A process's cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// User and system time of all its threads.
    pub(super) cpu: Duration,
    /// Resident memory now, bytes; pages of its own program file count.
    pub(super) rss_bytes: u64,
}

impl Cost {
    /// Reads `/proc/PID/stat`.
    ///
    /// # Errors
    /// When there is no such process.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let page_bytes = u64::try_from(rustix::param::page_size())?;
        let ticks_per_s = rustix::param::clock_ticks_per_second();
        Self::parse(&text, page_bytes, ticks_per_s).with_context(|| format!("understand {path}"))
    }

    fn parse(text: &str, page_bytes: u64, ticks_per_s: u64) -> Option<Self> {
        // The command's name may hold anything but ends at the last parenthesis; field 3 follows.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)? + field(15)?;
        let cpu = Duration::from_millis(ticks * 1000 / ticks_per_s.max(1));
        Some(Self { cpu, rss_bytes: field(24)? * page_bytes })
    }

    /// CPU spent since `before`.
    pub(super) fn cpu_since(&self, before: &Self) -> Duration {
        self.cpu.saturating_sub(before.cpu)
    }
}

/// Bytes sent over the loopback device of this network namespace by everyone in it, headers
/// included; 0 when unknown. `/sys` would tell of the namespace it was mounted in.
pub(super) fn loopback_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/net/dev").ok().and_then(|text| sent(&text)).unwrap_or(0)
}

/// The bytes `lo` has sent: the ninth number of its line.
fn sent(net_dev: &str) -> Option<u64> {
    let line = net_dev.lines().find_map(|line| line.trim_start().strip_prefix("lo:"))?;
    line.split_ascii_whitespace().nth(8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found() {
        let text = "Inter-| Receive | Transmit\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10\n    lo: 11 2 3 4 5 6 7 8 19 10\n";
        assert_eq!(sent(text), Some(19));
        assert_eq!(sent("  elo: 1 2 3 4 5 6 7 8 9"), None);
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 11 22 0 0 20 0 4 0 99 1024 55 18446 1";
        let want = Cost { cpu: Duration::from_millis(330), rss_bytes: 55 * 4096 };
        assert_eq!(Cost::parse(text, 4096, 100), Some(want));
        assert_eq!(Cost::parse("7 (a) S 1", 4096, 100), None);
        assert!(Cost::of(std::process::id()).unwrap().rss_bytes > 0);
    }
}
