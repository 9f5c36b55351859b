//! The objects of a request in the version that a rule named.

use std::borrow::Cow;

use base_meta::Status;
use machinery_registry::Attributes;
use machinery_registry::admission::{Owned, Version};
use serde_json::Value;

use super::matching::Request;
use super::text;

pub(super) struct Shown<'a> {
    pub(super) version: &'a Version,
    object: Option<Cow<'a, Value>>,
    old: Option<Cow<'a, Value>>,
}

impl<'a> Shown<'a> {
    pub(super) async fn of(
        attributes: &Attributes<'a>,
        object: Option<&'a Value>,
        version: &'a Version,
    ) -> Result<Self, Status> {
        let object = converted(attributes, object, version).await?;
        Ok(Self { version, object, old: converted(attributes, attributes.old, version).await? })
    }

    pub(super) fn object(&self) -> Option<&Value> {
        self.object.as_deref()
    }

    pub(super) fn old(&self) -> Option<&Value> {
        self.old.as_deref()
    }
}

/// As webhooks are shown it: with who owns its fields.
pub(super) fn with_owners(object: &Value, owned: Owned<'_>) -> Value {
    let mut object = object.clone();
    if let (Some(fields), Some(metadata)) = (owned.fields(), object.get_mut("metadata").and_then(Value::as_object_mut))
    {
        metadata.insert("managedFields".to_owned(), fields);
    }
    object
}

async fn converted<'a>(
    attributes: &Attributes<'_>,
    object: Option<&'a Value>,
    version: &Version,
) -> Result<Option<Cow<'a, Value>>, Status> {
    let Some(object) = object else { return Ok(None) };
    if text(object, "/apiVersion") == version.gvk.api_version() {
        return Ok(Some(Cow::Borrowed(object)));
    }
    let converted = attributes.versions.convert(object.clone(), &version.gvk.group_version()).await?;
    Ok(Some(Cow::Owned(converted)))
}

/// What has been made of an object, in the stored version, decoded and defaulted.
pub(super) async fn settled(request: &Request<'_>, mut changed: Value) -> Result<Value, Status> {
    let (versions, stored) = (request.attributes.versions, request.stored());
    if text(&changed, "/apiVersion") != stored.gvk.api_version() {
        changed = versions.convert(changed, &stored.gvk.group_version()).await?;
    }
    versions.settle(changed)
}
