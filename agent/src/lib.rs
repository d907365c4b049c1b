//! The daemon on every host: reads sources, batches, spools, sends.

pub mod config;

pub mod identity;

mod advice;

mod process;

mod rare_count;

pub mod resident;

pub mod join;

pub mod listing;

pub mod renewal;

mod target;

pub mod web;

pub mod sources;

pub mod sampler;

pub mod selfstats;

pub mod numbers;

pub mod batch;

pub mod spool;

pub mod uplink;

pub mod scrape;

pub mod page;

pub mod agent;

pub mod print;
