//! What the receivers of pushed samples share, whatever their protocol: how a request's body is read
//! ([`body`]), why one is refused, and what is counted ([`figures`]).

pub(super) mod body;
mod figures;

pub(super) use self::figures::Counters;
pub use self::figures::{PushFigures, SampleFigures};
use crate::push::Later;

/// Why nothing of a request was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 415: a message or compression not known here.
    Unknown(String),
    /// 413.
    TooLarge(String),
    /// 400: it cannot be read.
    Bad(String),
    /// 400, and an error of its own by gRPC: its framing is none.
    Unframed(String),
    /// 503: nothing is wrong with it, it shall come again.
    Later(String),
}

impl From<Later> for Refusal {
    fn from(Later(why): Later) -> Self {
        Self::Later(why)
    }
}
