//! The log against what disks do: bytes on disk, crashes and faults, damage.

#[cfg(test)]
mod log {
    mod damage;
    mod golden;
    mod model;
    mod writer;
}
