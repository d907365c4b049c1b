//! The functions themselves, one module per kind. [`crate::eval`] decides which cells and windows
//! they see.

pub(crate) mod date;
pub(crate) mod math;
pub(crate) mod natural;
pub(crate) mod xxhash;

pub(crate) mod extended;
pub(crate) mod extrapolate;
pub(crate) mod instant;
pub(crate) mod over_time;
pub(crate) mod range;
pub(crate) mod regression;
pub(crate) mod start;

pub(crate) mod classic;
pub(crate) mod info;
pub(crate) mod label;
pub(crate) mod quantile;
