//! `/var/lib/dpkg/status`: which packages are installed.
//!
//! A file of stanzas (deb822): `Name: value` lines, further lines of a value begin with white space,
//! an empty line ends a stanza. It is read as a stream, line by line: 2 MiB on a small host, 10 MiB
//! where much is installed, of which four fields are kept. Bounded by [`PACKAGES_MAX`],
//! [`LINE_BYTES_MAX`] and [`FILE_BYTES_MAX`]; what lies beyond is left out.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

/// Where the file is on a host.
pub(crate) const STATUS_PATH: &str = "/var/lib/dpkg/status";

/// Packages kept at most; all of a distribution's desktops and servers are some 10,000.
const PACKAGES_MAX: usize = 20_000;
/// Bytes of a line looked at; the fields kept are far shorter.
const LINE_BYTES_MAX: u64 = 1024;
/// Bytes of the file read at most.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// Without the architecture.
    pub(crate) name: String,
    /// As dpkg writes it, with epoch and revision.
    pub(crate) version: String,
    /// `amd64`, `all` and so on.
    pub(crate) architecture: String,
    /// Whether a person has put it on hold.
    pub(crate) is_held: bool,
}

/// The installed packages whose names `wanted` says yes to, in the order of the file.
///
/// # Errors
/// When the file cannot be read; not found where there is no dpkg.
pub(crate) fn packages(
    status: &Path,
    wanted: impl FnMut(&str) -> bool,
) -> io::Result<Vec<Package>> {
    let file = File::open(status)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    parse(BufReader::new(file.take(FILE_BYTES_MAX)), wanted)
}

/// The names of the packages that a person has put on hold.
///
/// # Errors
/// As [`packages`].
pub(super) fn held(status: &Path) -> io::Result<BTreeSet<String>> {
    // All are looked at, few are kept: a whole list would be some MiB for nothing.
    let file = File::open(status)?;
    let mut held = BTreeSet::new();
    scan(BufReader::new(file.take(FILE_BYTES_MAX)), |package| {
        if package.is_held {
            held.insert(package.name);
        }
        held.len() < PACKAGES_MAX
    })?;
    Ok(held)
}

/// Reads any bytes as dpkg's list: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tell_any(bytes: &[u8], _: crate::sources::Now, _: &mut crate::sources::Reading) {
    // Bytes in memory can be read.
    let packages = parse(bytes, |_| true).unwrap_or_default();
    let newest = packages.iter().max_by(|a, b| super::version::compare(&a.version, &b.version));
    assert_eq!(newest.is_none(), packages.is_empty());
    for package in packages {
        let texts = [&package.name, &package.version, &package.architecture];
        // A line, of which each byte may become a sign of three.
        assert!(texts.into_iter().all(|text| text.len() <= 3 * 1024), "{package:?}");
    }
}

/// A stanza as far as it has been read.
#[derive(Debug, Default)]
struct Stanza {
    package: Package,
    is_installed: bool,
}

/// Like [`packages`], from any reader.
pub(crate) fn parse(
    reader: impl BufRead,
    mut wanted: impl FnMut(&str) -> bool,
) -> io::Result<Vec<Package>> {
    let mut packages = Vec::new();
    scan(reader, |package| {
        if wanted(&package.name) {
            packages.push(package);
        }
        packages.len() < PACKAGES_MAX
    })?;
    Ok(packages)
}

/// Hands over each installed package until there are no more or one is answered with `false`.
fn scan(mut reader: impl BufRead, mut each: impl FnMut(Package) -> bool) -> io::Result<()> {
    let mut stanza = Stanza::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        let is_end = read == 0;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if !is_end {
            skip_line(&mut reader)?;
        }
        if is_end || line.trim_ascii().is_empty() {
            let Stanza { package, is_installed } = std::mem::take(&mut stanza);
            let is_whole = !package.name.is_empty() && !package.version.is_empty();
            if is_installed && is_whole && !each(package) || is_end {
                return Ok(());
            }
        } else {
            stanza.take(&line);
        }
    }
}

impl Stanza {
    fn take(&mut self, line: &[u8]) {
        // The value is made a text only for the fields that are kept.
        let value = |name: &[u8]| {
            let value = line.strip_prefix(name)?.strip_prefix(b":")?;
            Some(String::from_utf8_lossy(value.trim_ascii()).into_owned())
        };
        match line.first() {
            Some(b'P') => {
                if let Some(name) = value(b"Package") {
                    self.package.name = name;
                }
            }
            Some(b'V') => {
                if let Some(version) = value(b"Version") {
                    self.package.version = version;
                }
            }
            Some(b'A') => {
                if let Some(architecture) = value(b"Architecture") {
                    self.package.architecture = architecture;
                }
            }
            Some(b'S') => {
                if let Some(status) = value(b"Status") {
                    // What is wanted, whether it is broken, what it is.
                    let mut words = status.split_ascii_whitespace();
                    self.package.is_held = words.next() == Some("hold");
                    // Waiting for triggers is installed; half-configured is not.
                    let state = words.nth(1);
                    self.is_installed = matches!(
                        state,
                        Some("installed" | "triggers-pending" | "triggers-awaited")
                    );
                }
            }
            _ => {}
        }
    }
}

/// Passes over what is left of a line.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let (passed, is_end) = match buffer.iter().position(|b| *b == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(passed);
        if is_end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATUS: &str = "Package: bash
Essential: yes
Status: install ok installed
Architecture: amd64
Multi-Arch: foreign
Version: 5.2.15-2+b8
Description: GNU Bourne Again SHell
 Bash is an sh-compatible command language interpreter.
 .
 Package: not-one

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0

Package: pve-kernel
Status: hold ok installed
Version: 6.8.12-4
Architecture: amd64

Package: half
Status: install reinstreq half-installed
Version: 2

Package: man-db
Status: install ok triggers-pending
Architecture: amd64
Version: 2.11.2-2";

    fn package(name: &str, version: &str, is_held: bool) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            is_held,
        }
    }

    #[test]
    fn what_is_installed_is_told_with_its_hold() {
        let told = parse(STATUS.as_bytes(), |_| true).unwrap();
        let expected = [
            package("bash", "5.2.15-2+b8", false),
            package("pve-kernel", "6.8.12-4", true),
            package("man-db", "2.11.2-2", false),
        ];
        assert_eq!(told, expected);
        let told = parse(STATUS.as_bytes(), |name| name == "bash").unwrap();
        assert_eq!(told, expected[..1]);
    }

    #[test]
    fn a_long_line_costs_itself_only() {
        let text = format!(
            "Package: a\nDescription: {}\nStatus: install ok installed\nVersion: 1\n",
            "x".repeat(100_000)
        );
        assert_eq!(parse(text.as_bytes(), |_| true).unwrap().len(), 1);
    }

    #[test]
    fn there_is_a_most_to_packages() {
        let stanza = "Package: a\nStatus: install ok installed\nVersion: 1\n\n";
        let text = stanza.repeat(PACKAGES_MAX + 10);
        assert_eq!(parse(text.as_bytes(), |_| true).unwrap().len(), PACKAGES_MAX);
    }

    #[test]
    fn a_directory_or_nothing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(packages(dir.path(), |_| true).is_err());
        let absent = packages(&dir.path().join("status"), |_| true).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let told = parse(bytes.as_slice(), |_| true).unwrap();
            prop_assert!(told.iter().all(|p| !p.name.is_empty() && !p.version.is_empty()));
        }

        #[test]
        fn any_cut_of_a_good_file_is_read(cut in 0..STATUS.len()) {
            let told = parse(STATUS.as_bytes().get(..cut).unwrap(), |_| true).unwrap();
            prop_assert!(told.len() <= 3);
        }
    }
}
