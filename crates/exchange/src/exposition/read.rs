//! Lines from a stream.
//!
//! Memory: one buffer, at least [`BUFFER_BYTES`] and at most twice [`LINE_BYTES_MAX`], whatever the
//! length of the stream.

use std::io::{self, Read};

use memchr::memchr;

use super::Format;
use super::line::{Line, SyntaxError, parse_line};

/// The longest line that is read, in bytes: a sample with all the labels a person could want.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// What is read from the stream at once, at least.
const BUFFER_BYTES: usize = 256 << 10;

/// Why reading a text stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream failed.
    #[error("read the text")]
    Io(#[from] io::Error),
    /// A line is not in the format; the next call goes on with the line after it.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A line has no end in sight.
    #[error("line {line}: longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong {
        /// The line, from 1.
        line: u64,
    },
    /// An OpenMetrics text ended without `# EOF`: it was cut off.
    #[error("line {line}: expected # EOF as the last line; the text was cut off")]
    Cut {
        /// The line that should have followed.
        line: u64,
    },
}

/// Reads a text line by line.
///
/// ```
/// use stoa_exchange::exposition::{Format, Line, Reader};
///
/// let mut reader = Reader::new("up{job=\"node\"} 1 1700000000000\n".as_bytes(), Format::Text);
/// while let Some(line) = reader.next_line()? {
///     if let Line::Sample(sample) = line {
///         assert_eq!(sample.series.labels()?.get("job"), Some("node"));
///         assert_eq!(sample.t_ms, Some(1_700_000_000_000));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    format: Format,
    buffer: Vec<u8>,
    /// What of the buffer is read but not yet handed out.
    start: usize,
    end: usize,
    line: u64,
    source_ended: bool,
    text_ended: bool,
}

impl<R: Read> Reader<R> {
    /// A reader of a text in a format. It buffers by itself.
    pub fn new(source: R, format: Format) -> Self {
        Self {
            source,
            format,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            line: 0,
            source_ended: false,
            text_ended: false,
        }
    }

    /// The number of the line read last, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The next line that says something; `None` after the last.
    ///
    /// # Errors
    /// [`ReadError`]; after [`ReadError::Syntax`] the next call goes on with the line after it.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, ReadError> {
        let (start, end) = loop {
            let Some((start, end)) = self.cut()? else {
                if self.format == Format::OpenMetrics && !self.text_ended {
                    self.text_ended = true;
                    return Err(ReadError::Cut { line: self.line + 1 });
                }
                return Ok(None);
            };
            self.line += 1;
            let line = self.buffer.get(start..end).unwrap_or_default();
            let is_blank = line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
            if self.text_ended {
                return Err(self.wrong("nothing after # EOF").into());
            }
            if !is_blank || (self.format == Format::OpenMetrics && !line.is_empty()) {
                break (start, end);
            }
            if self.format == Format::OpenMetrics {
                return Err(self.wrong("a line that is not empty").into());
            }
        };
        let line = self.buffer.get(start..end).unwrap_or_default();
        let Ok(text) = std::str::from_utf8(line) else {
            return Err(self.wrong("UTF-8").into());
        };
        let text = match self.format {
            Format::Text => text.trim_end_matches([' ', '\t', '\r']),
            Format::OpenMetrics => text,
        };
        let parsed = parse_line(text, self.line, self.format)?;
        self.text_ended = parsed == Line::End;
        Ok(Some(parsed))
    }

    fn wrong(&self, expected: &'static str) -> SyntaxError {
        SyntaxError { line: self.line, column: 1, expected }
    }

    /// Where the next line stands in the buffer, without its end.
    fn cut(&mut self) -> Result<Option<(usize, usize)>, ReadError> {
        let mut searched = 0;
        loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            let new = unread.get(searched..).unwrap_or_default();
            if let Some(found) = memchr(b'\n', new) {
                let start = self.start;
                self.start += searched + found + 1;
                return Ok(Some((start, start + searched + found)));
            }
            searched = unread.len();
            if searched > LINE_BYTES_MAX {
                return Err(ReadError::LineTooLong { line: self.line + 1 });
            }
            if self.source_ended {
                let start = self.start;
                self.start = self.end;
                return Ok((start < self.end).then_some((start, self.end)));
            }
            self.fill()?;
        }
    }

    /// Reads more behind what is there.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        loop {
            match self.source.read(room) {
                Ok(read) => {
                    self.end += read;
                    self.source_ended = read == 0;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
