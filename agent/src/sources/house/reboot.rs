//! Whether the host should be booted anew, and why.
//!
//! Two things say so: `/run/reboot-required`, which Debian's and Ubuntu's packages write (with their
//! names beside it), and a kernel that is installed and newer than the one that runs. Proxmox writes
//! no such file, so there only the second speaks. Kernels are told by `/boot/vmlinuz-RELEASE`; only
//! those of the running one's flavour (`-pve`, `-amd64`, `-cloud-amd64`) are compared, and where
//! `proxmox-boot-tool kernel pin` names one, it is that one that should run. A container has no say in
//! its kernel.

use std::time::Duration;

use stoa_model::Labels;

use super::version;
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Kept, Now, Problem, Reading, Roots, Source, Tree, read_small};

const REQUIRED: Desc =
    Desc::gauge("node_reboot_required", "Node reboot is required for software updates.");
const REASON: Desc = Desc::gauge(
    "stoa_reboot_required_reason",
    "Always 1; a package that asks for a reboot, or the kernel that would run after one.",
);

/// Written by `update-notifier-common`, `unattended-upgrades`, `dbus`, kernels and others.
const MARKER: &str = "/run/reboot-required";
/// The packages that wrote it, one a line.
const MARKER_PACKAGES: &str = "/run/reboot-required.pkgs";
/// What systemd writes in a container, and only there.
const CONTAINER: &str = "/run/systemd/container";
/// The release that Proxmox's boot loader is told to take.
const PIN: &str = "/etc/kernel/proxmox-boot-pin";
/// Reasons told at most.
const REASONS_MAX: usize = 32;
/// Entries of `/boot` looked at.
const BOOT_ENTRIES_MAX: usize = 1024;
const INTERVAL: Duration = Duration::from_secs(60);
/// The files lie on a disk, which may be slow.
const DEADLINE: Duration = Duration::from_secs(10);

/// The source `reboot`.
#[derive(Debug)]
pub(crate) struct Reboot {
    labels: Kept<Labels>,
}

impl Configured for Reboot {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self { labels: Kept::new() }
    }
}

impl Source for Reboot {
    fn name(&self) -> &'static str {
        "reboot"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let is_marked = roots.on_host(MARKER).is_file();
        let kernels = kernels(roots);
        let has_dpkg = roots.on_host(super::dpkg::STATUS_PATH).is_file();
        if !is_marked && !has_dpkg && kernels.is_none() {
            // Nothing here would say that a reboot is required.
            return reading.fail(Problem::Lacks("package manager that would say so"));
        }
        let mut reasons = REASON.family();
        let mut tell = |reason: &'static str, name: &str| {
            let labels = self.labels.get(&format!("{reason} {name}"), |_| {
                Labels::from_pairs_last_wins([("reason", reason), ("name", name)])
            });
            reasons.push(labels, 1.0);
        };
        if is_marked {
            let packages = read_small(&roots.on_host(MARKER_PACKAGES)).unwrap_or_default();
            for package in parse_packages(&packages) {
                tell("package", package);
            }
        }
        let waiting = kernels.as_ref().and_then(Kernels::waiting);
        if let Some(release) = waiting {
            tell("kernel", release);
        }
        self.labels.end_round();
        reading.single(&REQUIRED, f64::from(u8::from(is_marked || waiting.is_some())));
        reading.family(reasons);
    }
}

/// Package names, each once, in the order of the file.
pub(super) fn parse_packages(text: &str) -> Vec<&str> {
    let mut packages: Vec<&str> = Vec::new();
    for name in text.lines().map(str::trim).filter(|name| !name.is_empty()) {
        if packages.len() < REASONS_MAX && !packages.contains(&name) {
            packages.push(name);
        }
    }
    packages
}

/// The kernels there are to choose from.
#[derive(Debug)]
struct Kernels {
    running: String,
    installed: Vec<String>,
    /// Which one a person wants to run.
    pinned: Option<String>,
}

/// `None` where the kernel is not this system's own, or not told.
fn kernels(roots: &Roots) -> Option<Kernels> {
    if roots.on_host(CONTAINER).exists() {
        return None;
    }
    let running = read_small(&roots.path(Tree::Proc, "sys/kernel/osrelease")).ok()?;
    let entries = std::fs::read_dir(roots.on_host("/boot")).ok()?;
    let installed: Vec<String> = entries
        .take(BOOT_ENTRIES_MAX)
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let release = name.to_str()?.strip_prefix("vmlinuz-")?;
            // The rescue image of Fedora is no release.
            (!release.starts_with("0-rescue")).then(|| release.to_owned())
        })
        .collect();
    let pinned = read_small(&roots.on_host(PIN)).ok().filter(|pin| !pin.is_empty());
    (!installed.is_empty()).then_some(Kernels { running, installed, pinned })
}

impl Kernels {
    /// The kernel that should run and does not.
    fn waiting(&self) -> Option<&str> {
        if let Some(pinned) = &self.pinned {
            return (*pinned != self.running).then_some(pinned);
        }
        let flavour = flavour(&self.running);
        let alike = self.installed.iter().filter(|release| self::flavour(release) == flavour);
        let newest = alike.max_by(|a, b| version::compare(a, b))?;
        version::compare(newest, &self.running).is_gt().then_some(newest)
    }
}

/// What follows the numbers of a release: `amd64` of `6.1.0-30-amd64`.
fn flavour(release: &str) -> &str {
    let mut rest = release;
    while rest.starts_with(|c: char| c.is_ascii_digit()) {
        let Some((_, after)) = rest.split_once('-') else { return "" };
        rest = after;
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(running: &str, installed: &[&str], pinned: Option<&str>, expected: Option<&str>) {
        let kernels = Kernels {
            running: running.into(),
            installed: installed.iter().map(ToString::to_string).collect(),
            pinned: pinned.map(str::to_owned),
        };
        assert_eq!(kernels.waiting(), expected);
    }

    #[test]
    fn a_newer_kernel_of_the_same_flavour_waits() {
        check(
            "6.8.4-2-pve",
            &["6.8.4-2-pve", "6.8.12-1-pve", "6.5.13-5-pve"],
            None,
            Some("6.8.12-1-pve"),
        );
        check("6.8.12-1-pve", &["6.8.4-2-pve", "6.8.12-1-pve"], None, None);
        check("6.1.0-30-amd64", &["6.1.0-30-amd64", "6.1.0-31-cloud-amd64"], None, None);
        check("6.1.0-9-amd64", &["6.1.0-9-amd64", "6.1.0-30-amd64"], None, Some("6.1.0-30-amd64"));
        check(
            "6.11.4-301.fc41.x86_64",
            &["6.11.5-300.fc41.x86_64"],
            None,
            Some("6.11.5-300.fc41.x86_64"),
        );
        check("5.15.167.4-microsoft-standard-WSL2", &["6.1.0-30-amd64"], None, None);
    }

    #[test]
    fn a_pinned_kernel_is_the_one_that_should_run() {
        let installed = ["6.8.4-2-pve", "6.8.12-1-pve"];
        check("6.8.4-2-pve", &installed, Some("6.8.4-2-pve"), None);
        check("6.8.12-1-pve", &installed, Some("6.8.4-2-pve"), Some("6.8.4-2-pve"));
    }

    #[test]
    fn a_release_has_a_flavour() {
        for (release, expected) in [
            ("6.1.0-30-amd64", "amd64"),
            ("6.1.0-0.deb11.13-cloud-amd64", "cloud-amd64"),
            ("6.6.51+rpt-rpi-2712", "rpi-2712"),
            ("6.8.12-4-pve", "pve"),
            ("6.18.3", ""),
        ] {
            assert_eq!(flavour(release), expected);
        }
    }

    proptest! {
        #[test]
        fn any_list_of_packages_is_bounded(text in "[a-z \n]{0,4000}") {
            prop_assert!(parse_packages(&text).len() <= REASONS_MAX);
        }

        #[test]
        fn any_release_has_an_answer(running in ".{0,40}", installed in ".{0,40}") {
            let kernels = Kernels { running, installed: vec![installed.clone()], pinned: None };
            prop_assert!(kernels.waiting().is_none_or(|release| release == installed));
        }
    }
}
