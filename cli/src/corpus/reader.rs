//! Reading a corpus.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_model::{Labels, MetricKind, TimestampMs, stale_nan};
use stoa_proto::tick::{FamilyInfo, Series};

use super::{About, Changes, LINE_BYTES_MAX, MAGIC, whole};

/// Why a corpus cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The file.
    #[error("read the corpus {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line.
    #[error("the corpus {} is not one: line {line}: {wrong}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        wrong: &'static str,
    },
}

/// Gives a corpus tick by tick.
pub(crate) struct CorpusReader {
    path: PathBuf,
    input: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    /// The about line.
    pub(crate) about: About,
    families: Vec<Arc<FamilyInfo>>,
    series: Vec<Arc<Series>>,
    /// The last value of each series, for differences.
    last: Vec<f64>,
    line: u64,
    text: String,
    /// A tick whose first line was read.
    begun: Option<TimestampMs>,
    ended: bool,
    /// Whether the file ends before its end: its recording was cut off.
    pub(crate) torn: bool,
}

impl CorpusReader {
    /// Opens a corpus.
    ///
    /// # Errors
    /// [`ReadError`] when there is none, or of another version.
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let io_error = |source| ReadError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io_error)?;
        let decoder = zstd::Decoder::new(file).map_err(io_error)?;
        let mut reader = Self {
            path: path.to_owned(),
            input: BufReader::new(decoder),
            about: About { interval_ms: 0, recorded_by: String::new(), began_ms: 0 },
            families: Vec::new(),
            series: Vec::new(),
            last: Vec::new(),
            line: 0,
            text: String::new(),
            begun: None,
            ended: false,
            torn: false,
        };
        reader.read_line()?;
        if reader.text != MAGIC {
            return Err(reader.wrong("it does not begin with `stoa-corpus 1`"));
        }
        reader.read_line()?;
        let about = serde_json::from_str(&reader.text);
        reader.about = about.map_err(|_error| reader.wrong("it does not say what it is"))?;
        if reader.about.interval_ms == 0 {
            return Err(reader.wrong("its interval is 0"));
        }
        Ok(reader)
    }

    /// The series met so far, by their number.
    pub(crate) fn series(&self) -> &[Arc<Series>] {
        &self.series
    }

    /// The next tick; `None` at the end. A last tick that was cut off is not given.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn next_tick(&mut self) -> Result<Option<Changes>, ReadError> {
        let mut changes = Vec::new();
        while !self.ended {
            if !self.read_line()? {
                (self.ended, self.torn) = (true, true);
                return Ok(None);
            }
            let text = std::mem::take(&mut self.text);
            let told = match text.split_once(' ') {
                Some(("T", t)) => {
                    let t = t.parse().map_err(|_error| self.wrong("a tick without a time"))?;
                    self.begun.replace(t)
                }
                Some(("E", _)) => {
                    self.ended = true;
                    self.end()?;
                    self.begun.take()
                }
                Some(("F", rest)) => self.family(rest).map(|()| None)?,
                Some(("S", rest)) => self.define(rest).map(|()| None)?,
                _ => {
                    changes.push(self.change(&text)?);
                    None
                }
            };
            self.text = text;
            if let Some(t) = told {
                return Ok(Some(Changes { t, changes }));
            }
        }
        Ok(None)
    }

    /// Looks that nothing follows the end, and that the checksum holds.
    fn end(&mut self) -> Result<(), ReadError> {
        match self.input.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(self.wrong("something follows the end")),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.torn = true;
                Ok(())
            }
            Err(source) => Err(ReadError::Io { path: self.path.clone(), source }),
        }
    }

    /// Whether there was a line.
    fn read_line(&mut self) -> Result<bool, ReadError> {
        self.text.clear();
        self.line += 1;
        match (&mut self.input).take(LINE_BYTES_MAX).read_line(&mut self.text) {
            Ok(_) if self.text.ends_with('\n') => {
                self.text.pop();
                Ok(true)
            }
            Ok(n) if u64::try_from(n).is_ok_and(|n| n >= LINE_BYTES_MAX) => {
                Err(self.wrong("it is too long"))
            }
            Ok(_cut_off) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(ReadError::Io { path: self.path.clone(), source }),
        }
    }

    fn family(&mut self, rest: &str) -> Result<(), ReadError> {
        let wrong = "not a family";
        let (number, text) = rest.split_once(' ').ok_or_else(|| self.wrong(wrong))?;
        let (name, kind, help, unit): (String, String, String, String) =
            serde_json::from_str(text).map_err(|_error| self.wrong(wrong))?;
        let kind = kind_of(&kind).ok_or_else(|| self.wrong("no such kind of family"))?;
        if number.parse() != Ok(self.families.len()) {
            return Err(self.wrong("families are not in order"));
        }
        self.families.push(Arc::new(FamilyInfo { name, help, unit, kind }));
        Ok(())
    }

    fn define(&mut self, rest: &str) -> Result<(), ReadError> {
        let wrong = "not a series";
        let mut parts = rest.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let (id, family, labels) = (part(), part(), part());
        let id: u32 = id.parse().map_err(|_error| self.wrong(wrong))?;
        let family = family.parse().ok().and_then(|at: usize| self.families.get(at)).cloned();
        let labels: Vec<(String, String)> =
            serde_json::from_str(labels).map_err(|_error| self.wrong(wrong))?;
        let labels = Labels::from_pairs(labels).map_err(|_error| self.wrong(wrong))?;
        if usize::try_from(id).ok() != Some(self.series.len()) {
            return Err(self.wrong("series are not in order"));
        }
        let family = family.ok_or_else(|| self.wrong("no such family"))?;
        self.series.push(Arc::new(Series { id, family, labels }));
        self.last.push(f64::NAN);
        Ok(())
    }

    fn change(&mut self, text: &str) -> Result<(u32, Option<f64>), ReadError> {
        let wrong = "not a change";
        let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| self.wrong(wrong))?;
        let (id, rest) = text.split_at(at);
        let id: u32 = id.parse().map_err(|_error| self.wrong(wrong))?;
        let place = usize::try_from(id).ok().and_then(|at| self.last.get_mut(at));
        let Some(last) = place else { return Err(self.wrong("no such series")) };
        let value = match rest.split_at_checked(1) {
            Some(("!", "")) => Some(stale_nan()),
            Some(("~", "")) => return Ok((id, None)),
            Some(("=", value)) => value.parse().ok(),
            Some((":", bits)) => u64::from_str_radix(bits, 16).ok().map(f64::from_bits),
            Some(("+" | "-", _)) => rest.parse::<i64>().ok().and_then(|more| {
                // Both ends are within 2^53, so the sum is exact.
                whole(*last).and_then(|was| was.checked_add(more)).map(|is| is as f64)
            }),
            _ => None,
        };
        match value {
            Some(value) => {
                *last = value;
                Ok((id, Some(value)))
            }
            None => Err(self.wrong(wrong)),
        }
    }

    fn wrong(&self, wrong: &'static str) -> ReadError {
        ReadError::Malformed { path: self.path.clone(), line: self.line, wrong }
    }
}

fn kind_of(text: &str) -> Option<MetricKind> {
    use MetricKind::{Counter, Gauge, Histogram, Summary, Untyped};
    [Counter, Gauge, Histogram, Summary, Untyped].into_iter().find(|kind| kind.as_str() == text)
}
