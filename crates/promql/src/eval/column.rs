//! One series at all steps.

use std::sync::Arc;

use stoa_model::TimestampMs;

use super::Steps;
use crate::histogram::Histogram;

/// A value taken out of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

/// A value to put into a column.
#[derive(Clone, Debug)]
pub(crate) enum Point {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl From<Cell<'_>> for Point {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Float(v) => Self::Float(v),
            Cell::Histogram(histogram) => Self::Histogram(Arc::clone(histogram)),
        }
    }
}

impl Point {
    pub(crate) fn as_cell(&self) -> Cell<'_> {
        match self {
            Self::Float(v) => Cell::Float(*v),
            Self::Histogram(histogram) => Cell::Histogram(histogram),
        }
    }
}

/// One cell per step: a float, a histogram, or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    /// One per step; meaningless where there is no float.
    floats: Vec<f64>,
    present: Bits,
    /// Empty when no cell is a histogram, else one per step.
    histograms: Vec<Option<Arc<Histogram>>>,
}

impl Column {
    /// Nothing at any of `steps` steps.
    pub(crate) fn empty(steps: usize) -> Self {
        Self { floats: vec![0.0; steps], present: Bits::new(steps), histograms: Vec::new() }
    }

    /// A float at every step.
    pub(crate) fn full(floats: Vec<f64>) -> Self {
        let present = Bits::ones(floats.len());
        Self { floats, present, histograms: Vec::new() }
    }

    /// A float at each of some steps; one per step is given, whatever it is at the others.
    pub(crate) fn of_floats(floats: Vec<f64>, present: Bits) -> Self {
        Self { floats, present, histograms: Vec::new() }
    }

    /// One float per step, meaningless where none is present; `None` when cells may be histograms.
    pub(crate) fn as_floats(&self) -> Option<&[f64]> {
        self.histograms.is_empty().then_some(self.floats.as_slice())
    }

    /// Changes every float and leaves those that `change` says yes to, which is asked about steps
    /// without one too; false, and nothing done, when cells may be histograms.
    pub(crate) fn change_floats(
        &mut self,
        mut change: impl FnMut(usize, &mut f64) -> bool,
    ) -> bool {
        if !self.histograms.is_empty() {
            return false;
        }
        let words = self.present.0.iter_mut().zip(self.floats.chunks_mut(64));
        for ((present, floats), first) in words.zip((0..).step_by(64)) {
            let mut kept = 0;
            for (bit, v) in floats.iter_mut().enumerate() {
                kept |= u64::from(change(first + bit, v)) << bit;
            }
            *present &= kept;
        }
        true
    }

    /// How many samples it has; a histogram is as many as it is large.
    pub(crate) fn samples(&self) -> usize {
        let of_histograms = self.histograms.iter().zip(0..).filter_map(|(histogram, step)| {
            let histogram = histogram.as_ref().filter(|_| self.present.get(step))?;
            Some(histogram.samples().saturating_sub(1))
        });
        self.present.count() + of_histograms.sum::<usize>()
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let histograms = self.histograms.iter().flatten();
        let of_histograms: usize = histograms.map(|histogram| 16 * histogram.samples()).sum();
        Self::bytes_of(self.floats.len()) + 8 * self.histograms.len() + of_histograms
    }

    /// The same of one of so many steps without histograms.
    pub(crate) fn bytes_of(steps: usize) -> usize {
        steps.saturating_mul(8).saturating_add(steps / 8)
    }

    pub(crate) fn get(&self, step: usize) -> Option<Cell<'_>> {
        if !self.present.get(step) {
            return None;
        }
        if let Some(Some(histogram)) = self.histograms.get(step) {
            return Some(Cell::Histogram(histogram));
        }
        self.floats.get(step).map(|v| Cell::Float(*v))
    }

    pub(crate) fn set(&mut self, step: usize, point: Point) {
        match point {
            Point::Float(v) => self.set_float(step, v),
            Point::Histogram(histogram) => {
                if self.histograms.is_empty() {
                    self.histograms = vec![None; self.floats.len()];
                }
                if let Some(slot) = self.histograms.get_mut(step) {
                    *slot = Some(histogram);
                    self.present.set(step);
                }
            }
        }
    }

    pub(crate) fn set_float(&mut self, step: usize, v: f64) {
        if let Some(slot) = self.floats.get_mut(step) {
            *slot = v;
            self.present.set(step);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    pub(crate) fn present(&self) -> &Bits {
        &self.present
    }

    /// Keeps the cells at the steps of `steps`.
    pub(crate) fn keep(&mut self, steps: &Bits) {
        self.present.and(steps);
    }

    /// Removes the cells at the steps of `steps`.
    pub(crate) fn remove(&mut self, steps: &Bits) {
        self.present.and_not(steps);
    }

    /// The cells there are, with their steps.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (usize, Cell<'_>)> {
        (0..self.floats.len()).filter_map(|step| Some((step, self.get(step)?)))
    }

    /// Changes every cell.
    pub(crate) fn map(
        &mut self,
        float: impl Fn(f64) -> f64,
        histogram: impl Fn(Histogram) -> Histogram,
    ) {
        for v in &mut self.floats {
            *v = float(*v);
        }
        for slot in self.histograms.iter_mut().flatten() {
            *slot = Arc::new(histogram(Histogram::clone(slot)));
        }
    }

    /// A column of what `f` makes of every cell.
    pub(crate) fn filter_map(&self, mut f: impl FnMut(usize, Cell<'_>) -> Option<Point>) -> Self {
        let mut out = Self::empty(self.floats.len());
        for (step, cell) in self.cells() {
            if let Some(point) = f(step, cell) {
                out.set(step, point);
            }
        }
        out
    }

    /// The first cell at `count` steps.
    pub(crate) fn repeated(self, count: usize) -> Self {
        let mut out = Self::empty(count);
        if let Some(cell) = self.get(0) {
            for step in 0..count {
                out.set(step, cell.into());
            }
        }
        out
    }

    /// Takes over the cells of another column; false when both have one at the same step.
    #[must_use]
    pub(crate) fn merge(&mut self, other: &Self) -> bool {
        if self.present.intersects(&other.present) {
            return false;
        }
        for (step, cell) in other.cells() {
            self.set(step, cell.into());
        }
        true
    }

    /// The samples of the column by kind.
    pub(crate) fn into_samples(self, steps: &Steps) -> (Samples<f64>, Samples<Arc<Histogram>>) {
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        if self.histograms.is_empty() {
            floats.reserve_exact(self.present.count());
            self.present.each(|step| {
                floats.extend(self.floats.get(step).map(|v| (steps.time(step), *v)));
            });
            return (floats, histograms);
        }
        for (step, cell) in self.cells() {
            match cell {
                Cell::Float(v) => floats.push((steps.time(step), v)),
                Cell::Histogram(h) => histograms.push((steps.time(step), Arc::clone(h))),
            }
        }
        (floats, histograms)
    }
}

/// Values with their times.
pub(crate) type Samples<T> = Vec<(TimestampMs, T)>;

/// A set of steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn ones(len: usize) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(64)];
        if let Some(last) = words.last_mut()
            && !len.is_multiple_of(64)
        {
            *last = (1 << (len % 64)) - 1;
        }
        Self(words)
    }

    pub(crate) fn get(&self, step: usize) -> bool {
        self.0.get(step / 64).is_some_and(|word| word & (1 << (step % 64)) != 0)
    }

    pub(crate) fn set(&mut self, step: usize) {
        if let Some(word) = self.0.get_mut(step / 64) {
            *word |= 1 << (step % 64);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Calls `f` with each step of the set, in order.
    pub(crate) fn each(&self, mut f: impl FnMut(usize)) {
        for (word, first) in self.0.iter().zip((0..).step_by(64)) {
            if *word == u64::MAX {
                (first..first + 64).for_each(&mut f);
                continue;
            }
            let mut rest = *word;
            while rest != 0 {
                f(first + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
    }

    /// Whether every step of the other set is in this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| b & !a == 0)
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub(crate) fn or(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }

    pub(crate) fn and(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a &= b;
        }
    }

    fn and_not(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a &= !b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_keeps_what_was_set() {
        let mut column = Column::empty(70);
        column.set_float(3, 1.0);
        column.set(69, Point::Histogram(Arc::new(Histogram::default())));
        let steps: Vec<usize> = column.cells().map(|(step, _)| step).collect();
        assert_eq!(steps, [3, 69]);
        assert!(column.get(4).is_none());
        let mut other = Column::empty(70);
        other.set_float(3, 2.0);
        assert!(!column.merge(&other));
        column.remove(other.present());
        assert!(column.merge(&other));
        assert!(!column.change_floats(|_, _| true));
        let mut floats = Column::full((0..70).map(f64::from).collect());
        assert!(floats.change_floats(|step, v| {
            *v += 1.0;
            step % 3 == 0
        }));
        let mut kept = Vec::new();
        floats.present().each(|step| kept.push(step));
        assert!(kept.iter().copied().eq((0..70).step_by(3)));
        let samples = floats.into_samples(&Steps::new(0, 69, 1)).0;
        assert_eq!((samples.len(), samples[1]), (24, (3, 4.0)));
        assert!(Column::full(vec![0.0; 70]).get(69).is_some());
        assert!(!Column::full(vec![0.0; 70]).present().get(70));
    }
}
