//! Writing a corpus.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use stoa_model::{is_stale, stale_nan};
use stoa_proto::tick::{FamilyInfo, Series, Tick};

use super::{About, MAGIC, whole};

/// More costs time and gains little on lines this short.
const ZSTD_LEVEL: i32 = 6;

/// Ticks after which what was written is handed to the operating system: a killed recording loses
/// these at most.
const FLUSH_TICKS: u64 = 60;

/// Writes ticks; [`Self::finish`] ends the file in good order.
pub(crate) struct CorpusWriter<W: Write> {
    out: zstd::Encoder<'static, W>,
    families: HashMap<Arc<FamilyInfo>, usize>,
    known: BTreeMap<u32, Known>,
    ticks: u64,
}

struct Known {
    /// `None`: not read in the tick before.
    bits: Option<u64>,
    /// The tick it was last read in.
    seen: u64,
}

impl<W: Write> CorpusWriter<W> {
    /// Begins a corpus.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn new(out: W, about: &About) -> io::Result<Self> {
        let mut out = zstd::Encoder::new(out, ZSTD_LEVEL)?;
        out.include_checksum(true)?;
        writeln!(out, "{MAGIC}\n{}", json(about)?)?;
        Ok(Self { out, families: HashMap::new(), known: BTreeMap::new(), ticks: 0 })
    }

    /// Adds a tick. Series must be numbered from 0 in the order in which they come.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn push(&mut self, tick: &Tick) -> io::Result<()> {
        self.ticks += 1;
        writeln!(self.out, "T {}", tick.t)?;
        for (series, value) in &tick.samples {
            let before = match self.known.get_mut(&series.id) {
                Some(known) => {
                    known.seen = self.ticks;
                    known.bits
                }
                None => {
                    self.define(series)?;
                    self.known.insert(series.id, Known { bits: None, seen: self.ticks });
                    None
                }
            };
            if is_stale(*value) {
                writeln!(self.out, "{}!", series.id)?;
                self.known.remove(&series.id);
            } else if before != Some(value.to_bits()) {
                writeln!(self.out, "{}{}", series.id, change(before.map(f64::from_bits), *value))?;
                if let Some(known) = self.known.get_mut(&series.id) {
                    known.bits = Some(value.to_bits());
                }
            }
        }
        for (id, known) in &mut self.known {
            if known.seen != self.ticks && known.bits.take().is_some() {
                writeln!(self.out, "{id}~")?;
            }
        }
        if self.ticks == 1 || self.ticks.is_multiple_of(FLUSH_TICKS) {
            self.out.flush()?;
        }
        Ok(())
    }

    /// Ends the file and gives back what it was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        writeln!(self.out, "E {}", self.ticks)?;
        let mut out = self.out.finish()?;
        out.flush()?;
        Ok(out)
    }

    fn define(&mut self, series: &Series) -> io::Result<()> {
        let number = match self.families.get(&series.family) {
            Some(number) => *number,
            None => {
                let number = self.families.len();
                let FamilyInfo { name, help, unit, kind } = &*series.family;
                let text = json(&(name, kind.as_str(), help, unit))?;
                writeln!(self.out, "F {number} {text}")?;
                self.families.insert(Arc::clone(&series.family), number);
                number
            }
        };
        let labels: Vec<(&str, &str)> =
            series.labels.iter().map(|label| (&*label.name, &*label.value)).collect();
        writeln!(self.out, "S {} {number} {}", series.id, json(&labels)?)
    }
}

/// The shortest way to say a value after another.
fn change(before: Option<f64>, value: f64) -> String {
    if let (Some(was), Some(is)) = (before.and_then(whole), whole(value)) {
        return format!("{:+}", is - was);
    }
    if value.is_nan() && value.to_bits() != stale_nan().to_bits() {
        return format!(":{:016x}", value.to_bits());
    }
    format!("={value}")
}

fn json(value: &impl serde::Serialize) -> io::Result<String> {
    serde_json::to_string(value).map_err(io::Error::other)
}
