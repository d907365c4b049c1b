//! The whole of Stoa: both ends, real sockets, real files. One program, because each links all of it.
//! A part is run by its name: `cargo test -p stoa-tests link::`.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod inventory;
#[cfg(test)]
mod join;
#[cfg(test)]
mod link;
#[cfg(test)]
mod path;
#[cfg(test)]
mod tidy;
