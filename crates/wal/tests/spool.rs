//! The spool against full disks, crashes, faults and rot: everything pushed is delivered, waiting, or
//! told as dropped.

#[cfg(test)]
mod spool {
    mod bounds;
    mod damage;
    mod model;
    mod order;
}
