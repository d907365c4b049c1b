//! A small host's files, with values that do not change.

use std::fs;
use std::path::Path;

/// What `node_load1` is.
pub const LOAD1: f64 = 0.25;

const FILES: [(&str, &str); 4] = [
    ("proc/loadavg", "0.25 0.5 0.75 2/100 4711\n"),
    (
        "proc/stat",
        "cpu  10 20 30 40 50 60 70 80 0 0\ncpu0 10 20 30 40 50 60 70 80 0 0\nintr 1\nctxt 2\n\
         btime 1700000000\nprocesses 3\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0\n",
    ),
    ("proc/meminfo", "MemTotal:        1024 kB\nMemFree:          512 kB\n"),
    ("proc/sys/fs/file-nr", "1024\t0\t4096\n"),
];

/// Writes it below `root`.
pub fn write(root: &Path) {
    for (path, text) in FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for dir in ["sys", "udev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
}
