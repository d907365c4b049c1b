//! Guests of a Proxmox node: containers and virtual machines, as the node itself knows them.

pub(crate) mod config;
pub(crate) mod machine;
