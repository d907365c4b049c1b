//! Small questions, answered on the thread of their connection.
//!
//! A turn on a blocking thread costs more than most instant queries take: two changes of threads, some
//! 80 µs of CPU, and on a busy machine milliseconds of waiting. What is certain to take little is therefore
//! tried first where the question came in:
//!
//! - the text is an instant query of at most [`TEXT_BYTES_MAX`], without patterns, subqueries, and functions
//!   that compile something or repeat a value at will ([`is_small`]);
//! - all it reads is in the memory of the head, behind a lock that is free, and found by equality
//!   ([`stoa_tsdb::Db::select_at_once`]);
//! - it holds at most [`SAMPLES_MAX`] samples of [`SERIES_MAX`] series a selector at a time;
//! - it takes at most [`TIME_MAX`], or is broken off at the next look at the clock.
//!
//! Anything else, errors included, is as if it had not been tried: it is tried in place
//! ([`super::in_place`]) or takes a turn ([`super::Gate`]), and the try has cost about that much. None waits for the lock of the head's state, nor for what is on disk when
//! it is found; two short waits are left:
//!
//! - locks that are held for the copy of a few words (what a view was asked for, where a window's chunks are);
//! - one read of a chunk, should its window be written to a file between being found in memory and being read.

use std::sync::Arc;
use std::time::Duration;

use stoa_promql::{Engine, Limits};
use tokio::time::Instant;

use super::params::Params;
use super::reply::Success;
use super::{Shared, query};
use crate::store::AtOnce;

/// The longest text.
const TEXT_BYTES_MAX: usize = 300;

/// Samples that are held at a time.
const SAMPLES_MAX: usize = 2000;

/// Bytes that are.
const BYTES_MAX: usize = 128 << 10;

/// Series of a selector.
const SERIES_MAX: usize = 32;

/// How long a try may take.
const TIME_MAX: Duration = Duration::from_micros(500);

/// An engine for small questions.
pub(super) fn engine(limits: Limits) -> Engine {
    Engine::new(Limits {
        samples_max: limits.samples_max.min(SAMPLES_MAX),
        bytes_max: limits.bytes_max.min(BYTES_MAX),
        series_max: limits.series_max.min(SERIES_MAX),
        ..limits
    })
}

/// The answer to an instant query, if it is had at once.
pub(super) fn answer(shared: &Arc<Shared>, params: &Params) -> Option<Success> {
    let text = params.get("query")?;
    if !is_small(text) || params.get("stats").is_some() || params.get("timeout").is_some() {
        return None;
    }
    let limit = params.limit("limit").ok()?;
    let engine = query::with_lookback(shared.quick, params).ok()?;
    let at = params.time_or("time", shared.now_ms()).ok()?;
    let view = shared.store.view();
    let until = Instant::now() + TIME_MAX;
    let answer = engine.instant(&AtOnce(&view), text, at, &|| Instant::now() > until).ok()?;
    shared.gate.answered_at_once();
    Some(query::printed(answer, limit, None).warnings(view.warnings()))
}

/// Whether what a query does is bounded by its text and what it reads.
pub(super) fn is_small(text: &str) -> bool {
    // A subquery, but for `:` in names; and patterns, of matchers or of `label_replace`; and what
    // writes labels, which one call inside another makes many times as long.
    let mut brackets = text.split('[').skip(1);
    text.len() <= TEXT_BYTES_MAX
        && !text.contains('~')
        && !text.contains("label_replace")
        && !text.contains("label_join")
        && !text.contains("info")
        && brackets.all(|rest| !rest.split(']').next().unwrap_or(rest).contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_is_told_by_the_text() {
        for small in [
            "up",
            "node_time_seconds{instance=\"h1\",job=\"node\"}",
            "job:up:sum",
            "rate(x[5m]) / on (a) group_left () y",
            "topk(3, x)",
        ] {
            assert!(is_small(small), "{small}");
        }
        for large in [
            "up{a=~\"b\"}",
            "up{a!~\"b\"}",
            "label_replace(up, \"a\", \"b\", \"c\", \"(d)\")",
            "label_join(up, \"a\", \"\", \"b\", \"b\")",
            "max_over_time(x[1h:1s])",
            "max_over_time(x[1h:])",
            "info(x)",
        ] {
            assert!(!is_small(large), "{large}");
        }
        assert!(!is_small(&"x".repeat(TEXT_BYTES_MAX + 1)));
    }
}
