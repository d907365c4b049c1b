//! kill -9 of either side at random: is anything acknowledged lost, is anything stored twice?
//!
//! This process is never killed. Its children are the real `stoa-collector run` and an agent
//! ([`agent`]): the real spool, dialer and uplink, fed with readings whose values say which they
//! are, so that what must be stored is known from the outside. What the agent learns it writes down
//! ([`record`]) before it acts on it; plain writes outlive a killed process. At the end everything
//! drains, and what the query API tells is held against the records ([`verdict`]), once more after
//! a last kill of the collector.
//!
//! Usage: `stoa-kill COLLECTOR [COUNT [SEED]]`. Exits with 1, and keeps all files, when anything is
//! amiss.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a report for a person")]

mod record;

mod agent;

mod children;

mod metrics;

mod rounds;

mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["agent", rest @ ..] => agent::run(rest).map(|()| true),
        [collector] => oracle(collector, "200", "1"),
        [collector, count] => oracle(collector, count, "1"),
        [collector, count, seed] => oracle(collector, count, seed),
        _ => Err(anyhow::anyhow!("usage: stoa-kill COLLECTOR [COUNT [SEED]]")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn oracle(collector: &str, count: &str, seed: &str) -> anyhow::Result<bool> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("another provider of cryptography was there first");
    }
    let collector = PathBuf::from(collector);
    if !collector.is_file() {
        bail!("{} is not there", collector.display());
    }
    let count = count.parse().context("read COUNT")?;
    let seed = seed.parse().context("read SEED")?;
    let work = tempfile::Builder::new().prefix("stoa-kill-").tempdir()?;
    let outcome = rounds::run(&collector, work.path(), count, seed).await;
    if !matches!(outcome, Ok(true)) {
        println!("seed {seed}; files are kept in {}", work.keep().display());
    }
    outcome
}
