//! Generates the messages and services from `stoa/v1/*.proto`, without protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "stoa/v1/enroll.proto",
        "stoa/v1/control.proto",
        "stoa/v1/ingest.proto",
        "stoa/v1/inventory.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
