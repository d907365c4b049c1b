//! The `stoa-agent` command.

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use stoa_agent::agent::{Agent, StartError};
use stoa_agent::config::{CONFIG_PATH, Config, is_host_and_port};
use stoa_agent::identity::{Identity, IdentityError};
use stoa_agent::join::{self, JoinArgs, printable};
use stoa_agent::listing;
use stoa_agent::page::LISTEN;
use stoa_agent::print::{self, PrintArgs, PrintError};
use stoa_agent::resident;
use stoa_agent::sampler::Seen;
use stoa_agent::sources::Now;
use stoa_agent::sources::gpu::{self, nvml};
use stoa_daemon::{Exit, Misuse, log, signal, unix_ms};

/// Stoa's agent: reads this host and streams what it reads to the collector.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  stoa-agent join TOKEN --collector stoa.lan:7443
  stoa-agent run
  stoa-agent print"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGINT or SIGTERM
    ///
    /// Example: stoa-agent run --config /etc/stoa/agent.toml
    Run {
        /// The configuration file [default: /etc/stoa/agent.toml, if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where identity and spool are [default: `data_dir` of the configuration]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Serve the metrics at /metrics to a scraper, on loopback [default: not; --metrics alone:
        /// 127.0.0.1:7490]
        #[arg(
            long,
            value_name = "ADDRESS:PORT",
            num_args = 0..=1,
            default_missing_value = LISTEN,
            value_parser = loopback
        )]
        metrics: Option<SocketAddr>,
    },
    /// Print what the sources say now, as text exposition
    ///
    /// Example: stoa-agent print --source loadavg --source meminfo
    Print {
        #[command(flatten)]
        print: PrintArgs,
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List what can be read on a host, how often it is, and what it reads here now or why not
    ///
    /// Each is a table of the configuration, such as [sources.diskstats], with the keys enabled,
    /// interval and deadline beside its own. They are read once, as the user who asks.
    ///
    /// Example: stoa-agent sources zfs smart
    Sources {
        /// Only these
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Only list them, without reading any
        #[arg(long)]
        list: bool,
        /// Write JSON, for machines
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Make this host a member: trade a join token for a certificate
    ///
    /// Example: stoa-agent join STOA1.… --collector stoa.lan:7443
    Join {
        #[command(flatten)]
        join: JoinArgs,
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Ask NVML for whoever writes to standard input: the agent's own child
    #[command(name = gpu::COMMAND, hide = true)]
    Nvml {
        /// The library
        #[arg(long, value_name = "FILE", default_value = nvml::LIBRARY)]
        library: PathBuf,
    },
    /// Say whether a configuration file is good, and what is wrong with it
    ///
    /// Whether what it names is on this host says `stoa-agent sources`.
    ///
    /// Example: stoa-agent check --config /etc/stoa/agent.toml
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
    },
}

/// An address on loopback; any other is for the configuration to allow.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_error| format!("expected ADDRESS:PORT, such as {LISTEN}"))?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err("not on loopback; use metrics.listen and metrics.insecure of the configuration".to_owned())
}

fn main() -> Exit {
    resident::share();
    stoa_daemon::open_as_many_as_allowed();
    run(Args::parse()).into()
}

fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Run { config, data_dir, metrics } => {
            let mut config = Config::load(config.as_deref())?;
            config.metrics = metrics.or(config.metrics);
            serve(match data_dir {
                Some(dir) => config.with_data_dir(dir),
                None => config,
            })?;
        }
        Command::Print { print, config } => {
            let config = Config::load(config.as_deref())?;
            let settings = match print.settings(config.sources) {
                Err(error @ PrintError::UnknownSource { .. }) => {
                    return Err(Misuse(error.to_string()).into());
                }
                settings => settings?,
            };
            let is_named = |name| print.sources.iter().any(|source| source == name);
            let mut out = std::io::stdout().lock();
            let roots = print.roots(config.roots);
            let seen = match print::run(&roots, &settings, now(), &mut out, waiting_for()) {
                Err(PrintError::Write(error)) => return written(Err(error)),
                seen => seen?,
            };
            // A person who names a source is told why it says nothing.
            tell_why(seen.iter().filter(|it| it.state.is_fault() || is_named(it.name)));
        }
        Command::Sources { names, list, json, config } => {
            let Config { sources, roots, interval, .. } = Config::load(config.as_deref())?;
            let mut rows = listing::rows(&sources, interval)?;
            listing::keep(&mut rows, &names).map_err(|unknown| Misuse(unknown.to_string()))?;
            if !list {
                listing::look(&mut rows, &roots, &sources, now(), waiting_for())?;
            }
            let mut out = std::io::stdout().lock();
            written(match json {
                true => writeln!(out, "{}", serde_json::to_string_pretty(&rows)?),
                false => listing::write(&rows, &mut out),
            })?;
        }
        Command::Join { join, config } => {
            let config = Config::load(config.as_deref())?;
            let option = join.data_dir.as_ref();
            let option = option.map(|dir| format!(" --data-dir {}", dir.display()));
            let joined = join_collector(join, config)?;
            let run = format!("stoa-agent run{}", option.unwrap_or_default());
            writeln!(std::io::stdout(), "joined as {}; now: {run}", joined.host)?;
        }
        Command::Nvml { library } => {
            nvml::serve(&library, &mut std::io::stdin().lock(), &mut std::io::stdout().lock())?;
        }
        Command::Check { config } => {
            Config::load(Some(&config))?;
            let path = config.display();
            written(writeln!(
                std::io::stdout(),
                "{path} is good; what its sources read on this host shows: stoa-agent sources \
                 --config {path}"
            ))?;
        }
    }
    Ok(())
}

fn now() -> Now {
    Now { unix_micros: unix_ms().saturating_mul(1000) }
}

/// Told while a person waits, when it changes.
#[expect(clippy::print_stderr, reason = "what is being done goes beside what is read")]
fn waiting_for() -> impl FnMut(&[&'static str]) {
    let is_read = std::io::stderr().is_terminal();
    let mut said = Vec::new();
    move |sources| {
        if is_read && said != sources {
            eprintln!("waiting for {}", sources.join(", "));
            said = sources.to_vec();
        }
    }
}

/// What sources did not read, a line each.
#[expect(clippy::print_stderr, reason = "what is wrong goes beside what is read")]
fn tell_why<'a>(seen: impl Iterator<Item = &'a Seen>) {
    for Seen { name, why, .. } in seen {
        why.iter().for_each(|why| eprintln!("{name}: {}", printable(why)));
    }
}

/// A reader that has gone away (`| head`) is no failure.
fn written(result: std::io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("write to standard output"),
    }
}

/// Two threads: one that works, and those that wait for the disk; an agent is to be small.
fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .context("start the runtime")?;
    let dir = config.data_dir.clone();
    let ended = runtime.block_on(async {
        let _log = log::open(&config.log).map_err(|error| Misuse(format!("{error:#}")))?;
        let mut stop = std::pin::pin!(signal::stop());
        let agent = match Agent::start(config, Arc::new(unix_ms)).await {
            Err(StartError::Identity(error @ IdentityError::NotJoined)) => {
                return Err(Misuse(format!("{error} (looked in {})", dir.display())).into());
            }
            started => started?,
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), host = agent.host(), "the agent runs");
        let why = tokio::select! {
            why = stop.as_mut() => Some(why.context("wait for a signal")?),
            () = agent.broken() => None,
            never = stay_small() => match never {},
        };
        tracing::info!(why, "stopping");
        agent.stop().await;
        anyhow::ensure!(why.is_some(), "a part of the agent broke; the log says which");
        tracing::info!("stopped");
        Ok(())
    });
    // A thread that waits for a disk which does not answer must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn stay_small() -> Infallible {
    loop {
        tokio::time::sleep(resident::HAND_BACK_EVERY).await;
        resident::hand_back();
    }
}

fn join_collector(args: JoinArgs, config: Config) -> anyhow::Result<Identity> {
    let dir = args.data_dir.unwrap_or(config.data_dir);
    let Some(collector) = args.collector.or(config.collector) else {
        let words =
            "which collector? give --collector HOST:PORT, or collector in the configuration";
        return Err(Misuse(words.to_owned()).into());
    };
    let name = args.name.unwrap_or_else(join::own_name);
    if !is_host_and_port(&collector) {
        let address = collector;
        return Err(Misuse(format!(
            "--collector {address:?} is not HOST:PORT; the port is 7443 unless configured otherwise"
        ))
        .into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(join::join(&args.token, &collector, &name, &dir)) {
        Err(error) if error.is_misuse() => Err(Misuse(error.to_string()).into()),
        joined => Ok(joined?),
    }
}
