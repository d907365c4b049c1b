//! The run: kills and restarts by seed, the drain, the questions.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::children::{Children, Side};
use crate::metrics::Counted;
use crate::record;
use crate::verdict::{self, Kills};

/// The longest pause between two kills.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One death in so many is a longer one, and how long at most: the agent's memory fills in 1.3 s.
const AWAY_EVERY: u32 = 5;
const AWAY_MAX: Duration = Duration::from_millis(2500);

/// How long the end may take, retries included.
const DRAIN: Duration = Duration::from_secs(100);

/// `true` when all is well.
pub(crate) async fn run(
    program: &Path,
    work: &Path,
    count: u64,
    seed: u64,
) -> anyhow::Result<bool> {
    let begun = now();
    let mut children = Children::new(program, work)?;
    children.start(Side::Collector)?;
    children.ready().await?;
    children.join().await.context("let the agent join")?;
    children.start(Side::Agent)?;
    let counted = Counted::default();
    let watch = tokio::spawn(counted.clone().watch(children.http.clone()));

    let mut rng = StdRng::seed_from_u64(seed);
    let mut kills = Kills::default();
    let mut next_kill = now() + pause(&mut rng);
    let mut back: Vec<(Instant, Side)> = Vec::new();
    while kills.all() < count || !back.is_empty() {
        if let Some(at) = back.iter().position(|(due, _)| *due <= now()) {
            let (_, side) = back.swap_remove(at);
            children.start(side)?;
        } else if kills.all() < count && next_kill <= now() {
            let side = if rng.random() { Side::Collector } else { Side::Agent };
            // The other one when this one is dead; it may be that both are.
            let other = if side == Side::Agent { Side::Collector } else { Side::Agent };
            if let Some(side) = [side, other].into_iter().find(|side| children.is_running(*side)) {
                children.kill(side)?;
                match side {
                    Side::Collector => {
                        counted.killed();
                        kills.collector += 1;
                    }
                    Side::Agent => kills.agent += 1,
                }
                let away = rng.random_ratio(1, AWAY_EVERY);
                let away = if away { AWAY_MAX.mul_f64(rng.random()) } else { Duration::ZERO };
                back.push((now() + away, side));
            }
            next_kill = now() + pause(&mut rng);
        }
        let kill = (kills.all() < count).then_some(next_kill);
        let next = back.iter().map(|(due, _)| *due).chain(kill).min();
        let wait = next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now()));
        tokio::time::sleep(wait).await;
    }

    let drained = children.drain_agent(DRAIN).await;
    children.ready().await?;
    let account = record::read(&children.agent_dir(), children.generations)?;
    let stored = verdict::stored(&children.http).await?;
    // Once more from the disk alone.
    tokio::time::sleep(Duration::from_millis(100)).await;
    watch.abort();
    children.kill(Side::Collector)?;
    children.start(Side::Collector)?;
    children.ready().await?;
    let again = verdict::stored(&children.http).await?;

    let mut wrong = Vec::new();
    wrong.extend(drained.err().map(|error| format!("{error:#}")));
    if stored != again {
        wrong.push(format!(
            "{} samples before the last kill of the collector, other ones after it ({})",
            stored.len(),
            again.len()
        ));
    }
    let facts = verdict::Facts { kills, account, stored: again, counted };
    Ok(verdict::print(&facts, wrong, seed, now().duration_since(begun)))
}

fn pause(rng: &mut StdRng) -> Duration {
    PAUSE_MAX.mul_f64(rng.random())
}

#[expect(clippy::disallowed_methods, reason = "this is what drives the run")]
fn now() -> Instant {
    Instant::now()
}
