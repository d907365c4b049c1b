//! Files of the kernel: small, made anew at each reading, best kept open.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{Problem, Roots, Tree, number};

/// The largest kernel file read; `/proc/stat` of a 512-core host is about 100 KiB.
const FILE_BYTES_MAX: usize = 8 << 20;
/// The most lines of one; each may become a series.
const LINES_MAX: usize = 131_072;
/// The first size of a buffer; most files fit.
const BUFFER_BYTES: usize = 4096;
/// An attribute under `/sys` is at most one page.
const ATTRIBUTE_BYTES_MAX: usize = 4096;
const TEXT_BYTES_MAX: u64 = 128 << 10;
/// A number, and more than that: the rest of the line is not looked at.
const NUMBER_BYTES_MAX: usize = 64;

/// A file that stays open and is read again from its start, which makes the kernel write it anew.
#[derive(Debug)]
pub(crate) struct KeptFile {
    tree: Tree,
    relative: &'static str,
    /// `None` until the first reading and after a failed one.
    open: Option<File>,
    buffer: Vec<u8>,
    /// Holds the text when the file was not UTF-8.
    lossy: String,
}

impl KeptFile {
    pub(crate) fn proc(relative: &'static str) -> Self {
        Self::new(Tree::Proc, relative)
    }

    pub(crate) fn new(tree: Tree, relative: &'static str) -> Self {
        Self { tree, relative, open: None, buffer: Vec::new(), lossy: String::new() }
    }

    /// Where the file is, to be named in a problem.
    pub(crate) fn path(&self, roots: &Roots) -> PathBuf {
        roots.path(self.tree, self.relative)
    }

    /// The file's text as of now. The text stays until the next reading.
    pub(crate) fn read(&mut self, roots: &Roots) -> Result<&str, Problem> {
        let length = match self.fill(roots) {
            Ok(length) => length,
            Err(source) => {
                // What was too large does not keep its room.
                *self = Self::new(self.tree, self.relative);
                return Err(Problem::read(self.path(roots), source));
            }
        };
        let bytes = self.buffer.get(..length).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => {
                self.lossy = String::from_utf8_lossy(bytes).into_owned();
                Ok(&self.lossy)
            }
        }
    }

    fn fill(&mut self, roots: &Roots) -> io::Result<usize> {
        let file = match self.open.take() {
            Some(file) => file,
            None => File::open(self.path(roots))?,
        };
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER_BYTES, 0);
        }
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                if length >= FILE_BYTES_MAX {
                    return Err(io::Error::new(ErrorKind::FileTooLarge, "over 8 MiB"));
                }
                self.buffer.resize(length * 2, 0);
            }
            let space = self.buffer.get_mut(length..).unwrap_or_default();
            match file.read_at(space, length as u64) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let lines = || self.buffer.iter().take(length).filter(|byte| **byte == b'\n').count();
        if length > LINES_MAX && lines() > LINES_MAX {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "over 131072 lines"));
        }
        self.open = Some(file);
        Ok(length)
    }
}

/// The text of a file of one line, such as an attribute under `/sys`, without the white space around
/// it. Reads once and no further: some drivers answer `EAGAIN` for ever.
pub(crate) fn read_small(path: &Path) -> io::Result<String> {
    let mut buffer = [0; ATTRIBUTE_BYTES_MAX];
    let length = File::open(path)?.read(&mut buffer)?;
    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    Ok(text.trim().to_owned())
}

/// What there is of a text file, up to 128 KiB: a marker is a word, an environment may be as long as
/// `execve` takes, but what a runtime sets stands first. Nothing where it may not be read.
pub(crate) fn read_bounded(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before a failure counts.
        drop(file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The number in a file of one line; `None` when it is none. Allocates nothing.
pub(crate) fn read_number(path: &Path) -> io::Result<Option<f64>> {
    let mut buffer = [0; NUMBER_BYTES_MAX];
    let length = File::open(path)?.read(&mut buffer)?;
    let text = std::str::from_utf8(buffer.get(..length).unwrap_or_default());
    Ok(text.ok().and_then(|text| number(text.trim())))
}

/// A name as it is, of which the kernel writes white space, backslashes and the like as three octal
/// digits.
pub(crate) fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(part.bytes().skip(3));
            }
            None => {
                bytes.push(b'\\');
                bytes.extend(part.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_is_read_anew_each_time_and_opened_again_after_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { procfs: dir.path().into(), ..Roots::default() };
        let mut file = KeptFile::proc("stat");
        assert!(file.read(&roots).unwrap_err().is_absence());
        std::fs::write(dir.path().join("stat"), "a".repeat(10_000)).unwrap();
        assert_eq!(file.read(&roots).unwrap().len(), 10_000);
        std::fs::write(dir.path().join("stat"), b"b\xff").unwrap();
        assert_eq!(file.read(&roots).unwrap(), "b\u{fffd}");
    }

    #[test]
    fn what_is_too_large_is_refused_and_keeps_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { procfs: dir.path().into(), ..Roots::default() };
        let mut file = KeptFile::proc("stat");
        for (text, is_read) in [
            ("a".repeat(FILE_BYTES_MAX - 1), true),
            ("a".repeat(FILE_BYTES_MAX), false),
            ("\n".repeat(LINES_MAX), true),
            ("\n".repeat(LINES_MAX + 1), false),
            ("a".repeat(FILE_BYTES_MAX * 2), false),
        ] {
            std::fs::write(dir.path().join("stat"), &text).unwrap();
            let read = file.read(&roots).map(str::len);
            assert_eq!(read.is_ok_and(|bytes| bytes == text.len()), is_read, "{}", text.len());
            assert_eq!(file.buffer.is_empty(), !is_read);
        }
    }

    #[test]
    fn what_the_kernel_escapes_is_read_as_it_was() {
        for (written, name) in [
            ("/mnt/a\\040b\\011\\012\\134", "/mnt/a b\t\n\\"),
            ("\\134040\\043", "\\040#"),
            ("a\\04", "a\\04"),
            ("a\\", "a\\"),
            ("\\999\\08\u{e9}", "\\999\\08\u{e9}"),
            ("\\303\\251\\377", "\u{e9}\u{fffd}"),
        ] {
            assert_eq!(unescaped(written), name, "{written}");
        }
    }

    #[test]
    fn a_small_file_is_read_without_its_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mtu");
        std::fs::write(&path, "1500\n").unwrap();
        assert_eq!(read_small(&path).unwrap(), "1500");
        assert_eq!(read_number(&path).unwrap(), Some(1500.0));
        std::fs::write(&path, "up\n").unwrap();
        assert_eq!(read_number(&path).unwrap(), None);
    }
}
