//! What a node's own files say of its guests: `/etc/pve/lxc/VMID.conf` and `/etc/pve/qemu-server/VMID.conf`.
//!
//! Lines `key: value` up to the first section (`[snapshot]`, `[PENDING]`): what is set now. Only root and
//! the group `www-data` may read them; a guest whose file cannot be read has no name, and is told all the
//! same. Knows no API. Bounded by [`CONFIG_BYTES_MAX`]. Sources: Proxmox's pct.conf(5), qm.conf(5).

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::sources::attributes::read_whole;
use crate::sources::{Now, Roots};

/// A guest's file is some hundreds of bytes; notes and snapshots make it longer.
const CONFIG_BYTES_MAX: u64 = 64 << 10;
/// How long a name is believed.
const BELIEVED: Duration = Duration::from_secs(60);
/// Guests whose names are kept.
const GUESTS_MAX: usize = 2048;

/// A guest's file, as it is set now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    lines: Vec<(String, String)>,
}

impl Config {
    /// Reads a file's text.
    pub(crate) fn parse(text: &str) -> Self {
        let now = text.lines().take_while(|line| !line.starts_with('['));
        let lines = now.filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once(':'));
        let lines = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        Self { lines: lines.collect() }
    }

    /// What a key is set to.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.lines.iter().find(|(it, _)| it == key).map(|(_, value)| value.as_str())
    }

    /// What the guest is called: a container's `hostname`, a machine's `name`.
    pub(crate) fn name(&self) -> Option<&str> {
        self.get("hostname").or(self.get("name")).filter(|name| !name.is_empty())
    }
}

/// Where the file of a guest (`lxc/101`, `qemu/102`) is; `None` of one that is not Proxmox's.
fn path(roots: &Roots, guest: &str) -> Option<PathBuf> {
    let (kind, vmid) = guest.split_once('/')?;
    let is_vmid = !vmid.is_empty() && vmid.bytes().all(|byte| byte.is_ascii_digit());
    let dir = match kind {
        "lxc" => "lxc",
        "qemu" => "qemu-server",
        _ => return None,
    };
    is_vmid.then(|| roots.on_host(&format!("/etc/pve/{dir}/{vmid}.conf")))
}

/// Reads the file of a guest.
///
/// # Errors
/// Of one that is not Proxmox's, or when the file is not there or cannot be read.
pub(crate) fn read(roots: &Roots, guest: &str) -> io::Result<Config> {
    let path = path(roots, guest).ok_or(io::ErrorKind::NotFound)?;
    read_whole(&path, CONFIG_BYTES_MAX).map(|text| Config::parse(&text))
}

/// What guests are called, asked once a minute.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<String, String>,
    asked: Option<Now>,
}

impl Names {
    /// What a guest is called; a container that is not Proxmox's by the name it has. Empty where nothing
    /// says it.
    pub(crate) fn of(&mut self, roots: &Roots, guest: &str, now: Now) -> &str {
        if self.asked.is_none_or(|at| now.is_past(at, BELIEVED)) || self.known.len() >= GUESTS_MAX {
            self.known.clear();
            self.asked = Some(now);
        }
        self.known.entry(guest.to_owned()).or_insert_with(|| match path(roots, guest) {
            Some(_) => {
                let config = read(roots, guest).unwrap_or_default();
                config.name().unwrap_or_default().to_owned()
            }
            None => guest.split_once('/').map_or("", |(_, name)| name).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_is_set_now() {
        let text = "#notes: no\narch: amd64\nhostname: web\nnet0: name=eth0,bridge=vmbr0\n\n[before]\nhostname: old\n";
        let config = Config::parse(text);
        assert_eq!(config.name(), Some("web"));
        assert_eq!(config.get("net0"), Some("name=eth0,bridge=vmbr0"));
        assert_eq!(config.get("notes"), None);
        assert_eq!(Config::parse("[x]\nname: a\n").name(), None);
        assert_eq!(Config::parse("name: win\n").name(), Some("win"));
    }

    #[test]
    fn names_are_those_of_the_files_and_are_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { rootfs: dir.path().into(), ..Roots::default() };
        let write = |file: &str, text: &str| {
            let path = dir.path().join("etc/pve").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("lxc/101.conf", "hostname: web\n");
        write("qemu-server/102.conf", "name: win\n");
        write("lxc/..conf", "hostname: no\n");
        let mut names = Names::default();
        let mut check = |at: i64, guest: &str, name: &str| {
            assert_eq!(names.of(&roots, guest, Now { unix_micros: at }), name, "{guest}");
        };
        check(0, "lxc/101", "web");
        check(0, "qemu/102", "win");
        check(0, "lxc/103", "");
        check(0, "lxc/nas", "nas");
        check(0, "lxc/.", ".");
        check(0, "", "");
        write("lxc/101.conf", "hostname: shop\n");
        check(59_000_000, "lxc/101", "web");
        check(60_000_000, "lxc/101", "shop");
    }
}
