//! Answers of programs that need root, left in a directory by a job that has it.
//!
//! The agent itself has no rights (systemd/stoa-agent.service); systemd/stoa-disks.service runs the
//! programs instead and leaves what they print, one file each, put in place whole. A file's time is
//! when its answer was given, or when the job last saw that it holds.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::sources::{Now, Problem, Reading};

/// Where the job leaves them, unless configured otherwise.
pub(super) const DIRECTORY: &str = "/run/stoa-disks";
/// What is said of one that the job should have left anew since.
pub(super) const OLD: &str = "its answer was left over an hour ago; does stoa-disks.timer run?";
/// Files read of one kind at most.
const FILES_MAX: usize = 256;
/// The longest file read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file.
#[derive(Debug)]
pub(super) struct Left {
    /// Its name, without prefix and suffix.
    pub(super) name: String,
    pub(super) text: Vec<u8>,
    pub(super) at: Now,
}

/// The files `PREFIXname.json` in order of their names.
pub(super) fn read(directory: &Path, prefix: &str, reading: &mut Reading) -> Vec<Left> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter_map(|name| {
            let name = name.strip_prefix(prefix)?.strip_suffix(".json")?;
            Some(name.to_owned())
        })
        .take(FILES_MAX)
        .collect();
    names.sort_unstable();
    let mut files = Vec::new();
    for name in names {
        match read_file(&directory.join(format!("{prefix}{name}.json"))) {
            Ok((text, at)) => files.push(Left { name, text, at }),
            Err(problem) => reading.note(problem),
        }
    }
    files
}

fn read_file(path: &Path) -> Result<(Vec<u8>, Now), Problem> {
    let (text, at) = read_dated(path).map_err(|source| Problem::read(path, source))?;
    if u64::try_from(text.len()).is_ok_and(|n| n > FILE_BYTES_MAX) {
        return Err(Problem::parse(path, "over 1 MiB"));
    }
    Ok((text, at))
}

fn read_dated(path: &Path) -> io::Result<(Vec<u8>, Now)> {
    let mut file = File::open(path)?;
    let since = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_micros = i64::try_from(since.as_micros()).unwrap_or_default();
    let mut text = Vec::new();
    file.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok((text, Now { unix_micros }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    /// Three disks, of which the second hangs when `hang` is there; it counts what it is asked.
    const SMARTCTL: &str = r#"#!/bin/sh
here=${0%/*}
for device; do :; done
echo "$device" >>"$here/asked"
case $device in
--scan) printf '%s -d scsi # a disk\n' /dev/sda /dev/sdb /dev/sdc ;;
--scan-open)
    [ ! -e "$here/hang" ] || { echo $$ >>"$here/pids"; exec sleep 600; }
    printf '%s -d sat # a disk\n' /dev/sda /dev/sdb
    printf '# /dev/sdc -d scsi # a disk that cannot be opened\n' ;;
/dev/sdb) [ ! -e "$here/hang" ] || { echo $$ >>"$here/pids"; printf '{'; exec sleep 600; }
    printf '{\n}\n' ;;
*) printf '{\n}\n' ;;
esac
"#;
    /// Kills nothing when it is to kill the program, as the kernel does what waits in it; the time of
    /// what waits for that is short.
    const TIMEOUT: &str = "#!/bin/sh
if [ $1 = -k ]; then shift 3; exec setsid \"$@\"; fi
shift 3
exec /usr/bin/timeout -s KILL 0.5 \"$@\"
";

    struct Job(tempfile::TempDir);

    impl Job {
        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        /// Runs the job, and tells what it asked and the names of the answers that are there then.
        fn run(&self) -> (String, Vec<String>) {
            fs::write(self.path("asked"), "").unwrap();
            let script =
                concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/stoa-disks.sh").to_owned();
            let path = format!("{}:/usr/bin:/bin", self.0.path().display());
            let mut command = Command::new("/bin/sh");
            command.arg(script).env("PATH", path).env("RUNTIME_DIRECTORY", self.path("run"));
            command.env("STOA_SYSFS", self.path("sys")).env("STOA_UDEV", self.path("udev"));
            assert!(command.status().unwrap().success());
            let mut reading = Reading::default();
            let left = read(&self.path("run"), "smart-", &mut reading);
            assert!(reading.problems.is_empty(), "{:?}", reading.problems);
            let asked = fs::read_to_string(self.path("asked")).unwrap();
            (asked.replace('\n', " "), left.into_iter().map(|left| left.name).collect())
        }
    }

    fn job() -> Job {
        let job = Job(tempfile::tempdir().unwrap());
        for (name, text) in [("smartctl", SMARTCTL), ("timeout", TIMEOUT)] {
            fs::write(job.path(name), text).unwrap();
            fs::set_permissions(job.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir_all(job.path("run")).unwrap();
        fs::create_dir_all(job.path("sys/block/sda/device")).unwrap();
        job
    }

    #[test]
    fn disks_are_opened_to_find_them_only_when_there_are_others() {
        let job = job();
        let both = ["sda_sat", "sdb_sat"];
        let asked = "--scan /dev/sda /dev/sdb ";
        assert_eq!(job.run().1, both);
        assert_eq!(job.run(), (asked.to_owned(), both.map(str::to_owned).into()));
        fs::write(job.path("sys/block/sda/diskseq"), "2\n").unwrap();
        assert_eq!(job.run().0, "--scan --scan-open /dev/sda /dev/sdb ");
        // One that could not be opened is tried again after an hour.
        let old = std::time::SystemTime::UNIX_EPOCH;
        let disks = File::options().write(true).open(job.path("run/.disks")).unwrap();
        disks.set_modified(old).unwrap();
        assert_eq!(job.run().0, "--scan --scan-open /dev/sda /dev/sdb ");
        assert_eq!(job.run().0, asked);
    }

    #[test]
    fn a_disk_that_hangs_in_the_kernel_is_left_behind_and_let_alone() {
        let job = job();
        fs::write(job.path("hang"), "").unwrap();
        // What they are cannot be found out; the others are asked as what they seem to be.
        let others = ["sda_auto", "sdc_auto"].map(str::to_owned);
        let (asked, left) = job.run();
        assert_eq!(asked, "--scan --scan-open /dev/sda /dev/sdb /dev/sdc ");
        assert_eq!(left, others);
        for _ in 0..2 {
            assert_eq!(job.run(), ("--scan /dev/sda /dev/sdc ".to_owned(), others.clone().into()));
        }
        // The questions end at last.
        fs::remove_file(job.path("hang")).unwrap();
        let pids = fs::read_to_string(job.path("pids")).unwrap();
        let pids: Vec<&str> = pids.lines().collect();
        assert_eq!(pids.len(), 2);
        assert!(Command::new("kill").arg("-KILL").args(pids).status().unwrap().success());
        let (asked, left) = job.run();
        assert_eq!(asked, "--scan --scan-open /dev/sda /dev/sdb ");
        assert_eq!(left, ["sda_sat", "sdb_sat"]);
    }
}
