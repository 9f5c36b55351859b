//! One kind as its versions: what the algebra asks of a served kind.

use std::borrow::Cow;

use serde_json::Value;

use super::place::Place;

/// The versions of one kind. Objects are given in the version of the request, without `metadata.managedFields`.
pub trait Versions: Send + Sync {
    /// `None`: not served any more; what was owned in that version is forgotten.
    fn place(&self, api_version: &str) -> Option<Place<'_>>;

    /// `object` in another version. `Err` where the conversion failed, `None` where the version is not served.
    fn convert<'v>(&self, object: &'v Value, api_version: &str) -> Result<Option<Cow<'v, Value>>, String>;
}

/// A kind of one version.
#[derive(Clone, Copy)]
pub struct OneVersion<'s> {
    pub api_version: &'s str,
    pub place: Place<'s>,
}

impl Versions for OneVersion<'_> {
    fn place(&self, api_version: &str) -> Option<Place<'_>> {
        (self.api_version == api_version).then_some(self.place)
    }

    fn convert<'v>(&self, object: &'v Value, api_version: &str) -> Result<Option<Cow<'v, Value>>, String> {
        Ok((self.api_version == api_version).then_some(Cow::Borrowed(object)))
    }
}
