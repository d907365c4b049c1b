//! `/proc/cpuinfo`: which processors, and how many.

use std::collections::BTreeSet;

use stoa_model::Inventory;

use super::Item;
use crate::sources::container::Bounds;
use crate::sources::{KeptFile, Problem, Roots};

/// What the file says, of all processors together.
#[derive(Debug, Default, PartialEq)]
struct Processor {
    model: String,
    vendor: String,
    threads: u64,
    cores: BTreeSet<(u32, u32)>,
    sockets: BTreeSet<u32>,
}

/// `processor`, one item. A container has threads; sockets and cores are its node's.
pub(super) fn gather(
    roots: &Roots,
    bounds: Option<&Bounds>,
    document: &mut Inventory,
) -> Result<(), Problem> {
    let mut file = KeptFile::proc("cpuinfo");
    let processor = parse(file.read(roots)?);
    let count = |length: usize| (length > 0 && bounds.is_none()).then_some(length as u64);
    let limit = bounds.and_then(|bounds| bounds.processors).map(|limit| limit as u64);
    let there_are = Some(processor.threads).filter(|threads| *threads > 0);
    Item::default()
        .text("model", &processor.model)
        .text("vendor", &processor.vendor)
        .number("sockets", count(processor.sockets.len()))
        .number("cores", count(processor.cores.len()))
        .number("threads", [there_are, limit].into_iter().flatten().min())
        .put(document, "processor", "");
    Ok(())
}

fn parse(text: &str) -> Processor {
    let mut all = Processor::default();
    let (mut socket, mut core) = (None, None);
    for line in text.lines().chain([""]) {
        let Some((name, value)) = line.split_once(':') else {
            if let (Some(socket), Some(core)) = (socket.take(), core.take()) {
                all.sockets.insert(socket);
                all.cores.insert((socket, core));
            }
            continue;
        };
        let value = value.trim();
        match name.trim() {
            "processor" => all.threads += 1,
            "physical id" => socket = value.parse().ok(),
            "core id" => core = value.parse().ok(),
            // ARM boards say `Model` of the board and `Hardware` of the chip.
            "model name" | "Hardware" | "cpu" | "uarch" if all.model.is_empty() => {
                value.clone_into(&mut all.model);
            }
            "vendor_id" | "CPU implementer" if all.vendor.is_empty() => {
                value.clone_into(&mut all.vendor);
            }
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn threads_cores_and_sockets_are_counted() {
        let one = |processor: u32, socket: u32, core: u32| {
            format!(
                "processor\t: {processor}\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\n\
                 physical id\t: {socket}\ncore id\t\t: {core}\n\n"
            )
        };
        let text = one(0, 0, 0) + &one(1, 0, 0) + &one(2, 1, 0) + &one(3, 1, 4);
        let all = parse(&text);
        assert_eq!((all.threads, all.cores.len(), all.sockets.len()), (4, 3, 2));
        assert_eq!((all.model.as_str(), all.vendor.as_str()), ("Xeon", "GenuineIntel"));
        let arm = parse("processor : 0\nCPU implementer : 0x41\n\nHardware : BCM2835\n");
        assert_eq!((arm.threads, arm.cores.len(), arm.model.as_str()), (1, 0, "BCM2835"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([a-z ]*:? ?[0-9]{0,12}\n)*") {
            parse(&text);
        }
    }
}
