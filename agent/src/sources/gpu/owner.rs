//! Whose a process is that uses a GPU: guest, container, unit, by the path of its control group.
//!
//! Read on the host where NVML's numbers of processes are true: Proxmox's node, or the machine itself. A path
//! may name several, one in the other: `/lxc/101/ns/system.slice/docker-0a1b….scope` is a container of
//! Docker's in LXC 101. Sources: Proxmox's pve-container (`lxc/VMID/ns`), qemu-server (`qemu.slice/VMID.scope`),
//! Docker's two cgroup drivers, libpod. What guests are called is in the node's files, containers as their
//! engine told the source `containers`. Knows no GPU.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use crate::sources::containers::SharedNames;
use crate::sources::guests::config::Names;
use crate::sources::{Now, Roots, read_small};

/// Digits of a container's id that are told, as `docker ps` tells them.
const ID_LENGTH: usize = 12;

/// Whose a process is. What does not apply is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    /// `lxc/101`, `qemu/102`; without Proxmox `lxc/NAME`.
    pub(crate) guest: String,
    /// What the guest is called, where the node's files say so.
    pub(super) guest_name: String,
    /// `docker/0123456789ab`.
    pub(crate) container: String,
    /// What it is called, of what image, and of which of compose's projects, where the engine says so.
    pub(super) container_name: String,
    pub(super) image: String,
    pub(super) compose_project: String,
    /// The innermost unit of systemd, of the host or of the guest, where it is in no container.
    pub(crate) unit: String,
}

/// The first namespace of processes, whose numbers NVML tells; the kernel's `PROC_PID_INIT_INO`.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";
/// How long what was found of a process is believed: its number may be another's by then.
const BELIEVED: Duration = Duration::from_secs(60);

/// Whose processes are, kept from one reading to the next.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: HashMap<u32, Found>,
    asked: Option<Now>,
    names: Names,
    containers: SharedNames,
}

/// What was found of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) owner: Owner,
    /// What the kernel calls it.
    pub(super) name: String,
}

impl Owners {
    /// `containers`: what the engines call theirs.
    pub(super) fn new(containers: SharedNames) -> Self {
        Self { containers, ..Self::default() }
    }

    /// Whose each of the processes is, numbered as in the first namespace; `None` of those that are gone,
    /// hidden, or cannot be told as this is another namespace.
    pub(super) fn of(&mut self, roots: &Roots, pids: &[u32], now: Now) -> Vec<Option<Found>> {
        let namespace = std::fs::read_link(roots.procfs.join("self/ns/pid"));
        if namespace.is_ok_and(|it| it == Path::new(FIRST_NAMESPACE)) {
            self.of_seen(roots, pids, now)
        } else {
            vec![None; pids.len()]
        }
    }

    /// Whose each of the processes is, numbered as this `/proc` numbers them; `None` of those that are gone
    /// or hidden.
    pub(super) fn of_seen(&mut self, roots: &Roots, pids: &[u32], now: Now) -> Vec<Option<Found>> {
        if self.asked.is_none_or(|at| now.is_past(at, BELIEVED)) {
            self.known.clear();
            self.asked = Some(now);
        }
        for pid in pids {
            if !self.known.contains_key(pid)
                && let Some(mut found) = read(roots, *pid)
            {
                let name = self.names.of(roots, &found.owner.guest, now);
                name.clone_into(&mut found.owner.guest_name);
                found.owner.name_container(&self.containers);
                self.known.insert(*pid, found);
            }
        }
        pids.iter().map(|pid| self.known.get(pid).cloned()).collect()
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, pids: &HashSet<u32>) {
        self.known.retain(|pid, _| pids.contains(pid));
    }
}

fn read(roots: &Roots, pid: u32) -> Option<Found> {
    let dir = roots.procfs.join(pid.to_string());
    let owner = parse(&read_small(&dir.join("cgroup")).ok()?);
    let name = read_small(&dir.join("comm")).ok()?.trim_end().to_owned();
    Some(Found { owner, name })
}

/// Reads `/proc/PID/cgroup`. Of the hierarchies that which says most counts.
pub(crate) fn parse(text: &str) -> Owner {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.map(of_path).max_by_key(Owner::says).unwrap_or_default()
}

impl Owner {
    fn name_container(&mut self, containers: &SharedNames) {
        let containers = containers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(named) = containers.get(&self.container) {
            self.container_name.clone_from(&named.name);
            self.image.clone_from(&named.image);
            self.compose_project.clone_from(&named.compose_project);
        }
    }

    /// As labels; what does not apply is empty.
    pub(super) fn labels(&self) -> [(&'static str, &str); 7] {
        [
            ("guest", &self.guest),
            ("guest_name", &self.guest_name),
            ("container", &self.container),
            ("container_name", &self.container_name),
            ("image", &self.image),
            ("compose_project", &self.compose_project),
            ("unit", &self.unit),
        ]
    }

    fn says(&self) -> usize {
        [&self.guest, &self.container, &self.unit].iter().filter(|it| !it.is_empty()).count()
    }
}

/// Whose the path of a control group is.
pub(crate) fn of_path(path: &str) -> Owner {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut owner = Owner::default();
    for (at, part) in parts.iter().enumerate() {
        let next = parts.get(at + 1).copied().unwrap_or_default();
        let before = at.checked_sub(1).and_then(|at| parts.get(at)).copied().unwrap_or_default();
        if at == 0 && *part == "lxc" && is_name(next) {
            owner.guest = format!("lxc/{next}");
        } else if let Some(name) = part.strip_prefix("lxc.payload.").filter(|it| is_name(it)) {
            owner.guest = format!("lxc/{name}");
        } else if let Some(vmid) = part.strip_suffix(".scope").filter(|it| is_vmid(it))
            && before == "qemu.slice"
        {
            owner.guest = format!("qemu/{vmid}");
        } else if let Some((runtime, id)) = container(part, before) {
            owner.container = format!("{runtime}/{id}");
            owner.unit.clear();
        } else if part.ends_with(".service") && owner.container.is_empty() {
            (*part).clone_into(&mut owner.unit);
        }
    }
    owner
}

/// Whether a container of LXC's may be called so.
fn is_name(text: &str) -> bool {
    let is_sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= 64 && text.chars().all(is_sign)
}

fn is_vmid(text: &str) -> bool {
    !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The container that a part of a path names.
fn container<'a>(part: &'a str, before: &str) -> Option<(&'static str, &'a str)> {
    let is_id = |id: &str| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let scope = part.strip_suffix(".scope").unwrap_or(part);
    let (runtime, id) = match scope.rsplit_once('-') {
        Some(("docker", id)) => ("docker", id),
        Some(("libpod", id)) => ("podman", id),
        Some(("cri-containerd", id)) => ("containerd", id),
        None if before == "docker" => ("docker", part),
        None if before == "libpod_parent" => ("podman", part),
        _ => return None,
    };
    is_id(id).then(|| (runtime, id.get(..ID_LENGTH).unwrap_or(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn check(path: &str, guest: &str, container: &str, unit: &str) {
        let path = path.replace("ID", ID);
        for text in [
            format!("0::{path}\n"),
            format!("12:cpuset:/\n4:memory:{path}\n1:name=systemd:{path}\n0::/\n"),
        ] {
            let Owner { guest: g, container: c, unit: u, .. } = parse(&text);
            assert_eq!((g.as_str(), c.as_str(), u.as_str()), (guest, container, unit), "{text}");
        }
    }

    #[test]
    fn a_container_is_called_as_its_engine_calls_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("7")).unwrap();
        std::fs::write(dir.path().join("7/cgroup"), format!("0::/docker/{ID}\n")).unwrap();
        std::fs::write(dir.path().join("7/comm"), "ollama\n").unwrap();
        let roots = Roots { procfs: dir.path().into(), ..Roots::default() };
        let named = crate::sources::containers::Named {
            name: "llm".to_owned(),
            image: "ollama/ollama".to_owned(),
            compose_project: "ai".to_owned(),
        };
        let names = SharedNames::default();
        names.lock().unwrap().insert("docker/0123456789ab".to_owned(), named);
        let found = Owners::new(names).of_seen(&roots, &[7], Now { unix_micros: 0 });
        let owner = found[0].as_ref().unwrap().owner.clone();
        let told = (owner.container_name, owner.image, owner.compose_project);
        assert_eq!(told, ("llm".to_owned(), "ollama/ollama".to_owned(), "ai".to_owned()));
    }

    #[test]
    fn a_path_names_guest_container_and_unit() {
        check("/system.slice/ollama.service", "", "", "ollama.service");
        check("/lxc/101/ns/system.slice/ollama.service", "lxc/101", "", "ollama.service");
        check("/lxc/101", "lxc/101", "", "");
        check("/lxc/101/ns/docker/ID", "lxc/101", "docker/0123456789ab", "");
        check(
            "/lxc.payload.103/system.slice/docker-ID.scope",
            "lxc/103",
            "docker/0123456789ab",
            "",
        );
        check(
            "/lxc/101/ns/system.slice/docker-ID.scope/init",
            "lxc/101",
            "docker/0123456789ab",
            "",
        );
        check("/qemu.slice/102.scope", "qemu/102", "", "");
        check("/machine.slice/libpod-ID.scope/container", "", "podman/0123456789ab", "");
        check("/user.slice/user-0.slice/user@0.service/app.slice/a.service", "", "", "a.service");
        check("/system.slice/docker.service", "", "", "docker.service");
        check("/docker/short", "", "", "");
        check("/lxc/web/system.slice/x.service", "lxc/web", "", "x.service");
        check("/system.slice/lxc/x.service", "", "", "x.service");
        check("/", "", "", "");
        assert_eq!(parse("no colons\n"), Owner::default());
    }
}
