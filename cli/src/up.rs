//! `stoa up`: a collector and an agent of this machine in one process.
//!
//! The agent joins over the real port with a real token and speaks QUIC to the collector beside it;
//! nothing is short-cut, so what works here works between two machines. Each keeps its own
//! directory below `--data-dir`, as two daemons would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use stoa_agent::agent::Agent;
use stoa_agent::config::Config as AgentConfig;
use stoa_agent::identity::{self, IdentityError};
use stoa_agent::join;
use stoa_agent::page::LISTEN;
use stoa_collector::clock;
use stoa_collector::config::Config as CollectorConfig;
use stoa_collector::server::Server;
use stoa_collector::tokens::JOIN_TTL_MS;
use stoa_daemon::log::{self, LogOptions};
use stoa_daemon::{Misuse, signal, unix_ms};
use stoa_model::HostId;

use crate::local;
use crate::progress::{Progress, Reading};
use crate::status_line::StatusLine;

/// How often the line of progress is drawn anew.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How often it is printed when nobody watches a terminal.
const PROGRESS_EVERY_UNWATCHED: Duration = Duration::from_secs(60);

/// Start a collector and an agent of this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa up
  stoa up --agents 0.0.0.0:7443
  stoa up --data-dir /srv/stoa --http 0.0.0.0:7480")]
pub(crate) struct UpArgs {
    /// Where everything durable lives [default: ~/.local/share/stoa]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where people and Grafana connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7480", value_parser = listen)]
    http: SocketAddr,
    /// Where agents connect; use 0.0.0.0:7443 to let other hosts join
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7443", value_parser = listen)]
    agents: SocketAddr,
    /// Start the collector only
    #[arg(long)]
    no_agent: bool,
    /// Serve the agent's metrics at /metrics to a scraper, on loopback [default: not; alone:
    /// 127.0.0.1:7490]
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        num_args = 0..=1,
        default_missing_value = LISTEN,
        value_parser = loopback,
        conflicts_with = "no_agent"
    )]
    metrics: Option<SocketAddr>,
    /// Print a join token for another host even when standard output is not a terminal
    #[arg(long)]
    token: bool,
    /// error, warn, info, debug, trace, or tracing's filter syntax
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: String,
}

/// Where to listen, from a text; names other than localhost are not looked up.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    local.as_deref().unwrap_or(text).parse().map_err(|_error: std::net::AddrParseError| {
        "expected ADDRESS:PORT, such as 127.0.0.1:7480 or [::1]:7480".to_owned()
    })
}

/// The same, where nothing but this machine reaches it.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = listen(text)?;
    let refused = "not on loopback; run stoa-agent with metrics.insecure in its configuration";
    if address.ip().is_loopback() { Ok(address) } else { Err(refused.to_owned()) }
}

pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    let level = args.log.clone();
    let options = LogOptions { level, otlp_endpoint: None, service: "stoa" };
    let screen = StatusLine::new();
    let beside = screen.clone();
    let _log = log::open_to(&options, move |line| beside.log(line))
        .map_err(|error| Misuse(error.to_string()))?;
    let data_dir = match args.data_dir.clone() {
        Some(dir) => dir,
        None => local::data_dir()?,
    };
    let mut stop = std::pin::pin!(signal::stop());

    let mut config = CollectorConfig::defaults()?;
    config.data_dir = data_dir.join("collector");
    config.http.listen = args.http;
    config.agents.listen = args.agents;
    screen.say(&format!("starting the collector in {}", data_dir.display()));
    let server = Server::start(config, clock::system()).await.context("start the collector")?;
    let agent = match start_agent(&args, &data_dir, &server, &screen).await {
        Ok(agent) => agent,
        Err(error) => {
            server.stop().await.context("stop the collector")?;
            return Err(error);
        }
    };
    let mut line = None;
    // A token is a secret: it is not made for a log file that nobody asked to hold one.
    if screen.is_watched() || args.token {
        match join_line(&server).await {
            Ok(made) => line = Some(made),
            // A full table of tokens is no reason not to start.
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "no join token could be made");
            }
        }
    }
    screen.say(&greeting(&server, &data_dir, line.as_deref()));

    let mut progress = Progress::new(read(&server, agent.as_ref()), unix_ms());
    let every = if screen.is_watched() { PROGRESS_EVERY } else { PROGRESS_EVERY_UNWATCHED };
    let mut failed = None;
    let why = loop {
        tokio::select! {
            why = &mut stop => break why.context("wait for Ctrl-C")?,
            why = server.failed() => {
                failed = Some(why);
                break "failed";
            }
            () = broken(agent.as_ref()) => {
                failed = Some("a part of the agent broke; the log says which".to_owned());
                break "failed";
            }
            () = tokio::time::sleep(every) => {
                screen.draw(&progress.line(read(&server, agent.as_ref()), unix_ms()));
            }
        }
    };

    screen.say(&format!("stopping ({why})"));
    if let Some(agent) = agent {
        agent.stop().await;
    }
    server.stop().await.context("stop the collector")?;
    if let Some(why) = failed {
        anyhow::bail!(why);
    }
    screen.say("stopped; everything acknowledged is on disk");
    Ok(())
}

/// Waits until the agent has broken; for ever when there is none.
async fn broken(agent: Option<&Agent>) {
    match agent {
        Some(agent) => agent.broken().await,
        None => std::future::pending().await,
    }
}

async fn start_agent(
    args: &UpArgs,
    data_dir: &Path,
    server: &Server,
    screen: &StatusLine,
) -> anyhow::Result<Option<Agent>> {
    if args.no_agent {
        return Ok(None);
    }
    let mut config = AgentConfig::defaults()?;
    config.data_dir = data_dir.join("agent");
    config.metrics = args.metrics;
    let mut addr = server.agents_addr();
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    config.collector = Some(addr.to_string());
    match identity::load(&config.data_dir) {
        Ok(_) => {}
        Err(IdentityError::NotJoined) => {
            screen.say("joining this machine to it");
            let name = HostId::parse(&join::own_name()).context("read this machine's name")?;
            let token = token(server, Some(name.clone())).await?;
            join::join(&token, &addr.to_string(), name.as_str(), &config.data_dir)
                .await
                .context("join this machine")?;
        }
        Err(error) => return Err(error).context("read this machine's identity"),
    }
    let agent = Agent::start(config, Arc::new(unix_ms)).await.context("start the agent")?;
    Ok(Some(agent))
}

/// A token for the next host, and the line to type there.
async fn join_line(server: &Server) -> anyhow::Result<String> {
    let token = token(server, None).await?;
    Ok(format!("stoa-agent join {token} --collector {}", reachable(server.agents_addr())))
}

/// The address others can use: that of this machine's way out where it listens on every one.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        let out = UdpSocket::bind((addr.ip(), 0)).and_then(|socket| {
            // chooses a route and sends nothing; the addresses are reserved for documentation
            match addr {
                SocketAddr::V4(_) => socket.connect(("192.0.2.1", 9))?,
                SocketAddr::V6(_) => socket.connect(("2001:db8::1", 9))?,
            }
            socket.local_addr()
        });
        let loopback: IpAddr = match addr {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        addr.set_ip(out.map_or(loopback, |out| out.ip()));
    }
    addr
}

async fn token(server: &Server, host: Option<HostId>) -> anyhow::Result<String> {
    let members = Arc::clone(&server.parts().members);
    let made = tokio::task::spawn_blocking(move || {
        members.create_join_token(host.as_ref(), JOIN_TTL_MS, unix_ms())
    });
    let (token, _record) = made.await?.context("make a join token")?;
    Ok(token.to_string())
}

fn greeting(server: &Server, data_dir: &Path, join_line: Option<&str>) -> String {
    let http = server.http_addr();
    let tls = server.url().starts_with("https:");
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://{}", reachable(http));
    let here = if tls { format!("https://localhost:{}", http.port()) } else { url.clone() };
    let mut server_flag = match here.as_str() {
        crate::client::SERVER_DEFAULT => String::new(),
        here => format!(" --server {here}"),
    };
    // the command line finds the token and the CA by itself only where we keep them by default
    if tls && local::data_dir().ok().as_deref() != Some(data_dir) {
        let dir = data_dir.join("collector");
        let (ca, token) = (dir.join("ca/ca.pem"), dir.join("admin.token"));
        server_flag += &format!(" --ca {} --token-file {}", ca.display(), token.display());
    }
    let mut out = format!(
        "Stoa {version} is running.\n\n  \
         open          {url}\n  \
         Grafana       a data source of type Prometheus, URL {url}, scrape interval 1s\n",
        version = env!("CARGO_PKG_VERSION"),
    );
    if tls {
        let ca = data_dir.join("collector/ca/ca.pem");
        out += &format!("                CA certificate: {}\n", ca.display());
        out += "                basic auth with any user name and as password the token that this prints:\n";
        out += &format!(
            "                stoa token create --scope read --remark grafana{server_flag}\n"
        );
    }
    out += &format!(
        "  ask           stoa query 'sum by (mode) (rate(node_cpu_seconds_total[1m]))'{server_flag}\n  \
         another host  "
    );
    out += &match join_line {
        Some(line) => format!(
            "{line}\n                \
             (good once, for an hour; more: stoa token create{server_flag})\n"
        ),
        None => {
            let agents = reachable(server.agents_addr());
            format!(
                "stoa token create{server_flag}, and there with the token it prints:\n                \
                 stoa-agent join TOKEN --collector {agents}\n"
            )
        }
    };
    if server.agents_addr().ip().is_loopback() {
        out += "                (agents reach only this machine; listen wider with --agents 0.0.0.0:7443)\n";
    }
    out + "\nCtrl-C stops it.\n"
}

fn read(server: &Server, agent: Option<&Agent>) -> Reading {
    let figures = server.parts().figures();
    let (ingest, tsdb) = (&figures.ingest, &figures.tsdb);
    let uplink = agent.map(Agent::figures).unwrap_or_default();
    Reading {
        series: tsdb.series,
        stored: figures.store.samples.stored,
        wire_bytes: ingest.payload_bytes,
        wire_samples: ingest.stored + ingest.known + ingest.repeated,
        disk_bytes: tsdb.log_bytes + tsdb.block_bytes,
        disk_samples: tsdb.head_samples + tsdb.block_samples,
        hosts: figures.hosts,
        waiting: uplink.in_memory + uplink.in_spool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen_is_an_address_and_a_port() {
        for (text, want) in [
            ("127.0.0.1:7480", Some("127.0.0.1:7480")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("[::1]:7480", Some("[::1]:7480")),
            ("7480", None),
            (":7480", None),
            ("localhost", None),
            ("localhost:x", None),
            ("stoa.lan:7480", None),
        ] {
            let listened = listen(text);
            assert_eq!(
                listened.as_ref().ok().copied(),
                want.map(|want| want.parse().unwrap()),
                "{text}"
            );
            if let Err(error) = listened {
                assert!(error.starts_with("expected ADDRESS:PORT, such as"), "{error}");
            }
        }
    }
}
