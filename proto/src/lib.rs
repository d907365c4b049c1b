//! What crosses the wire: generated messages, frame codec, and the one place where wire meets model.
//!
//! An agent's [`tick::Tick`]s become payload bytes in [`frame`], travel as [`message`]s whose
//! identity is in [`delivery`] nouns, and are read back by the collector; [`convert`] alone knows
//! the generated types of [`v1`] and the labels a series is stored under. This crate is sans-I/O:
//! it knows no socket, file or clock. docs/formats/wire.md describes the bytes.

pub mod convert;
pub mod delivery;
pub mod frame;
pub mod message;
pub mod tick;

/// The messages and services of `stoa/v1/*.proto`, as generated.
pub mod v1 {
    #![expect(
        missing_docs,
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::doc_markdown,
        reason = "generated; the .proto files carry the documentation"
    )]
    tonic::include_proto!("stoa.v1");
}
