//! A file system of a few megabytes that can be filled: an image on a loop device.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted image; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: tempfile::TempDir,
    mount: PathBuf,
}

impl SmallDisk {
    /// An empty ext4 of `bytes`; `None`, with a line that says so, where loop devices are not to be
    /// had (not root, a container).
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let mount = dir.path().join("mount");
        fs::create_dir(&mount).unwrap();
        let made = ran(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-F"]).arg(&image))
            && ran(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount));
        if made {
            return Some(Self { dir, mount });
        }
        eprintln!("skipped: no small disk can be mounted here");
        None
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Writes until nothing more fits.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for size in [1 << 20, 4096] {
            let block = vec![1_u8; size];
            while ballast.write_all(&block).is_ok() && ballast.sync_data().is_ok() {}
        }
    }

    /// Makes room again.
    pub fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a collector that has not ended yet holds files open.
        if !ran(Command::new("umount").arg("-l").arg(&self.mount)) {
            eprintln!("left mounted: {}", self.dir.path().display());
        }
    }
}

fn ran(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
