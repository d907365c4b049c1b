//! Everything a person or Grafana uses: one origin, one router, one table of routes.
//!
//! A connection is accepted ([`serve()`]), its TLS spoken ([`tls`]), its request checked ([`access`]:
//! host, origin, credential) and handed to a route. [`Routes`] is the only way to a handler, and it
//! takes the route's [`Scope`]: a route that does not say who may call it does not compile.
//!
//! Handlers parse, call and print. Nothing here knows how a sample is stored or a token is kept.

pub mod serve;

pub mod tls;

pub mod access;

pub mod routes;

pub mod front;

pub mod health;

mod negotiate;

pub mod metrics;

pub mod handoff;

pub mod pushed;

pub mod remote_write;

mod grpc;
pub mod otlp;

pub mod prometheus;

pub mod import;

pub mod admin;

pub mod inventory;

pub mod storage;

pub use access::{Access, AccessConfig, Principal};
pub use routes::{RouteInfo, Routes, Scope};
pub use serve::serve;
