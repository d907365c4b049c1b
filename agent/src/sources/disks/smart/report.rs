//! What `smartctl -j` prints, as far as it is told: about one device, or the devices it found.

use serde::Deserialize;

use crate::sources::loose::{List, Number, Part, Table, Text};

/// What smartctl ends with when the device sleeps, as it is told to: bits 0 (wrong command line) and
/// 2 (a command to the device failed) cannot come together otherwise.
pub(super) const ASLEEP_STATUS: u8 = 5;
/// Bit 1 of smartctl's exit status: the device could not be opened or identified.
const OPEN_FAILED: u32 = 1 << 1;
/// Bit 0: the command line is wrong, or no such device type.
const NOT_UNDERSTOOD: u32 = 1;
/// The document of `smartctl -j -a DEVICE`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    pub(super) json_format_version: List<Number>,
    pub(super) smartctl: Part<Program>,
    pub(super) device: Part<Device>,
    pub(super) model_family: Text,
    pub(super) model_name: Text,
    pub(super) scsi_model_name: Text,
    pub(super) serial_number: Text,
    pub(super) ata_additional_product_id: Text,
    pub(super) firmware_version: Text,
    pub(super) ata_version: Part<Version>,
    pub(super) sata_version: Part<Version>,
    pub(super) form_factor: Part<Named>,
    pub(super) wwn: Part<Wwn>,
    pub(super) logical_unit_id: Text,
    pub(super) scsi_vendor: Text,
    pub(super) scsi_product: Text,
    pub(super) scsi_revision: Text,
    /// What smartctl before 7.3 calls the three.
    pub(super) vendor: Text,
    pub(super) product: Text,
    pub(super) revision: Text,
    pub(super) scsi_version: Text,
    pub(super) user_capacity: Part<Capacity>,
    pub(super) nvme_total_capacity: Number,
    pub(super) logical_block_size: Number,
    pub(super) physical_block_size: Number,
    pub(super) rotation_rate: Number,
    pub(super) interface_speed: Part<Speeds>,
    pub(super) smart_support: Part<Support>,
    pub(super) smart_status: Part<Status>,
    pub(super) power_on_time: Part<PowerOn>,
    pub(super) power_cycle_count: Number,
    pub(super) temperature: Table<Number>,
    pub(super) ata_smart_attributes: Part<Rows<Attribute>>,
    pub(super) ata_sct_status: Part<SctStatus>,
    pub(super) ata_sct_erc: Table<Part<Erc>>,
    pub(super) ata_device_statistics: Part<Statistics>,
    pub(super) sata_phy_event_counters: Part<Rows<Statistic>>,
    pub(super) ata_smart_error_log: Table<Part<Log>>,
    pub(super) ata_smart_self_test_log: Table<Part<Log>>,
    pub(super) nvme_smart_health_information_log: Part<NvmeHealth>,
    pub(super) scsi_grown_defect_list: Number,
    pub(super) scsi_error_counter_log: Part<ScsiErrors>,
    pub(super) scsi_start_stop_cycle_counter: Part<ScsiCycles>,
    pub(super) scsi_self_test_0: Part<SelfTest>,
    pub(super) nvme_self_test_log: Part<Rows<SelfTest>>,
    pub(super) scsi_percentage_used_endurance_indicator: Number,
    pub(super) endurance_used: Part<Endurance>,
    pub(super) spare_available: Part<Spare>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Program {
    pub(super) version: List<Number>,
    pub(super) svn_revision: Text,
    pub(super) build_info: Text,
    pub(super) argv: List<Text>,
    pub(super) messages: List<Part<Message>>,
    pub(super) exit_status: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    pub(super) string: Text,
    pub(super) severity: Text,
}

/// A device as smartctl is told to find it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Device {
    pub(super) name: Text,
    pub(super) info_name: Text,
    pub(super) r#type: Text,
    pub(super) protocol: Text,
    /// Why `--scan-open` could not open it.
    pub(super) open_error: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Version {
    pub(super) string: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Capacity {
    pub(super) blocks: Number,
    pub(super) bytes: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Speeds {
    pub(super) max: Part<Speed>,
    pub(super) current: Part<Speed>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Speed {
    pub(super) units_per_second: Number,
    pub(super) bits_per_unit: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) passed: Number,
    pub(super) scsi: Part<ScsiStatus>,
}

/// What a SCSI disk fears.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ScsiStatus {
    pub(super) asc: Number,
    pub(super) ascq: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Support {
    pub(super) available: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wwn {
    pub(super) naa: Text,
    pub(super) oui: Text,
    pub(super) id: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PowerOn {
    pub(super) hours: Number,
    pub(super) minutes: Number,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, bound = "T: Deserialize<'de> + Default")]
pub(super) struct Rows<T> {
    pub(super) table: List<Part<T>>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { table: List::default() }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Attribute {
    pub(super) id: Number,
    pub(super) name: Text,
    pub(super) value: Number,
    pub(super) worst: Number,
    pub(super) thresh: Number,
    /// `now` or `past` when the value is or was at or below the threshold.
    pub(super) when_failed: Text,
    pub(super) flags: Part<AttributeFlags>,
    pub(super) raw: Part<Raw>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AttributeFlags {
    pub(super) string: Text,
    pub(super) prefailure: Number,
    pub(super) updated_online: Number,
    pub(super) performance: Number,
    pub(super) error_rate: Number,
    pub(super) event_count: Number,
    pub(super) auto_keep: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    /// All 48 bits.
    pub(super) value: Number,
    /// As the maker packs it: `3 (0 12)`.
    pub(super) string: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SctStatus {
    pub(super) device_state: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Erc {
    pub(super) deciseconds: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Statistics {
    pub(super) pages: List<Part<Page>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Page {
    pub(super) name: Text,
    pub(super) table: List<Part<Statistic>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Statistic {
    pub(super) name: Text,
    pub(super) value: Number,
    pub(super) flags: Part<StatisticFlags>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatisticFlags {
    pub(super) string: Text,
    pub(super) valid: Number,
    pub(super) normalized: Number,
    pub(super) supports_dsn: Number,
    pub(super) monitored_condition_met: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Log {
    pub(super) count: Number,
    pub(super) error_count_total: Number,
    /// Failed tests that a later one of the same kind passed.
    pub(super) error_count_outdated: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NvmeHealth {
    pub(super) critical_warning: Number,
    pub(super) available_spare: Number,
    pub(super) available_spare_threshold: Number,
    pub(super) percentage_used: Number,
    pub(super) data_units_read: Number,
    pub(super) data_units_written: Number,
    pub(super) media_errors: Number,
    pub(super) num_err_log_entries: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ScsiErrors {
    pub(super) read: Part<ScsiCounters>,
    pub(super) write: Part<ScsiCounters>,
    pub(super) verify: Part<ScsiCounters>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ScsiCounters {
    pub(super) errors_corrected_by_eccfast: Number,
    pub(super) errors_corrected_by_eccdelayed: Number,
    pub(super) errors_corrected_by_rereads_rewrites: Number,
    pub(super) total_uncorrected_errors: Number,
    pub(super) gigabytes_processed: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ScsiCycles {
    pub(super) accumulated_start_stop_cycles: Number,
}

/// An entry of a log of self-tests, of SCSI or NVMe.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SelfTest {
    /// SCSI's.
    pub(super) result: Number,
    /// NVMe's.
    pub(super) self_test_result: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spare {
    pub(super) current_percent: Number,
    pub(super) threshold_percent: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endurance {
    pub(super) current_percent: Number,
}

/// The document of `smartctl -j --scan-open`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scan {
    pub(super) smartctl: Part<Program>,
    pub(super) devices: List<Part<Device>>,
}

/// What came of asking a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It said how it is.
    Told,
    /// It sleeps and was left alone.
    Asleep,
    /// It may not be opened by this user.
    Denied,
    /// It could not be opened, or smartctl does not know how to talk to it.
    Failed,
}

/// Reads a report; `None` when the text is not one of smartctl's.
pub(super) fn parse(text: &[u8]) -> Option<Report> {
    let Part(report): Part<Report> = serde_json::from_slice(document(text)).ok()?;
    report.smartctl.exit_status.0.is_some().then_some(report)
}

/// Reads a list of devices; `None` when the text is not one of smartctl's.
pub(super) fn parse_scan(text: &[u8]) -> Option<Scan> {
    let Part(scan): Part<Scan> = serde_json::from_slice(document(text)).ok()?;
    scan.smartctl.exit_status.0.is_some().then_some(scan)
}

/// The document in what smartctl prints: before 7.3 it writes a line about some SCSI disks first.
fn document(text: &[u8]) -> &[u8] {
    let from = text.iter().position(|byte| *byte == b'{').unwrap_or_default();
    text.get(from..).unwrap_or_default()
}

impl Report {
    pub(super) fn outcome(&self) -> Outcome {
        let status = self.exit_bits();
        if status == u32::from(ASLEEP_STATUS) {
            return Outcome::Asleep;
        }
        if status & (NOT_UNDERSTOOD | OPEN_FAILED) == 0 {
            return Outcome::Told;
        }
        let messages = self.smartctl.messages.0.iter().map(|message| message.string.as_str());
        let says = |words: fn(&str) -> bool| messages.clone().any(words);
        if says(is_denial) {
            return Outcome::Denied;
        }
        // It says so whatever it was told to end with.
        if says(|message| message.contains("Device is in ") && message.contains(" mode, exit(")) {
            return Outcome::Asleep;
        }
        Outcome::Failed
    }

    /// smartctl's exit status, a mask.
    fn exit_bits(&self) -> u32 {
        let status = self.smartctl.exit_status.0.unwrap_or_default();
        (0..=255_u32).find(|bits| f64::from(*bits) == status).unwrap_or(OPEN_FAILED)
    }

    /// What smartctl complained of first.
    pub(super) fn complaint(&self) -> &str {
        let errors = self.smartctl.messages.0.iter();
        let mut errors = errors.filter(|message| message.severity.as_str() == "error");
        errors.next().map_or("smartctl cannot talk to it", |message| message.string.as_str())
    }

    pub(super) fn model(&self) -> &str {
        self.model_name.or(self.scsi_model_name.or("unknown"))
    }

    /// The device as it was asked for: of a disk behind a controller, `device` may not say which.
    pub(super) fn asked(&self) -> Device {
        let mut device = self.device.0.clone();
        let mut words = self.smartctl.argv.0.iter().map(Text::as_str);
        while let Some(word) = words.next() {
            let kind = match word {
                "-d" | "--device" => words.next(),
                _ => word.strip_prefix("--device="),
            };
            if let Some(kind) = kind.filter(|kind| kind.contains(',')) {
                device.r#type = kind.into();
            }
        }
        device
    }

    /// The same for each way to a disk that there are several to; `None` when that cannot be told.
    pub(super) fn identity(&self) -> Option<String> {
        let Wwn { naa, oui, id } = &self.wwn.0;
        let wwn = [self.logical_unit_id.as_str(), naa.as_str(), oui.as_str(), id.as_str()].concat();
        let is_known = !wwn.is_empty() || self.is_nvme();
        let serial = self.serial_number.as_str();
        // Some makers of bridges give each the same number.
        let capacity = self.user_capacity.bytes.0.unwrap_or_default();
        (is_known && !serial.is_empty())
            .then(|| format!("{wwn}\u{1}{serial}\u{1}{}\u{1}{capacity}", self.model()))
    }

    pub(super) fn is_nvme(&self) -> bool {
        self.device.protocol.as_str() == "NVMe"
    }

    pub(super) fn is_solid_state(&self) -> bool {
        let names = [self.model(), self.model_family.as_str()];
        let rate = self.rotation_rate.0;
        rate == Some(0.0) || (rate.is_none() && names.iter().any(|name| name.contains("SSD")))
    }

    pub(super) fn power_on_seconds(&self) -> Option<f64> {
        let hours = self.power_on_time.hours.0?;
        Some(hours * 3600.0 + self.power_on_time.minutes.0.unwrap_or_default() * 60.0)
    }

    pub(super) fn attribute(&self, id: f64) -> Option<&Attribute> {
        let attributes = &self.ata_smart_attributes.table.0;
        attributes.iter().map(|attribute| &attribute.0).find(|attribute| attribute.id.0 == Some(id))
    }

    /// A valid statistic of an ATA device, by its name.
    pub(super) fn statistic(&self, name: &str) -> Option<f64> {
        let pages = self.ata_device_statistics.pages.0.iter();
        let mut rows = pages.flat_map(|page| &page.table.0);
        let row = rows.find(|row| row.name.as_str() == name && row.flags.valid.is_true())?;
        row.value.0
    }
}

impl Device {
    /// What `device` says, as smartctl_exporter has it: `sda` of `/dev/sda`; of a disk behind a
    /// controller also which, `bus_0_megaraid_7` of `/dev/bus/0` and `megaraid,7`.
    pub(super) fn label(&self) -> String {
        let name = self.name.as_str();
        let name = name.strip_prefix("/dev/").unwrap_or(name);
        let name = ["disk/by-id/", "disk/by-path/"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name);
        let kind = self.r#type.as_str();
        let which = if kind.contains(',') { kind } else { "" };
        let separator = if which.is_empty() { "" } else { "_" };
        [name, separator, which].concat().replace(['/', ','], "_")
    }

    pub(super) fn is_denied(&self) -> bool {
        is_denial(self.open_error.as_str())
    }
}

fn is_denial(message: &str) -> bool {
    message.contains("Permission denied") || message.contains("Operation not permitted")
}
