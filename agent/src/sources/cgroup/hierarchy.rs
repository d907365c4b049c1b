//! Which cgroups bound init: their directories, from the container's own up to the highest in sight.
//!
//! A controller is in one hierarchy: a v1 mount of its own, or the one of v2. The kernel tells init's
//! path in it (`/proc/1/cgroup`) and what part of it is mounted where (`/proc/1/mountinfo`), both as
//! the reader's cgroup namespace sees them. What lies above the mount cannot be seen; Proxmox puts a
//! container's limits there (`lxc/101` above `lxc/101/ns`), so a limit that is not found here may be
//! one all the same.
//!
//! The container's own is the highest cgroup in sight, since its runtime shows it no more: init may
//! have moved into one below, to make room for cgroups beside it (systemd into `init.scope`,
//! `docker:dind` into `init`), and what runs in those is the container's too. Only where more is in
//! sight than the container's (the very root, or a path that a runtime gave it) it is init's own.

use std::path::{Path, PathBuf};

use super::mounts::Mount;
use crate::sources::Roots;

/// Deeper nesting than this is not looked at.
const DEPTH_MAX: usize = 32;
/// The last part of init's path where systemd is init: it put itself there.
const INIT_SCOPE: &str = "/init.scope";

/// Which hierarchies are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// None is in sight.
    None,
    One,
    Two,
    /// Controllers in v1, and v2 beside them.
    Hybrid,
}

impl Version {
    fn of(has_one: bool, has_two: bool) -> Self {
        match (has_one, has_two) {
            (false, false) => Self::None,
            (true, false) => Self::One,
            (false, true) => Self::Two,
            (true, true) => Self::Hybrid,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::One => "v1",
            Self::Two => "v2",
            Self::Hybrid => "hybrid",
        }
    }
}

/// The directories of one hierarchy: the container's own first, then those above it.
pub(crate) type Chain = Vec<PathBuf>;

/// A controller's hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Controller {
    One(Chain),
    Two(Chain),
}

/// What bounds a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    pub(crate) version: Version,
    /// v1 controllers by name.
    one: Vec<(&'static str, Chain)>,
    two: Option<Chain>,
}

const CONTROLLERS_ONE: [&str; 6] = ["memory", "cpu", "cpuacct", "cpuset", "blkio", "pids"];

impl Hierarchies {
    /// From init's `cgroup` and its mounts. `roots` say where its mount points are seen from here.
    pub(crate) fn find(cgroup: &str, mounts: &[Mount], roots: &Roots) -> Self {
        let chain = |mount: &Mount, path: &str| chain(mount, path, roots);
        let mut one = Vec::new();
        for controller in CONTROLLERS_ONE {
            let path = path_of(cgroup, |controllers| {
                controllers.split(',').any(|word| word == controller)
            });
            let mount = mounts.iter().rev().find(|mount| mount.has_controller(controller));
            if let (Some(path), Some(mount)) = (path, mount) {
                one.push((controller, chain(mount, path)));
            }
        }
        let path = path_of(cgroup, str::is_empty);
        let mount = mounts.iter().rev().find(|mount| mount.fs_type == "cgroup2");
        let two = path.zip(mount).map(|(path, mount)| chain(mount, path));
        let version = Version::of(!one.is_empty(), two.is_some());
        Self { version, one, two }
    }

    /// What is the container's: with its own cgroup first, and without hierarchies in which init is
    /// in the very root, where what is counted is the node's. `is_placed`: whether init's paths are ones
    /// that a runtime gave to a container.
    pub(crate) fn of_container(mut self, is_placed: bool) -> Self {
        let settle = |chain: &mut Chain, is_root: fn(&Path) -> bool| {
            let highest = chain.last().cloned();
            let highest = highest.filter(|highest| !is_placed && !is_root(highest));
            if let Some(highest) = highest {
                *chain = vec![highest];
            }
            chain.first().is_some_and(|own| !is_root(own))
        };
        let is_root_one = |directory: &Path| directory.join("cgroup.sane_behavior").exists();
        let is_root_two = |directory: &Path| {
            directory.join("cgroup.controllers").exists() && !directory.join("cgroup.type").exists()
        };
        self.one.retain_mut(|(_, chain)| settle(chain, is_root_one));
        self.two = self.two.and_then(|mut chain| settle(&mut chain, is_root_two).then_some(chain));
        self.version = Version::of(!self.one.is_empty(), self.two.is_some());
        self
    }

    /// Where a controller is: a controller in a v1 hierarchy is in no other.
    pub(crate) fn controller(&self, name: &str) -> Option<Controller> {
        let one = self.one.iter().find(|(controller, _)| *controller == name);
        match (one, &self.two) {
            (Some((_, chain)), _) => Some(Controller::One(chain.clone())),
            (None, Some(chain)) => Some(Controller::Two(chain.clone())),
            (None, None) => None,
        }
    }

    /// Whether a controller has a v1 hierarchy.
    pub(crate) fn has_one(&self, name: &str) -> bool {
        self.one.iter().any(|(controller, _)| *controller == name)
    }

    /// The container's own directory in v2; pressure is told there even when controllers are in v1.
    pub(crate) fn own_two(&self) -> Option<&PathBuf> {
        self.two.as_ref().and_then(|chain| chain.first())
    }
}

/// `id:controllers:path`
fn path_of(cgroup: &str, is_wanted: impl Fn(&str) -> bool) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        is_wanted(controllers).then_some(path)
    })
}

fn chain(mount: &Mount, path: &str, roots: &Roots) -> Chain {
    let point = match mount.point.strip_prefix("/sys/") {
        Some(rest) => roots.sysfs.join(rest),
        None => roots.on_host(&mount.point),
    };
    let path = path.strip_suffix(INIT_SCOPE).unwrap_or(path);
    let below = below(path, &mount.root);
    let mut chain = vec![point.clone()];
    let mut directory = point;
    for part in below.split('/').filter(|part| !part.is_empty()).take(DEPTH_MAX) {
        directory.push(part);
        chain.push(directory.clone());
    }
    chain.reverse();
    chain
}

/// What of `path` lies below the mount's root; nothing when init is not below it, as when it is in
/// another namespace: what is mounted is the best that can be seen then.
fn below<'a>(path: &'a str, root: &str) -> &'a str {
    if path.split('/').any(|part| part == "..") {
        return "";
    }
    let root = root.trim_end_matches('/');
    match path.strip_prefix(root) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::mounts;
    use super::*;

    const V2: &str = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    fn find(cgroup: &str, mountinfo: &str) -> Hierarchies {
        let roots = Roots { sysfs: "/S".into(), rootfs: "/R".into(), ..Roots::default() };
        Hierarchies::find(cgroup, &mounts::parse(mountinfo), &roots)
    }

    #[track_caller]
    fn check(cgroup: &str, mountinfo: &str, controller: &str, expected: &[&str]) {
        let chain = match find(cgroup, mountinfo).controller(controller) {
            Some(Controller::One(chain) | Controller::Two(chain)) => chain,
            None => Vec::new(),
        };
        let chain: Vec<&str> = chain.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(chain, expected, "{cgroup:?} {mountinfo:?}");
    }

    #[test]
    fn a_namespace_of_its_own_is_bounded_by_what_is_mounted() {
        check("0::/\n", V2, "memory", &["/S/fs/cgroup"]);
        check("0::/init.scope\n", V2, "memory", &["/S/fs/cgroup"]);
        assert_eq!(find("0::/\n", V2).version, Version::Two);
        assert_eq!(find("0::/\n", "").version, Version::None);
        assert_eq!(find("", V2).version, Version::None);
    }

    #[test]
    fn without_a_namespace_all_above_is_in_sight() {
        let path = "0::/lxc/101/ns/init.scope\n";
        let expected =
            ["/S/fs/cgroup/lxc/101/ns", "/S/fs/cgroup/lxc/101", "/S/fs/cgroup/lxc", "/S/fs/cgroup"];
        check(path, V2, "memory", &expected);
    }

    #[test]
    fn a_part_that_is_mounted_is_where_it_is_mounted() {
        let mount = "30 25 0:26 /docker/0123 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        check("4:memory:/docker/0123\n", mount, "memory", &["/S/fs/cgroup/memory"]);
        let inner = ["/S/fs/cgroup/memory/a", "/S/fs/cgroup/memory"];
        check("4:memory:/docker/0123/a\n", mount, "memory", &inner);
        check("4:memory:/docker/01234\n", mount, "memory", &["/S/fs/cgroup/memory"]);
        check("4:memory:/../..\n", mount, "memory", &["/S/fs/cgroup/memory"]);
        check("4:memory:/a/../../b\n", mount, "memory", &["/S/fs/cgroup/memory"]);
        let elsewhere = "30 25 0:26 / /cg rw - cgroup2 none rw\n";
        check("0::/\n", elsewhere, "memory", &["/R/cg"]);
    }

    #[test]
    fn the_very_root_is_the_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("fs/cgroup");
        std::fs::create_dir_all(&own).unwrap();
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        let find = || Hierarchies::find("0::/\n", &mounts::parse(V2), &roots).of_container(false);
        assert_eq!(find().version, Version::Two);
        std::fs::write(own.join("cgroup.controllers"), "cpu\n").unwrap();
        assert_eq!(find().version, Version::None);
        std::fs::write(own.join("cgroup.type"), "domain\n").unwrap();
        assert_eq!(find().version, Version::Two);
        let mount = "30 25 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw,memory\n";
        let find =
            || Hierarchies::find("1:memory:/\n", &mounts::parse(mount), &roots).of_container(false);
        assert_eq!(find().version, Version::One);
        std::fs::write(own.join("cgroup.sane_behavior"), "0\n").unwrap();
        assert_eq!(find().version, Version::None);
    }

    #[test]
    fn the_highest_in_sight_is_the_containers_own() {
        let id = "0123456789abcdef".repeat(4);
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("fs/cgroup");
        std::fs::create_dir_all(&top).unwrap();
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        let own = |path: &str, is_placed: bool| {
            let cgroup = format!("0::{path}\n");
            let found = Hierarchies::find(&cgroup, &mounts::parse(V2), &roots);
            let found = found.of_container(is_placed);
            let own = found.own_two().unwrap();
            own.strip_prefix(&top).unwrap().to_str().unwrap().to_owned()
        };
        // Init has made room; what is beside it is the container's too.
        for path in ["/", "/init.scope", "/init", "/a/b"] {
            assert_eq!(own(path, false), "", "{path}");
        }
        // What is in sight is that of a container around this one.
        let within = [
            ("/docker/0123/init.scope", "docker/0123"),
            ("/system.slice/docker-0123.scope", "system.slice/docker-0123.scope"),
            (&format!("/own/{id}"), &format!("own/{id}")),
        ];
        for (path, expected) in within {
            assert_eq!(own(path, true), expected);
        }
        // All is in sight: what is init's is all that can be told apart.
        std::fs::write(top.join("cgroup.controllers"), "cpu\n").unwrap();
        for (path, expected) in [("/a/init.scope", "a"), ("/lxc/101/ns", "lxc/101/ns")] {
            assert_eq!(own(path, true), expected);
        }
    }

    #[test]
    fn a_controller_is_in_one_hierarchy() {
        let mounts = format!(
            "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n{}",
            V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        );
        let cgroup = "2:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/b\n";
        let found = find(cgroup, &mounts);
        assert_eq!(found.version, Version::Hybrid);
        let cpu = Path::new("/S/fs/cgroup/cpu,cpuacct");
        let expected = Controller::One(vec![cpu.join("a"), cpu.into()]);
        assert_eq!(found.controller("cpuacct"), Some(expected));
        let unified = Path::new("/S/fs/cgroup/unified");
        let expected = Controller::Two(vec![unified.join("b"), unified.into()]);
        assert_eq!(found.controller("memory"), Some(expected));
        assert_eq!(found.own_two(), Some(&unified.join("b")));
    }

    proptest! {
        #[test]
        fn no_path_leads_out_of_the_mount(
            path in prop_oneof![any::<String>(), "(/|\\.\\.|a|b){0,60}"],
            root in prop_oneof![any::<String>(), "(/|\\.\\.|a){0,8}"],
        ) {
            let mount = mounts::parse(V2).remove(0);
            let chain = chain(&Mount { root, ..mount }, &path, &Roots::default());
            prop_assert!(chain.len() <= DEPTH_MAX + 1);
            for directory in chain {
                prop_assert!(directory.starts_with("/sys/fs/cgroup"));
                prop_assert!(!directory.components().any(|part| part.as_os_str() == ".."));
            }
        }
    }
}
