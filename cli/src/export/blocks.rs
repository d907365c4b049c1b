//! Blocks as Prometheus keeps them, one per two hours.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use stoa_exchange::prometheus_block::{BlockWriter, ulid};

use super::Exported;
use super::source::{Source, spans};

/// What Prometheus cuts from its head, and compacts later by itself.
const BLOCK_MS: i64 = 2 * 3_600_000;

/// Writes the blocks of a range into `out`, each under a temporary name until it is whole.
pub(super) async fn write(
    source: &Source,
    start: i64,
    end: i64,
    out: &Path,
    now_ms: i64,
) -> anyhow::Result<Exported> {
    fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let mut exported = Exported::default();
    let mut names = BTreeSet::new();
    for (from, to) in spans(start, end, BLOCK_MS) {
        let series = source.series(from, to).await?;
        if series.is_empty() {
            continue;
        }
        let name = ulid(now_ms, u128::from(RandomState::new().build_hasher().finish()));
        let tmp = out.join(format!("{name}.tmp"));
        let written = block(source, from, to, &series, (&name, &tmp), &mut exported).await;
        let written = written.with_context(|| format!("write {}", tmp.display()));
        if !matches!(written, Ok(Some(_))) {
            fs::remove_dir_all(&tmp).with_context(|| format!("remove {}", tmp.display()))?;
        }
        let Some(samples) = written? else { continue };
        fs::rename(&tmp, out.join(&name)).with_context(|| format!("rename {}", tmp.display()))?;
        exported.samples += samples;
        exported.blocks += 1;
        names.extend(series);
    }
    File::open(out)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("sync {}", out.display()))?;
    exported.series = names.len() as u64;
    Ok(exported)
}

/// Writes one block; says how many samples it has, if any.
async fn block(
    source: &Source,
    from: i64,
    to: i64,
    series: &[stoa_model::Labels],
    (name, dir): (&str, &Path),
    exported: &mut Exported,
) -> anyhow::Result<Option<u64>> {
    fs::create_dir_all(dir.join("chunks"))?;
    let symbols: BTreeSet<Arc<str>> = series
        .iter()
        .flat_map(stoa_model::Labels::iter)
        .flat_map(|label| [Arc::clone(&label.name), Arc::clone(&label.value)])
        .collect();
    let index = BufWriter::new(File::create(dir.join("index"))?);
    let chunks = dir.join("chunks");
    let next = |number: u32| File::create(chunks.join(format!("{number:06}"))).map(BufWriter::new);
    let mut writer = BlockWriter::new(name.to_owned(), symbols, index, next)?;
    let mut is_empty = true;
    for labels in series {
        let samples = source.samples(labels, from, to).await?;
        exported.histograms += samples.histograms_unread;
        if !samples.floats.is_empty() || !samples.histograms.is_empty() {
            is_empty = false;
            writer.series_with(labels, &samples.floats, &samples.histograms)?;
        }
    }
    if is_empty {
        return Ok(None);
    }
    let meta = writer.finish()?;
    fs::write(dir.join("meta.json"), meta.to_json()?)?;
    for path in fs::read_dir(&chunks)?.map(|entry| entry.map(|entry| entry.path())) {
        File::open(path?)?.sync_all()?;
    }
    for path in [dir.join("index"), dir.join("meta.json"), chunks, dir.to_owned()] {
        File::open(path)?.sync_all()?;
    }
    Ok(Some(meta.stats.num_samples))
}
