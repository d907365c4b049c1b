use proptest::prelude::*;

use super::*;

fn fields(pairs: &[(&str, Value)]) -> Vec<(String, Value)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// `section/key name=value …`, a line per item.
fn document(lines: &[&str]) -> Inventory {
    let mut document = Inventory::new();
    for line in lines {
        let mut words = line.split(' ');
        let (section, key) = words.next().unwrap().split_once('/').unwrap();
        let pairs: Vec<(String, Value)> = words
            .map(|word| {
                let (name, value) = word.split_once('=').unwrap();
                let value = value.parse().map_or_else(|_| Value::from(value), Value::Number);
                (name.to_owned(), value)
            })
            .collect();
        document.put(section, key, pairs);
    }
    document
}

#[test]
fn what_differs_is_told_by_section_and_item() {
    let before = document(&[
        "disks/sda model=A size_bytes=100",
        "disks/sdb model=B",
        "os/ name=Debian version=12",
        "units/a.service enabled=1",
    ]);
    let mut after = document(&[
        "disks/sda model=A size_bytes=200 bus=ata",
        "disks/sdc model=C",
        "os/ name=Debian version=13",
    ]);
    after.leave_out("disks", 3);
    let told: Vec<String> = changes(&before, &after)
        .iter()
        .map(|change| format!("{}/{} {:?}", change.section, change.key, change.what))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    disks/ LeftOut { before: 0, after: 3 }
    disks/sda Changed({"bus": (None, Some(Text("ata"))), "size_bytes": (Some(Number(100)), Some(Number(200)))})
    disks/sdb Removed({"model": Text("B")})
    disks/sdc Added({"model": Text("C")})
    os/ Changed({"version": (Some(Number(12)), Some(Number(13)))})
    units/a.service Removed({"enabled": Number(1)})
    "#);
}

#[test]
fn what_does_not_fit_is_cut_or_counted() {
    let mut document = Inventory::new();
    let long = "ä".repeat(TEXT_BYTES_MAX);
    let many: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    let both = [("text", Value::from(long.as_str())), ("many", Value::from(many))];
    document.put("a", &long, fields(&both));
    let (key, item) = document.items("a").next().unwrap();
    assert_eq!(key.len(), TEXT_BYTES_MAX);
    let Value::List(texts) = &item["many"] else { panic!("{item:?}") };
    assert_eq!((texts.len(), texts[LIST_MAX - 1].as_str()), (LIST_MAX, "and 37 more"));
    for i in 0..ITEMS_MAX + 3 {
        document.put("b", &i.to_string(), fields(&[("x", Value::Flag(true))]));
    }
    document.put("b", "0", fields(&[("x", Value::Flag(false))]));
    document.put("b", "nothing", []);
    assert_eq!((document.items("b").count(), document.sections()["b"].left_out), (ITEMS_MAX, 3));
    let large: Vec<String> = (0..LIST_MAX).map(|_| "x".repeat(TEXT_BYTES_MAX)).collect();
    for i in 0..100 {
        document.put("c", &i.to_string(), fields(&[("large", Value::from(large.clone()))]));
    }
    let kept = document.items("c").count() as u64;
    assert!(kept < 9 && document.bytes() <= DOCUMENT_BYTES_MAX + 3 * 84, "{kept}");
    assert_eq!(document.sections()["c"].left_out + kept, 100);
    document.put("Ä", "", fields(&[("x", Value::Flag(true))]));
    assert!(!document.sections().contains_key("Ä"));
    let refused =
        document.try_put("d", "", fields(&[("a b", Value::Flag(true))]).into_iter().collect());
    assert_eq!(refused, Err(InventoryError::Name));
}

#[test]
fn the_tree_is_a_section() {
    let mut document = Inventory::new();
    let root = Node { id: "host", kind: NodeKind::Host, name: "pve1", parent: None };
    let guest = Node { id: "lxc/101", kind: NodeKind::Guest, name: "dns", parent: Some("host") };
    document.put_node(&root);
    document.put_node(&guest);
    document.put(NODES, "x", fields(&[("kind", Value::from("of a newer agent"))]));
    assert_eq!(document.nodes().collect::<Vec<_>>(), [root, guest]);
    for kind in NodeKind::ALL {
        assert_eq!(NodeKind::parse(kind.as_str()), Some(kind));
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Flag),
        any::<u64>().prop_map(Value::Number),
        "[a-c]{0,2}".prop_map(Value::Text),
        proptest::collection::vec("[a-c]", 0..3).prop_map(Value::List),
    ]
}

fn any_document() -> impl Strategy<Value = Inventory> {
    let fields = proptest::collection::btree_map("[xyz]", value(), 1..4);
    let items = proptest::collection::vec(("[a-c]", "[k-m]?", fields), 0..8);
    (items, proptest::collection::vec(("[a-d]", 0_u64..3), 0..3)).prop_map(|(items, left_out)| {
        let mut document = Inventory::new();
        for (section, key, fields) in items {
            document.put(&section, &key, fields);
        }
        for (section, count) in left_out {
            document.leave_out(&section, count);
        }
        document
    })
}

proptest! {
    #[test]
    fn a_document_and_what_differs_make_the_other(a in any_document(), b in any_document()) {
        let told = changes(&a, &b);
        prop_assert_eq!(told.is_empty(), a == b);
        prop_assert_eq!(a.after(&told), b.clone());
        prop_assert_eq!(b.after(&changes(&b, &a)), a.clone());
        prop_assert!(changes(&a, &a).is_empty());
    }

    #[test]
    fn a_section_taken_over_is_the_others(a in any_document(), b in any_document()) {
        let mut mixed = a.clone();
        mixed.take_over(&b, "a");
        prop_assert_eq!(mixed.sections().get("a"), b.sections().get("a"));
        prop_assert_eq!(mixed.sections().get("b"), a.sections().get("b"));
        mixed.take_over(&a, "a");
        prop_assert_eq!(mixed, a);
    }
}
