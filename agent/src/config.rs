//! The agent's configuration: the file as written, then the [`Config`] as meant.
//!
//! Everything has a default but the collector's address, which `stoa-agent join` writes down beside
//! the certificate; so the file may be empty or absent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use stoa_daemon::log::{LogOptions, LogSection};
use stoa_daemon::{Bytes, ConfigError, Span};

use crate::identity::IDENTITY_FILE;
use crate::scrape::settings::Settings as ScrapeSettings;
use crate::sources::Roots;
use crate::sources::registry;
use crate::sources::settings::Settings;

/// Where the file is looked for when none is named.
pub const CONFIG_PATH: &str = "/etc/stoa/agent.toml";

/// The shortest sampling interval: below it reading costs more than it tells.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest: beyond Prometheus's five minute lookback series would flicker.
const INTERVAL_MAX: Duration = Duration::from_secs(120);
/// The smallest spool that holds a key frame and some minutes.
const SPOOL_BYTES_MIN: u64 = 8 << 20;

/// The configuration as meant: every value checked, every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where identity and spool live.
    pub data_dir: PathBuf,
    /// The collector as `host:port`; `None`: as written down at joining.
    pub collector: Option<String>,
    /// How often cheap sources are read.
    pub interval: Duration,
    /// Which sources are read, when, and what of each.
    pub sources: Settings,
    /// Where the kernel's and the host's files are found.
    pub roots: Roots,
    /// Most bytes the spool takes on disk.
    pub spool_bytes_max: u64,
    /// Oldest data the spool keeps.
    pub spool_age_max: Duration,
    /// How long acknowledged data is kept, for a collector restored from a backup.
    pub spool_keep_acked: Duration,
    /// Where metrics are served to a scraper; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// What is scraped.
    pub scrape: ScrapeSettings,
    /// What to log.
    pub log: LogOptions,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    data_dir: PathBuf,
    collector: Option<String>,
    sampling: WrittenSampling,
    sources: Settings,
    paths: WrittenPaths,
    spool: WrittenSpool,
    metrics: WrittenMetrics,
    scrape: ScrapeSettings,
    log: LogSection,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/stoa-agent".into(),
            collector: None,
            sampling: WrittenSampling::default(),
            sources: Settings::default(),
            paths: WrittenPaths::default(),
            spool: WrittenSpool::default(),
            metrics: WrittenMetrics::default(),
            scrape: ScrapeSettings::default(),
            log: LogSection::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenSampling {
    interval: Span,
    disable: Vec<String>,
    enable: Vec<String>,
}

impl Default for WrittenSampling {
    fn default() -> Self {
        Self { interval: Span(Duration::from_secs(1)), disable: Vec::new(), enable: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenPaths {
    procfs: PathBuf,
    sysfs: PathBuf,
    rootfs: PathBuf,
    udev: PathBuf,
}

impl Default for WrittenPaths {
    fn default() -> Self {
        let Roots { procfs, sysfs, rootfs, udev, .. } = Roots::default();
        Self { procfs, sysfs, rootfs, udev }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenSpool {
    bytes_max: Bytes,
    age_max: Span,
    keep_acked: Span,
}

impl Default for WrittenSpool {
    fn default() -> Self {
        Self {
            bytes_max: Bytes(256 << 20),
            age_max: Span(Duration::from_secs(24 * 3600)),
            keep_acked: Span(Duration::from_secs(3600)),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenMetrics {
    listen: Option<SocketAddr>,
    insecure: bool,
}

impl Config {
    /// Reads a file; `None` reads [`CONFIG_PATH`] if it is there and takes the defaults otherwise.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and what is wrong.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, text, written) = stoa_daemon::read_or_default(path, Path::new(CONFIG_PATH))?;
        Self::mean(&path, written).map_err(|error| error.in_text(&text))
    }

    /// The defaults alone, whatever file there is: for a program that is told everything else.
    ///
    /// # Errors
    /// None in practice: the defaults are good.
    pub fn defaults() -> Result<Self, ConfigError> {
        Self::mean(Path::new(CONFIG_PATH), Written::default())
    }

    /// Reads a text; `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::mean(path, stoa_daemon::read_str(path, text)?).map_err(|error| error.in_text(text))
    }

    fn mean(path: &Path, written: Written) -> Result<Self, ConfigError> {
        let wrong = |key: &str, message| {
            let key = key.to_owned().into();
            Err(ConfigError::Meaning { path: path.into(), line: None, key, message })
        };
        let interval = written.sampling.interval.0;
        if interval < INTERVAL_MIN || interval > INTERVAL_MAX {
            let message =
                format!("{interval:?} is not between {INTERVAL_MIN:?} and {INTERVAL_MAX:?}");
            return wrong("sampling.interval", message);
        }
        let known = registry::names();
        let mut sources = written.sources;
        let is_off = |name: &&String| written.sampling.disable.contains(name);
        if let Some(name) = written.sampling.enable.iter().find(is_off) {
            let message = format!("{name:?} stands in sampling.disable, too");
            return wrong("sampling.enable", message);
        }
        for (key, names, enabled) in [
            ("sampling.disable", &written.sampling.disable, false),
            ("sampling.enable", &written.sampling.enable, true),
        ] {
            names.iter().for_each(|name| sources.set_default(name, "enabled", enabled));
            if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
                return wrong(key, registry::no_such(name));
            }
        }
        if let Err(error) = registry::sources(&sources) {
            return wrong(&error.key, error.message);
        }
        let spool_bytes_max = written.spool.bytes_max.0;
        if spool_bytes_max < SPOOL_BYTES_MIN {
            let message = format!("{spool_bytes_max} bytes is less than {SPOOL_BYTES_MIN}");
            return wrong("spool.bytes_max", message);
        }
        if let Some(collector) = &written.collector
            && !is_host_and_port(collector)
        {
            let message = format!("{collector:?} is not host:port, such as \"stoa.lan:7443\"");
            return wrong("collector", message);
        }
        if let Some(address) = written.metrics.listen
            && !address.ip().is_loopback()
            && !written.metrics.insecure
        {
            let message = format!(
                "{address} is not on loopback, and metrics are served without TLS or credential; \
                 set metrics.insecure = true if all who reach it may read them"
            );
            return wrong("metrics.listen", message);
        }
        if let Err((key, message)) = written.scrape.jobs() {
            return wrong(&key, message);
        }
        let config = Self {
            data_dir: PathBuf::new(),
            collector: written.collector,
            interval,
            sources,
            roots: Roots {
                procfs: written.paths.procfs,
                sysfs: written.paths.sysfs,
                rootfs: written.paths.rootfs,
                udev: written.paths.udev,
                textfile: None,
                identity: None,
            },
            spool_bytes_max,
            spool_age_max: written.spool.age_max.0,
            spool_keep_acked: written.spool.keep_acked.0,
            metrics: written.metrics.listen,
            scrape: written.scrape,
            log: written.log.options("stoa-agent"),
        };
        Ok(config.with_data_dir(written.data_dir))
    }

    /// The same with identity and spool elsewhere.
    #[must_use]
    pub fn with_data_dir(mut self, data_dir: PathBuf) -> Self {
        let own = data_dir.join(IDENTITY_FILE);
        self.roots.identity = Some(std::path::absolute(&own).unwrap_or(own));
        self.data_dir = data_dir;
        self
    }
}

/// Whether an address names a port too: `stoa.lan:7443`, `[::1]:7443`.
#[must_use]
pub fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':')
        .filter(|(host, _)| !host.is_empty() && !host.contains('/'))
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|p| p > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        match Config::parse(Path::new("agent.toml"), text) {
            Ok(config) => panic!("{text} was accepted: {config:?}"),
            Err(error) => assert!(error.to_string().contains(expected), "{error}\nnot: {expected}"),
        }
    }

    #[test]
    fn an_empty_file_is_whole() {
        let config = Config::parse(Path::new("agent.toml"), "").unwrap();
        assert_eq!(config.interval, Duration::from_secs(1));
        assert_eq!(config.spool_bytes_max, 256 << 20);
    }

    #[test]
    fn the_agents_own_certificate_is_looked_for_where_it_is() {
        let parsed = |text| Config::parse(Path::new("agent.toml"), text).unwrap();
        for (config, path) in [
            (parsed(""), "/var/lib/stoa-agent/identity.pem"),
            (parsed("data_dir = '/srv/a'"), "/srv/a/identity.pem"),
            (parsed("data_dir = '/srv/a'").with_data_dir("/b".into()), "/b/identity.pem"),
        ] {
            assert_eq!(config.roots.identity.as_deref(), Some(Path::new(path)));
        }
    }

    #[test]
    fn the_shipped_example_says_the_defaults() {
        let text = include_str!("../../deploy/agent.toml");
        let example = Config::parse(Path::new("agent.toml"), text).unwrap();
        let defaults = Config::parse(Path::new("agent.toml"), "").unwrap();
        assert_eq!(format!("{example:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn the_shipped_tables_of_sources_say_the_defaults() {
        let text = include_str!("../../deploy/agent.toml");
        let (_, tables) = text.split_once("# [sources.").unwrap();
        let tables = tables.split_once("\n[paths]").unwrap().0.replace("\n# ", "\n");
        let tables = format!("[sources.{}", tables.replace("\n#\n", "\n"));
        let shipped = Settings::parse(&tables).unwrap();
        let sources = registry::sources(&shipped).unwrap();
        let defaults = registry::sources(&Settings::default()).unwrap();
        for (shipped, default) in sources.iter().zip(&defaults) {
            assert_eq!(format!("{shipped:?}"), format!("{default:?}"));
        }
        assert_eq!(sources.len(), defaults.len());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_key() {
        check(
            "[sampling]\ninterval = \"1ms\"",
            "agent.toml:2: sampling.interval: 1ms is not between",
        );
        check("[sampling]\ndisable = [\"cppu\"]", "sampling.disable: no source is called");
        check(
            "[sampling]\ndisable = [\"cpu\"]\nenable = [\"cpu\"]",
            "agent.toml:3: sampling.enable: \"cpu\" stands in sampling.disable, too",
        );
        check(
            "[sources.sysctl]\ninclude = []",
            "agent.toml:1: sources.sysctl: it is off unless enabled = true is said here, too",
        );
        check(
            "\n[sources.cppu]\nx = 1",
            "agent.toml:2: sources.cppu: no source is called \"cppu\" (did you mean \"cpu\"?); `stoa-agent",
        );
        check(
            "[sources.diskstats]\ndevice_exclude = \"(\"",
            "agent.toml:2: sources.diskstats.device_exclude: not a pattern: unclosed group",
        );
        check(
            "[sources.diskstats]\n\ndevices = \"x\"",
            "agent.toml:3: sources.diskstats.devices: there is no such key",
        );
        check(
            "[sources.cpu]\ndeadline = \"3s\"",
            "sources.cpu.deadline: it is read within the tick",
        );
        check("[sources.cpu]\ninterval = 3", "sources.cpu.interval: expected a duration");
        check("[spool]\nbytes_max = 1", "spool.bytes_max: 1 bytes is less than");
        check("collector = \"stoa.lan\"", "collector: \"stoa.lan\" is not host:port");
        check("[metrics]\nlisten = \"0.0.0.0:1\"", "metrics.listen: 0.0.0.0:1 is not on loopback");
        check("[spool]\nage = \"1h\"", "agent.toml:2: unknown field `age`");
        check(
            "[spool]\nage_max = 3",
            "agent.toml:2: spool.age_max: invalid type: integer, expected a duration",
        );
    }
}
