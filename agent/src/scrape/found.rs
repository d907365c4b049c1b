//! Which targets there are now: the settings, `prometheus.yml`, and the files both name, read again when
//! one of them has changed.
//!
//! A file that is no good changes nothing: what it said before stands, and the fault is told. Blocks; to be
//! called from a thread that may wait. Bounds: [`TARGETS_MAX`], [`FILES_MAX`].

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::job::{Group, Job};
use super::settings::Settings;
use super::target::{Target, targets_of};
use super::{schedule::TargetId, yaml};

/// Targets of one agent, at most.
pub const TARGETS_MAX: usize = 2_000;

/// Files that are looked at, at most.
const FILES_MAX: usize = 1_000;

/// Notes that are kept of one look.
const NOTES_MAX: usize = 50;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The targets by their numbers.
    pub targets: BTreeMap<TargetId, Arc<Target>>,
    /// What stands there and is not used, and what is wrong: one line each.
    pub notes: Vec<String>,
    /// Whether all that was named could be read.
    pub is_whole: bool,
}

/// Looks for targets.
#[derive(Debug)]
pub struct Finder {
    settings: Settings,
    /// The settings' own, as jobs.
    simple: Vec<Arc<Job>>,
    /// By file, what it last said that was good.
    jobs: HashMap<PathBuf, Vec<Arc<Job>>>,
    groups: HashMap<PathBuf, Vec<Group>>,
    /// The files as they were at the last look.
    stamp: Option<Vec<Stamp>>,
}

type Stamp = (PathBuf, Option<(SystemTime, u64)>);

impl Finder {
    /// A finder of what these settings say.
    ///
    /// # Errors
    /// As [`Settings::jobs`].
    pub fn new(settings: Settings) -> Result<Self, (String, String)> {
        let simple = settings.jobs()?.into_iter().map(Arc::new).collect();
        let (jobs, groups) = (HashMap::new(), HashMap::new());
        Ok(Self { settings, simple, jobs, groups, stamp: None })
    }

    /// What there is now; `None`: nothing has changed.
    pub fn look(&mut self) -> Option<Found> {
        let stamp = self.stamp();
        if self.stamp.as_ref() == Some(&stamp) {
            return None;
        }
        let mut found = Found { is_whole: true, ..Found::default() };
        let mut all: Vec<Arc<Job>> = self.simple.clone();
        for path in self.config_files() {
            match read_jobs(&path) {
                Ok(read) => {
                    found.notes.extend(read.left_out);
                    let jobs = read.jobs.into_iter().map(Arc::new).collect();
                    self.jobs.insert(path.clone(), jobs);
                }
                Err(wrong) => found.fault(wrong),
            }
            all.extend(self.jobs.get(&path).into_iter().flatten().cloned());
        }
        let mut seen: Vec<PathBuf> = Vec::new();
        for job in &all {
            let before = found.targets.len();
            for group in &job.groups {
                found.add(job, group, None);
            }
            for path in job.files.iter().flat_map(|pattern| matching(pattern)) {
                match read_groups(&path) {
                    Ok(groups) => drop(self.groups.insert(path.clone(), groups)),
                    Err(wrong) => found.fault(wrong),
                }
                let name = path.to_string_lossy().into_owned();
                for group in self.groups.get(&path).into_iter().flatten() {
                    found.add(job, group, Some(&name));
                }
                seen.push(path);
            }
            let of_job = found.targets.len() - before;
            if let Some(limit) = job.limits.targets
                && of_job > limit
            {
                let wrong = format!(
                    "job {:?} has {of_job} targets, over its limit of {limit}; none is scraped",
                    job.name
                );
                found.fault(wrong);
                found.targets.retain(|_, target| !Arc::ptr_eq(&target.job, job));
            }
        }
        self.groups.retain(|path, _| seen.contains(path));
        found.notes.truncate(NOTES_MAX);
        // Taken before the look: what changed meanwhile is seen at the next.
        self.stamp = Some(stamp);
        Some(found)
    }

    /// `prometheus.yml`, and the files that it names as last read.
    fn config_files(&self) -> Vec<PathBuf> {
        let Some(main) = &self.settings.prometheus_yml else { return Vec::new() };
        let mut files = vec![main.clone()];
        let more = read_jobs(main).map(|read| read.more).unwrap_or_default();
        files.extend(more.iter().flat_map(|pattern| matching(pattern)));
        files.truncate(FILES_MAX);
        files
    }

    /// All files and when they were written.
    fn stamp(&self) -> Vec<Stamp> {
        let mut files = self.config_files();
        let jobs = self.jobs.values().flatten();
        files.extend(jobs.flat_map(|job| &job.files).flat_map(|pattern| matching(pattern)));
        files.truncate(FILES_MAX);
        let written = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        files.into_iter().map(|path| (path.clone(), written(&path))).collect()
    }
}

impl Found {
    fn add(&mut self, job: &Arc<Job>, group: &Group, file: Option<&str>) {
        let (targets, wrong) = targets_of(job, group, file);
        wrong.into_iter().for_each(|wrong| self.fault(wrong));
        for target in targets {
            if self.targets.len() >= TARGETS_MAX && !self.targets.contains_key(&target.id) {
                return self.fault(format!(
                    "over {TARGETS_MAX} targets; {} is not scraped",
                    target.labels
                ));
            }
            self.targets.insert(target.id, Arc::new(target));
        }
    }

    fn fault(&mut self, wrong: String) {
        self.is_whole = false;
        if self.notes.len() < NOTES_MAX {
            self.notes.push(wrong);
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let told = |wrong: &dyn std::fmt::Display| format!("read {}: {wrong}", path.display());
    let size = fs::metadata(path).map_err(|error| told(&error))?.len();
    if size > yaml::FILE_BYTES_MAX {
        return Err(told(&format!("it is over {} bytes", yaml::FILE_BYTES_MAX)));
    }
    fs::read_to_string(path).map_err(|error| told(&error))
}

fn read_jobs(path: &Path) -> Result<yaml::Read, String> {
    yaml::parse(path, &read(path)?).map_err(|error| error.to_string())
}

fn read_groups(path: &Path) -> Result<Vec<Group>, String> {
    yaml::groups(&read(path)?).map_err(|wrong| format!("{}: {wrong}", path.display()))
}

/// The files of a pattern, in order of their names; only the last part may have `*` in it.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let Some(name) = pattern.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    if !name.contains('*') {
        return vec![pattern.to_owned()];
    }
    let dir = pattern.parent().unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .take(10 * FILES_MAX)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().and_then(|it| it.to_str()).is_some_and(|it| is_like(it, name))
        })
        .collect();
    files.sort();
    files.truncate(FILES_MAX);
    files
}

/// Whether a name is like a pattern with `*` in it.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_for_the_last_part() {
        for (name, pattern, expected) in [
            ("a.yml", "*.yml", true),
            ("a.json", "*.yml", false),
            ("node-1.yml", "node-*.yml", true),
            ("a-b-c", "a*b*c", true),
            ("a-c", "a*b*c", false),
            ("ab", "ab*b", false),
        ] {
            assert_eq!(is_like(name, pattern), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn files_are_followed_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (yml, sd) = (dir.path().join("prometheus.yml"), dir.path().join("sd.json"));
        let jobs = "scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['a:1']}]\n  \
                    file_sd_configs: [{files: ['*.json']}]\n- job_name: b\n  target_limit: 1\n  \
                    static_configs: [{targets: ['b:1', 'b:2']}]\nrule_files: [x]\n";
        fs::write(&yml, jobs).unwrap();
        fs::write(&sd, r#"[{"targets": ["c:1"], "labels": {"x": "y"}}]"#).unwrap();
        let settings = Settings { prometheus_yml: Some(yml.clone()), ..Settings::default() };
        let mut finder = Finder::new(settings).unwrap();
        let addresses = |found: &Found| {
            let mut all: Vec<String> = found
                .targets
                .values()
                .map(|it| it.labels.get("instance").unwrap_or_default().to_owned())
                .collect();
            all.sort();
            all.join(" ")
        };
        let found = finder.look().unwrap();
        assert_eq!((addresses(&found).as_str(), found.is_whole), ("a:1 c:1", false));
        assert!(found.notes[0].contains("rule_files is the collector's"), "{:?}", found.notes);
        assert!(found.notes[1].contains("has 2 targets, over its limit of 1"), "{:?}", found.notes);
        // The files that the jobs name are known now.
        while finder.look().is_some() {}
        fs::write(&sd, r#"[{"targets": ["c:1", "d:1"]}]"#).unwrap();
        assert_eq!(addresses(&finder.look().unwrap()), "a:1 c:1 d:1");
        fs::write(&sd, "[{").unwrap();
        let broken = finder.look().unwrap();
        assert_eq!((addresses(&broken).as_str(), broken.is_whole), ("a:1 c:1 d:1", false));
        fs::write(&yml, format!("{jobs}nonsense: [")).unwrap();
        assert_eq!(addresses(&finder.look().unwrap()), "a:1 c:1 d:1");
        fs::remove_file(&sd).unwrap();
        assert_eq!(addresses(&finder.look().unwrap()), "a:1");
    }
}
