//! Owner references.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The one owner that manages the object.
pub fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    controller_of(metadata).is_some_and(|owner| owner.uid == uid)
}

/// The reference a controller writes into what it makes.
pub fn controller_reference(api_version: &str, kind: &str, name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_controller_counts() {
        let plain = OwnerReference { uid: "a".into(), ..OwnerReference::default() };
        let metadata = ObjectMeta {
            owner_references: Some(vec![plain, controller_reference("apps/v1", "ReplicaSet", "r", "b")]),
            ..ObjectMeta::default()
        };
        assert!(is_controlled_by(&metadata, "b"));
        assert!(!is_controlled_by(&metadata, "a"));
        assert!(controller_of(&ObjectMeta::default()).is_none());
    }
}
