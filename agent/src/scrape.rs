//! Scraping: what other programs tell at an address, as Prometheus would ask them.
//!
//! `settings → found → schedule → book → gather → ticks`, a producer of ticks beside the sampler and
//! not a source: a target has its own interval and tells of itself, not of the host. What is to be asked is
//! looked up again when its files change ([`found`]); each target is asked in its turn ([`schedule`]) and
//! its page becomes samples of known series ([`book`]); scrapes of one second travel in one tick ([`gather`]).
//! Decision 0013 says why it is so. Nothing asks yet.

pub mod settings;

pub mod job;

pub mod yaml;

pub mod target;

pub mod found;

pub mod schedule;

pub mod book;

pub mod gather;
