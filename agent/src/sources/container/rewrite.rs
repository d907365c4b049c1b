//! Around the host's sources: reads what they say of the node, tells what is so of the container.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use stoa_model::{Family, Labels, Metric};

use super::disk_io::DiskIo;
use super::{Mode, Settings, SharedContainer, View, memory, with_view};
use crate::sources::{Kept, Now, Reading, Roots, Source, no_labels};

/// What a source is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Memory,
    Cpu,
    Stat,
    Load,
    VirtualMemory,
    Pressure,
    Filesystems,
    Disks,
    /// The node's, and nothing else.
    OfTheNode,
}

impl Part {
    fn of(source: &str) -> Option<Self> {
        Some(match source {
            "meminfo" => Self::Memory,
            "cpu" => Self::Cpu,
            "stat" => Self::Stat,
            "loadavg" => Self::Load,
            "vmstat" => Self::VirtualMemory,
            "pressure" => Self::Pressure,
            "filesystem" => Self::Filesystems,
            "diskstats" => Self::Disks,
            "schedstat" | "softirqs" | "interrupts" => Self::OfTheNode,
            _ => return None,
        })
    }
}

/// The source as it is, or one that tells the container's numbers in its place when in a container.
pub(crate) fn within(
    source: Box<dyn Source>,
    settings: &Settings,
    container: &SharedContainer,
) -> Box<dyn Source> {
    match Part::of(source.name()) {
        Some(part) if settings.mode == Mode::Auto => Box::new(Within {
            source,
            part,
            container: SharedContainer::clone(container),
            labels: Kept::new(),
            of_node: Reading::default(),
        }),
        _ => source,
    }
}

#[derive(Debug)]
struct Within {
    source: Box<dyn Source>,
    part: Part,
    container: SharedContainer,
    labels: Kept<[Labels; 3]>,
    /// What the source said; keeps its room.
    of_node: Reading,
}

impl Source for Within {
    fn name(&self) -> &'static str {
        self.source.name()
    }

    fn interval(&self) -> Option<Duration> {
        self.source.interval()
    }

    fn deadline(&self) -> Option<Duration> {
        self.source.deadline()
    }

    fn tells_foreign_families(&self) -> bool {
        self.source.tells_foreign_families()
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let Self { source, part, container, labels, of_node } = self;
        if with_view(container, roots, now, |_| ()).is_none() {
            return source.read(roots, now, reading);
        }
        of_node.begin();
        source.read(roots, now, of_node);
        of_node.end();
        reading.problems.append(&mut of_node.problems);
        let families: Vec<Family> = of_node.families().cloned().collect();
        let told = with_view(container, roots, now, |view| match part {
            Part::Memory => memory(view, families, roots),
            Part::Cpu => cpu(view, families, roots, labels),
            Part::Stat => stat(view, families, roots, now),
            Part::Load => load(view, families, roots, now),
            Part::VirtualMemory => virtual_memory(view, families),
            Part::Pressure => pressure(view, families),
            Part::Filesystems => once_per_device(families),
            Part::Disks => disks(view, families),
            Part::OfTheNode => Vec::new(),
        });
        told.unwrap_or_default().into_iter().for_each(|family| reading.family(family));
        // What is not known of the container has failed, whatever is known of the node.
        reading.failed = of_node.failed || reading.is_empty();
    }
}

/// Keeps the families of one value that `value_of` knows the container's value of, by name.
fn each_value(
    families: Vec<Family>,
    mut value_of: impl FnMut(&Family) -> Option<f64>,
) -> Vec<Family> {
    let mut told = Vec::with_capacity(families.len());
    for mut family in families {
        if let Some(value) = value_of(&family) {
            family.metrics = vec![Metric { labels: no_labels(), value }];
            told.push(family);
        }
    }
    told
}

fn memory(view: &mut View, families: Vec<Family>, roots: &Roots) -> Vec<Family> {
    let field_of = |name: &str| {
        let name = name.strip_prefix("node_memory_")?;
        Some(name.strip_suffix("_bytes").unwrap_or(name).to_owned())
    };
    let has_lxcfs = view.place.has_lxcfs_over("meminfo");
    let outer: BTreeMap<String, f64> = families
        .iter()
        .filter_map(|family| Some((field_of(&family.name)?, family.metrics.first()?.value)))
        .collect();
    let outer = |name: &str| outer.get(name).copied();
    match view.memory() {
        Some(memory) => {
            // With v2 lxcfs may find no accounting of swap, and says 0 whatever the limit is.
            let says_nothing = has_lxcfs && memory.is_two() && outer("SwapTotal") == Some(0.0);
            let of_node = if says_nothing { node_swap(roots) } else { None };
            let outer = |name: &str| match name {
                "SwapTotal" if says_nothing => {
                    of_node.filter(|swap| *swap == 0.0 || memory.swap_limit.is_some())
                }
                _ => outer(name),
            };
            each_value(families, |family| memory.field(&field_of(&family.name)?, outer))
        }
        None if has_lxcfs => each_value(families, |family| {
            let name = field_of(&family.name)?;
            memory::is_of_lxcfs(&name).then(|| outer(&name))?
        }),
        None => Vec::new(),
    }
}

/// The node's swap, which no file tells that lxcfs stands over; only where this machine is read.
fn node_swap(roots: &Roots) -> Option<f64> {
    let info = (roots.procfs == Path::new("/proc")).then(rustix::system::sysinfo)?;
    Some(info.totalswap as f64 * f64::from(info.mem_unit))
}

fn cpu(
    view: &mut View,
    mut families: Vec<Family>,
    roots: &Roots,
    labels: &mut Kept<[Labels; 3]>,
) -> Vec<Family> {
    const TIMES: [&str; 2] = ["node_cpu_seconds_total", "node_cpu_guest_seconds_total"];
    let times = families.iter().position(|family| Some(&*family.name) == TIMES.first().copied());
    let times = times.map(|at| families.remove(at));
    families.retain(|family| !TIMES.contains(&&*family.name));
    let (Some(mut sample), Some(age), Some(mut times)) = (view.cpu(), view.age(roots), times)
    else {
        return families;
    };
    if view.place.has_lxcfs_over("stat") {
        // lxcfs may know of a quota that is set above what is in sight.
        let cpus: BTreeSet<&str> =
            times.metrics.iter().filter_map(|metric| metric.labels.get("cpu")).collect();
        if !cpus.is_empty() {
            let shown = cpus.len() as f64;
            sample.quota = Some(sample.quota.map_or(shown, |quota| quota.min(shown)));
        }
    }
    times.metrics.clear();
    for cpu in view.clock.advance(&sample, age) {
        let [user, system, idle] = labels.get(&cpu.cpu.to_string(), |cpu| {
            ["user", "system", "idle"]
                .map(|mode| Labels::from_pairs_last_wins([("cpu", cpu), ("mode", mode)]))
        });
        times.push(user, cpu.used.user);
        times.push(system, cpu.used.system);
        times.push(idle, cpu.idle);
    }
    labels.end_round();
    families.insert(0, times);
    families
}

fn stat(view: &mut View, families: Vec<Family>, roots: &Roots, now: Now) -> Vec<Family> {
    let count = view.tasks.read(roots, now).map(|(count, _)| count);
    let start = view.start;
    each_value(families, |family| match family.name.as_str() {
        // The node's boot (under lxcfs too), and from then to the container's.
        "node_boot_time_seconds" => Some((family.metrics.first()?.value + start?).floor()),
        "node_procs_running" => count.map(|count| f64::from(count.running)),
        "node_procs_blocked" => count.map(|count| f64::from(count.blocked)),
        _ => None,
    })
}

fn load(view: &mut View, families: Vec<Family>, roots: &Roots, now: Now) -> Vec<Family> {
    let Some((_, [one, five, fifteen])) = view.tasks.read(roots, now) else { return Vec::new() };
    each_value(families, |family| match family.name.as_str() {
        "node_load1" => Some(one),
        "node_load5" => Some(five),
        "node_load15" => Some(fifteen),
        _ => None,
    })
}

fn virtual_memory(view: &mut View, families: Vec<Family>) -> Vec<Family> {
    let Some(memory) = view.memory() else { return Vec::new() };
    each_value(families, |family| memory.counter(family.name.strip_prefix("node_vmstat_")?))
}

fn pressure(view: &mut View, families: Vec<Family>) -> Vec<Family> {
    each_value(families, |family| {
        let name = family.name.strip_prefix("node_pressure_")?.strip_suffix("_seconds_total")?;
        let (resource, kind) = name.split_once('_')?;
        let (some, full) = view.pressure(resource);
        let micros = match kind {
            "waiting" => some?,
            "stalled" => full?,
            _ => return None,
        };
        Some(micros / 1e6)
    })
}

/// Leaves out what is mounted a second time: files and directories that a runtime puts in place from
/// the same file system, which would be counted twice in a sum.
fn once_per_device(mut families: Vec<Family>) -> Vec<Family> {
    let mut nearest: BTreeMap<(String, String), String> = BTreeMap::new();
    for metric in metrics_of(&families, "node_filesystem_mount_info") {
        let get = |name| metric.labels.get(name).map(str::to_owned);
        let (Some(major), Some(minor), Some(point)) =
            (get("major"), get("minor"), get("mountpoint"))
        else {
            continue;
        };
        let kept = nearest.entry((major, minor)).or_insert_with(|| point.clone());
        if (point.len(), &point) < (kept.len(), kept) {
            *kept = point;
        }
    }
    let mut twice: BTreeSet<String> = BTreeSet::new();
    for metric in metrics_of(&families, "node_filesystem_mount_info") {
        let point = metric.labels.get("mountpoint");
        twice.extend(
            point.filter(|point| !nearest.values().any(|kept| kept == point)).map(str::to_owned),
        );
    }
    let is_once = |metric: &Metric| {
        metric.labels.get("mountpoint").is_none_or(|point| !twice.contains(point))
    };
    for family in &mut families {
        family.metrics.retain(is_once);
    }
    families.retain(|family| !family.metrics.is_empty());
    families
}

fn disks(view: &mut View, mut families: Vec<Family>) -> Vec<Family> {
    let Some(io) = view.disks.as_mut().and_then(|files| files.read(&mut view.buffer)) else {
        return Vec::new();
    };
    let mut by_name: BTreeMap<String, DiskIo> = BTreeMap::new();
    for metric in metrics_of(&families, "node_disk_info") {
        let get = |name| metric.labels.get(name).unwrap_or_default();
        if let Some(io) = io.get(&format!("{}:{}", get("major"), get("minor"))) {
            by_name.insert(get("device").to_owned(), *io);
        }
    }
    for family in &mut families {
        let column: fn(&DiskIo) -> Option<f64> = match family.name.as_str() {
            "node_disk_reads_completed_total" => |io| io.reads,
            "node_disk_read_bytes_total" => |io| io.read_bytes,
            "node_disk_writes_completed_total" => |io| io.writes,
            "node_disk_written_bytes_total" => |io| io.written_bytes,
            "node_disk_discards_completed_total" => |io| io.discards,
            "node_disk_discarded_sectors_total" => |io| io.discarded_bytes.map(|b| b / 512.0),
            "node_disk_info" => |_| Some(1.0),
            _ => |_| None,
        };
        family.metrics.retain_mut(|metric| {
            let io = metric.labels.get("device").and_then(|device| by_name.get(device));
            let Some(value) = io.and_then(column) else { return false };
            metric.value = value;
            true
        });
    }
    families.retain(|family| !family.metrics.is_empty());
    families
}

fn metrics_of<'a>(families: &'a [Family], name: &str) -> &'a [Metric] {
    families.iter().find(|family| family.name == name).map_or(&[], |family| &family.metrics)
}
