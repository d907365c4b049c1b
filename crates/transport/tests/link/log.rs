//! What was logged, for tests that care what an operator reads.

use std::io;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static INSTALLED: Once = Once::new();

struct Sink;

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Sink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

/// Keeps what is logged from now on, at warn and above.
pub(crate) fn keep() {
    INSTALLED.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(|| Sink)
            .init();
    });
}

/// The first line that has all of `parts`, as soon as it is there; a few seconds' patience.
pub(crate) async fn line(parts: &[&str]) -> String {
    for _ in 0..200 {
        let bytes = LINES.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8(bytes).unwrap();
        if let Some(line) = text.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
            return line.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let bytes = LINES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    panic!("no line with {parts:?} in:\n{}", String::from_utf8_lossy(&bytes));
}
