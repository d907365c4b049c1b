//! The protobuf form: fields borrowed from the message, a level gone through once for what is said of
//! it and once for what it holds.

mod value;

use self::value::{attribute, text};
use super::attribute::Gathered;
use super::exemplar::id;
use super::point::{Budget, Draft, Number, Side};
use super::{Exemplar, Kind, Metric, ReadError, Resource, Scope, Temporality, Visitor};
use crate::wire::{Fields, Value};

type Done = Result<(), ReadError>;

pub(super) fn read(message: &[u8], visitor: &mut dyn Visitor) -> Done {
    let mut reading = Reading {
        visitor,
        budget: Budget::default(),
        draft: Draft::default(),
        said: Gathered::default(),
    };
    each(message, |field, value| match field {
        1 => reading.resource(value.bytes(field)?),
        _ => Ok(()),
    })
}

/// Goes through a message's fields.
fn each<'a>(message: &'a [u8], mut take: impl FnMut(u64, Value<'a>) -> Done) -> Done {
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        take(field, value)?;
    }
    Ok(())
}

struct Reading<'a, 'v> {
    visitor: &'v mut dyn Visitor,
    budget: Budget,
    draft: Draft<'a>,
    /// Attributes of a resource or a scope.
    said: Gathered<'a>,
}

impl<'a> Reading<'a, '_> {
    /// `ResourceMetrics`.
    fn resource(&mut self, message: &'a [u8]) -> Done {
        self.said.clear();
        each(message, |field, value| match field {
            1 => each(value.bytes(field)?, |field, value| match field {
                1 => attribute(value.bytes(field)?, &mut self.said),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })?;
        let said = &self.said;
        self.visitor.resource(&Resource { attributes: said.kept(), left_out: said.left_out() });
        each(message, |field, value| match field {
            2 => self.scope(value.bytes(field)?),
            _ => Ok(()),
        })
    }

    /// `ScopeMetrics`.
    fn scope(&mut self, message: &'a [u8]) -> Done {
        self.said.clear();
        let (mut name, mut version, mut schema_url) = Default::default();
        each(message, |field, value| {
            match field {
                1 => each(value.bytes(field)?, |field, value| {
                    match field {
                        1 => name = text(value, field)?,
                        2 => version = text(value, field)?,
                        3 => attribute(value.bytes(field)?, &mut self.said)?,
                        _ => {}
                    }
                    Ok(())
                })?,
                3 => schema_url = text(value, field)?,
                _ => {}
            }
            Ok(())
        })?;
        self.visitor.scope(&Scope {
            name: &name,
            version: &version,
            schema_url: &schema_url,
            attributes: self.said.get(),
        });
        each(message, |field, value| match field {
            2 => self.metric(value.bytes(field)?),
            _ => Ok(()),
        })
    }

    fn metric(&mut self, message: &'a [u8]) -> Done {
        let (mut name, mut description, mut unit) = Default::default();
        let mut data = None;
        each(message, |field, value| {
            match field {
                1 => name = text(value, field)?,
                2 => description = text(value, field)?,
                3 => unit = text(value, field)?,
                5 => data = Some((Kind::Gauge, value.bytes(field)?)),
                7 => data = Some((Kind::Sum, value.bytes(field)?)),
                9 => data = Some((Kind::Histogram, value.bytes(field)?)),
                10 => data = Some((Kind::ExponentialHistogram, value.bytes(field)?)),
                11 => data = Some((Kind::Summary, value.bytes(field)?)),
                _ => {}
            }
            Ok(())
        })?;
        let Some((kind, data)) = data else { return Ok(()) };
        let (mut temporality, mut monotonic) = (Temporality::Unspecified, false);
        each(data, |field, value| {
            match (field, kind) {
                (2, Kind::Sum | Kind::Histogram | Kind::ExponentialHistogram) => {
                    temporality = Temporality::of(value.number(field)?);
                }
                (3, Kind::Sum) => monotonic = value.number(field)? != 0,
                _ => {}
            }
            Ok(())
        })?;
        let (name, description, unit) = (&*name, &*description, &*unit);
        self.visitor.metric(&Metric { name, description, unit, kind, temporality, monotonic });
        each(data, |field, value| match field {
            1 => self.point(kind, value.bytes(field)?),
            _ => Ok(()),
        })
    }

    fn point(&mut self, kind: Kind, message: &'a [u8]) -> Done {
        let Self { budget, draft, visitor, .. } = self;
        budget.point(kind)?;
        draft.clear();
        each(message, |field, value| match kind {
            Kind::Gauge | Kind::Sum => number(draft, field, value),
            Kind::Histogram => explicit(draft, budget, field, value),
            Kind::ExponentialHistogram => exponential(draft, budget, field, value),
            Kind::Summary => summary(draft, budget, field, value),
        })?;
        visitor.point(&draft.point(kind));
        Ok(())
    }
}

fn exemplar<'a>(draft: &mut Draft<'a>, message: &'a [u8]) -> Done {
    if !draft.has_room() {
        return Ok(());
    }
    let (mut read, mut said) = (Exemplar::default(), Gathered::default());
    each(message, |field, value| {
        match field {
            2 => read.time_ns = value.fixed(field)?,
            3 => read.value = Some(value.double(field)?),
            4 => read.span_id = id(value.bytes(field)?),
            5 => read.trace_id = id(value.bytes(field)?),
            6 => read.value = Some(value.fixed(field)?.cast_signed() as f64),
            7 => attribute(value.bytes(field)?, &mut said)?,
            _ => {}
        }
        Ok(())
    })?;
    draft.exemplars.push(read.attributed(said));
    Ok(())
}

/// A field of `NumberDataPoint`.
fn number<'a>(draft: &mut Draft<'a>, field: u64, value: Value<'a>) -> Done {
    match field {
        2 => draft.start_ns = value.fixed(field)?,
        3 => draft.time_ns = value.fixed(field)?,
        4 => draft.number = Some(Number::Double(value.double(field)?)),
        5 => exemplar(draft, value.bytes(field)?)?,
        6 => draft.number = Some(Number::Integer(value.fixed(field)?.cast_signed())),
        7 => attribute(value.bytes(field)?, &mut draft.attributes)?,
        8 => draft.flags = value.number(field)?,
        _ => {}
    }
    Ok(())
}

/// A field of `HistogramDataPoint`.
fn explicit<'a>(draft: &mut Draft<'a>, budget: &mut Budget, field: u64, value: Value<'a>) -> Done {
    match field {
        2 => draft.start_ns = value.fixed(field)?,
        3 => draft.time_ns = value.fixed(field)?,
        4 => draft.count = value.fixed(field)?,
        5 => draft.sum = Some(value.double(field)?),
        6 => {
            for count in value.fixeds(field)? {
                budget.number()?;
                draft.counts.push(count);
            }
        }
        7 => {
            for bits in value.fixeds(field)? {
                budget.number()?;
                draft.bounds.push(f64::from_bits(bits));
            }
        }
        8 => exemplar(draft, value.bytes(field)?)?,
        9 => attribute(value.bytes(field)?, &mut draft.attributes)?,
        10 => draft.flags = value.number(field)?,
        _ => {}
    }
    Ok(())
}

/// A field of `ExponentialHistogramDataPoint`.
fn exponential<'a>(
    draft: &mut Draft<'a>,
    budget: &mut Budget,
    field: u64,
    value: Value<'a>,
) -> Done {
    match field {
        1 => attribute(value.bytes(field)?, &mut draft.attributes)?,
        2 => draft.start_ns = value.fixed(field)?,
        3 => draft.time_ns = value.fixed(field)?,
        4 => draft.count = value.fixed(field)?,
        5 => draft.sum = Some(value.double(field)?),
        6 => draft.scale = value.small(field)?,
        7 => draft.zero_count = value.fixed(field)?,
        8 => buckets(value.bytes(field)?, budget, &mut draft.positive)?,
        9 => buckets(value.bytes(field)?, budget, &mut draft.negative)?,
        10 => draft.flags = value.number(field)?,
        11 => exemplar(draft, value.bytes(field)?)?,
        14 => draft.zero_threshold = value.double(field)?,
        _ => {}
    }
    Ok(())
}

fn buckets(message: &[u8], budget: &mut Budget, side: &mut Side) -> Done {
    each(message, |field, value| {
        match field {
            1 => side.offset = value.small(field)?,
            2 => {
                for count in value.numbers(field)? {
                    budget.number()?;
                    side.counts.push(count?);
                }
            }
            _ => {}
        }
        Ok(())
    })
}

/// A field of `SummaryDataPoint`.
fn summary<'a>(draft: &mut Draft<'a>, budget: &mut Budget, field: u64, value: Value<'a>) -> Done {
    match field {
        2 => draft.start_ns = value.fixed(field)?,
        3 => draft.time_ns = value.fixed(field)?,
        4 => draft.count = value.fixed(field)?,
        5 => draft.sum = Some(value.double(field)?),
        6 => {
            budget.number()?;
            let (mut quantile, mut of) = (0.0, 0.0);
            each(value.bytes(field)?, |field, value| {
                match field {
                    1 => quantile = value.double(field)?,
                    2 => of = value.double(field)?,
                    _ => {}
                }
                Ok(())
            })?;
            draft.quantiles.push((quantile, of));
        }
        7 => attribute(value.bytes(field)?, &mut draft.attributes)?,
        8 => draft.flags = value.number(field)?,
        _ => {}
    }
    Ok(())
}
