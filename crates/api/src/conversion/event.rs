//! `events.k8s.io/v1 Event` ↔ `v1 Event`: the same members under other names.

use serde_json::Value;

pub const NEW: &str = "events.k8s.io/v1";
pub const CORE: &str = "v1";

/// The new name, the old.
const MEMBERS: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

pub fn to_core(mut event: Value) -> Value {
    rename(&mut event, MEMBERS.iter().copied(), CORE);
    // The core's form always says what it is about.
    if let Value::Object(members) = &mut event {
        members.entry("involvedObject").or_insert_with(|| Value::Object(Default::default()));
    }
    event
}

pub fn to_new(mut event: Value) -> Value {
    rename(&mut event, MEMBERS.iter().map(|(new, old)| (*old, *new)), NEW);
    event
}

fn rename<'a>(event: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>, version: &str) {
    let Value::Object(members) = event else { return };
    if members.get("apiVersion").and_then(Value::as_str) == Some(version) {
        return;
    }
    let taken: Vec<(&str, Value)> =
        names.filter_map(|(from, to)| members.remove(from).map(|value| (to, value))).collect();
    members.extend(taken.into_iter().map(|(name, value)| (name.to_owned(), value)));
    members.insert("apiVersion".to_owned(), version.into());
}

/// The core's name for a selectable field.
pub fn field(field: &str) -> String {
    match field.strip_prefix("regarding.") {
        Some(rest) => format!("involvedObject.{rest}"),
        None if field == "reportingController" => "reportingComponent".to_owned(),
        None => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back() {
        let new = json!({"apiVersion": NEW, "kind": "Event", "metadata": {"name": "e"}, "note": "n", "reason": "r",
            "regarding": {"kind": "Pod"}, "reportingController": "c", "deprecatedCount": 1, "type": "Normal",
            "deprecatedSource": {"component": "s"}, "series": {"count": 2}});
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "n", "reason": "r",
            "involvedObject": {"kind": "Pod"}, "reportingComponent": "c", "count": 1, "type": "Normal",
            "source": {"component": "s"}, "series": {"count": 2}});
        assert_eq!(to_core(new.clone()), core);
        assert_eq!(to_new(core.clone()), new);
        assert_eq!(to_core(core.clone()), core);
        assert_eq!(field("regarding.name"), "involvedObject.name");
    }
}
