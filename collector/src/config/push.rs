//! What becomes of samples that others push, by whatever protocol.

use serde::{Deserialize, Serialize};

/// Prometheus's name of what stores start times.
pub const START_TIMES: &str = "created-timestamp-zero-ingestion";

/// What becomes of samples that others push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushConfig {
    /// Where it is said from when on a series counts, it has a zero then.
    pub start_times: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenPush {
    features: Vec<String>,
}

impl PushConfig {
    /// An error is of `push.features`.
    pub(super) fn mean(written: &WrittenPush) -> Result<Self, String> {
        match written.features.iter().find(|name| *name != START_TIMES) {
            Some(name) => Err(format!("there is no feature {name:?}; there is {START_TIMES}")),
            None => Ok(Self { start_times: !written.features.is_empty() }),
        }
    }

    pub(super) fn shown(self) -> WrittenPush {
        let Self { start_times } = self;
        WrittenPush { features: start_times.then(|| START_TIMES.to_owned()).into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn features_go_by_prometheuss_names() {
        let read = |text: &str| {
            let config = Config::parse(Path::new("c.toml"), &format!("[push]\n{text}"));
            config.map(|config| config.push).map_err(|error| error.to_string())
        };
        assert_eq!(read("").unwrap(), PushConfig { start_times: false });
        let on = read(&format!("features = [\"{START_TIMES}\"]")).unwrap();
        assert_eq!(on, PushConfig { start_times: true });
        assert_eq!(on.shown().features, [START_TIMES]);
        let wrong = read("features = [\"magic\"]").unwrap_err();
        assert!(
            wrong.contains("push.features: there is no feature \"magic\"; there is"),
            "{wrong}"
        );
    }
}
