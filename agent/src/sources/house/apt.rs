//! Pending updates, as apt would do them: the names of node_exporter's textfile script `apt_info.py`.
//!
//! `apt-get --simulate dist-upgrade` costs one to four seconds of a CPU and some 70 MiB while it runs,
//! so it is run only when package lists, dpkg's state or apt's configuration have changed (by the times
//! and lengths of their files, [`FILES_MAX`] at most), looked at every [`INTERVAL`], or a day has passed. It needs no root and locks nothing. Origins are spelled as
//! apt prints them (`Debian-Security:12/stable-security`). Holds are ignored for the plan, so that a
//! held package counts among the pending, as it does for the script, and is told as held besides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stoa_model::Labels;

use super::dpkg;
use crate::sources::program::Program;
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source, no_labels};

const PENDING: Desc = Desc::gauge("apt_upgrades_pending", "Apt packages pending updates by origin");
const HELD: Desc = Desc::gauge("apt_upgrades_held", "Apt packages pending updates but held back.");
const AUTOREMOVE: Desc = Desc::gauge("apt_autoremove_pending", "Apt packages pending autoremoval.");
const UPDATED: Desc =
    Desc::gauge("apt_package_cache_timestamp_seconds", "Apt update last run time.");
const SECURITY: Desc = Desc::gauge(
    "stoa_apt_security_upgrades_pending",
    "Packages with pending updates that come from a security archive.",
);

/// How often it is looked whether anything has changed.
const INTERVAL: Duration = Duration::from_secs(300);
/// The plan is made anew after so long even if nothing seems to have changed.
const PLAN_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// After a failure, it is tried again after so long.
const RETRY: Duration = Duration::from_secs(3600);
/// How long apt may take; a slow disk and cold lists take half a minute.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Origins and architectures told at most.
const GROUPS_MAX: usize = 64;
/// The longest origin, or architecture, told.
const ORIGIN_BYTES_MAX: usize = 256;

/// What the plan depends on. Lists are replaced, never written to, which their directory tells.
const INPUTS: [&str; 6] = [
    "/var/lib/dpkg/status",
    "/var/lib/apt/lists",
    "/var/lib/apt/extended_states",
    "/etc/apt/sources.list",
    "/etc/apt/preferences",
    "/etc/apt/apt.conf",
];
/// Directories on whose files it depends; these are edited in place.
const INPUT_DIRS: [&str; 3] =
    ["/etc/apt/sources.list.d", "/etc/apt/preferences.d", "/etc/apt/apt.conf.d"];
/// Files of one such directory that are looked at.
const FILES_MAX: usize = 512;

/// A file that the plan depends on: when it was written, and its length.
type Input = (PathBuf, Option<SystemTime>, u64);

/// What apt would do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Packages that would get a newer version.
    pub(super) upgrades: Vec<Upgrade>,
    /// Packages that nothing needs any more.
    pub(super) autoremovable: usize,
}

/// One package's update.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    pub(super) name: String,
    /// Where the new version is to be had from, apt's spelling, joined by commas.
    pub(super) origin: String,
    pub(super) architecture: String,
}

/// What `apt-get -s dist-upgrade` says.
pub(super) fn parse(text: &str) -> Plan {
    let mut plan = Plan::default();
    let mut is_list_of_unneeded = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Inst ") {
            plan.upgrades.extend(upgrade(rest));
        } else if is_list_of_unneeded && line.starts_with("  ") {
            plan.autoremovable += line.split_ascii_whitespace().count();
            continue;
        }
        is_list_of_unneeded = line.ends_with("no longer required:");
    }
    plan
}

/// Tells any bytes as what apt says, and as the list of what is on hold: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_any(bytes: &[u8], _: Now, reading: &mut Reading) {
    let text = String::from_utf8_lossy(bytes);
    let plan = parse(&text);
    assert!(plan.upgrades.len() <= text.lines().count());
    assert!(plan.autoremovable <= text.len());
    let held = text.split_ascii_whitespace().map(str::to_owned).collect();
    tell(&told(&plan, &held), reading);
}

/// `NAME [OLD] (NEW ORIGIN, ORIGIN [ARCH]) …`; without an old version it is no update.
fn upgrade(line: &str) -> Option<Upgrade> {
    let (name, rest) = line.split_once(' ')?;
    let (_old, rest) = rest.strip_prefix('[')?.split_once("] (")?;
    let (new, _needs) = rest.split_once("])")?;
    let (new, architecture) = new.rsplit_once(" [")?;
    let (_version, origins) = new.split_once(' ')?;
    let mut origin = origins.replace(", ", ",");
    origin.truncate(origin.floor_char_boundary(ORIGIN_BYTES_MAX));
    let architecture = architecture.get(..architecture.floor_char_boundary(ORIGIN_BYTES_MAX))?;
    let (name, _foreign) = name.split_once(':').unwrap_or((name, ""));
    Some(Upgrade { name: name.into(), origin, architecture: architecture.into() })
}

/// The source `apt`.
#[derive(Debug)]
pub(crate) struct Apt {
    /// And the arguments before its own.
    program: Vec<String>,
    inputs: Vec<Input>,
    planned_at: Option<Now>,
    /// `None` after a failure.
    told: Option<Told>,
    /// What the last plan failed by, until the next; it is told with each reading.
    fault: Option<String>,
}

/// What a plan comes to, kept until the next.
#[derive(Debug)]
struct Told {
    pending: Vec<(Labels, f64)>,
    held: Vec<(Labels, f64)>,
    autoremovable: f64,
    security: f64,
}

impl Configured for Apt {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self::of(&["apt-get"])
    }
}

impl Apt {
    pub(super) fn of(program: &[&str]) -> Self {
        let program = program.iter().map(ToString::to_string).collect();
        Self { program, inputs: Vec::new(), planned_at: None, told: None, fault: None }
    }

    fn plan(&self, roots: &Roots) -> Result<Told, Problem> {
        let status = roots.on_host(dpkg::STATUS_PATH);
        let held = dpkg::held(&status).map_err(|error| Problem::read(&status, error))?;
        let (name, first) = self.program.split_first().map_or(("", &[][..]), |(n, f)| (n, f));
        let mut program = Program::new(name).timeout(TIMEOUT).args(first).args([
            "--simulate",
            "--quiet",
            "--ignore-hold",
            "--option=Debug::NoLocking=true",
            "--option=APT::Get::Show-User-Simulation-Note=false",
            "--option=APT::Get::HideAutoRemove=false",
        ]);
        if roots.rootfs != Path::new("/") {
            program = program.args([format!("--option=RootDir={}", roots.rootfs.display())]);
        }
        let output = program.args(["dist-upgrade"]).run()?;
        if !output.status.success() {
            let wrong = output.stderr.lines().next().unwrap_or("it fails without a reason");
            return Err(Problem::Answer { asked: "apt-get", wrong: wrong.to_owned() });
        }
        Ok(told(&parse(&String::from_utf8_lossy(&output.stdout)), &held))
    }
}

fn told(plan: &Plan, held: &BTreeSet<String>) -> Told {
    let is_security = |upgrade: &&Upgrade| upgrade.origin.to_lowercase().contains("security");
    Told {
        pending: groups(plan.upgrades.iter()),
        held: groups(plan.upgrades.iter().filter(|upgrade| held.contains(&upgrade.name))),
        autoremovable: plan.autoremovable as f64,
        security: plan.upgrades.iter().filter(is_security).count() as f64,
    }
}

/// How many by origin and architecture; one zero without either when there are none.
fn groups<'a>(upgrades: impl Iterator<Item = &'a Upgrade>) -> Vec<(Labels, f64)> {
    let mut groups: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for Upgrade { origin, architecture, .. } in upgrades {
        *groups.entry((origin, architecture)).or_default() += 1;
    }
    if groups.is_empty() {
        return vec![(no_labels(), 0.0)];
    }
    let labels = |(origin, architecture): (&str, &str)| {
        Labels::from_pairs_last_wins([("origin", origin), ("arch", architecture)])
    };
    let groups = groups.into_iter().take(GROUPS_MAX);
    groups.map(|(group, count)| (labels(group), f64::from(count))).collect()
}

impl Source for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(TIMEOUT + Duration::from_secs(10))
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let lists = roots.on_host("/var/lib/apt/lists");
        if !lists.is_dir() {
            return reading.fail(Problem::Lacks("apt"));
        }
        let inputs = inputs(roots);
        let age_max = if self.told.is_some() { PLAN_AGE_MAX } else { RETRY };
        let is_old = self.planned_at.is_none_or(|at| now.is_past(at, age_max));
        if is_old || self.inputs != inputs {
            self.planned_at = Some(now);
            self.inputs = inputs;
            (self.told, self.fault) = match self.plan(roots) {
                Ok(told) => (Some(told), None),
                Err(problem) => (None, fault(problem)),
            };
        }
        if let Some(updated) = last_update(roots) {
            reading.single(&UPDATED, updated);
        }
        let Some(told) = &self.told else {
            return reading.fail(match self.fault.clone() {
                Some(wrong) => Problem::Answer { asked: "apt-get", wrong },
                None => Problem::Lacks("answer of apt-get's"),
            });
        };
        tell(told, reading);
    }
}

/// What went wrong, in words; `None`: apt is not there.
fn fault(problem: Problem) -> Option<String> {
    match problem {
        problem if problem.is_absence() => None,
        Problem::Answer { wrong, .. } => Some(wrong),
        other => Some(match std::error::Error::source(&other) {
            Some(cause) => format!("{other}: {cause}"),
            None => other.to_string(),
        }),
    }
}

/// The files that the plan depends on, as they are now.
fn inputs(roots: &Roots) -> Vec<Input> {
    let alone = INPUTS.iter().map(|path| roots.on_host(path));
    let within = INPUT_DIRS.iter().flat_map(|path| {
        let entries = std::fs::read_dir(roots.on_host(path)).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).take(FILES_MAX)
    });
    let mut inputs: Vec<Input> = alone
        .chain(within)
        .filter_map(|path| {
            let about = std::fs::metadata(&path).ok()?;
            Some((path, about.modified().ok(), about.len()))
        })
        .collect();
    // A directory tells its files in any order.
    inputs.sort_unstable();
    inputs
}

fn tell(told: &Told, reading: &mut Reading) {
    for (desc, groups) in [(&PENDING, &told.pending), (&HELD, &told.held)] {
        let family = reading.open(desc);
        for (labels, count) in groups {
            family.push(labels.clone(), *count);
        }
    }
    reading.single(&AUTOREMOVE, told.autoremovable);
    reading.single(&SECURITY, told.security);
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// When package lists were last fetched.
fn last_update(roots: &Roots) -> Option<f64> {
    let stamp = |path: &str| modified(&roots.on_host(path));
    // The first is touched after a success; without it, apt's own timer's stamp or, where a person or
    // another tool fetches lists, the directory that they come in by.
    let at = stamp("/var/lib/apt/periodic/update-success-stamp").or_else(|| {
        stamp("/var/lib/apt/periodic/update-stamp").max(stamp("/var/lib/apt/lists/partial"))
    })?;
    Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "Reading package lists...
Calculating upgrade...
The following packages were automatically installed and are no longer required:
  libfoo1 libbar2
  linux-image-6.1.0-18-amd64
The following NEW packages will be installed:
  linux-image-6.1.0-42-amd64
The following packages will be upgraded:
  bash libgcrypt20
2 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Inst linux-image-6.1.0-42-amd64 (6.1.159-1 Debian:12.15/oldstable [amd64])
Inst bash [5.2.15-2+b8] (5.2.15-2+b13 Debian:12.15/oldstable [amd64])
Inst libgcrypt20 [1.10.1-3] (1.10.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64]) []
Inst libgcrypt20:i386 [1.10.1-3] (1.10.1-3+deb12u1 Debian-Security:12/oldstable-security [i386]) [libc6:amd64 ]
Conf bash (5.2.15-2+b13 Debian:12.15/oldstable [amd64])
";

    #[test]
    fn updates_are_told_apart_from_what_is_new() {
        let plan = parse(TEXT);
        let upgrade = |name: &str, origin: &str, architecture: &str| Upgrade {
            name: name.into(),
            origin: origin.into(),
            architecture: architecture.into(),
        };
        let both = "Debian:12.15/oldstable,Debian-Security:12/oldstable-security";
        assert_eq!(
            plan.upgrades,
            [
                upgrade("bash", "Debian:12.15/oldstable", "amd64"),
                upgrade("libgcrypt20", both, "amd64"),
                upgrade("libgcrypt20", "Debian-Security:12/oldstable-security", "i386"),
            ]
        );
        assert_eq!(plan.autoremovable, 3);
        let told = told(&plan, &BTreeSet::from(["bash".to_owned()]));
        assert_eq!(told.security, 2.0);
        assert_eq!((told.pending.len(), told.held.len()), (3, 1));
    }

    #[test]
    fn nothing_pending_is_a_zero() {
        let told = told(&parse("Reading package lists...\n"), &BTreeSet::new());
        assert_eq!(told.pending, [(no_labels(), 0.0)]);
        assert_eq!(told.held, [(no_labels(), 0.0)]);
        assert_eq!((told.autoremovable, told.security), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn any_text_is_a_plan(text in "(Inst |\\[|\\]|\\(|\\)| |,|[a-z]|\n|no longer required:|é){0,200}") {
            let plan = parse(&text);
            prop_assert!(plan.upgrades.len() <= text.lines().count());
            prop_assert!(told(&plan, &BTreeSet::new()).pending.len() <= GROUPS_MAX);
        }

        #[test]
        fn any_cut_is_a_plan(cut in 0..TEXT.len()) {
            prop_assert!(parse(TEXT.get(..cut).unwrap()).upgrades.len() <= 3);
        }
    }
}
