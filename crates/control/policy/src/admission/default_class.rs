//! A claim that names no StorageClass, and an Ingress that names no IngressClass, gets the default one: the newest of
//! those that are marked so.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::{Value, json};

use super::late::{Fresh, decoded};
use super::{Late, is, text};

pub(super) struct DefaultClass {
    name: &'static str,
    group: &'static str,
    resource: &'static str,
    /// The field of spec that names the class.
    field: &'static str,
    /// The annotation that did before there was a field.
    before: &'static str,
    /// Annotations that mark a class as the default.
    marks: &'static [&'static str],
    classes: Arc<Late>,
}

impl DefaultClass {
    pub(super) fn storage(classes: Arc<Late>) -> Self {
        Self {
            name: "DefaultStorageClass",
            group: "",
            resource: "persistentvolumeclaims",
            field: "storageClassName",
            before: "volume.beta.kubernetes.io/storage-class",
            marks: &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"],
            classes,
        }
    }

    pub(super) fn ingress(classes: Arc<Late>) -> Self {
        Self {
            name: "DefaultIngressClass",
            group: "networking.k8s.io",
            resource: "ingresses",
            field: "ingressClassName",
            before: "kubernetes.io/ingress.class",
            marks: &["ingressclass.kubernetes.io/is-default-class"],
            classes,
        }
    }
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.pointer("/metadata/annotations").and_then(|all| all.get(key))
}

#[async_trait::async_trait]
impl Admission for DefaultClass {
    fn name(&self) -> &'static str {
        self.name
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        is(gvr, self.group, self.resource) && subresource.is_none() && operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let named = object.get("spec").and_then(|spec| spec.get(self.field)).is_some_and(|name| !name.is_null());
        if named || annotation(object, self.before).is_some() {
            return Ok(());
        }
        let all = self.classes.list(attributes.ctx, None, Fresh::Cached).await?;
        let all = all.iter().map(|class| decoded(class)).collect::<Result<Vec<_>, _>>()?;
        let marked =
            |class: &&Arc<Value>| self.marks.iter().any(|mark| annotation(class, mark) == Some(&json!("true")));
        // In the order of their names: of those made in the same second, the first.
        let newest = all.iter().rev().filter(marked).max_by_key(|class| text(class, "/metadata/creationTimestamp"));
        let (Some(class), Some(object)) = (newest, object.as_object_mut()) else { return Ok(()) };
        if let Some(spec) = super::member(object, "spec", json!({})).as_object_mut() {
            spec.insert(self.field.into(), json!(text(class, "/metadata/name")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, objects};
    use super::*;

    fn class(name: &str, created: &str, mark: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {mark: "true"}}})
    }

    async fn admitted(plugin: DefaultClass, mut object: Value) -> Value {
        let asked = Asked::new(Gvr::of("", "v1", "persistentvolumeclaims"), "a", "p", Operation::Create);
        plugin.mutate(&asked.attributes(None), &mut object).await.expect("admitted");
        object["spec"].clone()
    }

    #[tokio::test]
    async fn the_newest_default_is_taken() {
        const MARK: &str = "storageclass.kubernetes.io/is-default-class";
        let old = class("old", "2026-01-01T00:00:00Z", MARK);
        let new = class("a", "2026-01-02T00:00:00Z", MARK);
        let same = class("b", "2026-01-02T00:00:00Z", MARK);
        let plain = json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-03T00:00:00Z"}});
        let all = [new, same, plain.clone(), old];
        let storage = |classes: &[Value]| DefaultClass::storage(objects(classes));
        assert_eq!(admitted(storage(&all), json!({"spec": {}})).await, json!({"storageClassName": "a"}));
        assert_eq!(admitted(storage(&[plain]), json!({"spec": {}})).await, json!({}));
        let named = json!({"storageClassName": ""});
        assert_eq!(admitted(storage(&all), json!({"spec": named})).await, named, "none is a choice");
        let annotated =
            json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "x"}}, "spec": {}});
        assert_eq!(admitted(storage(&all), annotated).await, json!({}));
    }

    #[tokio::test]
    async fn ingresses() {
        let class = class("web", "2026-01-01T00:00:00Z", "ingressclass.kubernetes.io/is-default-class");
        let ingress = || DefaultClass::ingress(objects(std::slice::from_ref(&class)));
        assert_eq!(admitted(ingress(), json!({"spec": {}})).await, json!({"ingressClassName": "web"}));
        let annotated = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}});
        assert_eq!(admitted(ingress(), annotated).await, json!({}));
    }
}
