//! `/proc/pressure`: how long processes waited for CPU, memory, I/O and interrupts.

use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, KeptFile, Now, Problem, Reading, Roots, Source, number};

/// Microseconds in which some and in which all processes waited; a line not there is `None`.
pub(super) fn parse(text: &str) -> (Option<f64>, Option<f64>) {
    let (mut some, mut full) = (None, None);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let field = match words.next() {
            Some("some") => &mut some,
            Some("full") => &mut full,
            _ => continue,
        };
        *field = words.find_map(|word| word.strip_prefix("total=")).and_then(number);
    }
    (some, full)
}

/// A file under `/proc/pressure` and what is told of it.
#[derive(Debug)]
struct Resource {
    file: KeptFile,
    waiting: Option<Desc>,
    stalled: Option<Desc>,
    /// Whether kernels without it are too old to have any of the others.
    always: bool,
}

/// The source `pressure`.
#[derive(Debug)]
pub(crate) struct Pressure {
    resources: [Resource; 4],
}

impl Configured for Pressure {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        let resource = |path, waiting, stalled, always| Resource {
            file: KeptFile::proc(path),
            waiting,
            stalled,
            always,
        };
        Self {
            resources: [
                resource(
                    "pressure/cpu",
                    Some(Desc::counter(
                        "node_pressure_cpu_waiting_seconds_total",
                        "Total time in seconds that processes have waited for CPU time",
                    )),
                    None,
                    true,
                ),
                resource(
                    "pressure/io",
                    Some(Desc::counter(
                        "node_pressure_io_waiting_seconds_total",
                        "Total time in seconds that processes have waited due to IO congestion",
                    )),
                    Some(Desc::counter(
                        "node_pressure_io_stalled_seconds_total",
                        "Total time in seconds no process could make progress due to IO congestion",
                    )),
                    true,
                ),
                resource(
                    "pressure/memory",
                    Some(Desc::counter(
                        "node_pressure_memory_waiting_seconds_total",
                        "Total time in seconds that processes have waited for memory",
                    )),
                    Some(Desc::counter(
                        "node_pressure_memory_stalled_seconds_total",
                        "Total time in seconds no process could make progress due to memory \
                         congestion",
                    )),
                    true,
                ),
                resource(
                    "pressure/irq",
                    None,
                    Some(Desc::counter(
                        "node_pressure_irq_stalled_seconds_total",
                        "Total time in seconds no process could make progress due to IRQ congestion",
                    )),
                    false,
                ),
            ],
        }
    }
}

impl Source for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        for resource in &mut self.resources {
            let (some, full) = match resource.file.read(roots) {
                Ok(text) => parse(text),
                Err(problem) if resource.always && is_lacking(&problem) => {
                    reading.fail(Problem::Lacks("pressure in this kernel"));
                    continue;
                }
                Err(problem) if is_lacking(&problem) => continue,
                Err(problem) => {
                    reading.fail(problem);
                    continue;
                }
            };
            for (desc, micros) in [(&resource.waiting, some), (&resource.stalled, full)] {
                if let (Some(desc), Some(micros)) = (desc, micros) {
                    reading.single(desc, micros / 1000.0 / 1000.0);
                }
            }
        }
    }
}

/// The kernel has it not, or has it turned off (`psi=0`).
fn is_lacking(problem: &Problem) -> bool {
    let off = matches!(problem, Problem::Read { source, .. }
        if source.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()));
    problem.is_absence() || off
}
