//! `prometheus.WriteRequest`: every series carries its labels as text.

use stoa_model::TimestampMs;
use stoa_model::histogram::Histogram;

use super::histogram::histogram;
use super::{
    Budget, EXEMPLAR_LABELS_MAX, Exemplar, LABELS_MAX, LabelsFault, Metadata, RawLabel, ReadError,
    Series, Visitor, kind, sample,
};
use crate::wire::Fields;

pub(super) fn read(message: &[u8], visitor: &mut dyn Visitor) -> Result<(), ReadError> {
    let mut fields = Fields(message);
    let mut budget = Budget::default();
    let mut labels = Vec::new();
    let mut read = Samples::default();
    let mut exemplars = Vec::new();
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => {
                labels.clear();
                read.floats.clear();
                read.histograms.clear();
                exemplars.clear();
                let into = (&mut labels, &mut read, &mut exemplars);
                series(value.bytes(field)?, &mut budget, into, visitor)?;
            }
            3 => metadata(value.bytes(field)?, visitor)?,
            _ => {}
        }
    }
    Ok(())
}

/// The samples of one series.
#[derive(Default)]
struct Samples {
    floats: Vec<(TimestampMs, f64)>,
    histograms: Vec<(TimestampMs, Histogram)>,
}

fn series<'a>(
    message: &'a [u8],
    budget: &mut Budget,
    (labels, read, exemplars): (&mut Vec<RawLabel<'a>>, &mut Samples, &mut Vec<Exemplar<'a>>),
    visitor: &mut dyn Visitor,
) -> Result<(), ReadError> {
    let mut fields = Fields(message);
    let mut too_many = false;
    while let Some((field, value)) = fields.next()? {
        match field {
            1 if labels.len() < LABELS_MAX => labels.push(label(value.bytes(field)?)?),
            1 => too_many = true,
            2 => {
                budget.take()?;
                let (sample, _start) = sample(value.bytes(field)?)?;
                read.floats.push(sample);
            }
            3 => {
                budget.take()?;
                exemplars.push(exemplar(value.bytes(field)?)?);
            }
            4 => {
                let (histogram, _start) = histogram(value.bytes(field)?, budget)?;
                read.histograms.push(histogram);
            }
            _ => {}
        }
    }
    let labels = if too_many { Err(LabelsFault::TooMany) } else { Ok(labels.as_slice()) };
    let Samples { floats, histograms } = &*read;
    visitor.series(&Series {
        labels,
        samples: floats,
        histograms,
        sample_starts: &[],
        histogram_starts: &[],
        exemplars,
    });
    Ok(())
}

fn exemplar(message: &[u8]) -> Result<Exemplar<'_>, ReadError> {
    let mut labels = Ok(Vec::new());
    let (value, t_ms) = super::exemplar(message, |value| {
        match &mut labels {
            Ok(list) if list.len() == EXEMPLAR_LABELS_MAX => labels = Err(LabelsFault::TooMany),
            Ok(list) => list.push(label(value.bytes(1)?)?),
            Err(_) => {}
        }
        Ok(())
    })?;
    Ok(Exemplar { labels, value, t_ms })
}

#[inline]
fn label(message: &[u8]) -> Result<RawLabel<'_>, ReadError> {
    let mut fields = Fields(message);
    let mut label: RawLabel<'_> = (&[], &[]);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => label.0 = value.bytes(field)?,
            2 => label.1 = value.bytes(field)?,
            _ => {}
        }
    }
    Ok(label)
}

fn metadata(message: &[u8], visitor: &mut dyn Visitor) -> Result<(), ReadError> {
    let mut fields = Fields(message);
    let mut said = Metadata { name: &[], kind: kind(0), help: &[], unit: &[] };
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => said.kind = kind(value.number(field)?),
            2 => said.name = value.bytes(field)?,
            4 => said.help = value.bytes(field)?,
            5 => said.unit = value.bytes(field)?,
            _ => {}
        }
    }
    visitor.metadata(&said);
    Ok(())
}
