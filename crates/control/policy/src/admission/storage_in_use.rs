//! Claims, volumes and classes of volume attributes get the finalizer that keeps them while they are used; controllers
//! take it off again.

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Value, json};

use super::member;

pub(super) struct StorageObjectInUseProtection;

fn finalizer(gvr: &Gvr) -> Option<&'static str> {
    match (&*gvr.group, &*gvr.resource) {
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("storage.k8s.io", "volumeattributesclasses") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}

#[async_trait::async_trait]
impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        finalizer(gvr).is_some() && subresource.is_none() && operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let (Some(finalizer), Some(object)) = (finalizer(attributes.gvr), object.as_object_mut()) else {
            return Ok(());
        };
        let Some(metadata) = member(object, "metadata", json!({})).as_object_mut() else { return Ok(()) };
        if let Some(all) = member(metadata, "finalizers", json!([])).as_array_mut()
            && !all.iter().any(|one| one == finalizer)
        {
            all.push(json!(finalizer));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Asked;
    use super::*;

    #[tokio::test]
    async fn each_kind_its_own_and_once() {
        let plugin = StorageObjectInUseProtection;
        for (group, resource, finalizer) in [
            ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
            ("", "persistentvolumes", "kubernetes.io/pv-protection"),
            ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
        ] {
            let gvr = Gvr::of(group, "v1", resource);
            assert!(plugin.handles(&gvr, None, Operation::Create) && !plugin.handles(&gvr, None, Operation::Update));
            let asked = Asked::new(gvr, "a", "p", Operation::Create);
            let mut object = json!({"metadata": {"finalizers": ["x"]}});
            for _ in 0..2 {
                plugin.mutate(&asked.attributes(None), &mut object).await.expect("admitted");
                assert_eq!(object["metadata"]["finalizers"], json!(["x", finalizer]));
            }
        }
        assert!(!plugin.handles(&Gvr::of("", "v1", "pods"), None, Operation::Create));
    }
}
