//! What only an engine knows: states, health, restarts, ends, ports, whose part a container is.
//!
//! An engine that is silent is told as such, and nothing else of it: nobody knows the states then.

use super::book::{Book, Facts, HEALTHS, STATES};
use super::engine::{Engine, Silence};
use super::{short, words};
use crate::sources::attributes::Sheet;
use crate::sources::{Problem, Roots};

/// An engine, and what it said.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) engine: Engine,
    /// As a person names it.
    socket: String,
    pub(super) book: Book,
    /// Why it says nothing now.
    pub(super) silence: Option<Silence>,
    pub(super) has_answered: bool,
}

impl Asked {
    pub(super) fn name(&self) -> &'static str {
        let is_podman = match &self.engine.about {
            Some(about) => about.is_podman,
            None => self.socket.contains("podman"),
        };
        if is_podman { "podman" } else { "docker" }
    }

    /// What its silence means, if anything.
    pub(super) fn problem(&self) -> Option<Problem> {
        let asked = if self.name() == "podman" { "Podman" } else { "Docker" };
        Some(match self.silence.as_ref()? {
            Silence::Absent if self.has_answered => {
                Problem::Answer { asked, wrong: "its socket is gone; is it stopped?".to_owned() }
            }
            Silence::Absent => Problem::Lacks("container engine's socket"),
            Silence::Denied => Problem::Lacks(
                "right to ask the container engine: containers have no names; docs/operating/containers.md \
                 says how the agent gets it",
            ),
            Silence::Failed(wrong) => Problem::Answer { asked, wrong: wrong.clone() },
        })
    }

    pub(super) fn new(socket: &str, roots: &Roots) -> Self {
        let socket = socket.strip_prefix("unix://").unwrap_or(socket);
        Self {
            engine: Engine::new(roots.on_host(socket)),
            socket: socket.to_owned(),
            book: Book::default(),
            silence: None,
            has_answered: false,
        }
    }

    /// What only the engine knows.
    pub(super) fn tell(&self, sheet: &mut Sheet) {
        let engine = [("engine", self.name()), ("socket", self.socket.as_str())];
        let is_up = self.has_answered && self.silence.is_none();
        if self.has_answered || matches!(self.silence, Some(Silence::Failed(_))) {
            let labels = sheet.labels.of(&engine);
            sheet.push(&words::ENGINE_UP, labels, f64::from(u8::from(is_up)));
        }
        if !is_up {
            return;
        }
        if self.book.left_out > 0 {
            let labels = sheet.labels.of(&engine);
            sheet.push(&words::LEFT_OUT, labels, self.book.left_out as f64);
        }
        if let Some(about) = &self.engine.about {
            let [engine, socket] = engine;
            let versions =
                [("version", about.version.as_str()), ("api_version", &about.api_version)];
            let labels = sheet.labels.of(&[engine, socket, versions[0], versions[1]]);
            sheet.push(&words::ENGINE, labels, 1.0);
        }
        for (id, facts) in &self.book.containers {
            let container = short(self.name(), id);
            facts.tell(
                &[("container", &container), ("name", &facts.name), ("image", &facts.image)],
                sheet,
            );
        }
    }
}

impl Facts {
    fn tell(&self, own: &[(&'static str, &str); 3], sheet: &mut Sheet) {
        let [container, name, image] = *own;
        let is = |is_it: bool| f64::from(u8::from(is_it));
        for state in STATES {
            let labels = sheet.labels.of(&[container, name, image, ("state", state)]);
            sheet.push(&words::STATE, labels, is(state == self.state));
        }
        for health in HEALTHS.iter().filter(|_| !self.health.is_empty()) {
            let labels = sheet.labels.of(&[container, name, image, ("health", *health)]);
            sheet.push(&words::HEALTH, labels, is(*health == self.health));
        }
        for port in &self.ports {
            let (host, inner) = (port.port.to_string(), port.container_port.to_string());
            let labels = sheet.labels.of(&[
                container,
                name,
                image,
                ("address", &port.address),
                ("port", &host),
                ("container_port", &inner),
                ("protocol", &port.protocol),
            ]);
            sheet.push(&words::PORT, labels, 1.0);
        }
        if let Some(compose) = &self.compose {
            let labels = sheet.labels.of(&[
                container,
                name,
                image,
                ("project", &compose.project),
                ("service", &compose.service),
                ("number", &compose.number),
            ]);
            sheet.push(&words::COMPOSE, labels, 1.0);
        }
        let labels = sheet.labels.of(own);
        let mut push = |desc, value: Option<f64>| {
            if let Some(value) = value {
                sheet.push(desc, labels.clone(), value);
            }
        };
        push(&words::IMAGE_CREATED, self.image_created);
        let Some(details) = &self.details else { return };
        let has_ended = matches!(self.state, "exited" | "dead" | "restarting");
        push(&words::RESTARTS, details.restarts);
        push(&words::OOM_KILLED, Some(is(details.oom_killed)));
        push(&words::EXIT_CODE, details.exit_code.filter(|_| has_ended));
        push(&words::FINISHED, details.finished.filter(|_| has_ended));
    }
}
