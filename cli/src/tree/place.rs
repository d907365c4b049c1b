//! Where in the tree a series belongs, by its labels.
//!
//! The labels are those the agent gives: `host`; `guest` (`lxc/101`), `container` (`docker/0123456789ab`) and
//! `unit` for whose it is, `guest_name` and `name` for what they are called.

use std::collections::BTreeMap;

use super::Kind;
use super::figures::Subject;

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) name: String,
}

/// The path to what a series is about; `None` of one that is about nothing in the tree.
pub(super) fn of(subject: Subject, labels: &BTreeMap<String, String>) -> Option<Vec<Step>> {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    let host = label("host");
    if host.is_empty() {
        return None;
    }
    let mut path = vec![step(Kind::Host, host, host)];
    match subject {
        Subject::Host => {}
        Subject::Gpu => {
            let gpu = [label("gpu"), label("card")].into_iter().find(|it| !it.is_empty())?;
            path.push(step(Kind::Gpu, &format!("gpu/{gpu}"), label("modelName")));
        }
        Subject::Owner => owner(&label, "container_name", &mut path),
        Subject::Container => {
            owner(&label, "name", &mut path);
            // The root, and groups that are neither a guest's nor a container's.
            if path.len() == 1 {
                return None;
            }
        }
        Subject::Unit => path.push(unit(label("unit"))?),
        Subject::Process => {
            let comm = label("comm");
            path.extend(unit(label("unit")));
            path.push(step(Kind::Process, &format!("process/{comm}"), comm));
        }
        Subject::GpuProcess => {
            owner(&label, "container_name", &mut path);
            path.push(step(Kind::Process, &format!("pid/{}", label("pid")), label("name")));
        }
    }
    Some(path)
}

fn step(kind: Kind, id: &str, name: &str) -> Step {
    Step { kind, id: id.to_owned(), name: name.to_owned() }
}

/// Whose it is; `named` is the label that says what a container is called.
fn owner<'l>(label: &impl Fn(&str) -> &'l str, named: &str, path: &mut Vec<Step>) {
    let (guest, container) = (label("guest"), label("container"));
    if !guest.is_empty() {
        path.push(step(Kind::Guest, guest, label("guest_name")));
    }
    if !container.is_empty() {
        path.push(step(Kind::Container, container, label(named)));
    }
    path.extend(unit(label("unit")));
}

/// A unit that is no container's or machine's: those are told as what they are.
fn unit(name: &str) -> Option<Step> {
    let is_id = |part: &str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_container = name.split(['/', '-', '.']).any(is_id)
        || ["lxc/", "lxc.payload", "lxc.monitor", "lxc.pivot", "machine-qemu"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
    let is_machine = name.strip_suffix(".scope").is_some_and(|it| it.parse::<u32>().is_ok());
    let is_own = !name.is_empty() && !is_container && !is_machine;
    is_own.then(|| step(Kind::Unit, &format!("unit/{name}"), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_containers_and_machines_are_none() {
        let id = "0123456789abcdef".repeat(4);
        for own in ["cron.service", "lxc.service", "docker.service", "session-2.scope"] {
            assert!(unit(own).is_some(), "{own}");
        }
        for other in [
            &format!("docker-{id}.scope"),
            &format!("docker/{id}"),
            &format!("libpod-{id}.scope"),
            "lxc.payload.web",
            "lxc.pivot",
            "lxc/101/ns/cron.service",
            "102.scope",
            "",
        ] {
            assert!(unit(other).is_none(), "{other}");
        }
    }
}
