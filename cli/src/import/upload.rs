//! Inputs sent to a collector: text as it is, blocks as text made on the way.

use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::Context as _;
use stoa_collector::import::ImportSummary;
use stoa_exchange::exposition::{CONTENT_TYPE, Format, OPENMETRICS_CONTENT_TYPE, Printer};
use stoa_exchange::prometheus_block::LeftOut;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::input::{self, Input};
use super::progress::Progress;
use crate::client::Client;

/// What is sent at once.
const PART_BYTES: usize = 256 << 10;
/// Parts made ahead of the network.
const PARTS_WAITING_MAX: usize = 8;

type Part = Result<Vec<u8>, io::Error>;

/// Sends all inputs: each text by itself, all blocks as one.
pub(super) async fn to_collector(
    client: &Client,
    inputs: Vec<Input>,
    labels: &[(String, String)],
) -> anyhow::Result<ImportSummary> {
    let mut summary = ImportSummary::default();
    let mut blocks = Vec::new();
    for input in inputs {
        match input {
            Input::Block { dir, bytes, .. } => blocks.push((dir, bytes)),
            Input::Text { path, format, is_gzip, bytes } => {
                let place = format!("import {}", path.display());
                let (sender, parts) = channel(PARTS_WAITING_MAX);
                let reading = tokio::task::spawn_blocking(move || read_text(&path, bytes, &sender));
                let sent = send(client, format, is_gzip, labels, parts).await;
                let read = reading.await.context("read the text")?;
                summary.add(&sent.and_then(|sent| read.map(|()| sent)).context(place)?);
            }
        }
    }
    if !blocks.is_empty() {
        let (sender, parts) = channel(PARTS_WAITING_MAX);
        let reading = tokio::task::spawn_blocking(move || read_blocks(&blocks, &sender));
        let sent = send(client, Format::Text, false, labels, parts).await;
        let read = reading.await.context("read the blocks")?;
        // What is wrong with a block says more than that the request was cut for it.
        let left_out = read?;
        summary.add(&sent?);
        summary.histogram_chunks += left_out.histogram_chunks;
        summary.damaged_chunks += left_out.damaged_chunks + left_out.unknown_chunks;
    }
    Ok(summary)
}

async fn send(
    client: &Client,
    format: Format,
    is_gzip: bool,
    labels: &[(String, String)],
    parts: Receiver<Part>,
) -> anyhow::Result<ImportSummary> {
    let content_type = match format {
        Format::Text => CONTENT_TYPE,
        Format::OpenMetrics => OPENMETRICS_CONTENT_TYPE,
    };
    let extra: Vec<(&str, String)> =
        labels.iter().map(|(name, value)| ("extra_label", format!("{name}={value}"))).collect();
    let body = reqwest::Body::wrap_stream(ReceiverStream::new(parts).map(|part| part));
    let text = client.import(&extra, content_type, is_gzip, body).await?;
    let answer: Answer = serde_json::from_str(&text).context("read the answer")?;
    Ok(answer.data)
}

#[derive(serde::Deserialize)]
struct Answer {
    data: ImportSummary,
}

fn read_text(path: &std::path::Path, bytes: u64, sender: &Sender<Part>) -> anyhow::Result<()> {
    let mut source = input::open(path)?;
    let mut progress = Sent::new(bytes);
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        let read = source.by_ref().take(PART_BYTES as u64).read_to_end(&mut part);
        match read {
            Ok(0) => break,
            Ok(read) => {
                if sender.blocking_send(Ok(part)).is_err() {
                    break; // The collector has answered already, and says why.
                }
                progress.add(read as u64);
            }
            Err(error) => {
                let kind = error.kind();
                drop(sender.blocking_send(Err(io::Error::from(kind))));
                return Err(error).with_context(|| format!("read {}", path.display()));
            }
        }
    }
    progress.progress.clear();
    Ok(())
}

/// Bytes of text sent, where samples are not known.
struct Sent {
    progress: Progress,
    bytes: u64,
}

impl Sent {
    fn new(all: u64) -> Self {
        Self { progress: Progress::new(all), bytes: 0 }
    }

    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.progress.tell(0, self.bytes);
    }
}

fn read_blocks(blocks: &[(PathBuf, u64)], sender: &Sender<Part>) -> anyhow::Result<LeftOut> {
    let mut progress = Progress::new(blocks.iter().map(|(_, bytes)| bytes).sum());
    let mut all = LeftOut::default();
    for (dir, bytes) in blocks {
        let read = read_block(dir, *bytes, sender, &mut progress);
        let left_out = read.with_context(|| format!("import {}", dir.display()));
        let left_out = left_out.inspect_err(|_failed| {
            // The collector must not take half of it for the whole.
            drop(sender.blocking_send(Err(io::Error::other("a block cannot be read"))));
        })?;
        all.histogram_chunks += left_out.histogram_chunks;
        all.damaged_chunks += left_out.damaged_chunks;
        all.unknown_chunks += left_out.unknown_chunks;
        progress.end_of_input(*bytes);
    }
    progress.clear();
    Ok(all)
}

fn read_block(
    dir: &std::path::Path,
    bytes: u64,
    sender: &Sender<Part>,
    progress: &mut Progress,
) -> anyhow::Result<LeftOut> {
    let mut block = input::open_block(dir)?;
    let all = block.meta().stats.num_samples.max(1);
    let (mut samples, mut read) = (Vec::new(), 0u64);
    let mut part = Vec::with_capacity(PART_BYTES);
    while let Some(labels) = block.next_series(&mut samples)? {
        let front = Printer::<Vec<u8>>::series_text(&labels);
        for (t, v) in &samples {
            Printer::new(&mut part, Format::Text).sample_of(&front, *v, *t)?;
            if part.len() >= PART_BYTES
                && sender.blocking_send(Ok(std::mem::take(&mut part))).is_err()
            {
                return Ok(block.left_out());
            }
        }
        read += samples.len() as u64;
        progress.tell(read, bytes.saturating_mul(read) / all);
    }
    if !part.is_empty() {
        drop(sender.blocking_send(Ok(part)));
    }
    Ok(block.left_out())
}
