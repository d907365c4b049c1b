//! The `stoa-collector` command.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use stoa_collector::clock;
use stoa_collector::config::{CONFIG_PATH, Config};
use stoa_collector::server::Server;
use stoa_daemon::{Exit, Misuse, log, signal};

/// Stoa's collector: stores what agents send, answers queries, serves Grafana.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Example: stoa-collector run --config /etc/stoa/collector.toml"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGINT or SIGTERM
    ///
    /// Example: stoa-collector run --config /etc/stoa/collector.toml
    Run {
        /// The configuration file [default: /etc/stoa/collector.toml, if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say whether a configuration file is good, and what is wrong with it
    ///
    /// Example: stoa-collector check --config /etc/stoa/collector.toml
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
    },
}

fn main() -> Exit {
    stoa_daemon::open_as_many_as_allowed();
    match Args::parse().command {
        Command::Run { config } => run(config).into(),
        Command::Check { config } => check(&config).into(),
    }
}

fn check(path: &std::path::Path) -> anyhow::Result<()> {
    Config::load(Some(path))?;
    writeln!(std::io::stdout(), "{} is good", path.display())?;
    Ok(())
}

#[tokio::main]
async fn run(path: Option<PathBuf>) -> anyhow::Result<()> {
    let config = Config::load(path.as_deref())?;
    let _log = log::open(&config.log).map_err(|error| Misuse(format!("{error:#}")))?;
    let mut stop = std::pin::pin!(signal::stop());
    let server = Server::start(config, clock::system()).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        http = server.url(),
        agents = %server.agents_addr(),
        "the collector is ready"
    );
    let failed = tokio::select! {
        why = stop.as_mut() => {
            tracing::info!(why = why.context("wait for a signal")?, "stopping");
            None
        }
        why = server.failed() => {
            tracing::error!(why, "stopping, to recover with the next start");
            Some(why)
        }
    };
    server.stop().await?;
    if let Some(why) = failed {
        anyhow::bail!(why);
    }
    tracing::info!("stopped");
    Ok(())
}
