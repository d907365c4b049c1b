//! `/proc/sys`: kernel settings the user names. Off by default.
//!
//! A key is written as node_exporter's flags have it: `vm.swappiness`, or `fs.file-nr:total,current,max`
//! to give the numbers of a setting of several their names; without names they have an index.

use std::time::Duration;

use serde::Deserialize;
use stoa_model::{Family, Labels, MetricKind};

use crate::sources::registry::{Configured, Shared};
use crate::sources::{
    Kept, Now, Problem, Reading, Roots, Source, Tree, no_labels, number, read_small,
};

const INTERVAL: Duration = Duration::from_secs(10);
const INFO_NAME: &str = "node_sysctl_info";
/// Values of one setting that are told.
const VALUES_MAX: usize = 256;

/// `[sources.sysctl]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Settings that are numbers.
    include: Vec<String>,
    /// Settings that are texts.
    include_info: Vec<String>,
}

/// A setting that is told.
#[derive(Debug, PartialEq)]
struct Key {
    /// `kernel.threads-max`
    name: String,
    /// Below `/proc`.
    path: String,
    /// `kernel_threads_max`
    family: String,
    /// The names of its numbers, if they have any.
    fields: Vec<String>,
}

impl Key {
    /// A key that would leave `/proc/sys` is none.
    fn parse(text: &str) -> Option<Self> {
        let (name, fields) = text.split_once(':').unwrap_or((text, ""));
        // As sysctl(8): what is separated by slashes may have dots in its names.
        let has_slashes = name.contains('/');
        let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
        let separator = if has_slashes { '/' } else { '.' };
        if !name.split(separator).all(is_part) || (!has_slashes && name.contains('/')) {
            return None;
        }
        let path = if has_slashes { name.to_owned() } else { name.replace('.', "/") };
        let is_word = |c: char| c.is_ascii_alphanumeric();
        let family = name.chars().map(|c| if is_word(c) { c } else { '_' }).collect();
        let fields = fields.split(',').filter(|field| !field.is_empty()).map(str::to_owned);
        let fields = fields.collect();
        Some(Self { name: name.to_owned(), path: format!("sys/{path}"), family, fields })
    }
}

/// The words of a setting.
pub(super) fn parse(text: &str) -> Vec<&str> {
    text.split_ascii_whitespace().take(VALUES_MAX).collect()
}

/// The source `sysctl`.
#[derive(Debug)]
pub(crate) struct Sysctl {
    numbers: Vec<Key>,
    texts: Vec<Key>,
    labels: Kept<Labels>,
}

impl Configured for Sysctl {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        let keys = |texts: &[String]| texts.iter().filter_map(|text| Key::parse(text)).collect();
        Self {
            numbers: keys(&settings.include),
            texts: keys(&settings.include_info),
            labels: Kept::new(),
        }
    }
}

impl Sysctl {
    fn tell_numbers(&mut self, key: usize, words: &[&str], families: &mut Vec<Family>) -> bool {
        let Some(key) = self.numbers.get(key) else { return true };
        let Some(values) = words.iter().map(|word| number(word)).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let family = |suffix: &str, help: String| {
            Family::new(format!("node_sysctl_{}{suffix}", key.family), help, MetricKind::Untyped)
        };
        if !key.fields.is_empty() {
            if key.fields.len() != values.len() {
                return false;
            }
            for (index, (field, value)) in key.fields.iter().zip(values).enumerate() {
                let help = format!("sysctl {}, field {index}", key.name);
                let mut family = family(&format!("_{field}"), help);
                family.push(no_labels(), value);
                families.push(family);
            }
            return true;
        }
        let mut family = family("", format!("sysctl {}", key.name));
        let has_index = values.len() > 1;
        for (index, value) in values.into_iter().enumerate() {
            let labels = if has_index { self.index(index) } else { no_labels() };
            family.push(labels, value);
        }
        families.push(family);
        true
    }

    fn index(&mut self, index: usize) -> Labels {
        let index = index.to_string();
        self.labels.get(&index, |index| crate::sources::label("index", index))
    }
}

impl Source for Sysctl {
    fn name(&self) -> &'static str {
        "sysctl"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn read(&mut self, roots: &Roots, _now: Now, reading: &mut Reading) {
        let mut families = Vec::new();
        for index in 0..self.numbers.len() {
            let Some(key) = self.numbers.get(index) else { continue };
            let path = roots.path(Tree::Proc, &key.path);
            match read_small(&path) {
                Ok(text) => {
                    if !self.tell_numbers(index, &parse(&text), &mut families) {
                        reading.note(Problem::parse(path, "not the numbers that were asked for"));
                    }
                }
                Err(error) => reading.note(Problem::read(path, error)),
            }
        }
        let mut info = Family::new(INFO_NAME, "sysctl info", MetricKind::Gauge);
        for key in &self.texts {
            let path = roots.path(Tree::Proc, &key.path);
            let text = match read_small(&path) {
                Ok(text) => text,
                Err(error) => {
                    reading.note(Problem::read(path, error));
                    continue;
                }
            };
            let words = parse(&text);
            for (index, word) in words.iter().enumerate() {
                let index = if words.len() > 1 { index.to_string() } else { String::new() };
                let labels = Labels::from_pairs_last_wins([
                    ("name", key.name.as_str()),
                    ("value", word),
                    ("index", &index),
                ]);
                let kept = self.labels.get(&labels.to_string(), |_| labels.clone());
                info.push(kept, 1.0);
            }
        }
        self.labels.end_round();
        families.push(info);
        for family in families {
            reading.family(family);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, path: &str, family: &str, fields: &[&str]) {
        let key = Key::parse(text).unwrap();
        assert_eq!((key.path.as_str(), key.family.as_str()), (path, family));
        assert_eq!(key.fields, fields);
    }

    #[test]
    fn keys_are_written_with_dots_or_slashes_and_stay_below_sys() {
        check("kernel.threads-max", "sys/kernel/threads-max", "kernel_threads_max", &[]);
        check("fs.file-nr:a,b", "sys/fs/file-nr", "fs_file_nr", &["a", "b"]);
        let path = "sys/net/ipv4/conf/eth0.1/mtu";
        check("net/ipv4/conf/eth0.1/mtu", path, "net_ipv4_conf_eth0_1_mtu", &[]);
        for wrong in ["", "..", "kernel..x", "/etc/passwd", "a/../../x", "net.ipv4/x/../y"] {
            assert_eq!(Key::parse(wrong), None, "{wrong}");
        }
    }
}
