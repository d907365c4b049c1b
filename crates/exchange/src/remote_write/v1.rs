//! `prometheus.WriteRequest`: every series carries its labels as text.

use super::wire::{Fields, sample};
use super::{
    Budget, LABELS_MAX, LabelsFault, Metadata, RawLabel, ReadError, Series, Visitor, kind,
};

pub(super) fn read(message: &[u8], visitor: &mut dyn Visitor) -> Result<(), ReadError> {
    let mut fields = Fields(message);
    let mut budget = Budget::default();
    let (mut labels, mut samples) = (Vec::new(), Vec::new());
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => {
                labels.clear();
                samples.clear();
                let message = value.bytes(field)?;
                series(message, &mut budget, &mut labels, &mut samples, visitor)?;
            }
            3 => metadata(value.bytes(field)?, visitor)?,
            _ => {}
        }
    }
    Ok(())
}

fn series<'a>(
    message: &'a [u8],
    budget: &mut Budget,
    labels: &mut Vec<RawLabel<'a>>,
    samples: &mut Vec<(i64, f64)>,
    visitor: &mut dyn Visitor,
) -> Result<(), ReadError> {
    let mut fields = Fields(message);
    let (mut histograms, mut exemplars) = (0, 0);
    let mut too_many = false;
    while let Some((field, value)) = fields.next()? {
        match field {
            1 if labels.len() < LABELS_MAX => labels.push(label(value.bytes(field)?)?),
            1 => too_many = true,
            2 => {
                budget.take()?;
                samples.push(sample(value.bytes(field)?)?);
            }
            3 => {
                budget.take()?;
                exemplars += 1;
            }
            4 => {
                budget.take()?;
                histograms += 1;
            }
            _ => {}
        }
    }
    let labels = if too_many { Err(LabelsFault::TooMany) } else { Ok(labels.as_slice()) };
    visitor.series(&Series { labels, samples, histograms, exemplars });
    Ok(())
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
