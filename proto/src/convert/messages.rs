//! Messages as generated become messages as meant, and back.

use crate::delivery::{DropReason, DropRecord, Epoch, Leg, Loss, Mark, SEQ_END, Stream};
use crate::message::{Data, Digest, Hello, Push, PushReply, Welcome};
use crate::v1;

/// Drop records in one message, at most.
const RECORDS_MAX: usize = 1024;

/// Why a message means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("message without a valid {field}")]
pub struct ConvertError {
    /// Which part is missing or malformed.
    pub field: &'static str,
}

pub(super) fn without(field: &'static str) -> ConvertError {
    ConvertError { field }
}

fn seq_of(seq: u64) -> Result<u64, ConvertError> {
    if seq < SEQ_END { Ok(seq) } else { Err(without("sequence number (below 2^63)")) }
}

/// The end of a range, which may be open.
fn seq_last_of(seq: u64) -> Result<u64, ConvertError> {
    if seq == u64::MAX { Ok(seq) } else { seq_of(seq) }
}

fn epoch_of(bytes: &[u8]) -> Result<Epoch, ConvertError> {
    bytes.try_into().map(Epoch).map_err(|_length| without("epoch"))
}

fn stream_of(code: i32) -> Result<Stream, ConvertError> {
    match v1::Stream::try_from(code) {
        Ok(v1::Stream::Critical) => Ok(Stream::Critical),
        Ok(v1::Stream::Metrics) => Ok(Stream::Metrics),
        Ok(v1::Stream::Logs) => Ok(Stream::Logs),
        Ok(v1::Stream::Unspecified) | Err(_) => Err(without("stream")),
    }
}

fn stream_code(stream: Stream) -> i32 {
    match stream {
        Stream::Critical => v1::Stream::Critical.into(),
        Stream::Metrics => v1::Stream::Metrics.into(),
        Stream::Logs => v1::Stream::Logs.into(),
    }
}

fn reason_of(code: i32) -> Option<DropReason> {
    Some(match v1::DropReason::try_from(code).ok()? {
        v1::DropReason::Unspecified => return None,
        v1::DropReason::SpoolThinned => DropReason::SpoolThinned,
        v1::DropReason::SpoolBytes => DropReason::SpoolBytes,
        v1::DropReason::SpoolAge => DropReason::SpoolAge,
        v1::DropReason::SpoolFailed => DropReason::SpoolFailed,
        v1::DropReason::SpoolDamaged => DropReason::SpoolDamaged,
        v1::DropReason::Unreadable => DropReason::Unreadable,
        v1::DropReason::Limit => DropReason::Limit,
        v1::DropReason::Quarantined => DropReason::Quarantined,
        v1::DropReason::Refused => DropReason::Refused,
        v1::DropReason::Crashed => DropReason::Crashed,
    })
}

fn reason_code(reason: DropReason) -> i32 {
    match reason {
        DropReason::SpoolThinned => v1::DropReason::SpoolThinned,
        DropReason::SpoolBytes => v1::DropReason::SpoolBytes,
        DropReason::SpoolAge => v1::DropReason::SpoolAge,
        DropReason::SpoolFailed => v1::DropReason::SpoolFailed,
        DropReason::SpoolDamaged => v1::DropReason::SpoolDamaged,
        DropReason::Unreadable => v1::DropReason::Unreadable,
        DropReason::Limit => v1::DropReason::Limit,
        DropReason::Quarantined => v1::DropReason::Quarantined,
        DropReason::Refused => v1::DropReason::Refused,
        DropReason::Crashed => v1::DropReason::Crashed,
    }
    .into()
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            wire_version: hello.wire_version,
            agent_version: hello.agent_version,
            boot_id: hello.boot_id.into(),
            epoch: hello.epoch.0.to_vec().into(),
            now_ms: hello.now_ms,
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = ConvertError;

    fn try_from(hello: v1::Hello) -> Result<Self, ConvertError> {
        if hello.boot_id.len() > 16 {
            return Err(without("boot id"));
        }
        Ok(Self {
            wire_version: hello.wire_version,
            agent_version: hello.agent_version.chars().take(64).collect(),
            boot_id: hello.boot_id.to_vec(),
            epoch: epoch_of(&hello.epoch)?,
            now_ms: hello.now_ms,
        })
    }
}

impl From<Mark> for v1::Mark {
    fn from(mark: Mark) -> Self {
        Self {
            epoch: mark.leg.epoch.0.to_vec().into(),
            stream: stream_code(mark.leg.stream),
            leg: mark.leg.number,
            seq: mark.seq,
        }
    }
}

impl TryFrom<v1::Mark> for Mark {
    type Error = ConvertError;

    fn try_from(mark: v1::Mark) -> Result<Self, ConvertError> {
        Ok(Self {
            leg: Leg {
                epoch: epoch_of(&mark.epoch)?,
                stream: stream_of(mark.stream)?,
                number: mark.leg,
            },
            seq: seq_of(mark.seq)?,
        })
    }
}

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            session: welcome.session,
            wire_version: crate::message::WIRE_VERSION,
            collector_version: env!("CARGO_PKG_VERSION").to_owned(),
            marks: welcome.marks.into_iter().map(Into::into).collect(),
            now_ms: welcome.now_ms,
            inventory_digest: welcome.inventory.map(|digest| digest.0),
        }
    }
}

impl TryFrom<v1::Welcome> for Welcome {
    type Error = ConvertError;

    fn try_from(welcome: v1::Welcome) -> Result<Self, ConvertError> {
        let marks = welcome.marks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let inventory = welcome.inventory_digest.map(Digest);
        Ok(Self { session: welcome.session, marks, now_ms: welcome.now_ms, inventory })
    }
}

impl From<DropRecord> for v1::DropRecord {
    fn from(record: DropRecord) -> Self {
        Self {
            epoch: record.leg.epoch.0.to_vec().into(),
            stream: stream_code(record.leg.stream),
            leg: record.leg.number,
            seq_first: record.seq_first,
            seq_last: record.seq_last,
            samples: record.samples,
            t_first_ms: record.t_first,
            t_last_ms: record.t_last,
            reason: reason_code(record.reason),
        }
    }
}

impl TryFrom<v1::DropRecord> for DropRecord {
    type Error = ConvertError;

    fn try_from(record: v1::DropRecord) -> Result<Self, ConvertError> {
        Ok(Self {
            leg: Leg {
                epoch: epoch_of(&record.epoch)?,
                stream: stream_of(record.stream)?,
                number: record.leg,
            },
            seq_first: seq_of(record.seq_first)?,
            seq_last: seq_last_of(record.seq_last)?,
            samples: record.samples,
            t_first: record.t_first_ms,
            t_last: record.t_last_ms,
            reason: reason_of(record.reason).ok_or(without("reason"))?,
        })
    }
}

impl From<Push> for v1::Frame {
    fn from(push: Push) -> Self {
        let kind = match push {
            Push::Begin { session, leg, backlog } => v1::frame::Kind::Begin(v1::Begin {
                session,
                epoch: leg.epoch.0.to_vec().into(),
                stream: stream_code(leg.stream),
                leg: leg.number,
                backlog,
            }),
            Push::Data(data) => v1::frame::Kind::Data(v1::Data {
                seq: data.seq,
                ticks: if data.ticks == 1 { 0 } else { data.ticks },
                samples: data.samples,
                payload: data.payload,
                key: data.key,
            }),
            Push::Drops { seq, records } => v1::frame::Kind::Drops(v1::DropRecords {
                seq,
                records: records.into_iter().map(Into::into).collect(),
            }),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::Frame> for Push {
    type Error = ConvertError;

    fn try_from(frame: v1::Frame) -> Result<Self, ConvertError> {
        Ok(match frame.kind.ok_or(without("kind"))? {
            v1::frame::Kind::Begin(begin) => Self::Begin {
                session: begin.session,
                leg: Leg {
                    epoch: epoch_of(&begin.epoch)?,
                    stream: stream_of(begin.stream)?,
                    number: begin.leg,
                },
                backlog: begin.backlog,
            },
            v1::frame::Kind::Data(data) => Self::Data(Data {
                seq: seq_of(data.seq)?,
                ticks: data.ticks.max(1),
                samples: data.samples,
                key: data.key,
                payload: data.payload,
            }),
            v1::frame::Kind::Drops(drops) if drops.records.len() > RECORDS_MAX => {
                return Err(without("number of drop records"));
            }
            v1::frame::Kind::Drops(drops) => Self::Drops {
                seq: seq_of(drops.seq)?,
                records: drops
                    .records
                    .into_iter()
                    .map(TryInto::try_into)
                    .collect::<Result<_, _>>()?,
            },
        })
    }
}

impl From<PushReply> for v1::Ack {
    fn from(reply: PushReply) -> Self {
        let kind = match reply {
            PushReply::Durable { begin, seq, losses } => v1::ack::Kind::Durable(v1::Durable {
                begin,
                seq,
                losses: losses
                    .into_iter()
                    .map(|loss| v1::Loss {
                        reason: reason_code(loss.reason),
                        samples: loss.samples,
                        detail: loss.detail,
                    })
                    .collect(),
            }),
            PushReply::Resync { begin, seq, reason } => {
                v1::ack::Kind::Resync(v1::Resync { begin, seq, reason })
            }
            PushReply::Refused { reason, retry_after_ms } => {
                v1::ack::Kind::Refused(v1::Refused { reason, retry_after_ms })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::Ack> for PushReply {
    type Error = ConvertError;

    fn try_from(ack: v1::Ack) -> Result<Self, ConvertError> {
        Ok(match ack.kind.ok_or(without("kind"))? {
            v1::ack::Kind::Durable(durable) => Self::Durable {
                begin: durable.begin,
                seq: seq_of(durable.seq)?,
                losses: durable
                    .losses
                    .into_iter()
                    .map(|loss| {
                        Ok(Loss {
                            // A reason from a newer collector is still a loss.
                            reason: reason_of(loss.reason).unwrap_or(DropReason::Refused),
                            samples: loss.samples,
                            detail: loss.detail,
                        })
                    })
                    .collect::<Result<_, _>>()?,
            },
            v1::ack::Kind::Resync(resync) => Self::Resync {
                begin: resync.begin,
                seq: seq_of(resync.seq)?,
                reason: resync.reason,
            },
            v1::ack::Kind::Refused(refused) => {
                Self::Refused { reason: refused.reason, retry_after_ms: refused.retry_after_ms }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEG: Leg = Leg { epoch: Epoch([7; 16]), stream: Stream::Metrics, number: 3 };

    /// Every place a sequence number has, there and back.
    fn check(seq: u64, fits: bool) {
        fn outcome<T: std::fmt::Debug>(back: Result<T, ConvertError>) -> Result<(), String> {
            back.map(|_| ()).map_err(|error| error.to_string())
        }
        let data = Data { seq, ticks: 1, samples: 1, key: true, payload: bytes::Bytes::new() };
        let record = |seq_first, seq_last| DropRecord {
            leg: LEG,
            seq_first,
            seq_last,
            samples: 1,
            t_first: 0,
            t_last: 0,
            reason: DropReason::Crashed,
        };
        let drops = |record| Push::Drops { seq: 1, records: vec![record] };
        let frames = [
            Push::Data(data),
            Push::Drops { seq, records: Vec::new() },
            drops(record(seq, u64::MAX)),
            drops(record(1, seq)),
        ];
        let replies = [
            PushReply::Durable { begin: 0, seq, losses: Vec::new() },
            PushReply::Resync { begin: 0, seq, reason: String::new() },
        ];
        let frames = frames.map(|push| outcome(Push::try_from(v1::Frame::from(push))));
        let replies = replies.map(|reply| outcome(PushReply::try_from(v1::Ack::from(reply))));
        let mark = outcome(Mark::try_from(v1::Mark::from(Mark { leg: LEG, seq })));
        for (place, back) in frames.into_iter().chain(replies).chain([mark]).enumerate() {
            let said = Err("message without a valid sequence number (below 2^63)".to_owned());
            assert_eq!(back, if fits { Ok(()) } else { said }, "{seq} in place {place}");
        }
    }

    #[test]
    fn sequence_numbers_leave_room_to_reckon_with() {
        check(0, true);
        check(SEQ_END - 1, true);
        check(SEQ_END, false);
        check(u64::MAX - 1, false);
    }
}
