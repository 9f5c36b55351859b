//! The `pod-template-hash`: names the ReplicaSet of one template.
//!
//! Upstream hashes a dump of Go's struct, which nothing else can repeat; the value is opaque to every client, so
//! ours is FNV-1a over the template's canonical JSON, rendered in the same alphabet.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// The label and name suffix that tells one template's ReplicaSet and pods from another's.
pub const LABEL: &str = "pod-template-hash";

/// Digits and consonants that cannot spell a word; upstream's `SafeEncodeString` indexes the same 27.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Equal templates give equal text, whatever their keys' order and however their empty fields are spelled.
/// `collision_count` makes another one where a foreign ReplicaSet holds the first.
pub fn compute(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let mut canonical = serde_json::to_value(template).unwrap_or(Value::Null);
    drop_empty(&mut canonical);
    let mut hash = fnv32a(0x811c_9dc5, canonical.to_string().as_bytes());
    if let Some(count) = collision_count {
        hash = fnv32a(hash, &count.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

/// Each byte of `text` as a letter of the alphabet.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

fn fnv32a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// `args: []`, `{}` and null say nothing that an absent field does not.
fn drop_empty(value: &mut Value) {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_empty);
            fields.retain(|_, field| !empty(field));
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
            {"name": "c", "image": image}]}}))
        .expect("a template")
    }

    #[test]
    fn depends_on_the_template_and_the_collision_count_only() {
        let one = compute(&template("a"), None);
        assert_eq!(one, compute(&template("a"), None));
        assert_ne!(one, compute(&template("b"), None));
        assert_ne!(one, compute(&template("a"), Some(1)));
        assert!(one.bytes().all(|byte| ALPHABET.contains(&byte)), "{one}");
    }

    #[test]
    fn empty_fields_do_not_count() {
        let mut spelled = template("a");
        let spec = spelled.spec.as_mut().expect("a spec");
        spec.containers[0].args = Some(Vec::new());
        spec.security_context = Some(Default::default());
        assert_eq!(compute(&spelled, None), compute(&template("a"), None));
    }
}
