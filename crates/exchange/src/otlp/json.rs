//! The JSON form, as proto3 has it. A level is its text until it is looked into: an object's known
//! keys are found first, in whatever order they come, then read in ours.

mod value;

use std::fmt;

use serde_json::value::RawValue;

use self::value::Field;
use super::attribute::Gathered;
use super::exemplar::id_of_text;
use super::point::{Budget, Draft, Number, Side};
use super::{Exemplar, Kind, Metric, ReadError, Resource, Scope, Temporality, Visitor};

type Done = Result<(), ReadError>;

pub(super) fn read(message: &[u8], visitor: &mut dyn Visitor) -> Done {
    let not_json = |error: &dyn fmt::Display| ReadError::Json(error.to_string());
    let text = std::str::from_utf8(message).map_err(|error| not_json(&error))?;
    // All of it is parsed once before anything is looked at.
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    let mut reading = Reading {
        visitor,
        budget: Budget::default(),
        draft: Draft::default(),
        said: Gathered::default(),
    };
    let [resources] = Field { key: "request", raw }.pick(["resourceMetrics"])?;
    resources.elements(|resource| reading.resource(resource))
}

struct Reading<'a, 'v> {
    visitor: &'v mut dyn Visitor,
    budget: Budget,
    draft: Draft<'a>,
    /// Attributes of a resource or a scope.
    said: Gathered<'a>,
}

impl<'a> Reading<'a, '_> {
    fn resource(&mut self, message: Field<'a>) -> Done {
        let [resource, scopes] = message.pick(["resource", "scopeMetrics"])?;
        let [attributes] = resource.pick(["attributes"])?;
        self.said.clear();
        attributes.attributes(&mut self.said)?;
        let said = &self.said;
        self.visitor.resource(&Resource { attributes: said.kept(), left_out: said.left_out() });
        scopes.elements(|scope| self.scope(scope))
    }

    fn scope(&mut self, message: Field<'a>) -> Done {
        let [scope, metrics, schema_url] = message.pick(["scope", "metrics", "schemaUrl"])?;
        let [name, version, attributes] = scope.pick(["name", "version", "attributes"])?;
        self.said.clear();
        attributes.attributes(&mut self.said)?;
        self.visitor.scope(&Scope {
            name: &name.text()?,
            version: &version.text()?,
            schema_url: &schema_url.text()?,
            attributes: self.said.get(),
        });
        metrics.elements(|metric| self.metric(metric))
    }

    fn metric(&mut self, message: Field<'a>) -> Done {
        let [name, description, unit, gauge, sum, histogram, exponential, summary] =
            message.pick([
                "name",
                "description",
                "unit",
                "gauge",
                "sum",
                "histogram",
                "exponentialHistogram",
                "summary",
            ])?;
        let data = [
            (Kind::Gauge, gauge),
            (Kind::Sum, sum),
            (Kind::Histogram, histogram),
            (Kind::ExponentialHistogram, exponential),
            (Kind::Summary, summary),
        ];
        let Some((kind, data)) = data.into_iter().find(|(_, data)| data.is_there()) else {
            return Ok(());
        };
        let [points, temporality, monotonic] =
            data.pick(["dataPoints", "aggregationTemporality", "isMonotonic"])?;
        let temporality = match kind {
            Kind::Gauge | Kind::Summary => Temporality::Unspecified,
            _ => temporality.temporality()?,
        };
        self.visitor.metric(&Metric {
            name: &name.text()?,
            description: &description.text()?,
            unit: &unit.text()?,
            kind,
            temporality,
            monotonic: kind == Kind::Sum && monotonic.boolean()?,
        });
        points.elements(|point| self.point(kind, point))
    }

    fn point(&mut self, kind: Kind, message: Field<'a>) -> Done {
        let Self { budget, draft, visitor, .. } = self;
        budget.point(kind)?;
        draft.clear();
        let [attributes, start, time, flags, exemplars] = message.pick([
            "attributes",
            "startTimeUnixNano",
            "timeUnixNano",
            "flags",
            "exemplars",
        ])?;
        attributes.attributes(&mut draft.attributes)?;
        draft.start_ns = start.unsigned()?;
        draft.time_ns = time.unsigned()?;
        draft.flags = flags.unsigned()?;
        exemplars.elements(|message| exemplar(draft, message))?;
        match kind {
            Kind::Gauge | Kind::Sum => draft.number = number(message)?,
            Kind::Histogram => explicit(draft, budget, message)?,
            Kind::ExponentialHistogram => exponential(draft, budget, message)?,
            Kind::Summary => summary(draft, budget, message)?,
        }
        visitor.point(&draft.point(kind));
        Ok(())
    }
}

fn exemplar<'a>(draft: &mut Draft<'a>, message: Field<'a>) -> Done {
    if !draft.has_room() {
        return Ok(());
    }
    let [attributes, time, trace, span] =
        message.pick(["filteredAttributes", "timeUnixNano", "traceId", "spanId"])?;
    let mut said = Gathered::default();
    attributes.attributes(&mut said)?;
    let read = Exemplar {
        attributes: None,
        time_ns: time.unsigned()?,
        value: number(message)?.map(Number::double),
        trace_id: id_of_text(&trace.text()?),
        span_id: id_of_text(&span.text()?),
    };
    draft.exemplars.push(read.attributed(said));
    Ok(())
}

fn number(message: Field<'_>) -> Result<Option<Number>, ReadError> {
    let [integer, double] = message.pick(["asInt", "asDouble"])?;
    Ok(if double.is_there() {
        Some(Number::Double(double.double()?))
    } else if integer.is_there() {
        Some(match integer.integer() {
            Ok(value) => Number::Integer(value),
            // Perl's int() of what is beyond 64 bits is no integer.
            Err(_) => Number::Double(integer.double()?),
        })
    } else {
        None
    })
}

fn explicit(draft: &mut Draft<'_>, budget: &mut Budget, message: Field<'_>) -> Done {
    let [count, sum, counts, bounds] =
        message.pick(["count", "sum", "bucketCounts", "explicitBounds"])?;
    draft.count = count.unsigned()?;
    draft.sum = sum.maybe_double()?;
    counts.elements(|count| {
        budget.number()?;
        draft.counts.push(count.unsigned()?);
        Ok(())
    })?;
    bounds.elements(|bound| {
        budget.number()?;
        draft.bounds.push(bound.double()?);
        Ok(())
    })
}

fn exponential(draft: &mut Draft<'_>, budget: &mut Budget, message: Field<'_>) -> Done {
    let [count, sum, scale, zero_count, zero_threshold, positive, negative] = message.pick([
        "count",
        "sum",
        "scale",
        "zeroCount",
        "zeroThreshold",
        "positive",
        "negative",
    ])?;
    draft.count = count.unsigned()?;
    draft.sum = sum.maybe_double()?;
    draft.scale = scale.small()?;
    draft.zero_count = zero_count.unsigned()?;
    draft.zero_threshold = zero_threshold.double()?;
    buckets(positive, budget, &mut draft.positive)?;
    buckets(negative, budget, &mut draft.negative)
}

fn buckets(message: Field<'_>, budget: &mut Budget, side: &mut Side) -> Done {
    let [offset, counts] = message.pick(["offset", "bucketCounts"])?;
    side.offset = offset.small()?;
    counts.elements(|count| {
        budget.number()?;
        side.counts.push(count.unsigned()?);
        Ok(())
    })
}

fn summary(draft: &mut Draft<'_>, budget: &mut Budget, message: Field<'_>) -> Done {
    let [count, sum, quantiles] = message.pick(["count", "sum", "quantileValues"])?;
    draft.count = count.unsigned()?;
    draft.sum = sum.maybe_double()?;
    quantiles.elements(|message| {
        budget.number()?;
        let [quantile, value] = message.pick(["quantile", "value"])?;
        draft.quantiles.push((quantile.double()?, value.double()?));
        Ok(())
    })
}
