//! `autoscaling/v1 Scale` of any kind that lists a `scale` subresource, by JSON paths into the kind's own object.

use std::borrow::Cow;

use base_meta::field::{Error, Path};
use base_meta::selector::LabelSelector;
use base_meta::{Gvk, Status};
use serde_json::{Map, Value, json};

use crate::codec::Stored;
use crate::core::Core;
use crate::ownership::How;
use crate::patch::{self, Parsed};
use crate::update::{Origin, Part, Wanted};
use crate::{MediaType, Patch, Payload, RequestContext, UpdateOptions};

const SCALE: Gvk = Gvk::of("autoscaling", "v1", "Scale");

/// Where a kind keeps what `scale` shows, as JSON paths of plain fields: `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: Cow<'static, str>,
    pub status_replicas: Cow<'static, str>,
    /// A LabelSelector, or (ReplicationController) a plain map, or (a custom kind's status) the selector's text.
    pub selector: Option<Cow<'static, str>>,
}

impl Default for ScalePaths {
    fn default() -> Self {
        Self {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            selector: Some(".spec.selector".into()),
        }
    }
}

fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.trim_start_matches('.').split('.').fold(object, |value, field| &value[field])
}

/// Where there is no such place yet, it is made.
pub(crate) fn at_mut<'a>(object: &'a mut Value, path: &str) -> &'a mut Value {
    path.trim_start_matches('.').split('.').fold(object, |value, field| {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        &mut value[field]
    })
}

/// The Scale that an object shows. `spec.replicas` and `status.*` may be absent.
pub(crate) fn view(paths: &ScalePaths, object: &Value) -> Result<Value, Status> {
    let meta = |name: &str| object["metadata"].get(name).cloned();
    let kept = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata: Map<String, Value> =
        kept.iter().filter_map(|name| meta(name).map(|value| ((*name).to_owned(), value))).collect();
    let mut status = Map::new();
    status.insert("replicas".into(), at(object, &paths.status_replicas).as_i64().unwrap_or(0).into());
    let selector = match &paths.selector {
        Some(path) => selector_text(at(object, path))?,
        None => String::new(),
    };
    if !selector.is_empty() {
        status.insert("selector".into(), selector.into());
    }
    let mut spec = Map::new();
    if let Some(replicas) = at(object, &paths.spec_replicas).as_i64().filter(|replicas| *replicas != 0) {
        spec.insert("replicas".into(), replicas.into());
    }
    Ok(json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": metadata, "spec": spec, "status": status,
    }))
}

fn selector_text(selector: &Value) -> Result<String, Status> {
    let map = match selector {
        Value::Object(map) => map,
        Value::String(text) => return Ok(text.clone()),
        _ => return Ok(String::new()),
    };
    let plain = map.values().all(Value::is_string);
    let wrapped = if plain { &json!({ "matchLabels": map }) } else { selector };
    LabelSelector::from_json(wrapped).map(|selector| selector.to_string()).map_err(Status::internal)
}

/// What a Scale asks of the object it was made from.
#[derive(Debug)]
struct Wish {
    replicas: i64,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Wish {
    fn read(name: &str, scale: &Value) -> Result<Self, Status> {
        let refuse = |problem: String| {
            Status::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {problem}"))
        };
        for (field, expected) in [("kind", "Scale"), ("apiVersion", "autoscaling/v1")] {
            match scale.get(field).and_then(Value::as_str) {
                None | Some("") => {}
                Some(found) if found == expected => {}
                Some(found) => return Err(refuse(format!("{field} is {found:?}, not {expected:?}"))),
            }
        }
        let replicas = match &scale["spec"]["replicas"] {
            Value::Null => 0,
            number => number
                .as_i64()
                .filter(|number| i32::try_from(*number).is_ok())
                .ok_or_else(|| refuse(format!("cannot unmarshal {number} into field spec.replicas of type int32")))?,
        };
        if replicas < 0 {
            let path = Path::new("spec").child("replicas");
            let error = Error::invalid(&path, replicas, "must be greater than or equal to 0");
            return Err(Status::invalid(&SCALE, name, &[error]));
        }
        let text = |field: &str| scale["metadata"][field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(body) = text("name").filter(|body| body != name) {
            return Err(Status::bad_request(format!(
                "the name of the object ({body}) does not match the name on the URL ({name})"
            )));
        }
        Ok(Self { replicas, uid: text("uid"), resource_version: text("resourceVersion") })
    }

    fn put_into(self, paths: &ScalePaths, object: &mut Value) {
        *at_mut(object, &paths.spec_replicas) = self.replicas.into();
        let meta = &mut object["metadata"];
        // No version asked for: whatever is stored is scaled.
        meta["resourceVersion"] = self.resource_version.unwrap_or_default().into();
        if let Some(uid) = self.uid {
            meta["uid"] = uid.into();
        }
    }
}

/// What the client makes of the present Scale.
enum Change {
    Put(Value),
    Patch(Parsed),
}

struct Scaled<'a> {
    name: &'a str,
    paths: &'a ScalePaths,
    change: Change,
}

#[async_trait::async_trait]
impl Origin for Scaled<'_> {
    async fn wanted(&mut self, stored: &Stored) -> Result<Wanted, Status> {
        let mut object = stored.object.to_value().map_err(Status::internal)?;
        let wish = match &self.change {
            Change::Put(scale) => Wish::read(self.name, scale),
            Change::Patch(patch) => Wish::read(self.name, &patch.apply(view(self.paths, &object)?, None)?),
        };
        wish?.put_into(self.paths, &mut object);
        Ok(object.into())
    }
}

impl Core {
    fn require_scale(&self) -> Result<(), Status> {
        self.def().subresource("scale").map(drop).ok_or_else(Status::no_such_path)
    }

    pub(crate) async fn read_scale(&self, ctx: &RequestContext, name: &str) -> Result<Value, Status> {
        self.require_scale()?;
        view(&self.scale_paths, &self.stored(ctx, name).await?.object.to_value().map_err(Status::internal)?)
    }

    pub(crate) async fn put_scale(
        &self,
        ctx: &RequestContext,
        name: &str,
        body: &Payload,
        options: &UpdateOptions,
    ) -> Result<Value, Status> {
        let scale: Value = match body.media {
            MediaType::Json => serde_json::from_slice(&body.bytes).map_err(|error| error.to_string()),
            MediaType::Yaml => crate::yaml::from_slice(&body.bytes).map_err(|error| error.to_string()),
        }
        .map_err(|error| {
            Status::bad_request(format!("the object provided is unrecognized (must be of type Scale): {error}"))
        })?;
        self.scale(ctx, name, options, Change::Put(scale)).await
    }

    pub(crate) async fn patch_scale(
        &self,
        ctx: &RequestContext,
        name: &str,
        patch: &Patch,
        options: &UpdateOptions,
    ) -> Result<Value, Status> {
        if let Patch::Apply(body) = patch {
            return self.apply_scale(ctx, name, body, options).await;
        }
        self.scale(ctx, name, options, Change::Patch(Parsed::new(patch)?)).await
    }

    /// The replicas alone are applied: their place in the object is owned by who applied the Scale.
    async fn apply_scale(
        &self,
        ctx: &RequestContext,
        name: &str,
        body: &[u8],
        options: &UpdateOptions,
    ) -> Result<Value, Status> {
        self.require_scale()?;
        let scale = patch::read_config(ctx, body, options.field_validation)?;
        let wish = Wish::read(name, &scale)?;
        let gvk = &self.def().gvk;
        let api_version = gvk.api_version();
        let mut config = json!({ "apiVersion": api_version, "kind": gvk.kind, "metadata": { "name": name } });
        for (field, text) in [("resourceVersion", wish.resource_version), ("uid", wish.uid)] {
            if let Some(text) = text {
                config["metadata"][field] = text.into();
            }
        }
        if !scale["spec"]["replicas"].is_null() {
            *at_mut(&mut config, &self.scale_paths.spec_replicas) = wish.replicas.into();
        }
        let manager = options.field_manager.as_deref();
        let how =
            How { dry_run: options.dry_run, manager, api_version: &api_version, validation: options.field_validation };
        let written = self.apply_scaled(ctx, name, &config, how, options.force).await?;
        view(&self.scale_paths, &written.object.to_value().map_err(Status::internal)?)
    }

    async fn scale(
        &self,
        ctx: &RequestContext,
        name: &str,
        options: &UpdateOptions,
        change: Change,
    ) -> Result<Value, Status> {
        self.require_scale()?;
        let mut scaled = Scaled { name, paths: &self.scale_paths, change };
        let api_version = self.def().gvk.api_version();
        let manager = options.field_manager.as_deref();
        let how =
            How { dry_run: options.dry_run, manager, api_version: &api_version, validation: options.field_validation };
        let written = self.modify(ctx, name, Part::Whole, how, &mut scaled).await?;
        view(&self.scale_paths, &written.object.to_value().map_err(Status::internal)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_kinds_of_selector_print() {
        let text = |selector: Value| selector_text(&selector).unwrap();
        assert_eq!(text(json!({"matchLabels": {"b": "2", "a": "1"}})), "a=1,b=2");
        assert_eq!(text(json!({"a": "1"})), "a=1");
        assert_eq!(text(Value::Null), "");
        assert_eq!(text("a=1".into()), "a=1");
        let expressions = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "y"]}]});
        assert_eq!(text(expressions), "a in (x,y)");
    }

    #[test]
    fn bad_scales_are_refused() {
        let refuse = |scale: Value| Wish::read("web", &scale).unwrap_err();
        assert_eq!(
            refuse(json!({"spec": {"replicas": -1}})).message,
            r#"Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"#
        );
        for scale in
            [json!({"spec": {"replicas": "3"}}), json!({"spec": {"replicas": 1u64 << 40}}), json!({"kind": "Pod"})]
        {
            assert_eq!(refuse(scale).code, 400);
        }
    }
}
