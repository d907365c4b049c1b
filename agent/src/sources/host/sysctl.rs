//! `/proc/sys`: kernel settings the user names. Off by default.
//!
//! A key is written as node_exporter's flags have it: `vm.swappiness`, or `fs.file-nr:total,current,max`
//! to give the numbers of a setting of several their names; without names they have an index.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use stoa_model::{Labels, MetricKind};

use crate::sources::registry::{Configured, Shared};
use crate::sources::{
    Desc, Kept, Now, Problem, Reading, Roots, Source, Tree, no_labels, number, read_small,
};

const INTERVAL: Duration = Duration::from_secs(10);
/// Values of one setting that are told.
const VALUES_MAX: usize = 256;

const INFO: Desc = Desc::gauge("node_sysctl_info", "sysctl info");

/// `[sources.sysctl]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Settings that are numbers.
    #[serde(deserialize_with = "keys")]
    include: Vec<Key>,
    /// Settings that are texts.
    #[serde(deserialize_with = "keys")]
    include_info: Vec<Key>,
}

/// A setting that is told.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    /// `kernel.threads-max`
    name: String,
    /// Below `/proc`.
    path: String,
    /// One, or one for each of its numbers that has a name.
    families: Vec<Named>,
    /// Whether its numbers have names.
    has_fields: bool,
}

/// A family of a setting.
#[derive(Clone, Debug, PartialEq)]
struct Named {
    /// `node_sysctl_kernel_threads_max`
    name: String,
    help: String,
}

/// Keys as they are written, of which no two come to the same family.
fn keys<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Key>, D::Error> {
    let mut names = HashSet::new();
    let mut keys = Vec::new();
    for (index, text) in Vec::<String>::deserialize(from)?.iter().enumerate() {
        let wrong = |what| serde::de::Error::custom(format!("key {}: {what}", index + 1));
        let key = Key::parse(text).ok_or_else(|| {
            wrong("expected a name below /proc/sys, such as kernel.threads-max or fs.file-nr:a,b,c")
        })?;
        if !key.families.iter().all(|family| names.insert(family.name.clone())) {
            return Err(wrong("another before it is told under the same name"));
        }
        keys.push(key);
    }
    Ok(keys)
}

impl Key {
    /// A key that would leave `/proc/sys` is none.
    fn parse(text: &str) -> Option<Self> {
        let (name, fields) = match text.split_once(':') {
            Some((name, fields)) => (name, fields.split(',').collect()),
            None => (text, Vec::new()),
        };
        // As sysctl(8): what is separated by slashes may have dots in its names.
        let separator = if name.contains('/') { '/' } else { '.' };
        let is_part = |part: &str| {
            !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control() || c == ' ')
        };
        let is_sign = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_field = |field: &&str| !field.is_empty() && field.chars().all(is_sign);
        if !name.split(separator).all(is_part) || !fields.iter().all(is_field) {
            return None;
        }
        let path = format!("sys/{}", name.replace(separator, "/"));
        let family: String = name.chars().map(|c| if is_sign(c) { c } else { '_' }).collect();
        let family = format!("node_sysctl_{family}");
        let has_fields = !fields.is_empty();
        let of_field = |(index, field): (usize, &&str)| Named {
            name: format!("{family}_{field}"),
            help: format!("sysctl {name}, field {index}"),
        };
        let mut families: Vec<Named> = fields.iter().enumerate().map(of_field).collect();
        if !has_fields {
            families.push(Named { name: family.clone(), help: format!("sysctl {name}") });
        }
        Some(Self { name: name.to_owned(), path, families, has_fields })
    }

    /// Whether the words are the numbers that were asked for.
    fn tell(&self, words: &[&str], labels: &mut Kept<Labels>, reading: &mut Reading) -> bool {
        let Some(values) = words.iter().map(|word| number(word)).collect::<Option<Vec<_>>>() else {
            return false;
        };
        if self.has_fields && self.families.len() != values.len() {
            return false;
        }
        // Each family has one number, or the only one has all.
        let each = if self.has_fields { 1 } else { VALUES_MAX };
        for (Named { name, help }, values) in self.families.iter().zip(values.chunks(each)) {
            let family = reading.named(name, help, MetricKind::Untyped);
            for (index, value) in values.iter().enumerate() {
                let labels = match values.len() {
                    1 => no_labels(),
                    _ => labels.of(&[("index", index.to_string())]),
                };
                family.push(labels, *value);
            }
        }
        true
    }
}

/// The words of a setting.
pub(super) fn parse(text: &str) -> Vec<&str> {
    text.split_ascii_whitespace().take(VALUES_MAX).collect()
}

/// The source `sysctl`.
#[derive(Debug)]
pub(crate) struct Sysctl {
    settings: Settings,
    labels: Kept<Labels>,
}

impl Configured for Sysctl {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self { settings, labels: Kept::new() }
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
        for key in &self.settings.include {
            let path = roots.path(Tree::Proc, &key.path);
            match read_small(&path) {
                Ok(text) if key.tell(&parse(&text), &mut self.labels, reading) => {}
                Ok(_) => {
                    reading.note(Problem::parse(path, "not the numbers that were asked for"));
                }
                Err(error) => reading.note_named(Problem::read(path, error)),
            }
        }
        let mut info = INFO.family();
        for key in &self.settings.include_info {
            let path = roots.path(Tree::Proc, &key.path);
            let text = match read_small(&path) {
                Ok(text) => text,
                Err(error) => {
                    reading.note_named(Problem::read(path, error));
                    continue;
                }
            };
            let words = parse(&text);
            for (index, word) in words.iter().enumerate() {
                let index = if words.len() > 1 { index.to_string() } else { String::new() };
                let pairs = [("name", key.name.as_str()), ("value", word), ("index", &index)];
                info.push(self.labels.of(&pairs), 1.0);
            }
        }
        self.labels.end_round();
        reading.family(info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::settings::Settings as All;

    #[track_caller]
    fn check(text: &str, path: &str, families: &[&str]) {
        let key = Key::parse(text).unwrap();
        let told: Vec<&str> = key.families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!((key.path.as_str(), told.as_slice()), (path, families));
    }

    #[test]
    fn keys_are_written_with_dots_or_slashes_and_stay_below_sys() {
        check("kernel.threads-max", "sys/kernel/threads-max", &["node_sysctl_kernel_threads_max"]);
        let families = ["node_sysctl_fs_file_nr_a", "node_sysctl_fs_file_nr_b"];
        check("fs.file-nr:a,b", "sys/fs/file-nr", &families);
        let path = "sys/net/ipv4/conf/eth0.1/mtu";
        check("net/ipv4/conf/eth0.1/mtu", path, &["node_sysctl_net_ipv4_conf_eth0_1_mtu"]);
    }

    #[track_caller]
    fn refused(include: &str, why: &str) {
        let text = format!("[sources.sysctl]\ninclude = {include}");
        let error = All::parse(&text).unwrap().of::<Settings>("sysctl").unwrap_err();
        assert_eq!(error.key, "sources.sysctl.include", "{include}");
        assert!(error.message.starts_with(why), "{include}: {error}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for wrong in [
            "",
            "..",
            "kernel..x",
            ".kernel",
            "kernel.",
            "/etc/passwd",
            "a/../../x",
            "a/./x",
            "a//x",
            "net.ipv4/x/../y",
            "a b",
            "a\\u0000b",
            "a.b:",
            "a.b:c,,d",
            "a.b:c-d",
        ] {
            refused(&format!("[\"vm.swappiness\", \"{wrong}\"]"), "key 2: expected a name below");
        }
        refused("['a.b', 'a/b']", "key 2: another before it");
        refused("['a.b:c,c']", "key 1: another before it");
        refused("['a.b.c', 'a.b:c']", "key 2: another before it");
    }
}
