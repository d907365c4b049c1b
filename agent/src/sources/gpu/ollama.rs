//! Ollama's loaded models: what share of each is in a GPU's memory, and when it goes.
//!
//! Asked where it listens on this host, `GET /api/ps` and once in a while `/api/version`; nothing is loaded or
//! kept loaded by that. Where nothing listens at the address it has by itself, nothing is told and nothing
//! complained of; an address that a person named is expected to answer. Bounded: [`MODELS_MAX`] models,
//! [`BODY_BYTES_MAX`] of an answer, [`PATIENCE`] for each. Source: Ollama's docs/api.md.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

use crate::sources::attributes::Sheet;
use crate::sources::containers::seconds;
use crate::sources::registry::{Configured, Shared};
use crate::sources::{Desc, Now, Problem, Reading, Roots, Source};
use crate::web::{Request, Tls, TlsSettings, Url, WebError};

/// Where it listens by itself.
const URL: &str = "http://127.0.0.1:11434";
const INTERVAL: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(3);
const SERVERS_MAX: usize = 16;
const MODELS_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 1 << 20;
/// How often it is asked which version it is.
const VERSION_EVERY: Duration = Duration::from_secs(600);

const UP: Desc = Desc::gauge("stoa_ollama_up", "Whether Ollama answers.");
const INFO: Desc = Desc::gauge("stoa_ollama_info", "Always 1; Ollama's version.");
const LOADED: Desc = Desc::gauge("stoa_ollama_models_loaded", "Models in memory.");
const SIZE: Desc =
    Desc::gauge("stoa_ollama_model_size_bytes", "Memory a loaded model takes in all.");
const VRAM: Desc = Desc::gauge(
    "stoa_ollama_model_vram_bytes",
    "The part of it in GPUs' memory; the rest slows it down.",
);
const CONTEXT: Desc =
    Desc::gauge("stoa_ollama_model_context_tokens", "The context a loaded model has room for.");
const EXPIRES: Desc = Desc::gauge(
    "stoa_ollama_model_expires_timestamp_seconds",
    "When a loaded model goes, unless it is asked before.",
);
const MODEL: Desc = Desc::gauge(
    "stoa_ollama_model_info",
    "Always 1; a loaded model's family, parameters and quantization.",
);

/// `[sources.ollama]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where Ollama listens.
    urls: Vec<Url>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { urls: URL.parse().into_iter().collect() }
    }
}

/// `/api/ps`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Running {
    /// Some versions say `null` for none.
    models: Option<Vec<Model>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Model {
    name: String,
    size: Option<u64>,
    size_vram: Option<u64>,
    context_length: Option<u64>,
    expires_at: String,
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    family: String,
    parameter_size: String,
    quantization_level: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    version: String,
}

/// The source `ollama`.
#[derive(Debug)]
pub(crate) struct Ollama {
    servers: Vec<Server>,
    is_named: bool,
    way: Option<Way>,
    sheet: Sheet,
}

#[derive(Debug)]
struct Server {
    url: Url,
    text: String,
    version: String,
    asked_version: Option<Now>,
}

/// What asking takes.
#[derive(Debug)]
struct Way {
    runtime: Runtime,
    tls: Arc<Tls>,
}

impl Configured for Ollama {
    type Settings = Settings;

    fn new(settings: Settings, _shared: &Shared) -> Self {
        let is_own = |url: &Url| url.to_string().trim_end_matches('/') == URL;
        let is_named = !settings.urls.iter().all(is_own);
        let server = |url: Url| {
            let text = url.to_string().trim_end_matches('/').to_owned();
            Server { url, text, version: String::new(), asked_version: None }
        };
        let servers = settings.urls.into_iter().take(SERVERS_MAX).map(server).collect();
        Self { servers, is_named, way: None, sheet: Sheet::default() }
    }
}

impl Way {
    fn open(servers: &[Server]) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        // Without TLS nobody is to be trusted, and a machine may have no roots.
        let is_plain = servers.iter().all(|server| server.text.starts_with("http://"));
        let tls = TlsSettings { insecure_skip_verify: is_plain, ..TlsSettings::default() };
        let tls = tls.prepare().map_err(|error| error.to_string())?;
        Ok(Self { runtime, tls: Arc::new(tls) })
    }

    fn get<T: serde::de::DeserializeOwned>(&self, url: &Url, path: &str) -> Result<T, Fault> {
        let url = url.join(path)?;
        let mut request = Request::get(url, Arc::clone(&self.tls), PATIENCE);
        request.body_bytes_max = BODY_BYTES_MAX;
        let answer = self.runtime.block_on(request.send())?;
        if !answer.status.is_success() {
            return Err(Fault::Wrong(format!("it answers {}", answer.status)));
        }
        let told = serde_json::from_slice(&answer.body);
        told.map_err(|error| Fault::Wrong(format!("it does not answer as Ollama does: {error}")))
    }
}

/// Why there is no answer.
enum Fault {
    /// Nothing listens there.
    Absent,
    Wrong(String),
}

impl From<WebError> for Fault {
    fn from(error: WebError) -> Self {
        match error {
            WebError::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused => {
                Self::Absent
            }
            error => Self::Wrong(error.to_string()),
        }
    }
}

impl Server {
    fn ask(&mut self, way: &Way, now: Now) -> Result<Running, Fault> {
        let running = way.get(&self.url, "/api/ps")?;
        if self.asked_version.is_none_or(|at| now.is_past(at, VERSION_EVERY)) {
            let version: Version = way.get(&self.url, "/api/version")?;
            (self.version, self.asked_version) = (version.version, Some(now));
        }
        Ok(running)
    }

    fn tell(&self, running: &Running, sheet: &mut Sheet) {
        let url = ("url", self.text.as_str());
        let models = running.models.as_deref().unwrap_or_default();
        let labels = sheet.labels.of(&[url]);
        sheet.push(&LOADED, labels, models.len() as f64);
        let labels = sheet.labels.of(&[url, ("version", &self.version)]);
        sheet.push(&INFO, labels, 1.0);
        for model in models.iter().take(MODELS_MAX) {
            let own = sheet.labels.of(&[url, ("model", &model.name)]);
            let numbers = [
                (&SIZE, model.size.map(|it| it as f64)),
                (&VRAM, model.size_vram.map(|it| it as f64)),
                (&CONTEXT, model.context_length.map(|it| it as f64)),
                (&EXPIRES, seconds(&model.expires_at)),
            ];
            for (desc, value) in numbers {
                if let Some(value) = value {
                    sheet.push(desc, own.clone(), value);
                }
            }
            let labels = sheet.labels.of(&[
                url,
                ("model", &model.name),
                ("family", &model.details.family),
                ("parameters", &model.details.parameter_size),
                ("quantization", &model.details.quantization_level),
            ]);
            sheet.push(&MODEL, labels, 1.0);
        }
    }
}

impl Source for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn deadline(&self) -> Option<Duration> {
        Some(PATIENCE * 2 * u32::try_from(self.servers.len()).unwrap_or(1).max(1))
    }

    fn read(&mut self, _roots: &Roots, now: Now, reading: &mut Reading) {
        let way = match self.way.take().map_or_else(|| Way::open(&self.servers), Ok) {
            Ok(way) => self.way.insert(way),
            Err(wrong) => return reading.fail(Problem::Answer { asked: "Ollama", wrong }),
        };
        let mut is_there = false;
        for server in &mut self.servers {
            let running = server.ask(way, now);
            if matches!(running, Err(Fault::Absent)) && !self.is_named {
                continue;
            }
            is_there = true;
            let labels = self.sheet.labels.of(&[("url", server.text.as_str())]);
            self.sheet.push(&UP, labels, f64::from(u8::from(running.is_ok())));
            match running {
                Ok(running) => server.tell(&running, &mut self.sheet),
                Err(fault) => {
                    let wrong = match fault {
                        Fault::Absent => "nothing listens there".to_owned(),
                        Fault::Wrong(wrong) => wrong,
                    };
                    let wrong = format!("{}: {wrong}", server.text);
                    reading.note(Problem::Answer { asked: "Ollama", wrong });
                }
            }
        }
        if !is_there {
            reading.fail(Problem::Lacks("Ollama that listens here"));
        }
        self.sheet.tell(reading);
    }
}

#[cfg(test)]
mod tests;
