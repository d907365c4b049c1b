//! A host's document as it travels, and back within the model's bounds.

use stoa_model::Inventory;
use stoa_model::inventory::{DOCUMENT_BYTES_MAX, Fields, InventoryError, Value};

use super::messages::{ConvertError, without};
use crate::message::{DIGEST_BYTES_MAX, Digest, InventoryTold};
use crate::v1;
use crate::v1::inventory_field::Value as Wire;

/// The largest message that holds a document within its bounds, in bytes.
pub const INVENTORY_BYTES_MAX: usize = DOCUMENT_BYTES_MAX + (4 << 10);

impl From<&Inventory> for v1::InventoryDocument {
    fn from(document: &Inventory) -> Self {
        let sections = document.sections().iter().map(|(name, section)| v1::InventorySection {
            name: name.clone(),
            items: section.items.iter().map(|(key, fields)| item(key, fields)).collect(),
            left_out: section.left_out,
        });
        Self { sections: sections.collect() }
    }
}

fn item(key: &str, fields: &Fields) -> v1::InventoryItem {
    let fields = fields.iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => Wire::Text(text.clone()),
            Value::Number(number) => Wire::Number(*number),
            Value::Flag(flag) => Wire::Flag(*flag),
            Value::List(texts) => Wire::List(v1::InventoryTexts { texts: texts.clone() }),
        };
        v1::InventoryField { name: name.clone(), value: Some(value) }
    });
    v1::InventoryItem { key: key.to_owned(), fields: fields.collect() }
}

impl TryFrom<v1::InventoryDocument> for Inventory {
    type Error = ConvertError;

    fn try_from(document: v1::InventoryDocument) -> Result<Self, ConvertError> {
        let mut made = Self::new();
        for section in document.sections {
            for item in section.items {
                let fields = item.fields.into_iter().filter_map(|field| {
                    let value = match field.value? {
                        Wire::Text(text) => Value::Text(text),
                        Wire::Number(number) => Value::Number(number),
                        Wire::Flag(flag) => Value::Flag(flag),
                        Wire::List(list) => Value::List(list.texts),
                    };
                    Some((field.name, value))
                });
                made.try_put(&section.name, &item.key, fields.collect()).map_err(refused)?;
            }
            made.leave_out(&section.name, section.left_out);
        }
        Ok(made)
    }
}

impl From<InventoryTold> for v1::InventoryTold {
    fn from(told: InventoryTold) -> Self {
        Self {
            session: told.session,
            digest: told.digest.0,
            document: Some((&told.document).into()),
        }
    }
}

impl TryFrom<v1::InventoryTold> for InventoryTold {
    type Error = ConvertError;

    fn try_from(told: v1::InventoryTold) -> Result<Self, ConvertError> {
        if told.digest.is_empty() || told.digest.len() > DIGEST_BYTES_MAX {
            return Err(without("digest"));
        }
        Ok(Self {
            session: told.session,
            digest: Digest(told.digest),
            document: told.document.ok_or(without("document"))?.try_into()?,
        })
    }
}

/// Reads any bytes as what an agent tells, as the collector does: for fuzz targets and tests.
///
/// # Panics
/// When what was read is over a bound, or is another when it is told and read again.
#[cfg(any(test, feature = "fuzzing"))]
#[must_use]
pub fn read_inventory(bytes: &[u8]) -> Option<Inventory> {
    use prost::Message as _;

    let told = InventoryTold::try_from(v1::InventoryTold::decode(bytes).ok()?).ok()?;
    let wire = v1::InventoryTold::from(told.clone()).encode_to_vec();
    assert!(wire.len() <= INVENTORY_BYTES_MAX, "{} bytes", wire.len());
    assert!(wire.len() <= told.document.bytes() + DIGEST_BYTES_MAX + 32, "{told:?}");
    let again = v1::InventoryTold::decode(wire.as_slice()).map(InventoryTold::try_from);
    assert_eq!(again, Ok(Ok(told.clone())));
    Some(told.document)
}

fn refused(error: InventoryError) -> ConvertError {
    without(match error {
        InventoryError::Name => "name of a section or field",
        InventoryError::Text => "text (too long, or a list of too many)",
        InventoryError::Sections => "number of sections",
        InventoryError::Items => "number of items",
        InventoryError::Fields => "number of fields",
        InventoryError::Twice => "key (it is there twice)",
        InventoryError::Bytes => "size",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Flag),
            any::<u64>().prop_map(Value::Number),
            ".{0,20}".prop_map(Value::Text),
            proptest::collection::vec(".{0,8}", 0..4).prop_map(Value::List),
        ]
    }

    fn document() -> impl Strategy<Value = Inventory> {
        let fields = proptest::collection::btree_map("[a-z_]{1,8}", value(), 1..5);
        let items = proptest::collection::vec(("[a-d]", ".{0,5}", fields), 0..20);
        (items, 0_u64..3).prop_map(|(items, left_out)| {
            let mut document = Inventory::new();
            for (section, key, fields) in items {
                document.put(&section, &key, fields);
            }
            document.leave_out("a", left_out);
            document
        })
    }

    proptest! {
        #[test]
        fn a_document_is_the_same_there_and_back(document in document()) {
            let wire = v1::InventoryDocument::from(&document);
            let bytes = wire.encode_to_vec();
            prop_assert!(bytes.len() <= document.bytes(), "{} > {}", bytes.len(), document.bytes());
            let read = v1::InventoryDocument::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(Inventory::try_from(read), Ok(document));
        }

        /// Whatever comes, what is taken is within the bounds and can be told again.
        #[test]
        fn bytes_of_anybody_give_a_document_within_bounds_or_none(
            document in document(),
            at in any::<prop::sample::Index>(),
            junk in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let digest = Digest(bytes::Bytes::from_static(b"digest"));
            let told = InventoryTold { session: 1, digest, document };
            let mut bytes = v1::InventoryTold::from(told).encode_to_vec();
            let at = at.index(bytes.len() + 1);
            let end = (at + junk.len()).min(bytes.len());
            bytes.splice(at..end, junk);
            let _read = read_inventory(&bytes);
        }
    }

    #[test]
    fn a_full_document_is_the_same_there_and_back_in_whatever_order_its_sections_came() {
        let mut document = Inventory::new();
        // What large items leave is filled with small ones.
        for (section, bytes) in [("z", 512), ("y", 1)] {
            let fields = || [("text".to_owned(), Value::from("x".repeat(bytes)))];
            (0..512).for_each(|i| document.put(section, &i.to_string(), fields()));
        }
        ["a", "b", "c"].into_iter().for_each(|section| document.leave_out(section, 7));
        let wire = v1::InventoryDocument::from(&document);
        assert_eq!(Inventory::try_from(wire), Ok(document));
    }

    #[test]
    fn what_is_over_a_bound_is_refused_and_what_is_new_passed_over() {
        let field = |name: &str, value| v1::InventoryField { name: name.to_owned(), value };
        let told = |items: Vec<v1::InventoryItem>, digest: &'static [u8]| {
            let section = v1::InventorySection { name: "a".to_owned(), items, left_out: 0 };
            let document = Some(v1::InventoryDocument { sections: vec![section] });
            let digest = bytes::Bytes::from_static(digest);
            InventoryTold::try_from(v1::InventoryTold { session: 1, digest, document })
                .map(|told| told.document)
                .map_err(|error| error.field)
        };
        let item = |key: &str, fields| v1::InventoryItem { key: key.to_owned(), fields };
        let flag = || Some(Wire::Flag(true));
        let long = Some(Wire::Text("x".repeat(513)));
        assert_eq!(told(vec![], b""), Err("digest"));
        assert_eq!(told(vec![], &[0; 33]), Err("digest"));
        assert_eq!(told(vec![], b"d"), Ok(Inventory::new()));
        let fields = vec![field("new", None), field("old", flag())];
        let read = told(vec![item("k", fields)], b"d").unwrap();
        assert_eq!(read.items("a").next().unwrap().1.len(), 1);
        let twice = vec![item("k", vec![]), item("k", vec![])];
        assert_eq!(told(twice, b"d"), Err("key (it is there twice)"));
        let texts = vec![item("k", vec![field("f", long)])];
        assert_eq!(told(texts, b"d"), Err("text (too long, or a list of too many)"));
        let names = vec![item("k", vec![field("A b", flag())])];
        assert_eq!(told(names, b"d"), Err("name of a section or field"));
        let many = (0..513).map(|i| item(&i.to_string(), vec![])).collect();
        assert_eq!(told(many, b"d"), Err("number of items"));
    }
}
