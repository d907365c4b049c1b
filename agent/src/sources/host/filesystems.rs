//! Mounted file systems: size, free space, inodes, and whether they answer at all.
//!
//! A dead network mount blocks whoever asks it, for ever. So each is asked on a thread that can be
//! left behind ([`Lanes`]): a reading waits for it a moment only (`mount_patience`), shows the last
//! answer meanwhile, and after `mount_timeout` tells `node_filesystem_device_error` 1 until an answer
//! comes. A mount is not asked again before it has answered.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::StatFs;
use rustix::io::Errno;
use serde::Deserialize;
use stoa_daemon::Span;
use stoa_model::Labels;

use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{Desc, Kept, KeptFile, Lanes, Now, Problem, Reading, Roots, SLOW, Source};

pub(crate) mod mounts;

use mounts::Mount;

/// Mounts that may be stuck at a time; with more, healthy ones may go unasked, which is told.
const THREADS_MAX: usize = 8;
/// How long file systems are asked one after another: hundreds that answer slowly take their time.
const ROUND: Duration = Duration::from_secs(8);
/// By then a reading has ended, whatever does not answer.
const DEADLINE: Duration = Duration::from_secs(15);

/// What is told even of a file system that does not answer.
const ALWAYS: [Desc; 2] = [
    Desc::gauge(
        "node_filesystem_device_error",
        "Whether an error occurred while getting statistics for the given device.",
    ),
    Desc::gauge("node_filesystem_readonly", "Filesystem read-only status."),
];
const SIZES: [Desc; 5] = [
    Desc::gauge("node_filesystem_size_bytes", "Filesystem size in bytes."),
    Desc::gauge("node_filesystem_free_bytes", "Filesystem free space in bytes."),
    Desc::gauge(
        "node_filesystem_avail_bytes",
        "Filesystem space available to non-root users in bytes.",
    ),
    Desc::gauge("node_filesystem_files", "Filesystem total file nodes."),
    Desc::gauge("node_filesystem_files_free", "Filesystem total free file nodes."),
];
const MOUNT_INFO: Desc = Desc::gauge("node_filesystem_mount_info", "Filesystem mount information.");

/// The values of [`SIZES`], or why there are none, in words.
type Answer = Result<[f64; SIZES.len()], String>;

const MOUNT_POINTS_EXCLUDED: &str =
    "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)";
const FS_TYPES_EXCLUDED: &str = "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts\
    |devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs\
    |securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$";

/// `[sources.filesystem]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which mount points to tell.
    mount_points_include: Pattern,
    /// Which mount points not to tell.
    mount_points_exclude: Pattern,
    /// Which types of file systems to tell.
    fs_types_include: Pattern,
    /// Which types of file systems not to tell.
    fs_types_exclude: Pattern,
    /// How long a reading waits for one mount to answer; an answer that comes later counts for the
    /// next reading.
    mount_patience: Span,
    /// How long a mount may leave a question unanswered before it is told as failed.
    mount_timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mount_points_include: Pattern::default(),
            mount_points_exclude: Pattern::fixed(MOUNT_POINTS_EXCLUDED),
            fs_types_include: Pattern::default(),
            fs_types_exclude: Pattern::fixed(FS_TYPES_EXCLUDED),
            mount_patience: Span(Duration::from_millis(20)),
            mount_timeout: Span(Duration::from_secs(5)),
        }
    }
}

/// The source `filesystem`.
#[derive(Debug)]
pub(crate) struct Filesystems {
    of_init: KeptFile,
    of_self: KeptFile,
    mount_points: Filter,
    fs_types: Filter,
    patience: Duration,
    timeout: Duration,
    lanes: Lanes<PathBuf, Result<StatFs, Errno>>,
    next_key: usize,
    /// By mount point: the questions not yet answered.
    asked: HashMap<String, Question>,
    /// By mount point: the last answer.
    answers: HashMap<String, Answer>,
    labels: Kept<Labels>,
}

#[derive(Debug)]
struct Question {
    key: usize,
    since: Now,
}

impl Configured for Filesystems {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self::asking(settings, |path| rustix::fs::statfs(&path))
    }
}

impl Filesystems {
    fn asking(settings: Settings, ask: fn(PathBuf) -> Result<StatFs, Errno>) -> Self {
        Self {
            of_init: KeptFile::proc("1/mountinfo"),
            of_self: KeptFile::proc("self/mountinfo"),
            mount_points: Filter::new(settings.mount_points_include, settings.mount_points_exclude),
            fs_types: Filter::new(settings.fs_types_include, settings.fs_types_exclude),
            patience: settings.mount_patience.0,
            timeout: settings.mount_timeout.0,
            lanes: Lanes::new("stoa-mount", THREADS_MAX, ask),
            next_key: 0,
            asked: HashMap::new(),
            answers: HashMap::new(),
            labels: Kept::new(),
        }
    }

    fn mounts(&mut self, roots: &Roots) -> Result<Vec<Mount>, Problem> {
        let text = match self.of_init.read(roots) {
            Ok(text) => text,
            // Hidden from us (hidepid): our own view is the next best.
            Err(_) => self.of_self.read(roots)?,
        };
        let mut mounts: Vec<Mount> = mounts::parse(text)
            .map(|mount| mount.without_prefix(&roots.rootfs))
            .filter(|mount| self.mount_points.keeps(&mount.mount_point))
            .filter(|mount| self.fs_types.keeps(&mount.fs_type))
            .collect();
        let mut seen = BTreeSet::new();
        mounts.retain(|mount| seen.insert(mount.identity()));
        Ok(mounts)
    }

    /// Asks every mount that owes no answer, and takes in the answers there are.
    fn ask(&mut self, mounts: &[Mount], roots: &Roots, now: Now, reading: &mut Reading) {
        let mut jobs = Vec::new();
        for Mount { mount_point, .. } in mounts {
            if !self.asked.contains_key(mount_point) {
                let key = self.next_key;
                self.next_key = key.wrapping_add(1);
                self.asked.insert(mount_point.clone(), Question { key, since: now });
                jobs.push((key, roots.on_host(mount_point)));
            }
        }
        let round = self.lanes.run(jobs, self.patience, ROUND);
        let mut done: HashMap<usize, Answer> =
            round.done.into_iter().map(|(key, result)| (key, answer(result))).collect();
        let mut undone: HashMap<usize, PathBuf> = round.undone.into_iter().collect();
        self.asked.retain(|mount_point, Question { key, .. }| {
            if let Some(answer) = done.remove(key) {
                self.answers.insert(mount_point.clone(), answer);
                false
            } else if let Some(path) = undone.remove(key) {
                self.answers.remove(mount_point);
                reading.note(Problem::NoThread { path });
                false
            } else {
                true
            }
        });
        let there: HashSet<&str> = mounts.iter().map(|mount| mount.mount_point.as_str()).collect();
        self.answers.retain(|kept, _| there.contains(kept.as_str()));
    }

    /// What to tell of a mount; `None`: nothing yet.
    fn answer(&self, mount_point: &str, now: Now) -> Option<Answer> {
        match self.asked.get(mount_point) {
            Some(question) if now.is_past(question.since, self.timeout) => {
                Some(Err("mountpoint timeout".to_owned()))
            }
            _ => self.answers.get(mount_point).cloned(),
        }
    }
}

fn answer(result: Result<StatFs, Errno>) -> Answer {
    let stat = result.map_err(error_text)?;
    let block_bytes = stat.f_bsize as f64;
    Ok([
        stat.f_blocks as f64 * block_bytes,
        stat.f_bfree as f64 * block_bytes,
        stat.f_bavail as f64 * block_bytes,
        stat.f_files as f64,
        stat.f_ffree as f64,
    ])
}

/// As Go says it: lower case, without the number.
fn error_text(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

impl Source for Filesystems {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn interval(&self) -> Option<Duration> {
        Some(SLOW)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let mounts = match self.mounts(roots) {
            Ok(mounts) => mounts,
            Err(problem) => return reading.fail(problem),
        };
        self.ask(&mounts, roots, now, reading);
        let descs = ALWAYS.iter().chain(&SIZES).chain([&MOUNT_INFO]);
        let [errors, readonly, sizes @ .., info] = reading.group(descs) else { return };
        for mount in &mounts {
            let Some(answer) = self.answer(&mount.mount_point, now) else { continue };
            let error = answer.as_ref().err().map_or("", String::as_str);
            let labels =
                self.labels.get(&format!("{} {error}", mount.identity()), |_| mount.labels(error));
            errors.push(labels.clone(), f64::from(u8::from(answer.is_err())));
            readonly.push(labels.clone(), f64::from(u8::from(mount.is_readonly)));
            let Ok(values) = answer else { continue };
            for (family, value) in sizes.iter_mut().zip(values) {
                family.push(labels.clone(), value);
            }
            let labels =
                self.labels.get(&format!("info {}", mount.identity()), |_| mount.info_labels());
            info.push(labels, 1.0);
        }
        self.labels.end_round();
    }
}

#[cfg(test)]
mod tests;
