//! What an engine says of its containers, kept from one list to the next.
//!
//! The list tells names, images, labels, states and ports; the rest is told of one container at a time, so
//! that is asked of those that are new, whose state is another, or whose control group went; of the others
//! one after the other, each every [`BELIEVED`]. When images were made is asked once. Bounded: as many
//! containers as are wanted at most, [`PORTS_MAX`] ports of each, texts as [`super::texts`] has them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerSummary, HealthStatusEnum, ImageInspect, PortSummary,
};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};

use super::texts::{cut, is_id, label_name, seconds};
use crate::sources::Now;

/// How long is believed what is told of a single container.
const BELIEVED: Duration = Duration::from_secs(300);
/// The same where the list says nothing of a health check that there is.
const HEALTH_BELIEVED: Duration = Duration::from_secs(30);
/// Ports of a container that are told.
const PORTS_MAX: usize = 64;
/// Containers asked about in one reading for no other reason than that it is long ago.
const ROUTINE_MAX: usize = 4;
/// Containers asked about in one reading, for whatever reason; the rest follow with the next list.
const ASKED_MAX: usize = 200;
/// Images asked about in one reading.
const IMAGES_MAX: usize = 32;

/// The states a container may be in.
pub(super) const STATES: [&str; 8] =
    ["created", "running", "paused", "restarting", "exited", "removing", "dead", "stopping"];
/// What health checks come to.
pub(super) const HEALTHS: [&str; 3] = ["starting", "healthy", "unhealthy"];

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";

/// All that an engine says.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) containers: BTreeMap<Box<str>, Facts>,
    /// By id.
    images: HashMap<Box<str>, Image>,
    /// Containers that are not told, at least.
    pub(super) left_out: usize,
    round: u64,
}

/// What is wanted of an engine.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Labels of containers that are told.
    pub(super) labels: Vec<String>,
    pub(super) containers_max: usize,
    /// Whether the size of what containers wrote is asked this time.
    pub(super) sizes: bool,
}

/// What is known of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) image_id: String,
    /// As labels of series.
    pub(super) labels: Vec<(String, String)>,
    pub(super) compose: Option<Compose>,
    /// One of [`STATES`].
    pub(super) state: &'static str,
    /// One of [`HEALTHS`]; empty without a check.
    pub(super) health: &'static str,
    pub(super) ports: Vec<Port>,
    /// Bytes in its own layer.
    pub(super) written: Option<f64>,
    /// When its image was made.
    pub(super) image_created: Option<f64>,
    /// The digests its image has in registries.
    pub(super) digests: Vec<String>,
    pub(super) details: Option<Details>,
    /// When it was asked about, and whether it is to be again.
    asked: Option<Now>,
    pub(super) is_due: bool,
    round: u64,
}

/// Whose part a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compose {
    pub(super) project: String,
    pub(super) service: String,
    pub(super) number: String,
}

/// A port that is published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) container_port: u16,
    pub(super) protocol: String,
}

/// What is told of a single container only.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Details {
    pub(super) pid: Option<u32>,
    pub(super) started: Option<f64>,
    pub(super) finished: Option<f64>,
    pub(super) exit_code: Option<f64>,
    pub(super) oom_killed: bool,
    pub(super) restarts: Option<f64>,
    /// Whether it has network devices of its own.
    pub(super) has_own_network: bool,
    has_health: bool,
}

#[derive(Clone, Debug, Default)]
struct Image {
    created: Option<f64>,
    digests: Vec<String>,
    round: u64,
}

impl Book {
    /// Asks for the list, and for what it lacks.
    ///
    /// # Errors
    /// When the engine does not answer; what it said before stays.
    pub(super) async fn ask(
        &mut self,
        docker: &Docker,
        wanted: &Wanted,
        now: Now,
    ) -> Result<(), Error> {
        let limit = i32::try_from(wanted.containers_max.saturating_add(1)).unwrap_or(i32::MAX);
        let options = ListContainersOptions {
            all: true,
            limit: Some(limit),
            size: wanted.sizes,
            ..ListContainersOptions::default()
        };
        let list = docker.list_containers(Some(options)).await?;
        self.take(list, wanted);
        let mut due: Vec<(bool, Option<Now>, Box<str>)> = self
            .containers
            .iter()
            .filter(|(_, facts)| facts.is_due || facts.is_old(now))
            .map(|(id, facts)| (!facts.is_due, facts.asked, id.clone()))
            .collect();
        due.sort_unstable();
        due.truncate(ASKED_MAX);
        let mut routine = ROUTINE_MAX;
        for (is_routine, _, id) in due {
            if is_routine {
                let Some(left) = routine.checked_sub(1) else { break };
                routine = left;
            }
            match docker.inspect_container(&id, None::<InspectContainerOptions>).await {
                Ok(told) => {
                    if let Some(facts) = self.containers.get_mut(&id) {
                        facts.detail(told, now);
                    }
                }
                // It went meanwhile.
                Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.ask_images(docker).await
    }

    async fn ask_images(&mut self, docker: &Docker) -> Result<(), Error> {
        let round = self.round;
        let mut asked = 0;
        for facts in self.containers.values_mut() {
            if facts.image_id.is_empty() {
                continue;
            }
            if !self.images.contains_key(facts.image_id.as_str()) && asked < IMAGES_MAX {
                asked += 1;
                let image = match docker.inspect_image(&facts.image_id).await {
                    Ok(told) => Image::of(told),
                    // It was removed while the container goes on.
                    Err(Error::DockerResponseServerError { .. }) => Image::default(),
                    Err(error) => return Err(error),
                };
                self.images.insert(facts.image_id.as_str().into(), image);
            }
            if let Some(image) = self.images.get_mut(facts.image_id.as_str()) {
                image.round = round;
                facts.image_created = image.created;
                facts.digests.clone_from(&image.digests);
            }
        }
        self.images.retain(|_, image| image.round == round);
        Ok(())
    }

    /// Takes in a list.
    pub(super) fn take(&mut self, list: Vec<ContainerSummary>, wanted: &Wanted) {
        self.round += 1;
        self.left_out = list.len().saturating_sub(wanted.containers_max);
        for summary in list.into_iter().take(wanted.containers_max) {
            let Some(id) = summary.id.as_deref().filter(|id| is_id(id)) else { continue };
            let facts = self.containers.entry(id.into()).or_default();
            facts.round = self.round;
            facts.update(summary, wanted);
        }
        let round = self.round;
        self.containers.retain(|_, facts| facts.round == round);
    }
}

impl Image {
    fn of(told: ImageInspect) -> Self {
        let digests = told.repo_digests.unwrap_or_default();
        Self {
            created: told.created.as_deref().and_then(seconds),
            digests: digests.iter().take(PORTS_MAX).map(|digest| cut(digest)).collect(),
            round: 0,
        }
    }
}

impl Facts {
    fn is_old(&self, now: Now) -> bool {
        let has_quiet_health = self.details.as_ref().is_some_and(|details| details.has_health);
        let believed = if has_quiet_health { HEALTH_BELIEVED } else { BELIEVED };
        self.asked.is_none_or(|at| now.is_past(at, believed))
    }

    fn update(&mut self, summary: ContainerSummary, wanted: &Wanted) {
        let names = summary.names.unwrap_or_default();
        // Links give a container further names, below others' names.
        let own = |name: &&String| !name.trim_start_matches('/').contains('/');
        let name = names.iter().find(own).or(names.first());
        self.name = cut(name.map_or("", |name| name.trim_start_matches('/')));
        self.image = cut(&summary.image.unwrap_or_default());
        self.image_id = cut(&summary.image_id.unwrap_or_default());
        let labels = summary.labels.unwrap_or_default();
        let of = |name: &str| labels.get(name).map(|value| cut(value));
        let told = wanted.labels.iter().filter_map(|name| Some((label_name(name), of(name)?)));
        self.labels = told.collect();
        self.compose = of(PROJECT).map(|project| Compose {
            project,
            service: of(SERVICE).unwrap_or_default(),
            number: of(NUMBER).unwrap_or_default(),
        });
        let state = summary.state.map(|state| state.to_string()).unwrap_or_default();
        let state = one_of(&STATES, &state);
        let status = summary.status.unwrap_or_default();
        let health = health_in(&status);
        if state != self.state || state == "restarting" || self.asked.is_none() {
            self.is_due = true;
        }
        self.state = state;
        match health {
            Some(health) => {
                self.health = health;
                // The list says it each time.
                if let Some(details) = &mut self.details {
                    details.has_health = false;
                }
            }
            None if state != "running" => self.health = "",
            None => {}
        }
        let ports = summary.ports.unwrap_or_default();
        self.ports = ports.into_iter().filter_map(Port::of).take(PORTS_MAX).collect();
        self.ports.sort_unstable();
        self.ports.dedup();
        if wanted.sizes {
            self.written = summary.size_rw.map(|bytes| bytes.max(0) as f64);
        }
    }

    fn detail(&mut self, told: ContainerInspectResponse, now: Now) {
        self.asked = Some(now);
        self.is_due = false;
        let state = told.state.unwrap_or_default();
        let health = state.health.and_then(|health| health.status);
        let health = match health {
            Some(HealthStatusEnum::STARTING) => "starting",
            Some(HealthStatusEnum::HEALTHY) => "healthy",
            Some(HealthStatusEnum::UNHEALTHY) => "unhealthy",
            _ => "",
        };
        let has_health = !health.is_empty() && self.health.is_empty();
        self.health = health;
        let mode = told.host_config.and_then(|config| config.network_mode).unwrap_or_default();
        let has_health = has_health || self.details.as_ref().is_some_and(|it| it.has_health);
        self.details = Some(Details {
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
            started: state.started_at.as_deref().and_then(seconds),
            finished: state.finished_at.as_deref().and_then(seconds),
            exit_code: state.exit_code.map(|code| code as f64),
            oom_killed: state.oom_killed.unwrap_or(false),
            restarts: told.restart_count.map(|count| count.max(0) as f64),
            has_own_network: mode != "host" && !mode.starts_with("container:"),
            has_health: has_health && !health.is_empty(),
        });
    }

    /// Whether processes of it are there.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.state, "running" | "paused" | "stopping" | "removing")
    }
}

impl Port {
    fn of(told: PortSummary) -> Option<Self> {
        Some(Self {
            address: cut(&told.ip.unwrap_or_default()),
            port: told.public_port.filter(|port| *port > 0)?,
            container_port: told.private_port,
            protocol: told.typ.map(|typ| typ.to_string()).unwrap_or_default(),
        })
    }
}

/// The known word that `text` is; empty where it is none.
fn one_of(words: &[&'static str], text: &str) -> &'static str {
    words.iter().find(|word| **word == text).copied().unwrap_or_default()
}

/// `Up 3 minutes (healthy)`: what the list says of a health check.
fn health_in(status: &str) -> Option<&'static str> {
    let (_, told) = status.strip_suffix(')')?.rsplit_once('(')?;
    let told = told.strip_prefix("health: ").unwrap_or(told);
    Some(one_of(&HEALTHS, told)).filter(|health| !health.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: &str, expected: Option<&str>) {
        assert_eq!(health_in(status), expected, "{status}");
    }

    #[test]
    fn the_list_says_what_health_checks_come_to() {
        check("Up 3 minutes (healthy)", Some("healthy"));
        check("Up 3 minutes (unhealthy)", Some("unhealthy"));
        check("Up 1 second (health: starting)", Some("starting"));
        check("Up 3 minutes (Paused)", None);
        check("Exited (137) 3 minutes ago", None);
        check("Up 3 minutes", None);
        check(")(", None);
    }

    #[test]
    fn a_link_is_not_a_containers_name() {
        let names = vec!["/web/db".to_owned(), "/db".to_owned()];
        let summary = ContainerSummary { names: Some(names), ..ContainerSummary::default() };
        let mut facts = Facts::default();
        let wanted = Wanted { labels: Vec::new(), containers_max: 1, sizes: false };
        facts.update(summary, &wanted);
        assert_eq!(facts.name, "db");
    }
}
