//! `stoa host`: lists, shows, revokes and unlocks the hosts that have joined.

use clap::{Args, Subcommand};
use reqwest::Method;
use stoa_collector::hosts::Standing;
use stoa_collector::http::admin::HostLine;
use stoa_collector::inventory::{Changes, Dated};
use stoa_daemon::{Misuse, unix_ms};
use stoa_model::HostId;

use crate::client::Client;
use crate::query::{print, when};
use crate::table::{columns, moment};
use crate::token::Output;
use crate::tree::drawn::{Shape, drawn};
use crate::tree::{Tree, figures};

mod inventory;

/// List hosts, show what one is made of and what has changed on it, revoke and unlock
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  stoa host list
  stoa host show pve1
  stoa host diff pve1 --since 1d
  stoa host tree")]
pub(crate) struct HostArgs {
    #[command(subcommand)]
    command: HostCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum HostCommand {
    /// List every host that has joined
    #[command(after_help = "Example: stoa host list --json")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show what a host is made of: system, machine, disks, mounts, network, packages, units
    ///
    /// The agent tells it when it changes. Free space, load and the like are series: see stoa query.
    #[command(after_help = "\
Examples:
  stoa host show pve1
  stoa host show pve1 --at yesterday
  stoa host show pve1 --json")]
    Show {
        /// The host's name, as listed
        name: String,
        /// Show what was so then, e.g. yesterday, 2h ago, 2026-01-31 14:30
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Show what has been added to a host, removed from it and changed on it, with times
    ///
    /// The times are the collector's, of when the agent told. Kept are 90 days and at most 200
    /// changes of a host.
    #[command(after_help = "\
Examples:
  stoa host diff pve1
  stoa host diff pve1 --since 30d
  stoa host diff pve1 --since 90d --net")]
    Diff {
        /// The host's name, as listed
        name: String,
        /// How far back, e.g. 2h, 1d, 30d
        #[arg(long, value_name = "DURATION", default_value = "1d")]
        since: String,
        /// Compare now with then in one step: what was changed and changed back is not told
        #[arg(long)]
        net: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Show what runs on hosts: guests, containers, units, processes and GPUs, with live numbers
    ///
    /// A node's id is its path, from the host on: pve1/lxc/101/docker/0123456789ab. The labels host, guest,
    /// container and unit of a series are the steps of it. An agent inside a guest is found by the guest's
    /// name, and stands below its node.
    #[command(after_help = "\
Examples:
  stoa host tree
  stoa host tree pve1 --processes
  stoa host tree --limit 50 --ids
  stoa host tree --json                       all of it, each node with its id")]
    Tree {
        /// Only this host
        name: Option<String>,
        /// Processes, too; those on a GPU always are
        #[arg(long)]
        processes: bool,
        /// How many of a kind below one node
        #[arg(long, value_name = "N", default_value_t = 8)]
        limit: usize,
        /// Ids beside the names
        #[arg(long)]
        ids: bool,
        #[command(flatten)]
        output: Output,
    },
    /// End a host's membership: its connections are cut and its certificates refused
    #[command(after_help = "Example: stoa host revoke pve1")]
    Revoke {
        /// The host's name, as listed
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Trust the current holder of a locked host's identity again
    ///
    /// A host is locked when an older certificate of it is used to renew: a clone, a stolen key, or
    /// a rollback to an old snapshot.
    #[command(after_help = "Example: stoa host unlock pve1")]
    Unlock {
        /// The host's name, as listed
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

/// Runs `stoa host`.
///
/// # Errors
/// With [`Misuse`] in the chain when an argument is wrong; else when there is no answer.
pub(crate) async fn run(args: HostArgs) -> anyhow::Result<()> {
    match args.command {
        HostCommand::List { output } => {
            let text = output.ask(Method::GET, &["hosts"], None).await?;
            let lines: Vec<HostLine> = serde_json::from_str(&text)?;
            print(&if output.json { text + "\n" } else { listed(&lines) })
        }
        HostCommand::Show { name, at, output } => {
            let host = host_of(&name)?;
            let at = at.map(|at| when::moment("--at", &at, unix_ms())).transpose()?;
            let at: Vec<(&str, String)> = at.iter().map(|at| ("at_ms", at.to_string())).collect();
            let text = output.read(&["hosts", host.as_str(), "inventory"], &at).await?;
            let dated: Dated = serde_json::from_str(&text)?;
            print(&if output.json { text + "\n" } else { inventory::shown(&dated) })
        }
        HostCommand::Diff { name, since, net, output } => {
            let host = host_of(&name)?;
            let since = when::span("--since", &since)?;
            let parameters = [("since_ms", since.to_string()), ("net", net.to_string())];
            let path = ["hosts", host.as_str(), "inventory", "changes"];
            let text = output.read(&path, &parameters).await?;
            let told: Changes = serde_json::from_str(&text)?;
            print(&if output.json { text + "\n" } else { inventory::changed(&told) })
        }
        HostCommand::Tree { name, processes, limit, ids, output } => {
            let mut tree = Tree::of(&figures::ask(&Client::new(&output.server)?).await?);
            if let Some(name) = name {
                let host = host_of(&name)?;
                let missing =
                    || anyhow::anyhow!("nothing runs on {host} now, or no such host is heard");
                tree = tree.of_host(host.as_str()).ok_or_else(missing)?;
            }
            if output.json {
                return print(&(serde_json::to_string(&tree)? + "\n"));
            }
            print(&drawn(&tree, Shape { processes, limit, ids }))
        }
        HostCommand::Revoke { name, output } => act(&name, "revoke", "revoked", &output).await,
        HostCommand::Unlock { name, output } => act(&name, "unlock", "unlocked", &output).await,
    }
}

async fn act(name: &str, verb: &str, done: &str, output: &Output) -> anyhow::Result<()> {
    let host = host_of(name)?;
    let path = ["hosts", host.as_str(), verb];
    let text = output.ask(Method::POST, &path, None).await?;
    print(&if output.json { text + "\n" } else { format!("{done} {host}\n") })
}

fn host_of(name: &str) -> Result<HostId, Misuse> {
    HostId::parse(name).map_err(|error| Misuse(error.to_string()))
}

fn listed(lines: &[HostLine]) -> String {
    if lines.is_empty() {
        return "no host has joined; make a token for one with: stoa token create\n".to_owned();
    }
    let titles = ["name", "status", "joined", "certificate until", "agent"];
    let mut rows = vec![titles.map(str::to_owned)];
    for HostLine { name, host } in lines {
        let standing = match &host.standing {
            Standing::Active => "active".to_owned(),
            Standing::Locked { at_ms, .. } => format!("locked since {}", moment(*at_ms)),
            Standing::Revoked { at_ms } => format!("revoked since {}", moment(*at_ms)),
        };
        let newest = host.pending.as_ref().unwrap_or(&host.current);
        rows.push([
            name.clone(),
            standing,
            moment(host.joined_ms),
            moment(newest.not_after_ms),
            host.agent_version.clone(),
        ]);
    }
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_listed_with_where_they_stand() {
        let host = |status: &str| -> HostLine {
            let text = format!(
                r#"{{"name":"pve1","joined_ms":0,"agent_version":"0.1.0","generation":1,
                "current":{{"serial":"00","not_after_ms":1000}},"pending":null,"past":[],{status}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let lines = [
            host(r#""status":"active""#),
            host(r#""status":"revoked","at_ms":0"#),
            host(r#""status":"locked","at_ms":0,"serial":"01""#),
        ];
        let text = listed(&lines);
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "pve1  active                              1970-01-01T00:00:00Z  \
             1970-01-01T00:00:01Z  0.1.0"
        );
        assert!(
            text.contains("locked since 1970") && text.contains("revoked since 1970"),
            "{text}"
        );
        assert!(listed(&[]).contains("stoa token create"));
    }
}
