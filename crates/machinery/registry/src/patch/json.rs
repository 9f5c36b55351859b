//! RFC 6902, kept from making more of a document than a client could send.

use base_meta::Status;
pub use json_patch::Patch;
use json_patch::{PatchErrorKind, PatchOperation, jsonptr::Pointer};
use serde_json::Value;

/// As upstream's: more operations than this are an attack or a mistake.
const MAX_OPERATIONS: usize = 10_000;

/// How many bytes all copies together may add, as upstream's.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// What nests deeper cannot be read back: the decoder's own limit.
const MAX_DEPTH: usize = 127;

/// Refuses what is no patch, and one of too many operations.
pub fn parse(bytes: &[u8]) -> Result<json_patch::Patch, Status> {
    let patch: json_patch::Patch = serde_json::from_slice(bytes).map_err(|error| super::undecodable(&error))?;
    let count = patch.0.len();
    if count > MAX_OPERATIONS {
        return Err(Status::request_entity_too_large(&format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        )));
    }
    Ok(patch)
}

/// What of a patch cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// A `test` found something else.
    #[error("{0}")]
    Test(String),
    #[error("{0}")]
    Other(String),
}

/// The document as the patch leaves it.
pub fn apply(mut document: Value, patch: &json_patch::Patch) -> Result<Value, Undone> {
    let mut copied = 0;
    for (index, operation) in patch.0.iter().enumerate() {
        if is_absence(&document, operation) {
            continue;
        }
        allowed(&document, operation, &mut copied).map_err(Undone::Other)?;
        json_patch::patch_unsafe(&mut document, std::slice::from_ref(operation)).map_err(|mut error| {
            error.operation = index;
            match error.kind {
                PatchErrorKind::TestFailed => Undone::Test(error.to_string()),
                _ => Undone::Other(error.to_string()),
            }
        })?;
    }
    Ok(document)
}

/// A test that holds as Go's library has it and controllers rely on: a member that is absent is null.
fn is_absence(document: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let Some((parent, member)) = test.path.split_back() else { return false };
    let parent = at(document, parent).and_then(Value::as_object);
    test.value.is_null() && parent.is_some_and(|parent| !parent.contains_key(member.decoded().as_ref()))
}

/// What is wrong with the sizes of an operation. Whether it finds what it is about is not looked at.
fn allowed(document: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), String> {
    let (path, value) = match operation {
        PatchOperation::Add(add) => (&add.path, Some(&add.value)),
        PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
        PatchOperation::Move(moved) => (&moved.path, at(document, &moved.from)),
        PatchOperation::Copy(copy) => (&copy.path, at(document, &copy.from)),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    let Some(value) = value else { return Ok(()) };
    if deeper(value, MAX_DEPTH.saturating_sub(path.count())) {
        return Err("exceeded max depth".to_owned());
    }
    if let PatchOperation::Copy(_) = operation {
        *copied += value.to_string().len();
        if *copied > MAX_COPIED {
            return Err(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
            ));
        }
    }
    Ok(())
}

fn at<'a>(document: &'a Value, path: &Pointer) -> Option<&'a Value> {
    path.resolve(document).ok()
}

/// Whether more than `left` arrays and objects are in each other.
fn deeper(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left == 0 || items.iter().any(|item| deeper(item, left - 1)),
        Value::Object(fields) => left == 0 || fields.values().any(|field| deeper(field, left - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(document: Value, operations: &Value) -> String {
        let patch = parse(operations.to_string().as_bytes()).unwrap_or_else(|status| panic!("{}", status.message));
        apply(document, &patch).expect_err("too much").to_string()
    }

    #[test]
    fn copies_of_copies_come_to_an_end() {
        let copies: Vec<Value> =
            (0..40).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/a/{n}")})).collect();
        let told = problem(json!({"a": {"text": "x".repeat(100)}}), &copies.into());
        assert!(told.starts_with("Unable to complete the copy, the accumulated size increase of copy is "), "{told}");
    }

    #[test]
    fn nothing_nests_deeper_than_can_be_read() {
        // Each goes into the innermost of what the last one left.
        let mut nest = json!({});
        for _ in 0..50 {
            nest = json!({"a": nest});
        }
        let into = |depth: usize| "/a".repeat(depth);
        let adds = |depths: &[usize]| {
            depths.iter().map(|depth| json!({"op": "add", "path": into(*depth), "value": nest})).collect::<Value>()
        };
        assert_eq!(problem(json!({}), &adds(&[1, 51, 101])), "exceeded max depth");
        let patch = parse(adds(&[1, 51]).to_string().as_bytes()).expect("a patch");
        let deep = apply(json!({}), &patch).expect("deep, and readable").to_string();
        serde_json::from_str::<Value>(&deep).expect("readable");
        let folded = json!([{"op": "copy", "from": "/a", "path": into(101)}]);
        assert_eq!(problem(serde_json::from_str(&deep).expect("readable"), &folded), "exceeded max depth");
        assert_eq!(
            problem(json!({"b": nest}), &json!([{"op": "move", "from": "/b", "path": into(90)}])),
            "exceeded max depth"
        );
    }

    #[test]
    fn operations_are_counted_and_failures_numbered() {
        let many: Value = (0..=MAX_OPERATIONS).map(|_| json!({"op": "remove", "path": "/a"})).collect();
        assert_eq!(parse(many.to_string().as_bytes()).expect_err("too many").code, 413);
        let told = problem(json!({"a": 1}), &json!([{"op": "remove", "path": "/a"}, {"op": "remove", "path": "/b"}]));
        assert!(told.contains("'/1'"), "{told}");
        let patch = parse(br#"[{"op": "test", "path": "/a", "value": 2}]"#).expect("a patch");
        assert!(matches!(apply(json!({"a": 1}), &patch), Err(Undone::Test(_))));
    }
}
