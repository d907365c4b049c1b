//! Other engines: everything that is stored is passed on to them by Prometheus's remote write or by OTLP
//! ([`wire`] knows which), and what is not kept here is asked of one of them, so that a user who outgrows one machine runs
//! VictoriaMetrics, Mimir or Thanos behind the same collector.
//!
//! There is no queue: each target follows the store's log ([`stoa_tsdb::Follower`]) and holds no more than
//! the batch it is sending and the next one. A cursor says up to where a target has everything; it is
//! saved every second and survives restarts. So each sample goes out at least once, a target that is
//! away finds everything after within the log's bounds, and what is dropped beyond them is counted.

mod client;
mod elsewhere;
mod figures;
mod grpc;
mod message;
mod points;
mod relabel;
mod sender;
mod wire;

pub use client::{Client, ClientError};
pub use elsewhere::{ANSWERED_BY, Elsewhere, ElsewhereFigures, Ends, Failure, Question};
pub use figures::TargetFigures;
pub use sender::Target;
