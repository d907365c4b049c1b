//! `/sys/class/hwmon`: temperatures, fans, voltages and whatever else sensor chips say.
//!
//! Which files there are is looked up once a minute; between, only their values are read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use stoa_model::{Family, Labels, MetricKind};

use crate::sources::registry::{Configured, Shared};
use crate::sources::settings::{Filter, Pattern};
use crate::sources::{
    Desc, Kept, Now, Problem, Reading, Roots, SLOW, Source, Tree, number, read_small,
};

mod attribute;

use attribute::{FileName, Meaning};

/// How often chips and their files are looked up anew.
const DISCOVERY: Duration = Duration::from_secs(60);

const CHIP_NAMES: Desc =
    Desc::gauge("node_hwmon_chip_names", "Annotation metric for human-readable chip names");
const SENSOR_LABEL: Desc =
    Desc::gauge("node_hwmon_sensor_label", "Label for given chip and sensor");

/// Some chips are asked over slow buses, and some disks for their temperature by commands.
const DEADLINE: Duration = Duration::from_secs(5);

/// `[sources.hwmon]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which chips to tell.
    chip_include: Pattern,
    /// Which chips not to tell.
    chip_exclude: Pattern,
    /// Which sensors to tell, as `chip;sensor`.
    sensor_include: Pattern,
    /// Which sensors not to tell, as `chip;sensor`.
    sensor_exclude: Pattern,
}

/// The source `hwmon`.
#[derive(Debug)]
pub(crate) struct Sensors {
    chips: Filter,
    sensors: Filter,
    found: Option<(Now, Found)>,
    labels: Kept<Labels>,
}

/// What there is to read and to tell.
#[derive(Debug, Default)]
struct Found {
    chip_names: Vec<Labels>,
    sensor_labels: Vec<Labels>,
    /// By family; a series stands once.
    values: BTreeMap<String, Values>,
}

/// The files of one family.
#[derive(Debug)]
struct Values {
    help: String,
    kind: MetricKind,
    files: Vec<(Labels, PathBuf, Meaning)>,
}

impl Configured for Sensors {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        Self {
            chips: Filter::new(settings.chip_include, settings.chip_exclude),
            sensors: Filter::new(settings.sensor_include, settings.sensor_exclude),
            found: None,
            labels: Kept::new(),
        }
    }
}

impl Sensors {
    fn discover(&mut self, roots: &Roots, reading: &mut Reading) -> Result<Found, Problem> {
        let dir = roots.path(Tree::Sys, "class/hwmon");
        let mut chips: Vec<PathBuf> = std::fs::read_dir(&dir)
            .map_err(|error| Problem::read(&dir, error))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        chips.sort_unstable();
        let mut found = Found::default();
        for (chip, identity) in identities(chips, reading) {
            if let Err(error) = self.discover_chip(&chip, &identity, &mut found) {
                reading.fail(Problem::read(chip, error));
            }
        }
        self.labels.end_round();
        Ok(found)
    }

    fn discover_chip(&mut self, dir: &Path, chip: &str, found: &mut Found) -> io::Result<()> {
        if !self.chips.keeps(chip) {
            return Ok(());
        }
        let mut sensors: BTreeMap<String, HashMap<String, PathBuf>> = BTreeMap::new();
        list_files(dir, &mut sensors)?;
        // Some drivers put their files beside the chip, in the device.
        if dir.join("device").is_dir() {
            list_files(&dir.join("device"), &mut sensors)?;
        }
        let name = own_name(dir);
        if !name.is_empty() {
            let labels = self.kept(&[("chip", chip), ("chip_name", &name)]);
            found.chip_names.push(labels);
        }
        for (sensor, files) in &sensors {
            if self.sensors.keeps(&format!("{chip};{sensor}")) {
                self.discover_sensor(chip, sensor, files, found);
            }
        }
        Ok(())
    }

    fn discover_sensor(
        &mut self,
        chip: &str,
        sensor: &str,
        files: &HashMap<String, PathBuf>,
        found: &mut Found,
    ) {
        let label = files.get("label").and_then(|path| read_small(path).ok());
        if let Some(label) = &label {
            let labels = self.kept(&[("chip", chip), ("sensor", sensor), ("label", label)]);
            if !found.sensor_labels.contains(&labels) {
                found.sensor_labels.push(labels);
            }
        }
        let Some(FileName { kind, .. }) = FileName::parse(sensor) else { return };
        for (property, path) in files {
            let has_bare = files.contains_key("");
            let meaning = Meaning::of(kind, property, has_bare, label.is_some());
            let Some(meaning) = meaning.filter(|_| read_small(path).is_ok()) else { continue };
            let sensor = match &label {
                Some(label) if meaning.named_by_label => attribute::clean(label),
                _ => sensor.to_owned(),
            };
            let labels = self.kept(&[("chip", chip), ("sensor", &sensor)]);
            let values = found.values.entry(meaning.name.clone()).or_insert_with(|| Values {
                help: meaning.help.clone(),
                kind: meaning.kind,
                files: Vec::new(),
            });
            values.files.push((labels, path.clone(), meaning));
        }
    }

    fn kept(&mut self, pairs: &[(&'static str, &str)]) -> Labels {
        let make = || Labels::from_pairs_last_wins(pairs.iter().copied());
        self.labels.get(&format!("{pairs:?}"), |_| make())
    }
}

impl Source for Sensors {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn interval(&self) -> Option<Duration> {
        Some(SLOW)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        if self.found.as_ref().is_none_or(|(at, _)| now.is_past(*at, DISCOVERY)) {
            match self.discover(roots, reading) {
                Ok(found) => self.found = Some((now, found)),
                Err(problem) => {
                    self.found = None;
                    return reading.fail(problem);
                }
            }
        }
        let Some((_, found)) = &self.found else { return };
        for (desc, sets) in
            [(&CHIP_NAMES, &found.chip_names), (&SENSOR_LABEL, &found.sensor_labels)]
        {
            let mut family = desc.family();
            for labels in sets {
                family.push(labels.clone(), 1.0);
            }
            reading.family(family);
        }
        for (name, values) in &found.values {
            let mut family = Family::new(name, &values.help, values.kind);
            let mut told = BTreeSet::new();
            for (labels, path, meaning) in &values.files {
                // A sensor that does not answer, or not with a number, is absent.
                let value = read_small(path).ok().as_deref().and_then(number);
                if let Some(value) = value
                    && told.insert(labels)
                {
                    family.push(labels.clone(), meaning.value(value));
                }
            }
            reading.family(family);
        }
    }
}

/// Adds the sensor files of a directory, by sensor and property; a later directory wins.
fn list_files(
    dir: &Path,
    sensors: &mut BTreeMap<String, HashMap<String, PathBuf>>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let Some(file) = name.to_str().and_then(FileName::parse) else { continue };
        if file.is_sensor() {
            let files = sensors.entry(file.sensor()).or_default();
            files.insert(file.property.to_owned(), entry.path());
        }
    }
    Ok(())
}

/// Chips with the names they are told by. Chips of one device that would be told by one name have
/// their own names added, or their numbers where those are the same too.
fn identities(chips: Vec<PathBuf>, reading: &mut Reading) -> Vec<(PathBuf, String)> {
    let mut named: Vec<(PathBuf, String)> = Vec::new();
    for chip in chips {
        match base_identity(&chip) {
            Ok(base) => named.push((chip, base)),
            Err(error) => reading.fail(Problem::read(chip, error)),
        }
    }
    let full = |(chip, base): &(PathBuf, String)| {
        let mut same = named.iter().filter(|(other, name)| name == base && other != chip);
        if same.clone().next().is_none() {
            return base.clone();
        }
        let own = own_name(chip);
        if own.is_empty() || same.any(|(other, _)| own_name(other) == own) {
            format!("{base}_{}", last_part(chip))
        } else {
            format!("{base}_{own}")
        }
    };
    let full: Vec<String> = named.iter().map(full).collect();
    named.into_iter().zip(full).map(|((chip, _), full)| (chip, full)).collect()
}

/// A name for the chip that stays the same over reboots: its device's bus and name, else its own
/// name, else its number.
fn base_identity(dir: &Path) -> io::Result<String> {
    if let Ok(device) = dir.join("device").canonicalize() {
        let (name, bus) = (last_part(&device), device.parent().map(last_part).unwrap_or_default());
        match (name.is_empty(), bus.is_empty()) {
            (false, false) => return Ok(format!("{bus}_{name}")),
            (false, true) => return Ok(name),
            _ => {}
        }
    }
    let name = own_name(dir);
    if name.is_empty() { Ok(last_part(&dir.canonicalize()?)) } else { Ok(name) }
}

/// What the chip calls itself; empty when it does not.
fn own_name(dir: &Path) -> String {
    attribute::clean(&read_small(&dir.join("name")).unwrap_or_default())
}

fn last_part(path: &Path) -> String {
    path.file_name().map(|name| attribute::clean(&name.to_string_lossy())).unwrap_or_default()
}
