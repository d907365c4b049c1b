//! The `stoa` command.

mod bench;
mod chart;
mod client;
mod completions;
mod corpus;
mod delete;
mod explain;
mod export;
mod fsck;
mod host;
mod import;
mod local;
mod progress;
mod query;
mod record;
mod snapshot;
mod status_line;
mod table;
mod test;
mod token;
mod top;
mod tree;
mod up;

use clap::{CommandFactory as _, Parser};
use stoa_daemon::Exit;

#[derive(Debug, Parser)]
#[command(
    name = "stoa",
    version,
    about = "Stoa: see and steer your hosts",
    arg_required_else_help = true,
    after_help = "\
Examples:
  stoa up
  stoa query 'up'
  stoa explain 'rate(node_cpu_seconds_total[5m])'
  stoa token create
  stoa host list
  stoa host tree
  stoa top"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Up(up::UpArgs),
    Query(query::QueryArgs),
    Explain(explain::ExplainArgs),
    Token(token::TokenArgs),
    Host(host::HostArgs),
    Top(top::TopArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    Test(test::TestArgs),
    Record(record::RecordArgs),
    Bench(bench::BenchArgs),
    Delete(delete::DeleteArgs),
    Snapshot(snapshot::SnapshotArgs),
    Fsck(fsck::FsckArgs),
    Completions(completions::CompletionsArgs),
}

#[tokio::main]
async fn main() -> Exit {
    stoa_daemon::open_as_many_as_allowed();
    let result = match Cli::parse().command {
        Command::Up(args) => up::run(args).await,
        Command::Query(args) => query::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Token(args) => token::run(args).await,
        Command::Host(args) => host::run(args).await,
        Command::Top(args) => top::run(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Test(args) => test::run(&args),
        Command::Record(args) => record::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Delete(args) => delete::run(args).await,
        Command::Snapshot(args) => snapshot::run(args).await,
        Command::Fsck(args) => fsck::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
    };
    Exit::from(result)
}
