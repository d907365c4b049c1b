//! Where the processes of a `/proc` run: on a host of their own, or in a container, and of what kind.
//!
//! Decided by what init (process 1 of that `/proc`) sees, so that an agent in a container that was
//! given the host's `/proc` tells the host's numbers.

use std::path::Path;

use crate::sources::Roots;
use crate::sources::cgroup::mounts::{self, Mount};
use crate::sources::file::read_bounded;

/// Longer names of runtimes are no names.
const RUNTIME_BYTES_MAX: usize = 64;

/// Files of `/proc` that lxcfs may be mounted over.
pub(super) const LXCFS_FILES: [&str; 7] =
    ["cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "swaps", "uptime"];

/// What is known about init's surroundings, as text.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Whether the kernel's threads are in sight: init is the machine's then.
    pub(super) kernel_threads: bool,
    /// `/proc/1/environ`; empty when it may not be read.
    pub(super) environ: String,
    /// `/run/systemd/container`: systemd writes down what it found, for all to read.
    pub(super) systemd: String,
    /// Whether `/.dockerenv` and `/run/.containerenv` are there, and are in init's own root.
    pub(super) docker_marker: bool,
    pub(super) podman_marker: bool,
    /// `/proc/1/cgroup`.
    pub(super) cgroup: String,
    pub(super) mounts: Vec<Mount>,
    /// The agent's own mounts over the `/proc` it reads, named as if that were at `/proc`. A unit
    /// may give a service a `/proc` of its own (`ProtectProc=`), on which nothing of lxcfs is.
    /// `None`: not known.
    pub(super) own_mounts: Option<Vec<Mount>>,
    /// `/proc/1/uid_map`.
    pub(super) uid_map: String,
}

/// A container, as far as it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `lxc`, `docker`, `podman`, …
    pub(super) runtime: String,
    /// Whether root in it is nobody outside.
    pub(super) is_unprivileged: bool,
    /// Which of [`LXCFS_FILES`] lxcfs stands over, as the agent sees them.
    pub(super) lxcfs: Vec<&'static str>,
}

impl Place {
    pub(super) fn has_lxcfs_over(&self, file: &str) -> bool {
        self.lxcfs.contains(&file)
    }
}

/// The container that the evidence shows; `None`: a host, real or virtual.
pub(super) fn decide(evidence: &Evidence) -> Option<Place> {
    if evidence.kernel_threads {
        return None;
    }
    let has_lxcfs = !lxcfs_files(&evidence.mounts).is_empty();
    let runtime = of_environ(&evidence.environ)
        .or_else(|| word(&evidence.systemd))
        .or_else(|| evidence.docker_marker.then_some("docker"))
        .or_else(|| evidence.podman_marker.then_some("podman"))
        .or_else(|| of_cgroup(&evidence.cgroup))
        .or_else(|| is_lxc_dev(&evidence.mounts).then_some("lxc"))
        .or_else(|| has_lxcfs.then_some("lxc"))?;
    Some(Place {
        runtime: runtime.to_owned(),
        is_unprivileged: is_mapped(&evidence.uid_map),
        lxcfs: lxcfs_files(evidence.own_mounts.as_ref().unwrap_or(&evidence.mounts)),
    })
}

fn of_environ(environ: &str) -> Option<&str> {
    environ.split('\0').find_map(|entry| entry.strip_prefix("container=")).and_then(word)
}

/// A name a runtime may have; what is not is no evidence.
fn word(text: &str) -> Option<&str> {
    let text = text.trim();
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fits = !text.is_empty() && text.len() <= RUNTIME_BYTES_MAX && text.bytes().all(is_name);
    fits.then_some(text)
}

/// Without a namespace of its own a container shows where the runtime put it: by a name, or by the
/// 64 digits that OCI runtimes name containers by, wherever they were told to put them.
pub(super) fn of_cgroup(text: &str) -> Option<&'static str> {
    const SIGNS: [(&str, &str); 8] = [
        ("/lxc.payload", "lxc"),
        ("/lxc/", "lxc"),
        ("/docker/", "docker"),
        ("/docker-", "docker"),
        ("/libpod", "podman"),
        ("/kubepods", "kubernetes"),
        ("/cri-containerd-", "containerd"),
        ("/machine.slice/systemd-nspawn", "systemd-nspawn"),
    ];
    const ID_DIGITS: usize = 64;
    let is_id = |part: &str| part.len() == ID_DIGITS && part.bytes().all(|b| b.is_ascii_hexdigit());
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths()
        .find_map(|path| SIGNS.iter().find(|(sign, _)| path.contains(sign)))
        .map(|(_, runtime)| *runtime)
        .or_else(|| paths().any(|path| path.split('/').any(is_id)).then_some("oci"))
}

/// LXC puts consoles and a boot id of the container's own in place.
fn is_lxc_dev(mounts: &[Mount]) -> bool {
    mounts.iter().any(|mount| mount.point.starts_with("/dev/lxc/") || mount.root == "/.lxc-boot-id")
}

fn lxcfs_files(mounts: &[Mount]) -> Vec<&'static str> {
    let is_over = |file: &&str| {
        // The last mount at a place, or over all that it is in, is the one that is seen.
        let over = mounts.iter().rev().find(|mount| {
            mount.point == "/proc" || mount.point.strip_prefix("/proc/") == Some(file)
        });
        over.is_some_and(|mount| mount.fs_type == "fuse.lxcfs")
    };
    LXCFS_FILES.into_iter().filter(is_over).collect()
}

/// Whether user 0 is another user outside.
fn is_mapped(uid_map: &str) -> bool {
    uid_map.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next() == Some("0") && words.next().is_some_and(|outside| outside != "0")
    })
}

/// Gathers what there is to know; what cannot be read is left empty.
pub(super) fn gather(roots: &Roots, mounts: &[Mount]) -> Evidence {
    let of_init = |name: &str| read_bounded(&roots.procfs.join("1").join(name));
    let shares_root = shares_root(roots, mounts);
    let marker = |path: &str| shares_root && roots.on_host(path).exists();
    Evidence {
        kernel_threads: roots.shows_kernel_threads(),
        environ: of_init("environ"),
        systemd: if shares_root {
            read_bounded(&roots.on_host("/run/systemd/container"))
        } else {
            String::new()
        },
        docker_marker: marker("/.dockerenv"),
        podman_marker: marker("/run/.containerenv"),
        cgroup: of_init("cgroup"),
        mounts: mounts.to_vec(),
        own_mounts: own_mounts(roots),
        uid_map: of_init("uid_map"),
    }
}

fn own_mounts(roots: &Roots) -> Option<Vec<Mount>> {
    let of_self = mounts::parse(&read_bounded(&roots.procfs.join("self/mountinfo")));
    let over = |mut mount: Mount| {
        let point = Path::new(&mount.point).strip_prefix(&roots.procfs).ok()?;
        mount.point = Path::new("/proc").join(point).to_str()?.trim_end_matches('/').to_owned();
        Some(mount)
    };
    let over: Vec<Mount> = of_self.into_iter().filter_map(over).collect();
    // What is read may be no mount but part of one, or a copy.
    over.iter().any(|mount| mount.point == "/proc").then_some(over)
}

/// Whether the files under `roots.rootfs` are init's: with the host's processes in sight of a
/// container that keeps its own files, they are not.
fn shares_root(roots: &Roots, of_init: &[Mount]) -> bool {
    if roots.rootfs != Path::new("/") {
        return true;
    }
    let of_self = mounts::parse(&read_bounded(&roots.procfs.join("self/mountinfo")));
    let root = |mounts: &[Mount]| {
        let root = mounts.iter().rev().find(|mount| mount.point == "/");
        root.map(|mount| (mount.device.clone(), mount.root.clone()))
    };
    let of_init = root(of_init);
    of_init.is_some() && of_init == root(&of_self)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(evidence: &Evidence, runtime: Option<&str>) {
        let place = decide(evidence);
        assert_eq!(place.as_ref().map(|place| place.runtime.as_str()), runtime, "{evidence:?}");
    }

    #[test]
    fn the_first_sign_that_is_one_decides() {
        check(&Evidence::default(), None);
        let environ = |text: &str| Evidence { environ: text.into(), ..Evidence::default() };
        check(&environ("PATH=/bin\0container=lxc\0"), Some("lxc"));
        check(&environ("nocontainer=lxc\0"), None);
        check(&environ("container=\0"), None);
        check(&environ("container=\u{1b}[31m\0"), None);
        check(&environ(&format!("container={}\0", "x".repeat(10_000))), None);
        check(&Evidence { systemd: "lxc\n".into(), ..Evidence::default() }, Some("lxc"));
        let docker = Evidence { docker_marker: true, ..Evidence::default() };
        check(&docker, Some("docker"));
        // A virtual machine made out of an image.
        check(&Evidence { kernel_threads: true, docker_marker: true, ..Evidence::default() }, None);
        check(&Evidence { environ: "container=lxc\0".into(), ..docker }, Some("lxc"));
        for (cgroup, runtime) in [
            ("0::/init.scope\n", None),
            ("1:name=systemd:/\n0::/\n", None),
            ("4:memory:/lxc/101/ns\n", Some("lxc")),
            ("4:memory:/lxc.payload.c1\n", Some("lxc")),
            ("0::/system.slice/docker-0123.scope/init.scope\n", Some("docker")),
            ("9:cpu:/docker/0123\n", Some("docker")),
            ("0::/kubepods.slice/kubepods-besteffort.slice/x\n", Some("kubernetes")),
            (&*format!("0::/own/{}\n", "0123456789abcdef".repeat(4)), Some("oci")),
            (&*format!("0::/own/{}\n", "0123456789abcdef".repeat(3)), None),
        ] {
            check(&Evidence { cgroup: cgroup.into(), ..Evidence::default() }, runtime);
        }
        let dev = "79 65 0:43 /1 /dev/lxc/tty1 rw - devpts devpts rw\n";
        check(&Evidence { mounts: mounts::parse(dev), ..Evidence::default() }, Some("lxc"));
    }

    #[test]
    fn lxcfs_is_found_file_by_file_where_it_is_seen() {
        let text = "101 83 0:41 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw\n\
                    103 83 0:41 /proc/meminfo /proc/meminfo rw - fuse.lxcfs lxcfs rw\n\
                    104 83 0:44 /meminfo /proc/meminfo rw - proc proc rw\n\
                    105 83 0:41 /proc/uptime /proc/uptime rw - fuse.lxcfs lxcfs rw\n";
        let evidence = Evidence { mounts: mounts::parse(text), ..Evidence::default() };
        assert_eq!(decide(&evidence).unwrap().lxcfs, ["stat", "uptime"]);
        let covered = format!("{text}106 83 0:45 / /proc rw - proc proc rw\n");
        let mounts = mounts::parse(&covered);
        assert_eq!(lxcfs_files(&mounts), [""; 0]);
        // Init's /proc has lxcfs, the agent's has not.
        let own_mounts = Some(mounts::parse("106 83 0:45 / /proc rw - proc proc rw\n"));
        let evidence = Evidence { own_mounts, ..evidence };
        let place = decide(&evidence).unwrap();
        assert_eq!((place.runtime.as_str(), place.lxcfs.is_empty()), ("lxc", true));
    }

    #[test]
    fn what_is_over_the_proc_that_is_read_is_named_alike() {
        let dir = tempfile::tempdir().unwrap();
        let procfs = dir.path().join("proc");
        let roots = Roots { procfs: procfs.clone(), ..Roots::default() };
        assert_eq!(own_mounts(&roots), None);
        std::fs::create_dir_all(procfs.join("self")).unwrap();
        let elsewhere = "2 1 0:4 / /proc rw - proc proc rw\n";
        std::fs::write(procfs.join("self/mountinfo"), elsewhere).unwrap();
        assert_eq!(own_mounts(&roots), None);
        let at = procfs.to_str().unwrap();
        let text = format!(
            "1 0 254:0 / / rw - ext4 /dev/vda rw\n2 1 0:4 / {at} rw - proc proc rw\n\
             3 2 0:5 /proc/stat {at}/stat rw - fuse.lxcfs lxcfs rw\n\
             4 2 0:5 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw\n"
        );
        std::fs::write(procfs.join("self/mountinfo"), text).unwrap();
        let own = own_mounts(&roots).unwrap();
        let points: Vec<&str> = own.iter().map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/proc", "/proc/stat"]);
    }

    #[test]
    fn a_map_that_moves_root_is_unprivileged() {
        for (map, unprivileged) in [
            ("         0          0 4294967295\n", false),
            ("         0     100000      65536\n", true),
            ("         0       1000          1\n         1 100000 65535\n", true),
            ("", false),
            ("0\n", false),
        ] {
            assert_eq!(is_mapped(map), unprivileged, "{map:?}");
        }
    }

    #[test]
    fn markers_count_only_in_inits_own_root() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path().join("proc");
        for (pid, root) in [("1", "254:0 /"), ("self", "0:99 /")] {
            std::fs::create_dir_all(proc.join(pid)).unwrap();
            let line = format!("64 42 {root} / rw - ext4 /dev/vda rw\n");
            std::fs::write(proc.join(pid).join("mountinfo"), line).unwrap();
        }
        let roots = Roots { procfs: proc.clone(), ..Roots::default() };
        let of_init = mounts::parse(&read_bounded(&proc.join("1/mountinfo")));
        assert!(!shares_root(&roots, &of_init), "another file system");
        assert!(!shares_root(&roots, &[]), "not known");
        std::fs::copy(proc.join("1/mountinfo"), proc.join("self/mountinfo")).unwrap();
        assert!(shares_root(&roots, &of_init));

        std::fs::write(dir.path().join(".dockerenv"), "").unwrap();
        let roots = Roots { rootfs: dir.path().into(), ..roots };
        assert!(gather(&roots, &of_init).docker_marker, "a root that was named is believed");
    }

    proptest! {
        #[test]
        fn any_evidence_is_judged(
            environ in any::<String>(), systemd in any::<String>(),
            cgroup in any::<String>(), mountinfo in any::<String>(), uid_map in any::<String>(),
        ) {
            let mounts = mounts::parse(&mountinfo);
            let evidence =
                Evidence { environ, systemd, cgroup, mounts, uid_map, ..Evidence::default() };
            if let Some(place) = decide(&evidence) {
                prop_assert!(place.runtime.len() <= RUNTIME_BYTES_MAX);
            }
        }
    }
}
