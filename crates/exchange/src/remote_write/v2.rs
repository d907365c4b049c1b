//! `io.prometheus.write.v2.Request`: text stands once, in a table of symbols.

use stoa_model::METRIC_NAME;
use stoa_model::histogram::Histogram;

use super::histogram::histogram;
use super::{
    Budget, EXEMPLAR_LABELS_MAX, Exemplar, LABELS_MAX, LabelsFault, Malformed, Metadata, RawLabel,
    ReadError, SYMBOLS_MAX, Series, Visitor, kind, sample,
};
use crate::wire::{Fields, Value};

const SYMBOLS: u64 = 4;
const SERIES: u64 = 5;

/// The symbols' places are found first: nothing says that they stand before the series.
pub(super) fn read(message: &[u8], visitor: &mut dyn Visitor) -> Result<(), ReadError> {
    let mut symbols = Vec::new();
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        if field == SYMBOLS {
            if symbols.len() == SYMBOLS_MAX {
                return Err(ReadError::TooManySymbols);
            }
            symbols.push(value.bytes(field)?);
        }
    }
    let mut reading = Reading { symbols: &symbols, ..Reading::default() };
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        if field == SERIES {
            reading.series(value.bytes(field)?, visitor)?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Reading<'a> {
    symbols: &'a [&'a [u8]],
    budget: Budget,
    /// The pairs complete so far, a name that waits for its value, and what is wrong with them.
    labels: Vec<RawLabel<'a>>,
    name: Option<&'a [u8]>,
    fault: Option<LabelsFault>,
    samples: Vec<(i64, f64)>,
    histograms: Vec<(i64, Histogram)>,
    sample_starts: Vec<i64>,
    histogram_starts: Vec<i64>,
    exemplars: Vec<Exemplar<'a>>,
}

impl<'a> Reading<'a> {
    fn series(&mut self, message: &[u8], visitor: &mut dyn Visitor) -> Result<(), ReadError> {
        self.labels.clear();
        self.samples.clear();
        self.histograms.clear();
        self.sample_starts.clear();
        self.histogram_starts.clear();
        let mut created = 0;
        self.exemplars.clear();
        (self.name, self.fault) = (None, None);
        let mut said = None;
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, Value::Bytes(packed)) => {
                    let mut packed = Fields(packed);
                    while !packed.0.is_empty() {
                        self.reference(packed.number()?);
                    }
                }
                (1, value) => self.reference(value.number(field)?),
                (2, value) => {
                    self.budget.take()?;
                    let (read, start) = sample(value.bytes(field)?)?;
                    self.samples.push(read);
                    self.sample_starts.push(start);
                }
                (3, value) => {
                    let (read, start) = histogram(value.bytes(field)?, &mut self.budget)?;
                    self.histograms.push(read);
                    self.histogram_starts.push(start);
                }
                (4, value) => {
                    self.budget.take()?;
                    let read = self.exemplar(value.bytes(field)?)?;
                    self.exemplars.push(read);
                }
                (5, value) => said = Some(self.metadata(value.bytes(field)?)?),
                // Once for all, before each said it for itself.
                (6, value) => created = value.number(field)?.cast_signed(),
                _ => {}
            }
        }
        for start in self.sample_starts.iter_mut().chain(&mut self.histogram_starts) {
            *start = if *start == 0 { created } else { *start };
        }
        let odd = self.name.map(|_lone| LabelsFault::Odd);
        let labels = self.fault.or(odd).map_or(Ok(self.labels.as_slice()), Err);
        let (samples, histograms) = (self.samples.as_slice(), self.histograms.as_slice());
        let exemplars = self.exemplars.as_slice();
        let (sample_starts, histogram_starts) = (&*self.sample_starts, &*self.histogram_starts);
        visitor.series(&Series {
            labels,
            samples,
            histograms,
            sample_starts,
            histogram_starts,
            exemplars,
        });
        if let (Ok(labels), Some(said)) = (labels, said)
            && let Some((_, name)) = labels.iter().find(|(n, _)| *n == METRIC_NAME.as_bytes())
        {
            visitor.metadata(&Metadata { name, ..said });
        }
        Ok(())
    }

    #[inline]
    fn reference(&mut self, reference: u64) {
        if self.fault.is_some() {
            return;
        }
        let Some(symbol) = self.symbol(reference) else {
            let symbols = self.symbols.len();
            self.fault = Some(LabelsFault::NoSymbol { reference, symbols });
            return;
        };
        match self.name.take() {
            None if self.labels.len() == LABELS_MAX => self.fault = Some(LabelsFault::TooMany),
            None => self.name = Some(symbol),
            Some(name) => self.labels.push((name, symbol)),
        }
    }

    fn exemplar(&self, message: &[u8]) -> Result<Exemplar<'a>, ReadError> {
        let mut references = Vec::new();
        let mut too_many = false;
        let (value, t_ms) = super::exemplar(message, |value| {
            for reference in value.numbers(1)? {
                if references.len() < 2 * EXEMPLAR_LABELS_MAX {
                    references.push(reference?);
                } else {
                    too_many = true;
                }
            }
            Ok(())
        })?;
        let labels = match references.as_chunks() {
            _ if too_many => Err(LabelsFault::TooMany),
            (pairs, []) => {
                let symbol = |reference: u64| {
                    let symbols = self.symbols.len();
                    self.symbol(reference).ok_or(LabelsFault::NoSymbol { reference, symbols })
                };
                let each = pairs.iter().map(|[name, value]| Ok((symbol(*name)?, symbol(*value)?)));
                each.collect()
            }
            _ => Err(LabelsFault::Odd),
        };
        Ok(Exemplar { labels, value, t_ms })
    }

    #[inline]
    fn symbol(&self, reference: u64) -> Option<&'a [u8]> {
        self.symbols.get(usize::try_from(reference).ok()?).copied()
    }

    /// Without its name, which stands among the labels.
    fn metadata(&self, message: &[u8]) -> Result<Metadata<'a>, Malformed> {
        let mut fields = Fields(message);
        let mut said = Metadata { name: &[], kind: kind(0), help: &[], unit: &[] };
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => said.kind = kind(value.number(field)?),
                3 => said.help = self.symbol(value.number(field)?).unwrap_or_default(),
                4 => said.unit = self.symbol(value.number(field)?).unwrap_or_default(),
                _ => {}
            }
        }
        Ok(said)
    }
}
