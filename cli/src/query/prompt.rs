//! The prompt of `stoa query`: reads an expression, asks it, shows the answer, again and again.
//!
//! It owns the terminal while it reads a line and nothing of it while a question runs, so that Ctrl-C
//! then is a signal: it ends the question (the collector stops evaluating as its client leaves), not
//! the prompt. What was asked is kept in a file of the person's own ([`HISTORY_MAX`] entries, mode
//! 600; `STOA_HISTORY` names another, or none when it is empty).

mod commands;
mod complete;
mod names;
mod place;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustyline::config::Configurer as _;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use stoa_daemon::{Misuse, unix_ms};
use tokio::runtime::Handle;

use self::commands::Command;
use self::complete::Help;
use super::{Format, QueryArgs, ask, say};
use crate::client::Client;

/// What was asked that is remembered.
const HISTORY_MAX: usize = 2000;

/// Names another file for it.
const HISTORY_ENV: &str = "STOA_HISTORY";

type Prompt = Editor<Help, FileHistory>;

/// Runs until Ctrl-D or `\quit`.
///
/// # Errors
/// When the terminal cannot be used; never for a question that has no answer.
pub(super) async fn run(mut args: QueryArgs, client: Client) -> anyhow::Result<()> {
    let history = history_path();
    let mut editor = editor(client.clone(), history.as_deref())?;
    say("Ask in PromQL; Tab completes, \\help says more, Ctrl-D ends.");
    loop {
        // The runtime has other threads; this one has nothing else to do.
        let line = tokio::task::block_in_place(|| editor.readline("stoa> "));
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error).context("read from the terminal"),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        remember(&mut editor, line, history.as_deref());
        let step = match commands::parsed(line) {
            Some(Ok(Command::Quit)) => return Ok(()),
            Some(Ok(command)) => obey(command, &mut args),
            Some(Err(why)) => Err(Misuse(why).into()),
            None => unless_stopped(ask(&client, &args, line)).await,
        };
        if let Err(error) = step {
            say(&format!("error: {error:#}"));
        }
    }
}

/// Waits for work, or for Ctrl-C, which ends it.
async fn unless_stopped(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! {
        done = work => done,
        signal = tokio::signal::ctrl_c() => {
            signal.context("wait for Ctrl-C")?;
            say("stopped");
            Ok(())
        }
    }
}

fn obey(command: Command, args: &mut QueryArgs) -> anyhow::Result<()> {
    let mut wanted = args.clone();
    match command {
        Command::Help => {
            say(commands::HELP);
            return Ok(());
        }
        Command::Quit | Command::Show => {}
        Command::Range(range) => {
            wanted.question.from = None;
            if range.is_none() {
                wanted.question.step = None;
            }
            wanted.question.range = range;
        }
        Command::Step(step) => wanted.question.step = step,
        Command::Time(time) => wanted.question.time = time,
        Command::Format(format) => {
            wanted.json = false;
            wanted.format =
                match format.as_deref() {
                    None => None,
                    Some(name) => Some(<Format as clap::ValueEnum>::from_str(name, true).map_err(
                        |_unknown| Misuse(format!("{name:?} is none of table, chart, csv, json")),
                    )?),
                };
        }
    }
    wanted.question.meant(unix_ms(), 100)?;
    *args = wanted;
    say(&shown(args));
    Ok(())
}

/// How questions are asked now.
fn shown(args: &QueryArgs) -> String {
    let time = args.question.time.as_deref().unwrap_or("now");
    let stretch = match (&args.question.range, &args.question.from) {
        (Some(range), _) => format!("the {range} before {time}"),
        (None, Some(from)) => format!("from {from} to {time}"),
        (None, None) => format!("at one time: {time}"),
    };
    let step = args.question.step.as_deref().map(|step| format!(", every {step}"));
    let format = match (args.format, args.json) {
        (Some(format), _) => format!("{format:?}").to_lowercase(),
        (None, true) => "json".to_owned(),
        (None, false) => "as it fits".to_owned(),
    };
    format!("{stretch}{}; shown: {format}", step.unwrap_or_default())
}

fn editor(client: Client, history: Option<&Path>) -> anyhow::Result<Prompt> {
    let config = Config::builder()
        .max_history_size(HISTORY_MAX)
        .and_then(|builder| builder.history_ignore_dups(true))
        .context("set up the prompt")?
        .completion_type(CompletionType::List)
        .bracketed_paste(true)
        .build();
    let mut editor: Prompt = Editor::with_config(config).context("open the terminal")?;
    editor.set_auto_add_history(false);
    editor.set_helper(Some(Help::new(client, Handle::current())));
    if let Some(path) = history
        && path.exists()
        && let Err(error) = editor.load_history(path)
    {
        say(&format!(
            "warning: cannot read what was asked before from {}: {error}",
            path.display()
        ));
    }
    Ok(editor)
}

fn remember(editor: &mut Prompt, line: &str, path: Option<&Path>) {
    let added = editor.add_history_entry(line).unwrap_or(false);
    let Some(path) = path.filter(|_| added) else { return };
    // One that cannot be kept is still known until the prompt ends.
    let _not_kept = private_dir(path).and_then(|()| {
        editor.append_history(path).map_err(|error| std::io::Error::other(error.to_string()))
    });
}

/// The directory of the file, for nobody else to look into.
fn private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let Some(dir) = path.parent() else { return Ok(()) };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// `$STOA_HISTORY`, else `$XDG_STATE_HOME/stoa/query_history`, else `~/.local/state/…`.
fn history_path() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name);
    if let Some(path) = of(HISTORY_ENV) {
        return Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty());
    }
    let absolute = |path: PathBuf| Some(path).filter(|path| path.is_absolute());
    let state = of("XDG_STATE_HOME").map(PathBuf::from).and_then(absolute);
    let home = || Some(absolute(PathBuf::from(of("HOME")?))?.join(".local/state"));
    Some(state.or_else(home)?.join("stoa/query_history"))
}
