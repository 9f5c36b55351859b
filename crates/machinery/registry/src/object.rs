//! What the registry needs of an object, typed by a strategy and erased for the core.

use std::any::Any;

use base_meta::decode_value;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An API object: every type of `k8s-openapi` that has metadata, and [`Custom`](crate::Custom).
pub trait ApiObject: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    fn metadata(&self) -> &ObjectMeta;
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    fn of_value(value: Value) -> serde_json::Result<Self>;
}

impl<T> ApiObject for T
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    fn metadata(&self) -> &ObjectMeta {
        k8s_openapi::Metadata::metadata(self)
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        k8s_openapi::Metadata::metadata_mut(self)
    }

    fn of_value(value: Value) -> serde_json::Result<Self> {
        decode_value(&value)
    }
}

/// An [`ApiObject`] whose type only its kind knows.
pub(crate) trait Erased: Any + Send + Sync {
    fn metadata(&self) -> &ObjectMeta;
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    fn to_value(&self) -> serde_json::Result<Value>;
    fn boxed(&self) -> Box<dyn Erased>;
}

impl<T: ApiObject> Erased for T {
    fn metadata(&self) -> &ObjectMeta {
        ApiObject::metadata(self)
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        ApiObject::metadata_mut(self)
    }

    fn to_value(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn boxed(&self) -> Box<dyn Erased> {
        Box::new(self.clone())
    }
}

const OWN: &str = "a core gives its kind only objects that this kind decoded";

pub(crate) fn of<T: 'static>(object: &dyn Erased) -> &T {
    (object as &dyn Any).downcast_ref().expect(OWN)
}

pub(crate) fn of_mut<T: 'static>(object: &mut dyn Erased) -> &mut T {
    (object as &mut dyn Any).downcast_mut().expect(OWN)
}

pub(crate) fn into<T: 'static>(object: Box<dyn Erased>) -> T {
    *(object as Box<dyn Any>).downcast().expect(OWN)
}
