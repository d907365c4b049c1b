//! `stoa token`: makes, lists and revokes join tokens and API tokens.

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use stoa_collector::http::Scope;
use stoa_collector::http::admin::{TokenAsk, TokenLine, TokenMade};
use stoa_collector::http::prometheus::duration;
use stoa_daemon::Misuse;

use crate::client::{Client, ServerArgs};
use crate::query::{print, say};
use crate::table::{columns, moment};

/// Make, list and revoke tokens: for hosts to join, for Grafana and people to ask
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: stoa token create --scope read --remark grafana")]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it, this once
    ///
    /// Without --scope: a join token, good for one host. With it: an API token, for --token-file,
    /// Grafana's data source (a bearer token, or any user name with the token as password).
    #[command(after_help = "\
Examples:
  stoa token create
  stoa token create --host pve1 --ttl 15m
  stoa token create --scope read --remark grafana")]
    Create {
        /// Bind the join token to this host name; replaces a host of that name
        #[arg(long, value_name = "NAME", conflicts_with = "scope")]
        host: Option<String>,
        /// Make an API token that may do this: read, write or admin
        #[arg(long, value_name = "SCOPE")]
        scope: Option<Scope>,
        /// What the API token is for
        #[arg(long, value_name = "TEXT", requires = "scope")]
        remark: Option<String>,
        /// How long it is good, e.g. 1h [default: 1h to join, for ever for the API]
        #[arg(long, value_name = "DURATION")]
        ttl: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List tokens, without their secrets
    #[command(after_help = "Example: stoa token list --json")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// End a token; a host that has joined with it stays
    #[command(after_help = "Example: stoa token revoke 0123456789abcdef")]
    Revoke {
        /// The token's id, as listed
        id: String,
        #[command(flatten)]
        output: Output,
    },
}

/// How to print, and whom to ask.
#[derive(Clone, Debug, Args)]
pub(crate) struct Output {
    /// Print the collector's answer as it came (JSON)
    #[arg(long)]
    pub(crate) json: bool,
    /// The collector to ask.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Runs `stoa token`.
///
/// # Errors
/// With [`Misuse`] in the chain when an argument is wrong; else when there is no answer.
pub(crate) async fn run(args: TokenArgs) -> anyhow::Result<()> {
    match args.command {
        TokenCommand::Create { host, scope, remark, ttl, output } => {
            let ask = ask_of(host, scope, remark, ttl.as_deref())?;
            let body = serde_json::to_value(&ask)?;
            let text = output.ask(Method::POST, &["tokens"], Some(body)).await?;
            let made: TokenMade = serde_json::from_str(&text)?;
            if output.json {
                return print(&(text + "\n"));
            }
            if std::io::stdout().is_terminal() {
                return print(&format!("{}\n\n{}\n", made.token, told(&made, &ask, &made.token)));
            }
            // A script takes the token from the pipe; a person still reads the rest, which may end
            // in a log and holds no secret.
            say(&told(&made, &ask, "TOKEN"));
            print(&format!("{}\n", made.token))
        }
        TokenCommand::List { output } => {
            let text = output.ask(Method::GET, &["tokens"], None).await?;
            let lines: Vec<TokenLine> = serde_json::from_str(&text)?;
            print(&if output.json { text + "\n" } else { listed(&lines) })
        }
        TokenCommand::Revoke { id, output } => {
            let text = output.ask(Method::DELETE, &["tokens", &id], None).await?;
            let done: Revoked = serde_json::from_str(&text)?;
            let told = format!("revoked the token {}\n", crate::table::printable(&done.revoked));
            print(&if output.json { text + "\n" } else { told })
        }
    }
}

impl Output {
    /// Asks the collector's own API; what it says no to is the caller's misuse.
    ///
    /// # Errors
    /// When there is no answer, or it is no.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<String> {
        Client::new(&self.server)?.own(method, path, body).await
    }

    /// Asks for something to read, with parameters.
    ///
    /// # Errors
    /// When there is no answer, or it is no.
    pub(crate) async fn read(
        &self,
        path: &[&str],
        parameters: &[(&str, String)],
    ) -> anyhow::Result<String> {
        Client::new(&self.server)?.own_of(Method::GET, path, parameters, None).await
    }
}

#[derive(Deserialize)]
struct Revoked {
    revoked: String,
}

fn ask_of(
    host: Option<String>,
    scope: Option<Scope>,
    remark: Option<String>,
    ttl: Option<&str>,
) -> Result<TokenAsk, Misuse> {
    let ttl_s = ttl.map(seconds).transpose()?;
    Ok(match scope {
        None => TokenAsk::Join { host, ttl_s },
        Some(scope) => TokenAsk::Api { scope, remark, ttl_s },
    })
}

fn seconds(ttl: &str) -> Result<u32, Misuse> {
    let ms = duration(ttl).map_err(|error| Misuse(format!("--ttl: {error}")))?;
    match u32::try_from(ms / 1000) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(Misuse(format!("--ttl: {ttl:?} is not between a second and a century"))),
    }
}

/// What to do with the token, which is told as `token`.
fn told(made: &TokenMade, ask: &TokenAsk, token: &str) -> String {
    let until = made.expires_ms.map_or("for ever".to_owned(), |ms| format!("until {}", moment(ms)));
    let id = &made.id;
    match ask {
        TokenAsk::Join { host, .. } => {
            let name = host.as_ref().map(|name| format!(" --name {name}")).unwrap_or_default();
            format!(
                "Good for one host, {until}. On that host, with the address and port where agents \
                 reach this collector (7443 unless set):\n  \
                 stoa-agent join {token} --collector ADDRESS:PORT{name}"
            )
        }
        TokenAsk::Api { scope, .. } => {
            format!("Good for {scope}, {until}; not shown again. Its id is {id}.")
        }
    }
}

fn listed(lines: &[TokenLine]) -> String {
    let mut rows = vec![["id", "kind", "for", "made", "good until", "used by"].map(str::to_owned)];
    for line in lines {
        let purpose = match (&line.scope, &line.host, line.remark.as_deref()) {
            (Some(scope), _, Some(remark)) if !remark.is_empty() => format!("{scope}: {remark}"),
            (Some(scope), _, _) => scope.to_string(),
            (None, Some(host), _) => host.clone(),
            (None, None, _) => "any name".to_owned(),
        };
        rows.push([
            line.id.clone(),
            line.kind.clone(),
            purpose,
            moment(line.created_ms),
            line.expires_ms.map_or("for ever".to_owned(), moment),
            line.used_by.clone().unwrap_or_default(),
        ]);
    }
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_duration_of_at_least_a_second() {
        for (ttl, want) in [("1h", Some(3600)), ("15m", Some(900)), ("90", Some(90))] {
            assert_eq!(seconds(ttl).ok(), want, "{ttl}");
        }
        for ttl in ["", "x", "0", "-1h", "1ms", "9999y"] {
            assert!(seconds(ttl).is_err(), "{ttl}");
        }
    }

    #[test]
    fn what_to_do_with_a_token_is_told() {
        let made = TokenMade { token: "T".into(), id: "i".into(), expires_ms: Some(0) };
        let join = ask_of(Some("pve1".into()), None, None, Some("1h")).unwrap();
        let text = told(&made, &join, "T");
        assert!(text.starts_with("Good for one host, until 1970-01-01T00:00:00Z."), "{text}");
        assert!(text.ends_with("join T --collector ADDRESS:PORT --name pve1"), "{text}");
        let api = ask_of(None, Some(Scope::Read), None, None).unwrap();
        let made = TokenMade { expires_ms: None, ..made };
        assert!(told(&made, &api, "T").starts_with("Good for read, for ever;"));
    }

    #[test]
    fn a_list_is_aligned_and_cannot_drive_the_terminal() {
        let line = TokenLine {
            id: "0011".into(),
            kind: "api".into(),
            scope: Some(Scope::Read),
            host: None,
            remark: Some("a\u{1b}[31m".into()),
            created_ms: 0,
            expires_ms: None,
            used_by: None,
        };
        let join = TokenLine { kind: "join".into(), scope: None, remark: None, ..line.clone() };
        assert_eq!(
            listed(&[line, join]),
            "id    kind  for                made                  good until  used by\n\
             0011  api   read: a\\u{1b}[31m  1970-01-01T00:00:00Z  for ever\n\
             0011  join  any name           1970-01-01T00:00:00Z  for ever\n"
        );
    }
}
