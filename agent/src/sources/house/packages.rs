//! The versions of packages that matter when something breaks: kernels, Proxmox, Docker, ZFS, drivers.
//!
//! dpkg's list is read again only when it has changed.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use stoa_model::Labels;

use super::dpkg::{self, Package};
use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::Pattern;
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source};

const INFO: Desc =
    Desc::gauge("stoa_package_info", "Always 1; the labels name an installed package.");

const INTERVAL: Duration = Duration::from_secs(60);
/// The files lie on a disk, which may be slow.
const DEADLINE: Duration = Duration::from_secs(10);
/// Packages told at most; the first by name.
const PACKAGES_MAX: usize = 100;
/// What is told unless configured otherwise.
pub(crate) const INCLUDE: &str = "^(linux-image-.*|(proxmox|pve)-kernel-[0-9].*|raspberrypi-kernel|pve-manager\
    |proxmox-(ve|backup-server|backup-client)|pve-qemu-kvm|qemu-(server|system-x86)|lxc|lxcfs\
    |lxc-pve|corosync|ceph-base|docker-ce|docker\\.io|containerd(\\.io)?|podman|incus|zfsutils-linux\
    |zfs-dkms|nvidia-driver(-[0-9]+.*)?|nvidia-container-toolkit|systemd|openssl|libssl[0-9].*\
    |openssh-server|libc6|wireguard-tools|tailscale|smartmontools|nut-server|chrony|nginx|caddy\
    |postgresql-[0-9]+|mariadb-server|grafana|prometheus(-node-exporter)?|stoa.*)$";

/// `[sources.packages]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which packages are told.
    include: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self { include: Pattern::fixed(INCLUDE) }
    }
}

/// The source `packages`.
#[derive(Debug)]
pub(crate) struct Packages {
    include: Pattern,
    /// When the list was changed, as of the last reading, and its size.
    seen: Option<(SystemTime, u64)>,
    told: Vec<Labels>,
}

impl Configured for Packages {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self { include: settings.include, seen: None, told: Vec::new() }
    }
}

impl Packages {
    /// Reads the list if it has changed.
    fn refresh(&mut self, roots: &Roots) -> std::io::Result<()> {
        let path = roots.on_host(dpkg::STATUS_PATH);
        let metadata = std::fs::metadata(&path)?;
        let state = Some((metadata.modified()?, metadata.len()));
        if state == self.seen {
            return Ok(());
        }
        let mut packages = dpkg::packages(&path, |name| self.include.matches(name))?;
        packages.sort_unstable();
        // One of several architectures is enough.
        packages.dedup_by(|a, b| a.name == b.name && a.version == b.version);
        packages.truncate(PACKAGES_MAX);
        self.told = packages
            .iter()
            .map(|Package { name, version, .. }| {
                Labels::from_pairs_last_wins([
                    ("package", name.as_str()),
                    ("version", version.as_str()),
                ])
            })
            .collect();
        self.seen = state;
        Ok(())
    }
}

impl Source for Packages {
    fn name(&self) -> &'static str {
        "packages"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        if let Err(error) = self.refresh(roots) {
            self.seen = None;
            return reading.fail(Problem::read(roots.on_host(dpkg::STATUS_PATH), error));
        }
        let info = reading.open(&INFO);
        for labels in &self.told {
            info.push(labels.clone(), 1.0);
        }
    }
}
