//! The child's side: NVML, asked once for each line on standard input, answered by a line of JSON.
//!
//! Runs in a process of its own, because the vendor's library may hang or crash and takes only that process
//! with it. It ends when standard input ends, which is no later than its parent does. Knows no clock, no
//! label and no file but the library. Each question costs what NVML's calls cost; PCI Express throughput
//! alone waits 2 × 20 ms per GPU.
//!
//! Source: NVML's reference (docs.nvidia.com/deploy/nvml-api), nvml.h of CUDA 12.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::Path;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, PcieUtilCounter, PerformanceState, RetirementCause,
    TemperatureSensor,
};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::event::EventData;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id;
use nvml_wrapper::{Device, EventSet, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::pass::{Answer, Facts, Fault, Gpu, Instance, Pass, Process};

/// The library as every driver installs it; the name without a version comes with the toolkit only.
pub const LIBRARY: &str = "libnvidia-ml.so.1";
/// GPUs asked at most; NVML knows no more in one host.
const GPUS_MAX: u32 = 64;
/// Processes of one GPU told at most.
const PROCESSES_MAX: usize = 4096;
/// The longest name of a process.
const NAME_BYTES_MAX: usize = 256;
/// Events taken in one pass.
const EVENTS_MAX: usize = 64;

/// Answers questions until there are no more.
///
/// # Errors
/// When standard input or output break.
pub fn serve(library: &Path, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<()> {
    // What it is called where processes are listed; a kernel that does not let it leaves its name.
    drop(std::fs::write("/proc/self/comm", "stoa-nvml"));
    let mut line = String::new();
    loop {
        if !next(input, &mut line)? {
            return Ok(());
        }
        let fault = match Nvml::builder().lib_path(library.as_os_str()).init() {
            Ok(nvml) => match session(&nvml, input, output)? {
                Some(error) => error,
                None => return Ok(()),
            },
            Err(error) => error,
        };
        write(output, &Answer::Fault { fault: kind(&fault), why: fault.to_string() })?;
    }
}

fn next(input: &mut impl BufRead, line: &mut String) -> io::Result<bool> {
    line.clear();
    Ok(io::Read::take(&mut *input, 4096).read_line(line)? > 0)
}

fn write(output: &mut impl Write, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *output, answer)?;
    output.write_all(b"\n")?;
    output.flush()
}

fn kind(error: &NvmlError) -> Fault {
    match error {
        NvmlError::LibloadingError(_)
        | NvmlError::FailedToLoadSymbol(_)
        | NvmlError::LibraryNotFound
        | NvmlError::FunctionNotFound => Fault::NoLibrary,
        NvmlError::DriverNotLoaded => Fault::NoDriver,
        NvmlError::LibRmVersionMismatch => Fault::Mismatch,
        NvmlError::NoPermission | NvmlError::OperatingSystem => Fault::Denied,
        NvmlError::GpuLost | NvmlError::ResetRequired => Fault::Lost,
        _ => Fault::Other,
    }
}

/// Answers the question that was asked and those after it. `None`: there are no more; else why NVML must be
/// begun anew, which is the answer to the last.
fn session(
    nvml: &Nvml,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<Option<NvmlError>> {
    let mut session = Session::new(nvml);
    let mut line = String::new();
    loop {
        match session.pass() {
            Ok(pass) => write(output, &Answer::Pass(pass))?,
            Err(error) => return Ok(Some(error)),
        }
        if !next(input, &mut line)? {
            return Ok(None);
        }
    }
}

/// What is kept of a GPU from one pass to the next.
#[derive(Default)]
struct Known<'nvml> {
    facts: Facts,
    /// Where it tells critical errors; one for each, as one that is lost ends all that are told with it.
    events: Option<EventSet<'nvml>>,
    /// NVML's time of the last sample of what processes use.
    sampled: u64,
}

struct Session<'nvml> {
    nvml: &'nvml Nvml,
    known: Vec<Known<'nvml>>,
}

impl<'nvml> Session<'nvml> {
    fn new(nvml: &'nvml Nvml) -> Self {
        Self { nvml, known: Vec::new() }
    }

    fn pass(&mut self) -> Result<Pass, NvmlError> {
        let nvml = self.nvml;
        let count = nvml.device_count()?.min(GPUS_MAX);
        self.known.resize_with(count as usize, Known::default);
        let gpus = (0..).zip(&mut self.known).map(|(index, known)| gpu(nvml, index, known));
        let gpus = gpus.collect::<Result<_, _>>()?;
        let cuda = nvml.sys_cuda_driver_version().map(|version| {
            format!("{}.{}", cuda_driver_version_major(version), cuda_driver_version_minor(version))
        });
        Ok(Pass {
            driver: nvml.sys_driver_version().unwrap_or_default(),
            cuda: cuda.unwrap_or_default(),
            gpus,
        })
    }
}

impl Known<'_> {
    /// The critical errors that have come since they were asked for last.
    fn xids(&self) -> Option<Vec<u64>> {
        let events = self.events.as_ref()?;
        let waiting = std::iter::from_fn(|| events.wait(0).ok()).take(EVENTS_MAX);
        let xid = |event: EventData<'_>| match event.event_data {
            Some(XidError::Value(xid))
                if event.event_type.contains(EventTypes::CRITICAL_XID_ERROR) =>
            {
                Some(xid)
            }
            _ => None,
        };
        Some(waiting.filter_map(xid).collect())
    }
}

/// Where a GPU tells critical errors; `None` where it tells none.
fn register<'nvml>(nvml: &'nvml Nvml, device: &Device<'nvml>) -> Option<EventSet<'nvml>> {
    let known = device.supported_event_types().ok()?;
    if !known.contains(EventTypes::CRITICAL_XID_ERROR) {
        return None;
    }
    let set = nvml.create_event_set().ok()?;
    device.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok()
}

fn is_lost(error: &NvmlError) -> bool {
    matches!(error, NvmlError::GpuLost | NvmlError::ResetRequired)
}

fn gpu<'nvml>(nvml: &'nvml Nvml, index: u32, known: &mut Known<'nvml>) -> Result<Gpu, NvmlError> {
    let mut gpu = Gpu { index, ..Gpu::default() };
    match nvml.device_by_index(index) {
        Ok(device) => {
            if known.facts.uuid.is_empty() {
                known.facts = facts(&device);
                known.events = register(nvml, &device);
            }
            read(nvml, &device, known, &mut gpu);
        }
        // The others go on.
        Err(error) if is_lost(&error) => gpu.is_lost = true,
        Err(error @ (NvmlError::Uninitialized | NvmlError::LibRmVersionMismatch)) => {
            return Err(error);
        }
        Err(error) => gpu.fault = Some(error.to_string()),
    }
    gpu.facts = known.facts.clone();
    gpu.xids = known.xids();
    Ok(gpu)
}

/// The readings of one device, and whether it was lost meanwhile.
struct Numbers<'a> {
    numbers: &'a mut BTreeMap<Cow<'static, str>, f64>,
    is_lost: bool,
}

impl Numbers<'_> {
    /// Adds a reading that the device gives.
    fn put(&mut self, key: &'static str, value: Result<impl Number, NvmlError>) {
        match value {
            Ok(value) => {
                self.numbers.insert(Cow::Borrowed(key), value.number());
            }
            Err(error) => self.is_lost |= is_lost(&error),
        }
    }
}

trait Number {
    fn number(self) -> f64;
}

impl Number for u32 {
    fn number(self) -> f64 {
        f64::from(self)
    }
}

impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl Number for usize {
    fn number(self) -> f64 {
        self as f64
    }
}

fn read(nvml: &Nvml, device: &Device<'_>, known: &mut Known<'_>, gpu: &mut Gpu) {
    let energy = device.total_energy_consumption();
    gpu.counts_no_energy = matches!(energy, Err(NvmlError::NotSupported));
    let mut to = Numbers { numbers: &mut gpu.numbers, is_lost: false };
    to.put("energy", energy);
    load(device, &mut to);
    memory(device, &mut to);
    power(device, &mut to);
    clocks(device, &mut to);
    bus(device, &mut to);
    errors(device, &mut to);
    modes(device, &mut to);
    fields(device, &mut to);
    gpu.is_lost = to.is_lost;
    if !gpu.is_lost {
        gpu.processes = processes(nvml, device, known);
        gpu.instances = instances(device);
    }
}

fn facts(device: &Device<'_>) -> Facts {
    let pci = device.pci_info().ok();
    let sub = pci.as_ref().and_then(|pci| pci.pci_sub_system_id);
    Facts {
        uuid: device.uuid().unwrap_or_default(),
        name: device.name().unwrap_or_default(),
        pci_bus_id: pci.map(|pci| pci.bus_id).unwrap_or_default(),
        minor: device.minor_number().ok(),
        serial: device.serial().ok(),
        vbios: device.vbios_version().ok(),
        compute_capability: device
            .cuda_compute_capability()
            .ok()
            .map(|capability| format!("{}.{}", capability.major, capability.minor)),
        pci_sub_device_id: sub.map(|id| format!("0x{id:08X}")),
    }
}

fn load(device: &Device<'_>, to: &mut Numbers<'_>) {
    let rates = device.utilization_rates();
    to.put("utilization_memory", rates.as_ref().map(|r| r.memory).map_err(lost_only));
    to.put("utilization_gpu", rates.map(|r| r.gpu));
    to.put("utilization_encoder", device.encoder_utilization().map(|u| u.utilization));
    to.put("utilization_decoder", device.decoder_utilization().map(|u| u.utilization));
    if let Ok(stats) = device.encoder_stats() {
        to.put("encoder_sessions", Ok(stats.session_count));
        to.put("encoder_fps", Ok(stats.average_fps));
        to.put("encoder_latency", Ok(stats.average_latency));
    }
}

/// An error is not copied; of one that is told twice only whether the GPU is lost matters.
fn lost_only(error: &NvmlError) -> NvmlError {
    if is_lost(error) { NvmlError::GpuLost } else { NvmlError::NotSupported }
}

fn memory(device: &Device<'_>, to: &mut Numbers<'_>) {
    match device.memory_info() {
        Ok(info) => {
            to.put("memory_total", Ok(info.total));
            to.put("memory_used", Ok(info.used));
            to.put("memory_free", Ok(info.free));
            to.put("memory_reserved", Ok(info.reserved));
        }
        Err(error) => to.is_lost |= is_lost(&error),
    }
    if let Ok(bar1) = device.bar1_memory_info() {
        to.put("bar1_total", Ok(bar1.total));
        to.put("bar1_used", Ok(bar1.used));
        to.put("bar1_free", Ok(bar1.free));
    }
}

fn power(device: &Device<'_>, to: &mut Numbers<'_>) {
    to.put("temperature", device.temperature(TemperatureSensor::Gpu));
    to.put("power_draw", device.power_usage());
    to.put("power_limit", device.power_management_limit());
    to.put("power_limit_enforced", device.enforced_power_limit());
    to.put("power_limit_default", device.power_management_limit_default());
    if let Ok(limits) = device.power_management_limit_constraints() {
        to.put("power_limit_min", Ok(limits.min_limit));
        to.put("power_limit_max", Ok(limits.max_limit));
    }
    // A passive cooler has no fan, and a GPU with several tells the first.
    to.put("fan_speed", device.fan_speed(0));
}

fn clocks(device: &Device<'_>, to: &mut Numbers<'_>) {
    for (clock, now, most) in [
        (Clock::Graphics, "clock_graphics", "clock_graphics_max"),
        (Clock::SM, "clock_sm", "clock_sm_max"),
        (Clock::Memory, "clock_memory", "clock_memory_max"),
        (Clock::Video, "clock_video", "clock_video_max"),
    ] {
        to.put(now, device.clock_info(clock));
        to.put(most, device.max_clock_info(clock));
    }
    let state = device.performance_state().ok().and_then(|state| number_of(&state));
    if let Some(state) = state {
        to.put("pstate", Ok(state));
    }
    to.put("throttle_reasons", device.current_throttle_reasons().map(|r| r.bits()));
    let supported = device.supported_throttle_reasons().map(|r| r.bits());
    to.put("throttle_reasons_supported", supported);
}

/// The state's number; `None` where the GPU does not know it.
fn number_of(state: &PerformanceState) -> Option<u32> {
    let code = state.as_c();
    (code < 16).then_some(code)
}

fn bus(device: &Device<'_>, to: &mut Numbers<'_>) {
    to.put("pcie_gen", device.current_pcie_link_gen());
    to.put("pcie_gen_max", device.max_pcie_link_gen());
    to.put("pcie_width", device.current_pcie_link_width());
    to.put("pcie_width_max", device.max_pcie_link_width());
    to.put("pcie_replays", device.pcie_replay_counter());
    to.put("pcie_sent", device.pcie_throughput(PcieUtilCounter::Send));
    to.put("pcie_received", device.pcie_throughput(PcieUtilCounter::Receive));
}

fn errors(device: &Device<'_>, to: &mut Numbers<'_>) {
    if let Ok(mode) = device.is_ecc_enabled() {
        to.put("ecc_mode", Ok(mode.currently_enabled));
        to.put("ecc_mode_pending", Ok(mode.pending_enabled));
    }
    for (key, error, counter) in [
        ("ecc_corrected_volatile", MemoryError::Corrected, EccCounter::Volatile),
        ("ecc_corrected_aggregate", MemoryError::Corrected, EccCounter::Aggregate),
        ("ecc_uncorrected_volatile", MemoryError::Uncorrected, EccCounter::Volatile),
        ("ecc_uncorrected_aggregate", MemoryError::Uncorrected, EccCounter::Aggregate),
    ] {
        to.put(key, device.total_ecc_errors(error, counter));
    }
    for (key, cause) in [
        ("retired_pages_single_bit", RetirementCause::MultipleSingleBitEccErrors),
        ("retired_pages_double_bit", RetirementCause::DoubleBitEccError),
    ] {
        to.put(key, device.retired_pages(cause).map(|pages| pages.len()));
    }
    to.put("retired_pages_pending", device.are_pages_pending_retired());
}

fn modes(device: &Device<'_>, to: &mut Numbers<'_>) {
    to.put("persistence_mode", device.is_in_persistent_mode());
    to.put("display_active", device.is_display_active());
    to.put("display_attached", device.is_display_connected());
    to.put("compute_mode", device.compute_mode().map(|mode| mode.as_c()));
    to.put("accounting_mode", device.is_accounting_enabled());
    to.put("accounting_buffer_size", device.accounting_buffer_size());
    if let Ok(mode) = device.mig_mode() {
        to.put("mig_mode", Ok(mode.current));
        to.put("mig_mode_pending", Ok(mode.pending));
    }
}

/// Readings that NVML has as fields only.
const FIELDS: [(u32, &str); 12] = [
    (field_id::NVML_FI_DEV_MEMORY_TEMP, "temperature_memory"),
    (field_id::NVML_FI_DEV_POWER_AVERAGE, "power_draw_average"),
    (field_id::NVML_FI_DEV_POWER_INSTANT, "power_draw_instant"),
    (field_id::NVML_FI_DEV_REMAPPED_COR, "remapped_rows_correctable"),
    (field_id::NVML_FI_DEV_REMAPPED_UNC, "remapped_rows_uncorrectable"),
    (field_id::NVML_FI_DEV_REMAPPED_PENDING, "remapped_rows_pending"),
    (field_id::NVML_FI_DEV_REMAPPED_FAILURE, "remapped_rows_failure"),
    (field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP, "throttled_power_cap"),
    (field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST, "throttled_sync_boost"),
    (field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, "throttled_sw_thermal"),
    (field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN, "throttled_hw_thermal"),
    (field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN, "throttled_power_brake"),
];

fn fields(device: &Device<'_>, to: &mut Numbers<'_>) {
    let ids = FIELDS.map(|(id, _)| FieldId(id));
    let values = match device.field_values_for(&ids) {
        Ok(values) => values,
        Err(error) => {
            to.is_lost |= is_lost(&error);
            return;
        }
    };
    for ((_, key), value) in FIELDS.into_iter().zip(values) {
        let value = value.and_then(|sample| sample.value);
        to.put(key, value.map(Value));
    }
}

struct Value(SampleValue);

impl Number for Value {
    fn number(self) -> f64 {
        match self.0 {
            SampleValue::F64(value) => value,
            SampleValue::U32(value) => f64::from(value),
            SampleValue::U64(value) => value as f64,
            SampleValue::I64(value) => value as f64,
        }
    }
}

fn processes(nvml: &Nvml, device: &Device<'_>, known: &mut Known<'_>) -> Vec<Process> {
    let mut all: BTreeMap<u32, Process> = BTreeMap::new();
    let lists =
        [(true, device.running_compute_processes()), (false, device.running_graphics_processes())];
    for (computes, list) in lists {
        for found in list.unwrap_or_default() {
            if all.len() >= PROCESSES_MAX && !all.contains_key(&found.pid) {
                continue;
            }
            let process = all.entry(found.pid).or_insert_with(|| Process {
                pid: found.pid,
                name: nvml.sys_process_name(found.pid, NAME_BYTES_MAX).unwrap_or_default(),
                ..Process::default()
            });
            process.computes |= computes;
            if let UsedGpuMemory::Used(bytes) = found.used_gpu_memory {
                // One that does both is in both lists, with the same memory.
                process.memory = process.memory.max(Some(bytes));
            }
        }
    }
    for sample in device.process_utilization_stats(known.sampled).unwrap_or_default() {
        // Drivers are known to give samples that were never filled in.
        if sample.sm_util > 100 {
            continue;
        }
        known.sampled = known.sampled.max(sample.timestamp);
        if let Some(process) = all.get_mut(&sample.pid) {
            let busy = [
                ("sm", sample.sm_util),
                ("memory", sample.mem_util),
                ("encoder", sample.enc_util),
                ("decoder", sample.dec_util),
            ];
            let ratio = |percent: u32| f64::from(percent.min(100)) / 100.0;
            process.busy = busy.map(|(engine, it)| (engine.to_owned(), ratio(it))).into();
        }
    }
    all.into_values().collect()
}

fn instances(device: &Device<'_>) -> Vec<Instance> {
    let is_divided = device.mig_mode().is_ok_and(|mode| mode.current == 1);
    if !is_divided {
        return Vec::new();
    }
    let count = device.mig_device_count().unwrap_or(0).min(GPUS_MAX);
    let parts = (0..count).filter_map(|index| device.mig_device_by_index(index).ok());
    let mut instances: Vec<Instance> = Vec::new();
    for part in parts {
        let id = instance_id(&part);
        // Those who compute on one instance share its memory.
        if instances.iter().any(|known| known.id == id) {
            continue;
        }
        let mut numbers = BTreeMap::new();
        memory(&part, &mut Numbers { numbers: &mut numbers, is_lost: false });
        let name = part.name().unwrap_or_default();
        instances.push(Instance { id, profile: profile(&name).to_owned(), numbers });
    }
    instances
}

/// `3g.40gb` of `NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb`.
fn profile(name: &str) -> &str {
    let (_, profile) = name.rsplit_once("MIG ").unwrap_or_default();
    match profile.split_once("c.") {
        Some((computes, rest)) if computes.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => profile,
    }
}

/// The GPU instance of a MIG device, which the wrapper has no call for.
#[expect(unsafe_code, reason = "NVML's own call, with a handle that lives as long as the device")]
fn instance_id(part: &Device<'_>) -> Option<u32> {
    let call = part.nvml().lib().nvmlDeviceGetGpuInstanceId.as_ref().ok()?;
    let mut id = 0;
    // SAFETY: the handle is the device's, which is borrowed; `id` is a u32 that lives through the call.
    let code = unsafe { call(part.handle(), &raw mut id) };
    (code == 0).then_some(id)
}
