//! `stoa-agent print`: one pass over the sources, as a text an exporter would serve.
//!
//! Writes the text exposition format, families by name and series by labels, so that two passes
//! compare line by line. What could not be read is left out, as in the daemon, and returned beside; a mount
//! that does not answer is waited for instead of being told in a later pass.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use stoa_exchange::exposition;
use stoa_model::Family;

use crate::sampler::{INTERVAL, Sampler, Seen};
use crate::sources::registry;
use crate::sources::settings::{Settings, SettingsError};
use crate::sources::{Now, Roots};
use crate::target;

/// A person waits this long for a source, and half as long for a mount.
const PATIENCE: Duration = Duration::from_secs(10);
const MOUNT_PATIENCE: &str = "5s";

/// The arguments of `stoa-agent print`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PrintArgs {
    /// Read this instead of /proc
    #[arg(long, value_name = "DIR")]
    pub procfs: Option<PathBuf>,
    /// Read this instead of /sys
    #[arg(long, value_name = "DIR")]
    pub sysfs: Option<PathBuf>,
    /// Look for the host's file systems under this instead of /
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Read this instead of /run/udev/data
    #[arg(long, value_name = "DIR")]
    pub udev: Option<PathBuf>,
    /// Tell the *.prom files in this directory too
    #[arg(long, value_name = "DIR")]
    pub textfile: Option<PathBuf>,
    /// Read only this source (may be given several times); also turns on one that is off by default
    #[arg(long = "source", value_name = "NAME")]
    pub sources: Vec<String>,
    /// Read every source there is, those that are off by default too
    #[arg(long, conflicts_with = "sources")]
    pub all: bool,
}

/// Why nothing was printed.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// There is no such source.
    #[error("{}", registry::no_such(name))]
    UnknownSource {
        /// The name as given.
        name: String,
    },
    /// A setting is wrong.
    #[error("cannot make the sources")]
    Settings(#[from] SettingsError),
    /// The output could not be written.
    #[error("cannot write the output")]
    Write(#[from] io::Error),
}

impl PrintArgs {
    /// `roots` with what the arguments put in their place.
    #[must_use]
    pub fn roots(&self, roots: Roots) -> Roots {
        let given = |argument: &Option<PathBuf>, root| argument.clone().unwrap_or(root);
        Roots {
            procfs: given(&self.procfs, roots.procfs),
            sysfs: given(&self.sysfs, roots.sysfs),
            rootfs: given(&self.rootfs, roots.rootfs),
            udev: given(&self.udev, roots.udev),
            textfile: self.textfile.clone().or(roots.textfile),
            identity: roots.identity,
        }
    }

    /// `settings` with the sources the arguments name, if they name any.
    ///
    /// # Errors
    /// [`PrintError::UnknownSource`].
    pub fn settings(&self, mut settings: Settings) -> Result<Settings, PrintError> {
        let names = registry::names();
        let unknown = self.sources.iter().find(|name| !names.contains(&name.as_str()));
        if let Some(name) = unknown {
            return Err(PrintError::UnknownSource { name: name.clone() });
        }
        if !self.sources.is_empty() || self.all {
            for name in names {
                settings.enable(name, self.all || self.sources.iter().any(|s| s == name));
            }
        }
        Ok(settings)
    }
}

/// Reads all sources that `settings` ask for once and writes what they say to `out`. `waiting` hears each
/// second who has not answered. What could not be read is in what is returned.
///
/// # Errors
/// [`PrintError`] when a setting is wrong or `out` cannot be written; never for what a source could
/// not read.
pub fn run(
    roots: &Roots,
    settings: &Settings,
    now: Now,
    out: &mut impl Write,
    waiting: impl FnMut(&[&'static str]),
) -> Result<Vec<Seen>, PrintError> {
    let sampler = read(roots, settings, now, waiting)?;
    let mut families: Vec<Family> =
        sampler.told().into_iter().map(|family| target::as_read(family).into_owned()).collect();
    sort(&mut families);
    let mut out = io::BufWriter::new(out);
    exposition::write(&families, &mut out)?;
    out.flush()?;
    Ok(sampler.seen())
}

/// Reads all sources that `settings` ask for once.
pub(crate) fn read(
    roots: &Roots,
    settings: &Settings,
    now: Now,
    waiting: impl FnMut(&[&'static str]),
) -> Result<Sampler, SettingsError> {
    let mut settings = settings.clone();
    settings.set_default("filesystem", "mount_patience", MOUNT_PATIENCE);
    let sources = registry::sources(&settings)?;
    let mut sampler = Sampler::new(sources, roots.clone(), INTERVAL).with_patience(PATIENCE);
    sampler.read_once(now, waiting);
    Ok(sampler)
}

fn sort(families: &mut [Family]) {
    families.sort_by(|a, b| a.name.cmp(&b.name));
    for family in families {
        family.metrics.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_sources_are_read_in_order_of_their_families() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("loadavg"), "0.21 0.37 0.39 1/719 19737\n").unwrap();
        let softirqs = "        CPU0 CPU1\n  HI: 7 1\n  TIMER: 3 4\n";
        std::fs::write(dir.path().join("softirqs"), softirqs).unwrap();
        let args = PrintArgs {
            procfs: Some(dir.path().into()),
            sources: vec!["softirqs".into(), "loadavg".into()],
            ..PrintArgs::default()
        };
        let settings = args.settings(Settings::default()).unwrap();
        let mut out = Vec::new();
        let now = Now { unix_micros: 0 };
        run(&args.roots(Roots::default()), &settings, now, &mut out, |_| {}).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().filter(|line| !line.contains("_duration_seconds"));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "# HELP node_load1 1m load average.",
                "# TYPE node_load1 gauge",
                "node_load1 0.21",
                "# HELP node_load15 15m load average.",
                "# TYPE node_load15 gauge",
                "node_load15 0.39",
                "# HELP node_load5 5m load average.",
                "# TYPE node_load5 gauge",
                "node_load5 0.37",
                "# HELP node_scrape_collector_success node_exporter: Whether a collector succeeded.",
                "# TYPE node_scrape_collector_success gauge",
                "node_scrape_collector_success{collector=\"loadavg\"} 1",
                "node_scrape_collector_success{collector=\"softirqs\"} 1",
                "# HELP node_softirqs_functions_total Softirq counts per CPU.",
                "# TYPE node_softirqs_functions_total counter",
                "node_softirqs_functions_total{cpu=\"0\",type=\"HI\"} 7",
                "node_softirqs_functions_total{cpu=\"0\",type=\"TIMER\"} 3",
                "node_softirqs_functions_total{cpu=\"1\",type=\"HI\"} 1",
                "node_softirqs_functions_total{cpu=\"1\",type=\"TIMER\"} 4",
            ]
        );
    }

    #[test]
    fn an_unknown_source_is_refused_by_name() {
        let args = PrintArgs { sources: vec!["cppu".into()], ..PrintArgs::default() };
        let error = args.settings(Settings::default()).unwrap_err().to_string();
        assert!(error.contains("(did you mean \"cpu\"?)"), "{error}");
    }
}
