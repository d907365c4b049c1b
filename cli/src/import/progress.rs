//! The line under a running import: how much, how fast, how long still.

use std::io::{self, IsTerminal as _, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

/// The line is drawn again no sooner than after this.
const PACE: Duration = Duration::from_millis(200);

/// Draws the line on standard error, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    drawn: Option<Instant>,
    is_shown: bool,
    bytes_all: u64,
    /// Of inputs that are done.
    samples: u64,
    bytes: u64,
    /// Of the one being read.
    samples_here: u64,
}

impl Progress {
    /// Progress through inputs of so many bytes; 0 when that is not known.
    pub(crate) fn new(bytes_all: u64) -> Self {
        Self {
            started: Instant::now(),
            drawn: None,
            is_shown: io::stderr().is_terminal(),
            bytes_all,
            samples: 0,
            bytes: 0,
            samples_here: 0,
        }
    }

    /// Says how far the input at hand is.
    pub(crate) fn tell(&mut self, samples: u64, bytes: u64) {
        self.samples_here = samples;
        if self.is_due() {
            let seconds = self.started.elapsed().as_secs_f64();
            let (samples, bytes) = (self.samples + samples, self.bytes + bytes);
            self.draw(&line(samples, bytes, self.bytes_all, seconds));
        }
    }

    /// The input at hand, of so many bytes, is done.
    pub(crate) fn end_of_input(&mut self, bytes: u64) {
        self.samples += self.samples_here;
        self.samples_here = 0;
        self.bytes += bytes;
    }

    /// Says how many blocks are written.
    pub(crate) fn writing(&mut self, done: usize, all: usize) {
        if self.is_due() {
            self.draw(&format!("writing block {done} of {all}"));
        }
    }

    /// Wipes the line.
    pub(crate) fn clear(&mut self) {
        if self.drawn.is_some() {
            self.draw("");
        }
    }

    fn is_due(&self) -> bool {
        self.is_shown && self.drawn.is_none_or(|drawn| drawn.elapsed() >= PACE)
    }

    fn draw(&mut self, text: &str) {
        self.drawn = Some(Instant::now());
        let mut out = io::stderr().lock();
        // A terminal that is gone misses nothing.
        drop(write!(out, "\r\u{1b}[2K{text}").and_then(|()| out.flush()));
    }
}

fn line(samples: u64, bytes: u64, bytes_all: u64, seconds: f64) -> String {
    let rate = samples as f64 / seconds.max(0.001);
    let mut text = format!("{} samples · {} samples/s", short(samples), short(whole(rate)));
    if bytes > 0 && bytes_all > 0 {
        let part = (bytes as f64 / bytes_all as f64).min(1.0);
        let left = whole((seconds / part * (1.0 - part)).ceil());
        text.push_str(&format!(
            " · {:.0} % · {} min {} s left",
            part * 100.0,
            left / 60,
            left % 60
        ));
    }
    text
}

/// A figure without its fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "for a person; `as` saturates"
)]
pub(crate) fn whole(figure: f64) -> u64 {
    figure as u64
}

/// A count as a person says it: 950, 12.3 k, 1.50 M.
#[must_use]
pub(crate) fn short(count: u64) -> String {
    match count {
        0..=9_999 => count.to_string(),
        10_000..=999_999 => format!("{:.1} k", count as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.2} M", count as f64 / 1e6),
        _ => format!("{:.2} G", count as f64 / 1e9),
    }
}

/// A source whose bytes are counted as they are read.
#[derive(Debug)]
pub(crate) struct Counted<R> {
    source: R,
    count: Count,
}

/// How many bytes a [`Counted`] source gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicU64>);

impl<R> Counted<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, count: Count::default() }
    }

    pub(crate) fn count(&self) -> Count {
        self.count.clone()
    }
}

impl Count {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(out)?;
        self.count.0.fetch_add(read as u64, Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_much_how_fast_and_how_long_still() {
        assert_eq!(
            line(1_500_000, 250, 1000, 1.0),
            "1.50 M samples · 1.50 M samples/s · 25 % · 0 min 3 s left"
        );
        assert_eq!(line(30_000, 5, 0, 2.0), "30.0 k samples · 15.0 k samples/s");
    }
}
