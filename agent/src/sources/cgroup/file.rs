//! Files of a cgroup: a number, `max`, or lines of a key and its numbers.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::sources::number;

/// `io.stat` of a host with hundreds of devices and `cpuacct.usage_percpu_user` of one with hundreds
/// of CPUs stay below.
const FILE_BYTES_MAX: usize = 256 << 10;
const BUFFER_BYTES: usize = 4096;
/// v1 writes "no limit" as the largest multiple of a page; a limit above this is none.
pub(crate) const LIMIT_MAX: f64 = (1_u64 << 60) as f64;

/// A file that stays open and is read from its start each time.
#[derive(Debug)]
pub(crate) struct CgroupFile {
    path: PathBuf,
    open: Option<File>,
}

impl CgroupFile {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(name), open: None }
    }

    /// The text as of now; `None`: not there, not to be read, too large, not text.
    pub(crate) fn read<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Option<&'b str> {
        let file = match self.open.take() {
            Some(file) => file,
            None => File::open(&self.path).ok()?,
        };
        if buffer.is_empty() {
            buffer.resize(BUFFER_BYTES, 0);
        }
        let mut length = 0;
        loop {
            if length == buffer.len() {
                if length >= FILE_BYTES_MAX {
                    return None;
                }
                buffer.resize(length * 2, 0);
            }
            match file.read_at(buffer.get_mut(length..)?, length as u64) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        self.open = Some(file);
        std::str::from_utf8(buffer.get(..length)?).ok()
    }

    /// The one number in the file.
    pub(crate) fn number(&mut self, buffer: &mut Vec<u8>) -> Option<f64> {
        self.read(buffer).and_then(first_number)
    }
}

/// A limit set by a cgroup or any above it in sight.
#[derive(Debug)]
pub(crate) struct Limit {
    files: Vec<CgroupFile>,
}

impl Limit {
    pub(crate) fn new(chain: &[PathBuf], name: &str) -> Self {
        Self { files: chain.iter().map(|directory| CgroupFile::new(directory, name)).collect() }
    }

    /// The smallest there is; `None`: none.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> Option<f64> {
        self.least(buffer, limit)
    }

    /// The smallest of what `parse` makes of each file.
    pub(crate) fn least(
        &mut self,
        buffer: &mut Vec<u8>,
        parse: impl Fn(&str) -> Option<f64>,
    ) -> Option<f64> {
        let limits = self.files.iter_mut().filter_map(|file| file.read(buffer).and_then(&parse));
        limits.reduce(f64::min)
    }
}

/// A number, `max`, or v1's way to say that there is no limit.
pub(crate) fn limit(text: &str) -> Option<f64> {
    first_number(text).filter(|limit| (0.0..LIMIT_MAX).contains(limit))
}

/// A whole number not below zero at the text's start.
fn first_number(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next().and_then(whole)
}

/// A number of a counter or a size: finite, not below zero.
pub(crate) fn whole(word: &str) -> Option<f64> {
    number(word).filter(|number| number.is_finite() && *number >= 0.0)
}

/// The number of `key` in lines of `key number`.
pub(crate) fn field(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| whole(line.strip_prefix(key)?.strip_prefix(' ')?.trim()))
}

/// `cpu.max`: how many CPUs' time `quota period` allows.
pub(crate) fn quota(text: &str) -> Option<f64> {
    let mut words = text.split_ascii_whitespace();
    let (quota, period) = (whole(words.next()?)?, whole(words.next()?)?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// CPUs and nodes as the kernel lists them: `0-3,8`. At most 4096; `None` when it is not such a list.
pub(crate) fn list(text: &str) -> Option<Vec<u32>> {
    const CPUS_MAX: usize = 4096;
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        for cpu in first..=last {
            if all.len() >= CPUS_MAX {
                return None;
            }
            all.push(cpu);
        }
    }
    all.sort_unstable();
    all.dedup();
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_are_numbers_or_none() {
        for (text, expected) in [
            ("268435456\n", Some(268_435_456.0)),
            ("0\n", Some(0.0)),
            ("max\n", None),
            ("9223372036854771712\n", None),
            ("18446744073709551615\n", None),
            ("-1\n", None),
            ("1e400\n", None),
            ("", None),
        ] {
            assert_eq!(limit(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_smallest_limit_above_holds() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        let chain = [inner.clone(), dir.path().join("a"), dir.path().into()];
        let mut limit = Limit::new(&chain, "memory.max");
        let mut buffer = Vec::new();
        assert_eq!(limit.read(&mut buffer), None);
        std::fs::write(inner.join("memory.max"), "max\n").unwrap();
        std::fs::write(dir.path().join("a/memory.max"), "100\n").unwrap();
        assert_eq!(limit.read(&mut buffer), Some(100.0));
        std::fs::write(inner.join("memory.max"), "50\n").unwrap();
        assert_eq!(limit.read(&mut buffer), Some(50.0));
    }

    #[test]
    fn quotas_and_lists() {
        assert_eq!(quota("50000 100000\n"), Some(0.5));
        for wrong in ["max 100000\n", "1\n", "1 0\n", "0 1\n", "-1 100000\n", ""] {
            assert_eq!(quota(wrong), None, "{wrong:?}");
        }
        assert_eq!(list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(list("3,1,3\n"), Some(vec![1, 3]));
        for wrong in ["\n", "", "a", "0-", "0-4294967295", "2-1"] {
            assert_eq!(list(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "file_mapped 3\nfile 7\nanon\nshmem x\n";
        assert_eq!(field(text, "file"), Some(7.0));
        assert_eq!(field(text, "file_"), None);
        assert_eq!(field(text, "anon"), None);
        assert_eq!(field(text, "shmem"), None);
    }

    #[test]
    fn what_is_no_text_or_too_much_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut buffer = Vec::new();
        std::fs::write(dir.path().join("a"), b"\xff\n").unwrap();
        assert_eq!(CgroupFile::new(dir.path(), "a").read(&mut buffer), None);
        std::fs::write(dir.path().join("b"), "1".repeat(FILE_BYTES_MAX + 1)).unwrap();
        assert_eq!(CgroupFile::new(dir.path(), "b").read(&mut buffer), None);
        let mut kept = CgroupFile::new(dir.path(), "c");
        assert_eq!(kept.number(&mut buffer), None);
        std::fs::write(dir.path().join("c"), "7\n").unwrap();
        assert_eq!(kept.number(&mut buffer), Some(7.0));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>(), key in "[a-z]{0,4}") {
            for number in [limit(&text), quota(&text), field(&text, &key)].into_iter().flatten() {
                prop_assert!(number >= 0.0 && number.is_finite());
            }
            if let Some(list) = list(&text) {
                prop_assert!(!list.is_empty() && list.len() <= 4096);
            }
        }
    }
}
