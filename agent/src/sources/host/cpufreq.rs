//! `/sys/devices/system/cpu/cpu*/cpufreq`: how fast the CPUs run, and who decides.
//!
//! Asking a CPU for its frequency may wake it, so this is read less often than the rest.

use std::path::PathBuf;
use std::time::Duration;

use stoa_model::Labels;

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{
    Desc, Kept, Now, Problem, Reading, Roots, SLOW, Source, Tree, label, number, read_small,
};

/// How often the CPUs are looked up anew.
const DISCOVERY: Duration = Duration::from_secs(60);
const HERTZ_PER_KILOHERTZ: f64 = 1000.0;

const CURRENT: Desc =
    Desc::gauge("node_cpu_frequency_hertz", "Current CPU thread frequency in hertz.");
const LIMITS: [(&str, Desc); 5] = [
    (
        "cpuinfo_min_freq",
        Desc::gauge("node_cpu_frequency_min_hertz", "Minimum CPU thread frequency in hertz."),
    ),
    (
        "cpuinfo_max_freq",
        Desc::gauge("node_cpu_frequency_max_hertz", "Maximum CPU thread frequency in hertz."),
    ),
    (
        "scaling_cur_freq",
        Desc::gauge(
            "node_cpu_scaling_frequency_hertz",
            "Current scaled CPU thread frequency in hertz.",
        ),
    ),
    (
        "scaling_min_freq",
        Desc::gauge(
            "node_cpu_scaling_frequency_min_hertz",
            "Minimum scaled CPU thread frequency in hertz.",
        ),
    ),
    (
        "scaling_max_freq",
        Desc::gauge(
            "node_cpu_scaling_frequency_max_hertz",
            "Maximum scaled CPU thread frequency in hertz.",
        ),
    ),
];
const GOVERNOR: Desc =
    Desc::gauge("node_cpu_scaling_governor", "Current enabled CPU frequency governor.");

/// The source `cpufreq`.
#[derive(Debug)]
pub(crate) struct CpuFrequency {
    /// Whether the source `cpu` tells the current frequencies already, from `/proc/cpuinfo`.
    told_by_cpu: bool,
    found: Option<(Now, Vec<(String, PathBuf)>)>,
    labels: Kept<Labels>,
}

impl Configured for CpuFrequency {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, shared: &Shared) -> Self {
        Self { told_by_cpu: shared.cpu_tells_frequencies, found: None, labels: Kept::new() }
    }
}

impl Source for CpuFrequency {
    fn name(&self) -> &'static str {
        "cpufreq"
    }

    fn interval(&self) -> Option<Duration> {
        Some(SLOW)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let is_fresh = |at: &Now| !now.is_past(*at, DISCOVERY);
        let cpus = match self.found.take().filter(|(at, _)| is_fresh(at)) {
            Some(found) => found,
            None => match discover(roots) {
                Ok(cpus) => (now, cpus),
                Err(problem) => return reading.fail(problem),
            },
        };
        let mut problems = Vec::new();
        let current = (!self.told_by_cpu).then_some(("cpuinfo_cur_freq", CURRENT));
        for (file, desc) in current.iter().chain(&LIMITS) {
            let family = reading.open(desc);
            for (cpu, dir) in &cpus.1 {
                if let Some(kilohertz) =
                    attribute(dir.join(file), &mut problems).as_deref().and_then(number)
                {
                    let labels = self.labels.get(cpu, |cpu| label("cpu", cpu));
                    family.push(labels, kilohertz * HERTZ_PER_KILOHERTZ);
                }
            }
        }
        let governors = reading.open(&GOVERNOR);
        for (cpu, dir) in &cpus.1 {
            let Some(enabled) = attribute(dir.join("scaling_governor"), &mut problems) else {
                continue;
            };
            let available = attribute(dir.join("scaling_available_governors"), &mut problems)
                .unwrap_or_default();
            for governor in available.split_ascii_whitespace() {
                let labels = self.labels.get(&format!("{cpu} {governor}"), |_| {
                    Labels::from_pairs_last_wins([("cpu", cpu.as_str()), ("governor", governor)])
                });
                governors.push(labels, f64::from(u8::from(governor == enabled)));
            }
        }
        self.labels.end_round();
        problems.into_iter().for_each(|problem| reading.note(problem));
        self.found = Some(cpus);
    }
}

/// CPU numbers with their directories; those of CPUs without frequency scaling too.
fn discover(roots: &Roots) -> Result<Vec<(String, PathBuf)>, Problem> {
    let dir = roots.path(Tree::Sys, "devices/system/cpu");
    let entries = std::fs::read_dir(&dir).map_err(|error| Problem::read(&dir, error))?;
    let mut cpus = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("cpu")) else {
            continue;
        };
        if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() {
            let dir = entry.path().join("cpufreq");
            if dir.is_dir() {
                cpus.push((number.to_owned(), dir));
            }
        }
    }
    cpus.sort_unstable();
    Ok(cpus)
}

/// An attribute's text; `None` when the driver does not have it.
fn attribute(path: PathBuf, problems: &mut Vec<Problem>) -> Option<String> {
    match read_small(&path) {
        Ok(text) if text.is_empty() => None,
        Ok(text) => Some(text),
        // `cpuinfo_cur_freq` is for root only; a driver may refuse to answer.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => None,
        Err(error) => {
            problems.push(Problem::read(path, error));
            None
        }
    }
}
