//! Who owns `spec.replicas` of a Scale, and what that makes of the ledger of the object it scales.

use std::borrow::Cow;

use super::Error;
use super::element::Element;
use super::ledger::{Entry, Fields, Ledger};
use super::set::Set;

pub const API_VERSION: &str = "autoscaling/v1";

fn replicas() -> Set {
    Set::of_fields(&[&["spec", "replicas"]])
}

/// The entries that own the replicas, as a Scale shows them. `path` is that of the replicas in `version` of the object.
pub fn to_scale(ledger: &Ledger, version: &str, path: &[Element]) -> Result<Ledger, Error> {
    let mut scale = Ledger::default();
    for entry in ledger.entries.iter().filter(|entry| entry.writer.api_version == version) {
        if entry.set()?.has(path) {
            let mut entry = entry.clone();
            entry.writer.api_version = Cow::Borrowed(API_VERSION);
            entry.fields = Fields::Set(replicas());
            scale.entries.push(entry);
        }
    }
    Ok(scale)
}

/// What a write to the Scale, which left `scale`, makes of `parent`: the replicas are theirs who own them there.
pub fn to_parent(parent: &Ledger, mut scale: Ledger, version: &str, path: &[Element]) -> Result<Ledger, Error> {
    let mut result = Ledger::default();
    let mut path_set = Set::default();
    path_set.insert(path);
    for entry in &parent.entries {
        let mut as_scale = entry.writer.clone();
        if entry.writer.api_version != version || !entry.set()?.has(path) {
            result.entries.push(entry.clone());
            continue;
        }
        as_scale.api_version = Cow::Borrowed(API_VERSION);
        if scale.remove(&as_scale).is_some() {
            result.entries.push(entry.clone());
            continue;
        }
        let rest = entry.set()?.difference(&path_set);
        if !rest.is_empty() {
            result.entries.push(Entry { fields: Fields::Set(rest), ..entry.clone() });
        }
    }
    for mut entry in scale.entries {
        entry.writer.api_version = Cow::Owned(version.to_owned());
        entry.fields = Fields::Set(path_set.clone());
        result.entries.push(entry);
    }
    result.sort();
    Ok(result)
}
