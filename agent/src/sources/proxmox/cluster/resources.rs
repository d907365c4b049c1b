//! What a cluster consists of and how it is now, in prometheus-pve-exporter's names.
//!
//! States of high availability and locks are told of what has one: of all guests they would be twenty
//! series each.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::sources::Desc;
use crate::sources::loose::{List, Number, Part, Text};
use crate::sources::proxmox::{Api, Fault, GUESTS_MAX, Told, api};

use super::questions::is_guest;

/// Nodes, guests, storages of nodes and what else is listed, at most.
const RESOURCES_MAX: usize = 16_384;
/// Nodes told at most; Corosync has room for fewer.
const NODES_MAX: usize = 64;
/// Storages of all nodes told at most.
const STORAGES_MAX: usize = 1024;

const UP: Desc = Desc::gauge("pve_up", "Node/VM/CT-Status is online/running");
const NODE_INFO: Desc = Desc::gauge("pve_node_info", "Node info");
const CLUSTER_INFO: Desc = Desc::gauge("pve_cluster_info", "Cluster info");
const VERSION_INFO: Desc = Desc::gauge("pve_version_info", "Proxmox VE version info");
const GUEST_INFO: Desc = Desc::gauge("pve_guest_info", "VM/CT info");
const STORAGE_INFO: Desc = Desc::gauge("pve_storage_info", "Storage info");
const SHARED: Desc =
    Desc::gauge("pve_storage_shared", "Whether or not the storage is shared among cluster nodes");
const HA_STATE: Desc = Desc::gauge("pve_ha_state", "HA service status (for HA managed VMs).");
const LOCK_STATE: Desc =
    Desc::gauge("pve_lock_state", "The guest's current config lock (for types 'qemu' and 'lxc')");
const LEFT_OUT: Desc =
    Desc::gauge("stoa_proxmox_left_out", "Resources that are not told because there are too many.");
const DISK_SIZE: Desc = Desc::gauge(
    "pve_disk_size_bytes",
    "Storage size in bytes (for type 'storage'), root image size for VMs (for types 'qemu' and 'lxc').",
);
const DISK_USAGE: Desc = Desc::gauge(
    "pve_disk_usage_bytes",
    "Used disk space in bytes (for type 'storage'), used root image space for VMs (for types 'qemu' and \
     'lxc').",
);
const MEMORY_SIZE: Desc = Desc::gauge(
    "pve_memory_size_bytes",
    "Number of available memory in bytes (for types 'node', 'qemu' and 'lxc').",
);
const MEMORY_USAGE: Desc = Desc::gauge(
    "pve_memory_usage_bytes",
    "Used memory in bytes (for types 'node', 'qemu' and 'lxc').",
);
const CPU_RATIO: Desc =
    Desc::gauge("pve_cpu_usage_ratio", "CPU utilization (for types 'node', 'qemu' and 'lxc').");
const CPU_LIMIT: Desc = Desc::gauge(
    "pve_cpu_usage_limit",
    "Number of available CPUs (for types 'node', 'qemu' and 'lxc').",
);
const UPTIME: Desc = Desc::gauge(
    "pve_uptime_seconds",
    "Uptime of node or virtual guest in seconds (for types 'node', 'qemu' and 'lxc').",
);
/// Each under its name of today and the deprecated one, which dashboard 10347 asks for.
const SENT: [Desc; 2] = [
    Desc::gauge("pve_network_transmit_bytes", "DEPRECATED: Use pve_network_transmit_bytes_total."),
    Desc::counter(
        "pve_network_transmit_bytes_total",
        "The amount of traffic in bytes that was sent from the guest over the network since it was \
         started.",
    ),
];
const RECEIVED: [Desc; 2] = [
    Desc::gauge("pve_network_receive_bytes", "DEPRECATED: Use pve_network_receive_bytes_total."),
    Desc::counter(
        "pve_network_receive_bytes_total",
        "The amount of traffic in bytes that was sent to the guest over the network since it was started.",
    ),
];
const WRITTEN: [Desc; 2] = [
    Desc::gauge("pve_disk_write_bytes", "DEPRECATED: Use pve_disk_written_bytes_total."),
    Desc::counter(
        "pve_disk_written_bytes_total",
        "The amount of bytes the guest wrote to its block devices since the guest was started. This info \
         is not available for all storage types.",
    ),
];
const READ: [Desc; 2] = [
    Desc::gauge("pve_disk_read_bytes", "DEPRECATED: Use pve_disk_read_bytes_total."),
    Desc::counter(
        "pve_disk_read_bytes_total",
        "The amount of bytes the guest read from its block devices since the guest was started. This info \
         is not available for all storage types.",
    ),
];

const NODE_HA_STATES: &[&str] = &["online", "maintenance", "unknown", "fence", "gone"];
const GUEST_HA_STATES: &[&str] = &[
    "stopped",
    "request_stop",
    "request_start",
    "request_start_balance",
    "started",
    "fence",
    "recovery",
    "migrate",
    "relocate",
    "freeze",
    "error",
];
const LOCKS: &[&str] = &[
    "backup",
    "clone",
    "create",
    "migrate",
    "rollback",
    "snapshot",
    "snapshot-delete",
    "suspended",
    "suspending",
];

/// The cluster at one moment.
#[derive(Debug)]
pub(super) struct Overview {
    version: Version,
    status: Vec<Member>,
    resources: Vec<Resource>,
    left_out: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    release: Text,
    repoid: Text,
    version: Text,
}

/// The cluster, or one of its nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Member {
    #[serde(rename = "type")]
    kind: Text,
    id: Text,
    pub(super) name: Text,
    nodeid: Text,
    level: Text,
    online: Number,
    nodes: Text,
    quorate: Number,
    version: Text,
}

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Node,
    Qemu,
    Lxc,
    Storage,
    Other,
}

/// Something that a cluster has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resource {
    #[serde(rename = "type")]
    kind: Text,
    pub(super) id: Text,
    pub(super) node: Text,
    pub(super) name: Text,
    status: Text,
    template: Number,
    tags: Text,
    hastate: Text,
    lock: Text,
    pub(super) storage: Text,
    plugintype: Text,
    content: Text,
    shared: Number,
    cpu: Number,
    maxcpu: Number,
    mem: Number,
    maxmem: Number,
    disk: Number,
    maxdisk: Number,
    netin: Number,
    netout: Number,
    diskread: Number,
    diskwrite: Number,
    uptime: Number,
}

impl Resource {
    pub(super) fn kind(&self) -> Kind {
        match self.kind.as_str() {
            "node" => Kind::Node,
            "qemu" => Kind::Qemu,
            "lxc" => Kind::Lxc,
            "storage" => Kind::Storage,
            _ => Kind::Other,
        }
    }

    pub(super) fn is_template(&self) -> bool {
        self.template.is_true()
    }
}

impl Overview {
    pub(super) fn read(
        api: &Api,
        version: &[u8],
        status: &[u8],
        resources: &[u8],
    ) -> Result<Self, Fault> {
        let Part(version) = api.read(version, api::data::<Part<Version>>)?;
        let status = api.read(status, api::data::<List<Part<Member>>>)?;
        let resources = api.read(resources, api::data::<List<Part<Resource>, RESOURCES_MAX>>)?;
        let mut overview = Self {
            version,
            status: status.0.into_iter().map(|Part(member)| member).collect(),
            resources: Vec::new(),
            left_out: 0,
        };
        let (mut nodes, mut guests, mut storages) = (0, 0, 0);
        for Part(resource) in resources.0 {
            let (count, max) = match resource.kind() {
                Kind::Node => (&mut nodes, NODES_MAX),
                kind @ (Kind::Qemu | Kind::Lxc) if is_guest(kind, resource.id.as_str()) => {
                    (&mut guests, GUESTS_MAX)
                }
                Kind::Storage => (&mut storages, STORAGES_MAX),
                _ => continue,
            };
            *count += 1;
            if *count <= max {
                overview.resources.push(resource);
            } else {
                overview.left_out += 1;
            }
        }
        Ok(overview)
    }

    /// The cluster itself; a node that stands alone is in none.
    pub(super) fn cluster(&self) -> Option<&Member> {
        self.status.iter().find(|member| member.kind.as_str() == "cluster")
    }

    fn nodes(&self) -> impl Iterator<Item = &Member> {
        self.status.iter().filter(|member| member.kind.as_str() == "node").take(NODES_MAX)
    }

    /// What the whole is called: `cluster/NAME`, or the node that stands alone.
    pub(super) fn id(&self) -> String {
        match (self.cluster(), self.nodes().next()) {
            (Some(cluster), _) => format!("cluster/{}", cluster.name.as_str()),
            (None, Some(node)) => format!("node/{}", node.name.as_str()),
            (None, None) => String::new(),
        }
    }

    /// Nodes that can be asked.
    pub(super) fn online_nodes(&self) -> impl Iterator<Item = &str> {
        let online = self.nodes().filter(|node| node.online.is_true());
        online.map(|node| node.name.as_str()).filter(|name| is_name(name))
    }

    pub(super) fn is_online(&self, node: &str) -> bool {
        self.online_nodes().any(|online| online == node)
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(move |resource| resource.kind() == kind)
    }

    /// Guests, templates too.
    pub(super) fn guests(&self) -> impl Iterator<Item = &Resource> {
        self.of(Kind::Qemu).chain(self.of(Kind::Lxc))
    }

    pub(super) fn storages(&self) -> impl Iterator<Item = &Resource> {
        self.of(Kind::Storage)
    }

    /// Storages that hold backups and can be asked: by which node, the storage, and whether it is the
    /// whole cluster's (of these any node will do).
    pub(super) fn backup_storages(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.all_backup_storages().filter(|(node, ..)| self.is_online(node))
    }

    /// The same, with those of nodes that are off.
    pub(super) fn all_backup_storages(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        let mut shared: BTreeMap<&str, &str> = BTreeMap::new();
        let mut local: BTreeSet<(&str, &str)> = BTreeSet::new();
        for it in self.storages() {
            let (node, storage) = (it.node.as_str(), it.storage.as_str());
            let holds = it.content.as_str().split(',').any(|content| content == "backup");
            if !holds || !is_name(storage) {
                continue;
            }
            if it.shared.is_true() {
                let by = shared.entry(storage).or_insert(node);
                if !self.is_online(by) {
                    *by = node;
                }
            } else {
                local.insert((node, storage));
            }
        }
        let local = local.into_iter().map(|(node, storage)| (node, storage, false));
        shared.into_iter().map(|(storage, node)| (node, storage, true)).chain(local)
    }

    pub(super) fn tell(&self, told: &mut Told<'_>) {
        let Version { release, repoid, version } = &self.version;
        let pairs = [
            ("release", release.as_str()),
            ("repoid", repoid.as_str()),
            ("version", version.as_str()),
        ];
        told.push(&VERSION_INFO, &pairs, 1.0);
        told.push(&LEFT_OUT, &[], self.left_out as f64);
        if let Some(cluster) = self.cluster() {
            let id = self.id();
            told.push_some(&UP, &[("id", &id)], truth(cluster.quorate));
            let quorate = if cluster.quorate.is_true() { "1" } else { "0" };
            let pairs = [
                ("id", id.as_str()),
                ("nodes", cluster.nodes.as_str()),
                ("quorate", quorate),
                ("version", cluster.version.as_str()),
            ];
            told.push(&CLUSTER_INFO, &pairs, 1.0);
        }
        for node in self.nodes() {
            let id = node.id.as_str();
            told.push_some(&UP, &[("id", id)], truth(node.online));
            let pairs = [
                ("id", id),
                ("level", node.level.as_str()),
                ("name", node.name.as_str()),
                ("nodeid", node.nodeid.as_str()),
            ];
            told.push(&NODE_INFO, &pairs, 1.0);
        }
        self.resources.iter().for_each(|resource| resource.tell(told));
    }
}

impl Resource {
    fn tell(&self, told: &mut Told<'_>) {
        let id = [("id", self.id.as_str())];
        let is = |status: &str| f64::from(u8::from(self.status.as_str() == status));
        match self.kind() {
            Kind::Node => {
                self.tell_ha(&id, NODE_HA_STATES, told);
            }
            Kind::Qemu | Kind::Lxc => {
                told.push(&UP, &id, is("running"));
                let pairs = [
                    ("id", self.id.as_str()),
                    ("node", self.node.as_str()),
                    ("name", self.name.as_str()),
                    ("type", self.kind.as_str()),
                    ("template", if self.is_template() { "1" } else { "0" }),
                    ("tags", self.tags.as_str()),
                ];
                told.push(&GUEST_INFO, &pairs, 1.0);
                self.tell_ha(&id, GUEST_HA_STATES, told);
                if !self.lock.as_str().is_empty() {
                    told.push_state(&LOCK_STATE, &id, ("state", LOCKS), self.lock.as_str());
                }
                for (descs, value) in [
                    (&SENT, self.netout),
                    (&RECEIVED, self.netin),
                    (&WRITTEN, self.diskwrite),
                    (&READ, self.diskread),
                ] {
                    descs.iter().for_each(|desc| told.push_some(desc, &id, value.0));
                }
            }
            Kind::Storage => {
                told.push(&UP, &id, is("available"));
                let mut content: Vec<&str> = self.content.as_str().split(',').collect();
                content.sort_unstable();
                let content = content.join(",");
                let pairs = [
                    ("id", self.id.as_str()),
                    ("node", self.node.as_str()),
                    ("storage", self.storage.as_str()),
                    ("plugintype", self.plugintype.as_str()),
                    ("content", &content),
                ];
                told.push(&STORAGE_INFO, &pairs, 1.0);
                told.push_some(&SHARED, &id, truth(self.shared));
            }
            Kind::Other => return,
        }
        for (desc, value) in [
            (&DISK_SIZE, self.maxdisk),
            (&DISK_USAGE, self.disk),
            (&MEMORY_SIZE, self.maxmem),
            (&MEMORY_USAGE, self.mem),
            (&CPU_RATIO, self.cpu),
            (&CPU_LIMIT, self.maxcpu),
            (&UPTIME, self.uptime),
        ] {
            told.push_some(desc, &id, value.0);
        }
    }

    fn tell_ha(
        &self,
        id: &[(&'static str, &str)],
        states: &'static [&'static str],
        told: &mut Told<'_>,
    ) {
        if !self.hastate.as_str().is_empty() {
            told.push_state(&HA_STATE, id, ("state", states), self.hastate.as_str());
        }
    }
}

fn truth(number: Number) -> Option<f64> {
    number.0.map(|value| f64::from(u8::from(value != 0.0)))
}

/// Whether a node's or a storage's name can stand in a path.
fn is_name(name: &str) -> bool {
    let is_sign = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name != "." && name != ".." && name.bytes().all(is_sign)
}
