//! The ledger of a new object, written in one pass over it: no set is made.

use serde_json::{Map, Value};

use super::element::{quoted, same};
use super::ledger::{Writer, head, tail};
use super::place::{ItemKey, Kind, Place};
use super::strip;

/// The JSON of `metadata.managedFields`, or `None` where the writer owns nothing. `empty` is what the kind looks like
/// before anything is set: what a new object shares with it nobody owns. `reset`: top-level fields that the write does not set.
pub fn created(
    place: Place<'_>,
    empty: &Value,
    new: &Value,
    reset: &[&str],
    writer: &Writer,
    time: &str,
) -> Option<String> {
    let mut pen = Pen { out: String::with_capacity(1024), scratch: String::new() };
    pen.out.push('[');
    head(writer, Some(time), &mut pen.out);
    pen.out.push('{');
    let before = pen.out.len();
    for (name, value) in new.as_object()? {
        if strip::at_root(name) || reset.contains(&name.as_str()) {
            continue;
        }
        let (place, _) = place.entry_or_deduced(name);
        let was = empty.get(name);
        if name == "metadata" {
            pen.metadata(place, was.and_then(Value::as_object), value);
        } else {
            pen.field(place, name, was, value);
        }
    }
    if pen.out.len() == before {
        return None;
    }
    pen.out.push('}');
    tail(writer, &mut pen.out);
    pen.out.push(']');
    Some(pen.out)
}

struct Pen {
    out: String,
    scratch: String,
}

impl Pen {
    /// `f:metadata` itself is never owned, nor are the fields that only the server sets.
    fn metadata(&mut self, place: Place<'_>, was: Option<&Map<String, Value>>, value: &Value) {
        let Value::Object(entries) = value else { return };
        let start = self.out.len();
        self.comma();
        self.out.push_str(r#""f:metadata":{"#);
        let inside = self.out.len();
        for (name, value) in entries.iter().filter(|(name, _)| !strip::in_metadata(name)) {
            let was = was.and_then(|was| was.get(name));
            self.field(place.entry_or_deduced(name).0, name, was, value);
        }
        self.close(start, inside);
    }

    fn comma(&mut self) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
    }

    /// Ends what was opened at `start`, or takes it back where nothing has come since `inside`.
    fn close(&mut self, start: usize, inside: usize) {
        if self.out.len() == inside {
            self.out.truncate(start);
        } else {
            self.out.push('}');
        }
    }

    fn field(&mut self, place: Place<'_>, name: &str, was: Option<&Value>, is: &Value) {
        let start = self.out.len();
        self.comma();
        if name.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            quoted(&format!("f:{name}"), &mut self.out);
        } else {
            self.out.extend([r#""f:"#, name, r#"""#]);
        }
        self.out.push(':');
        self.value(place, start, was, is);
    }

    fn item(&mut self, place: Place<'_>, key: &ItemKey<'_>, was: Option<&Value>, is: &Value) {
        let start = self.out.len();
        self.comma();
        self.scratch.clear();
        key.write(&mut self.scratch);
        quoted(&self.scratch, &mut self.out);
        self.out.push(':');
        self.value(place, start, was, is);
    }

    /// The name is written, from `start` on.
    fn value(&mut self, place: Place<'_>, start: usize, was: Option<&Value>, is: &Value) {
        let kind = place.kind(is);
        match (kind, is) {
            (Kind::Map, Value::Object(entries)) if !entries.is_empty() => {
                let inside = self.open(was);
                let was = was.and_then(Value::as_object);
                for (name, value) in entries {
                    let was = was.and_then(|was| was.get(name));
                    self.field(place.entry_or_deduced(name).0, name, was, value);
                }
                self.close(start, inside);
            }
            (Kind::Set | Kind::Keyed(_), Value::Array(items)) if !items.is_empty() => {
                let inside = self.open(was);
                let keyed = items.iter().filter_map(|item| Some((place.item_key(kind, item).ok()?, item)));
                let mut keyed: Vec<_> = keyed.collect();
                keyed.sort_by(|one, other| one.0.order(&other.0));
                for run in keyed.chunk_by(|one, other| one.0.order(&other.0).is_eq()) {
                    match run {
                        [(key, item)] => self.item(place.item(), key, None, item),
                        // Items that are there twice are one value.
                        run => self.item(Place::Deduced, &run[0].0, None, &Value::Null),
                    }
                }
                self.close(start, inside);
            }
            _ if was.is_some_and(|was| same(was, is)) => self.out.truncate(start),
            _ => self.out.push_str("{}"),
        }
    }

    /// Returns where the inside begins for [`Self::close`]; a value that is all new is owned itself too.
    fn open(&mut self, was: Option<&Value>) -> usize {
        self.out.push('{');
        let inside = self.out.len();
        if was.is_none() {
            self.out.push_str(r#"".":{}"#);
        }
        inside
    }
}
