use std::collections::BTreeMap;

use stoa_model::inventory::Value;

use super::*;

const DAY_MS: i64 = 86_400_000;

struct House {
    dir: tempfile::TempDir,
    inventories: Inventories,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inventories = opened(dir.path(), |_| true);
        Self { dir, inventories }
    }

    fn restart(self, is_known: impl Fn(&str) -> bool) -> Self {
        let Self { dir, inventories } = self;
        drop(inventories);
        let inventories = opened(dir.path(), is_known);
        Self { dir, inventories }
    }

    /// Tells a document; the steady clock is far from the last one's.
    fn tell(&self, digest: &str, document: &Inventory, now_ms: i64) -> Kept {
        let steady_ms = self.steady_ms();
        self.inventories.keep(&pve1(), &told(digest, document), now_ms, steady_ms).unwrap()
    }

    fn steady_ms(&self) -> i64 {
        let figures = self.inventories.figures();
        i64::try_from(figures.changed + figures.same).unwrap() * EVERY_MS
    }
}

fn opened(dir: &std::path::Path, is_known: impl Fn(&str) -> bool) -> Inventories {
    let (state, damage) = State::open(dir, 0).unwrap();
    assert_eq!(damage, None);
    Inventories::open(Arc::new(state), is_known).unwrap()
}

fn pve1() -> HostId {
    HostId::parse("pve1").unwrap()
}

fn told(digest: &str, document: &Inventory) -> InventoryTold {
    let digest = Digest(digest.to_owned().into());
    InventoryTold { session: 1, digest, document: document.clone() }
}

/// `section/key=text …`
fn document(text: &str) -> Inventory {
    let mut document = Inventory::new();
    for word in text.split(' ') {
        let (place, value) = word.split_once('=').unwrap();
        let (section, key) = place.split_once('/').unwrap();
        document.put(section, key, [("is".to_owned(), Value::from(value))]);
    }
    document
}

#[test]
fn a_change_is_kept_with_its_time_and_outlives_a_restart() {
    let house = House::new();
    assert_eq!(house.inventories.known(&pve1()), Digest::default());
    assert_eq!(house.inventories.document("pve1", None).unwrap(), None);
    assert_eq!(house.inventories.changes("pve1", 0, 9, false).unwrap(), None);
    let first = document("disks/sda=A disks/sdb=B os/=12");
    let second = document("disks/sda=A disks/sdc=C os/=12");
    let third = document("disks/sda=A disks/sdc=C os/=13");
    assert_eq!(house.tell("one", &first, 1000), Kept::Changed);
    assert_eq!(house.tell("one", &first, 1500), Kept::Same);
    assert_eq!(house.tell("one of another agent", &first, 1600), Kept::Same);
    assert_eq!(house.inventories.known(&pve1()).0, "one of another agent");
    assert_eq!(house.tell("two", &second, 2000), Kept::Changed);
    // The clock was set back.
    assert_eq!(house.tell("three", &third, 500), Kept::Changed);
    let house = house.restart(|_| true);
    assert_eq!(house.inventories.known(&pve1()).0, "three");
    let figures = house.inventories.figures();
    assert_eq!((figures.hosts, figures.documents), (1, 3));
    let dated = house.inventories.document("pve1", None).unwrap().unwrap();
    assert_eq!((dated.at_ms, dated.kept, dated.kept_since_ms), (2000, 3, 1000));
    assert_eq!(Inventory::from(dated.document), third);
    let dated = house.inventories.document("pve1", Some(1999)).unwrap().unwrap();
    assert_eq!((dated.at_ms, Inventory::from(dated.document)), (1000, first));
    assert_eq!(house.inventories.document("pve1", Some(999)).unwrap(), None);
    let changes = |from_ms, to_ms, is_net| {
        let changes = house.inventories.changes("pve1", from_ms, to_ms, is_net).unwrap();
        serde_json::to_string(&changes.unwrap()).unwrap()
    };
    insta::assert_snapshot!(changes(0, 9000, false), @r#"{"host":"pve1","from_ms":0,"to_ms":9000,"begins_ms":1000,"steps":[{"at_ms":2000,"changes":[{"section":"disks","item":"sdb","change":"removed","fields":{"is":"B"}},{"section":"disks","item":"sdc","change":"added","fields":{"is":"C"}}]},{"at_ms":2000,"changes":[{"section":"os","item":"","change":"changed","fields":{"is":{"before":"12","after":"13"}}}]}],"left_out":0}"#);
    insta::assert_snapshot!(changes(1000, 9000, true), @r#"{"host":"pve1","from_ms":1000,"to_ms":9000,"steps":[{"at_ms":2000,"changes":[{"section":"disks","item":"sdb","change":"removed","fields":{"is":"B"}},{"section":"disks","item":"sdc","change":"added","fields":{"is":"C"}},{"section":"os","item":"","change":"changed","fields":{"is":{"before":"12","after":"13"}}}]}],"left_out":0}"#);
    insta::assert_snapshot!(changes(2000, 9000, false), @r#"{"host":"pve1","from_ms":2000,"to_ms":9000,"steps":[],"left_out":0}"#);
    insta::assert_snapshot!(changes(1000, 1999, false), @r#"{"host":"pve1","from_ms":1000,"to_ms":1999,"steps":[],"left_out":0}"#);
}

#[test]
fn what_comes_too_soon_is_refused_and_the_books_know_it() {
    let house = House::new();
    let keep = |digest, text, steady_ms| {
        house.inventories.keep(&pve1(), &told(digest, &document(text)), 0, steady_ms)
    };
    assert!(matches!(keep("1", "a/=1", 0), Ok(Kept::Changed)));
    assert!(matches!(keep("2", "a/=2", EVERY_MS - 1), Err(KeepError::TooSoon)));
    assert!(matches!(keep("1", "a/=1", EVERY_MS - 1), Ok(Kept::Same)));
    assert!(matches!(keep("2", "a/=2", EVERY_MS), Ok(Kept::Changed)));
    house.inventories.malformed();
    let InventoryFigures { changed, same, too_soon, malformed, .. } = house.inventories.figures();
    assert_eq!((changed, same, too_soon, malformed), (2, 1, 1, 1));
}

#[test]
fn the_history_is_bounded_by_number_and_age() {
    let house = House::new();
    let count = DOCUMENTS_MAX as i64 + 5;
    for i in 0..count {
        house.tell(&i.to_string(), &document(&format!("a/={i}")), i * 1000);
    }
    let stored = house.inventories.state.all(&DOCUMENTS).unwrap();
    assert_eq!(stored.len(), DOCUMENTS_MAX);
    let later = 91 * DAY_MS;
    house.tell("late", &document("a/=late"), later);
    // The one before was so until now, and so is not old.
    assert_eq!(house.inventories.figures().documents, 2);
    let stored = house.inventories.state.all(&DOCUMENTS).unwrap();
    assert_eq!(stored.len(), 2);
    let house = house.restart(|host| host != "pve1");
    assert_eq!(house.inventories.figures(), InventoryFigures::default());
    assert!(house.inventories.state.all(&DOCUMENTS).unwrap().is_empty());
    assert!(house.dir.path().exists());
}

#[test]
fn what_changes_every_few_minutes_does_not_cost_the_past() {
    const EVERY_FLAP_MS: i64 = 300_000;
    let mut history = History::default();
    let mut tell = |at_ms: i64| {
        let number = history.documents.back().map_or(1, |last: &Entry| last.number + 1);
        let entry = Entry { number, at_ms, digest: String::new(), bytes: 100 };
        history.make_room(&entry, 0).unwrap();
        history.documents.push_back(entry);
        assert!(history.documents.len() <= DOCUMENTS_MAX);
    };
    // A new disk, some weeks of quiet, a new kernel; then a link that flaps for a month.
    let (disk, kernel, flaps) = (DAY_MS, 20 * DAY_MS, 30 * DAY_MS);
    [0, disk, kernel].into_iter().for_each(&mut tell);
    let end = 60 * DAY_MS;
    (0..=(end - flaps) / EVERY_FLAP_MS).for_each(|n| tell(flaps + n * EVERY_FLAP_MS));
    let times: Vec<i64> = history.documents.iter().map(|entry| entry.at_ms).collect();
    assert_eq!(times[..3], [0, disk, kernel]);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    // How far a time that is told may be from when it was, by how long ago it was.
    let mut told = times.windows(2).filter(|pair| pair[0] >= flaps);
    assert!(
        told.all(|pair| (pair[1] - pair[0]) * 6 <= (end - pair[0]).max(6 * EVERY_FLAP_MS)),
        "{times:?}"
    );
    assert!(times.contains(&end) && times.contains(&(end - EVERY_FLAP_MS)));
}

#[test]
fn who_is_no_host_any_more_leaves_nothing_to_the_next_of_its_name() {
    let house = House::new();
    house.tell("1", &document("a/=1"), 10);
    house.tell("2", &document("a/=2"), 20);
    house.inventories.forget("pve1").unwrap();
    house.inventories.forget("pve2").unwrap();
    assert_eq!(house.inventories.known(&pve1()), Digest::default());
    assert_eq!(house.inventories.document("pve1", None).unwrap(), None);
    assert!(house.inventories.state.all(&DOCUMENTS).unwrap().is_empty());
    // At once, by no clock later.
    let next = told("1", &document("a/=1"));
    assert_eq!(house.inventories.keep(&pve1(), &next, 30, 0).unwrap(), Kept::Changed);
    let changes = house.inventories.changes("pve1", 0, 99, false).unwrap().unwrap();
    assert_eq!((changes.begins_ms, changes.steps.len()), (Some(30), 0));
    let house = house.restart(|_| true);
    assert_eq!(house.inventories.figures().documents, 1);
}

#[test]
fn room_is_made_by_bytes_of_a_host_and_of_all() {
    let entry = |number, bytes| Entry { number, at_ms: 0, digest: String::new(), bytes };
    let check = |bytes: u64, others: u64, left: Option<usize>| {
        let mut history = History { documents: (0..10).map(|n| entry(n, 1 << 18)).collect() };
        let made = history.make_room(&entry(10, bytes), others).ok();
        assert_eq!(made.map(|gone| 10 - gone.len()), left, "{bytes} {others}");
        assert!(left.is_none_or(|left| history.documents.len() == left));
    };
    check(1 << 18, 0, Some(10));
    check(HISTORY_BYTES_MAX - (9 << 18), 0, Some(9));
    check(HISTORY_BYTES_MAX, 0, Some(0));
    check(1 << 18, TOTAL_BYTES_MAX - (2 << 18), Some(1));
    check(1 << 18, TOTAL_BYTES_MAX, None);
}

#[test]
fn a_damaged_document_is_passed_over() {
    let house = House::new();
    house.tell("1", &document("a/=1"), 10);
    house.tell("2", &document("a/=2"), 20);
    house.tell("3", &document("a/=3"), 30);
    let notes: Table<BTreeMap<String, String>> = Table::named("inventory");
    let junk = BTreeMap::from([("zstd".to_owned(), "KLUv/SAB".to_owned())]);
    let place = format!("pve1/{:020}", 2);
    house.inventories.state.change(|change| change.put(&notes, &place, &junk)).unwrap();
    let changes = house.inventories.changes("pve1", 10, 40, false).unwrap().unwrap();
    assert_eq!(changes.steps.len(), 1);
    assert_eq!(changes.steps[0].at_ms, 30);
    let dated = house.inventories.document("pve1", Some(25)).unwrap().unwrap();
    assert_eq!(dated.at_ms, 10);
}
