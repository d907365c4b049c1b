//! What is read of a process beyond its `stat`: `io`, `status`, `limits`, `fd`, `cmdline`, its owner.
//!
//! Each costs as much as the `stat` itself or more, so the table does not hold them: who needs one
//! asks for it. `io` and, before Linux 6.2, `fd` are shown only to the same user or with
//! `CAP_SYS_PTRACE`.

use std::mem::MaybeUninit;

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::scan::{PathOf, read_of};

/// The most of a file that is read; a longer command line is cut.
pub(super) const BYTES_MAX: usize = 4096;
/// The most descriptors counted one by one.
const DESCRIPTORS_MAX: u64 = 100_000;

/// Looks at processes closely.
#[derive(Debug)]
pub(super) struct Details {
    buffer: Box<[u8]>,
}

/// Bytes that had to be fetched from and written to storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Io {
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
}

/// What is taken from `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) swapped_bytes: u64,
    pub(super) voluntary_switches: u64,
    pub(super) involuntary_switches: u64,
}

impl Details {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BYTES_MAX].into() }
    }

    /// The user it acts as.
    pub(super) fn user(root: BorrowedFd<'_>, pid: u32) -> Result<u32, Errno> {
        let path = PathOf::new(pid, "");
        Ok(rustix::fs::statat(root, path.as_str(), AtFlags::empty())?.st_uid)
    }

    pub(super) fn io(&mut self, root: BorrowedFd<'_>, pid: u32) -> Result<Io, Errno> {
        Ok(parse_io(self.read(root, pid, "io")?))
    }

    pub(super) fn status(&mut self, root: BorrowedFd<'_>, pid: u32) -> Result<Status, Errno> {
        Ok(parse_status(self.read(root, pid, "status")?))
    }

    /// How many files it may have open; `None`: as many as it likes.
    pub(super) fn files_max(
        &mut self,
        root: BorrowedFd<'_>,
        pid: u32,
    ) -> Result<Option<u64>, Errno> {
        Ok(parse_files_max(self.read(root, pid, "limits")?))
    }

    /// How many files it has open.
    pub(super) fn open_files(&mut self, root: BorrowedFd<'_>, pid: u32) -> Result<u64, Errno> {
        let path = PathOf::new(pid, "fd");
        let size = rustix::fs::statat(root, path.as_str(), AtFlags::empty())?.st_size;
        match u64::try_from(size) {
            // Since Linux 6.2 the directory's size says it.
            Ok(size) if size > 0 => Ok(size),
            _ => count_entries(root, &path),
        }
    }

    /// Its arguments with a zero after each; empty for a thread of the kernel.
    pub(super) fn arguments(&mut self, root: BorrowedFd<'_>, pid: u32) -> Result<&[u8], Errno> {
        self.read(root, pid, "cmdline")
    }

    /// The control groups it is in.
    pub(super) fn control_groups(
        &mut self,
        root: BorrowedFd<'_>,
        pid: u32,
    ) -> Result<&[u8], Errno> {
        self.read(root, pid, "cgroup")
    }

    fn read(&mut self, root: BorrowedFd<'_>, pid: u32, name: &str) -> Result<&[u8], Errno> {
        let length = read_of(root, pid, name, &mut self.buffer)?;
        Ok(self.buffer.get(..length).unwrap_or_default())
    }
}

fn count_entries(root: BorrowedFd<'_>, path: &PathOf) -> Result<u64, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(root, path.as_str(), flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); BYTES_MAX];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut count = 0;
    while let Some(entry) = entries.next() {
        if entry?.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit) {
            count += 1;
            if count >= DESCRIPTORS_MAX {
                break;
            }
        }
    }
    Ok(count)
}

/// The lines of a file of the form `key: value`.
fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|b| *b == b'\n').filter_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let (key, value) = line.split_at_checked(colon)?;
        Some((key, value.get(1..)?.trim_ascii()))
    })
}

fn whole(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

pub(super) fn parse_io(text: &[u8]) -> Io {
    let mut io = Io::default();
    for (key, value) in lines(text) {
        match key {
            b"read_bytes" => io.read_bytes = whole(value).unwrap_or(0),
            b"write_bytes" => io.written_bytes = whole(value).unwrap_or(0),
            _ => {}
        }
    }
    io
}

pub(super) fn parse_status(text: &[u8]) -> Status {
    let mut status = Status::default();
    // The first line holds the name, which may look like any other; the kernel escapes newlines in it.
    for (key, value) in lines(text).skip(1) {
        match key {
            b"VmSwap" => {
                let kibibytes = value.strip_suffix(b" kB").and_then(whole).unwrap_or(0);
                status.swapped_bytes = kibibytes.saturating_mul(1024);
            }
            b"voluntary_ctxt_switches" => status.voluntary_switches = whole(value).unwrap_or(0),
            b"nonvoluntary_ctxt_switches" => {
                status.involuntary_switches = whole(value).unwrap_or(0);
            }
            _ => {}
        }
    }
    status
}

/// The soft limit.
pub(super) fn parse_files_max(text: &[u8]) -> Option<u64> {
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"Max open files"))?;
    whole(line.trim_ascii().split(|b| *b == b' ').next()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lines_that_are_needed_are_found() {
        let io = b"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 8192\n\
            cancelled_write_bytes: 1\n";
        assert_eq!(parse_io(io), Io { read_bytes: 4096, written_bytes: 8192 });
        let status = b"Name:\tVmSwap: 7 kB\nVmRSS:\t 100 kB\nVmSwap:\t      12 kB\n\
            voluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        let expected =
            Status { swapped_bytes: 12288, voluntary_switches: 150, involuntary_switches: 545 };
        assert_eq!(parse_status(status), expected);
        let limits = b"Limit                     Soft Limit           Hard Limit           Units\n\
            Max processes             unlimited            1                    processes\n\
            Max open files            1024                 524288               files\n";
        assert_eq!(parse_files_max(limits), Some(1024));
        assert_eq!(parse_files_max(b"Max open files   unlimited   unlimited   files"), None);
    }

    #[test]
    fn this_process_is_looked_at() {
        let root = std::fs::File::open("/proc").unwrap();
        let root = std::os::fd::AsFd::as_fd(&root);
        let pid = std::process::id();
        let mut details = Details::new();
        assert_eq!(Details::user(root, pid).unwrap(), rustix::process::geteuid().as_raw());
        assert!(details.open_files(root, pid).unwrap() >= 3);
        assert!(count_entries(root, &PathOf::new(pid, "fd")).unwrap() >= 3);
        assert!(!details.arguments(root, pid).unwrap().is_empty());
        details.status(root, pid).unwrap();
        details.io(root, pid).unwrap();
        details.files_max(root, pid).unwrap();
        assert_eq!(details.io(root, u32::MAX).unwrap_err(), Errno::NOENT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse_io(&bytes);
            parse_status(&bytes);
            parse_files_max(&bytes);
        }
    }
}
