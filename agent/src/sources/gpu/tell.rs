//! What a pass is told as: readings in the vocabularies that are wanted, and what neither has words for.
//!
//! A GPU's labels are dcgm-exporter's or `nvidia_gpu_exporter`'s; the agent's own families have `gpu` and
//! `uuid` as the former has. A fault of NVML's as a whole is one series of [`STATE`] that is 1.

use std::collections::BTreeMap;

use stoa_model::Labels;

use super::Vocabularies;
use super::energy::Energy;
use super::owner::Found;
use super::pass::{Facts, Fault, Gpu, Pass, Process};
use super::users::{self, User, Words};
use super::vocabulary::{REASONS, ROWS, Word};
use crate::sources::attributes::Sheet;
use crate::sources::{Desc, Now};

const STATE: Desc = Desc::gauge(
    "stoa_nvidia_state",
    "1 for the state NVML is in: ok, or why it does not answer; mismatch: the driver was updated and not loaded.",
);
const LOST: Desc =
    Desc::gauge("stoa_gpu_lost", "Whether the GPU has fallen off the bus or must be reset.");
const XIDS: Desc =
    Desc::counter("stoa_gpu_xid_errors_total", "Critical errors (XID) seen since the agent began.");
const LAST_XID: Desc =
    Desc::gauge("DCGM_FI_DEV_XID_ERRORS", "Value of the last XID error encountered.");
/// Who uses NVIDIA's GPUs.
const USERS: Words = Words {
    process_memory: Desc::gauge(
        "stoa_gpu_process_memory_bytes",
        "GPU memory of a process, and whose it is: guest, container, unit.",
    ),
    process_busy: Desc::gauge(
        "stoa_gpu_process_engine_ratio",
        "Share of the time in which an engine of the GPU worked for the process: sm, memory, encoder, decoder.",
    ),
    owner_memory: Desc::gauge(
        "stoa_gpu_owner_memory_bytes",
        "GPU memory of all processes of a guest, container or unit; all empty: of the host itself; guest unknown: it could not be found whose.",
    ),
    owner_busy: Desc::gauge(
        "stoa_gpu_owner_engine_ratio",
        "The engines' time for all processes of a guest, container or unit.",
    ),
    left_out: Desc::gauge(
        "stoa_gpu_processes_left_out",
        "Processes on the GPU that are not told one by one: those with least memory.",
    ),
};
const SMI_INFO: Desc =
    Desc::gauge("nvidia_smi_gpu_info", "A metric with a constant '1' value labeled by gpu.");
const SMI_INDEX: Desc = Desc::gauge("nvidia_smi_index", "index");
const SMI_COUNT: Desc = Desc::gauge("nvidia_smi_count", "count");
const SMI_APPS: Desc = Desc::gauge("nvidia_smi_compute_apps", "Number of compute processes.");
const SMI_APP_INFO: Desc = Desc::gauge(
    "nvidia_smi_compute_app_info",
    "A metric with a constant '1' value labeled by process.",
);
const SMI_APP_MEMORY: Desc =
    Desc::gauge("nvidia_smi_compute_app_used_memory_bytes", "used_gpu_memory [MiB]");

/// A process and whose it is, where that is known.
pub(super) type Owned<'a> = (&'a Process, Option<Found>);

/// Tells passes. Keeps label sets and energy from one to the next.
#[derive(Debug)]
pub(super) struct Teller {
    vocabularies: Vocabularies,
    /// Processes told one by one, of each GPU.
    processes_max: usize,
    pub(super) hostname: String,
    energy: Energy,
    /// What GPUs are that said so, by their number: one that is lost says nothing.
    facts: BTreeMap<u32, Facts>,
    /// Critical errors, by UUID.
    xids: BTreeMap<String, Xids>,
}

/// Critical errors of a GPU since the agent began.
#[derive(Debug, Default)]
struct Xids {
    counts: BTreeMap<u64, u64>,
    last: u64,
}

impl Teller {
    pub(super) fn new(vocabularies: Vocabularies, processes_max: usize) -> Self {
        Self {
            vocabularies,
            processes_max,
            hostname: String::new(),
            energy: Energy::default(),
            facts: BTreeMap::new(),
            xids: BTreeMap::new(),
        }
    }

    /// Tells the state of NVML as a whole.
    pub(super) fn state(fault: Option<Fault>, sheet: &mut Sheet) {
        let is = |is_it: bool| f64::from(u8::from(is_it));
        let labels = sheet.labels.of(&[("state", "ok")]);
        sheet.push(&STATE, labels, is(fault.is_none()));
        for (known, state) in Fault::ALL {
            let labels = sheet.labels.of(&[("state", state)]);
            sheet.push(&STATE, labels, is(fault == Some(known)));
        }
    }

    /// Tells a GPU of a pass; `owned` are its processes.
    pub(super) fn gpu(
        &mut self,
        pass: &Pass,
        gpu: &Gpu,
        owned: &[Owned<'_>],
        now: Now,
        sheet: &mut Sheet,
    ) {
        if !gpu.facts.uuid.is_empty() {
            self.facts.insert(gpu.index, gpu.facts.clone());
        }
        let facts = self.facts.get(&gpu.index).cloned().unwrap_or_default();
        let names = Names::of(pass, gpu, &facts, &self.hostname);
        let own = sheet.labels.of(&names.own());
        sheet.push(&LOST, own, f64::from(u8::from(gpu.is_lost)));
        let dcgm = self.vocabularies.dcgm.then(|| sheet.labels.of(&names.dcgm()));
        let smi = self.vocabularies.nvidia_smi.then(|| sheet.labels.of(&names.smi()));
        if let Some(new) = &gpu.xids {
            let xids = self.xids.entry(facts.uuid.clone()).or_default();
            for xid in new {
                *xids.counts.entry(*xid).or_default() += 1;
                xids.last = *xid;
            }
            if let Some(labels) = dcgm.as_ref().filter(|_| !gpu.is_lost) {
                sheet.push(&LAST_XID, labels.clone(), xids.last as f64);
            }
        }
        for (xid, count) in self.xids.get(&facts.uuid).iter().flat_map(|xids| &xids.counts) {
            let xid = xid.to_string();
            let [gpu, uuid] = names.own();
            let labels = sheet.labels.of(&[gpu, uuid, ("xid", &xid)]);
            sheet.push(&XIDS, labels, *count as f64);
        }
        if gpu.is_lost || gpu.fault.is_some() {
            return;
        }
        for row in ROWS {
            let mut value = gpu.numbers.get(row.key).copied();
            if row.key == "energy" && gpu.counts_no_energy {
                let watts = gpu.numbers.get("power_draw").map(|milliwatts| milliwatts / 1e3);
                value = watts.map(|watts| self.energy.of(&facts.uuid, watts, now) * 1e3);
            }
            // Its memory is that of its parts.
            let is_of_parts = row.key.starts_with("memory_") && !gpu.instances.is_empty();
            let Some(value) = value else { continue };
            push(row.dcgm.as_ref(), dcgm.as_ref().filter(|_| !is_of_parts), value, sheet);
            push(row.smi.as_ref(), smi.as_ref(), value, sheet);
        }
        if let Some(smi) = &smi {
            self.smi(pass, gpu, &names, smi, owned, sheet);
        }
        if self.vocabularies.dcgm {
            instances(gpu, &names, sheet);
        }
        self.processes(&names, owned, sheet);
    }

    /// What only `nvidia_gpu_exporter` tells.
    fn smi(
        &self,
        pass: &Pass,
        gpu: &Gpu,
        names: &Names<'_>,
        smi: &Labels,
        owned: &[Owned<'_>],
        sheet: &mut Sheet,
    ) {
        if let Some(bits) = gpu.numbers.get("throttle_reasons") {
            for (bit, desc) in &REASONS {
                let is_set = (bits / *bit as f64).floor() % 2.0 == 1.0;
                sheet.push(desc, smi.clone(), f64::from(u8::from(is_set)));
            }
        }
        let facts = names.facts;
        let text = |fact: &Option<String>| fact.clone().unwrap_or_default();
        let (serial, vbios) = (text(&facts.serial), text(&facts.vbios));
        let (capability, sub) = (text(&facts.compute_capability), text(&facts.pci_sub_device_id));
        let info = sheet.labels.of(&[
            ("uuid", names.bare_uuid()),
            ("name", &facts.name),
            ("driver_version", &pass.driver),
            ("vbios_version", &vbios),
            ("pci_bus_id", &facts.pci_bus_id),
            ("pci_sub_device_id", &sub),
            ("serial", &serial),
            ("index", &names.index),
            ("cuda_version", &pass.cuda),
            ("compute_cap", &capability),
        ]);
        sheet.push(&SMI_INFO, info, 1.0);
        sheet.push(&SMI_INDEX, smi.clone(), f64::from(gpu.index));
        sheet.push(&SMI_COUNT, smi.clone(), pass.gpus.len() as f64);
        let computing = owned.iter().filter(|(process, _)| process.computes);
        sheet.push(&SMI_APPS, smi.clone(), computing.clone().count() as f64);
        for (process, _) in computing.take(self.processes_max) {
            let pid = process.pid.to_string();
            let name = process.name.as_str();
            let pairs = [("uuid", names.bare_uuid()), ("pid", &pid), ("process_name", name)];
            let labels = sheet.labels.of(&pairs);
            sheet.push(&SMI_APP_INFO, labels.clone(), 1.0);
            if let Some(bytes) = process.memory {
                sheet.push(&SMI_APP_MEMORY, labels, bytes as f64);
            }
        }
    }

    fn processes(&self, names: &Names<'_>, owned: &[Owned<'_>], sheet: &mut Sheet) {
        let users: Vec<User<'_>> = owned
            .iter()
            .map(|(process, found)| User {
                pid: process.pid,
                name: found.as_ref().map_or(&process.name, |found| &found.name),
                owner: found.as_ref().map(|found| &found.owner),
                memory: process.memory,
                busy: &process.busy,
            })
            .collect();
        users::tell(&names.own(), &users, self.processes_max, &USERS, sheet);
    }
}

fn push(word: Option<&Word>, labels: Option<&Labels>, value: f64, sheet: &mut Sheet) {
    if let (Some(Word { desc, unit }), Some(labels)) = (word, labels)
        && value.is_finite()
    {
        sheet.push(desc, labels.clone(), unit.of(value));
    }
}

/// The parts of a GPU that MIG divides, in dcgm-exporter's words.
fn instances(gpu: &Gpu, names: &Names<'_>, sheet: &mut Sheet) {
    for instance in &gpu.instances {
        let id = instance.id.map(|id| id.to_string()).unwrap_or_default();
        let mut pairs = names.dcgm().to_vec();
        pairs.extend([("GPU_I_PROFILE", instance.profile.as_str()), ("GPU_I_ID", id.as_str())]);
        let labels = sheet.labels.of(&pairs);
        for row in ROWS {
            let value = instance.numbers.get(row.key).copied();
            push(row.dcgm.as_ref(), Some(&labels), value.unwrap_or(f64::NAN), sheet);
        }
    }
}

/// What labels say of a GPU.
struct Names<'a> {
    index: String,
    device: String,
    facts: &'a Facts,
    driver: &'a str,
    hostname: &'a str,
}

impl<'a> Names<'a> {
    fn of(pass: &'a Pass, gpu: &Gpu, facts: &'a Facts, hostname: &'a str) -> Self {
        let minor = facts.minor.unwrap_or(gpu.index);
        Self {
            index: gpu.index.to_string(),
            device: format!("nvidia{minor}"),
            facts,
            driver: &pass.driver,
            hostname,
        }
    }

    fn bare_uuid(&self) -> &str {
        let uuid = self.facts.uuid.as_str();
        uuid.strip_prefix("GPU-").unwrap_or(uuid)
    }

    fn own(&self) -> [(&'static str, &str); 2] {
        [("gpu", &self.index), ("uuid", &self.facts.uuid)]
    }

    fn smi(&self) -> [(&'static str, &str); 1] {
        [("uuid", self.bare_uuid())]
    }

    fn dcgm(&self) -> [(&'static str, &str); 7] {
        [
            ("gpu", &self.index),
            ("UUID", &self.facts.uuid),
            ("pci_bus_id", &self.facts.pci_bus_id),
            ("device", &self.device),
            ("modelName", &self.facts.name),
            ("hostname", self.hostname),
            ("DCGM_FI_DRIVER_VERSION", self.driver),
        ]
    }
}
