//! What others write and read: the formats by which samples come to Stoa from elsewhere and leave it.
//!
//! [`exposition`] is text, as exporters serve it and as databases dump it; [`prometheus_block`] is
//! Prometheus's own storage, a directory per span of time; [`remote_write`] is the messages by which
//! one server sends to another, [`remote_read`] those by which it asks; [`otlp`] is what OpenTelemetry sends
//! and takes, [`federation`] what a server hands out for another to scrape, [`relabel`] the rules by which labels are chosen on the way. Each is read and written here,
//! side by side, as far as Stoa does both. This crate is pure: it knows no network, no async and no path;
//! bytes come through [`std::io::Read`] and go through [`std::io::Write`], messages as slices.

pub mod exposition;
pub mod federation;
pub mod otlp;
pub mod prometheus_block;
pub mod relabel;
pub mod remote_read;
pub mod remote_write;
mod wire;
