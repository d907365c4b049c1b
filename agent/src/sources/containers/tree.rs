//! Where containers' control groups are: by the engine's word and `/proc/PID/cgroup`, or found by walking.
//!
//! Engines name a control group by the container's id, whatever their cgroup driver: `docker/ID`,
//! `system.slice/docker-ID.scope`, `machine.slice/libpod-ID.scope`. On Proxmox's node those of containers
//! inside of LXCs are in sight, too: `lxc/101/ns/docker/ID`. What is found says whose it is by its path
//! alone ([`crate::sources::gpu::owner`]). A container's path ends with its id: what is below, as Podman's
//! `container` or a guest systemd's slices, is the container's. Bounded: [`DIRECTORIES_MAX`], [`DEPTH_MAX`].

use std::path::{Path, PathBuf};

use super::texts::is_id;
use crate::sources::Roots;
use crate::sources::cgroup::mounts::Mount;
use crate::sources::cgroup::{Controller, Hierarchies};

/// Directories looked at in one walk.
const DIRECTORIES_MAX: usize = 20_000;
/// Deeper ones are not looked at: `lxc/101/ns/system.slice/docker-ID.scope` is five deep.
const DEPTH_MAX: usize = 12;

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

/// The paths of all containers in sight, with their ids; nothing where no control groups are mounted.
pub(super) fn walk(mounts: &[Mount], roots: &Roots, max: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Some(top) = top(mounts, roots) else { return found };
    let mut left = DIRECTORIES_MAX;
    let mut waiting = vec![(top, String::new(), 0)];
    while let Some((directory, path, depth)) = waiting.pop() {
        for name in directories(&directory) {
            let Some(rest) = left.checked_sub(1) else { return found };
            left = rest;
            let path = format!("{path}/{name}");
            if let Some(id) = id_of(&name) {
                if found.len() >= max {
                    return found;
                }
                found.push((id.to_owned(), path));
            } else if depth + 1 < DEPTH_MAX {
                waiting.push((directory.join(&name), path, depth + 1));
            }
        }
    }
    found
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
            "system.slice/ssh.service".to_owned(),
            format!("machine.slice/libpod-conmon-{ID}.scope"),
        ] {
            std::fs::create_dir_all(dir.path().join("fs/cgroup").join(path)).unwrap();
        }
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        for mount in ["cgroup2 cgroup2 rw", "cgroup cgroup rw,memory"] {
            let mounts = mounts::parse(&format!("30 25 0:26 / /sys/fs/cgroup rw - {mount}\n"));
            let mut found = walk(&mounts, &roots, 9);
            found.sort_unstable();
            let nested = format!("/lxc/101/ns/system.slice/docker-{other}.scope");
            let expected = [(ID.to_owned(), format!("/docker/{ID}")), (other.clone(), nested)];
            assert_eq!(found, expected);
            assert_eq!(walk(&mounts, &roots, 1).len(), 1);
        }
        assert_eq!(walk(&[], &roots, 9), []);
    }
}
