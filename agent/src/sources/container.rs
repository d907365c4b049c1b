//! Where the agent runs, and the numbers of the container it runs in.
//!
//! In a container (LXC, Docker, …) most of `/proc` is the node's: its memory, its CPUs, its load, its
//! boot. A person who looks at the container's host in a dashboard wants the container's. So:
//!
//! * [`place`] finds out whether init (process 1 of the `/proc` that is read) is a container's, and over
//!   which files lxcfs stands. The roots decide: with the host's `/proc` given to an agent in a
//!   container it is the host's init that is seen, and the host's numbers are told.
//! * [`super::cgroup`] finds the cgroups that bound it, v1, v2 or both, and all above them in sight: a limit
//!   is the smallest of theirs.
//! * [`memory`], [`cpu`], [`disk_io`], [`tasks`] read them: pure parsing, small files that stay open.
//! * [`rewrite`] stands around the host's sources: it lets each read the node's files as ever and puts
//!   the container's numbers in their place, under the same names and labels. What is the node's and
//!   has no counterpart in a container is left out; it is never told as the container's, nor as 0.
//! * [`source`] tells where the agent thinks it is, and what binds it (`stoa_container_*`).
//!
//! lxcfs is not believed where a cgroup can be asked: it hands through the node's fields between its
//! own, its `stat` depends on how it was started, and so does its `loadavg`. It is asked for what it
//! alone can see: limits set above the container's own cgroup.
//!
//! Nothing is known of a container whose cgroups are not mounted in it, but what lxcfs says of memory,
//! the load and the boot; that is absent then.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::cgroup::file::whole;
use super::cgroup::{CgroupFile, Controller, Hierarchies, Limit, Version, disk_io, mounts};
use super::file::read_bounded;
use super::{Now, Roots};

mod cpu;
mod memory;
mod place;
mod rewrite;
mod source;
mod tasks;

pub(crate) use rewrite::within;
pub(crate) use source::ContainerSource;

/// How often cgroups are looked for anew where none is in sight: they may be mounted late.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Ticks per second in `/proc/PID/stat`; `USER_HZ` is 100 wherever Linux runs today.
const TICKS_PER_SECOND: f64 = 100.0;

/// `[sources.container]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Whose numbers are told in a container.
    mode: Mode,
}

/// Whose numbers are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// In a container its own.
    #[default]
    Auto,
    /// The node's, as the files have them.
    Off,
}

/// What all sources know of the container; locked while one of them reads.
pub(crate) type SharedContainer = Arc<Mutex<Container>>;

/// Looked for at the first reading; kept from then on.
#[derive(Debug)]
pub(crate) struct Container {
    looked_at: Option<Now>,
    view: Option<Box<View>>,
}

impl Container {
    pub(crate) fn shared() -> SharedContainer {
        Arc::new(Mutex::new(Self { looked_at: None, view: None }))
    }

    /// The container's files; `None`: not in one.
    fn view(&mut self, roots: &Roots, now: Now) -> Option<&mut View> {
        let is_blind =
            self.view.as_ref().is_some_and(|view| view.hierarchies.version == Version::None);
        let is_due = match self.looked_at {
            None => true,
            Some(at) => is_blind && now.is_past(at, LOOK_AGAIN),
        };
        if is_due {
            self.looked_at = Some(now);
            self.view = View::find(roots).map(Box::new);
        }
        self.view.as_deref_mut()
    }
}

/// Calls `with` with the container's files, if there is a container.
fn with_view<R>(
    container: &SharedContainer,
    roots: &Roots,
    now: Now,
    with: impl FnOnce(&mut View) -> R,
) -> Option<R> {
    let mut container = container.lock().unwrap_or_else(PoisonError::into_inner);
    container.view(roots, now).map(with)
}

/// A container and the files that tell of it.
#[derive(Debug)]
struct View {
    place: place::Place,
    hierarchies: Hierarchies,
    memory: Option<memory::MemoryFiles>,
    cpu: Option<cpu::CpuFiles>,
    /// Init's; the CPUs that it may run on change while the container runs.
    status: CgroupFile,
    clock: cpu::CpuClock,
    disks: Option<disk_io::DiskFiles>,
    /// By the order of [`PRESSURES`].
    pressures: Vec<CgroupFile>,
    tasks: tasks::Tasks,
    task_count: Option<CgroupFile>,
    task_limit: Option<Limit>,
    /// When init began, in seconds since the node did.
    start: Option<f64>,
    buffer: Vec<u8>,
}

/// Resources whose pressure is told.
const PRESSURES: [&str; 4] = ["cpu", "io", "memory", "irq"];

/// Looks for a container anew and tells of it: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_any(roots: &Roots, now: Now, reading: &mut super::Reading) {
    let mut source = ContainerSource::of(Container::shared());
    super::Source::read(&mut source, roots, now, reading);
    let is_name = |runtime: &String| !runtime.is_empty() && runtime.len() <= 64;
    assert!(runtime(roots).as_ref().is_none_or(is_name));
}

/// Which runtime's container init is in: `lxc`, `docker`, …; `None`: a host, real or virtual.
pub(crate) fn runtime(roots: &Roots) -> Option<String> {
    let mounts = mounts::of_init(roots);
    Some(place::decide(&place::gather(roots, &mounts))?.runtime)
}

/// What a container may use of its node.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Bounds {
    /// Bytes; `None`: no limit in sight.
    pub(crate) memory: Option<f64>,
    /// Bytes; `None`: no limit in sight.
    pub(crate) swap: Option<f64>,
    /// `None`: as many as there are.
    pub(crate) processors: Option<usize>,
    /// Bytes that there are where `/proc/meminfo` says 0 of swap; `None`: that tells nothing.
    pub(crate) no_swap_means: Option<f64>,
    /// Whether anything tells how much memory the container has.
    pub(crate) is_memory_known: bool,
    /// Whether lxcfs stands over `/proc/meminfo`, so that it tells of the container.
    pub(crate) has_own_meminfo: bool,
}

/// What binds the container that init is in; `None`: a host, or the node's numbers are asked for.
pub(crate) fn bounds(
    settings: &Settings,
    container: &SharedContainer,
    roots: &Roots,
    now: Now,
) -> Option<Bounds> {
    if settings.mode == Mode::Off {
        return None;
    }
    with_view(container, roots, now, |view| {
        let processors = view.cpu().map(|sample| sample.count());
        let allowed = cpu::allowed(&mut view.status, &mut view.buffer).map(|cpus| cpus.len());
        let has_own_meminfo = view.place.has_lxcfs_over("meminfo");
        let memory = view.memory(now);
        Bounds {
            memory: memory.and_then(|memory| memory.field("MemTotal", |_| None)),
            swap: memory.and_then(|memory| memory.field("SwapTotal", |_| None)),
            no_swap_means: memory
                .map_or(Some(0.0), |memory| memory.no_swap_means(has_own_meminfo, roots)),
            processors: processors.or(allowed),
            is_memory_known: memory.is_some() || has_own_meminfo,
            has_own_meminfo,
        }
    })
}

impl View {
    fn find(roots: &Roots) -> Option<Self> {
        let of_init = |name: &str| read_bounded(&roots.procfs.join("1").join(name));
        let mounts = mounts::of_init(roots);
        let evidence = place::gather(roots, &mounts);
        let place = place::decide(&evidence)?;
        let hierarchies = Hierarchies::find(&evidence.cgroup, &mounts, roots)
            .of_container(place::of_cgroup(&evidence.cgroup).is_some());
        let pids = match hierarchies.controller("pids") {
            Some(Controller::One(chain) | Controller::Two(chain)) => Some(chain),
            None => None,
        };
        let file = |directory: &Path, name: &str| CgroupFile::new(directory, name);
        let view = Self {
            memory: hierarchies
                .controller("memory")
                .and_then(|controller| memory::MemoryFiles::new(&controller)),
            cpu: cpu::CpuFiles::new(&hierarchies),
            status: file(&roots.procfs.join("1"), "status"),
            clock: cpu::CpuClock::default(),
            disks: hierarchies
                .controller(if hierarchies.has_one("blkio") { "blkio" } else { "io" })
                .and_then(|controller| disk_io::DiskFiles::new(&controller)),
            pressures: hierarchies.own_two().map_or_else(Vec::new, |own| {
                PRESSURES.map(|name| file(own, &format!("{name}.pressure"))).into()
            }),
            tasks: tasks::Tasks::default(),
            task_count: pids.as_ref().and_then(|chain| Some(file(chain.first()?, "pids.current"))),
            task_limit: pids.as_ref().map(|chain| Limit::new(chain, "pids.max")),
            start: tasks::start_ticks(&of_init("stat")).map(|ticks| ticks / TICKS_PER_SECOND),
            place,
            hierarchies,
            buffer: Vec::new(),
        };
        view.tell();
        Some(view)
    }

    fn tell(&self) {
        let (runtime, cgroup) = (self.place.runtime.as_str(), self.hierarchies.version.name());
        tracing::info!(
            runtime,
            cgroup,
            unprivileged = self.place.is_unprivileged,
            lxcfs = self.place.lxcfs.join(","),
            "in a container: its own numbers are told in place of the node's"
        );
        if self.hierarchies.version == Version::None {
            tracing::warn!(
                "no cgroup is mounted in this container: its CPU time, pressure and disk I/O are not \
                 known; mount one with: mount -t cgroup2 none /sys/fs/cgroup"
            );
        }
    }

    fn memory(&mut self, now: Now) -> Option<&memory::Memory> {
        self.memory.as_mut()?.read(now, &mut self.buffer)
    }

    fn cpu(&mut self) -> Option<cpu::Sample> {
        self.cpu.as_mut()?.read(&mut self.status, &mut self.buffer)
    }

    /// For how long the container has been there, in seconds.
    fn age(&self, roots: &Roots) -> Option<f64> {
        let text = read_bounded(&roots.procfs.join("uptime"));
        let uptime = whole(text.split_ascii_whitespace().next()?)?;
        if self.place.has_lxcfs_over("uptime") {
            return Some(uptime);
        }
        self.start.map(|start| (uptime - start).max(0.0))
    }

    /// Microseconds that some and that all processes waited for one of [`PRESSURES`].
    fn pressure(&mut self, resource: &str) -> (Option<f64>, Option<f64>) {
        let at = PRESSURES.iter().position(|name| *name == resource);
        let file = at.and_then(|at| self.pressures.get_mut(at));
        let Some(text) = file.and_then(|file| file.read(&mut self.buffer)) else {
            return (None, None);
        };
        let total = |kind: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
            let word = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="));
            whole(word?)
        };
        (total("some "), total("full "))
    }
}

#[cfg(test)]
mod tests;
