//! Which hosts are there and which have fallen silent.
//!
//! A scrape that fails writes `up 0` and ends the target's series with stale markers; a host that
//! pushes cannot say that it is gone, so the collector says it. This is the pure part: it is told who
//! was heard when, and answers what is due. It never knows how series are stored. `steady_ms` is the
//! time since the collector began by a clock that nobody sets: setting the machine's clock makes no
//! silence and hides none.
//!
//! Bounds: one entry per enrolled host.

use std::collections::BTreeMap;

use stoa_model::{HostId, TimestampMs};

/// A host is silent after this many of its own intervals without a tick.
const INTERVALS_MISSED: i64 = 3;

/// The shortest silence that counts: a reconnect after a restart takes about two seconds, and an
/// `up 0` for that would be a false alarm.
const SILENCE_MIN_MS: i64 = 10_000;

/// How often a silent host is said to be down: as often as Prometheus scrapes by default.
const DOWN_EVERY_MS: i64 = 15_000;

/// A host whose ticks were refused because the collector's clock is in doubt is not judged for this
/// long after: it comes again within thirty seconds, and what it keeps must be stored then.
const REFUSED_MS: i64 = 60_000;

/// What is due for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Who.
    pub host: HostId,
    /// Whether it has just fallen silent: its series end now. Later reports only say `up 0` again.
    pub just_now: bool,
}

/// A host that is expected, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Who.
    pub host: HostId,
    /// The time of its last tick by its own clock; `None` before the first since the collector began.
    pub last_tick_ms: Option<TimestampMs>,
    /// Between its last two ticks; 0 when there were not as many.
    pub interval_ms: i64,
    /// Whether it has fallen silent.
    pub is_silent: bool,
}

#[derive(Debug)]
struct Entry {
    /// By the steady clock, as are the others but for the tick's.
    heard_ms: i64,
    /// Not judged before; 0 when it may be.
    excused_until_ms: i64,
    /// Between its last two ticks.
    interval_ms: i64,
    last_tick_ms: Option<TimestampMs>,
    /// When `up 0` was last said; `None` while it is not silent.
    down_said_ms: Option<i64>,
}

/// Who was heard when.
#[derive(Debug, Default)]
pub struct Presence {
    hosts: BTreeMap<HostId, Entry>,
}

impl Presence {
    /// Begins to expect a host: at start-up every enrolled one, later each that joins.
    pub fn expect(&mut self, host: HostId, steady_ms: i64) {
        self.hosts.entry(host).or_insert(Entry {
            heard_ms: steady_ms,
            excused_until_ms: 0,
            interval_ms: 0,
            last_tick_ms: None,
            down_said_ms: None,
        });
    }

    /// Stops expecting a host: it was revoked. Returns whether it was expected.
    pub fn forget(&mut self, host: &HostId) -> bool {
        self.hosts.remove(host).is_some()
    }

    /// A live tick of a host, of `tick_ms` by its own clock, was stored. Returns whether it had been
    /// silent until now.
    pub fn heard(&mut self, host: &HostId, tick_ms: TimestampMs, steady_ms: i64) -> bool {
        self.expect(host.clone(), steady_ms);
        let Some(entry) = self.hosts.get_mut(host) else { return false };
        entry.heard_ms = steady_ms;
        let was_excused = std::mem::take(&mut entry.excused_until_ms) > 0;
        // The time it was away is no interval of its own.
        if let Some(last) = entry.last_tick_ms
            && tick_ms > last
            && entry.down_said_ms.is_none()
            && !was_excused
        {
            entry.interval_ms = tick_ms - last;
        }
        entry.last_tick_ms = Some(tick_ms);
        entry.down_said_ms.take().is_some()
    }

    /// A tick of a host was refused because the collector's clock is in doubt: the host is there, and
    /// it is no fault of its that nothing is stored. Who was silent stays so until a tick is stored,
    /// but is not said down again meanwhile.
    pub fn refused(&mut self, host: &HostId, steady_ms: i64) {
        self.expect(host.clone(), steady_ms);
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.excused_until_ms = steady_ms.saturating_add(REFUSED_MS);
        }
    }

    /// Nobody was listened to until now: whoever had not fallen silent before has as much time as if
    /// just heard.
    pub fn resume(&mut self, steady_ms: i64) {
        for entry in self.hosts.values_mut().filter(|entry| entry.down_said_ms.is_none()) {
            entry.heard_ms = steady_ms;
        }
    }

    /// The hosts that are silent and for which something is due now.
    pub fn due(&mut self, steady_ms: i64) -> Vec<Silent> {
        let mut due = Vec::new();
        for (host, entry) in &mut self.hosts {
            let patience = SILENCE_MIN_MS.max(INTERVALS_MISSED * entry.interval_ms);
            if steady_ms - entry.heard_ms <= patience || steady_ms < entry.excused_until_ms {
                continue;
            }
            let just_now = entry.down_said_ms.is_none();
            if just_now || entry.down_said_ms.is_some_and(|said| steady_ms - said >= DOWN_EVERY_MS)
            {
                entry.down_said_ms = Some(steady_ms);
                due.push(Silent { host: host.clone(), just_now });
            }
        }
        due
    }

    /// Whether a host is expected and not silent.
    #[must_use]
    pub fn is_up(&self, host: &HostId) -> bool {
        self.hosts
            .get(host)
            .is_some_and(|entry| entry.last_tick_ms.is_some() && entry.down_said_ms.is_none())
    }

    /// Every host that is expected.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let each = self.hosts.iter().map(|(host, entry)| Standing {
            host: host.clone(),
            last_tick_ms: entry.last_tick_ms,
            interval_ms: entry.interval_ms,
            is_silent: entry.down_said_ms.is_some(),
        });
        each.collect()
    }

    /// How many hosts are expected, and how many of them are up.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let up = self.hosts.keys().filter(|host| self.is_up(host)).count();
        (self.hosts.len(), up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostId {
        HostId::parse(name).unwrap()
    }

    /// Between the steady clock and the sender's.
    const SENDER_MS: TimestampMs = 1_700_000_000_000;

    /// One word a second: `h`: a tick is heard, `r`: one is refused, `.`: nothing. Returns what is due each second:
    /// `!` just fell silent, `d` still down, `.` nothing.
    fn play(script: &str, seconds_per_word: i64) -> String {
        let mut presence = Presence::default();
        presence.expect(host("a"), 0);
        let mut said = String::new();
        for (i, word) in (0_i64..).zip(script.chars()) {
            let steady_ms = i * seconds_per_word * 1000;
            match word {
                'h' => {
                    presence.heard(&host("a"), SENDER_MS + steady_ms, steady_ms);
                }
                'r' => presence.refused(&host("a"), steady_ms),
                _ => {}
            }
            said.push(match presence.due(steady_ms).as_slice() {
                [] => '.',
                [Silent { just_now: true, .. }] => '!',
                _ => 'd',
            });
        }
        said
    }

    fn check(script: &str, seconds_per_word: i64, expected: &str) {
        assert_eq!(play(script, seconds_per_word), expected, "{script}");
    }

    #[test]
    fn a_host_is_silent_after_ten_seconds_and_said_down_every_fifteen() {
        check("hhh............................", 1, ".............!..............d..");
        check("hh..........hh...........", 1, "........................!");
        check("hh............h............", 1, "............!............!.");
    }

    #[test]
    fn a_slow_host_is_given_three_of_its_intervals() {
        check("hhh....", 15, "......!");
    }

    #[test]
    fn who_is_refused_for_the_clock_is_not_silent() {
        // Every five seconds a word: refused every thirty, then heard, then not at all.
        check("hr.....r.....r.....h......", 5, "......................!..d");
        // Refused once and never again.
        check("hr..............", 5, ".............!..");
        // Down already: not said again while it is refused.
        check("h...r............h...", 5, "...!............d...!");
        let mut presence = Presence::default();
        presence.refused(&host("a"), 0);
        assert_eq!(presence.counts(), (1, 0), "nothing of it is stored");
    }

    #[test]
    fn an_enrolled_host_that_never_spoke_is_down() {
        check("............", 1, "...........!");
    }

    #[test]
    fn time_nobody_listened_is_no_silence() {
        let mut presence = Presence::default();
        presence.heard(&host("a"), 0, 0);
        presence.expect(host("b"), 0);
        assert_eq!(presence.due(11_000).len(), 2);
        presence.heard(&host("a"), 12_000, 12_000);
        presence.resume(60_000);
        let due = |presence: &mut Presence, now_ms| -> Vec<String> {
            presence.due(now_ms).iter().map(|silent| silent.host.to_string()).collect()
        };
        assert_eq!(due(&mut presence, 60_000), ["b"], "b is still down");
        assert_eq!(due(&mut presence, 70_001), ["a"]);
    }

    #[test]
    fn a_revoked_host_is_not_said_down() {
        let mut presence = Presence::default();
        presence.heard(&host("a"), 0, 0);
        assert!(presence.forget(&host("a")) && !presence.forget(&host("a")));
        assert_eq!((presence.due(60_000), presence.counts()), (Vec::new(), (0, 0)));
    }
}
