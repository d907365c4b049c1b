//! PromQL: text to values, over any storage.
//!
//! A **query** is text; [`parse`] turns it into an expression that cannot be of the wrong type; the
//! [`Engine`] evaluates it over a [`Storage`] and answers with a [`Value`]. Evaluation is columnar:
//! each selector reads its series once for the whole range, a series is a column of one cell per
//! step, and every operator works on whole columns. An instant query is a range of one step.
//!
//! This crate knows no database, no HTTP, no clock and no async: times are arguments, and the
//! caller says when to stop.
//!
//! ```
//! use stoa_promql::{Engine, Limits, Value, script::Memory};
//!
//! let storage = Memory::load("load 1m\n  up{job=\"node\"} 1 1 1\n").unwrap();
//! let answer = Engine::new(Limits::default())
//!     .instant(&storage, "sum(up)", 60_000, &|| false)
//!     .unwrap();
//! let Value::Vector(samples) = answer.value else { panic!("sum is a vector") };
//! assert_eq!(samples[0].v, 1.0);
//! ```

mod number;

mod annotation;
mod error;
mod features;
pub mod histogram;
mod parse;
pub mod storage;
pub mod value;

mod eval;
mod function;

mod engine;
mod plan;
pub mod script;
mod stepwise;

pub use engine::{Caller, Engine, Limits};
pub use error::QueryError;
pub use features::{Feature, Features, UnknownFeature};
pub use histogram::Histogram;
pub use parse::{
    WordKind, format_query, parse_selector, parse_selector_within, query_tree, selector_groups,
    vocabulary,
};
pub use plan::{Event, Place, PlanNode};
pub use stepwise::{Stepwise, joined};
pub use storage::{Hints, SAMPLE_BYTES, Select, Series, Storage, StorageError};
pub use value::{Answer, MatrixSeries, SampleStats, StepSamples, Value, VectorSample};
