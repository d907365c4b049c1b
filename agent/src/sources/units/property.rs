//! The numbers systemd has of a unit: what they are called on the bus, of which kinds of units, and
//! when asking again can give something else.

/// A unit's kind: the ending of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Service,
    Socket,
    Timer,
    Mount,
    Swap,
    Slice,
    Scope,
    Path,
    Automount,
    Target,
    Device,
}

impl Kind {
    /// The kind of the unit called `name`, if there is one.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        Some(match ending {
            "service" => Self::Service,
            "socket" => Self::Socket,
            "timer" => Self::Timer,
            "mount" => Self::Mount,
            "swap" => Self::Swap,
            "slice" => Self::Slice,
            "scope" => Self::Scope,
            "path" => Self::Path,
            "automount" => Self::Automount,
            "target" => Self::Target,
            "device" => Self::Device,
            _ => return None,
        })
    }

    /// As in a unit's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Socket => "socket",
            Self::Timer => "timer",
            Self::Mount => "mount",
            Self::Swap => "swap",
            Self::Slice => "slice",
            Self::Scope => "scope",
            Self::Path => "path",
            Self::Automount => "automount",
            Self::Target => "target",
            Self::Device => "device",
        }
    }

    /// The interface of this kind's own properties.
    pub(super) fn interface(self) -> &'static str {
        match self {
            Self::Service => "org.freedesktop.systemd1.Service",
            Self::Socket => "org.freedesktop.systemd1.Socket",
            Self::Timer => "org.freedesktop.systemd1.Timer",
            Self::Mount => "org.freedesktop.systemd1.Mount",
            Self::Swap => "org.freedesktop.systemd1.Swap",
            Self::Slice => "org.freedesktop.systemd1.Slice",
            Self::Scope => "org.freedesktop.systemd1.Scope",
            Self::Path => "org.freedesktop.systemd1.Path",
            Self::Automount => "org.freedesktop.systemd1.Automount",
            Self::Target => "org.freedesktop.systemd1.Target",
            Self::Device => "org.freedesktop.systemd1.Device",
        }
    }

    /// Whether the kind has a `Type`: how a service starts, a mount's file system.
    pub(super) fn has_type(self) -> bool {
        matches!(self, Self::Service | Self::Mount)
    }

    /// Whether the kind has a `Result`: why it failed.
    pub(super) fn has_result(self) -> bool {
        !matches!(self, Self::Slice | Self::Target | Self::Device)
    }
}

/// A number of a unit, by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    ActiveEntered,
    ActiveLeft,
    InactiveEntered,
    InactiveLeft,
    Restarts,
    TasksCurrent,
    TasksMax,
    WatchdogSeconds,
    WatchdogPinged,
    ExitStatus,
    ExitedAt,
    LastTrigger,
    NextRealtime,
    NextMonotonic,
    Accepts,
    Accepted,
    Connections,
    Refused,
    Cpu,
    Memory,
    ReadBytes,
    WrittenBytes,
    Reads,
    Writes,
    IngressBytes,
    EgressBytes,
    IngressPackets,
    EgressPackets,
    /// Not asked: [`Self::ActiveEntered`] of what is active.
    ActiveSince,
}

/// When asking again can give something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changes {
    /// While the unit runs.
    Running,
    /// When the unit's state has changed, or its files.
    Rarely,
    /// When a timer was triggered, or the unit became active anew.
    Triggered,
}

/// How a number is asked for.
#[derive(Debug)]
pub(super) struct Property {
    /// Its name on the bus.
    pub(super) name: &'static str,
    /// Whether all units have it, not just some kinds.
    pub(super) is_of_all: bool,
    /// What the bus's number is divided by.
    pub(super) divisor: f64,
    /// When to ask again.
    pub(super) changes: Changes,
    /// Whether 0 says that there is nothing.
    pub(super) zero_is_nothing: bool,
}

const MICROS: f64 = 1e6;
const NANOS: f64 = 1e9;

impl Number {
    /// All that are asked, in that order.
    pub(super) const ALL: [Self; 28] = [
        Self::ActiveEntered,
        Self::ActiveLeft,
        Self::InactiveEntered,
        Self::InactiveLeft,
        Self::Restarts,
        Self::TasksCurrent,
        Self::TasksMax,
        Self::WatchdogSeconds,
        Self::WatchdogPinged,
        Self::ExitStatus,
        Self::ExitedAt,
        Self::LastTrigger,
        Self::NextRealtime,
        Self::NextMonotonic,
        Self::Accepts,
        Self::Accepted,
        Self::Connections,
        Self::Refused,
        Self::Cpu,
        Self::Memory,
        Self::ReadBytes,
        Self::WrittenBytes,
        Self::Reads,
        Self::Writes,
        Self::IngressBytes,
        Self::EgressBytes,
        Self::IngressPackets,
        Self::EgressPackets,
    ];

    /// How it is asked for.
    pub(super) const fn property(self) -> Property {
        use Changes::{Rarely, Running, Triggered};
        match self {
            Self::ActiveEntered | Self::ActiveSince => {
                Property::new("ActiveEnterTimestamp", Running, MICROS).of_all()
            }
            Self::ActiveLeft => Property::new("ActiveExitTimestamp", Triggered, MICROS).of_all(),
            Self::InactiveEntered => {
                Property::new("InactiveEnterTimestamp", Triggered, MICROS).of_all()
            }
            Self::InactiveLeft => {
                Property::new("InactiveExitTimestamp", Triggered, MICROS).of_all()
            }
            Self::Restarts => Property::new("NRestarts", Running, 1.0),
            Self::TasksCurrent => Property::new("TasksCurrent", Running, 1.0),
            Self::TasksMax => Property::new("TasksMax", Rarely, 1.0),
            Self::WatchdogSeconds => Property::new("WatchdogUSec", Rarely, MICROS).or_nothing(),
            Self::WatchdogPinged => {
                Property::new("WatchdogTimestamp", Running, MICROS).or_nothing()
            }
            Self::ExitStatus => Property::new("ExecMainStatus", Rarely, 1.0),
            Self::ExitedAt => Property::new("ExecMainExitTimestamp", Rarely, MICROS).or_nothing(),
            Self::LastTrigger => Property::new("LastTriggerUSec", Running, MICROS),
            Self::NextRealtime => {
                Property::new("NextElapseUSecRealtime", Triggered, MICROS).or_nothing()
            }
            Self::NextMonotonic => {
                Property::new("NextElapseUSecMonotonic", Triggered, MICROS).or_nothing()
            }
            Self::Accepts => Property::new("Accept", Rarely, 1.0),
            Self::Accepted => Property::new("NAccepted", Running, 1.0),
            Self::Connections => Property::new("NConnections", Running, 1.0),
            Self::Refused => Property::new("NRefused", Running, 1.0),
            Self::Cpu => Property::new("CPUUsageNSec", Running, NANOS),
            Self::Memory => Property::new("MemoryCurrent", Running, 1.0),
            Self::ReadBytes => Property::new("IOReadBytes", Running, 1.0),
            Self::WrittenBytes => Property::new("IOWriteBytes", Running, 1.0),
            Self::Reads => Property::new("IOReadOperations", Running, 1.0),
            Self::Writes => Property::new("IOWriteOperations", Running, 1.0),
            Self::IngressBytes => Property::new("IPIngressBytes", Running, 1.0),
            Self::EgressBytes => Property::new("IPEgressBytes", Running, 1.0),
            Self::IngressPackets => Property::new("IPIngressPackets", Running, 1.0),
            Self::EgressPackets => Property::new("IPEgressPackets", Running, 1.0),
        }
    }

    /// Whether units of a kind have it.
    pub(super) const fn is_of(self, kind: Kind) -> bool {
        match self {
            Self::ActiveEntered
            | Self::ActiveLeft
            | Self::InactiveEntered
            | Self::InactiveLeft
            | Self::ActiveSince => true,
            Self::Restarts
            | Self::WatchdogSeconds
            | Self::WatchdogPinged
            | Self::ExitStatus
            | Self::ExitedAt => matches!(kind, Kind::Service),
            Self::LastTrigger | Self::NextRealtime | Self::NextMonotonic => {
                matches!(kind, Kind::Timer)
            }
            Self::Accepts | Self::Accepted | Self::Connections | Self::Refused => {
                matches!(kind, Kind::Socket)
            }
            // Whatever has a control group of its own.
            _ => matches!(
                kind,
                Kind::Service | Kind::Socket | Kind::Mount | Kind::Swap | Kind::Slice | Kind::Scope
            ),
        }
    }

    /// Whether it counts what a socket that takes connections by itself took.
    pub(super) const fn counts_connections(self) -> bool {
        matches!(self, Self::Accepted | Self::Connections | Self::Refused)
    }

    /// The number that is asked for it.
    pub(super) const fn asked(self) -> Self {
        match self {
            Self::ActiveSince => Self::ActiveEntered,
            other => other,
        }
    }

    /// Whether another value of it says that what [`Changes::Triggered`] is another too.
    pub(super) const fn triggers(self) -> bool {
        matches!(self, Self::ActiveEntered | Self::LastTrigger)
    }

    /// Where its value stands among a unit's numbers.
    pub(super) const fn place(self) -> usize {
        self as usize
    }
}

impl Property {
    const fn new(name: &'static str, changes: Changes, divisor: f64) -> Self {
        Self { name, is_of_all: false, divisor, changes, zero_is_nothing: false }
    }

    const fn of_all(self) -> Self {
        Self { is_of_all: true, ..self }
    }

    const fn or_nothing(self) -> Self {
        Self { zero_is_nothing: true, ..self }
    }

    /// What a number on the bus says; `None`: nothing.
    pub(super) fn value(&self, number: f64) -> Option<f64> {
        (number != 0.0 || !self.zero_is_nothing).then_some(number / self.divisor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_stands_where_it_is_looked_for() {
        for (place, number) in Number::ALL.into_iter().enumerate() {
            assert_eq!(number.place(), place, "{number:?}");
        }
    }

    #[test]
    fn a_kind_is_the_ending_of_a_name() {
        assert_eq!(Kind::of("getty@tty1.service"), Some(Kind::Service));
        assert_eq!(Kind::of("a.b.timer").map(Kind::name), Some("timer"));
        for none in ["", "service", ".", "x.", "x.Service", "x.services"] {
            assert_eq!(Kind::of(none), None, "{none}");
        }
    }

    #[test]
    fn nothing_is_not_zero() {
        assert_eq!(Number::WatchdogSeconds.property().value(0.0), None);
        assert_eq!(Number::WatchdogSeconds.property().value(3e6), Some(3.0));
        assert_eq!(Number::LastTrigger.property().value(0.0), Some(0.0));
        assert_eq!(Number::Cpu.property().value(0.0), Some(0.0));
    }
}
