//! The names smartctl_exporter gives to what a report says. What a device does not tell is absent,
//! where the exporter says 0.

use super::report::{Attribute, AttributeFlags, Report, ScsiCounters, Statistic, StatisticFlags};
use crate::sources::Desc;
use crate::sources::loose::{Number, Text};
use crate::sources::sheet::Sheet;

/// SCSI tells decimal gigabytes.
const SCSI_UNIT_BYTES: f64 = 1e9;
/// NVMe counts what is read and written in thousands of 512 bytes, whatever the blocks' size.
const NVME_UNIT_BYTES: f64 = 512_000.0;

const VERSION: Desc = Desc::gauge("smartctl_version", "smartctl version");
pub(super) const DEVICES: Desc =
    Desc::gauge("smartctl_devices", "Number of devices configured or dynamically discovered");
const DEVICE: Desc = Desc::gauge("smartctl_device", "Device info");
const CAPACITY_BLOCKS: Desc =
    Desc::gauge("smartctl_device_capacity_blocks", "Device capacity in blocks");
const CAPACITY_BYTES: Desc =
    Desc::gauge("smartctl_device_capacity_bytes", "Device capacity in bytes");
const NVME_CAPACITY_BYTES: Desc =
    Desc::gauge("smartctl_device_nvme_capacity_bytes", "NVMe device total capacity bytes");
const BLOCK_SIZE: Desc = Desc::gauge("smartctl_device_block_size", "Device block size");
const INTERFACE_SPEED: Desc =
    Desc::gauge("smartctl_device_interface_speed", "Device interface speed, bits per second");
const ATTRIBUTE: Desc = Desc::gauge("smartctl_device_attribute", "Device attributes");
const POWER_ON_SECONDS: Desc =
    Desc::counter("smartctl_device_power_on_seconds", "Device power on seconds");
const ROTATION_RATE: Desc = Desc::gauge("smartctl_device_rotation_rate", "Device rotation rate");
const TEMPERATURE: Desc = Desc::gauge("smartctl_device_temperature", "Device temperature celsius");
const POWER_CYCLES: Desc =
    Desc::counter("smartctl_device_power_cycle_count", "Device power cycle count");
const PERCENTAGE_USED: Desc =
    Desc::counter("smartctl_device_percentage_used", "Device write percentage used");
const AVAILABLE_SPARE: Desc = Desc::counter(
    "smartctl_device_available_spare",
    "Normalized percentage (0 to 100%) of the remaining spare capacity available",
);
const AVAILABLE_SPARE_THRESHOLD: Desc = Desc::counter(
    "smartctl_device_available_spare_threshold",
    "When the Available Spare falls below the threshold indicated in this field, an asynchronous \
     event completion may occur. The value is indicated as a normalized percentage (0 to 100%)",
);
const CRITICAL_WARNING: Desc = Desc::counter(
    "smartctl_device_critical_warning",
    "This field indicates critical warnings for the state of the controller",
);
const MEDIA_ERRORS: Desc = Desc::counter(
    "smartctl_device_media_errors",
    "Contains the number of occurrences where the controller detected an unrecovered data \
     integrity error. Errors such as uncorrectable ECC, CRC checksum failure, or LBA tag mismatch \
     are included in this field",
);
const ERROR_LOG_ENTRIES: Desc = Desc::counter(
    "smartctl_device_num_err_log_entries",
    "Contains the number of Error Information log entries over the life of the controller",
);
const BYTES_READ: Desc = Desc::counter("smartctl_device_bytes_read", "");
const BYTES_WRITTEN: Desc = Desc::counter("smartctl_device_bytes_written", "");
const SMART_STATUS: Desc = Desc::gauge("smartctl_device_smart_status", "General smart status");
const EXIT_STATUS: Desc =
    Desc::gauge("smartctl_device_smartctl_exit_status", "Exit status of smartctl on device");
const STATE: Desc = Desc::gauge(
    "smartctl_device_state",
    "Device state (0=active, 1=standby, 2=sleep, 3=dst, 4=offline, 5=sct)",
);
const STATISTICS: Desc = Desc::gauge("smartctl_device_statistics", "Device statistics");
const STATUS: Desc = Desc::gauge("smartctl_device_status", "Device status");
const ERROR_LOG: Desc =
    Desc::gauge("smartctl_device_error_log_count", "Device SMART error log count");
const SELF_TEST_LOG: Desc =
    Desc::gauge("smartctl_device_self_test_log_count", "Device SMART self test log count");
const SELF_TEST_LOG_ERRORS: Desc = Desc::gauge(
    "smartctl_device_self_test_log_error_count",
    "Device SMART self test log error count",
);
const ERC_SECONDS: Desc =
    Desc::gauge("smartctl_device_erc_seconds", "Device SMART Error Recovery Control Seconds");
const GROWN_DEFECTS: Desc =
    Desc::gauge("smartctl_scsi_grown_defect_list", "Device SCSI grown defect list counter");

/// The four counters of a direction, and their families for reading and writing.
type ScsiCounter = (fn(&ScsiCounters) -> Number, [Desc; 2]);
const SCSI_COUNTERS: [ScsiCounter; 4] = [
    (
        |counters| counters.errors_corrected_by_eccfast,
        [
            Desc::gauge(
                "smartctl_read_errors_corrected_by_eccfast",
                "Read Errors Corrected by ECC Fast",
            ),
            Desc::gauge(
                "smartctl_write_errors_corrected_by_eccfast",
                "Write Errors Corrected by ECC Fast",
            ),
        ],
    ),
    (
        |counters| counters.errors_corrected_by_eccdelayed,
        [
            Desc::gauge(
                "smartctl_read_errors_corrected_by_eccdelayed",
                "Read Errors Corrected by ECC Delayed",
            ),
            Desc::gauge(
                "smartctl_write_errors_corrected_by_eccdelayed",
                "Write Errors Corrected by ECC Delayed",
            ),
        ],
    ),
    (
        |counters| counters.errors_corrected_by_rereads_rewrites,
        [
            Desc::gauge(
                "smartctl_read_errors_corrected_by_rereads_rewrites",
                "Read Errors Corrected by ReReads/ReWrites",
            ),
            Desc::gauge(
                "smartctl_write_errors_corrected_by_rereads_rewrites",
                "Write Errors Corrected by ReReads/ReWrites",
            ),
        ],
    ),
    (
        |counters| counters.total_uncorrected_errors,
        [
            Desc::gauge("smartctl_read_total_uncorrected_errors", "Read Total Uncorrected Errors"),
            Desc::gauge(
                "smartctl_write_total_uncorrected_errors",
                "Write Total Uncorrected Errors",
            ),
        ],
    ),
];

/// Tells which smartctl it is.
pub(super) fn tell_program(report: &Report, sheet: &mut Sheet) {
    let version = dotted(&report.smartctl.version.0);
    let pairs = [
        ("json_format_version", dotted(&report.json_format_version.0)),
        ("smartctl_version", version.clone()),
        ("svn_revision", report.smartctl.svn_revision.as_str().to_owned()),
        ("build_info", report.smartctl.build_info.as_str().to_owned()),
    ];
    if !version.is_empty() {
        let pairs = pairs.each_ref().map(|(name, value)| (*name, value.as_str()));
        sheet.push(&VERSION, &pairs, 1.0);
    }
}

/// Tells what a report says of its device, which is called `device`.
pub(super) fn tell(report: &Report, device: &str, sheet: &mut Sheet) {
    tell_device(report, device, sheet);
    tell_numbers(report, device, sheet);
    tell_attributes(report, device, sheet);
    tell_statistics(report, device, sheet);
    tell_logs(report, device, sheet);
    tell_scsi(report, device, sheet);
}

fn tell_device(report: &Report, device: &str, sheet: &mut Sheet) {
    let pairs = [
        ("device", device),
        ("interface", report.device.r#type.as_str()),
        ("protocol", report.device.protocol.as_str()),
        ("model_family", report.model_family.or("unknown")),
        ("model_name", report.model()),
        ("serial_number", report.serial_number.as_str()),
        ("ata_additional_product_id", report.ata_additional_product_id.or("unknown")),
        ("firmware_version", report.firmware_version.as_str()),
        ("ata_version", report.ata_version.string.as_str()),
        ("sata_version", report.sata_version.string.as_str()),
        ("form_factor", report.form_factor.name.as_str()),
        ("scsi_vendor", report.scsi_vendor.or(report.vendor.as_str())),
        ("scsi_product", report.scsi_product.or(report.product.as_str())),
        ("scsi_revision", report.scsi_revision.or(report.revision.as_str())),
        ("scsi_version", report.scsi_version.as_str()),
    ];
    sheet.push(&DEVICE, &pairs, 1.0);
}

fn tell_numbers(report: &Report, device: &str, sheet: &mut Sheet) {
    let nvme = &report.nvme_smart_health_information_log;
    // 0 is what a disk says that does not count.
    let units = |units: Number| Some(units.0.filter(|units| *units > 0.0)? * NVME_UNIT_BYTES);
    let scsi = &report.scsi_error_counter_log;
    let gigabytes =
        |counters: &ScsiCounters| Some(counters.gigabytes_processed.0? * SCSI_UNIT_BYTES);
    let cycles = &report.scsi_start_stop_cycle_counter.accumulated_start_stop_cycles;
    let numbers = [
        (&EXIT_STATUS, report.smartctl.exit_status.0),
        (&CAPACITY_BLOCKS, report.user_capacity.blocks.0),
        (&CAPACITY_BYTES, report.user_capacity.bytes.0),
        (&NVME_CAPACITY_BYTES, report.nvme_total_capacity.0),
        (&POWER_ON_SECONDS, report.power_on_seconds()),
        (&ROTATION_RATE, report.rotation_rate.0.filter(|rate| *rate > 0.0)),
        (&POWER_CYCLES, report.power_cycle_count.0.or(cycles.0)),
        (&STATE, report.ata_sct_status.device_state.0),
        (&SMART_STATUS, report.smart_status.passed.0),
        (&STATUS, report.smart_status.passed.0),
        (&PERCENTAGE_USED, nvme.percentage_used.0),
        (&AVAILABLE_SPARE, nvme.available_spare.0),
        (&AVAILABLE_SPARE_THRESHOLD, nvme.available_spare_threshold.0),
        (&CRITICAL_WARNING, nvme.critical_warning.0),
        (&MEDIA_ERRORS, nvme.media_errors.0),
        (&ERROR_LOG_ENTRIES, nvme.num_err_log_entries.0),
        (&BYTES_READ, units(nvme.data_units_read).or(gigabytes(&scsi.read))),
        (&BYTES_WRITTEN, units(nvme.data_units_written).or(gigabytes(&scsi.write))),
    ];
    for (desc, value) in numbers {
        sheet.push_some(desc, &[("device", device)], value);
    }
    for (kind, size) in
        [("logical", report.logical_block_size), ("physical", report.physical_block_size)]
    {
        sheet.push_some(&BLOCK_SIZE, &[("device", device), ("blocks_type", kind)], size.0);
    }
    for (kind, speed) in
        [("max", &report.interface_speed.max), ("current", &report.interface_speed.current)]
    {
        let bits = speed.units_per_second.0.zip(speed.bits_per_unit.0).map(|(n, bits)| n * bits);
        sheet.push_some(&INTERFACE_SPEED, &[("device", device), ("speed_type", kind)], bits);
    }
    for (kind, celsius) in &report.temperature.0 {
        let pairs = [("device", device), ("temperature_type", kind)];
        sheet.push_some(&TEMPERATURE, &pairs, celsius.0);
    }
}

fn tell_attributes(report: &Report, device: &str, sheet: &mut Sheet) {
    for attribute in &report.ata_smart_attributes.table.0 {
        let Attribute { id, name, value, worst, thresh, flags, raw, .. } = &attribute.0;
        let Some(id) = id.0.filter(|id| (0.0..256.0).contains(id)) else { continue };
        let (id, long) = (id.to_string(), long_attribute_flags(flags));
        for (kind, value) in
            [("value", value), ("worst", worst), ("thresh", thresh), ("raw", &raw.value)]
        {
            let pairs = [
                ("device", device),
                ("attribute_name", name.as_str()),
                ("attribute_flags_short", flags.string.as_str()),
                ("attribute_flags_long", long.as_str()),
                ("attribute_value_type", kind),
                ("attribute_id", id.as_str()),
            ];
            sheet.push_some(&ATTRIBUTE, &pairs, value.0);
        }
    }
}

fn tell_statistics(report: &Report, device: &str, sheet: &mut Sheet) {
    for page in &report.ata_device_statistics.pages.0 {
        // Their rows have no names of their own.
        if page.name.as_str() == "Vendor Specific Statistics" {
            continue;
        }
        for Statistic { name, value, flags } in page.table.0.iter().map(|row| &row.0) {
            let long = long_statistic_flags(flags);
            tell_statistic(sheet, device, &page.name, name, (flags.string.as_str(), &long), *value);
        }
    }
    let counters = Text::from("SATA PHY Event Counters");
    for Statistic { name, value, .. } in
        report.sata_phy_event_counters.table.0.iter().map(|row| &row.0)
    {
        tell_statistic(sheet, device, &counters, name, ("V---", "valid"), *value);
    }
}

fn tell_statistic(
    sheet: &mut Sheet,
    device: &str,
    table: &Text,
    name: &Text,
    (short, long): (&str, &str),
    value: Number,
) {
    let pairs = [
        ("device", device),
        ("statistic_table", table.as_str()),
        ("statistic_name", name.as_str()),
        ("statistic_flags_short", short),
        ("statistic_flags_long", long),
    ];
    sheet.push_some(&STATISTICS, &pairs, value.0);
}

fn tell_logs(report: &Report, device: &str, sheet: &mut Sheet) {
    for (kind, log) in &report.ata_smart_error_log.0 {
        let pairs = [("device", device), ("error_log_type", kind)];
        sheet.push_some(&ERROR_LOG, &pairs, log.count.0);
    }
    for (kind, log) in &report.ata_smart_self_test_log.0 {
        let pairs = [("device", device), ("self_test_log_type", kind)];
        sheet.push_some(&SELF_TEST_LOG, &pairs, log.count.0);
        sheet.push_some(&SELF_TEST_LOG_ERRORS, &pairs, log.error_count_total.0);
    }
    for (kind, erc) in &report.ata_sct_erc.0 {
        let pairs = [("device", device), ("op_type", kind)];
        sheet.push_some(&ERC_SECONDS, &pairs, erc.deciseconds.0.map(|tenths| tenths / 10.0));
    }
}

fn tell_scsi(report: &Report, device: &str, sheet: &mut Sheet) {
    let pairs = [("device", device)];
    sheet.push_some(&GROWN_DEFECTS, &pairs, report.scsi_grown_defect_list.0);
    let log = &report.scsi_error_counter_log;
    for (counter, descs) in &SCSI_COUNTERS {
        for (desc, counters) in descs.iter().zip([&log.read, &log.write]) {
            sheet.push_some(desc, &pairs, counter(counters).0);
        }
    }
}

/// `7.4` of `[7, 4]`.
fn dotted(numbers: &[Number]) -> String {
    let numbers = numbers.iter().take(4).filter_map(|number| number.0);
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(".")
}

fn long_attribute_flags(flags: &AttributeFlags) -> String {
    join([
        ("prefailure", flags.prefailure),
        ("updated_online", flags.updated_online),
        ("performance", flags.performance),
        ("error_rate", flags.error_rate),
        ("event_count", flags.event_count),
        ("auto_keep", flags.auto_keep),
    ])
}

fn long_statistic_flags(flags: &StatisticFlags) -> String {
    join([
        ("valid", flags.valid),
        ("normalized", flags.normalized),
        ("supports_dsn", flags.supports_dsn),
        ("monitored_condition_met", flags.monitored_condition_met),
    ])
}

fn join<const N: usize>(flags: [(&str, Number); N]) -> String {
    let set = flags.into_iter().filter(|(_, is_set)| is_set.is_true()).map(|(name, _)| name);
    set.collect::<Vec<_>>().join(",")
}
