//! `stoa completions`: a script for the shell that completes commands and flags.

use clap_complete::Shell;

use crate::query::print;

/// Print a completion script for a shell
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa completions bash > /etc/bash_completion.d/stoa
  stoa completions zsh > ~/.zfunc/_stoa
  stoa completions fish > ~/.config/fish/completions/stoa.fish")]
pub(crate) struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

/// Runs `stoa completions`; prints to standard output.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run(args: &CompletionsArgs, mut command: clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "stoa", &mut script);
    print(&String::from_utf8_lossy(&script))
}
