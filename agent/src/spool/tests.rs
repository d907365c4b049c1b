//! What the simulation does not reach: long lives, full spools, pinned payloads.

use stoa_model::{Labels, MetricKind};
use stoa_proto::frame::Decoder;
use stoa_proto::tick::{FamilyInfo, Series};
use stoa_wal::disk::SimDisk;

use super::*;

const LEG: Leg = Leg { epoch: Epoch([7; 16]), stream: Stream::Metrics, number: 0 };

fn leg(number: u32) -> Leg {
    Leg { epoch: Epoch::from_random([7; 12]), number, ..LEG }
}

fn tick(t: TimestampMs) -> Arc<Tick> {
    let samples = (0..20).map(|id| {
        let family = FamilyInfo {
            name: "m".into(),
            help: "Help.".into(),
            unit: String::new(),
            kind: MetricKind::Gauge,
        };
        let pairs = [("__name__", "m".to_owned()), ("n", id.to_string())];
        let labels = Labels::from_pairs(pairs).unwrap();
        // Values that do not compress.
        let value = f64::from_bits(
            (t.cast_unsigned() * 31 + u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2,
        );
        (Arc::new(Series { id, family: Arc::new(family), labels }), value)
    });
    Arc::new(Tick { t, samples: samples.collect() })
}

fn open(disk: &SimDisk, options: SpoolOptions) -> (Spool, Opened) {
    let disk = Arc::new(disk.clone());
    let epoch = Epoch::from_random([7; 12]);
    Spool::open(disk, Path::new("/spool"), options, epoch, 0).unwrap()
}

fn append(spool: &mut Spool, leg: Leg, seqs: std::ops::RangeInclusive<u64>) -> Vec<DropRecord> {
    let ticks = seqs.clone().map(|seq| tick(seq.cast_signed() * 1000)).collect();
    match spool.run(SpoolJob::Append { leg, seq_first: *seqs.start(), ticks }, 0) {
        Some(SpoolDone::Appended { through, dropped, .. }) => {
            assert_eq!(through, Some(*seqs.end()));
            dropped
        }
        other => panic!("{other:?}"),
    }
}

/// The same, as a record of its own.
fn append_record(
    spool: &mut Spool,
    leg: Leg,
    seqs: std::ops::RangeInclusive<u64>,
) -> Vec<DropRecord> {
    let dropped = append(spool, leg, seqs);
    assert!(spool.seal());
    dropped
}

/// What is read back: legs and numbers, each payload as many ticks as it says.
fn read(spool: &mut Spool) -> Vec<(u32, u64, u64)> {
    let mut read = Vec::new();
    let next =
        |spool: &mut Spool| spool.run(SpoolJob::Next { lane: Lane::Backlog, except: None }, 0);
    while let Some(SpoolDone::Next { record: Some(record), .. }) = next(spool) {
        let RecordBody::Ticks(payload) = record.body else { panic!("no ticks") };
        let ticks = Decoder::new().unwrap().decode(&payload).unwrap();
        assert_eq!(ticks.len() as u64, record.seq_last - record.seq_first + 1);
        read.push((record.leg.number, record.seq_first, record.seq_last));
    }
    read
}

fn survey(spool: &mut Spool, marks: &[(u32, u64)]) -> (u64, u64) {
    let marks = marks.iter().map(|&(number, seq)| Mark { leg: leg(number), seq }).collect();
    let job = SpoolJob::Survey { marks, live: leg(99), live_from: 1 };
    match spool.run(job, 0) {
        Some(SpoolDone::Surveyed { acknowledged, returned, .. }) => (acknowledged, returned),
        other => panic!("{other:?}"),
    }
}

#[test]
fn legs_come_back_in_order_over_restarts_and_through_thinning_streams() {
    let disk = SimDisk::new(1);
    let (mut spool, _) = open(&disk, SpoolOptions::default());
    let mut expected = Vec::new();
    for number in 0..3 {
        for seq in 0..7 {
            append_record(&mut spool, leg(number), seq * 2 + 1..=seq * 2 + 2);
            expected.push((number, seq * 2 + 1, seq * 2 + 2));
        }
    }
    assert_eq!(read(&mut spool), expected);
    spool.close();
    let (mut spool, opened) = open(&disk, SpoolOptions::default());
    assert_eq!((opened.recovered, opened.dropped), (3 * 14 * 20, Vec::new()));
    assert_eq!(read(&mut spool), expected);
    // The collector has some; then it turns out that it has less.
    assert_eq!(survey(&mut spool, &[(0, 14), (1, 4)]), (18 * 20, 0));
    expected.drain(..9);
    assert_eq!(read(&mut spool), expected);
    assert_eq!(survey(&mut spool, &[(0, 12), (1, 4)]), (0, 2 * 20));
    expected.insert(0, (0, 13, 14));
    assert_eq!(read(&mut spool), expected);
}

#[test]
fn a_full_spool_is_thinned_before_it_loses_its_oldest() {
    let disk = SimDisk::new(1);
    let options = SpoolOptions { bytes_max: 96 << 10, free_bytes_min: 0, ..Default::default() };
    let (mut spool, _) = open(&disk, options);
    let mut dropped = Vec::new();
    for seq in 1..=600 {
        dropped.extend(append_record(&mut spool, leg(0), seq..=seq));
    }
    assert!(dropped.iter().all(|record| record.reason == DropReason::SpoolThinned), "{dropped:?}");
    let lost: u64 = dropped.iter().map(|record| record.samples).sum();
    let waiting = spool.waiting_samples();
    assert!(lost > 0 && lost + waiting == 600 * 20, "{lost} lost, {waiting} wait");
    let read = read(&mut spool);
    assert!(read.is_sorted(), "in order: {read:?}");
    let sparse = |from: u64| (from..from + 60).filter(|n| read.iter().any(|r| r.1 == *n)).count();
    assert_eq!(sparse(1), 10, "one in six of the oldest");
    assert_eq!(sparse(540), 60, "all of the newest");
}

#[test]
fn what_is_kept_goes_after_its_time_in_a_session_that_never_ends() {
    let disk = SimDisk::new(1);
    let options = SpoolOptions { keep_ms: 600_000, bytes_max: 1 << 20, ..Default::default() };
    let (mut spool, _) = open(&disk, options);
    for seq in 1..=6_000_u64 {
        let now = seq.cast_signed() * 1000;
        spool.run(SpoolJob::Keep { leg: leg(0), seq, tick: tick(now) }, now);
    }
    assert!(spool.bytes() < 400_000, "{} bytes", spool.bytes());
    let (_, returned) = survey(&mut spool, &[(0, 5_500)]);
    assert!(returned >= 500 * 20, "{returned} samples come back");
}

#[test]
fn what_is_dropped_for_its_age_is_told_once_and_what_was_kept_still_comes_back() {
    let disk = SimDisk::new(1);
    let options = SpoolOptions { age_max_ms: 60_000, ..Default::default() };
    let (mut spool, _) = open(&disk, options.clone());
    for seq in 1..=4 {
        spool.run(SpoolJob::Keep { leg: leg(0), seq, tick: tick(100_000) }, 0);
    }
    append_record(&mut spool, leg(0), 5..=8);
    let next = SpoolJob::Next { lane: Lane::Backlog, except: None };
    let Some(SpoolDone::Next { record: None, dropped, .. }) = spool.run(next, 80_000) else {
        panic!("the record is too old");
    };
    let told: Vec<_> = dropped.iter().map(|d| (d.seq_first, d.seq_last, d.reason)).collect();
    assert_eq!(told, [(5, 8, DropReason::SpoolAge)]);
    assert_eq!(spool.waiting_samples(), 0);
    // The collector turns out to have nothing: the kept ones come again, the dropped ones do not.
    assert_eq!(survey(&mut spool, &[]), (0, 4 * 20));
    assert_eq!(read(&mut spool), [(0, 1, 4)]);
    spool.close();
    let (spool, opened) = open(&disk, options);
    assert_eq!((opened.recovered, opened.dropped), (4 * 20, Vec::new()));
    assert_eq!(spool.waiting_samples(), 4 * 20);
}

#[test]
fn what_is_kept_of_more_legs_than_the_collector_remembers_is_not_sent_again() {
    let disk = SimDisk::new(1);
    let legs = u32::try_from(stoa_proto::delivery::LEGS_REMEMBERED).unwrap() + 44;
    let (mut spool, _) = open(&disk, SpoolOptions::default());
    let mut acknowledged = Vec::new();
    for number in 0..legs {
        append(&mut spool, leg(number), 1..=1);
        spool.run(SpoolJob::Acknowledge { leg: leg(number), seq: 1 }, 0);
        acknowledged.push((number, 1));
    }
    spool.close();
    let (mut spool, opened) = open(&disk, SpoolOptions::default());
    assert_eq!(opened.recovered, 0);
    // The collector remembers as many as it can, and misses nothing.
    let remembered = acknowledged.split_off(44);
    assert_eq!(survey(&mut spool, &remembered), (0, 0), "sent again for being forgotten");
    // It has lost everything: what was kept of the newest legs is all that comes.
    let kept = u32::try_from(LEGS_KEPT).unwrap();
    assert_eq!(survey(&mut spool, &[]), (0, u64::from(kept) * 20));
    let expected: Vec<_> = (legs - kept..legs).map(|number| (number, 1, 1)).collect();
    assert_eq!(read(&mut spool), expected);
}

#[test]
fn ticks_that_come_one_by_one_are_durable_at_once_and_become_few_records() {
    let disk = SimDisk::new(1);
    let (mut spool, _) = open(&disk, SpoolOptions::default());
    for seq in 1..=24 {
        append(&mut spool, leg(0), seq..=seq);
        assert_eq!(spool.waiting_samples(), seq * 20);
    }
    append(&mut spool, leg(0), 25..=26);
    // Another leg does not continue it.
    append(&mut spool, leg(1), 1..=2);
    append(&mut spool, leg(1), 3..=3);
    drop(spool);
    disk.crash();
    let (mut spool, opened) = open(&disk, SpoolOptions::default());
    assert_eq!(opened.recovered, (26 + 3) * 20);
    let expected = [(0, 1, 10), (0, 11, 20), (0, 21, 26), (1, 1, 3)];
    assert_eq!(read(&mut spool), expected);
    assert_eq!(survey(&mut spool, &[(0, 20)]), (20 * 20, 0));
    spool.close();
    let (mut spool, opened) = open(&disk, SpoolOptions::default());
    assert_eq!(opened.recovered, 9 * 20);
    assert_eq!(read(&mut spool), expected[2..]);
}

#[test]
fn an_end_at_any_write_neither_loses_nor_doubles_a_tick_that_was_durable() {
    for fails_at in 0..60 {
        let disk = SimDisk::new(fails_at);
        let (mut spool, _) = open(&disk, SpoolOptions::default());
        disk.fail_at(fails_at, stoa_wal::disk::Fault::Eio);
        let mut durable = 0;
        for seq in 1..=24_u64 {
            let ticks = vec![tick(i64::try_from(seq).unwrap() * 1000)];
            let job = SpoolJob::Append { leg: leg(0), seq_first: seq, ticks };
            let Some(SpoolDone::Appended { through, .. }) = spool.run(job, 0) else { panic!() };
            if through != Some(seq) {
                break;
            }
            durable = seq;
            assert_eq!(spool.waiting_samples(), seq * 20, "disk operation {fails_at}");
        }
        drop(spool);
        disk.clear_faults();
        disk.crash();
        let (mut spool, opened) = open(&disk, SpoolOptions::default());
        assert_eq!(opened.recovered, durable * 20, "disk operation {fails_at}");
        let mut next = 1;
        for (_, first, last) in read(&mut spool) {
            assert_eq!(first, next, "disk operation {fails_at}");
            next = last + 1;
        }
        assert_eq!(next, durable + 1, "disk operation {fails_at}");
    }
}

/// A tick whose series' labels do not compress: some 700 kB.
fn large_tick(seq: u64) -> Arc<Tick> {
    let info = FamilyInfo {
        name: "m".into(),
        help: String::new(),
        unit: String::new(),
        kind: MetricKind::Gauge,
    };
    let family = Arc::new(info);
    let samples = (0..16_000_u32).map(|place| {
        let id = place + 16_000 * u32::try_from(seq).unwrap();
        let mixed = |n: u64| (u64::from(id) * 4 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let random: String =
            (0..4).map(|n| format!("{:016x}", mixed(n) ^ mixed(n).rotate_right(29))).collect();
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("n", random)]).unwrap();
        let value = f64::from_bits(mixed(7) >> 2);
        (Arc::new(Series { id, family: Arc::clone(&family), labels }), value)
    });
    Arc::new(Tick { t: 1000, samples: samples.collect() })
}

#[test]
fn ticks_too_large_for_one_record_become_two() {
    let disk = SimDisk::new(1);
    let (mut spool, _) = open(&disk, SpoolOptions::default());
    let (one, two) = (large_tick(1), large_tick(2));
    let mut pack = Pack::new(1, 0).unwrap();
    pack.add(&one).unwrap();
    assert!(!pack.is_too_long(), "one alone fits");
    pack.add(&two).unwrap();
    assert!(pack.is_too_long() && pack.samples <= RECORD_SAMPLES_MAX, "both do not");
    for (seq_first, ticks) in [(1, vec![one]), (2, vec![two]), (3, vec![large_tick(3), tick(0)])] {
        let through = seq_first + ticks.len() as u64 - 1;
        let job = SpoolJob::Append { leg: leg(0), seq_first, ticks };
        let Some(SpoolDone::Appended { through: done, .. }) = spool.run(job, 0) else { panic!() };
        assert_eq!(done, Some(through));
    }
    let job =
        SpoolJob::Append { leg: leg(1), seq_first: 1, ticks: vec![large_tick(1), large_tick(2)] };
    let Some(SpoolDone::Appended { through, .. }) = spool.run(job, 0) else { panic!() };
    assert_eq!(through, Some(2));
    assert_eq!(read(&mut spool), [(0, 1, 1), (0, 2, 2), (0, 3, 4), (1, 1, 1), (1, 2, 2)]);
}
