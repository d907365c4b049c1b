//! `stoa delete`: samples of series, after saying which.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use serde::Deserialize;
use stoa_collector::http::prometheus::rfc3339;
use stoa_daemon::{Misuse, unix_ms};

use crate::client::{Client, ServerArgs};
use crate::export::moment;
use crate::query::{print, say};
use crate::table::{counted, printable};

/// Series asked for, to say how many there are.
const SERIES_MAX: usize = 10_000;
/// Series that are named.
const SHOWN_MAX: usize = 20;

/// Delete the samples of series, for ever
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa delete 'node_cpu_seconds_total{host=\"old\"}'
  stoa delete '{host=\"old\"}' --yes --clean
  stoa delete 'up{host=\"pve1\"}' --start 2026-01-31T12:00:00Z --end -1h

Says which series it will delete and asks, unless --yes is given. What is deleted is in no answer from
then on, and leaves the disk when its block is merged, at once with --clean. Samples that are sent
again later are kept. Needs a token of scope admin, but on loopback.")]
pub(crate) struct DeleteArgs {
    /// Selectors of the series, as in a query
    #[arg(value_name = "MATCHER", required = true)]
    matchers: Vec<String>,
    /// The first instant: RFC 3339, Unix seconds, or -AGE [default: the beginning]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: Option<String>,
    /// The last instant, likewise [default: the end]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<String>,
    /// Take what was deleted off the disk at once; writes the blocks it lies in anew
    #[arg(long)]
    clean: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// The collector to ask.
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Series {
    data: Vec<BTreeMap<String, String>>,
}

/// Runs `stoa delete`.
///
/// # Errors
/// With [`Misuse`] in the chain when an argument is wrong or nobody can be asked; else when the
/// collector does not do it.
pub(crate) async fn run(args: DeleteArgs) -> anyhow::Result<()> {
    let now_ms = unix_ms();
    let instant = |flag: &str, text: &Option<String>| {
        text.as_ref().map(|text| moment(flag, text, now_ms)).transpose()
    };
    let (start, end) = (instant("--start", &args.start)?, instant("--end", &args.end)?);
    if start.zip(end).is_some_and(|(start, end)| end < start) {
        return Err(Misuse("--end is before --start".to_owned()).into());
    }
    let client = Client::new(&args.server)?;
    let mut form: Vec<(&str, String)> =
        args.matchers.iter().map(|text| ("match[]", text.clone())).collect();
    form.extend(start.map(|t| ("start", rfc3339(t))));
    form.extend(end.map(|t| ("end", rfc3339(t))));
    let mut asked = form.clone();
    asked.push(("limit", (SERIES_MAX + 1).to_string()));
    let answer = client.prometheus("/api/v1/series", &asked).await?;
    let Series { data } = serde_json::from_str(&answer.text)?;
    if data.is_empty() {
        return print("no series match\n");
    }
    if !args.yes {
        say(&told(&data, start, end));
        if !std::io::stdin().is_terminal() {
            return Err(Misuse("nobody to ask; with --yes it is deleted".to_owned()).into());
        }
        if !is_agreed()? {
            return print("nothing was deleted\n");
        }
    }
    client.admin("/api/v1/admin/tsdb/delete_series", &form).await?;
    if args.clean {
        client.admin("/api/v1/admin/tsdb/clean_tombstones", &[]).await?;
    }
    print(&format!("deleted samples of {}\n", number(&data)))
}

fn number(series: &[BTreeMap<String, String>]) -> String {
    match series.len() {
        many if many > SERIES_MAX => format!("more than {SERIES_MAX} series"),
        few => format!("{few} series"),
    }
}

fn told(series: &[BTreeMap<String, String>], start: Option<i64>, end: Option<i64>) -> String {
    let mut out = String::new();
    for labels in series.iter().take(SHOWN_MAX) {
        let name = labels.get("__name__").map(String::as_str).unwrap_or_default();
        let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value:?}")).collect();
        let line = printable(&format!("  {name}{{{}}}", pairs.join(",")));
        let _infallible = writeln!(out, "{line}");
    }
    if let Some(more) = series.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        let _infallible = writeln!(out, "  and {}", counted(more as u64, "more"));
    }
    let moment = |t: Option<i64>, always: &str| t.map_or(always.to_owned(), rfc3339);
    let (start, end) = (moment(start, "the beginning"), moment(end, "the end"));
    let _infallible =
        writeln!(out, "This deletes the samples of {} from {start} to {end}.", number(series));
    out
}

fn is_agreed() -> std::io::Result<bool> {
    let mut out = std::io::stderr();
    out.write_all(b"Delete them? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_will_be_deleted_is_said() {
        let labels = |n: usize| {
            let pairs = [("__name__", "up".to_owned()), ("host", format!("pve{n}\u{1b}"))];
            pairs.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
        };
        let series: Vec<_> = (0..23).map(labels).collect();
        let text = told(&series, Some(0), None);
        assert!(text.contains("  and 3 more"), "{text}");
        assert!(text.contains("of 23 series from 1970-01-01T00:00:00Z to the end"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
