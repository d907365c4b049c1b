//! The two children: how they are started, killed and started again.

use std::fs::{File, OpenOptions};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use stoa_daemon::unix_ms;

/// How long the collector may take to be ready, on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// A side of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Collector,
    Agent,
}

/// Where everything is, and who runs.
#[derive(Debug)]
pub(crate) struct Children {
    program: PathBuf,
    work: PathBuf,
    agents: String,
    pub(crate) http: String,
    collector: Option<Child>,
    agent: Option<Child>,
    /// Agents started.
    pub(crate) generations: u64,
    /// Collectors started.
    pub(crate) starts: u64,
}

impl Drop for Children {
    fn drop(&mut self) {
        for side in [Side::Collector, Side::Agent] {
            if let Err(error) = self.kill(side) {
                eprintln!("error: {error:#}");
            }
        }
    }
}

impl Children {
    /// Writes the collector's configuration; starts nothing.
    pub(crate) fn new(program: &Path, work: &Path) -> anyhow::Result<Self> {
        let (agents, http) = (free_address()?, free_address()?);
        let config = format!(
            "data_dir = {:?}\n[agents]\nlisten = {agents:?}\n[http]\nlisten = {http:?}\n\
             [storage]\nfree_bytes_min = \"16MiB\"\n",
            work.join("collector"),
        );
        std::fs::write(work.join("collector.toml"), config)?;
        Ok(Self {
            program: program.to_owned(),
            work: work.to_owned(),
            agents,
            http: format!("http://{http}"),
            collector: None,
            agent: None,
            generations: 0,
            starts: 0,
        })
    }

    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.work.join("agent")
    }

    pub(crate) fn is_running(&self, side: Side) -> bool {
        match side {
            Side::Collector => self.collector.is_some(),
            Side::Agent => self.agent.is_some(),
        }
    }

    pub(crate) fn start(&mut self, side: Side) -> anyhow::Result<()> {
        match side {
            Side::Collector => {
                self.starts += 1;
                let mut command = Command::new(&self.program);
                command.arg("run").arg("--config").arg(self.work.join("collector.toml"));
                command.stdin(Stdio::null());
                self.collector = Some(self.spawn(command, "collector.log")?);
            }
            Side::Agent => {
                self.generations += 1;
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("agent").arg(self.agent_dir()).arg(&self.agents);
                // The last reading of the process before lies before now, its clock being ours.
                command.arg(self.generations.to_string()).arg(unix_ms().to_string());
                command.stdin(Stdio::piped());
                self.agent = Some(self.spawn(command, "agent.log")?);
            }
        }
        Ok(())
    }

    fn spawn(&self, mut command: Command, log: &str) -> anyhow::Result<Child> {
        let open = || OpenOptions::new().create(true).append(true).open(self.work.join(log));
        let (out, err): (File, File) = (open()?, open()?);
        command.stdout(out).stderr(err).spawn().with_context(|| format!("start {command:?}"))
    }

    /// SIGKILL. A child that has ended by itself is an error: none has a reason to.
    pub(crate) fn kill(&mut self, side: Side) -> anyhow::Result<()> {
        let child = match side {
            Side::Collector => self.collector.take(),
            Side::Agent => self.agent.take(),
        };
        let Some(mut child) = child else { return Ok(()) };
        if let Some(status) = child.try_wait()? {
            bail!("the {side:?} ended by itself, with {status}");
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Lets the agent produce no more, and waits until it has nothing left to send.
    pub(crate) async fn drain_agent(&mut self, bound: Duration) -> anyhow::Result<()> {
        let Some(mut child) = self.agent.take() else { bail!("no agent runs") };
        drop(child.stdin.take());
        let ended = async {
            loop {
                match child.try_wait()? {
                    Some(status) if status.success() => return Ok(()),
                    Some(status) => bail!("the agent could not drain: {status}"),
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let ended = tokio::time::timeout(bound, ended).await;
        if ended.is_err() {
            self.agent = Some(child);
        }
        ended.context("drain the agent")?
    }

    /// Waits until the collector answers.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let url = format!("{}/-/ready", self.http);
        let client = reqwest::Client::new();
        let ready = async {
            loop {
                match client.get(&url).send().await {
                    Ok(reply) if reply.status().is_success() => return,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(READY, ready).await.context("wait for the collector to be ready")
    }

    /// Makes the agent a member.
    pub(crate) async fn join(&self) -> anyhow::Result<()> {
        let url = format!("{}/stoa/api/v1/tokens", self.http);
        let asked = reqwest::Client::new().post(url).json(&json!({"kind": "join"})).send().await?;
        let made: Value = asked.error_for_status()?.json().await?;
        let token = made.get("token").and_then(Value::as_str).context("no token was made")?;
        let dir = self.agent_dir();
        std::fs::create_dir_all(&dir)?;
        stoa_agent::join::join(token, &self.agents, "kill", &dir).await?;
        Ok(())
    }
}

/// A port of loopback that nobody has, for UDP and TCP, to be had again after each start.
fn free_address() -> anyhow::Result<String> {
    for _ in 0..100 {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address.to_string());
        }
    }
    bail!("no port is free")
}
