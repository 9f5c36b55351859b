//! PATCH: parsed once, applied to each version the write races against. A patch that fails changes nothing.

mod apply;
pub mod json;
mod lists;
mod strategic;
#[cfg(test)]
mod tests;

pub(crate) use apply::read as read_config;
use base_meta::schema::SchemaRef;
use base_meta::{Gvk, Reason, Status, field};
use serde_json::Value;

use crate::codec::Stored;
use crate::core::Core;
use crate::dialect::Dialect;
use crate::ownership::How;
use crate::resource::Written;
use crate::update::{Origin, Part, Wanted};
use crate::{FieldValidation, Patch, RequestContext, UpdateOptions};

#[derive(Debug)]
pub(crate) enum Parsed {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Parsed {
    pub(crate) fn new(patch: &Patch) -> Result<Self, Status> {
        let value = |bytes: &[u8]| object(serde_json::from_slice(bytes).map_err(|error| undecodable(&error))?);
        match patch {
            Patch::Json(bytes) => json::parse(bytes).map(Self::Json),
            Patch::Merge(bytes) => value(bytes).map(Self::Merge),
            Patch::Strategic(bytes) => value(bytes).map(Self::Strategic),
            Patch::Apply(_) => Err(Status::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
            )),
        }
    }

    /// `schema` is that of the document; `None` where it has no merge lists.
    pub(crate) fn apply(&self, mut document: Value, schema: Option<SchemaRef>) -> Result<Value, Status> {
        match self {
            Self::Json(patch) => json::apply(document, patch).map_err(|problem| inapplicable(&problem.to_string())),
            Self::Merge(patch) => {
                json_patch::merge(&mut document, patch);
                Ok(document)
            }
            Self::Strategic(patch) => strategic::apply(document, patch.clone(), schema).map_err(|error| error.status()),
        }
    }

    /// The patch as an error about its outcome shows it.
    fn text(&self) -> String {
        match self {
            Self::Json(patch) => serde_json::to_string(patch).unwrap_or_default(),
            Self::Merge(patch) | Self::Strategic(patch) => patch.to_string(),
        }
    }
}

fn undecodable(error: &serde_json::Error) -> Status {
    Status::bad_request(format!("error decoding patch: {error}"))
}

fn object(patch: Value) -> Result<Value, Status> {
    if patch.is_object() {
        Ok(patch)
    } else {
        Err(Status::bad_request("error decoding patch: it is not a JSON object"))
    }
}

/// 422, with upstream's blank message: what it was stays in the log.
fn inapplicable(problem: &str) -> Status {
    tracing::debug!(problem, "a JSON patch does not apply");
    Status::new(Reason::Invalid, "the server rejected our request due to an error in our request")
        .with_causes(Vec::new())
}

/// A patch of the document that the dialect shows.
struct Patched<'a> {
    dialect: &'a Dialect,
    ctx: &'a RequestContext,
    patch: &'a Parsed,
    validation: FieldValidation,
    part: Part,
}

impl Patched<'_> {
    fn refuse(&self, problem: &str) -> Status {
        let error = field::Error::invalid(&field::Path::new("patch"), &self.patch.text(), problem);
        Status::invalid(&Gvk::of("", "", ""), "", &[error])
    }
}

#[async_trait::async_trait]
impl Origin for Patched<'_> {
    async fn wanted(&mut self, stored: &Stored) -> Result<Wanted, Status> {
        let document = self.dialect.document(&stored.object).await?;
        let patched = self.patch.apply(document, Some(self.dialect.def.schema))?;
        let value = self.dialect.conform(self.ctx, patched, self.validation, |problem| self.refuse(problem))?;
        Ok(self.dialect.written(value, Some(stored), self.part).await?.into())
    }
}

impl Core {
    pub(crate) async fn patch_object(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        name: &str,
        part: Part,
        patch: &Patch,
        options: &UpdateOptions,
    ) -> Result<Written, Status> {
        if dialect.custom.is_some() && matches!(patch, Patch::Strategic(_)) {
            return Err(Status::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        let api_version = dialect.def.gvk.api_version();
        let manager = options.field_manager.as_deref();
        let how =
            How { dry_run: options.dry_run, manager, api_version: &api_version, validation: options.field_validation };
        if let Patch::Apply(bytes) = patch {
            return self.apply_object(dialect, ctx, name, part, bytes, how, options).await;
        }
        let patch = Parsed::new(patch)?;
        let validation = options.field_validation;
        let mut patched = Patched { dialect, ctx, patch: &patch, validation, part };
        self.modify(ctx, name, part, how, &mut patched).await
    }
}
