//! What is parsed from a text alone.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base_meta::field::Path;
use base_meta::quantity::Quantity;
use base_meta::selector::{FieldSelector, LabelSelector};
use machinery_cel::rules::Rules;
use machinery_cel::{Budget, Declarations, PER_CALL_LIMIT, Program, declare, to_value};
use machinery_registry::managed::{Ledger, Set};
use machinery_structural::{GroupVersionKind, Schema};
use serde_json::{Value, json};

pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        let printed = selector.to_string();
        let again = LabelSelector::parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again.to_string(), printed);
        for label in ["", "a", "b"] {
            assert_eq!(selector.matches(|_| Some(label)), again.matches(|_| Some(label)), "{printed}");
        }
        assert_eq!(selector.matches(|_| None), again.matches(|_| None), "{printed}");
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let printed = selector.to_string();
        let again = FieldSelector::parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again.to_string(), printed);
    }
}

pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(quantity) = Quantity::parse(text) else { return };
    let printed = quantity.to_string();
    let again = Quantity::parse(&printed).unwrap_or_else(|error| panic!("{text} prints as {printed}: {error}"));
    assert_eq!(again.to_string(), printed, "{text}");
}

pub fn ownership(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(set) = Set::parse(text) {
        let again = Set::parse(&set.print()).expect("its own text");
        assert_eq!(again, set);
        assert!(set.difference(&set).is_empty());
        assert_eq!(set.union(&set), set);
    }
    if let Ok(ledger) = Ledger::parse(text) {
        let printed = ledger.print();
        assert_eq!(Ledger::parse(&printed).expect("its own text").print(), printed);
    }
}

/// With a field of every type.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let document = json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "f": {"type": "number"}, "s": {"type": "string", "maxLength": 20}, "b": {"type": "boolean"},
        "when": {"type": "string", "format": "date-time"}, "either": {"x-kubernetes-int-or-string": true},
        "l": {"type": "array", "maxItems": 10, "items": {"type": "integer"}},
        "m": {"type": "object", "maxProperties": 10, "additionalProperties": {"type": "string"}},
        "o": {"type": "object", "properties": {"in": {"type": "boolean"}}}}});
    Schema::parse(&document).expect("a schema")
});

static DECLARATIONS: LazyLock<Declarations> = LazyLock::new(|| {
    Declarations::default().with("self", declare(&SCHEMA, false)).with("oldSelf", declare(&SCHEMA, false))
});

pub fn expression(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let Ok(program) = Program::compile(source, &DECLARATIONS) else { return };
    let document = json!({"n": 3, "f": 1.5, "s": "héllo", "b": true, "when": "2024-02-29T10:00:00Z", "either": "50%",
        "l": [3, 1, 2], "m": {"k": "v"}, "o": {"in": true}});
    let value = to_value(&SCHEMA, false, &document);
    let variables = BTreeMap::from([("self", value.clone()), ("oldSelf", value)]);
    let _ = program.evaluate(&variables, &mut Budget::new(PER_CALL_LIMIT));
}

/// A schema's document, and after an empty line an object.
pub fn definition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (document, object) = text.split_once("\n\n").unwrap_or((text, "{}"));
    let Ok(document) = serde_json::from_str::<Value>(document) else { return };
    let Ok(schema) = Schema::parse(&document) else { return };
    let kind = GroupVersionKind { group: "example.com", version: "v1", kind: "Thing" };
    kind.publish_v3(&document, "#/components/schemas/meta");
    kind.publish_v2(&document, "#/definitions/meta");
    let (rules, _) = Rules::compile(&schema, &Path::new("spec"));
    let Ok(mut object) = serde_json::from_str::<Value>(object) else { return };
    schema.prune(&mut object);
    schema.apply_defaults(&mut object);
    let pruned = object.clone();
    assert!(schema.prune(&mut object).is_empty() || object == pruned, "a default is pruned");
    schema.validate(&Path::default(), &object);
    schema.validate_update(&Path::default(), &object, &pruned);
    rules.validate(&schema, &object, Some(&pruned));
}
