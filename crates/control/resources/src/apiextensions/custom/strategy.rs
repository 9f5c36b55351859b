//! The stored version of a custom kind, as every kind's strategy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base_meta::field::Error;
use base_meta::{Status, names};
use machinery_cel::rules::Verdict;
use machinery_registry::strategy::Undo;
use machinery_registry::{Custom, CustomSchema, RequestContext, ResourceDef, ScalePaths, Strategy};
use serde_json::Value;

use super::row::row;
use super::version::Version;

pub(crate) struct CustomStrategy {
    pub(crate) version: Arc<Version>,
    /// The definition is being deleted: nothing new is made.
    pub(crate) terminating: Arc<AtomicBool>,
}

fn value(object: &Custom) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

impl CustomStrategy {
    fn judge(&self, ctx: &RequestContext, new: &Custom, old: Option<&Custom>) -> Vec<Error> {
        let Verdict { errors, tolerated } = self.version.judge(&value(new), old.map(value).as_ref());
        for error in tolerated {
            ctx.warnings.add(error.to_string());
        }
        errors
    }
}

#[async_trait::async_trait]
impl Strategy for CustomStrategy {
    type Object = Custom;

    fn def(&self) -> ResourceDef {
        self.version.def.clone()
    }

    fn custom_schema(&self) -> Option<Arc<dyn CustomSchema>> {
        Some(self.version.clone())
    }

    fn scale_paths(&self) -> ScalePaths {
        self.version.scale.clone()
    }

    fn default(&self, object: &mut Custom) {
        let mut content = Value::Object(std::mem::take(&mut object.content));
        self.version.schema.apply_defaults(&mut content);
        if let Value::Object(content) = content {
            object.content = content;
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::dns1123_subdomain(name)
    }

    fn validate(&self, ctx: &RequestContext, object: &Custom) -> Vec<Error> {
        self.judge(ctx, object, None)
    }

    fn validate_update(&self, ctx: &RequestContext, new: &Custom, old: &Custom) -> Vec<Error> {
        self.judge(ctx, new, Some(old))
    }

    fn validate_status_update(&self, ctx: &RequestContext, new: &Custom, old: &Custom) -> Vec<Error> {
        self.judge(ctx, new, Some(old))
    }

    async fn begin_create(&self, _: &RequestContext, _: &mut Custom, _: bool) -> Result<Option<Undo>, Status> {
        if self.terminating.load(Ordering::Acquire) {
            let mut status = Status::method_not_allowed();
            status.message = "create not allowed while custom resource definition is terminating".into();
            return Err(status);
        }
        Ok(None)
    }

    fn selectable(&self, object: &Custom) -> Vec<(&'static str, String)> {
        if self.version.selectable.is_empty() {
            return Vec::new();
        }
        let object = value(object);
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let find = |(name, path): &(&'static str, Option<super::json_path::JsonPath>)| {
            let found = path.as_ref().and_then(|path| path.find(&object).first().map(|value| text(value)));
            (*name, found.unwrap_or_default())
        };
        self.version.selectable.iter().map(find).collect()
    }

    fn row(&self, object: &Custom) -> Vec<Value> {
        row(&self.version.columns, &value(object))
    }
}
