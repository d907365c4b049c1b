//! Prometheus's test scripts: `load` samples, `eval` queries, compare.
//!
//! A script is lines; a command ends at a blank or comment line. `load <step>` is followed by one
//! series per line, `load_with_nhcb` also turns classic histograms into native ones, `clear`
//! forgets all, `eval instant at <time> <query>` and `eval range from … to … step … <query>` are
//! followed by `expect` lines and the series expected. As in Prometheus, an instant query is also
//! evaluated with every selector pinned to its time by `@`, at other times, and as the middle of a
//! range query, and must give the same each time.
//!
//! Nothing here fails: what does not hold is a [`Failure`] in the [`Report`].

mod check;
mod command;
mod memory;
mod series;
mod starts;

use stoa_model::TimestampMs;

use crate::engine::{Engine, Limits, Times};
use crate::error::QueryError;
use crate::eval::is_timed;
use crate::features::Features;
use crate::parse::ast::{At, Expr, ExprKind};
use crate::parse::parse_with;
use crate::value::{Answer, Value, VectorSample};

use command::{Command, Eval, EvalTimes};
pub use memory::Memory;

/// How a script went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Evaluations that gave what was expected.
    pub passed: usize,
    /// Those that did not, and commands that are none.
    pub failed: Vec<Failure>,
}

impl Report {
    /// How many evaluations and broken commands there were.
    #[must_use]
    pub fn total(&self) -> usize {
        self.passed + self.failed.len()
    }
}

/// One thing that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The line of the command, from 1.
    pub line: usize,
    /// What was expected and what came.
    pub message: String,
}

/// Runs a script with every part of the language switched on.
#[must_use]
pub fn run(text: &str) -> Report {
    run_with(text, Features::all())
}

/// Runs a script with these parts of the language switched on.
#[must_use]
pub fn run_with(text: &str, features: Features) -> Report {
    let engine = Engine::new(Limits::default()).with_features(features);
    let mut report = Report::default();
    let mut memory = Memory::default();
    for (line, command) in command::parse(text) {
        let outcome = match command {
            Err(message) => Err(message),
            Ok(Command::Clear) => {
                memory = Memory::default();
                continue;
            }
            Ok(Command::Load(load)) => {
                memory.add(&load);
                continue;
            }
            Ok(Command::Eval(eval)) => evaluate(&engine, features, &memory, &eval),
        };
        match outcome {
            Ok(()) => report.passed += 1,
            Err(message) => report.failed.push(Failure { line, message }),
        }
    }
    report
}

fn evaluate(
    engine: &Engine,
    features: Features,
    memory: &Memory,
    eval: &Eval,
) -> Result<(), String> {
    let expr = match parse_with(&eval.query, features) {
        Ok(expr) => expr,
        Err(error) => return eval.check_error(&error.to_string()),
    };
    let ask =
        |expr: &Expr, times: Times| engine.evaluate(memory, &eval.query, expr, times, &|| false);
    match eval.times {
        EvalTimes::Range { start, end, step } => {
            let answer = ask(&expr, Times { start, end, step });
            let Some(answer) = expected(eval, answer)? else { return Ok(()) };
            eval.check_annotations(&answer)?;
            eval.check_matrix(&answer.value, start, end, step)
        }
        EvalTimes::Instant { at } => {
            instant(eval, &expr, at, &ask)?;
            let mut pinned = expr.clone();
            if pin(&mut pinned, at) {
                return Ok(());
            }
            let others =
                if at == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
            for other in others {
                instant(eval, &pinned, other, &ask)
                    .map_err(|message| format!("pinned by @ and asked at {other} ms: {message}"))?;
            }
            Ok(())
        }
    }
}

/// The answer to check, or none when the failure that came was expected.
fn expected(eval: &Eval, answer: Result<Answer, QueryError>) -> Result<Option<Answer>, String> {
    match answer {
        Err(error) => eval.check_error(&error.to_string()).map(|()| None),
        Ok(_) if eval.expects_failure() => Err("expected a failure, but there was none".into()),
        Ok(answer) => Ok(Some(answer)),
    }
}

/// The step of the range query an instant query must be the middle of.
const MINUTE_MS: i64 = 60_000;

fn instant(
    eval: &Eval,
    expr: &Expr,
    at: TimestampMs,
    ask: &dyn Fn(&Expr, Times) -> Result<Answer, QueryError>,
) -> Result<(), String> {
    let answer = ask(expr, Times { start: at, end: at, step: 0 });
    let Some(answer) = expected(eval, answer)? else { return Ok(()) };
    eval.check_annotations(&answer)?;
    if let Some((start, end, step)) = eval.range_vector {
        return eval.check_matrix(&answer.value, start, end, step);
    }
    eval.check_value(&answer.value)?;
    // The same as the middle of a range, where neither order nor the range itself matters.
    let is_plain = matches!(answer.value, Value::Scalar { .. } | Value::Vector(_));
    if !is_plain || eval.ordered || eval.query.contains("range()") {
        return Ok(());
    }
    let times = Times { start: at - MINUTE_MS, end: at + MINUTE_MS, step: MINUTE_MS };
    if eval.query.contains("step()")
        || eval.query.contains("start()")
        || eval.query.contains("end()")
    {
        return Ok(());
    }
    let range = ask(expr, times).map_err(|error| format!("as a range query: {error}"))?;
    let Value::Matrix(series) = range.value else {
        return Err("a range query gave no matrix".into());
    };
    let middle: Vec<VectorSample> = series
        .into_iter()
        .filter_map(|series| {
            let labels = series.labels;
            let float = series.points.iter().find(|(t, _)| *t == at);
            let histogram = series.histograms.iter().find(|(t, _)| *t == at);
            let (v, histogram) = match (float, histogram) {
                (Some((_, v)), _) => (*v, None),
                (None, Some((_, histogram))) => (f64::NAN, Some(std::sync::Arc::clone(histogram))),
                (None, None) => return None,
            };
            Some(VectorSample { labels, t: at, v, histogram })
        })
        .collect();
    let value = match (answer.value, middle.as_slice()) {
        (Value::Scalar { t, .. }, [sample]) => Value::Scalar { t, v: sample.v },
        _ => Value::Vector(middle),
    };
    eval.check_value(&value).map_err(|message| format!("as a range query: {message}"))
}

/// Pins every selector that is not to `at`; true when the value depends on the time asked for all
/// the same.
fn pin(expr: &mut Expr, at: TimestampMs) -> bool {
    let set = |slot: &mut Option<At>| {
        slot.get_or_insert(At::Time(at));
        false
    };
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::Text(_) => false,
        ExprKind::Selector(selector) => set(&mut selector.shift.at),
        ExprKind::Matrix(matrix) => set(&mut matrix.selector.shift.at),
        ExprKind::Subquery(subquery) => set(&mut subquery.shift.at),
        ExprKind::Paren(inner) => pin(inner, at),
        ExprKind::Unary { operand, .. } => pin(operand, at),
        ExprKind::Binary(binary) => pin(&mut binary.left, at) | pin(&mut binary.right, at),
        ExprKind::Aggregate(aggregate) => {
            let parameter = aggregate.parameter.as_mut().is_some_and(|p| pin(p, at));
            pin(&mut aggregate.operand, at) | parameter
        }
        ExprKind::Call(call) => {
            // `start()` and `end()` are constant within a query, not from one to another.
            let timed =
                is_timed(call.function.name) || matches!(call.function.name, "start" | "end");
            let args = if call.function.name == "info" { 1 } else { call.args.len() };
            call.args.iter_mut().take(args).fold(timed, |timed, arg| pin(arg, at) | timed)
        }
    }
}
