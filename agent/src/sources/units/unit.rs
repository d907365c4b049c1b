//! One unit, as remembered from one reading to the next.
//!
//! A number is asked for when the unit is new, its state has changed or its turn has come, and
//! between only if it can change while the unit is as it is: what rests is not asked about.

use std::sync::{Arc, LazyLock};

use stoa_model::Labels;

use super::bus::{BusError, Status, Systemd, Told};
use super::names::STATES;
use super::property::{Changes, Kind, Number};

/// Interface of the properties all units have.
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// A timer's next run is told anew when it moves by more than this: what is counted from boot jitters
/// against the wall clock.
const JITTER_SECONDS: f64 = 1.0;

/// Which numbers are asked for, by their places.
pub(super) type Wanted = [bool; Number::ALL.len()];

/// Both clocks at one moment, microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) realtime: f64,
    pub(super) monotonic: f64,
}

/// A unit and what is known of it.
#[derive(Debug)]
pub(super) struct Unit {
    /// The reading in which systemd last listed it.
    pub(super) round: u64,
    /// Whether its state and numbers are told, not only that it has failed.
    pub(super) is_told: bool,
    pub(super) kind: Kind,
    name: Arc<str>,
    path: Box<str>,
    active: Box<str>,
    sub: Box<str>,
    /// Whether everything has to be asked anew.
    is_stale: bool,
    /// A service's or mount's type.
    subtype: Option<Box<str>>,
    result: Option<Box<str>>,
    numbers: [Option<f64>; Number::ALL.len()],
    next_trigger: Option<f64>,
    /// Made when first told.
    labels: Sets,
}

#[derive(Debug, Default)]
struct Sets {
    name: Option<Labels>,
    typed: Option<Labels>,
    node_states: Option<[Labels; 5]>,
    systemd_states: Option<[Labels; 5]>,
    info: Option<Labels>,
    failed: Option<Labels>,
}

impl Unit {
    pub(super) fn new(kind: Kind, status: Status<'_>) -> Self {
        Self {
            round: 0,
            is_told: false,
            kind,
            name: status.name.into(),
            path: status.path.into(),
            active: status.active.into(),
            sub: status.sub.into(),
            is_stale: true,
            subtype: None,
            result: None,
            numbers: [None; Number::ALL.len()],
            next_trigger: None,
            labels: Sets::default(),
        }
    }

    /// Takes in what systemd's list says now.
    pub(super) fn update(&mut self, status: Status<'_>, is_told: bool) {
        if is_told != self.is_told
            || *status.active != *self.active
            || *status.sub != *self.sub
            || *status.path != *self.path
        {
            self.is_told = is_told;
            self.active = status.active.into();
            self.sub = status.sub.into();
            self.path = status.path.into();
            self.is_stale = true;
        }
    }

    /// Everything is asked anew with the next reading.
    pub(super) fn forget(&mut self) {
        self.is_stale = true;
    }

    /// Asks what has to be asked; `is_due`: all of it.
    pub(super) async fn ask(
        &mut self,
        systemd: &Systemd,
        wanted: &Wanted,
        is_due: bool,
        clocks: Clocks,
    ) -> Result<(), BusError> {
        let everything = is_due || self.is_stale;
        if everything {
            self.ask_texts(systemd).await?;
        }
        if self.is_told {
            let is_running = self.is_running();
            let mut was_triggered = false;
            for number in Number::ALL {
                let is_wanted = wanted.get(number.place()).is_some_and(|wanted| *wanted);
                if !is_wanted || !number.is_of(self.kind) {
                    continue;
                }
                let property = number.property();
                let is_asked = match property.changes {
                    Changes::Running => {
                        everything
                            || (is_running && !(number.counts_connections() && self.takes_none()))
                    }
                    Changes::Rarely => everything,
                    Changes::Triggered => everything || was_triggered,
                };
                if !is_asked {
                    continue;
                }
                let value = if self.has(number) {
                    let interface = if property.is_of_all { UNIT } else { self.kind.interface() };
                    match systemd.property(&self.path, interface, property.name).await? {
                        Told::Number(value) => property.value(value),
                        Told::Text(_) | Told::Nothing => None,
                    }
                } else {
                    None
                };
                was_triggered |= number.triggers() && value != self.number(number);
                if let Some(place) = self.numbers.get_mut(number.place()) {
                    *place = value;
                }
            }
            self.set_next_trigger(clocks);
        }
        self.is_stale = false;
        Ok(())
    }

    async fn ask_texts(&mut self, systemd: &Systemd) -> Result<(), BusError> {
        let interface = self.kind.interface();
        if self.is_told && self.kind.has_type() {
            let subtype = text(systemd.property(&self.path, interface, "Type").await?);
            if subtype != self.subtype {
                self.subtype = subtype;
                self.labels = Sets::default();
            }
        }
        let result = if self.has_failed() && self.kind.has_result() {
            text(systemd.property(&self.path, interface, "Result").await?)
        } else {
            None
        };
        if result != self.result {
            self.result = result;
            self.labels.failed = None;
        }
        Ok(())
    }

    /// Whether asking for a number can give one, as the unit is now.
    fn has(&self, number: Number) -> bool {
        match number {
            Number::WatchdogPinged => self.number(Number::WatchdogSeconds).is_some(),
            Number::ExitStatus | Number::ExitedAt => self.subtype.as_deref() == Some("oneshot"),
            Number::NextRealtime | Number::NextMonotonic => &*self.active == "active",
            _ => true,
        }
    }

    /// Whether it does something, so that its numbers move.
    fn is_running(&self) -> bool {
        !matches!(&*self.active, "inactive" | "failed") && &*self.sub != "exited"
    }

    /// Whether a socket hands itself to one service instead of taking connections.
    fn takes_none(&self) -> bool {
        self.number(Number::Accepts) == Some(0.0)
    }

    pub(super) fn has_failed(&self) -> bool {
        &*self.active == "failed"
    }

    /// The place of its state in [`STATES`]; none of them: `None`.
    pub(super) fn state(&self) -> Option<usize> {
        STATES.iter().position(|state| **state == *self.active)
    }

    pub(super) fn number(&self, number: Number) -> Option<f64> {
        self.numbers.get(number.place()).copied().flatten()
    }

    /// Takes a number as if it had been asked.
    #[cfg(test)]
    pub(super) fn set(&mut self, number: Number, value: f64) {
        self.numbers[number.place()] = Some(value);
    }

    /// A number as it is told.
    pub(super) fn told(&self, number: Number) -> Option<f64> {
        match number {
            // As both exporters: 0 for what is not active.
            Number::ActiveSince if &*self.active != "active" => Some(0.0),
            Number::ExitStatus if self.number(Number::ExitedAt).is_none() => None,
            _ => self.number(number.asked()),
        }
    }

    /// When a timer runs next, seconds since the epoch.
    pub(super) fn next_trigger(&self) -> Option<f64> {
        self.next_trigger
    }

    fn set_next_trigger(&mut self, clocks: Clocks) {
        let realtime = self.number(Number::NextRealtime);
        let next = next_trigger(realtime, self.number(Number::NextMonotonic), clocks);
        let is_same = |(a, b): (f64, f64)| (a - b).abs() < JITTER_SECONDS;
        if !self.next_trigger.zip(next).is_some_and(is_same) {
            self.next_trigger = next;
        }
    }

    /// `name`
    pub(super) fn name_labels(&mut self) -> Labels {
        let make = || labels([(&WORDS.name, &self.name)]);
        self.labels.name.get_or_insert_with(make).clone()
    }

    /// `name`, and `type`: the unit's kind
    pub(super) fn typed_labels(&mut self) -> Labels {
        let make = || labels([(&WORDS.name, &self.name), (&WORDS.kind, &self.kind.name().into())]);
        self.labels.typed.get_or_insert_with(make).clone()
    }

    /// `name`, `state`, and `type`: the service's or mount's
    pub(super) fn node_states(&mut self) -> &[Labels; 5] {
        let subtype = || self.subtype.as_deref().unwrap_or_default().into();
        self.labels.node_states.get_or_insert_with(|| states(&self.name, &subtype()))
    }

    /// `name`, `state`, and `type`: the unit's kind
    pub(super) fn systemd_states(&mut self) -> &[Labels; 5] {
        let kind = self.kind.name();
        self.labels.systemd_states.get_or_insert_with(|| states(&self.name, &kind.into()))
    }

    /// `name`, `type`, and the service's or mount's type; `None` for other kinds.
    pub(super) fn info_labels(&mut self) -> Option<Labels> {
        let subtype: Arc<str> = self.subtype.as_deref()?.into();
        let own = if self.kind == Kind::Mount { "mount_type" } else { "service_type" };
        let kind = self.kind.name().into();
        let make =
            || labels([(&WORDS.name, &self.name), (&WORDS.kind, &kind), (&own.into(), &subtype)]);
        Some(self.labels.info.get_or_insert_with(make).clone())
    }

    /// `name`, `type`: the unit's kind, and `result`
    pub(super) fn failed_labels(&mut self) -> Labels {
        let result: Arc<str> = self.result.as_deref().unwrap_or_default().into();
        let kind = self.kind.name().into();
        let make = || {
            labels([(&WORDS.name, &self.name), (&WORDS.kind, &kind), (&"result".into(), &result)])
        };
        self.labels.failed.get_or_insert_with(make).clone()
    }
}

/// Texts that stand in every unit's labels, once.
static WORDS: LazyLock<Words> = LazyLock::new(|| Words {
    name: "name".into(),
    state: "state".into(),
    kind: "type".into(),
    states: STATES.map(Arc::from),
});

struct Words {
    name: Arc<str>,
    state: Arc<str>,
    kind: Arc<str>,
    states: [Arc<str>; 5],
}

fn states(name: &Arc<str>, kind: &Arc<str>) -> [Labels; 5] {
    let words = &*WORDS;
    words
        .states
        .each_ref()
        .map(|state| labels([(&words.name, name), (&words.state, state), (&words.kind, kind)]))
}

fn labels<const N: usize>(pairs: [(&Arc<str>, &Arc<str>); N]) -> Labels {
    Labels::from_pairs_last_wins(pairs.map(|(name, value)| (Arc::clone(name), Arc::clone(value))))
}

fn text(told: Told) -> Option<Box<str>> {
    match told {
        Told::Text(text) => Some(text),
        Told::Number(_) | Told::Nothing => None,
    }
}

/// The sooner of what a timer's calendar says and what its times since boot or an event say; seconds
/// since the epoch from seconds of either clock.
fn next_trigger(realtime: Option<f64>, monotonic: Option<f64>, clocks: Clocks) -> Option<f64> {
    let offset = (clocks.realtime - clocks.monotonic) / 1e6;
    let monotonic = monotonic.map(|seconds| seconds + offset);
    match (realtime, monotonic) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_runs_when_the_first_of_its_clocks_says_so() {
        let clocks = Clocks { realtime: 1_000_000e6, monotonic: 400e6 };
        for (realtime, monotonic, expected) in [
            (None, None, None),
            (Some(1_000_060.0), None, Some(1_000_060.0)),
            (None, Some(430.5), Some(1_000_030.5)),
            (Some(1_000_060.0), Some(430.0), Some(1_000_030.0)),
            (Some(1_000_020.0), Some(430.0), Some(1_000_020.0)),
            // Late already: it was to run before now.
            (None, Some(300.0), Some(999_900.0)),
        ] {
            assert_eq!(next_trigger(realtime, monotonic, clocks), expected);
        }
    }

    fn unit(active: &str, sub: &str) -> Unit {
        let status = Status { name: "a.service", load: "loaded", active, sub, path: "/a" };
        Unit::new(Kind::Service, status)
    }

    #[test]
    fn what_rests_is_not_running() {
        for (active, sub, expected) in [
            ("active", "running", true),
            ("activating", "auto-restart", true),
            ("reloading", "reload", true),
            ("active", "exited", false),
            ("inactive", "dead", false),
            ("failed", "failed", false),
        ] {
            assert_eq!(unit(active, sub).is_running(), expected, "{active} {sub}");
        }
    }

    #[test]
    fn an_unknown_state_is_none_of_the_five() {
        assert_eq!(unit("failed", "failed").state(), Some(4));
        assert_eq!(unit("maintenance", "x").state(), None);
    }

    #[test]
    fn a_changed_state_is_asked_about_and_an_unchanged_one_is_not() {
        let mut unit = unit("active", "running");
        unit.is_stale = false;
        unit.is_told = true;
        let status = Status {
            name: "a.service",
            load: "loaded",
            active: "active",
            sub: "running",
            path: "/a",
        };
        unit.update(status, true);
        assert!(!unit.is_stale);
        unit.update(Status { sub: "stop-sigterm", ..status }, true);
        assert!(unit.is_stale);
    }
}
