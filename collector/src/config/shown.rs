//! The configuration as it is shown to whoever may read: every value in effect, secrets left out.

use reqwest::Url;
use serde_json::Value;
use stoa_daemon::log::{LogOptions, LogSection};
use stoa_daemon::{Bytes, Span};

use super::{
    AgentsConfig, Config, HttpConfig, QueryConfig, RemoteReadConfig, RemoteWriteConfig,
    StorageConfig, TlsFiles, Written, WrittenAgents, WrittenHttp, WrittenQuery, WrittenStorage,
};

/// What stands for a secret, as in Prometheus.
pub(super) const SECRET: &str = "<secret>";

impl Config {
    /// The configuration as YAML, as `/api/v1/status/config` gives it: each key of the file with the
    /// value in effect. A user, a password and the query of a URL are left
    /// out.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut yaml = String::new();
        let mut section = "";
        let values = self.values();
        for (in_section, key, value) in &values {
            if in_section != section {
                section = in_section;
                yaml.push_str(&format!("{section}:\n"));
            }
            let indent = if section.is_empty() { "" } else { "  " };
            // JSON's scalars and lists are YAML's too.
            yaml.push_str(&format!("{indent}{key}: {value}\n"));
        }
        yaml
    }

    /// Every key: its section (empty at the top), its name, its value; those of the top first.
    fn values(&self) -> Vec<(String, String, Value)> {
        let mut top = Vec::new();
        let mut below = Vec::new();
        if let Ok(Value::Object(written)) = serde_json::to_value(Written::of(self)) {
            for (name, value) in written {
                match value {
                    Value::Object(section) => below
                        .extend(section.into_iter().map(|(key, value)| (name.clone(), key, value))),
                    value => top.push((String::new(), name, value)),
                }
            }
        }
        top.append(&mut below);
        top
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> Vec<(String, String)> {
        self.values().into_iter().map(|(section, key, _)| (section, key)).collect()
    }
}

impl Written {
    /// The file that would say this; each field is taken apart so that none is forgotten.
    fn of(config: &Config) -> Self {
        let Config {
            data_dir,
            external_labels,
            agents,
            http,
            otlp,
            push,
            storage,
            remote_write,
            remote_read,
            query,
            log,
        } = config.clone();
        let external_labels = external_labels.iter();
        let external_labels =
            external_labels.map(|label| (label.name.to_string(), label.value.to_string()));
        let external_labels = external_labels.collect();
        let remote_write = remote_write.iter().map(RemoteWriteConfig::shown).collect();
        let AgentsConfig { listen, series_max } = agents;
        let agents = WrittenAgents { listen, series_max };
        let HttpConfig {
            listen,
            insecure,
            host_names,
            tls,
            loopback_credentials,
            trusted_proxies,
            proxy_scope,
            proxy_admins,
        } = http;
        let (tls_cert, tls_key) = tls.map(|TlsFiles { cert, key }| (cert, key)).unzip();
        let http = WrittenHttp {
            listen,
            insecure,
            host_names,
            tls_cert,
            tls_key,
            loopback_credentials,
            trusted_proxies,
            proxy_scope,
            proxy_admins,
        };
        let (otlp, push) = (otlp.shown(), push.shown());
        let StorageConfig {
            retention,
            retention_1m,
            retention_1h,
            retention_bytes_max,
            out_of_order,
            free_bytes_min,
            series_max,
            label_bytes_max,
            exemplars_max,
        } = storage;
        let storage = WrittenStorage {
            retention: Span(retention),
            retention_1m: Some(Span(retention_1m)),
            retention_1h: Some(Span(retention_1h)),
            retention_bytes_max: retention_bytes_max.map(Bytes),
            out_of_order: Span(out_of_order),
            free_bytes_min: Bytes(free_bytes_min),
            series_max,
            label_bytes_max: Bytes(label_bytes_max),
            exemplars_max,
            remote: remote_read.as_ref().map(RemoteReadConfig::shown),
        };
        let QueryConfig {
            timeout,
            samples_max,
            bytes_max,
            series_max,
            reuse_bytes_max,
            concurrency_max,
            slow_after,
            features,
        } = query;
        let query = WrittenQuery {
            timeout: Span(timeout),
            samples_max,
            bytes_max: Bytes(bytes_max),
            series_max,
            reuse_bytes_max: Bytes(reuse_bytes_max),
            concurrency_max,
            slow_after: Span(slow_after),
            features: super::names(features),
        };
        let LogOptions { level, otlp_endpoint, service: _ } = log;
        let otlp_endpoint = otlp_endpoint.map(|url| without_secrets(&url));
        let log = LogSection { level, otlp_endpoint };
        Self {
            data_dir,
            remote_write,
            external_labels,
            agents,
            http,
            otlp,
            push,
            storage,
            query,
            log,
        }
    }
}

/// A URL whose user, password and query, where some receivers want a key, are left out: as written when
/// it has none, else as it is read, since a URL can be written in more ways than one expects.
pub(super) fn without_secrets(text: &str) -> String {
    let url = Url::parse(text).ok().filter(|url| url.host_str().is_some());
    let Some(url) = url else {
        // What is no URL may still be meant as one.
        let is_plain = !text.contains(['@', '?', '#']);
        return if is_plain { text.to_owned() } else { SECRET.to_owned() };
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    let has_query = url.query().is_some() || url.fragment().is_some();
    if !has_user && !has_query {
        return text.to_owned();
    }
    let user = if has_user { format!("{SECRET}@") } else { String::new() };
    let query = if has_query { format!("?{SECRET}") } else { String::new() };
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    let (scheme, host, path) = (url.scheme(), url.host_str().unwrap_or(""), url.path());
    format!("{scheme}://{user}{host}{port}{path}{query}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_value_in_effect_is_shown_and_no_secret() {
        let text = "[log]\notlp_endpoint = \"https://ann:hunter2@otlp.lan:4317/v1\"\n\
                    [external_labels]\nsite = \"home\"\n\
                    [http]\ntrusted_proxies = [\"10.0.0.0/8\"]\n[storage]\nretention = \"90h\"";
        let yaml = Config::parse(Path::new("c.toml"), text).unwrap().to_yaml();
        let top = "data_dir: \"/var/lib/stoa\"\nremote_write: []\nagents:\n  listen: ";
        assert!(yaml.starts_with(top), "{yaml}");
        for line in [
            "external_labels:\n  site: \"home\"\n",
            "  listen: \"127.0.0.1:7480\"\n",
            "  trusted_proxies: [\"10.0.0.0/8\"]\n",
            "  retention: \"3d18h\"\n",
            "  free_bytes_min: \"512MiB\"\n",
            "  label_bytes_max: \"1GiB\"\n",
            "  exemplars_max: 100000\n",
            "  tls_key: null\n",
            "  proxy_scope: \"read\"\n",
            "  otlp_endpoint: \"https://<secret>@otlp.lan:4317/v1\"\n",
        ] {
            assert!(yaml.contains(line), "{line} is not in\n{yaml}");
        }
        assert!(!yaml.contains("hunter2"));
    }

    #[test]
    fn a_url_is_shown_without_user_and_query() {
        let check = |url, expected| assert_eq!(without_secrets(url), expected);
        check("http://otlp.lan:4317", "http://otlp.lan:4317");
        check("http://otlp.lan/v1/a@b", "http://otlp.lan/v1/a@b");
        check("http://otlp.lan/v1?api-key=hunter2", "http://otlp.lan/v1?<secret>");
        check("http://otlp.lan?key=a@b", "http://otlp.lan/?<secret>");
        check("http://ann:x@otlp.lan?key=hunter2#3", "http://<secret>@otlp.lan/?<secret>");
        check("http://otlp.lan/#hunter2", "http://otlp.lan/?<secret>");
        check("https:/ann:hunter2@h:1/w", "https://<secret>@h:1/w");
        check("https:///hunter2@[::1]/w", "https://<secret>@[::1]/w");
        check("ann:hunter2@h/w", "<secret>");
        check("otlp.lan:4317", "otlp.lan:4317");
    }
}
