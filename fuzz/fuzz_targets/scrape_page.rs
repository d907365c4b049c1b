//! Any bytes as pages of a target, one after the other. Property: whatever they say, each series stands once in
//! what is sent, there are no more of them than there is room for, and all room is given back in the end.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stoa_agent::scrape::book::{Book, PageFormat, Room, Rules};
use stoa_agent::scrape::job::Limits;
use stoa_exchange::exposition::Format;
use stoa_model::Labels;

const SERIES_MAX: usize = 20;

fuzz_target!(|pages: Vec<(u8, Vec<u8>)>| {
    let (mut book, room) = (Book::default(), Room::new(Arc::default(), SERIES_MAX));
    let rules = Rules {
        target: Labels::from_pairs_last_wins([("job", "j"), ("instance", "h:1")]),
        honor_labels: false,
        metric_relabel: Vec::new(),
        limits: Limits::default(),
    };
    for (format, page) in pages {
        let format = match format % 3 {
            0 => PageFormat::Text(Format::Text),
            1 => PageFormat::Text(Format::OpenMetrics),
            _ => PageFormat::Protobuf,
        };
        match book.take(&page, format, &rules, &room) {
            Ok(taken) => assert!(taken.samples.is_sorted_by(|a, b| a.0.id < b.0.id)),
            Err(_) => book.fail(&mut Vec::new(), &room),
        }
        assert!(room.alive() <= SERIES_MAX);
    }
    book.end(&mut Vec::new(), &room);
    assert_eq!(room.alive(), 0);
});
