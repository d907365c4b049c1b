//! The series of one reading, family by family, whose label sets stay from reading to reading.

use std::collections::HashSet;

use stoa_model::{Family, Labels};

use crate::sources::{Desc, Kept, Reading};

/// What a source has to tell; kept by it from one reading to the next.
#[derive(Debug)]
pub(crate) struct Sheet {
    families: Vec<Family>,
    labels: Kept<Labels>,
    key: String,
}

impl Sheet {
    pub(crate) fn new() -> Self {
        Self { families: Vec::new(), labels: Kept::new(), key: String::new() }
    }

    /// Adds a series; a pair with an empty value is left out of its labels. What is no number is not
    /// told: a program's numbers are each bounded, what is made of several may be none.
    pub(crate) fn push(&mut self, desc: &Desc, pairs: &[(&'static str, &str)], value: f64) {
        if !value.is_finite() {
            return;
        }
        self.key.clear();
        for (name, value) in pairs {
            self.key.extend([name, "\u{1}", value, "\u{2}"]);
        }
        let labels = self.labels.get(&self.key, |_| {
            Labels::from_pairs_last_wins(pairs.iter().map(|(name, value)| (*name, *value)))
        });
        match self.families.iter_mut().rfind(|family| family.name == desc.name) {
            Some(family) => family.push(labels, value),
            None => {
                let mut family = desc.family();
                family.push(labels, value);
                self.families.push(family);
            }
        }
    }

    /// Adds a series that is absent when there is no value.
    pub(crate) fn push_some(
        &mut self,
        desc: &Desc,
        pairs: &[(&'static str, &str)],
        value: Option<f64>,
    ) {
        if let Some(value) = value {
            self.push(desc, pairs, value);
        }
    }

    /// Moves all into `reading`; of two series with the same labels the first is told.
    pub(crate) fn tell(&mut self, reading: &mut Reading) {
        let mut told = HashSet::new();
        for mut family in self.families.drain(..) {
            told.clear();
            family.metrics.retain(|metric| told.insert(metric.labels.clone()));
            reading.family(family);
        }
        self.labels.end_round();
    }
}

/// What would be told, as an exporter would print it, without help and type.
#[cfg(test)]
pub(crate) fn lines(sheet: &mut Sheet) -> Vec<String> {
    let mut out = Vec::new();
    stoa_exchange::exposition::write(&sheet.families, &mut out).unwrap();
    sheet.families.clear();
    let text = String::from_utf8(out).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_not_told() {
        const A: Desc = Desc::gauge("a", "");
        let mut sheet = Sheet::new();
        for (name, value) in [("b", 1e300 * 1e300), ("c", f64::NAN), ("d", 0.0)] {
            sheet.push(&A, &[("of", name)], value);
        }
        assert_eq!(lines(&mut sheet), [r#"a{of="d"} 0"#]);
    }
}
