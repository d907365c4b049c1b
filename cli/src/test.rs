//! `stoa test`: runs test scripts, prints what passed and what did not.

use std::fmt::Write as _;
use std::path::PathBuf;

use stoa_daemon::Misuse;
use stoa_promql::script::{self, Report};
use stoa_promql::{Feature, Features};

use crate::query::print;
use crate::table::printable;

/// Run test scripts
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: stoa test promql my.test")]
pub(crate) struct TestArgs {
    #[command(subcommand)]
    command: TestCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum TestCommand {
    Promql(PromqlArgs),
}

/// Run Prometheus's PromQL test scripts (load, eval, expect)
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  stoa test promql promql/promqltest/testdata/*.test
  stoa test promql --enable-feature promql-duration-expr my.test

Exits with 1 when something did not hold, with 2 when a file cannot be read.")]
struct PromqlArgs {
    /// The scripts
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only these of the parts of PromQL that Prometheus has behind switches, by its names; all when
    /// left out
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    enable_feature: Vec<Feature>,
}

/// Runs `stoa test`; prints to standard output.
///
/// # Errors
/// With [`Misuse`] in the chain when a file cannot be read, before any is run; else when something
/// did not hold.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<()> {
    let TestCommand::Promql(args) = &args.command;
    let mut scripts = Vec::new();
    for path in &args.files {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Misuse(format!("cannot read {name}: {error}")))?;
        scripts.push((name, text));
    }
    let features = match args.enable_feature.as_slice() {
        [] => Features::all(),
        only => only.iter().copied().collect(),
    };
    let (mut total, mut failed) = (0, 0);
    for (name, text) in scripts {
        let report = script::run_with(&text, features);
        total += report.total();
        failed += report.failed.len();
        print(&described(&name, &report))?;
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {total} evaluations did not hold");
    }
    Ok(())
}

/// Each failure with its line, then the counts.
fn described(name: &str, report: &Report) -> String {
    let mut out = String::new();
    let name = printable(name);
    for failure in &report.failed {
        let message: Vec<String> = failure.message.lines().map(printable).collect();
        let text = message.join("\n    ");
        push(&mut out, format_args!("{name}:{}: {text}\n", failure.line));
    }
    let (passed, failed) = (report.passed, report.failed.len());
    push(&mut out, format_args!("{name}: {passed} passed, {failed} failed\n"));
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "BUG: a write to memory failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
load 1m
  up 1 1 1

eval instant at 1m up
  up 1

eval instant at 1m sum(up)
  {} 2
";

    fn args(files: &[PathBuf]) -> TestArgs {
        let args = PromqlArgs { files: files.to_vec(), enable_feature: Vec::new() };
        TestArgs { command: TestCommand::Promql(args) }
    }

    #[test]
    fn failures_are_named_by_file_and_line() {
        let text = described("a.test", &script::run(SCRIPT));
        assert!(text.starts_with("a.test:7: "), "{text}");
        assert!(text.ends_with("a.test: 1 passed, 1 failed\n"), "{text}");
    }

    #[test]
    fn a_script_is_refused_what_is_not_enabled() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("step.test");
        std::fs::write(&file, "eval instant at 0 step()\n  0\n").unwrap();
        let with = |enable_feature: &[Feature]| {
            let enable_feature = enable_feature.to_vec();
            let args = PromqlArgs { files: vec![file.clone()], enable_feature };
            run(&TestArgs { command: TestCommand::Promql(args) })
        };
        assert!(with(&[]).is_ok());
        assert!(with(&[Feature::ExperimentalFunctions]).is_ok());
        assert!(with(&[Feature::FillModifiers]).is_err());
    }

    #[test]
    fn a_failure_and_a_missing_file_end_differently() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("bad.test");
        std::fs::write(&bad, SCRIPT).unwrap();
        let good = dir.path().join("good.test");
        std::fs::write(&good, SCRIPT.replace("{} 2", "{} 1")).unwrap();
        let absent = dir.path().join("absent.test");
        assert!(run(&args(std::slice::from_ref(&good))).is_ok());
        let failed = run(&args(&[good.clone(), bad])).unwrap_err();
        assert_eq!(failed.to_string(), "1 of 4 evaluations did not hold");
        assert!(run(&args(&[good, absent])).unwrap_err().is::<Misuse>());
    }
}
