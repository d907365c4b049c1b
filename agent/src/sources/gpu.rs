//! NVIDIA's GPUs, and who uses them.
//!
//! ```text
//! libnvidia-ml.so.1 ← nvml (a child: `stoa-agent nvml`) ══ a line of JSON ══ child → tell → reading
//!                                            /proc/PID/cgroup → owner ┘
//! ```
//!
//! NVML runs in a child process of the same binary, because the vendor's library may hang in the kernel or
//! crash: then the child is ended and begun anew, and the agent has lost one reading. Where the kernel has no
//! NVIDIA driver no child is ever started. What a GPU does not support is absent. Readings are told in two
//! vocabularies (dcgm-exporter's and `nvidia_gpu_exporter`'s), processes by guest, container and unit.
//!
//! Bounded: 64 GPUs, [`PROCESSES_MAX`] processes looked up for each (those with most memory; of the others is
//! not known whose they are), `processes_max` told one by one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::sources::attributes::Sheet;
use crate::sources::containers::SharedNames;
use crate::sources::registry::{Configured, Shared};
use crate::sources::{Now, Problem, Reading, Roots, SLOW, Source, read_small};

mod child;
mod drm;
mod energy;
pub mod nvml;
mod ollama;
pub(crate) mod owner;
pub mod pass;
mod tell;
mod users;
mod vocabulary;

use child::Reader;
pub(crate) use drm::Drm;
pub(crate) use ollama::Ollama;
use owner::Owners;
use pass::{Answer, Fault, Pass};
use tell::Teller;

/// The command of this binary that asks NVML.
pub const COMMAND: &str = "nvml";

/// Processes looked up for one GPU.
const PROCESSES_MAX: usize = 1024;
/// The child's patience, and time to look up processes.
const DEADLINE: Duration = Duration::from_secs(15);

/// `[sources.nvidia]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// In whose words readings are told.
    names: Vec<Vocabulary>,
    /// The library; empty: the driver's.
    library: PathBuf,
    /// Processes told one by one, of each GPU.
    processes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Vocabulary {
    Dcgm,
    NvidiaSmi,
}

/// In whose words readings are told.
#[derive(Clone, Copy, Debug)]
struct Vocabularies {
    dcgm: bool,
    nvidia_smi: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            names: vec![Vocabulary::Dcgm, Vocabulary::NvidiaSmi],
            library: PathBuf::new(),
            processes_max: 32,
        }
    }
}

/// The source `nvidia`.
#[derive(Debug)]
pub(crate) struct Nvidia {
    settings: Settings,
    reader: Option<Reader>,
    teller: Teller,
    owners: Owners,
    sheet: Sheet,
}

impl Configured for Nvidia {
    type Settings = Settings;

    fn new(settings: Settings, shared: &Shared) -> Self {
        let has = |vocabulary| settings.names.contains(&vocabulary);
        let vocabularies =
            Vocabularies { dcgm: has(Vocabulary::Dcgm), nvidia_smi: has(Vocabulary::NvidiaSmi) };
        let teller = Teller::new(vocabularies, settings.processes_max);
        let owners = Owners::new(SharedNames::clone(&shared.names));
        Self { settings, reader: None, teller, owners, sheet: Sheet::default() }
    }
}

/// The child, that is started when it is first asked.
fn reader(library: &Path) -> Reader {
    let mut args = vec![COMMAND.into()];
    if !library.as_os_str().is_empty() {
        args.extend(["--library".into(), library.into()]);
    }
    // This very program, also when its file was replaced.
    Reader::new("/proc/self/exe".into(), args)
}

impl Nvidia {
    fn tell(&mut self, roots: &Roots, pass: &Pass, now: Now, reading: &mut Reading) {
        self.teller.hostname = read_small(&roots.procfs.join("sys/kernel/hostname"))
            .map(|name| name.trim_end().to_owned())
            .unwrap_or_default();
        for gpu in &pass.gpus {
            let lost = gpu.is_lost.then_some("it has fallen off the bus or must be reset");
            if let Some(fault) = lost.or(gpu.fault.as_deref()) {
                let wrong = format!("GPU {}: {fault}", gpu.index);
                reading.note(Problem::Answer { asked: "NVML", wrong });
            }
            let mut processes: Vec<_> = gpu.processes.iter().collect();
            processes.sort_by_key(|process| (std::cmp::Reverse(process.memory), process.pid));
            let pids: Vec<u32> = processes.iter().take(PROCESSES_MAX).map(|it| it.pid).collect();
            let found = self.owners.of(roots, &pids, now).into_iter();
            let found = found.chain(std::iter::repeat(None));
            let owned: Vec<_> = processes.into_iter().zip(found).collect();
            self.teller.gpu(pass, gpu, &owned, now, &mut self.sheet);
        }
        let there = pass.gpus.iter().flat_map(|gpu| &gpu.processes).map(|process| process.pid);
        self.owners.keep(&there.collect::<HashSet<u32>>());
    }
}

impl Source for Nvidia {
    fn name(&self) -> &'static str {
        "nvidia"
    }

    fn interval(&self) -> Option<Duration> {
        Some(SLOW)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let has_driver = roots.procfs.join("driver/nvidia/version").exists();
        if !has_driver && self.settings.library.as_os_str().is_empty() {
            self.reader = None;
            return reading.fail(Problem::Lacks("NVIDIA driver in this kernel"));
        }
        let library = &self.settings.library;
        let fault = match self.reader.get_or_insert_with(|| reader(library)).ask(now) {
            Ok(Answer::Pass(pass)) => {
                self.tell(roots, &pass, now, reading);
                None
            }
            Ok(Answer::Fault { fault, why }) => Some((fault, why)),
            Err(why) => Some((Fault::Other, why)),
        };
        Teller::state(fault.as_ref().map(|(fault, _)| *fault), &mut self.sheet);
        self.sheet.tell(reading);
        if let Some((_, wrong)) = fault {
            reading.fail(Problem::Answer { asked: "NVML", wrong });
        }
    }
}
