//! What NVML said in one pass: what the child writes and the agent reads, a line of JSON.
//!
//! A number is as NVML has it – bytes, MHz, mW, mJ, nanoseconds, degrees Celsius, percent, KB/s – under the
//! key by which [`super::vocabulary`] knows it. What a GPU does not support is not there; it is never zero.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a question got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// NVML answers.
    Pass(Pass),
    /// NVML as a whole does not.
    Fault {
        /// What kind of fault it is.
        fault: Fault,
        /// What it said.
        why: String,
    },
}

/// Why NVML as a whole does not answer. Each is a state of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The library is not installed, or is not one.
    NoLibrary,
    /// The kernel's module is not loaded.
    NoDriver,
    /// The library is of another version than the kernel's module: the driver was updated and not
    /// loaded again.
    Mismatch,
    /// The device files may not be opened.
    Denied,
    /// A GPU has fallen off the bus and took NVML with it.
    Lost,
    /// Anything else.
    Other,
}

impl Fault {
    /// All, with what a label says of each.
    pub const ALL: [(Self, &str); 6] = [
        (Self::NoLibrary, "no_library"),
        (Self::NoDriver, "no_driver"),
        (Self::Mismatch, "mismatch"),
        (Self::Denied, "denied"),
        (Self::Lost, "lost"),
        (Self::Other, "other"),
    ];
}

/// One pass over all GPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pass {
    /// Of the kernel's module.
    pub driver: String,
    /// The newest CUDA the driver knows.
    pub cuda: String,
    /// In NVML's order.
    pub gpus: Vec<Gpu>,
}

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// NVML's number of it, which may change with a reboot.
    pub index: u32,
    /// Whether it has fallen off the bus or must be reset: it says nothing any more.
    pub is_lost: bool,
    /// Why it cannot be asked, where that is something else.
    pub fault: Option<String>,
    /// What it is; empty where it was lost before it said so.
    pub facts: Facts,
    /// Its readings.
    pub numbers: BTreeMap<Cow<'static, str>, f64>,
    /// Whether it says that it counts no energy.
    pub counts_no_energy: bool,
    /// Critical errors since the pass before, in their order; `None` where it tells none.
    pub xids: Option<Vec<u64>>,
    /// Who uses it.
    pub processes: Vec<Process>,
    /// Its parts, where MIG divides it.
    pub instances: Vec<Instance>,
}

/// What a GPU is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// `GPU-…`.
    pub uuid: String,
    /// The model.
    pub name: String,
    /// `00000000:01:00.0`.
    pub pci_bus_id: String,
    /// Of `/dev/nvidiaN`.
    pub minor: Option<u32>,
    /// Of the board.
    pub serial: Option<String>,
    /// Of its firmware.
    pub vbios: Option<String>,
    /// `8.9`.
    pub compute_capability: Option<String>,
    /// `0x185110DE`.
    pub pci_sub_device_id: Option<String>,
}

/// A process that uses a GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// In the first namespace of processes.
    pub pid: u32,
    /// What NVML calls it: the path of its program, as a rule.
    pub name: String,
    /// Whether it computes; else it draws.
    pub computes: bool,
    /// Bytes of the GPU's memory.
    pub memory: Option<u64>,
    /// The share of the time in which each engine worked for it: `sm`, `memory`, `encoder`, `decoder`.
    pub busy: BTreeMap<String, f64>,
}

/// A part of a GPU that MIG divides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// The GPU instance.
    pub id: Option<u32>,
    /// `1g.10gb`.
    pub profile: String,
    /// Its readings, under the keys of a GPU's.
    pub numbers: BTreeMap<Cow<'static, str>, f64>,
}
