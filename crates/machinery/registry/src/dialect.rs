//! The version of a kind that a request speaks: the stored one, or another that is converted to and from it.

use std::borrow::Cow;
use std::sync::Arc;

use base_meta::{GroupVersion, Status, schema};
use bytes::Bytes;
use machinery_storage::Object;
use serde_json::Value;

use crate::ResourceDef;
use crate::codec::{Stored, bytes};
use crate::custom::CustomSchema;
use crate::intern::intern;
use crate::update::Part;
use crate::view::Conversion;

pub(crate) struct Dialect {
    pub(crate) def: Arc<ResourceDef>,
    /// Of a kind defined at run time.
    pub(crate) custom: Option<Arc<dyn CustomSchema>>,
    converted: Option<Converted>,
}

struct Converted {
    conversion: Arc<dyn Conversion>,
    here: GroupVersion,
    stored: GroupVersion,
    /// Under which an object version keeps its converted self.
    form: &'static str,
}

/// Kept with a converted object: what it was made from, so that a row can be asked of the stored kind. A copy, which
/// shares the bytes: the original keeps the converted one.
struct Origin(Object);

const ORIGIN: &str = "converted from";

impl Dialect {
    pub(crate) fn stored(def: ResourceDef, custom: Option<Arc<dyn CustomSchema>>) -> Self {
        Self { def: Arc::new(def), custom, converted: None }
    }

    pub(crate) fn converted(
        def: ResourceDef,
        custom: Option<Arc<dyn CustomSchema>>,
        stored: &ResourceDef,
        conversion: Arc<dyn Conversion>,
    ) -> Self {
        let (here, stored) = (def.gvk.group_version(), stored.gvk.group_version());
        let form = intern(&format!("version {}", def.gvk.api_version()));
        Self { def: Arc::new(def), custom, converted: Some(Converted { conversion, here, stored, form }) }
    }

    pub(crate) fn is_converted(&self) -> bool {
        self.converted.is_some()
    }

    /// The stored kind's name of a selectable field of this version.
    pub(crate) fn field<'a>(&self, field: &'a str) -> Cow<'a, str> {
        match &self.converted {
            None => field.into(),
            Some(converted) => converted.conversion.field(field),
        }
    }

    /// A document of this version, for the hooks of the stored one.
    pub(crate) async fn to_stored(&self, value: Value) -> Result<Value, Status> {
        let Some(Converted { conversion, stored, .. }) = &self.converted else { return Ok(value) };
        one(conversion.convert(vec![value], stored).await?)
    }

    /// A document of this version that is to be stored: judged by this version's own schema, then as [`Self::to_stored`] has it.
    pub(crate) async fn written(&self, value: Value, stored: Option<&Stored>, part: Part) -> Result<Value, Status> {
        let (Some(custom), true) = (&self.custom, self.is_converted()) else { return self.to_stored(value).await };
        let old = match stored {
            Some(stored) => Some(self.document(&stored.object).await?),
            None => None,
        };
        let errors = custom.validate(&self.as_written(&value, old.as_ref(), part), old.as_ref());
        if !errors.is_empty() {
            let name = value["metadata"]["name"].as_str().unwrap_or_default();
            return Err(Status::invalid(&self.def.gvk, name, &errors));
        }
        self.to_stored(value).await
    }

    /// The part that the write is not about is as it was.
    fn as_written(&self, value: &Value, old: Option<&Value>, part: Part) -> Value {
        if self.def.subresource("status").is_none() {
            return value.clone();
        }
        let (mut whole, status) = match (part, old) {
            (Part::Status, Some(old)) => (old.clone(), value.get("status")),
            _ => (value.clone(), old.and_then(|old| old.get("status"))),
        };
        if let Some(members) = whole.as_object_mut() {
            match status {
                Some(status) => members.insert("status".into(), status.clone()),
                None => members.remove("status"),
            };
        }
        whole
    }

    /// The object as a client of this version sees it, resourceVersion included.
    pub(crate) async fn document(&self, object: &Arc<Object>) -> Result<Value, Status> {
        self.shown(object.clone()).await?.to_value().map_err(Status::internal)
    }

    pub(crate) async fn shown(&self, object: Arc<Object>) -> Result<Arc<Object>, Status> {
        one(self.all_shown(vec![object]).await?)
    }

    /// In their order. Each object version is converted once, all that have not been in one call.
    pub(crate) async fn all_shown(&self, objects: Vec<Arc<Object>>) -> Result<Vec<Arc<Object>>, Status> {
        let Some(Converted { conversion, here, form, .. }) = &self.converted else { return Ok(objects) };
        let kept = |object: &Object| object.try_form::<Arc<Object>, ()>(form, || Err(())).ok();
        let missing: Vec<&Arc<Object>> = objects.iter().filter(|object| kept(object).is_none()).collect();
        if !missing.is_empty() {
            let parse = |object: &&Arc<Object>| serde_json::from_slice(object.json()).map_err(Status::internal);
            let values = missing.iter().map(parse).collect::<Result<Vec<Value>, _>>()?;
            let made = conversion.convert(values, here).await?;
            if made.len() != missing.len() {
                return Err(wrong_count());
            }
            for (object, value) in missing.into_iter().zip(made) {
                let made = self.encode(object, value)?;
                object.form(form, || Arc::new(made));
            }
        }
        Ok(objects.into_iter().map(|object| kept(&object).map_or(object, |kept| (*kept).clone())).collect())
    }

    /// `value` under the stored object's key and revision.
    fn encode(&self, stored: &Object, mut value: Value) -> Result<Object, Status> {
        self.complete(&mut value);
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            metadata.remove("resourceVersion");
        }
        let json: Bytes = bytes(&value)?;
        let object = Object::new(stored.key.clone(), stored.revision, stored.meta.clone(), json);
        let object = object.map_err(Status::internal)?;
        object.form(ORIGIN, || Origin(stored.at(stored.revision)));
        Ok(object)
    }

    /// What this version's schema leaves and adds.
    fn complete(&self, value: &mut Value) {
        if let Some(custom) = &self.custom {
            custom.prune(value);
            custom.default(value);
        }
        schema::normalise(self.def.schema, value);
    }

    /// An object of the stored version, which need not be stored, in this one.
    pub(crate) async fn of_stored(&self, value: Value) -> Result<Value, Status> {
        let Some(Converted { conversion, here, .. }) = &self.converted else { return Ok(value) };
        let mut value = one(conversion.convert(vec![value], here).await?)?;
        self.complete(&mut value);
        Ok(value)
    }

    /// The cells of this version's own columns, or those of the stored kind.
    pub(crate) fn row(
        &self,
        object: &Object,
        stored: impl FnOnce(&Object) -> Result<Vec<Value>, Status>,
    ) -> Result<Vec<Value>, Status> {
        let Some(Converted { conversion, .. }) = &self.converted else { return stored(object) };
        if let Some(cells) = conversion.row(object) {
            return cells;
        }
        let missing = || Status::internal("an object of another version was not converted here");
        stored(&object.try_form::<Origin, _>(ORIGIN, || Err(missing()))?.0)
    }
}

fn one<T>(mut list: Vec<T>) -> Result<T, Status> {
    match (list.pop(), list.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(wrong_count()),
    }
}

fn wrong_count() -> Status {
    Status::internal("a conversion answered with another number of objects than it was asked for")
}
