//! Around the host's sources: reads what they say of the node, tells what is so of the container.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stoa_model::{Family, Labels};

use super::{Mode, Settings, SharedContainer, View, memory, with_view};
use crate::sources::cgroup::disk_io::DiskIo;
use crate::sources::{Kept, Now, Problem, Reading, Roots, Source, no_labels};

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
        reading.absent = of_node.absent.take();
        with_view(container, roots, now, |view| match part {
            Part::Memory => memory(view, of_node, roots, now, reading),
            Part::Cpu => cpu(view, of_node, roots, labels, reading),
            Part::Stat => stat(view, of_node, roots, now, reading),
            Part::Load => load(view, of_node, roots, now, reading),
            Part::VirtualMemory => virtual_memory(view, of_node, now, reading),
            Part::Pressure => pressure(view, of_node, reading),
            Part::Filesystems => once_per_device(of_node, reading),
            Part::Disks => disks(view, of_node, reading),
            Part::OfTheNode => {
                reading.note(Problem::Lacks("such reading of a container, only its node's"))
            }
        });
        // What is not known of the container has failed, whatever is known of the node.
        reading.failed = of_node.failed || reading.is_empty();
    }
}

/// Opens a family of the container's like the node's.
fn open<'r>(reading: &'r mut Reading, family: &Family) -> &'r mut Family {
    reading.named(&family.name, &family.help, family.kind)
}

/// Tells the families of one value that `value_of` knows the container's value of.
fn each_value(
    of_node: &Reading,
    reading: &mut Reading,
    mut value_of: impl FnMut(&Family) -> Option<f64>,
) {
    for family in of_node.families() {
        if let Some(value) = value_of(family) {
            open(reading, family).push(no_labels(), value);
        }
    }
}

fn memory(view: &mut View, of_node: &Reading, roots: &Roots, now: Now, reading: &mut Reading) {
    fn field_of(family: &Family) -> Option<&str> {
        let name = family.name.strip_prefix("node_memory_")?;
        Some(name.strip_suffix("_bytes").unwrap_or(name))
    }
    let value = |family: &Family| Some(family.metrics.first()?.value);
    let outer =
        |name| of_node.families().find(|family| field_of(family) == Some(name)).and_then(value);
    let has_lxcfs = view.place.has_lxcfs_over("meminfo");
    match view.memory(now) {
        Some(memory) => {
            let (total, mut swap) = (outer("MemTotal"), outer("SwapTotal"));
            if swap == Some(0.0) {
                swap = memory.no_swap_means(has_lxcfs, roots);
            }
            let outer = |name: &str| match name {
                "MemTotal" => total,
                "SwapTotal" => swap,
                _ => None,
            };
            each_value(of_node, reading, |family| memory.field(field_of(family)?, outer));
        }
        None if has_lxcfs => each_value(of_node, reading, |family| {
            value(family).filter(|_| field_of(family).is_some_and(memory::is_of_lxcfs))
        }),
        None => {}
    }
}

fn cpu(
    view: &mut View,
    of_node: &Reading,
    roots: &Roots,
    labels: &mut Kept<[Labels; 3]>,
    reading: &mut Reading,
) {
    const TIMES: [&str; 2] = ["node_cpu_seconds_total", "node_cpu_guest_seconds_total"];
    let times = of_node.families().find(|family| TIMES.first() == Some(&&*family.name));
    if let (Some(mut sample), Some(age), Some(times)) = (view.cpu(), view.age(roots), times) {
        if view.place.has_lxcfs_over("stat") {
            // lxcfs may know of a quota that is set above what is in sight.
            let cpus: BTreeSet<&str> =
                times.metrics.iter().filter_map(|metric| metric.labels.get("cpu")).collect();
            if !cpus.is_empty() {
                let shown = cpus.len() as f64;
                sample.quota = Some(sample.quota.map_or(shown, |quota| quota.min(shown)));
            }
        }
        let told = open(reading, times);
        for cpu in view.clock.advance(&sample, age) {
            let [user, system, idle] = labels.get(&cpu.cpu.to_string(), |cpu| {
                ["user", "system", "idle"]
                    .map(|mode| Labels::from_pairs_last_wins([("cpu", cpu), ("mode", mode)]))
            });
            told.push(user, cpu.used.user);
            told.push(system, cpu.used.system);
            told.push(idle, cpu.idle);
        }
        labels.end_round();
    }
    let others = of_node.families().filter(|family| !TIMES.contains(&&*family.name));
    others.for_each(|family| reading.copy(family));
}

fn stat(view: &mut View, of_node: &Reading, roots: &Roots, now: Now, reading: &mut Reading) {
    let count = view.tasks.read(roots, now).map(|(count, _)| count);
    let start = view.start;
    each_value(of_node, reading, |family| match family.name.as_str() {
        // The node's boot (under lxcfs too), and from then to the container's.
        "node_boot_time_seconds" => Some((family.metrics.first()?.value + start?).floor()),
        "node_procs_running" => count.map(|count| f64::from(count.running)),
        "node_procs_blocked" => count.map(|count| f64::from(count.blocked)),
        _ => None,
    });
}

fn load(view: &mut View, of_node: &Reading, roots: &Roots, now: Now, reading: &mut Reading) {
    let Some((_, [one, five, fifteen])) = view.tasks.read(roots, now) else { return };
    each_value(of_node, reading, |family| match family.name.as_str() {
        "node_load1" => Some(one),
        "node_load5" => Some(five),
        "node_load15" => Some(fifteen),
        _ => None,
    });
}

fn virtual_memory(view: &mut View, of_node: &Reading, now: Now, reading: &mut Reading) {
    let Some(memory) = view.memory(now) else { return };
    let counter = |family: &Family| memory.counter(family.name.strip_prefix("node_vmstat_")?);
    each_value(of_node, reading, counter);
}

fn pressure(view: &mut View, of_node: &Reading, reading: &mut Reading) {
    each_value(of_node, reading, |family| {
        let name = family.name.strip_prefix("node_pressure_")?.strip_suffix("_seconds_total")?;
        let (resource, kind) = name.split_once('_')?;
        let (some, full) = view.pressure(resource);
        let micros = match kind {
            "waiting" => some?,
            "stalled" => full?,
            _ => return None,
        };
        Some(micros / 1e6)
    });
}

/// Leaves out what is mounted a second time: files and directories that a runtime puts in place from
/// the same file system, which would be counted twice in a sum.
fn once_per_device(of_node: &Reading, reading: &mut Reading) {
    const INFO: &str = "node_filesystem_mount_info";
    let mut nearest: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for labels in labels_of(of_node, INFO) {
        let (Some(major), Some(minor), Some(point)) =
            (labels.get("major"), labels.get("minor"), labels.get("mountpoint"))
        else {
            continue;
        };
        let kept = nearest.entry((major, minor)).or_insert(point);
        if (point.len(), point) < (kept.len(), *kept) {
            *kept = point;
        }
    }
    let is_nearest = |point: &str| nearest.values().any(|kept| *kept == point);
    let points = labels_of(of_node, INFO).filter_map(|labels| labels.get("mountpoint"));
    let twice: BTreeSet<&str> = points.filter(|point| !is_nearest(point)).collect();
    for family in of_node.families() {
        let told = open(reading, family);
        let once = family.metrics.iter().filter(|metric| {
            metric.labels.get("mountpoint").is_none_or(|point| !twice.contains(point))
        });
        told.metrics.extend(once.cloned());
    }
}

fn disks(view: &mut View, of_node: &Reading, reading: &mut Reading) {
    let Some(io) = view.disks.as_mut().and_then(|files| files.read(&mut view.buffer)) else {
        return;
    };
    let mut by_name: BTreeMap<&str, DiskIo> = BTreeMap::new();
    for labels in labels_of(of_node, "node_disk_info") {
        let get = |name| labels.get(name).unwrap_or_default();
        if let Some(io) = io.get(&format!("{}:{}", get("major"), get("minor"))) {
            by_name.insert(get("device"), *io);
        }
    }
    for family in of_node.families() {
        let column: fn(&DiskIo) -> Option<f64> = match family.name.as_str() {
            "node_disk_reads_completed_total" => |io| io.reads,
            "node_disk_read_bytes_total" => |io| io.read_bytes,
            "node_disk_writes_completed_total" => |io| io.writes,
            "node_disk_written_bytes_total" => |io| io.written_bytes,
            "node_disk_discards_completed_total" => |io| io.discards,
            "node_disk_discarded_sectors_total" => |io| io.discarded_bytes.map(|b| b / 512.0),
            "node_disk_info" => |_| Some(1.0),
            _ => continue,
        };
        let told = open(reading, family);
        for metric in &family.metrics {
            let io = metric.labels.get("device").and_then(|device| by_name.get(device));
            if let Some(value) = io.and_then(column) {
                told.push(metric.labels.clone(), value);
            }
        }
    }
}

fn labels_of<'a>(of_node: &'a Reading, name: &str) -> impl Iterator<Item = &'a Labels> {
    let family = of_node.families().find(|family| family.name == name);
    family.into_iter().flat_map(|family| &family.metrics).map(|metric| &metric.labels)
}
