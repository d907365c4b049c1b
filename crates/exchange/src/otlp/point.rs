//! A point as it is read, from either form.

use super::attribute::Gathered;
use super::{
    Buckets, EXEMPLARS_MAX, Exemplar, Explicit, Exponential, Kind, Measure, NUMBERS_MAX,
    POINTS_MAX, Point, ReadError, Summary,
};

/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`.
const NO_RECORDED_VALUE: u64 = 1;

/// What a histogram takes itself, as so many of its numbers.
const HISTOGRAM_NUMBERS: usize = 28;

/// The fields of all kinds of points; which of them a point has depends on its kind. One is used for
/// all points of a message, so that its lists are allocated once.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    pub(super) attributes: Gathered<'a>,
    pub(super) start_ns: u64,
    pub(super) time_ns: u64,
    pub(super) flags: u64,
    pub(super) exemplars: Vec<Exemplar<'a>>,
    pub(super) exemplars_left_out: u64,
    pub(super) number: Option<Number>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) bounds: Vec<f64>,
    pub(super) counts: Vec<u64>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: Side,
    pub(super) negative: Side,
    pub(super) quantiles: Vec<(f64, f64)>,
}

/// The value of a number point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Integer(i64),
    Double(f64),
}

impl Number {
    pub(super) fn double(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Double(value) => value,
        }
    }
}

/// The buckets above or below zero.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

impl Side {
    fn clear(&mut self) {
        self.offset = 0;
        self.counts.clear();
    }

    fn buckets(&self) -> Buckets<'_> {
        Buckets { offset: self.offset, counts: &self.counts }
    }
}

impl<'a> Draft<'a> {
    /// Makes room for the next point.
    pub(super) fn clear(&mut self) {
        self.attributes.clear();
        self.bounds.clear();
        self.counts.clear();
        self.positive.clear();
        self.negative.clear();
        self.quantiles.clear();
        self.exemplars.clear();
        self.exemplars_left_out = 0;
        (self.start_ns, self.time_ns, self.flags) = (0, 0, 0);
        (self.number, self.sum, self.count, self.zero_count) = (None, None, 0, 0);
        (self.scale, self.zero_threshold) = (0, 0.0);
    }

    /// Whether there is room for another exemplar; where there is none it is counted.
    pub(super) fn has_room(&mut self) -> bool {
        let has_room = self.exemplars.len() < EXEMPLARS_MAX;
        self.exemplars_left_out += u64::from(!has_room);
        has_room
    }

    pub(super) fn point(&self, kind: Kind) -> Point<'_> {
        let Self { count, sum, .. } = *self;
        let measure = match kind {
            Kind::Gauge | Kind::Sum => match self.number {
                None => Measure::Absent,
                Some(Number::Integer(value)) => Measure::Integer(value),
                Some(Number::Double(value)) => Measure::Double(value),
            },
            Kind::Histogram => Measure::Histogram(Explicit {
                count,
                sum,
                bounds: &self.bounds,
                counts: &self.counts,
            }),
            Kind::ExponentialHistogram => Measure::Exponential(Exponential {
                scale: self.scale,
                count,
                sum,
                zero_count: self.zero_count,
                zero_threshold: self.zero_threshold,
                positive: self.positive.buckets(),
                negative: self.negative.buckets(),
            }),
            Kind::Summary => Measure::Summary(Summary {
                count,
                sum: sum.unwrap_or(0.0),
                quantiles: &self.quantiles,
            }),
        };
        Point {
            attributes: self.attributes.get(),
            start_ns: self.start_ns,
            time_ns: self.time_ns,
            ended: self.flags & NO_RECORDED_VALUE != 0,
            measure,
            exemplars: &self.exemplars,
            exemplars_left_out: self.exemplars_left_out,
        }
    }
}

/// What of a message there has been so far.
#[derive(Debug, Default)]
pub(super) struct Budget {
    points: usize,
    numbers: usize,
}

impl Budget {
    pub(super) fn point(&mut self, kind: Kind) -> Result<(), ReadError> {
        self.points += 1;
        if self.points > POINTS_MAX {
            return Err(ReadError::TooManyPoints);
        }
        match kind {
            Kind::Gauge | Kind::Sum | Kind::Summary => Ok(()),
            Kind::Histogram | Kind::ExponentialHistogram => self.take(HISTOGRAM_NUMBERS),
        }
    }

    pub(super) fn number(&mut self) -> Result<(), ReadError> {
        self.take(1)
    }

    fn take(&mut self, numbers: usize) -> Result<(), ReadError> {
        self.numbers += numbers;
        if self.numbers > NUMBERS_MAX { Err(ReadError::TooManyNumbers) } else { Ok(()) }
    }
}
