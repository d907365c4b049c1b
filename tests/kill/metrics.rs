//! The collector's counters, summed over all its lives: read often, as each life begins at 0. What
//! was counted between the last reading and a kill is not known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two readings.
const PACE: Duration = Duration::from_millis(40);

/// Counters by series, as `/metrics` writes it.
type Counters = BTreeMap<String, u64>;

/// What has been read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Arc<Mutex<Lives>>);

#[derive(Debug, Default)]
struct Lives {
    before: Counters,
    now: Counters,
    life: u64,
}

impl Counted {
    /// Reads on and on; to be aborted.
    pub(crate) async fn watch(self, http: String) {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(1)).build();
        let Ok(client) = client else { return };
        loop {
            let life = self.with(|lives| lives.life);
            if let Some(text) = page(&client, &http).await {
                let counters = counters(&text);
                self.with(|lives| {
                    if lives.life == life {
                        lives.now = counters;
                    }
                });
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// The collector has been killed.
    pub(crate) fn killed(&self) {
        self.with(|lives| {
            lives.life += 1;
            for (series, count) in std::mem::take(&mut lives.now) {
                *lives.before.entry(series).or_default() += count;
            }
        });
    }

    /// The sum over all lives of the series that begin with `prefix`.
    pub(crate) fn sum(&self, prefix: &str) -> u64 {
        self.with(|lives| {
            let all = lives.before.iter().chain(&lives.now);
            all.filter(|(series, _)| series.starts_with(prefix)).map(|(_, count)| count).sum()
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Lives) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn page(client: &reqwest::Client, http: &str) -> Option<String> {
    let reply = client.get(format!("{http}/metrics")).send().await.ok()?;
    reply.error_for_status().ok()?.text().await.ok()
}

fn counters(page: &str) -> Counters {
    let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
    lines.filter_map(|(series, count)| Some((series.to_owned(), count.parse().ok()?))).collect()
}
