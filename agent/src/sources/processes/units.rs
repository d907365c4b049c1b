//! Units: which one a process belongs to, and what the kernel counts for it as a whole.
//!
//! A unit is what the path of a process's control group names first below the slices: a service or
//! scope of systemd, or a container (`lxc/101`, `docker/…`). Sessions of a user are one unit, the
//! user's slice, and transient scopes and services one per kind, so that names do not pile up.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::sources::{Roots, Tree};

/// The longest name told; longer ones are cut.
const NAME_BYTES_MAX: usize = 128;
/// The most of a file of a control group that is read.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Block devices of which it is remembered whether they stand on others.
const DEVICES_MAX: usize = 1024;
const SECONDS_PER_MICRO: f64 = 1e-6;
/// Loop devices: what they do is done by whoever holds their file.
const LOOP_MAJOR: &str = "7:";

/// Where a process stands, by its `cgroup` file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placement<'a> {
    /// The unit's name; `None` for what is in no unit, such as a thread of the kernel.
    pub(super) unit: Option<String>,
    /// The unit's own group in each hierarchy, if it has one.
    pub(super) unified: Option<&'a str>,
    pub(super) memory: Option<&'a str>,
    pub(super) block: Option<&'a str>,
}

/// Reads `/proc/PID/cgroup`.
pub(super) fn parse(text: &str) -> Placement<'_> {
    let hierarchies = || {
        text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            Some((controllers, path.strip_suffix(" (deleted)").unwrap_or(path)))
        })
    };
    // systemd's own hierarchy knows best, then the unified one, then any.
    let preferred = ["name=systemd", ""].into_iter();
    let named = preferred
        .filter_map(|wanted| hierarchies().find(|(controllers, _)| *controllers == wanted))
        .chain(hierarchies())
        .find_map(|(_, path)| unit_of(path));
    let Some((unit, _)) = named else { return Placement::default() };
    let group = |wanted: &str| {
        let is_it = |controllers: &str| controllers.split(',').any(|c| c == wanted);
        let (_, path) = hierarchies().find(|(controllers, _)| is_it(controllers))?;
        match unit_of(path)? {
            (name, Some(length)) if name == unit => path.get(..length),
            _ => None,
        }
    };
    let (unified, memory, block) = (group(""), group("memory"), group("blkio"));
    Placement { unit: Some(unit), unified, memory, block }
}

/// The unit a path names, and how long the path of its own group is, if it has one.
fn unit_of(path: &str) -> Option<(String, Option<usize>)> {
    let mut end = 0;
    let mut user_slice = None;
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let part = loop {
        let Some(part) = parts.next() else {
            return user_slice.map(|slice: &str| (slice.to_owned(), None));
        };
        end += 1 + part.len();
        if part == ".." || part == "." {
            return None;
        }
        if !part.ends_with(".slice") {
            break part;
        }
        if part.starts_with("user-") {
            user_slice = Some(part);
        }
    };
    if let Some(slice) = user_slice
        && part.starts_with("session-")
        && part.ends_with(".scope")
    {
        return Some((slice.to_owned(), None));
    }
    let suffix = [".service", ".scope"].into_iter().find(|suffix| part.ends_with(suffix));
    if let Some(suffix) = suffix
        && is_transient(part)
    {
        return Some((format!("run-*{suffix}"), None));
    }
    let is_unit = suffix.is_some() || part.contains('.');
    let name = match parts.next() {
        // A directory of containers.
        Some(container) if !is_unit && container != ".." => {
            end += 1 + container.len();
            format!("{part}/{container}")
        }
        _ => part.to_owned(),
    };
    // With empty parts the path is longer than counted; such a group is not looked at.
    Some((plain(&name), Some(end).filter(|_| !path.contains("//"))))
}

/// Whether systemd made up the name: `run-r0a1b….scope`, `run-u12.service`, `run-p12-i34.scope`.
fn is_transient(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("run-") else { return false };
    let rest = rest.split('.').next().unwrap_or_default();
    rest.chars().any(|c| c.is_ascii_digit())
        && rest.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, 'r' | 'u' | 'p' | 'i' | '-'))
}

/// Without what moves a cursor, and cut.
fn plain(name: &str) -> String {
    let shown = name.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut bytes = 0;
    shown
        .take_while(|c| {
            bytes += c.len_utf8();
            bytes <= NAME_BYTES_MAX
        })
        .collect()
}

/// The files in which the kernel counts for a whole unit; `None` where there is none.
#[derive(Debug, Default)]
pub(super) struct Counts {
    processor: Option<PathBuf>,
    memory: Option<PathBuf>,
    block: Option<(PathBuf, BlockFormat)>,
    bytes: Bytes,
}

/// Bytes read and written, added up by device: one that is unplugged leaves the kernel's file, and with
/// it all it ever counted.
#[derive(Debug, Default)]
struct Bytes {
    totals: [u64; 2],
    last: HashMap<Box<str>, [u64; 2]>,
}

impl Bytes {
    fn take_in(&mut self, device: &str, counts: [Option<u64>; 2]) {
        if !self.last.contains_key(device) {
            if self.last.len() >= DEVICES_MAX {
                return;
            }
            self.last.insert(device.into(), [0; 2]);
        }
        let Some(last) = self.last.get_mut(device) else { return };
        for ((total, last), count) in self.totals.iter_mut().zip(last).zip(counts) {
            let Some(count) = count else { continue };
            // A count that is smaller began anew, with the group or with the device.
            *total = total.saturating_add(count.checked_sub(*last).unwrap_or(count));
            *last = count;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum BlockFormat {
    /// `io.stat`
    Unified,
    /// `blkio.throttle.io_service_bytes`
    Legacy,
}

/// What a unit used, as far as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counted {
    pub(super) cpu_seconds: Option<f64>,
    /// All that is charged to it: the page cache and the kernel's memory too.
    pub(super) memory_bytes: Option<f64>,
    pub(super) read_bytes: Option<f64>,
    pub(super) written_bytes: Option<f64>,
}

impl Counts {
    /// Which of the files there are.
    pub(super) fn find(roots: &Roots, placement: &Placement<'_>) -> Self {
        let groups = roots.path(Tree::Sys, "fs/cgroup");
        let existing = |path: PathBuf| path.is_file().then_some(path);
        let mut counts = Self::default();
        let unified = placement.unified.map(relative);
        for root in [groups.clone(), groups.join("unified")] {
            let Some(group) = unified.map(|path| root.join(path)) else { break };
            counts.processor = counts.processor.or_else(|| existing(group.join("cpu.stat")));
            counts.memory = counts.memory.or_else(|| existing(group.join("memory.current")));
            counts.block = counts.block.or_else(|| {
                existing(group.join("io.stat")).map(|path| (path, BlockFormat::Unified))
            });
        }
        if let Some(path) = placement.memory {
            let path = groups.join("memory").join(relative(path)).join("memory.usage_in_bytes");
            counts.memory = counts.memory.or_else(|| existing(path));
        }
        if let Some(path) = placement.block {
            let file = "blkio.throttle.io_service_bytes";
            let path = groups.join("blkio").join(relative(path)).join(file);
            let legacy = existing(path).map(|path| (path, BlockFormat::Legacy));
            counts.block = counts.block.or(legacy);
        }
        counts
    }

    /// Whether the kernel counts the unit's CPU time.
    pub(super) fn has_processor(&self) -> bool {
        self.processor.is_some()
    }

    /// Whether the kernel counts the unit's reading and writing.
    pub(super) fn has_block(&self) -> bool {
        self.block.is_some()
    }

    /// What the files say now.
    pub(super) fn read(
        &mut self,
        roots: &Roots,
        devices: &mut Devices,
        text: &mut String,
    ) -> Counted {
        let mut counted = Counted::default();
        if let Some(path) = &self.processor
            && fill(path, text)
        {
            counted.cpu_seconds = parse_processor(text);
        }
        if let Some(path) = &self.memory
            && fill(path, text)
        {
            counted.memory_bytes = text.trim().parse::<u64>().ok().map(|bytes| bytes as f64);
        }
        if let Some((path, format)) = &self.block
            && fill(path, text)
        {
            let bytes = &mut self.bytes;
            parse_block(text, *format, |device, counts| {
                if devices.count(roots, device) {
                    bytes.take_in(device, counts);
                }
            });
            let [read, written] = bytes.totals;
            counted.read_bytes = Some(read as f64);
            counted.written_bytes = Some(written as f64);
        }
        counted
    }
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// Reads a file into `text`.
fn fill(path: &Path, text: &mut String) -> bool {
    text.clear();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(text)).is_ok()
}

/// `cpu.stat`
fn parse_processor(text: &str) -> Option<f64> {
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(micros.trim().parse::<u64>().ok()? as f64 * SECONDS_PER_MICRO)
}

/// Hands each device to `take` with the bytes read and written, as far as a line says them.
fn parse_block(text: &str, format: BlockFormat, mut take: impl FnMut(&str, [Option<u64>; 2])) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next().filter(|word| word.contains(':')) else { continue };
        let (mut read, mut written) = (None, None);
        match format {
            BlockFormat::Unified => {
                for word in words {
                    match word.split_once('=') {
                        Some(("rbytes", value)) => read = value.parse().ok(),
                        Some(("wbytes", value)) => written = value.parse().ok(),
                        _ => {}
                    }
                }
            }
            BlockFormat::Legacy => match (words.next(), words.next()) {
                (Some("Read"), Some(value)) => read = value.parse().ok(),
                (Some("Write"), Some(value)) => written = value.parse().ok(),
                _ => continue,
            },
        }
        take(device, [read, written]);
    }
}

/// Which block devices count: what goes through one that stands on others (LVM, dm-crypt, md) is
/// counted once more below.
#[derive(Debug, Default)]
pub(super) struct Devices {
    known: HashMap<Box<str>, bool>,
}

impl Devices {
    fn count(&mut self, roots: &Roots, device: &str) -> bool {
        if let Some(known) = self.known.get(device) {
            return *known;
        }
        let is_number = device.bytes().all(|b| b.is_ascii_digit() || b == b':');
        let slaves = roots.path(Tree::Sys, format!("dev/block/{device}/slaves"));
        let stands_on_others = || slaves.read_dir().is_ok_and(|mut slaves| slaves.next().is_some());
        let counts = is_number && !device.starts_with(LOOP_MAJOR) && !stands_on_others();
        if self.known.len() >= DEVICES_MAX {
            self.known.clear();
        }
        self.known.insert(device.into(), counts);
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(path: &str, unit: Option<&str>, group: Option<&str>) {
        let text = format!("0::{path}\n");
        let placement = parse(&text);
        assert_eq!((placement.unit.as_deref(), placement.unified), (unit, group), "{path}");
    }

    #[test]
    fn the_unit_is_what_stands_below_the_slices() {
        check("/", None, None);
        check(
            "/system.slice/nginx.service",
            Some("nginx.service"),
            Some("/system.slice/nginx.service"),
        );
        check(
            "/system.slice/system-getty.slice/getty@tty1.service/x (deleted)",
            Some("getty@tty1.service"),
            Some("/system.slice/system-getty.slice/getty@tty1.service"),
        );
        check("/user.slice/user-1000.slice/session-12.scope", Some("user-1000.slice"), None);
        check(
            "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service",
            Some("user@1000.service"),
            Some("/user.slice/user-1000.slice/user@1000.service"),
        );
        check("/system.slice/run-r0123abcd.scope", Some("run-*.scope"), None);
        check("/system.slice/run-u7.service", Some("run-*.service"), None);
        let named = "/system.slice/run-backups.service";
        check(named, Some("run-backups.service"), Some(named));
        check("/lxc/101/system.slice/a.service", Some("lxc/101"), Some("/lxc/101"));
        check("/lxc.payload.web/init.scope", Some("lxc.payload.web"), Some("/lxc.payload.web"));
        check("/init.scope", Some("init.scope"), Some("/init.scope"));
        check("/docker/0abc", Some("docker/0abc"), Some("/docker/0abc"));
        check("/../../x.service", None, None);
        check("/system.slice", None, None);
    }

    #[test]
    fn on_a_hybrid_host_each_hierarchy_has_its_group() {
        let text = "9:name=systemd:/system.slice/a.service\n7:blkio:/system.slice/a.service\n\
            4:cpu,memory:/elsewhere/x\n0::/system.slice/a.service/sub\n";
        let placement = parse(text);
        assert_eq!(placement.unit.as_deref(), Some("a.service"));
        assert_eq!(placement.unified, Some("/system.slice/a.service"));
        assert_eq!(placement.block, Some("/system.slice/a.service"));
        assert_eq!(placement.memory, None, "another group's");
    }

    #[test]
    fn what_the_kernel_counts_is_read_but_not_twice() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { sysfs: dir.path().into(), ..Roots::default() };
        let group = dir.path().join("fs/cgroup/system.slice/a.service");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::create_dir_all(dir.path().join("dev/block/253:0/slaves/sda")).unwrap();
        std::fs::create_dir_all(dir.path().join("dev/block/8:0/slaves")).unwrap();
        let text = "0::/system.slice/a.service\n";
        let find = || Counts::find(&roots, &parse(text));
        let read =
            |counts: &mut Counts| counts.read(&roots, &mut Devices::default(), &mut String::new());
        assert_eq!(read(&mut find()), Counted::default());
        std::fs::write(group.join("cpu.stat"), "usage_usec 2500000\nuser_usec 1\n").unwrap();
        std::fs::write(group.join("memory.current"), "4096\n").unwrap();
        let io =
            "253:0 rbytes=5 wbytes=6\n8:0 rbytes=100 wbytes=200 rios=3\n7:1 rbytes=9 wbytes=9\n";
        std::fs::write(group.join("io.stat"), io).unwrap();
        let mut counts = find();
        let expected = Counted {
            cpu_seconds: Some(2.5),
            memory_bytes: Some(4096.0),
            read_bytes: Some(100.0),
            written_bytes: Some(200.0),
        };
        assert_eq!(read(&mut counts), expected);
        std::fs::remove_dir_all(&group).unwrap();
        assert_eq!(read(&mut counts), Counted::default());
        let mut bytes = Bytes::default();
        let legacy = "8:0 Read 7\n8:0 Write 8\n8:0 Sync 9\nTotal 15\n";
        parse_block(legacy, BlockFormat::Legacy, |device, counts| bytes.take_in(device, counts));
        assert_eq!(bytes.totals, [7, 8]);
    }

    #[test]
    fn a_device_that_is_unplugged_takes_nothing_back() {
        let mut bytes = Bytes::default();
        let mut read = |text: &str| {
            parse_block(text, BlockFormat::Unified, |it, counts| bytes.take_in(it, counts));
            bytes.totals
        };
        assert_eq!(read("8:0 rbytes=5 wbytes=1\n8:16 rbytes=900 wbytes=0\n"), [905, 1]);
        assert_eq!(read("8:0 rbytes=6 wbytes=1\n"), [906, 1]);
        // Another is plugged in, and the group is made anew.
        assert_eq!(read("8:0 rbytes=6 wbytes=1\n8:16 rbytes=3 wbytes=2\n"), [909, 3]);
        assert_eq!(read("8:0 rbytes=2\n"), [911, 3]);
        assert_eq!(read("8:0 rbytes=x wbytes=-1\n8:0\n"), [911, 3]);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_bounded_plain_name(path in "[a-z0-9./@: -]{0,300}|\\PC{0,60}|.{0,400}") {
            let text = format!("0::{path}\n1:name=systemd:{path}");
            let placement = parse(&text);
            if let Some(unit) = &placement.unit {
                prop_assert!(unit.len() <= NAME_BYTES_MAX);
                prop_assert!(!unit.chars().any(char::is_control));
            }
            if let Some(group) = placement.unified {
                prop_assert!(!group.split('/').any(|part| part == ".."));
            }
            prop_assert!(parse_processor(&path).is_none_or(|seconds| seconds >= 0.0));
            let mut bytes = Bytes::default();
            for format in [BlockFormat::Unified, BlockFormat::Legacy] {
                parse_block(&path, format, |device, counts| bytes.take_in(device, counts));
            }
        }
    }
}
