//! Kills for want of memory, over the runs of a container: a control group's count ends with it.
//!
//! A container that is killed as a whole is gone with its count before anybody reads it; then what the
//! engine says of its end counts as one.

/// The count of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Kills {
    /// Of control groups that are gone.
    before: f64,
    /// Of the one that is there.
    now: f64,
    /// When it ended so last, and the count by then.
    ended: Option<(f64, f64)>,
}

impl Kills {
    pub(super) fn total(&self) -> f64 {
        self.before + self.now
    }

    /// Takes in what the control group says.
    pub(super) fn count(&mut self, kills: f64) {
        if kills < self.now {
            self.before += self.now;
        }
        self.now = kills;
    }

    /// The engine says that the container was killed so, and ended at `finished`.
    pub(super) fn end(&mut self, finished: f64) {
        let counted = match self.ended {
            Some((at, _)) if at >= finished => return,
            Some((_, counted)) => counted,
            None => 0.0,
        };
        if self.total() <= counted {
            self.before += 1.0;
        }
        self.ended = Some((finished, self.total()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_once_whoever_tells_of_them() {
        let mut kills = Kills::default();
        for (event, expected) in [
            (Ok(0.0), 0.0),
            // Seen, and told by the engine.
            (Ok(2.0), 2.0),
            (Err(10.0), 2.0),
            (Err(10.0), 2.0),
            // Another run, that ended before it was seen.
            (Ok(0.0), 2.0),
            (Err(20.0), 3.0),
            (Ok(1.0), 4.0),
            (Err(30.0), 4.0),
        ] {
            match event {
                Ok(count) => kills.count(count),
                Err(finished) => kills.end(finished),
            }
            assert_eq!(kills.total(), expected, "{event:?}");
        }
    }
}
