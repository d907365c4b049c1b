//! Which control groups the kernel has killed processes of for want of memory.
//!
//! `node_vmstat_oom_kill` says how many on the whole; here it is told by slice, service, container and
//! guest, two levels deep, those below counted in, from `memory.events` (version 2) or
//! `memory.oom_control` (version 1). A group that is gone takes its count with it: a service that is
//! restarted begins anew, while its slice goes on. Which process it was stands in the kernel's log only,
//! which takes privileges or the journal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stoa_model::{Family, Labels};

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source, Tree, label, read_small};

const KILLS: Desc = Desc::counter(
    "stoa_cgroup_oom_kills_total",
    "Processes of a control group and those below it killed for want of memory; told once there are any.",
);

/// Groups looked at at most.
const GROUPS_MAX: usize = 4096;
/// Groups told at most.
const TOLD_MAX: usize = 128;
/// How deep below the root.
const DEPTH_MAX: usize = 2;
const INTERVAL: Duration = Duration::from_secs(30);

/// The count in `memory.events` or `memory.oom_control`.
pub(super) fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// The source `oom`.
#[derive(Debug)]
pub(crate) struct Oom {
    labels: Kept<Labels>,
}

impl Configured for Oom {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { labels: Kept::new() }
    }
}

impl Source for Oom {
    fn name(&self) -> &'static str {
        "oom"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let root = roots.path(Tree::Sys, "fs/cgroup");
        let is_second = root.join("cgroup.controllers").exists();
        let (root, file) = if is_second {
            (root, "memory.events")
        } else {
            (root.join("memory"), "memory.oom_control")
        };
        let mut walk = Walk { root: &root, file, seen: 0, labels: &mut self.labels };
        let kills = reading.open(&KILLS);
        let entered = walk.enter(&root, 0, kills);
        self.labels.end_round();
        if let Err(error) = entered {
            reading.fail(Problem::read(root, error));
        }
    }
}

struct Walk<'a> {
    root: &'a Path,
    file: &'static str,
    seen: usize,
    labels: &'a mut Kept<Labels>,
}

impl Walk<'_> {
    fn enter(&mut self, dir: &PathBuf, depth: usize, kills: &mut Family) -> std::io::Result<()> {
        let entries = std::fs::read_dir(dir)?;
        self.seen += 1;
        // The root of all has no such file; that of a container has.
        let count = read_small(&dir.join(self.file)).ok().and_then(|text| parse(&text));
        if let Some(count) = count.filter(|count| *count > 0 && kills.metrics.len() < TOLD_MAX) {
            let name = dir.strip_prefix(self.root).unwrap_or(dir);
            let name = format!("/{}", name.display());
            let labels = self.labels.get(&name, |name| label("cgroup", name));
            kills.push(labels, count as f64);
        }
        if depth < DEPTH_MAX {
            for entry in entries.flatten() {
                if self.seen >= GROUPS_MAX {
                    break;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    // It may be gone by now.
                    let _gone = self.enter(&entry.path(), depth + 1, kills);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_versions_tell_kills() {
        let second = "low 0\nhigh 12\nmax 3\noom 2\noom_kill 5\noom_group_kill 0\n";
        assert_eq!(parse(second), Some(5));
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(parse("oom_kill_disable 0\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_count_or_none(text in "(oom_kill|oom| |-|[0-9]|\n){0,60}") {
            prop_assert!(parse(&text).is_none() || text.contains("oom_kill "));
        }
    }
}
