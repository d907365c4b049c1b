//! What has been said about the present outage, so that it is said once.
//!
//! A dial fails every second or so for as long as a collector is away: each reason is a line of the
//! log when it is new, and a line for debugging when it comes again. Bounds: [`REASONS_MAX`].

/// Different reasons of one outage that are said, at most.
const REASONS_MAX: usize = 8;

/// From the end of a session, or the start of the process, to the next welcome.
#[derive(Debug, Default)]
pub(super) struct Outage {
    said: Vec<String>,
}

impl Outage {
    /// Whether this reason has not been met in this outage.
    pub(super) fn is_news(&mut self, reason: &str) -> bool {
        let news = self.said.len() < REASONS_MAX && !self.said.iter().any(|said| said == reason);
        if news {
            self.said.push(reason.to_owned());
        }
        news
    }

    /// The collector is there.
    pub(super) fn end(&mut self) {
        self.said.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_news_once_until_the_collector_is_there() {
        let mut outage = Outage::default();
        let told = ["refused", "refused", "revoked", "refused", "revoked"];
        assert_eq!(told.map(|reason| outage.is_news(reason)), [true, false, true, false, false]);
        outage.end();
        assert!(outage.is_news("revoked"));
        for number in 0..100 {
            let news = outage.is_news(&number.to_string());
            assert_eq!(news, number < REASONS_MAX - 1, "{number}");
        }
    }
}
