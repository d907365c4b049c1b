//! The collector as its API tells of it: who sends here, what is the matter, its own figures.

use std::sync::PoisonError;
use std::time::Duration;

use stoa_model::{Family, Labels, METRIC_NAME, TimestampMs};

use super::Parts;
use crate::http::prometheus::{Attendant, Health, Notice, Surroundings};
use crate::ingest::{clocks, host_labels};
use crate::presence::Standing;
use crate::push::SenderStanding;
use crate::selfstats;
use crate::store::StoreState;

/// A sender of which nothing has been stored for so long is down: Prometheus's look-back.
const SENDER_MS: i64 = 5 * 60 * 1000;

/// One of which nothing has been stored for so long is not told of any more.
const SENDER_GONE_MS: i64 = 3600 * 1000;

impl Surroundings for Parts {
    fn attendants(&self) -> Vec<Attendant> {
        let now_ms = (self.clock)();
        let hosts = self.presence.lock().unwrap_or_else(PoisonError::into_inner).standings();
        let senders = self.pusher.standings();
        let senders = senders.into_iter().filter_map(|sender| pushes(sender, now_ms));
        hosts.into_iter().map(agent).chain(senders).collect()
    }

    fn notices(&self) -> Vec<Notice> {
        let mut texts = Vec::new();
        match self.store.state() {
            StoreState::Open | StoreState::Closed => {}
            StoreState::DiskFull { free_bytes } => texts.push(format!(
                "The disk is full ({free_bytes} bytes are free): nothing is stored until there is room."
            )),
            StoreState::Failed(reason) => {
                texts.push(format!("The store has failed ({reason}): restart Stoa."));
            }
        }
        if self.ingest.clock_standing() != clocks::Standing::Fine {
            texts.push("The collector's clock is far from most senders': set it right.".to_owned());
        }
        if let Some(damage) = self.members.damage() {
            let moved_to = damage.moved_to.display();
            texts.push(format!(
                "The books of hosts and tokens were damaged, and are at {moved_to}."
            ));
        }
        self.notices.since(texts, (self.clock)())
    }

    fn families(&self) -> Vec<Family> {
        selfstats::families(&self.figures())
    }
}

/// Since when what is the matter is so.
#[derive(Debug, Default)]
pub(super) struct Notices(std::sync::Mutex<Vec<Notice>>);

impl Notices {
    /// The texts of now with the times at which they were first told; those that hold no more are
    /// forgotten.
    fn since(&self, texts: Vec<String>, now_ms: TimestampMs) -> Vec<Notice> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The number of bytes may change while the sentence is the same.
        let kind = |text: &str| text.split('(').next().unwrap_or_default().to_owned();
        let each = texts.into_iter().map(|text| {
            let before = known.iter().find(|notice| kind(&notice.text) == kind(&text));
            let since_ms = before.map_or(now_ms, |notice| notice.since_ms);
            Notice { text, since_ms }
        });
        let now: Vec<Notice> = each.collect();
        known.clone_from(&now);
        now
    }
}

fn agent(standing: Standing) -> Attendant {
    let Standing { host, last_tick_ms, interval_ms, is_silent } = standing;
    let (health, error) = match (is_silent, last_tick_ms) {
        (true, Some(_)) => (Health::Down, "the host has fallen silent"),
        (true, None) => {
            (Health::Down, "nothing has come from the host since the collector was started")
        }
        (false, Some(_)) => (Health::Up, ""),
        (false, None) => (Health::Unknown, ""),
    };
    Attendant {
        labels: host_labels("up", &host).without(METRIC_NAME),
        url: format!("stoa://{host}"),
        seen_ms: last_tick_ms,
        interval: u64::try_from(interval_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis),
        health,
        error: error.to_owned(),
    }
}

/// One who pushes; `None` when it has not for long.
fn pushes(standing: SenderStanding, now_ms: TimestampMs) -> Option<Attendant> {
    let SenderStanding { way, name, stored_ms, interval_ms, complaint } = standing;
    let silent_ms = now_ms.saturating_sub(stored_ms?);
    if silent_ms > SENDER_GONE_MS {
        return None;
    }
    let (health, error) = match silent_ms > SENDER_MS {
        true => (Health::Down, Some("nothing has come for five minutes".to_owned())),
        false => (Health::Up, complaint),
    };
    let pool = way.pool();
    let url = format!("{pool}://{name}");
    let labels = Labels::from_pairs_last_wins([("instance", name.as_str()), ("job", pool)]);
    let interval = interval_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    let error = error.unwrap_or_default();
    Some(Attendant { labels, url, seen_ms: stored_ms, interval, health, error })
}

#[cfg(test)]
mod tests {
    use stoa_model::HostId;

    use super::*;
    use crate::push::Way;

    #[test]
    fn agents_are_as_they_stand() {
        let host = HostId::parse("pve1").unwrap();
        let check = |last_tick_ms, is_silent, health, error: &str| {
            let standing =
                Standing { host: host.clone(), last_tick_ms, interval_ms: 1000, is_silent };
            let told = agent(standing);
            assert_eq!((told.health, told.error.contains(error)), (health, true), "{told:?}");
            assert_eq!(told.error.is_empty(), error.is_empty());
            assert_eq!(told.labels.get("instance"), Some("pve1"));
        };
        check(Some(7), false, Health::Up, "");
        check(None, false, Health::Unknown, "");
        check(Some(7), true, Health::Down, "silent");
        check(None, true, Health::Down, "since the collector was started");
    }

    #[test]
    fn who_pushes_is_there_until_nothing_comes() {
        let told = |now_ms: i64| {
            let standing = SenderStanding {
                way: Way::RemoteWrite,
                name: "t1".to_owned(),
                stored_ms: Some(1000),
                interval_ms: Some(5000),
                complaint: Some("refused".to_owned()),
            };
            pushes(standing, now_ms).map(|told| (told.health, told.error))
        };
        assert_eq!(told(2000), Some((Health::Up, "refused".to_owned())));
        let (health, error) = told(1001 + SENDER_MS).unwrap();
        assert_eq!((health, error.as_str()), (Health::Down, "nothing has come for five minutes"));
        assert_eq!(told(1001 + SENDER_GONE_MS), None);
    }

    #[test]
    fn a_notice_keeps_its_date_until_it_is_over() {
        let notices = Notices::default();
        let full = |bytes: u64| vec![format!("The disk is full ({bytes} bytes are free): no.")];
        let told = |texts, now_ms| -> Vec<i64> {
            notices.since(texts, now_ms).iter().map(|notice| notice.since_ms).collect()
        };
        assert_eq!(told(full(5), 10), [10]);
        assert_eq!(told(full(4), 20), [10]);
        assert_eq!(told(Vec::new(), 30), [0; 0]);
        assert_eq!(told(full(4), 40), [40]);
    }
}
