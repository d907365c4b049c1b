//! The cards of `/sys/class/drm` whose drivers say who uses them: AMD's and Intel's.
//!
//! What a card does not have is absent. NVIDIA's are the source `nvidia`'s; a server's plain display
//! adapter says nothing. Bounded by [`CARDS_MAX`]. Sources: the kernel's Documentation/gpu/amdgpu,
//! Documentation/ABI/testing/sysfs-driver-intel-*.

use std::path::{Path, PathBuf};

use crate::sources::attributes::{Attribute, Sheet, Unit, entries, entries_with, text, value};
use crate::sources::{Desc, Roots, Tree};

/// Cards looked at; a machine with more GPUs has them by NVIDIA.
const CARDS_MAX: usize = 64;
/// Parts of a card looked at.
const TILES_MAX: usize = 16;

const INFO: Desc = Desc::gauge("stoa_drm_card_info", "A GPU of AMD's or Intel's, and its driver.");
const AMD_INFO: Desc = Desc::gauge("node_drm_card_info", "Card information");
const FREQUENCY: Desc =
    Desc::gauge("stoa_drm_frequency_hertz", "What a part of the GPU runs at; 0: it sleeps.");
const FREQUENCY_MAX: Desc =
    Desc::gauge("stoa_drm_frequency_max_hertz", "What a part of the GPU may run at.");
const IDLE: Desc =
    Desc::counter("stoa_drm_idle_seconds_total", "Time in which a part of the GPU slept (RC6).");

/// amdgpu's numbers, under node_exporter's names and what it leaves out.
const AMD: &[Attribute] = &[
    Attribute::gauge(
        "gpu_busy_percent",
        "node_drm_gpu_busy_percent",
        "How busy the GPU is as a percentage.",
    ),
    Attribute::gauge(
        "mem_info_gtt_total",
        "node_drm_memory_gtt_size_bytes",
        "The size of the graphics translation table (GTT) block in bytes.",
    ),
    Attribute::gauge(
        "mem_info_gtt_used",
        "node_drm_memory_gtt_used_bytes",
        "The used amount of the graphics translation table (GTT) block in bytes.",
    ),
    Attribute::gauge(
        "mem_info_vis_vram_total",
        "node_drm_memory_vis_vram_size_bytes",
        "The size of visible VRAM in bytes.",
    ),
    Attribute::gauge(
        "mem_info_vis_vram_used",
        "node_drm_memory_vis_vram_used_bytes",
        "The used amount of visible VRAM in bytes.",
    ),
    Attribute::gauge(
        "mem_info_vram_total",
        "node_drm_memory_vram_size_bytes",
        "The size of VRAM in bytes.",
    ),
    Attribute::gauge(
        "mem_info_vram_used",
        "node_drm_memory_vram_used_bytes",
        "The used amount of VRAM in bytes.",
    ),
    Attribute::gauge(
        "mem_busy_percent",
        "stoa_drm_memory_busy_ratio",
        "How busy the memory of the GPU is.",
    )
    .in_unit(Unit::Per(100.0)),
    Attribute::gauge(
        "vcn_busy_percent",
        "stoa_drm_video_busy_ratio",
        "How busy the GPU's video engines are.",
    )
    .in_unit(Unit::Per(100.0)),
];

/// A card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// `card0`.
    pub(super) name: String,
    /// `0000:03:00.0`.
    pub(super) pci: String,
    driver: String,
    dir: PathBuf,
}

/// The cards whose users can be known.
///
/// # Errors
/// When there is no `/sys/class/drm`.
pub(super) fn list(roots: &Roots) -> std::io::Result<Vec<Card>> {
    let dir = roots.path(Tree::Sys, "class/drm");
    let all = entries(&dir, usize::MAX)?;
    // `card0-DP-1` is a connector.
    let is_card = |name: &str| {
        let number = name.strip_prefix("card").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let cards = all.into_iter().filter(|(name, _)| is_card(name)).take(CARDS_MAX);
    let cards = cards.filter_map(|(name, dir)| {
        let target = |link: &str| {
            let target = std::fs::canonicalize(dir.join(link)).ok()?;
            Some(target.file_name()?.to_str()?.to_owned())
        };
        let (pci, driver) = (target("device")?, target("device/driver")?);
        let is_known = ["amdgpu", "radeon", "i915", "xe"].contains(&driver.as_str());
        is_known.then_some(Card { name, pci, driver, dir })
    });
    Ok(cards.collect())
}

impl Card {
    /// What tells it from others.
    pub(super) fn labels(&self) -> [(&'static str, &str); 2] {
        [("card", &self.name), ("pci", &self.pci)]
    }

    /// Tells what the card says of itself.
    pub(super) fn tell(&self, sheet: &mut Sheet) {
        let device = self.dir.join("device");
        let said = |file: &str| text(device.join(file)).unwrap_or_default();
        let (vendor, model) = (said("vendor"), said("device"));
        let [card, pci] = self.labels();
        let pairs = [card, pci, ("driver", &self.driver), ("vendor", &vendor), ("device", &model)];
        let info = sheet.labels.of(&pairs);
        sheet.push(&INFO, info, 1.0);
        match self.driver.as_str() {
            "amdgpu" | "radeon" => self.tell_amd(&device, sheet),
            "xe" => self.tell_xe(&device, sheet),
            _ => self.tell_i915(sheet),
        }
    }

    fn tell_amd(&self, device: &Path, sheet: &mut Sheet) {
        let said = |file: &str| text(device.join(file)).unwrap_or_default();
        let (memory, level) =
            (said("mem_info_vram_vendor"), said("power_dpm_force_performance_level"));
        let unique = said("unique_id");
        let labels = sheet.labels.of(&[
            ("card", self.name.as_str()),
            ("memory_vendor", &memory),
            ("power_performance_level", &level),
            ("unique_id", &unique),
            ("vendor", "amd"),
        ]);
        sheet.push(&AMD_INFO, labels, 1.0);
        let labels = sheet.labels.of(&[("card", self.name.as_str())]);
        sheet.push_attributes(AMD, device, &labels);
    }

    fn tell_i915(&self, sheet: &mut Sheet) {
        let parts = entries_with(&self.dir.join("gt"), "gt", TILES_MAX);
        for (gt, dir) in &parts {
            let files = [dir.join("rps_act_freq_mhz"), dir.join("rps_max_freq_mhz")];
            self.tell_part(gt, &files, &dir.join("rc6_residency_ms"), sheet);
        }
        if parts.is_empty() {
            let files = [self.dir.join("gt_act_freq_mhz"), self.dir.join("gt_max_freq_mhz")];
            self.tell_part("0", &files, &self.dir.join("power/rc6_residency_ms"), sheet);
        }
    }

    fn tell_xe(&self, device: &Path, sheet: &mut Sheet) {
        for (tile, dir) in entries_with(device, "tile", TILES_MAX) {
            for (gt, dir) in entries_with(&dir, "gt", TILES_MAX) {
                let files = [dir.join("freq0/act_freq"), dir.join("freq0/max_freq")];
                let idle = dir.join("gtidle/idle_residency_ms");
                self.tell_part(&format!("{tile}.{gt}"), &files, &idle, sheet);
            }
        }
    }

    fn tell_part(&self, gt: &str, frequencies: &[PathBuf; 2], idle: &Path, sheet: &mut Sheet) {
        let [card, pci] = self.labels();
        let labels = sheet.labels.of(&[card, pci, ("gt", gt)]);
        let [now, max] = frequencies;
        for (desc, file, unit) in
            [(&FREQUENCY, now.as_path(), 1e6), (&FREQUENCY_MAX, max, 1e6), (&IDLE, idle, 1e-3)]
        {
            if let Some(raw) = value(file) {
                sheet.push(desc, labels.clone(), raw * unit);
            }
        }
    }
}
