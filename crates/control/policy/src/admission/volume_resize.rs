//! A claim grows only where its class says that its volumes can.

use std::sync::Arc;

use api::quota::{amounts_of, storage_class};
use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Value, json};

use super::late::decoded;
use super::{Late, forbidden, is, text};

pub(super) struct PersistentVolumeClaimResize {
    pub(super) classes: Arc<Late>,
}

#[async_trait::async_trait]
impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        is(gvr, "", "persistentvolumeclaims") && subresource.is_none() && operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let (Some(new), Some(old)) = (object, attributes.old) else { return Ok(()) };
        let size = |claim: &Value| {
            let asked = amounts_of(claim.pointer("/spec/resources/requests"));
            asked.get("storage").copied().unwrap_or_default()
        };
        if size(new) <= size(old) {
            return Ok(());
        }
        if text(old, "/status/phase") != "Bound" {
            return Err(forbidden(attributes, object, "Only bound persistent volume claims can be expanded"));
        }
        let class = storage_class(new);
        if !class.is_empty()
            && class == storage_class(old)
            && let Some(class) = self.classes.find(attributes.ctx, None, class).await?
            && decoded(&class)?.get("allowVolumeExpansion") == Some(&json!(true))
        {
            return Ok(());
        }
        let message = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                       support resize";
        Err(forbidden(attributes, object, message))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, objects};
    use super::*;

    #[tokio::test]
    async fn claims_grow_where_their_class_lets_them() {
        let classes = [
            json!({"metadata": {"name": "grows"}, "allowVolumeExpansion": true}),
            json!({"metadata": {"name": "stays"}}),
        ];
        let plugin = PersistentVolumeClaimResize { classes: objects(&classes) };
        let claim = |class: &str, size: &str, phase: &str| json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}});
        let fixed = "persistentvolumeclaims \"p\" is forbidden: only dynamically provisioned pvc can be resized and the \
                     storageclass that provisions the pvc must support resize";
        let table = [
            ("grows", "1Gi", "2Gi", "Bound", None),
            ("stays", "1Gi", "1024Mi", "Bound", None),
            ("stays", "1Gi", "2Gi", "Bound", Some(fixed)),
            ("", "1Gi", "2Gi", "Bound", Some(fixed)),
            ("gone", "1Gi", "2Gi", "Bound", Some(fixed)),
            (
                "grows",
                "1Gi",
                "2Gi",
                "Pending",
                Some("persistentvolumeclaims \"p\" is forbidden: Only bound persistent volume claims can be expanded"),
            ),
        ];
        for (class, before, after, phase, expected) in table {
            let asked = Asked::new(Gvr::of("", "v1", "persistentvolumeclaims"), "a", "p", Operation::Update);
            let (old, new) = (claim(class, before, phase), claim(class, after, phase));
            let done = plugin.validate(&asked.attributes(Some(&old)), Some(&new)).await;
            assert_eq!(done.err().map(|status| status.message).as_deref(), expected, "{class} {after} {phase}");
        }
    }
}
