//! One reading of all servers of a source: who is asked for how long, and what drives it.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::sources::sheet::Sheet;
use crate::sources::{Now, Problem, Reading};

use super::Product;

/// A server that can be asked, and told of.
pub(super) trait Target {
    /// Asks until `until` and tells; whether the API answered.
    async fn read(
        &mut self,
        now: Now,
        until: Instant,
        sheet: &mut Sheet,
        reading: &mut Reading,
    ) -> bool;
}

/// The servers of a source.
#[derive(Debug)]
pub(super) struct Round<T> {
    product: Product,
    targets: Vec<T>,
    /// How long all may take, shared out evenly among those still to be asked.
    budget: Duration,
    sheet: Sheet,
    /// What drives the questions; rests between readings.
    runtime: Option<Runtime>,
}

impl<T: Target> Round<T> {
    pub(super) fn new(
        product: Product,
        targets: impl Iterator<Item = T>,
        budget: Duration,
    ) -> Self {
        let targets = targets.collect();
        Self { product, targets, budget, sheet: Sheet::new(), runtime: None }
    }

    pub(super) fn read(&mut self, now: Now, reading: &mut Reading) {
        if self.targets.is_empty() {
            return reading.fail(Problem::Lacks("server named in its table under [sources]"));
        }
        let made = match self.runtime.take() {
            Some(runtime) => Ok(runtime),
            None => Builder::new_current_thread().enable_all().build(),
        };
        let runtime = match made {
            Ok(runtime) => runtime,
            Err(error) => {
                let wrong = format!("no runtime: {error}");
                return reading.fail(Problem::Answer { asked: self.product.name(), wrong });
            }
        };
        let Self { targets, budget, sheet, .. } = self;
        let has_answer = runtime.block_on(async {
            let until = Instant::now() + *budget;
            let mut left = u32::try_from(targets.len()).unwrap_or(u32::MAX);
            let mut has_answer = false;
            for target in targets {
                let share = until.saturating_duration_since(Instant::now()) / left.max(1);
                left = left.saturating_sub(1);
                has_answer |= target.read(now, Instant::now() + share, sheet, reading).await;
            }
            has_answer
        });
        self.runtime = Some(runtime);
        reading.failed |= !has_answer;
        self.sheet.tell(reading);
    }
}
