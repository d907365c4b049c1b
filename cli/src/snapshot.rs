//! `stoa snapshot`: a consistent copy of the running collector's store.

use serde::Deserialize;

use crate::client::{Client, ServerArgs};
use crate::query::print;
use crate::table::printable;

/// Copy the running collector's metrics, for a backup
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa snapshot
  rsync -a /var/lib/stoa/metrics/snapshots/$(stoa snapshot)/ backup:stoa-metrics/

Prints the name of a directory below metrics/snapshots of the collector's data directory. It has
everything stored before, opens as metrics/ does, and shares its blocks with it: it takes room as
these are merged. Remove it when it has been copied away. Needs a token of scope admin, but on
loopback.")]
pub(crate) struct SnapshotArgs {
    /// Print the collector's answer as it came (JSON)
    #[arg(long)]
    json: bool,
    /// The collector to ask.
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Made {
    data: Name,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

/// Runs `stoa snapshot`.
///
/// # Errors
/// With [`stoa_daemon::Misuse`] in the chain when an argument is wrong; else when none was made.
pub(crate) async fn run(args: SnapshotArgs) -> anyhow::Result<()> {
    let text = Client::new(&args.server)?.admin("/api/v1/admin/tsdb/snapshot", &[]).await?;
    let made: Made = serde_json::from_str(&text)?;
    print(&if args.json { text + "\n" } else { printable(&made.data.name) + "\n" })
}
