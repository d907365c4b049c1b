//! What time senders say it is, beside what the collector's own clock says.
//!
//! Every Hello and every Ping carries its sender's clock. It is kept as its distance from a steady
//! clock, the milliseconds since the collector began, which nobody sets: so a collector's clock that
//! is set or leaps shows at once, before anybody speaks again.
//!
//! Who is believed
//! - A sample too far ahead of the collector's clock is its sender's fault, and quarantined, unless
//!   the sender's clock is itself ahead and more than half of all senders, two at least, are ahead as
//!   well: then the collector's clock is behind. Its call is refused and the sender keeps what it has.
//! - In the first [`SETTLING_MS`] not everybody has spoken. Whose clock is ahead is refused, and
//!   judged after.
//! - While more than half of the senders, two at least, say that the collector's clock is far off, it
//!   writes nothing of its own. Ahead, that would move the end of what is stored, and what agents send
//!   after would be too old; behind, hosts whose frames are refused would be said down, amid what they
//!   sent before. Senders that have fallen silent are believed for another [`ALONE_MS`]. When none has
//!   spoken since the start although there are hosts, nothing is written for [`SETTLING_MS`].
//! - One sender alone may be the one that is wrong. It holds the collector back too while others may
//!   still come, in the first [`SETTLING_MS`], and where it is the only host; no longer than
//!   [`ALONE_MS`] since it began, however long it speaks on.
//!
//! Bounds: one entry per host heard within [`RECENT_MS`] before the last that was heard.

use std::collections::HashMap;

use stoa_model::{HostId, TimestampMs};

use super::session::FUTURE_MAX_MS;

/// Senders heard within this before the last of them have a say, milliseconds: a Ping comes every
/// five seconds, and who is refused comes again within thirty.
const RECENT_MS: i64 = 60_000;

/// How long after its start the collector waits for senders before it judges, milliseconds. Who
/// found nobody dials again within a second, and who was let in for nothing within thirty. Those that
/// were fenced (60 s) or refused (4 to 6 min) may come later, and have no say until then
/// (docs/decisions/0006).
pub const SETTLING_MS: i64 = 60_000;

/// How long senders that all fell silent, or one alone that speaks on, are believed about the
/// collector's clock, milliseconds: hosts may all be restarting.
pub const ALONE_MS: i64 = 3_600_000;

/// A sender's clock is ahead from here, milliseconds: less than what is quarantined, because what it
/// says comes later than it says it.
const AHEAD_MS: i64 = FUTURE_MAX_MS - 60_000;

/// The two clocks of the collector, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What its clock says.
    pub now_ms: TimestampMs,
    /// Milliseconds since it began, by a clock that is never set.
    pub steady_ms: i64,
}

/// Whose clock is wrong when a sample is too far ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Odd {
    /// The sender's: the sample is quarantined.
    #[default]
    Sender,
    /// The collector's: the sender is to keep the sample.
    Collector,
    /// Too early to say: the sender is to keep the sample.
    Unknown,
}

/// What most senders say of the collector's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing against it.
    Fine,
    /// It is behind by more than is stored.
    Behind,
    /// It is ahead by more than is stored.
    Ahead,
}

#[derive(Debug)]
struct Said {
    /// The sender's clock less the steady one.
    lead_ms: i64,
    /// When, by the steady clock.
    heard_ms: i64,
}

/// What senders say the time is.
#[derive(Debug, Default)]
pub struct Clocks {
    hosts: HashMap<HostId, Said>,
    /// When any of them was last heard, by the steady clock.
    heard_ms: Option<i64>,
    /// Since when one sender alone holds the collector back, by the steady clock.
    alone_since_ms: Option<i64>,
}

impl Clocks {
    /// A sender says what time it is; 0 and less is how one says that it does not know.
    pub fn heard(&mut self, host: &HostId, said_ms: TimestampMs, steady_ms: i64) {
        if said_ms <= 0 {
            return;
        }
        let said = Said { lead_ms: said_ms.saturating_sub(steady_ms), heard_ms: steady_ms };
        self.hosts.insert(host.clone(), said);
        self.heard_ms = Some(steady_ms);
        self.hosts.retain(|_, said| steady_ms.saturating_sub(said.heard_ms) <= RECENT_MS);
    }

    /// Whose clock is wrong when this host sends a sample that is too far ahead.
    #[must_use]
    pub fn odd(&self, host: &HostId, at: Moment) -> Odd {
        if !self.hosts.get(host).is_some_and(|said| said.is_ahead(at)) {
            return Odd::Sender;
        }
        match self.standing(at) {
            Standing::Behind => Odd::Collector,
            _ if at.steady_ms < SETTLING_MS => Odd::Unknown,
            _ => Odd::Sender,
        }
    }

    /// What most senders say of the collector's clock.
    #[must_use]
    pub fn standing(&self, at: Moment) -> Standing {
        let most = |count: usize| 2 * count > self.hosts.len();
        let ahead = self.hosts.values().filter(|said| said.is_ahead(at)).count();
        let behind = self.hosts.values().filter(|said| said.is_behind(at)).count();
        if ahead >= 2 && most(ahead) {
            Standing::Behind
        } else if behind >= 2 && most(behind) {
            Standing::Ahead
        } else {
            Standing::Fine
        }
    }

    /// Whether the collector may write samples of its own as of now; `expected` says how many hosts
    /// may speak. To be asked again and again: how long one sender alone is believed counts from when
    /// it was first found here to disagree.
    #[must_use]
    pub fn vouch(&mut self, at: Moment, expected: usize) -> bool {
        let Some(heard_ms) = self.heard_ms else {
            return expected == 0 || at.steady_ms >= SETTLING_MS;
        };
        let since_ms = if self.standing(at) != Standing::Fine {
            self.alone_since_ms = None;
            heard_ms
        } else if self.one_disagrees(at) && (expected <= 1 || at.steady_ms < SETTLING_MS) {
            *self.alone_since_ms.get_or_insert(at.steady_ms)
        } else {
            self.alone_since_ms = None;
            return true;
        };
        at.steady_ms.saturating_sub(since_ms) >= ALONE_MS
    }

    /// Whether a single sender has been heard lately, and the collector's clock is far from its.
    fn one_disagrees(&self, at: Moment) -> bool {
        let far = |said: &Said| said.is_ahead(at) || said.is_behind(at);
        self.hosts.len() == 1 && self.hosts.values().all(far)
    }
}

impl Said {
    fn is_ahead(&self, at: Moment) -> bool {
        self.ahead_ms(at) > AHEAD_MS
    }

    fn is_behind(&self, at: Moment) -> bool {
        self.ahead_ms(at) < -FUTURE_MAX_MS
    }

    /// How far the sender's clock is ahead of the collector's.
    fn ahead_ms(&self, at: Moment) -> i64 {
        self.lead_ms.saturating_add(at.steady_ms).saturating_sub(at.now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = 1_700_000_000_000;
    const DAY_MS: i64 = 86_400_000;
    /// Long after the start.
    const LATER: i64 = 10 * SETTLING_MS;

    fn host(number: usize) -> HostId {
        HostId::parse(&format!("h{number}")).unwrap()
    }

    fn at(now_ms: TimestampMs, steady_ms: i64) -> Moment {
        Moment { now_ms, steady_ms }
    }

    /// Hosts whose clocks are so far from `NOW`, milliseconds, all heard at once.
    fn clocks(skews_ms: &[i64], steady_ms: i64) -> Clocks {
        let mut clocks = Clocks::default();
        for (number, skew_ms) in skews_ms.iter().enumerate() {
            clocks.heard(&host(number), NOW.saturating_add(*skew_ms), steady_ms);
        }
        clocks
    }

    #[test]
    fn the_minority_is_odd_and_the_collector_alone_against_most() {
        let check = |skews_ms: &[i64], expected: Odd| {
            let clocks = clocks(skews_ms, LATER);
            assert_eq!(clocks.odd(&host(0), at(NOW, LATER)), expected, "{skews_ms:?}");
        };
        let far = FUTURE_MAX_MS + 1;
        check(&[], Odd::Sender);
        check(&[far], Odd::Sender);
        check(&[far, 0], Odd::Sender);
        check(&[far, far], Odd::Collector);
        check(&[DAY_MS, far], Odd::Collector);
        check(&[far, far, 0], Odd::Collector);
        check(&[far, far, 0, 0], Odd::Sender);
        check(&[far, far, far, -DAY_MS], Odd::Collector);
        // Its clock is right, its sample was not; whatever the others say.
        check(&[0, far, far], Odd::Sender);
        check(&[AHEAD_MS, far, far], Odd::Sender);
        check(&[i64::MAX, i64::MAX], Odd::Collector);
    }

    #[test]
    fn nobody_is_condemned_in_the_first_minute() {
        let check = |skews_ms: &[i64], steady_ms: i64, expected: Odd| {
            let clocks = clocks(skews_ms, 0);
            assert_eq!(clocks.odd(&host(0), at(NOW + steady_ms, steady_ms)), expected);
        };
        check(&[DAY_MS], 0, Odd::Unknown);
        check(&[DAY_MS, 0], SETTLING_MS - 1, Odd::Unknown);
        check(&[DAY_MS, DAY_MS], 0, Odd::Collector);
        check(&[DAY_MS], SETTLING_MS, Odd::Sender);
        // Its own clock says that the sample cannot be.
        check(&[0], 0, Odd::Sender);
    }

    #[test]
    fn who_has_not_been_heard_lately_has_no_say() {
        let mut clocks = clocks(&[DAY_MS, DAY_MS], LATER);
        clocks.heard(&host(0), NOW + DAY_MS, LATER + RECENT_MS);
        assert_eq!(clocks.standing(at(NOW, LATER + RECENT_MS)), Standing::Behind);
        clocks.heard(&host(0), NOW + DAY_MS, LATER + RECENT_MS + 1);
        assert_eq!(clocks.standing(at(NOW, LATER + RECENT_MS + 1)), Standing::Fine);
        assert_eq!(clocks.hosts.len(), 1);
        clocks.heard(&host(5), 0, LATER);
        assert_eq!(clocks.hosts.len(), 1, "who does not say what time it is");
    }

    #[test]
    fn a_leap_shows_before_anybody_speaks_again() {
        let mut clocks = clocks(&[0, 10, -10], LATER);
        for (leap_ms, expected) in [
            (0, Standing::Fine),
            (FUTURE_MAX_MS - 100, Standing::Fine),
            (FUTURE_MAX_MS + 100, Standing::Ahead),
            (DAY_MS, Standing::Ahead),
            (-DAY_MS, Standing::Behind),
        ] {
            let at = at(NOW + 3000 + leap_ms, LATER + 3000);
            assert_eq!(clocks.standing(at), expected, "{leap_ms}");
            assert_eq!(clocks.vouch(at, 3), expected == Standing::Fine, "{leap_ms}");
        }
    }

    #[test]
    fn one_odd_sender_neither_vouches_nor_holds() {
        let mut ahead = clocks(&[DAY_MS, 0, 0], LATER);
        assert!(!ahead.vouch(at(NOW + DAY_MS, LATER), 3), "two of three say no");
        assert!(!ahead.vouch(at(NOW - DAY_MS, LATER), 3), "all say no");
        for skews_ms in [&[-DAY_MS, 0, 0] as &[i64], &[DAY_MS, 0, 0], &[-DAY_MS, 0], &[DAY_MS, 0]] {
            assert!(clocks(skews_ms, LATER).vouch(at(NOW, LATER), skews_ms.len()), "{skews_ms:?}");
        }
    }

    #[test]
    fn the_last_that_talks_does_not_hold_where_others_are_expected() {
        for skew_ms in [-DAY_MS, DAY_MS] {
            let mut clocks = clocks(&[skew_ms, 0, 0], LATER);
            for minute in 1..120 {
                let passed_ms = minute * 60_000;
                clocks.heard(&host(0), NOW + skew_ms + passed_ms, LATER + passed_ms);
                let at = at(NOW + passed_ms, LATER + passed_ms);
                assert_eq!(clocks.standing(at), Standing::Fine);
                assert!(clocks.vouch(at, 3), "{skew_ms} {minute}");
            }
        }
    }

    #[test]
    fn the_only_host_holds_for_a_while_and_speaks_on() {
        for skew_ms in [-DAY_MS, DAY_MS] {
            let mut clocks = Clocks::default();
            let mut say = |passed_ms: i64, skew_ms: i64| {
                clocks.heard(&host(0), NOW + skew_ms + passed_ms, passed_ms);
                clocks.vouch(at(NOW + passed_ms, passed_ms), 1)
            };
            assert!(say(0, 0));
            for passed_ms in (60_000..60_000 + ALONE_MS).step_by(60_000) {
                assert!(!say(passed_ms, skew_ms), "{skew_ms} {passed_ms}");
            }
            for passed_ms in (60_000 + ALONE_MS..3 * ALONE_MS).step_by(60_000) {
                assert!(say(passed_ms, skew_ms), "{skew_ms} {passed_ms}");
            }
            // It was set right, and is wrong once more.
            assert!(say(3 * ALONE_MS, 0));
            assert!(!say(3 * ALONE_MS + 1, skew_ms));
        }
    }

    #[test]
    fn the_first_that_speaks_after_a_start_holds_until_others_may_have_come() {
        let mut clocks = clocks(&[-DAY_MS], 1000);
        assert!(!clocks.vouch(at(NOW, 1000), 3));
        assert!(!clocks.vouch(at(NOW, SETTLING_MS - 1), 3));
        assert!(clocks.vouch(at(NOW, SETTLING_MS), 3));
    }

    #[test]
    fn silence_holds_the_collector_back_for_a_while_only() {
        let mut nobody = Clocks::default();
        assert!(nobody.vouch(at(NOW, 0), 0), "there is nobody to wait for");
        assert!(!nobody.vouch(at(NOW, SETTLING_MS - 1), 1));
        assert!(nobody.vouch(at(NOW, SETTLING_MS), 1));
        let mut silent = clocks(&[0, 0], LATER);
        assert!(silent.vouch(at(NOW + 1_800_000, LATER + 1_800_000), 2), "no leap");
        for leap_ms in [DAY_MS, -DAY_MS] {
            assert!(!silent.vouch(at(NOW + leap_ms, LATER + ALONE_MS - 1), 2));
            assert!(silent.vouch(at(NOW + leap_ms, LATER + ALONE_MS), 2));
        }
    }
}
