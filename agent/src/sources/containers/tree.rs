//! Where containers' control groups are: by the engine's word and `/proc/PID/cgroup`, or found by walking.
//!
//! Engines name a control group by the container's id, whatever their cgroup driver: `docker/ID`,
//! `system.slice/docker-ID.scope`, `machine.slice/libpod-ID.scope`. On Proxmox's node those of containers
//! inside of LXCs are in sight, too: `lxc/101/ns/docker/ID`. What is found says whose it is by its path
//! alone ([`crate::sources::gpu::owner`]); so do guests' own: `lxc/101`, `qemu.slice/102.scope`. A container's path ends with its id: what is below, as Podman's
//! `container` or a guest systemd's slices, is the container's. Bounded: [`DIRECTORIES_MAX`], [`DEPTH_MAX`].

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::texts::is_id;
use crate::sources::Roots;
use crate::sources::attributes::read_whole;
use crate::sources::cgroup::mounts::Mount;
use crate::sources::cgroup::{Controller, Hierarchies};
use crate::sources::gpu::owner;

/// Directories looked at in one walk.
const DIRECTORIES_MAX: usize = 20_000;
/// Deeper ones are not looked at: `lxc/101/ns/system.slice/docker-ID.scope` is five deep.
const DEPTH_MAX: usize = 12;

/// Directories in which a process of a guest is looked for.
const PROCESS_DIRECTORIES_MAX: usize = 64;
/// Of `cgroup.procs` the first line is read.
const PROCESSES_BYTES_MAX: u64 = 64;

/// Controllers that may have a hierarchy of v1 to themselves.
const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuacct", "blkio", "pids"];

/// The directories of a path, in whatever hierarchies there are.
pub(super) fn hierarchies(path: &str, mounts: &[Mount], roots: &Roots) -> Hierarchies {
    let mut cgroup: String =
        CONTROLLERS.iter().map(|controller| format!("1:{controller}:{path}\n")).collect();
    cgroup.push_str("0::");
    cgroup.push_str(path);
    Hierarchies::find(&cgroup, mounts, roots)
}

/// When a control group was made, in seconds since the Unix epoch; for those no engine tells of.
pub(super) fn made_at(hierarchies: &Hierarchies) -> Option<f64> {
    let (Controller::One(chain) | Controller::Two(chain)) = hierarchies.controller("memory")?;
    let modified = std::fs::metadata(chain.first()?).ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_secs() as f64)
}

/// Where the highest control group in sight is, in the hierarchy that is walked.
fn top(mounts: &[Mount], roots: &Roots) -> Option<PathBuf> {
    let hierarchies = hierarchies("/", mounts, roots);
    let of = |name| match hierarchies.controller(name)? {
        Controller::One(chain) | Controller::Two(chain) => chain.last().cloned(),
    };
    ["memory", "cpuacct", "pids"].into_iter().find_map(of)
}

/// What a walk found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Containers' ids and paths.
    pub(super) containers: Vec<(String, String)>,
    /// Guests of this node, `lxc/101`, and their paths.
    pub(super) guests: Vec<(String, String)>,
}

/// A directory to be looked at.
#[derive(Debug)]
struct Waiting {
    directory: PathBuf,
    path: String,
    depth: usize,
    is_in_guest: bool,
}

/// All containers and guests in sight, `max` of each; nothing where no control groups are mounted.
pub(super) fn walk(mounts: &[Mount], roots: &Roots, max: usize) -> Found {
    let mut found = Found::default();
    let Some(top) = top(mounts, roots) else { return found };
    let mut left = DIRECTORIES_MAX;
    let mut waiting =
        vec![Waiting { directory: top, path: String::new(), depth: 0, is_in_guest: false }];
    while let Some(above) = waiting.pop() {
        for name in directories(&above.directory) {
            let Some(rest) = left.checked_sub(1) else { return found };
            left = rest;
            let path = format!("{}/{name}", above.path);
            if let Some(id) = id_of(&name) {
                if found.containers.len() < max {
                    found.containers.push((id.to_owned(), path));
                }
                continue;
            }
            let mut is_in_guest = above.is_in_guest;
            if !is_in_guest {
                let guest = owner::of_path(&path).guest;
                is_in_guest = !guest.is_empty();
                if is_in_guest && found.guests.len() < max {
                    found.guests.push((guest, path.clone()));
                }
            }
            let (directory, depth) = (above.directory.join(&name), above.depth + 1);
            if depth < DEPTH_MAX {
                waiting.push(Waiting { directory, path, depth, is_in_guest });
            }
        }
    }
    found
}

/// A process of a control group, or of one below it.
pub(super) fn process_of(hierarchies: &Hierarchies) -> Option<u32> {
    let (Controller::One(chain) | Controller::Two(chain)) = hierarchies.controller("memory")?;
    let mut waiting = VecDeque::from([chain.first()?.clone()]);
    for _ in 0..PROCESS_DIRECTORIES_MAX {
        let directory = waiting.pop_front()?;
        let text = read_whole(&directory.join("cgroup.procs"), PROCESSES_BYTES_MAX);
        // The last line may be cut.
        let first = text.ok().and_then(|text| text.lines().next()?.parse().ok());
        if first.is_some() {
            return first;
        }
        waiting.extend(directories(&directory).into_iter().map(|name| directory.join(name)));
    }
    None
}

fn directories(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_directory =
        |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|file_type| file_type.is_dir());
    let named =
        entries.filter(is_directory).filter_map(|entry| entry.file_name().into_string().ok());
    named.collect()
}

/// The container's id in the name of its control group. Monitors (`libpod-conmon-ID.scope`) are none.
fn id_of(name: &str) -> Option<&str> {
    let scope = name.strip_suffix(".scope").unwrap_or(name);
    let id = match scope.rsplit_once('-') {
        Some((prefix, _)) if prefix.ends_with("conmon") => return None,
        Some((_, id)) => id,
        None => scope,
    };
    is_id(id).then_some(id)
}

/// The path of a container by its init's `/proc/PID/cgroup`, up to the part that has its id. `None`: it is
/// in none that is named so, or not in sight.
pub(super) fn path_of(cgroup: &str, id: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.filter(|path| !path.split('/').any(|part| part == "..")).find_map(|path| {
        let mut end = 0;
        for part in path.split('/') {
            end += part.len() + 1;
            if id_of(part) == Some(id) {
                return path.get(..end - 1).map(str::to_owned);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::cgroup::mounts;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        let with_id = |text: &str| text.replace("ID", ID);
        let cgroup = with_id(&format!("9:memory:{path}\n1:name=systemd:/\n0::/\n"));
        assert_eq!(path_of(&cgroup, ID), expected.map(with_id), "{path}");
    }

    #[test]
    fn a_path_ends_with_the_containers_id() {
        check("/docker/ID", Some("/docker/ID"));
        check("/docker/ID/init.scope", Some("/docker/ID"));
        check("/system.slice/docker-ID.scope", Some("/system.slice/docker-ID.scope"));
        check("/machine.slice/libpod-ID.scope/container", Some("/machine.slice/libpod-ID.scope"));
        check("/libpod_parent/libpod-ID", Some("/libpod_parent/libpod-ID"));
        check("/own/ID", Some("/own/ID"));
        check("/../docker/ID", None);
        check("/machine.slice/libpod-conmon-ID.scope", None);
        check("/docker/0123", None);
        check("/", None);
    }

    #[test]
    fn containers_are_found_where_they_are_and_not_below() {
        let dir = tempfile::tempdir().unwrap();
        let other = ID.replace('0', "f");
        for path in [
            format!("docker/{ID}/docker/{other}"),
            format!("lxc/101/ns/system.slice/docker-{other}.scope"),
            "lxc/101/ns/init.scope".to_owned(),
            "lxc.payload.web/lxc/7".to_owned(),
            "lxc.monitor.web".to_owned(),
            "qemu.slice/102.scope".to_owned(),
            "system.slice/ssh.service".to_owned(),
            format!("machine.slice/libpod-conmon-{ID}.scope"),
        ] {
            std::fs::create_dir_all(dir.path().join("fs/cgroup").join(path)).unwrap();
        }
        std::fs::write(dir.path().join("fs/cgroup/lxc/101/cgroup.procs"), "").unwrap();
        let procs = dir.path().join("fs/cgroup/lxc/101/ns/init.scope/cgroup.procs");
        std::fs::write(procs, "4711\n4712\n").unwrap();
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        for mount in ["cgroup2 cgroup2 rw", "cgroup cgroup rw,memory"] {
            let mounts = mounts::parse(&format!("30 25 0:26 / /sys/fs/cgroup rw - {mount}\n"));
            let Found { containers: mut found, mut guests } = walk(&mounts, &roots, 9);
            found.sort_unstable();
            guests.sort_unstable();
            let guest = |name: &str, path: &str| (name.to_owned(), path.to_owned());
            let all = [
                guest("lxc/101", "/lxc/101"),
                guest("lxc/web", "/lxc.payload.web"),
                guest("qemu/102", "/qemu.slice/102.scope"),
            ];
            assert_eq!(guests, all);
            let nested = format!("/lxc/101/ns/system.slice/docker-{other}.scope");
            let expected = [(ID.to_owned(), format!("/docker/{ID}")), (other.clone(), nested)];
            assert_eq!(found, expected);
            let few = walk(&mounts, &roots, 1);
            assert_eq!((few.containers.len(), few.guests.len()), (1, 1));
            let hierarchies = hierarchies("/lxc/101", &mounts, &roots);
            assert_eq!(process_of(&hierarchies), Some(4711));
        }
        assert_eq!(walk(&[], &roots, 9), Found::default());
    }
}
