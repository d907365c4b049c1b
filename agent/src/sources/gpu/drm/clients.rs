//! Which processes hold a GPU open, and what it did for them since the last reading.
//!
//! All processes' descriptors are looked at once a minute, those of processes that are new and of those
//! that held one at each reading: listing all each time would cost more than the answer is worth. A process
//! that opens a GPU late in its life is so found within a minute. Another user's descriptors are shown to
//! those with `CAP_SYS_PTRACE` only; who cannot look is told less. Bounded: [`HOLDERS_MAX`] processes,
//! [`DESCRIPTORS_MAX`] of each, [`CLIENTS_MAX`] clients.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use super::client::{Client, Work};
use crate::sources::attributes::read_whole;
use crate::sources::{Now, Roots};

/// How often all processes are looked at.
const ALL: Duration = Duration::from_secs(60);
const HOLDERS_MAX: usize = 1024;
const DESCRIPTORS_MAX: usize = 4096;
const CLIENTS_MAX: usize = 4096;
/// The kernel writes some hundreds of bytes.
const FILE_BYTES_MAX: u64 = 16 << 10;
const NANOS_PER_MICRO: u64 = 1000;

/// What one process uses of one GPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Use {
    pub(super) memory: Option<u64>,
    pub(super) busy: BTreeMap<String, f64>,
}

/// Processes that hold a GPU, kept from one reading to the next.
#[derive(Debug, Default)]
pub(super) struct Clients {
    looked: Option<Now>,
    /// Processes that were there and had been looked at.
    seen: HashSet<u32>,
    holders: BTreeSet<u32>,
    /// What engines had done, by GPU and client.
    worked: HashMap<(String, u64), BTreeMap<String, Work>>,
    read: Option<Now>,
}

/// What was found in one reading.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// By GPU's place and process.
    pub(super) uses: BTreeMap<(String, u32), Use>,
    /// Processes whose descriptors could not be looked at.
    pub(super) hidden: usize,
}

impl Clients {
    /// Reads what processes use now. Of engines the first reading of a client tells nothing.
    pub(super) fn read(&mut self, roots: &Roots, now: Now) -> Found {
        let there = processes(&roots.procfs);
        let is_time = self.looked.is_none_or(|at| now.is_past(at, ALL));
        if is_time {
            self.looked = Some(now);
        }
        let mut found = Found::default();
        let mut worked = HashMap::new();
        let nanos = self.read.map(|at| now.unix_micros.abs_diff(at.unix_micros) * NANOS_PER_MICRO);
        let mut holders = BTreeSet::new();
        for pid in &there {
            if !is_time && self.seen.contains(pid) && !self.holders.contains(pid) {
                continue;
            }
            let Ok(clients) = clients(&roots.procfs, *pid) else {
                found.hidden += 1;
                continue;
            };
            if clients.is_empty() || holders.len() >= HOLDERS_MAX {
                continue;
            }
            holders.insert(*pid);
            for client in clients {
                let key = (client.pci, client.id);
                // A descriptor that was passed on: the first process has it.
                if worked.contains_key(&key) || worked.len() >= CLIENTS_MAX {
                    continue;
                }
                let before = self.worked.get(&key);
                let used = found.uses.entry((key.0.clone(), *pid)).or_default();
                if let Some(bytes) = client.memory {
                    used.memory = Some(used.memory.unwrap_or_default().saturating_add(bytes));
                }
                for (engine, work) in &client.engines {
                    let then = before.and_then(|it| it.get(engine)).zip(nanos);
                    if let Some(ratio) = then.and_then(|(then, nanos)| work.ratio(then, nanos)) {
                        *used.busy.entry(engine.clone()).or_default() += ratio;
                    }
                }
                worked.insert(key, client.engines);
            }
        }
        (self.worked, self.read, self.holders) = (worked, Some(now), holders);
        self.seen = there.into_iter().collect();
        found
    }
}

/// The processes there are.
fn processes(procfs: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(procfs).into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The first that holds a client has it.
    pids.sort_unstable();
    pids
}

/// The clients that a process holds.
fn clients(procfs: &Path, pid: u32) -> std::io::Result<Vec<Client>> {
    let dir = procfs.join(pid.to_string());
    let descriptors = match std::fs::read_dir(dir.join("fd")) {
        // It has ended meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        descriptors => descriptors?,
    };
    let mut clients = Vec::new();
    for descriptor in descriptors.flatten().take(DESCRIPTORS_MAX) {
        let is_gpu =
            std::fs::read_link(descriptor.path()).is_ok_and(|it| it.starts_with("/dev/dri"));
        if is_gpu
            && let Ok(text) =
                read_whole(&dir.join("fdinfo").join(descriptor.file_name()), FILE_BYTES_MAX)
        {
            clients.extend(Client::parse(&text));
        }
    }
    Ok(clients)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Holds the GPU open in a process, having used it so.
    fn hold(procfs: &Path, pid: u32, fd: u32, client: u64, kib: u64, nanos: u64) {
        let dir = procfs.join(pid.to_string());
        std::fs::create_dir_all(dir.join("fd")).unwrap();
        std::fs::create_dir_all(dir.join("fdinfo")).unwrap();
        let _again = symlink("/dev/dri/renderD128", dir.join("fd").join(fd.to_string()));
        let text = format!(
            "drm-pdev: 0000:03:00.0\ndrm-client-id: {client}\ndrm-memory-vram: {kib} KiB\ndrm-engine-gfx: {nanos} ns\n"
        );
        std::fs::write(dir.join("fdinfo").join(fd.to_string()), text).unwrap();
    }

    fn told(found: &Found) -> Vec<(u32, u64, f64)> {
        let of =
            |it: &Use| (it.memory.unwrap_or_default(), it.busy.get("gfx").copied().unwrap_or(-1.0));
        found.uses.iter().map(|((_, pid), it)| (*pid, of(it).0, of(it).1)).collect()
    }

    #[test]
    fn uses_are_by_process_and_clients_count_once() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { procfs: dir.path().into(), ..Roots::default() };
        let mut clients = Clients::default();
        let mut read =
            |second: i64| told(&clients.read(&roots, Now { unix_micros: second * 1_000_000 }));
        hold(dir.path(), 10, 3, 1, 8, 0);
        hold(dir.path(), 10, 4, 2, 16, 0);
        // Inherited: the same client.
        hold(dir.path(), 11, 3, 1, 8, 0);
        assert_eq!(read(0), [(10, 24 << 10, -1.0)]);
        hold(dir.path(), 10, 3, 1, 8, 500_000_000);
        hold(dir.path(), 10, 4, 2, 16, 250_000_000);
        // New ones are found at once, those that were there within a minute.
        hold(dir.path(), 12, 3, 5, 4, 7);
        std::fs::create_dir_all(dir.path().join("13/fd")).unwrap();
        assert_eq!(read(1), [(10, 24 << 10, 0.75), (12, 4 << 10, -1.0)]);
        hold(dir.path(), 13, 3, 6, 1, 0);
        assert_eq!(read(2).len(), 2);
        assert_eq!(read(61).len(), 3);
        std::fs::remove_dir_all(dir.path().join("10")).unwrap();
        // Who inherited it has it now.
        assert_eq!(read(122).iter().map(|it| it.0).collect::<Vec<_>>(), [11, 12, 13]);
    }
}
