//! Security-enhanced Linux: whether it is there, and how it is and was told to behave.

use std::time::Duration;

use crate::sources::attributes::read_whole;
use crate::sources::registry::{Configured, NoSettings, Shared};
use crate::sources::{Desc, Now, Reading, Roots, Source, Tree, read_small};

const ENABLED: Desc =
    Desc::gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false");
const CONFIG_MODE: Desc =
    Desc::gauge("node_selinux_config_mode", "Configured SELinux enforcement mode");
const CURRENT_MODE: Desc =
    Desc::gauge("node_selinux_current_mode", "Current SELinux enforcement mode");
const INTERVAL: Duration = Duration::from_secs(60);
/// Longer files are not read.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The mode `/etc/selinux/config` asks for: 1 enforcing, 0 permissive, -1 disabled.
pub(super) fn parse(text: &str) -> Option<f64> {
    let mut modes = text.lines().filter_map(|line| line.trim().strip_prefix("SELINUX="));
    match modes.next_back()?.trim() {
        "enforcing" => Some(1.0),
        "permissive" => Some(0.0),
        "disabled" => Some(-1.0),
        _ => None,
    }
}

/// The source `selinux`.
#[derive(Debug)]
pub(crate) struct SeLinux;

impl Configured for SeLinux {
    type Settings = NoSettings;

    fn new(_settings: NoSettings, _shared: &Shared) -> Self {
        Self
    }
}

impl Source for SeLinux {
    fn name(&self) -> &'static str {
        "selinux"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        // The file system is there only when SELinux is.
        let enforce = read_small(&roots.path(Tree::Sys, "fs/selinux/enforce"));
        reading.single(&ENABLED, f64::from(u8::from(enforce.is_ok())));
        let Ok(enforce) = enforce else { return };
        let config = read_whole(&roots.on_host("/etc/selinux/config"), FILE_BYTES_MAX);
        if let Some(mode) = config.ok().as_deref().and_then(parse) {
            reading.single(&CONFIG_MODE, mode);
        }
        reading.single(&CURRENT_MODE, f64::from(u8::from(enforce == "1")));
    }
}
