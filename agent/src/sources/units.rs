//! systemd's units: states, restarts, tasks, timers, sockets, watchdogs, what failed and why; by
//! node_exporter's names, and `systemd_exporter`'s beside them when
//! asked.
//!
//! Owns what is known of each unit from one reading to the next. systemd is asked for its list once a
//! reading, for properties only of units that are new, have changed or run, and of each sixth of the
//! others. A host without systemd is none of this source's business: it says so by
//! `node_scrape_collector_success` alone. Bounded: [`UNITS_MAX`] units, names of [`NAME_BYTES_MAX`],
//! [`PATIENCE`] a reading; what is left out is counted.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Deserializer};
use stoa_model::{Family, Labels};

use super::registry::{Configured, Shared};
use super::settings::Pattern;
use super::{Now, Problem, Reading, Roots, Source, label};

mod bus;
mod init;
mod names;
mod property;
mod unit;

use bus::{Bus, BusError, Status, Systemd};
use init::Init;
use names::{SHOWN, STATES};
use property::{Kind, Number};
use unit::{Clocks, Unit, Wanted};

/// How often systemd is asked.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a whole reading may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// By then a reading has given up by itself.
const DEADLINE: Duration = Duration::from_secs(6);
/// What rests is asked about in every so many readings.
const TURNS: u64 = 6;
/// Units told at most.
const UNITS_MAX: usize = 4096;
/// systemd's own limit is 255.
const NAME_BYTES_MAX: usize = 255;
/// States other than the five that are counted.
const OTHER_STATES: [&str; 3] = ["reloading", "maintenance", "refreshing"];

/// `state`: the five, then the others.
static STATE_LABELS: LazyLock<Vec<Labels>> = LazyLock::new(|| {
    STATES.iter().chain(&OTHER_STATES).map(|state| label("state", state)).collect()
});

/// A set of names for the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Names {
    /// `node_systemd_*`
    NodeExporter,
    /// `systemd_*`
    SystemdExporter,
}

/// A pattern that has to match the whole of a name.
#[derive(Clone, Debug)]
struct Whole(Pattern);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Pattern::deserialize(format!("^(?:{text})$").into_deserializer()).map(Self)
    }
}

/// `[sources.systemd]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// By which names units are told.
    names: Vec<Names>,
    /// Units to tell.
    unit_include: Whole,
    /// Units to leave out.
    unit_exclude: Whole,
    /// Whether to tell how many tasks services have and may have.
    enable_task_metrics: bool,
    /// Whether to tell how often services were restarted.
    enable_restarts_metrics: bool,
    /// Whether to tell when units became active.
    enable_start_time_metrics: bool,
    /// Whether to tell CPU time, memory and I/O by unit.
    enable_resource_metrics: bool,
    /// Whether to tell IP traffic by unit, of those whose `IPAccounting` is on.
    enable_ip_accounting: bool,
    /// Where the system bus is, as processes of the host see it.
    socket: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            names: vec![Names::NodeExporter],
            unit_include: Whole(Pattern::fixed("^(?:.+)$")),
            unit_exclude: Whole(Pattern::fixed(r"^(?:.+\.(automount|device|mount|scope|slice))$")),
            enable_task_metrics: false,
            enable_restarts_metrics: true,
            enable_start_time_metrics: false,
            enable_resource_metrics: false,
            enable_ip_accounting: false,
            socket: "/run/dbus/system_bus_socket".to_owned(),
        }
    }
}

impl Settings {
    fn is_node(&self) -> bool {
        self.names.contains(&Names::NodeExporter)
    }

    fn is_systemd(&self) -> bool {
        self.names.contains(&Names::SystemdExporter)
    }

    fn always(&self) -> bool {
        true
    }

    /// Which numbers have to be asked for.
    fn wanted(&self) -> Wanted {
        let mut wanted = [false; Number::ALL.len()];
        let shown =
            SHOWN.iter().filter(|shown| (shown.is_wanted)(self)).map(|shown| shown.number.asked());
        for number in shown.chain([Number::Accepts, Number::NextRealtime, Number::NextMonotonic]) {
            if let Some(place) = wanted.get_mut(number.place()) {
                *place = true;
            }
        }
        wanted
    }
}

/// The source `systemd`.
#[derive(Debug)]
pub(crate) struct Units {
    settings: Settings,
    bus: Bus,
    known: Known,
    /// Whether it ever answered: that it is not there is no news on a host without systemd.
    has_answered: bool,
}

/// What is known of systemd.
#[derive(Debug)]
struct Known {
    include: Pattern,
    exclude: Pattern,
    wanted: Wanted,
    is_systemd_exporter: bool,
    round: u64,
    units: BTreeMap<Box<str>, Unit>,
    /// Units by state, those that are not told too: the five states, then the others.
    counts: [u64; STATES.len() + OTHER_STATES.len()],
    left_out: u64,
    init: Init,
}

impl Configured for Units {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        let known = Known::new(&settings);
        Self { settings, bus: Bus::new(), known, has_answered: false }
    }
}

impl Units {
    /// What is wrong when systemd does not answer; that there is none is nothing wrong, unless there
    /// was one.
    fn problem(&self, socket: &Path, error: BusError) -> Problem {
        match error {
            BusError::Absent(error) if self.has_answered => {
                Problem::read(socket, io::Error::other(error))
            }
            BusError::Absent(error) | BusError::Failed(error) => Problem::read(socket, error),
        }
    }
}

impl Source for Units {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn read(&mut self, roots: &Roots, now: Now, reading: &mut Reading) {
        let socket = roots.on_host(&self.settings.socket);
        let known = &mut self.known;
        let asked = self.bus.ask(&socket, PATIENCE, async |systemd| known.ask(systemd, now).await);
        match asked {
            Ok(()) => {
                self.has_answered = true;
                self.known.tell(&self.settings, reading);
            }
            Err(error) => {
                self.known.lose(&error);
                reading.fail(self.problem(&socket, error));
            }
        }
    }
}

/// What systemd says: for fuzz targets and tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const TELLERS: [super::fuzzing::Teller; 1] = [tell_any];

/// Tells any lines of words as systemd's list of units, twice, by all names.
#[cfg(any(test, feature = "fuzzing"))]
fn tell_any(bytes: &[u8], _: Now, reading: &mut Reading) {
    let settings = Settings {
        names: vec![Names::NodeExporter, Names::SystemdExporter],
        enable_resource_metrics: true,
        ..Settings::default()
    };
    let (text, mut known) = (String::from_utf8_lossy(bytes), Known::new(&settings));
    for _ in 0..2 {
        known.round += 1;
        for line in text.lines() {
            let mut words = line.split('\t');
            let mut word = || words.next().unwrap_or_default();
            let (name, load, active) = (word(), word(), word());
            known.take(Status { name, load, active, sub: word(), path: word() });
        }
        let round = known.round;
        known.units.retain(|_, unit| unit.round == round);
    }
    assert!(known.units.len() <= UNITS_MAX);
    known.tell(&settings, reading);
}

impl Known {
    fn new(settings: &Settings) -> Self {
        Self {
            include: settings.unit_include.0.clone(),
            exclude: settings.unit_exclude.0.clone(),
            wanted: settings.wanted(),
            is_systemd_exporter: settings.is_systemd(),
            round: 0,
            units: BTreeMap::new(),
            counts: Default::default(),
            left_out: 0,
            init: Init::default(),
        }
    }

    /// systemd gave no answer. It may be another one when it answers again, and everything is asked
    /// anew then; but if there was only too much to ask, the next reading goes on where this one ended:
    /// from the beginning it would never come to the end.
    fn lose(&mut self, error: &BusError) {
        if error.is_lateness() {
            return;
        }
        self.units.values_mut().for_each(Unit::forget);
        self.init = Init::default();
    }

    async fn ask(&mut self, systemd: &Systemd, now: Now) -> Result<(), BusError> {
        self.round += 1;
        self.counts = Default::default();
        self.left_out = 0;
        systemd.units(|status| self.take(status)).await?;
        let round = self.round;
        self.units.retain(|_, unit| unit.round == round);
        let clocks = clocks(now);
        for (at, unit) in (round..).zip(self.units.values_mut()) {
            unit.ask(systemd, &self.wanted, at % TURNS == 0, clocks).await?;
        }
        self.init.ask(systemd, self.is_systemd_exporter).await
    }

    fn take(&mut self, status: Status<'_>) {
        let states = STATES.iter().chain(&OTHER_STATES);
        let counts = self.counts.iter_mut();
        if let Some((_, count)) = states.zip(counts).find(|(state, _)| **state == status.active) {
            *count += 1;
        }
        let is_told = status.load == "loaded"
            && self.include.matches(status.name)
            && !self.exclude.matches(status.name);
        if !is_told && status.active != "failed" {
            return;
        }
        let Some(kind) = Kind::of(status.name) else { return };
        let is_known = self.units.contains_key(status.name);
        if !is_known && (self.units.len() >= UNITS_MAX || status.name.len() > NAME_BYTES_MAX) {
            self.left_out += 1;
            return;
        }
        if !is_known {
            self.units.insert(status.name.into(), Unit::new(kind, status));
        }
        if let Some(unit) = self.units.get_mut(status.name) {
            unit.update(status, is_told);
            unit.round = self.round;
        }
    }

    fn tell(&mut self, settings: &Settings, reading: &mut Reading) {
        if settings.is_node() {
            self.tell_states(reading);
        }
        if settings.is_systemd() {
            self.tell_systemd_states(reading);
        }
        for shown in SHOWN.iter().filter(|shown| (shown.is_wanted)(settings)) {
            let family = reading.open(&shown.desc);
            for unit in
                self.units.values_mut().filter(|unit| unit.is_told && shown.is_of(unit.kind))
            {
                if let Some(value) = unit.told(shown.number) {
                    let labels =
                        if shown.has_type { unit.typed_labels() } else { unit.name_labels() };
                    family.push(labels, value);
                }
            }
        }
        let [failed, next] = reading.group([&names::FAILED, &names::NEXT_TRIGGER]) else { return };
        for unit in self.units.values_mut() {
            if unit.has_failed() {
                failed.push(unit.failed_labels(), 1.0);
            }
            if let Some(seconds) = unit.next_trigger().filter(|_| unit.is_told) {
                next.push(unit.name_labels(), seconds);
            }
        }
        reading.single(&names::LEFT_OUT, self.left_out as f64);
        self.init.tell(settings, reading);
    }

    fn tell_states(&mut self, reading: &mut Reading) {
        let counts = reading.open(&names::UNITS);
        for (place, (labels, count)) in STATE_LABELS.iter().zip(self.counts).enumerate() {
            if place < STATES.len() || count > 0 {
                counts.push(labels.clone(), count as f64);
            }
        }
        let family = reading.open(&names::UNIT_STATE);
        for unit in self.units.values_mut().filter(|unit| unit.is_told) {
            push_states(family, unit.state(), unit.node_states());
        }
    }

    fn tell_systemd_states(&mut self, reading: &mut Reading) {
        let [states, infos] = reading.group([&names::SD_UNIT_STATE, &names::SD_UNIT_INFO]) else {
            return;
        };
        for unit in self.units.values_mut().filter(|unit| unit.is_told) {
            push_states(states, unit.state(), unit.systemd_states());
            if let Some(labels) = unit.info_labels() {
                infos.push(labels, 1.0);
            }
        }
    }
}

fn push_states(family: &mut Family, state: Option<usize>, labels: &[Labels; 5]) {
    for (place, labels) in labels.iter().enumerate() {
        family.push(labels.clone(), f64::from(u8::from(state == Some(place))));
    }
}

/// Both clocks now. systemd tells some times by the one that stands while the host sleeps.
fn clocks(now: Now) -> Clocks {
    let monotonic = clock_gettime(ClockId::Monotonic);
    let monotonic = monotonic.tv_sec as f64 * 1e6 + monotonic.tv_nsec as f64 / 1e3;
    Clocks { realtime: now.unix_micros as f64, monotonic }
}

#[cfg(test)]
mod tests;
