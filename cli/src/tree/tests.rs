//! Trees of a few rows, as they are drawn.

use super::drawn::{Shape, drawn};
use super::figures::rows_of;
use super::*;

const SHAPE: Shape = Shape { processes: false, limit: 8, ids: true };

/// A node with two GPUs, an LXC with Ollama and Docker in it that has an agent of its own, and a VM.
const HOUSE: &str = "\
host cpu 2.5 host=pve1
host memory 21474836480 host=pve1
host io 4096 host=pve1
host io 4096 host=pve1
gpu gpu 0.37 host=pve1 gpu=0 modelName=P40
gpu gpu-memory 9663676416 host=pve1 gpu=0 modelName=P40
gpu gpu-memory 0 host=pve1 gpu=1 modelName=P40
container cpu 2.5 host=pve1 id=/
container memory 6442450944 host=pve1 id=/lxc/101 guest=lxc/101 guest_name=ollama
container cpu 0.5 host=pve1 guest=lxc/101 guest_name=ollama container=docker/0123456789ab
container memory 8589934592 host=pve1 guest=qemu/102 guest_name=win
owner gpu-memory 1073741824 host=pve1 guest=lxc/101 gpu=0 container=docker/0123456789ab
owner gpu-memory 8589934592 host=pve1 guest=lxc/101 unit=ollama.service gpu=0
gpu-process gpu-memory 8589934592 host=pve1 guest=lxc/101 unit=ollama.service gpu=0 pid=4711 name=ollama
unit cpu 0.01 host=pve1 unit=pvedaemon.service
unit cpu 1 host=pve1 unit=102.scope
process cpu 0.01 host=pve1 unit=pvedaemon.service comm=pvedaemon
host cpu 0.9 host=ollama
unit cpu 0.4 host=ollama unit=ollama.service
container memory 1073741824 host=ollama name=webui container=docker/0123456789ab
host cpu 0.1 host=nas";

fn tree(text: &str) -> Tree {
    Tree::of(&rows_of(text))
}

#[test]
fn a_house_is_drawn_with_what_runs_where() {
    insta::assert_snapshot!(drawn(&tree(HOUSE), SHAPE));
}

#[test]
fn processes_are_drawn_when_asked_and_the_rest_is_counted() {
    let units = (0..5).map(|n| format!("\nunit cpu {n} host=nas unit=u{n}.service"));
    let tree = tree(&(HOUSE.to_owned() + &units.collect::<String>()));
    let text = drawn(&tree, Shape { processes: true, limit: 3, ids: false });
    assert!(text.contains("pvedaemon\n") || text.contains("pvedaemon "), "{text}");
    assert!(text.contains("└─ … 2 more units"), "{text}");
    assert!(text.contains("u4.service") && !text.contains("u1.service"), "{text}");
}

#[test]
fn one_host_is_found_also_below_its_node() {
    let of = |name: &str| tree(HOUSE).of_host(name).map(|tree| drawn(&tree, SHAPE));
    assert!(of("nas").is_some_and(|text| text.contains("nas") && !text.contains("pve1")));
    assert!(of("ollama").is_some_and(|text| text.contains("webui") && !text.contains("win")));
    assert_eq!(of("none"), None);
}

#[test]
fn two_guests_of_one_name_are_not_joined() {
    let tree = tree(
        "container cpu 1 host=a guest=lxc/1 guest_name=web
         container cpu 1 host=b guest=lxc/1 guest_name=web
         host cpu 1 host=web",
    );
    let hosts: Vec<String> = tree.hosts.into_keys().collect();
    assert_eq!(hosts, ["a", "b", "web"]);
}

#[test]
fn what_names_hold_does_not_steer_the_terminal() {
    let tree = tree("unit cpu 1 host=a unit=x\u{1b}[31m.service");
    assert!(!drawn(&tree, SHAPE).contains('\u{1b}'));
}
