//! How far each leg of one agent is durable: what makes a frame that comes again harmless.
//!
//! Constraints: at most [`LEGS_MAX`] legs of an agent, the least recently advanced forgotten
//! first. Each has a slot, and each slot is a mark in the store, written in the record that holds
//! the data, so that after any crash both are there or neither is.
//!
//! Format: key `leg/HOST/` and the slot as one byte; value 37 bytes: epoch (16), stream (1), leg
//! number (4), sequence number (8), turn (8), all little endian. The turn counts the advances of
//! the agent, to tell which is least recent.

use stoa_model::HostId;
use stoa_proto::delivery::{Epoch, LEGS_REMEMBERED, Leg, Mark, Stream};
use stoa_tsdb::Mark as StoredMark;

/// Legs remembered of one agent, all streams together: a process has one for its samples, one for
/// what it dropped, and one more for each outage that ticks had to overtake. As many as a slot's byte
/// can tell apart; agents do not keep what they would have to send again for being forgotten here.
pub const LEGS_MAX: usize = LEGS_REMEMBERED;

/// The legs of one agent.
#[derive(Clone, Debug, Default)]
pub struct Legs {
    /// By slot.
    slots: Vec<Option<Advance>>,
    turn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Advance {
    mark: Mark,
    turn: u64,
}

impl Legs {
    /// The legs as the store remembers them: by its marks whose keys begin with [`key_prefix`].
    #[must_use]
    pub fn load(host: &HostId, marks: &[StoredMark]) -> Self {
        let prefix = key_prefix(host);
        let mut slots: Vec<Option<Advance>> = Vec::new();
        for mark in marks {
            let Some([slot]) = mark.key.strip_prefix(&prefix[..]) else { continue };
            let slot = usize::from(*slot);
            if slot >= LEGS_MAX {
                continue;
            }
            slots.resize(slots.len().max(slot + 1), None);
            if let Some(place) = slots.get_mut(slot) {
                *place = decode(&mark.value);
            }
        }
        let turn = slots.iter().flatten().map(|advance| advance.turn).max().unwrap_or(0);
        Self { slots, turn }
    }

    /// All of them.
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        self.slots.iter().flatten().map(|advance| advance.mark).collect()
    }

    /// How far a leg is durable; 0 when nothing is known of it.
    #[must_use]
    pub fn seq(&self, leg: Leg) -> u64 {
        let found = self.slots.iter().flatten().find(|advance| advance.mark.leg == leg);
        found.map_or(0, |advance| advance.mark.seq)
    }

    /// Advances a leg, and says what the store is to remember with it.
    pub fn advance(&mut self, host: &HostId, mark: Mark) -> StoredMark {
        self.turn += 1;
        let of_leg =
            |slot: &Option<Advance>| slot.is_some_and(|advance| advance.mark.leg == mark.leg);
        let slot = self.slots.iter().position(of_leg).unwrap_or_else(|| self.place());
        let advance = Advance { mark, turn: self.turn };
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(advance);
        }
        StoredMark { key: key(host, slot), value: encode(advance) }
    }

    /// A slot for one leg more: a free one while there are fewer than [`LEGS_MAX`], or that of the
    /// leg advanced least recently.
    fn place(&mut self) -> usize {
        let turns = self.slots.iter().map(|slot| slot.map_or(0, |advance| advance.turn));
        let least = turns.enumerate().min_by_key(|&(_, turn)| turn);
        match least {
            Some((slot, turn)) if turn == 0 || self.slots.len() >= LEGS_MAX => slot,
            _ => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        }
    }
}

/// What the keys of a host's marks begin with.
#[must_use]
pub fn key_prefix(host: &HostId) -> Vec<u8> {
    format!("leg/{host}/").into_bytes()
}

fn key(host: &HostId, slot: usize) -> Vec<u8> {
    let mut key = key_prefix(host);
    key.extend(u8::try_from(slot));
    key
}

fn encode(advance: Advance) -> Vec<u8> {
    let Advance { mark: Mark { leg, seq }, turn } = advance;
    let mut value = Vec::with_capacity(37);
    value.extend_from_slice(&leg.epoch.0);
    value.push(leg.stream as u8);
    value.extend_from_slice(&leg.number.to_le_bytes());
    value.extend_from_slice(&seq.to_le_bytes());
    value.extend_from_slice(&turn.to_le_bytes());
    value
}

fn decode(value: &[u8]) -> Option<Advance> {
    let (epoch, rest) = value.split_first_chunk::<16>()?;
    let (stream, rest) = rest.split_first()?;
    let stream = match stream {
        1 => Stream::Critical,
        2 => Stream::Metrics,
        3 => Stream::Logs,
        _ => return None,
    };
    let (number, rest) = rest.split_first_chunk()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let turn = u64::from_le_bytes(*rest.first_chunk()?);
    let leg = Leg { epoch: Epoch(*epoch), stream, number: u32::from_le_bytes(*number) };
    Some(Advance { mark: Mark { leg, seq: u64::from_le_bytes(*seq) }, turn })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn leg(number: u32) -> Leg {
        Leg { epoch: Epoch([7; 16]), stream: Stream::Metrics, number }
    }

    #[test]
    fn legs_come_back_from_the_store_and_the_least_recent_goes() {
        let host = HostId::parse("pve1").unwrap();
        let mut store = HashMap::new();
        let mut legs = Legs::default();
        let last = u32::try_from(LEGS_MAX).unwrap() + 5;
        for number in 0..=last {
            for (leg, seq) in [(leg(0), u64::from(number) + 1), (leg(number), 9)] {
                let mark = legs.advance(&host, Mark { leg, seq });
                store.insert(mark.key, mark.value);
            }
        }
        let marks = store.into_iter().map(|(key, value)| StoredMark { key, value });
        let again = Legs::load(&host, &marks.collect::<Vec<_>>());
        for legs in [&legs, &again] {
            assert_eq!(legs.marks().len(), LEGS_MAX);
            assert_eq!((legs.seq(leg(0)), legs.seq(leg(last))), (u64::from(last) + 1, 9));
            assert_eq!(legs.seq(leg(3)), 0, "the least recent is forgotten");
        }
        assert_eq!(legs.turn, again.turn);
    }
}
