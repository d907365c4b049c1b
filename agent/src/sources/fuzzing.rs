//! Any bytes as what sources read: for fuzz targets and tests, no part of the agent.
//!
//! A source is read as the agent reads it, over files with those bytes in them ([`places`]); what
//! programs, daemons and the kernel answer is given to its parser. Nothing panics; what is told is finite,
//! named as metrics are, each family once, and bounded by how much there was to read, and so is the time
//! it takes. (How much memory it takes is measured by the fuzz targets, whose allocator counts.)

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::settings::{Settings, SettingsError};
use super::{Now, Reading, Roots, Source, registry};

mod places;

pub use places::{
    OF_A_CONTAINER, OF_AN_OLDER_CONTAINER, OF_PROCESSES, OF_PROGRAMS, OF_THE_KERNEL, Place,
};

/// All places, one host each.
pub const HOSTS: [&[Place]; 5] =
    [OF_THE_KERNEL, OF_PROGRAMS, OF_PROCESSES, OF_A_CONTAINER, OF_AN_OLDER_CONTAINER];

/// Stands between the files of an input that has several.
const BETWEEN_FILES: &[u8] = b"\x1e\x1e";

/// How long a reading may take, whatever there is to read, and how much longer by the byte. What takes a
/// time that grows with the square of the bytes comes to more with some tens of KiB.
const TIME: Duration = Duration::from_secs(1);
const TIME_PER_BYTE: Duration = Duration::from_micros(20);

/// What has to be set for a source to read a place.
const SETTINGS: &str = r#"
[sources.sysctl]
include = ["fs.numbers", "fs.numbers:one,two"]
include_info = ["fs.text", "fs.text:one,two"]

[sources.bcache]
priority_stats = true

[sources.cpu]
guest = true
info = true
info_flags_include = ".*"
info_bugs_include = ".*"

[sources.process]
top = 5

[[sources.process.group]]
name = "{{.Comm}} {{.ExeFull}} {{.Username}} {{.Matches}}"
cmdline = ["--(?P<word>.+)"]
"#;

/// What a program, a daemon or a server says, told by its parser.
pub(super) type Teller = fn(&[u8], Now, &mut Reading);

/// A host of files that are replaced a few at a time. Its sources know it from reading to reading.
#[derive(Debug)]
pub struct Host {
    dir: PathBuf,
    places: &'static [Place],
    /// Those of `places`.
    sources: Vec<Box<dyn Source>>,
    unix_micros: i64,
}

impl Host {
    /// In `dir`, which is made.
    ///
    /// # Errors
    /// When files cannot be written there.
    pub fn new(dir: PathBuf, places: &'static [Place]) -> io::Result<Self> {
        for (_, path, rest) in places {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(&dir))?;
            std::fs::write(path, rest)?;
        }
        let mut sources = sources(&dir).map_err(io::Error::other)?;
        sources.retain(|source| places.iter().any(|(name, _, _)| *name == source.name()));
        Ok(Self { dir, places, sources, unix_micros: 1_770_000_000_000_000 })
    }

    /// Reads a source with `bytes` in one of its files or, where they come in parts, in several.
    ///
    /// # Errors
    /// When a file cannot be written.
    ///
    /// # Panics
    /// When what is told is not as it should be.
    pub fn read(&mut self, which: u8, bytes: &[u8]) -> io::Result<()> {
        let at = usize::from(which) % self.places.len();
        let places = self.places.get(at..).unwrap_or_default();
        let Some((name, ..)) = places.first() else { return Ok(()) };
        let of_source: Vec<&Place> = places.iter().take_while(|(of, ..)| of == name).collect();
        self.go_on();
        for ((_, path, _), part) in of_source.iter().zip(parts(bytes)) {
            let path = self.dir.join(path);
            std::fs::write(&path, part)?;
            // What a job left is told only when it is of now.
            let at = UNIX_EPOCH + Duration::from_micros(self.unix_micros.unsigned_abs());
            File::options().write(true).open(&path)?.set_modified(at)?;
        }
        self.tell(name, bytes.len());
        for (_, path, rest) in of_source {
            std::fs::write(self.dir.join(path), rest)?;
        }
        Ok(())
    }

    /// Long enough for whatever is looked up only now and then.
    fn go_on(&mut self) {
        self.unix_micros += 3_600_000_000;
    }

    fn tell(&mut self, name: &str, bytes: usize) {
        let roots = roots(&self.dir);
        // A process is told once it has been there for a few readings.
        let readings = if name == "process" { 3 } else { 1 };
        for _ in 0..readings {
            let now = Now { unix_micros: self.unix_micros };
            let mut reading = Reading::default();
            let mut sources = self.sources.iter_mut();
            let source = sources.find(|source| source.name() == name);
            let ((), took) = measured(|| match source {
                Some(source) => source.read(&roots, now, &mut reading),
                None => super::container::tell_any(&roots, now, &mut reading),
            });
            check(&reading, bytes, took, name == "textfile");
            self.go_on();
        }
    }
}

/// The files of an input.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let mut windows = bytes.windows(BETWEEN_FILES.len());
        let end = windows.position(|window| window == BETWEEN_FILES);
        is_over = end.is_none();
        let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        bytes = rest.strip_prefix(BETWEEN_FILES).unwrap_or_default();
        Some(part)
    })
}

/// All there are.
fn sources(dir: &Path) -> Result<Vec<Box<dyn Source>>, SettingsError> {
    let mut settings = Settings::parse(SETTINGS)?;
    registry::names().into_iter().for_each(|name| settings.enable(name, true));
    let directory = |name: &str| dir.join(name).to_string_lossy().into_owned();
    for source in ["smart", "lvm"] {
        settings.set(source, "reports", directory("reports"));
    }
    for source in ["qdisc", "wifi"] {
        settings.set(source, "fixtures", directory(source));
    }
    Ok(registry::sources(&settings)?.into_iter().map(|planned| planned.source).collect())
}

fn roots(dir: &Path) -> Roots {
    Roots {
        procfs: dir.join("proc"),
        sysfs: dir.join("sys"),
        rootfs: dir.into(),
        udev: dir.join("udev"),
        textfile: Some(dir.join("textfile")),
        identity: None,
    }
}

/// What `read` returns, and the time it took of a processor: on a busy host the clock says nothing.
fn measured<T>(read: impl FnOnce() -> T) -> (T, Duration) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
    };
    let begin = now();
    let read = read();
    (read, now().saturating_sub(begin))
}

/// What is told of so many bytes, and how long it took.
fn check(reading: &Reading, bytes: usize, took: Duration, is_any_number_told: bool) {
    let mut told = 0;
    let mut names = std::collections::HashSet::new();
    for family in reading.families() {
        let is_sign = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(!family.name.is_empty() && family.name.chars().all(is_sign), "{:?}", family.name);
        assert!(names.insert(family.name.as_str()), "{} is told twice", family.name);
        for metric in &family.metrics {
            let is_told = is_any_number_told || metric.value.is_finite();
            assert!(is_told, "{}{} {}", family.name, metric.labels, metric.value);
        }
        told += family.metrics.len();
    }
    // A list of CPUs, `0-65535`, is the shortest that tells most.
    assert!(told <= 100_000 + 64 * bytes, "{told} of {bytes} bytes");
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    assert!(took <= TIME + TIME_PER_BYTE.saturating_mul(bytes), "{took:?} for {bytes} bytes");
}

/// Reads what a program, a daemon or a server answers.
///
/// # Panics
/// When what is told is not as it should be.
pub fn answer(which: u8, bytes: &[u8]) {
    let tellers = [
        super::disks::TELLERS.as_slice(),
        super::house::TELLERS.as_slice(),
        super::units::TELLERS.as_slice(),
    ];
    let at = usize::from(which) % tellers.iter().map(|tellers| tellers.len()).sum::<usize>();
    let Some(tell) = tellers.into_iter().flatten().nth(at) else { return };
    let mut reading = Reading::default();
    let now = Now { unix_micros: 1_770_000_000_000_000 };
    let ((), took) = measured(|| tell(bytes, now, &mut reading));
    check(&reading, bytes.len(), took, false);
}

/// Reads what the kernel answers to questions by netlink and `ioctl`.
///
/// # Panics
/// When what is told is not as it should be.
pub fn kernel_answer(bytes: &[u8]) {
    let mut reading = Reading::default();
    let ((), took) = measured(|| super::host::fuzzing::kernel_answer(bytes, &mut reading));
    check(&reading, bytes.len(), took, false);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes, and texts of the words that the files are made of.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            "[a-z_]{1,8}",
            "[0-9]{1,4}",
            "(1e308|-1e308|1e999|NaN|inf|18446744073709551616|0x1f|0-65535|1/0)",
            "(cpu0|CPU0|Node 0, zone|device|eth0:|md0 :|active|kB|raid1|proc4|net|GT/s|1.5k)",
            "[ \t:;,/()\\[\\]{}=%@#\"\\n]{1,3}",
        ];
        let text = proptest::collection::vec((word, " |\n|\t|:|,"), 0..40);
        let text = text.prop_map(|words| {
            let words = words.into_iter().flat_map(|(word, sign)| [word, sign]);
            words.collect::<String>().into_bytes()
        });
        prop_oneof![3 => text, 1 => proptest::collection::vec(any::<u8>(), 0..400)]
    }

    fn any_host(places: &'static [Place], inputs: &[(u8, Vec<u8>)]) {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::new(dir.path().into(), places).unwrap();
        for (which, bytes) in inputs {
            host.read(*which, bytes).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn any_bytes_are_files_of_the_kernel(
            inputs in proptest::collection::vec((any::<u8>(), any_bytes()), 1..60),
        ) {
            any_host(OF_THE_KERNEL, &inputs);
        }

        #[test]
        fn any_bytes_are_files_of_programs(
            inputs in proptest::collection::vec((any::<u8>(), any_bytes()), 1..60),
        ) {
            any_host(OF_PROGRAMS, &inputs);
        }

        #[test]
        fn any_bytes_are_files_of_processes_and_containers(
            inputs in proptest::collection::vec((any::<u8>(), any_bytes()), 1..60),
        ) {
            any_host(OF_PROCESSES, &inputs);
            any_host(OF_A_CONTAINER, &inputs);
            any_host(OF_AN_OLDER_CONTAINER, &inputs);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answers(which in any::<u8>(), bytes in any_bytes()) {
            answer(which, &bytes);
        }

        #[test]
        fn any_bytes_are_answers_of_the_kernel(
            bytes in proptest::collection::vec(prop_oneof![3 => 0_u8..40, 1 => any::<u8>()], 0..300),
        ) {
            kernel_answer(&bytes);
        }
    }

    #[test]
    fn every_place_has_its_source() {
        for places in HOSTS {
            let dir = tempfile::tempdir().unwrap();
            let host = Host::new(dir.path().into(), places).unwrap();
            for (name, _, _) in places.iter().filter(|(name, ..)| !name.is_empty()) {
                assert!(host.sources.iter().any(|source| source.name() == *name), "{name}");
            }
        }
    }

    #[test]
    fn an_input_in_parts_fills_the_next_files_of_the_source() {
        let split = |bytes: &'static [u8]| parts(bytes).collect::<Vec<_>>();
        assert_eq!(split(b""), [b""]);
        assert_eq!(split(b"a\x1e\x1e\x1e\x1eb\x1e"), [&b"a"[..], b"", b"b\x1e"]);
    }

    /// What broke a property once: the host, the file and what stands in it, and in the next ones.
    #[test]
    fn files_that_broke_a_property_keep_it() {
        let found: [(&'static [Place], &str, &str); 9] = [
            // Ratios and products of numbers that are told one by one.
            (OF_THE_KERNEL, "sys/block/md0/md/sync_completed", "1e200 / 1e-200\x1e\x1e1e-200"),
            (
                OF_PROGRAMS,
                "reports/smart-sda.json",
                r#"{"smartctl":{"exit_status":0},"interface_speed":{"max":{"units_per_second":1e200,"bits_per_unit":1e200}}}"#,
            ),
            // A moment before which there is none.
            (OF_THE_KERNEL, "proc/stat", "btime -9223372036854775808\n"),
            // What is no name, and what stands twice.
            (OF_THE_KERNEL, "proc/meminfo", "Node 0 MemTotal: 1 kB\nA: 1 kB\nA: 2 kB\n"),
            (OF_THE_KERNEL, "sys/devices/system/node/node0/numastat", "numa_h\u{e9}t 1\n"),
            (OF_THE_KERNEL, "proc/net/sockstat", "T\"P: inuse 1\nTCP: inuse 1\nTCP: inuse 2\n"),
            (OF_THE_KERNEL, "proc/net/rpc/nfsd", "net 1 2 3 4\nnet 1 2 3 4\n"),
            (OF_PROGRAMS, "textfile/a.prom", "node_textfile_scrape_error 1\n"),
            (OF_PROGRAMS, "textfile/a.prom", "node_textfile_mtime_seconds 1\n"),
        ];
        for (places, path, text) in found {
            let dir = tempfile::tempdir().unwrap();
            let mut host = Host::new(dir.path().into(), places).unwrap();
            for (at, _) in places.iter().enumerate().filter(|(_, (_, known, _))| *known == path) {
                host.read(u8::try_from(at).unwrap(), text.as_bytes()).unwrap();
            }
        }
    }

    /// The same of answers.
    #[test]
    fn answers_that_broke_a_property_keep_it() {
        let [pool_list, dataset_list, pool_status, ..] = crate::sources::disks::TELLERS;
        let deep = format!(
            "  pool: a\nconfig:\n\tNAME{0}  STATE\n\ta{0}     ONLINE\n\t  {1}    ONLINE\n{2}",
            " ".repeat(40_000),
            "b".repeat(40_000),
            format!("\t    c{} ONLINE\n", " ".repeat(40_000)).repeat(3),
        );
        let many: String = (0..9000).map(|pool| format!("p{pool}\tfilesystem\n")).collect();
        let found: [(Teller, &str, usize); 4] = [
            (pool_list, "a\t1\t1e-310\n", 1),
            (dataset_list, "a\tfilesystem\t1\t1e-310\n", 12),
            (dataset_list, &many, 700),
            (pool_status, &deep, 100),
        ];
        for (tell, text, most) in found {
            let mut reading = Reading::default();
            tell(text.as_bytes(), Now { unix_micros: 0 }, &mut reading);
            check(&reading, text.len(), Duration::ZERO, false);
            let metrics = || reading.families().flat_map(|family| &family.metrics);
            assert!(metrics().count() <= most, "{}", metrics().count());
            let mut labels = metrics().flat_map(|metric| metric.labels.iter());
            assert!(labels.all(|label| label.value.len() <= 1024));
        }
    }
}
