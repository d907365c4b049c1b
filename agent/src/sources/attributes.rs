//! Directories of devices under `/sys` and the small files in them, and the families they fill.
//!
//! An attribute that a device does not have, or cannot say now (it sleeps, it is gone, its driver
//! refuses), is no attribute: absent, never zero, and no problem worth telling.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use stoa_model::{Family, Labels, MetricKind};

use super::{Desc, Kept, Reading, number, read_small};

/// Devices looked at in one directory, unless a source says otherwise; the rest is left out.
pub(crate) const DEVICES_MAX: usize = 1024;

/// What is in `dir`, by name, at most `max` of it.
///
/// # Errors
/// When `dir` is not there or cannot be read.
pub(crate) fn entries(dir: &Path, max: usize) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries: Vec<(String, PathBuf)> = std::fs::read_dir(dir)?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    entries.sort_unstable();
    entries.truncate(max);
    Ok(entries)
}

/// The entries of `dir` that are called `prefix` and something more, with that more.
pub(crate) fn entries_with(dir: &Path, prefix: &str, max: usize) -> Vec<(String, PathBuf)> {
    let mut entries = entries(dir, usize::MAX).unwrap_or_default();
    entries.retain_mut(|(name, _)| {
        let rest = name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).map(str::to_owned);
        rest.map(|rest| *name = rest).is_some()
    });
    entries.truncate(max);
    entries
}

/// An attribute's text, `None` if the device does not say it; may be empty.
pub(crate) fn text(path: impl AsRef<Path>) -> Option<String> {
    read_small(path.as_ref()).ok()
}

/// An attribute's number.
pub(crate) fn value(path: impl AsRef<Path>) -> Option<f64> {
    number(&text(path)?)
}

/// The first `bytes_max` bytes of a file of more than one line, as text.
///
/// # Errors
/// When the file is not there or cannot be read.
pub(crate) fn read_whole(path: &Path, bytes_max: u64) -> io::Result<String> {
    Ok(match String::from_utf8(read_bytes(path, bytes_max)?) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// The first `bytes_max` bytes of a file.
///
/// # Errors
/// When the file is not there or cannot be read.
pub(crate) fn read_bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file with a number, and what the number is told as.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) file: &'static str,
    pub(crate) desc: Desc,
    pub(crate) unit: Unit,
}

impl Attribute {
    pub(crate) const fn gauge(file: &'static str, name: &'static str, help: &'static str) -> Self {
        Self { file, desc: Desc::gauge(name, help), unit: Unit::One }
    }

    pub(crate) const fn counter(
        file: &'static str,
        name: &'static str,
        help: &'static str,
    ) -> Self {
        Self { file, desc: Desc::counter(name, help), unit: Unit::One }
    }

    /// The same with its number in another unit.
    pub(crate) const fn in_unit(self, unit: Unit) -> Self {
        Self { file: self.file, desc: self.desc, unit }
    }
}

/// How the kernel's number becomes the told one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    One,
    Times(f64),
    Per(f64),
}

impl Unit {
    pub(crate) fn of(self, raw: f64) -> f64 {
        match self {
            Self::One => raw,
            Self::Times(factor) => raw * factor,
            Self::Per(divisor) => raw / divisor,
        }
    }
}

/// The families of one reading, each begun with its first number. Keeps them, their room and their label
/// sets from one reading to the next.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    pub(crate) labels: Kept<Labels>,
    families: BTreeMap<Cow<'static, str>, Family>,
    /// Room for a name that is made.
    name: String,
}

impl Sheet {
    /// Adds a number to a family that is known beforehand.
    pub(crate) fn push(&mut self, desc: &Desc, labels: Labels, value: f64) {
        let family = self.families.entry(Cow::Borrowed(desc.name)).or_insert_with(|| desc.family());
        family.push(labels, value);
    }

    /// Adds a number to a family that is named by what was read: its name is the parts one after the
    /// other, with `_` for what no name has. `make` tells help and kind.
    pub(crate) fn push_named(
        &mut self,
        parts: &[&str],
        make: impl FnOnce() -> (String, MetricKind),
        labels: Labels,
        value: f64,
    ) {
        self.name.clear();
        let chars = parts.iter().flat_map(|part| part.chars());
        self.name.extend(chars.map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
        if let Some(family) = self.families.get_mut(self.name.as_str()) {
            return family.push(labels, value);
        }
        let (help, kind) = make();
        let mut family = Family::new(self.name.as_str(), help, kind);
        family.push(labels, value);
        self.families.insert(Cow::Owned(self.name.clone()), family);
    }

    /// Adds the numbers of those `attributes` that the device in `dir` says.
    pub(crate) fn push_attributes(
        &mut self,
        attributes: &[Attribute],
        dir: &Path,
        labels: &Labels,
    ) {
        for attribute in attributes {
            if let Some(raw) = value(dir.join(attribute.file)) {
                self.push(&attribute.desc, labels.clone(), attribute.unit.of(raw));
            }
        }
    }

    /// Tells all families, and forgets those that had no numbers this time.
    pub(crate) fn tell(&mut self, reading: &mut Reading) {
        self.families.retain(|_, family| !family.metrics.is_empty());
        for family in self.families.values_mut() {
            reading.copy(family);
            family.metrics.clear();
        }
        self.labels.end_round();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_by_name_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["md1", "md0", "sda", "md"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let names = |entries: Vec<(String, PathBuf)>| -> Vec<String> {
            entries.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(entries(dir.path(), 3).unwrap()), ["md", "md0", "md1"]);
        assert_eq!(names(entries_with(dir.path(), "md", 9)), ["0", "1"]);
        assert!(entries(&dir.path().join("none"), 9).is_err());
    }

    #[test]
    fn what_a_device_does_not_say_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("size"), "8\n").unwrap();
        std::fs::write(dir.path().join("word"), "N/A\n").unwrap();
        // A directory stands for a file that answers with an error.
        std::fs::create_dir(dir.path().join("busy")).unwrap();
        const ATTRIBUTES: [Attribute; 4] = [
            Attribute::gauge("size", "x_size", "").in_unit(Unit::Times(512.0)),
            Attribute::gauge("word", "x_word", ""),
            Attribute::gauge("busy", "x_busy", ""),
            Attribute::gauge("none", "x_none", ""),
        ];
        let mut sheet = Sheet::default();
        sheet.push_attributes(&ATTRIBUTES, dir.path(), &Labels::empty());
        let mut reading = Reading::default();
        sheet.tell(&mut reading);
        let told: Vec<_> =
            reading.families().map(|f| (f.name.as_str(), f.metrics[0].value)).collect();
        assert_eq!(told, [("x_size", 4096.0)]);
    }

    #[test]
    fn a_long_file_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        std::fs::write(&path, b"ab\xffcd").unwrap();
        assert_eq!(read_whole(&path, 2).unwrap(), "ab");
        assert_eq!(read_whole(&path, 9).unwrap(), "ab\u{fffd}cd");
    }
}
