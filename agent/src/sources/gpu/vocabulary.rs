//! The same readings in two vocabularies: dcgm-exporter's and `nvidia_gpu_exporter`'s.
//!
//! A row is a reading by its key (see [`super::pass`]) and what each vocabulary calls it, with the way from
//! NVML's unit to its own. Names and units: dcgm-exporter's `default-counters.csv` and DCGM's field
//! list; `nvidia_gpu_exporter`'s output over `nvidia-smi --query-gpu`.

use crate::sources::Desc;
use crate::sources::attributes::Unit;

/// A family and the way from NVML's unit to its own.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) desc: Desc,
    pub(super) unit: Unit,
}

/// A reading.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) dcgm: Option<Word>,
    pub(super) smi: Option<Word>,
}

const fn gauge(name: &'static str, help: &'static str, unit: Unit) -> Option<Word> {
    Some(Word { desc: Desc::gauge(name, help), unit })
}

const fn counter(name: &'static str, help: &'static str, unit: Unit) -> Option<Word> {
    Some(Word { desc: Desc::counter(name, help), unit })
}

const fn row(key: &'static str, dcgm: Option<Word>, smi: Option<Word>) -> Row {
    Row { key, dcgm, smi }
}

const MEBI: Unit = Unit::Per(1_048_576.0);
const HERTZ: Unit = Unit::Times(1e6);
const WATTS: Unit = Unit::Per(1e3);
const SECONDS: Unit = Unit::Per(1e9);
const RATIO: Unit = Unit::Per(100.0);
const ONE: Unit = Unit::One;

/// All readings that are a number of a GPU.
pub(super) const ROWS: &[Row] = &[
    row(
        "clock_sm",
        gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", ONE),
        gauge("nvidia_smi_clocks_current_sm_clock_hz", "clocks.current.sm [MHz]", HERTZ),
    ),
    row(
        "clock_memory",
        gauge("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", ONE),
        gauge("nvidia_smi_clocks_current_memory_clock_hz", "clocks.current.memory [MHz]", HERTZ),
    ),
    row(
        "clock_graphics",
        None,
        gauge(
            "nvidia_smi_clocks_current_graphics_clock_hz",
            "clocks.current.graphics [MHz]",
            HERTZ,
        ),
    ),
    row(
        "clock_video",
        gauge(
            "DCGM_FI_DEV_VIDEO_CLOCK",
            "Video encoder and decoder clock frequency (in MHz).",
            ONE,
        ),
        gauge("nvidia_smi_clocks_current_video_clock_hz", "clocks.current.video [MHz]", HERTZ),
    ),
    row(
        "clock_sm_max",
        gauge("DCGM_FI_DEV_MAX_SM_CLOCK", "Maximum SM clock frequency (in MHz).", ONE),
        gauge("nvidia_smi_clocks_max_sm_clock_hz", "clocks.max.sm [MHz]", HERTZ),
    ),
    row(
        "clock_memory_max",
        gauge("DCGM_FI_DEV_MAX_MEM_CLOCK", "Maximum memory clock frequency (in MHz).", ONE),
        gauge("nvidia_smi_clocks_max_memory_clock_hz", "clocks.max.memory [MHz]", HERTZ),
    ),
    row(
        "clock_graphics_max",
        None,
        gauge("nvidia_smi_clocks_max_graphics_clock_hz", "clocks.max.graphics [MHz]", HERTZ),
    ),
    row(
        "temperature",
        gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", ONE),
        gauge("nvidia_smi_temperature_gpu", "temperature.gpu", ONE),
    ),
    row(
        "temperature_memory",
        gauge("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", ONE),
        gauge("nvidia_smi_temperature_memory", "temperature.memory", ONE),
    ),
    row(
        "power_draw",
        gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", WATTS),
        gauge("nvidia_smi_power_draw_watts", "power.draw [W]", WATTS),
    ),
    row(
        "power_draw_average",
        None,
        gauge("nvidia_smi_power_draw_average_watts", "power.draw.average [W]", WATTS),
    ),
    row(
        "power_draw_instant",
        gauge("DCGM_FI_DEV_POWER_USAGE_INSTANT", "Power draw at this instant (in W).", WATTS),
        gauge("nvidia_smi_power_draw_instant_watts", "power.draw.instant [W]", WATTS),
    ),
    row(
        "power_limit",
        gauge("DCGM_FI_DEV_POWER_MGMT_LIMIT", "Power management limit (in W).", WATTS),
        gauge("nvidia_smi_power_limit_watts", "power.limit [W]", WATTS),
    ),
    row(
        "power_limit_enforced",
        gauge("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "Effective power limit (in W).", WATTS),
        gauge("nvidia_smi_enforced_power_limit_watts", "enforced.power.limit [W]", WATTS),
    ),
    row(
        "power_limit_default",
        gauge("DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF", "Default power management limit (in W).", WATTS),
        gauge("nvidia_smi_power_default_limit_watts", "power.default_limit [W]", WATTS),
    ),
    row(
        "power_limit_min",
        gauge("DCGM_FI_DEV_POWER_MGMT_LIMIT_MIN", "Least power management limit (in W).", WATTS),
        gauge("nvidia_smi_power_min_limit_watts", "power.min_limit [W]", WATTS),
    ),
    row(
        "power_limit_max",
        gauge("DCGM_FI_DEV_POWER_MGMT_LIMIT_MAX", "Greatest power management limit (in W).", WATTS),
        gauge("nvidia_smi_power_max_limit_watts", "power.max_limit [W]", WATTS),
    ),
    row(
        "energy",
        counter(
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
            "Total energy consumption since boot (in mJ).",
            ONE,
        ),
        None,
    ),
    row(
        "pcie_replays",
        counter("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "Total number of PCIe retries.", ONE),
        None,
    ),
    row(
        "pcie_sent",
        gauge("DCGM_FI_DEV_PCIE_TX_THROUGHPUT", "PCIe throughput sent (in KB/s).", ONE),
        None,
    ),
    row(
        "pcie_received",
        gauge("DCGM_FI_DEV_PCIE_RX_THROUGHPUT", "PCIe throughput received (in KB/s).", ONE),
        None,
    ),
    row(
        "pcie_gen",
        gauge("DCGM_FI_DEV_PCIE_LINK_GEN", "PCIe current link generation.", ONE),
        gauge("nvidia_smi_pcie_link_gen_current", "pcie.link.gen.current", ONE),
    ),
    row(
        "pcie_gen_max",
        gauge("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", "PCIe maximum link generation.", ONE),
        gauge("nvidia_smi_pcie_link_gen_max", "pcie.link.gen.max", ONE),
    ),
    row(
        "pcie_width",
        gauge("DCGM_FI_DEV_PCIE_LINK_WIDTH", "PCIe current link width.", ONE),
        gauge("nvidia_smi_pcie_link_width_current", "pcie.link.width.current", ONE),
    ),
    row(
        "pcie_width_max",
        gauge("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", "PCIe maximum link width.", ONE),
        gauge("nvidia_smi_pcie_link_width_max", "pcie.link.width.max", ONE),
    ),
    row(
        "utilization_gpu",
        gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", ONE),
        gauge("nvidia_smi_utilization_gpu_ratio", "utilization.gpu [%]", RATIO),
    ),
    row(
        "utilization_memory",
        gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", ONE),
        gauge("nvidia_smi_utilization_memory_ratio", "utilization.memory [%]", RATIO),
    ),
    row(
        "utilization_encoder",
        gauge("DCGM_FI_DEV_ENC_UTIL", "Encoder utilization (in %).", ONE),
        gauge("nvidia_smi_utilization_encoder_ratio", "utilization.encoder [%]", RATIO),
    ),
    row(
        "utilization_decoder",
        gauge("DCGM_FI_DEV_DEC_UTIL", "Decoder utilization (in %).", ONE),
        gauge("nvidia_smi_utilization_decoder_ratio", "utilization.decoder [%]", RATIO),
    ),
    row(
        "encoder_sessions",
        None,
        gauge("nvidia_smi_encoder_stats_session_count", "encoder.stats.sessionCount", ONE),
    ),
    row(
        "encoder_fps",
        None,
        gauge("nvidia_smi_encoder_stats_average_fps", "encoder.stats.averageFps", ONE),
    ),
    row(
        "encoder_latency",
        None,
        gauge("nvidia_smi_encoder_stats_average_latency", "encoder.stats.averageLatency", ONE),
    ),
    row(
        "memory_free",
        gauge("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", MEBI),
        gauge("nvidia_smi_memory_free_bytes", "memory.free [MiB]", ONE),
    ),
    row(
        "memory_used",
        gauge("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", MEBI),
        gauge("nvidia_smi_memory_used_bytes", "memory.used [MiB]", ONE),
    ),
    row(
        "memory_reserved",
        gauge("DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB).", MEBI),
        gauge("nvidia_smi_memory_reserved_bytes", "memory.reserved [MiB]", ONE),
    ),
    row(
        "memory_total",
        gauge("DCGM_FI_DEV_FB_TOTAL", "Framebuffer memory in all (in MiB).", MEBI),
        gauge("nvidia_smi_memory_total_bytes", "memory.total [MiB]", ONE),
    ),
    row("bar1_total", gauge("DCGM_FI_DEV_BAR1_TOTAL", "BAR1 memory in all (in MiB).", MEBI), None),
    row("bar1_used", gauge("DCGM_FI_DEV_BAR1_USED", "BAR1 memory used (in MiB).", MEBI), None),
    row("bar1_free", gauge("DCGM_FI_DEV_BAR1_FREE", "BAR1 memory free (in MiB).", MEBI), None),
    row(
        "fan_speed",
        gauge("DCGM_FI_DEV_FAN_SPEED", "Fan speed (in %).", ONE),
        gauge("nvidia_smi_fan_speed_ratio", "fan.speed [%]", RATIO),
    ),
    row(
        "pstate",
        gauge("DCGM_FI_DEV_PSTATE", "Performance state (0 is the highest).", ONE),
        gauge("nvidia_smi_pstate", "pstate", ONE),
    ),
    row(
        "throttle_reasons",
        gauge("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "Why clocks are held back, as bits.", ONE),
        gauge("nvidia_smi_clocks_event_reasons_active", "clocks_event_reasons.active", ONE),
    ),
    row(
        "throttle_reasons_supported",
        None,
        gauge("nvidia_smi_clocks_event_reasons_supported", "clocks_event_reasons.supported", ONE),
    ),
    row(
        "throttled_power_cap",
        counter(
            "DCGM_FI_DEV_POWER_VIOLATION",
            "Throttling duration due to power constraints (in ns).",
            ONE,
        ),
        gauge(
            "nvidia_smi_clocks_event_reasons_counters_sw_power_cap_seconds",
            "clocks_event_reasons_counters.sw_power_cap [us]",
            SECONDS,
        ),
    ),
    row(
        "throttled_sync_boost",
        counter(
            "DCGM_FI_DEV_SYNC_BOOST_VIOLATION",
            "Throttling duration due to sync-boost constraints (in ns).",
            ONE,
        ),
        gauge(
            "nvidia_smi_clocks_event_reasons_counters_sync_boost_seconds",
            "clocks_event_reasons_counters.sync_boost [us]",
            SECONDS,
        ),
    ),
    row(
        "throttled_sw_thermal",
        None,
        gauge(
            "nvidia_smi_clocks_event_reasons_counters_sw_thermal_slowdown_seconds",
            "clocks_event_reasons_counters.sw_thermal_slowdown [us]",
            SECONDS,
        ),
    ),
    row(
        "throttled_hw_thermal",
        None,
        gauge(
            "nvidia_smi_clocks_event_reasons_counters_hw_thermal_slowdown_seconds",
            "clocks_event_reasons_counters.hw_thermal_slowdown [us]",
            SECONDS,
        ),
    ),
    row(
        "throttled_power_brake",
        None,
        gauge(
            "nvidia_smi_clocks_event_reasons_counters_hw_power_brake_slowdown_seconds",
            "clocks_event_reasons_counters.hw_power_brake_slowdown [us]",
            SECONDS,
        ),
    ),
    row(
        "ecc_mode",
        gauge("DCGM_FI_DEV_ECC_CURRENT", "Whether ECC is on.", ONE),
        gauge("nvidia_smi_ecc_mode_current", "ecc.mode.current", ONE),
    ),
    row(
        "ecc_mode_pending",
        gauge("DCGM_FI_DEV_ECC_PENDING", "Whether ECC is on after the next reboot.", ONE),
        gauge("nvidia_smi_ecc_mode_pending", "ecc.mode.pending", ONE),
    ),
    row(
        "ecc_corrected_volatile",
        counter(
            "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
            "Total number of single-bit volatile ECC errors.",
            ONE,
        ),
        gauge(
            "nvidia_smi_ecc_errors_corrected_volatile_total",
            "ecc.errors.corrected.volatile.total",
            ONE,
        ),
    ),
    row(
        "ecc_corrected_aggregate",
        counter(
            "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL",
            "Total number of single-bit persistent ECC errors.",
            ONE,
        ),
        gauge(
            "nvidia_smi_ecc_errors_corrected_aggregate_total",
            "ecc.errors.corrected.aggregate.total",
            ONE,
        ),
    ),
    row(
        "ecc_uncorrected_volatile",
        counter(
            "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
            "Total number of double-bit volatile ECC errors.",
            ONE,
        ),
        gauge(
            "nvidia_smi_ecc_errors_uncorrected_volatile_total",
            "ecc.errors.uncorrected.volatile.total",
            ONE,
        ),
    ),
    row(
        "ecc_uncorrected_aggregate",
        counter(
            "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL",
            "Total number of double-bit persistent ECC errors.",
            ONE,
        ),
        gauge(
            "nvidia_smi_ecc_errors_uncorrected_aggregate_total",
            "ecc.errors.uncorrected.aggregate.total",
            ONE,
        ),
    ),
    row(
        "retired_pages_single_bit",
        counter(
            "DCGM_FI_DEV_RETIRED_SBE",
            "Total number of retired pages due to single-bit errors.",
            ONE,
        ),
        gauge(
            "nvidia_smi_retired_pages_single_bit_ecc_count",
            "retired_pages.single_bit_ecc.count",
            ONE,
        ),
    ),
    row(
        "retired_pages_double_bit",
        counter(
            "DCGM_FI_DEV_RETIRED_DBE",
            "Total number of retired pages due to double-bit errors.",
            ONE,
        ),
        gauge("nvidia_smi_retired_pages_double_bit_count", "retired_pages.double_bit.count", ONE),
    ),
    row(
        "retired_pages_pending",
        counter("DCGM_FI_DEV_RETIRED_PENDING", "Total number of pages pending retirement.", ONE),
        gauge("nvidia_smi_retired_pages_pending", "retired_pages.pending", ONE),
    ),
    row(
        "remapped_rows_correctable",
        counter(
            "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
            "Number of remapped rows for correctable errors",
            ONE,
        ),
        gauge("nvidia_smi_remapped_rows_correctable", "remapped_rows.correctable", ONE),
    ),
    row(
        "remapped_rows_uncorrectable",
        counter(
            "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
            "Number of remapped rows for uncorrectable errors",
            ONE,
        ),
        gauge("nvidia_smi_remapped_rows_uncorrectable", "remapped_rows.uncorrectable", ONE),
    ),
    row(
        "remapped_rows_pending",
        gauge("DCGM_FI_DEV_ROW_REMAP_PENDING", "Whether remapping of rows is pending", ONE),
        gauge("nvidia_smi_remapped_rows_pending", "remapped_rows.pending", ONE),
    ),
    row(
        "remapped_rows_failure",
        gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed", ONE),
        gauge("nvidia_smi_remapped_rows_failure", "remapped_rows.failure", ONE),
    ),
    row(
        "persistence_mode",
        gauge("DCGM_FI_DEV_PERSISTENCE_MODE", "Whether persistence mode is on.", ONE),
        gauge("nvidia_smi_persistence_mode", "persistence_mode", ONE),
    ),
    row(
        "compute_mode",
        gauge("DCGM_FI_DEV_COMPUTE_MODE", "Compute mode.", ONE),
        gauge("nvidia_smi_compute_mode", "compute_mode", ONE),
    ),
    row("display_active", None, gauge("nvidia_smi_display_active", "display_active", ONE)),
    row("display_attached", None, gauge("nvidia_smi_display_attached", "display_attached", ONE)),
    row("accounting_mode", None, gauge("nvidia_smi_accounting_mode", "accounting.mode", ONE)),
    row(
        "accounting_buffer_size",
        None,
        gauge("nvidia_smi_accounting_buffer_size", "accounting.buffer_size", ONE),
    ),
    row(
        "mig_mode",
        gauge("DCGM_FI_DEV_MIG_MODE", "Whether MIG is on.", ONE),
        gauge("nvidia_smi_mig_mode_current", "mig.mode.current", ONE),
    ),
    row("mig_mode_pending", None, gauge("nvidia_smi_mig_mode_pending", "mig.mode.pending", ONE)),
];

/// The bits of the reasons why clocks are held back, by `nvidia_gpu_exporter`'s names.
pub(super) const REASONS: [(u64, Desc); 8] = [
    (0x1, reason("nvidia_smi_clocks_event_reasons_gpu_idle", "clocks_event_reasons.gpu_idle")),
    (
        0x2,
        reason(
            "nvidia_smi_clocks_event_reasons_applications_clocks_setting",
            "clocks_event_reasons.applications_clocks_setting",
        ),
    ),
    (
        0x4,
        reason("nvidia_smi_clocks_event_reasons_sw_power_cap", "clocks_event_reasons.sw_power_cap"),
    ),
    (
        0x8,
        reason("nvidia_smi_clocks_event_reasons_hw_slowdown", "clocks_event_reasons.hw_slowdown"),
    ),
    (0x10, reason("nvidia_smi_clocks_event_reasons_sync_boost", "clocks_event_reasons.sync_boost")),
    (
        0x20,
        reason(
            "nvidia_smi_clocks_event_reasons_sw_thermal_slowdown",
            "clocks_event_reasons.sw_thermal_slowdown",
        ),
    ),
    (
        0x40,
        reason(
            "nvidia_smi_clocks_event_reasons_hw_thermal_slowdown",
            "clocks_event_reasons.hw_thermal_slowdown",
        ),
    ),
    (
        0x80,
        reason(
            "nvidia_smi_clocks_event_reasons_hw_power_brake_slowdown",
            "clocks_event_reasons.hw_power_brake_slowdown",
        ),
    ),
];

const fn reason(name: &'static str, help: &'static str) -> Desc {
    Desc::gauge(name, help)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reading_and_each_family_stands_once() {
        let keys: BTreeSet<&str> = ROWS.iter().map(|row| row.key).collect();
        assert_eq!(keys.len(), ROWS.len());
        let words = || ROWS.iter().flat_map(|row| [&row.dcgm, &row.smi]).flatten();
        let names: BTreeSet<&str> = words().map(|word| word.desc.name).collect();
        assert_eq!(names.len(), words().count());
        assert!(
            names.iter().all(|n| n.starts_with("DCGM_FI_DEV_") || n.starts_with("nvidia_smi_"))
        );
    }
}
