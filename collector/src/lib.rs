//! The server: ingests, stores, queries, serves Grafana.

pub mod clock;

pub mod config;

pub mod state;

pub mod ca;

pub mod tokens;

pub mod hosts;

pub mod members;

pub mod inventory;

pub mod methods;

pub mod enroll;

pub mod agents_port;

pub mod store;

pub mod ingest;

pub mod import;

pub mod remote;

pub mod push;

pub mod http;

pub mod dashboard;

pub mod presence;

pub mod selfstats;

pub mod watch;

pub mod server;
