//! How many of a container's threads run or wait for a disk, and the load that makes.
//!
//! The kernel keeps load averages for the whole node only. So the threads in sight (those of init's
//! process namespace) are counted, and averaged as the kernel does it: each count weighs less the
//! older it is, by e for every 1, 5 and 15 minutes. An average begins with what was counted first
//! rather than with 0: it is the weighted mean of what has been seen.
//!
//! Bounded: counting reads a file per thread, so it is done the more rarely the more threads there
//! are, though at least every five seconds, which is how often the kernel itself counts; and it stops
//! at [`THREADS_MAX`].

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sources::cgroup::file::whole;
use crate::sources::{Now, Roots};

/// Threads looked at; beyond, the count is of these.
const THREADS_MAX: usize = 8192;
/// Threads counted each second.
const THREADS_PER_SECOND: u32 = 100;
/// How often the kernel counts.
const KERNEL_INTERVAL: Duration = Duration::from_secs(5);
/// `stat` of a process is one line; names are at most 64 bytes.
const STAT_BYTES_MAX: usize = 1024;
const WINDOWS_SECONDS: [f64; 3] = [60.0, 300.0, 900.0];

/// Threads by what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) running: u32,
    /// In uninterruptible sleep.
    pub(super) blocked: u32,
    pub(super) threads: u32,
}

/// The state, the parent and the number of threads in `/proc/PID/stat`.
fn parse(text: &str) -> Option<(char, u32, u32)> {
    // The name may hold anything, brackets too.
    let (_, rest) = text.rsplit_once(')')?;
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?.chars().next()?;
    let parent = words.next()?.parse().ok()?;
    Some((state, parent, words.nth(15)?.parse().ok()?))
}

/// When the process began, in ticks since the node did: field 22 of `/proc/PID/stat`.
pub(crate) fn start_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    whole(rest.split_ascii_whitespace().nth(19)?)
}

/// The weighted means of counts.
#[derive(Debug, Clone, Default, PartialEq)]
struct Averages {
    /// Weighted sums, and the weights' sums.
    sums: [(f64, f64); WINDOWS_SECONDS.len()],
}

impl Averages {
    fn take_in(&mut self, count: f64, elapsed_seconds: f64) {
        for ((sum, weight), window) in self.sums.iter_mut().zip(WINDOWS_SECONDS) {
            let kept = (-elapsed_seconds.max(0.0) / window).exp();
            *sum = *sum * kept + count * (1.0 - kept);
            *weight = *weight * kept + (1.0 - kept);
        }
    }

    fn means(&self) -> [f64; 3] {
        self.sums.map(|(sum, weight)| if weight > 0.0 { sum / weight } else { 0.0 })
    }
}

/// Counts threads, and keeps the averages.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    averages: Averages,
    last: Option<(Now, Count)>,
    buffer: Vec<u8>,
}

impl Tasks {
    /// The count and the averages over 1, 5 and 15 minutes; `None`: processes cannot be seen.
    pub(super) fn read(&mut self, roots: &Roots, now: Now) -> Option<(Count, [f64; 3])> {
        let (count, elapsed) = match self.last {
            Some((at, count)) if at == now || !now.is_past(at, interval(count.threads)) => {
                return Some((count, self.rounded()));
            }
            Some((at, _)) => {
                let micros = now.unix_micros.saturating_sub(at.unix_micros);
                // A clock that was set tells no elapsed time; one interval is near enough.
                let elapsed = u64::try_from(micros).ok().map(Duration::from_micros);
                let elapsed = elapsed.filter(|elapsed| *elapsed < KERNEL_INTERVAL * 60);
                (self.count(roots)?, elapsed.unwrap_or(KERNEL_INTERVAL))
            }
            None => (self.count(roots)?, Duration::from_secs(1)),
        };
        self.averages.take_in(f64::from(count.running + count.blocked), elapsed.as_secs_f64());
        self.last = Some((now, count));
        Some((count, self.rounded()))
    }

    /// The kernel tells two digits; more would cost bytes and say nothing.
    fn rounded(&self) -> [f64; 3] {
        self.averages.means().map(|mean| (mean * 100.0).round() / 100.0)
    }

    fn count(&mut self, roots: &Roots) -> Option<Count> {
        // Without init's file others' processes are hidden, and the count would be of our own.
        self.stat(&roots.procfs.join("1/stat"))?;
        // The agent's own threads, and the programs it asks, run because it is time to read: counted
        // each time, they would look like a load of one or more where they take a thousandth of a CPU.
        let own = std::fs::read_link(roots.procfs.join("self")).unwrap_or_default();
        let own_id: Option<u32> = own.to_str().and_then(|own| own.parse().ok());
        let own = roots.procfs.join(own);
        let mut count = Count::default();
        for directory in numbered(&roots.procfs)?.filter(|directory| *directory != own) {
            let Some((state, parent, threads)) = self.stat(&directory.join("stat")) else {
                continue;
            };
            if Some(parent) == own_id {
                continue;
            }
            if threads <= 1 {
                count.take_in(state);
                continue;
            }
            for thread in numbered(&directory.join("task")).into_iter().flatten() {
                if let Some((state, ..)) = self.stat(&thread.join("stat")) {
                    count.take_in(state);
                }
            }
            if usize::try_from(count.threads).is_ok_and(|threads| threads >= THREADS_MAX) {
                break;
            }
        }
        Some(count)
    }

    fn stat(&mut self, path: &Path) -> Option<(char, u32, u32)> {
        self.buffer.resize(STAT_BYTES_MAX, 0);
        let length = File::open(path).and_then(|mut file| file.read(&mut self.buffer)).ok()?;
        parse(&String::from_utf8_lossy(self.buffer.get(..length)?))
    }
}

impl Count {
    fn take_in(&mut self, state: char) {
        self.threads += 1;
        match state {
            'R' => self.running += 1,
            'D' => self.blocked += 1,
            _ => {}
        }
    }
}

fn interval(threads: u32) -> Duration {
    // A little less than whole seconds, since ticks come a little early or late.
    let slack = Duration::from_millis(500);
    Duration::from_secs(1)
        .saturating_mul(threads / THREADS_PER_SECOND)
        .min(KERNEL_INTERVAL)
        .saturating_sub(slack)
}

/// The directories named by numbers; at most [`THREADS_MAX`].
fn numbered(directory: &Path) -> Option<impl Iterator<Item = PathBuf>> {
    let entries = std::fs::read_dir(directory).ok()?;
    let is_numbered = |entry: &std::fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    };
    Some(entries.flatten().filter(is_numbered).take(THREADS_MAX).map(|entry| entry.path()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stat(name: &str, state: char, threads: u32, start: u64) -> String {
        format!(
            "7 ({name}) {state} 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 {threads} 0 {start} 99 1"
        )
    }

    #[test]
    fn a_line_tells_state_threads_and_start_whatever_the_name() {
        for name in ["sleep", "a) R 1 (b", ")", ""] {
            let line = stat(name, 'D', 3, 8_182_603);
            assert_eq!(parse(&line), Some(('D', 1, 3)), "{name}");
            assert_eq!(start_ticks(&line), Some(8_182_603.0), "{name}");
        }
        for wrong in ["", "1 (a", "1 (a) R 1 2", ")"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
            assert_eq!(start_ticks(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn threads_that_run_or_wait_are_counted_but_the_agents_own() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, state, threads| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("stat"), stat("x", state, threads, 1)).unwrap();
        };
        let roots = Roots { procfs: dir.path().into(), ..Roots::default() };
        let mut tasks = Tasks::default();
        put("9", 'R', 1);
        let at = |seconds: i64| Now { unix_micros: seconds * 1_000_000 };
        assert_eq!(tasks.read(&roots, at(0)), None, "init is hidden");
        put("1", 'S', 1);
        put("20", 'R', 3);
        put("20/task/20", 'R', 3);
        put("20/task/21", 'R', 3);
        put("20/task/22", 'D', 3);
        put("irq", 'R', 1);
        put("30", 'R', 2);
        put("30/task/30", 'R', 2);
        put("30/task/31", 'R', 2);
        // What the agent asks.
        std::fs::create_dir(dir.path().join("40")).unwrap();
        let child = stat("x", 'R', 1, 1).replacen("R 1 ", "R 30 ", 1);
        std::fs::write(dir.path().join("40/stat"), child).unwrap();
        std::os::unix::fs::symlink("30", dir.path().join("self")).unwrap();
        let count = Count { running: 3, blocked: 1, threads: 5 };
        assert_eq!(tasks.read(&roots, at(0)), Some((count, [4.0; 3])));
        std::fs::remove_dir_all(dir.path().join("20")).unwrap();
        let (count, loads) = tasks.read(&roots, at(1)).unwrap();
        assert_eq!((count.running, count.blocked), (1, 0));
        assert!(loads.iter().all(|load| (2.4..2.6).contains(load)), "{loads:?}");
    }

    #[test]
    fn the_averages_go_where_the_kernels_go() {
        let mut averages = Averages::default();
        for _ in 0..3600 {
            averages.take_in(4.0, 1.0);
        }
        assert_eq!(averages.means().map(f64::round), [4.0; 3]);
        for _ in 0..60 {
            averages.take_in(0.0, 1.0);
        }
        let [one, five, fifteen] = averages.means();
        // 4/e after one window.
        assert!((one - 1.4715).abs() < 0.01, "{one}");
        assert!(one < five && five < fifteen && fifteen < 4.0);
    }

    #[test]
    fn many_threads_are_counted_rarely_but_as_often_as_the_kernel_does() {
        let seconds = |threads| interval(threads).as_secs_f64();
        assert_eq!(seconds(0), 0.0);
        assert_eq!(seconds(250), 1.5);
        assert_eq!(seconds(u32::MAX), 4.5);
    }

    proptest! {
        #[test]
        fn any_line_is_read(text in any::<String>()) {
            parse(&text);
            if let Some(ticks) = start_ticks(&text) {
                prop_assert!(ticks >= 0.0 && ticks.is_finite());
            }
        }

        #[test]
        fn an_average_lies_between_what_was_counted(
            counts in prop::collection::vec((0_u32..1000, -10.0..1e6_f64), 1..50),
        ) {
            let mut averages = Averages::default();
            averages.take_in(5.0, 1.0);
            for (count, elapsed) in counts {
                averages.take_in(f64::from(count), elapsed);
                for mean in averages.means() {
                    prop_assert!((0.0..=1000.001).contains(&mean), "{mean}");
                }
            }
        }
    }
}
