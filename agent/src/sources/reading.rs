//! What one reading of one source gave.
//!
//! A [`Reading`] keeps its families, and the room for their readings, from one reading to the next: a
//! source that tells the same families in the same order allocates nothing. Knows neither what is read
//! nor who takes it.
//!
//! Names may be made of what was read. One that is no metric's name, one that was told before in the
//! same reading, and all beyond [`FAMILIES_MAX`] are not told; each is a problem, up to
//! [`PROBLEMS_MAX`].

use std::ops::Range;

use stoa_model::{Family, Labels, MetricKind};

use super::{Desc, Problem, no_labels};

/// The most families of one reading; no source has as many but of files that are no kernel's.
const FAMILIES_MAX: usize = 4096;
/// The most problems with families that are kept.
const PROBLEMS_MAX: usize = 256;

/// What one reading of one source gave.
#[derive(Debug, Default)]
pub struct Reading {
    /// Those before `told` are of this reading, the rest are room of the last.
    families: Vec<Family>,
    told: usize,
    /// Where readings of a family go that is not told.
    untold: Option<Box<Family>>,
    /// What could not be read, besides what this host does not have.
    pub problems: Vec<Problem>,
    /// What this host does not have, the first of it.
    pub absent: Option<Box<Problem>>,
    /// Whether the source could not do its work at all, or the host has nothing for it to read;
    /// what `node_scrape_collector_success` says 0 to.
    pub failed: bool,
}

impl Reading {
    /// Begins anew, keeping the room.
    pub fn begin(&mut self) {
        self.told = 0;
        self.problems.clear();
        self.absent = None;
        self.failed = false;
    }

    /// Ends the reading: families that it did not tell are forgotten.
    pub fn end(&mut self) {
        self.families.truncate(self.told);
        self.untold = None;
    }

    /// What was read; within one source each family stands once, and has a reading.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.families.iter().take(self.told).filter(|family| !family.metrics.is_empty())
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.families().next().is_none()
    }

    /// The source cannot do its work; an absent file is no problem worth telling.
    pub(crate) fn fail(&mut self, problem: Problem) {
        self.failed = true;
        self.note(problem);
    }

    /// A part could not be read; an absent file is no problem worth telling.
    pub(crate) fn note(&mut self, problem: Problem) {
        if problem.is_absence() {
            self.absent.get_or_insert_with(|| Box::new(problem));
        } else {
            self.problems.push(problem);
        }
    }

    /// What a person named could not be read; that it is absent is a problem too.
    pub(crate) fn note_named(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Opens a family to add readings to; one without readings is not told. To be opened once a
    /// reading, and best in the same order each time.
    pub(crate) fn open(&mut self, desc: &Desc) -> &mut Family {
        self.named(desc.name, desc.help, desc.kind)
    }

    /// Opens several families; they stand in the order given.
    pub(crate) fn group<'d>(&mut self, descs: impl IntoIterator<Item = &'d Desc>) -> &mut [Family] {
        let from = self.told;
        for desc in descs {
            self.open(desc);
        }
        self.opened(from..self.told)
    }

    fn opened(&mut self, range: Range<usize>) -> &mut [Family] {
        self.families.get_mut(range).unwrap_or_default()
    }

    /// Opens a family whose name is made from what was read.
    pub(crate) fn named(&mut self, name: &str, help: &str, kind: MetricKind) -> &mut Family {
        let family = match self.place(name) {
            Ok(place) => self.families.get_mut(place),
            Err(wrong) => {
                if self.problems.len() < PROBLEMS_MAX {
                    self.problems.push(Problem::Family { name: name.to_owned(), wrong });
                }
                None
            }
        };
        let family = match family {
            Some(family) => family,
            None => self.untold.get_or_insert_with(|| Box::new(Family::new("", "", kind))).as_mut(),
        };
        family.metrics.clear();
        family.kind = kind;
        if family.help != help {
            help.clone_into(&mut family.help);
        }
        family
    }

    /// The place of a family's room, which is told from now on.
    fn place(&mut self, name: &str) -> Result<usize, &'static str> {
        let place = self.told;
        let is_it = |family: &Family| family.name == name;
        // What stands there was looked at when it came there.
        if !self.families.get(place).is_some_and(is_it) {
            let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
            let is_sign = |c: char| is_first(c) || c.is_ascii_digit();
            if !name.starts_with(is_first) || !name.chars().all(is_sign) {
                return Err("it is not named as metrics are");
            }
            if place >= FAMILIES_MAX {
                return Err("there are too many");
            }
            let (told, rest) = self.families.split_at_checked(place).unwrap_or_default();
            if told.iter().any(is_it) {
                return Err("it was told before");
            }
            match rest.iter().position(is_it) {
                Some(ahead) => self.families.swap(place, place + ahead),
                None => self.families.insert(place, Family::new(name, "", MetricKind::Untyped)),
            }
        }
        self.told += 1;
        Ok(place)
    }

    /// Adds a family of one reading without labels.
    pub(crate) fn single(&mut self, desc: &Desc, value: f64) {
        self.open(desc).push(no_labels(), value);
    }

    /// Adds a family of one reading.
    pub(crate) fn one(&mut self, desc: &Desc, labels: Labels, value: f64) {
        self.open(desc).push(labels, value);
    }

    /// Adds a family made elsewhere, unless it has no readings.
    pub(crate) fn family(&mut self, family: Family) {
        if family.metrics.is_empty() {
            return;
        }
        let place = self.named(&family.name, &family.help, family.kind);
        *place = family;
    }

    /// Adds a family as it is.
    pub(crate) fn copy(&mut self, family: &Family) {
        let metrics = &mut self.named(&family.name, &family.help, family.kind).metrics;
        metrics.extend_from_slice(&family.metrics);
    }

    /// Adds all that another reading told.
    pub(crate) fn again(&mut self, other: &Self) {
        other.families().for_each(|family| self.copy(family));
        self.failed |= other.failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Desc = Desc::gauge("a", "A.");
    const B: Desc = Desc::gauge("b", "B.");
    const C: Desc = Desc::counter("c", "C.");

    fn names(reading: &Reading) -> Vec<String> {
        reading.families().map(|f| format!("{}{}", f.name, f.metrics.len())).collect()
    }

    fn room(reading: &Reading) -> Vec<(*const u8, usize)> {
        reading.families().map(|f| (f.name.as_ptr(), f.metrics.capacity())).collect()
    }

    #[test]
    fn room_is_kept_whatever_the_order() {
        let mut reading = Reading::default();
        let mut tell = |descs: &[&Desc]| {
            reading.begin();
            for family in reading.group(descs.iter().copied()) {
                family.push(no_labels(), 1.0);
            }
            reading.end();
            (names(&reading), room(&reading))
        };
        let (told, first) = tell(&[&A, &B, &C]);
        assert_eq!(told, ["a1", "b1", "c1"]);
        assert_eq!(tell(&[&A, &B, &C]).1, first);
        let (told, other) = tell(&[&C, &A, &B]);
        assert_eq!(told, ["c1", "a1", "b1"]);
        assert!(other.iter().all(|place| first.contains(place)), "{other:?} {first:?}");
        assert_eq!(tell(&[&B]).0, ["b1"]);
        assert_eq!(tell(&[]).0, [""; 0]);
    }

    #[test]
    fn what_clashes_or_is_no_name_is_a_problem_and_not_told() {
        let mut reading = Reading::default();
        for round in 0..2 {
            reading.begin();
            reading.single(&A, 1.0);
            for name in ["a", "a", "", "b c", "1b", "é", "b"] {
                reading.named(name, "", MetricKind::Gauge).push(no_labels(), 2.0);
            }
            reading.family(B.family());
            let mut again = B.family();
            again.push(no_labels(), 3.0);
            reading.family(again);
            reading.single(&C, 1.0);
            reading.end();
            assert_eq!(names(&reading), ["a1", "b1", "c1"], "{round}");
            let values: Vec<f64> = reading.families().map(|f| f.metrics[0].value).collect();
            assert_eq!(values, [1.0, 2.0, 1.0]);
            assert_eq!(reading.problems.len(), 7, "{:?}", reading.problems);
        }
        assert_eq!(
            reading.problems[0].to_string(),
            "cannot tell the family \"a\": it was told before"
        );
    }

    #[test]
    fn families_are_bounded() {
        let mut reading = Reading::default();
        reading.begin();
        for n in 0..FAMILIES_MAX + 1000 {
            reading.named(&format!("a{n}"), "", MetricKind::Gauge).push(no_labels(), 1.0);
        }
        reading.end();
        assert_eq!(reading.families().count(), FAMILIES_MAX);
        assert_eq!(reading.problems.len(), PROBLEMS_MAX);
    }

    #[test]
    fn a_family_without_readings_is_not_told_and_help_follows_the_source() {
        let mut reading = Reading::default();
        reading.open(&A);
        reading.single(&B, 2.0);
        reading.named("b2", "first", MetricKind::Gauge).push(no_labels(), 1.0);
        reading.end();
        assert_eq!(names(&reading), ["b1", "b21"]);
        reading.begin();
        reading.single(&B, 3.0);
        reading.named("b2", "second", MetricKind::Counter).push(no_labels(), 1.0);
        let told: Vec<&Family> = reading.families().collect();
        assert_eq!((told[1].help.as_str(), told[1].kind), ("second", MetricKind::Counter));
        assert_eq!(told[0].metrics[0].value, 3.0);
    }
}
