//! What to import, found and opened.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;
use stoa_daemon::Misuse;
use stoa_exchange::exposition::Format;
use stoa_exchange::prometheus_block::{BlockFiles, BlockReader, Meta};

use crate::query::say;

/// Of a text's end, what says its format.
const TAIL_BYTES: usize = 64;

/// The format as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// OpenMetrics where a file ends with "# EOF", else text
    Auto,
    /// Prometheus's text format: timestamps in milliseconds
    Text,
    /// OpenMetrics: timestamps in seconds
    Openmetrics,
}

/// One thing to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Exposition text; `-` is standard input.
    Text {
        /// Where.
        path: PathBuf,
        /// In which format.
        format: Format,
        /// Whether it is compressed.
        is_gzip: bool,
        /// How long it is; 0 when that is not known.
        bytes: u64,
    },
    /// A block of Prometheus's.
    Block {
        /// Its directory.
        dir: PathBuf,
        /// Samples in it, as it says.
        samples: u64,
        /// Bytes of its chunks.
        bytes: u64,
    },
}

impl Input {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Text { path, .. } => path,
            Self::Block { dir, .. } => dir,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Text { bytes, .. } | Self::Block { bytes, .. } => *bytes,
        }
    }
}

/// Finds what the arguments name: files, blocks, and the blocks within a data directory.
///
/// # Errors
/// [`Misuse`] when one is not there or holds nothing that can be imported.
pub(crate) fn find(paths: &[PathBuf], choice: Choice) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for path in paths {
        let misuse = |why: String| Misuse(format!("{}: {why}", path.display()));
        if path.as_os_str() == "-" {
            let format =
                if choice == Choice::Openmetrics { Format::OpenMetrics } else { Format::Text };
            inputs.push(Input::Text { path: path.clone(), format, is_gzip: false, bytes: 0 });
            continue;
        }
        let metadata = std::fs::metadata(path).map_err(|error| misuse(error.to_string()))?;
        if !metadata.is_dir() {
            inputs.push(
                text(path, choice, metadata.len()).map_err(|error| misuse(error.to_string()))?,
            );
        } else if path.join("meta.json").exists() {
            inputs.push(block(path)?);
        } else {
            let blocks = blocks_within(path)?;
            if blocks.is_empty() {
                return Err(
                    misuse("holds no block of Prometheus's (no */meta.json)".to_owned()).into()
                );
            }
            if path.join("wal").exists() {
                say(
                    "note: what Prometheus still has in its head (wal/) is not read; take a snapshot \
                     (POST /api/v1/admin/tsdb/snapshot) and import that to have it too",
                );
            }
            inputs.extend(blocks);
        }
    }
    Ok(inputs)
}

fn blocks_within(dir: &Path) -> anyhow::Result<Vec<Input>> {
    let context = || format!("list {}", dir.display());
    let mut blocks = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.join("meta.json").exists() {
            blocks.push(path);
        }
    }
    // A ULID begins with its time, so this is the order of writing.
    blocks.sort_unstable();
    blocks.iter().map(|path| block(path)).collect()
}

fn block(dir: &Path) -> anyhow::Result<Input> {
    let path = dir.join("meta.json");
    let context = || format!("read {}", path.display());
    let meta =
        Meta::from_json(&std::fs::read(&path).with_context(context)?).with_context(context)?;
    let metadata = segments(dir)?.into_iter().filter_map(|path| path.metadata().ok());
    let bytes = metadata.map(|metadata| metadata.len()).sum();
    Ok(Input::Block { dir: dir.to_owned(), samples: meta.stats.num_samples, bytes })
}

fn segments(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let dir = dir.join("chunks");
    let context = || format!("list {}", dir.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

fn text(path: &Path, choice: Choice, bytes: u64) -> io::Result<Input> {
    let mut file = File::open(path)?;
    let mut magic = [0; 2];
    let is_gzip = bytes >= 2 && file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let format = match choice {
        Choice::Text => Format::Text,
        Choice::Openmetrics => Format::OpenMetrics,
        Choice::Auto if is_gzip => {
            file.seek(SeekFrom::Start(0))?;
            Format::of_tail(&tail(MultiGzDecoder::new(file))?)
        }
        Choice::Auto => {
            file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES as u64)))?;
            Format::of_tail(&tail(file)?)
        }
    };
    Ok(Input::Text { path: path.to_owned(), format, is_gzip, bytes })
}

/// The last bytes of a stream.
fn tail(mut source: impl Read) -> io::Result<Vec<u8>> {
    let (mut tail, mut part) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = source.read(&mut part)?;
        if read == 0 {
            return Ok(tail);
        }
        tail.extend_from_slice(part.get(..read).unwrap_or_default());
        tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
    }
}

/// A text, opened.
pub(crate) fn open(path: &Path) -> anyhow::Result<Box<dyn Read + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(Box::new(file))
}

/// A block, opened.
pub(crate) fn open_block(dir: &Path) -> anyhow::Result<BlockReader<File>> {
    let open =
        |path: PathBuf| File::open(&path).with_context(|| format!("open {}", path.display()));
    let meta = dir.join("meta.json");
    let tombstones = dir.join("tombstones");
    Ok(BlockReader::open(BlockFiles {
        meta: std::fs::read(&meta).with_context(|| format!("read {}", meta.display()))?,
        index: open(dir.join("index"))?,
        segments: segments(dir)?.into_iter().map(open).collect::<anyhow::Result<_>>()?,
        tombstones: match std::fs::read(&tombstones) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", tombstones.display()));
            }
        },
    })?)
}
