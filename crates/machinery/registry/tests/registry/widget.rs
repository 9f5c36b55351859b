//! The test kind and a registry of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use base_meta::field::{Error as FieldError, Path};
use base_meta::{Gvk, Gvr, Status};
use bytes::Bytes;
use futures::FutureExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use machinery_registry::request::UserInfo;
use machinery_registry::resource::{Answer, Written};
use machinery_registry::strategy::{Graceful, Undo};
use machinery_registry::{
    Admission, Chain, CreateOptions, DeleteOptions, FieldValidation, MediaType, Patch, Payload, Registry,
    RequestContext, Resource, ResourceDef, Scope, Strategy, SubresourceDef, UpdateOptions, Verb,
};
use machinery_storage::Storage;
use machinery_storage::embedded::Embedded;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Widget {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: WidgetSpec,
    #[serde(default)]
    pub(crate) status: WidgetStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WidgetSpec {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) color: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replicas: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) selector: Option<LabelSelector>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Part>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<Part>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) image: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) args: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WidgetStatus {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) phase: String,
    #[serde(default)]
    pub(crate) replicas: i32,
}

impl k8s_openapi::Resource for Widget {
    const API_VERSION: &'static str = "example.io/v1";
    const GROUP: &'static str = "example.io";
    const KIND: &'static str = "Widget";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "widgets";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl k8s_openapi::Metadata for Widget {
    type Ty = ObjectMeta;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What tests vary.
#[derive(Default)]
pub(crate) struct Widgets {
    pub(crate) graceful: bool,
    pub(crate) strict_updates: bool,
    pub(crate) create_on_update: bool,
    /// Names allocated and not given back.
    pub(crate) allocated: Arc<Mutex<BTreeSet<String>>>,
}

#[async_trait::async_trait]
impl Strategy for Widgets {
    type Object = Widget;

    fn def(&self) -> ResourceDef {
        let sub = |name, gvk| SubresourceDef { name, gvk, verbs: &[Verb::Get, Verb::Patch, Verb::Update] };
        let gvk = Gvk::of("example.io", "v1", "Widget");
        ResourceDef {
            gvk: gvk.clone(),
            plural: "widgets".into(),
            singular: "widget".into(),
            short_names: &[],
            categories: &[],
            scope: Scope::Namespaced,
            verbs: Verb::ALL,
            subresources: vec![sub("status", gvk), sub("scale", Gvk::of("autoscaling", "v1", "Scale"))],
            columns: &[],
            fields: &["spec.color"],
            answers_deleted: false,
            deprecation: None,
            published: None,
            stored_as: None,
            schema: crate::schema::WIDGET,
        }
    }

    fn default(&self, widget: &mut Widget) {
        widget.spec.replicas.get_or_insert(1);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _ctx: &RequestContext, widget: &Widget) -> Vec<FieldError> {
        let path = Path::new("spec").child("color");
        match widget.spec.color.as_str() {
            "" => vec![FieldError::required(&path, "")],
            "plaid" => vec![FieldError::invalid(&path, "plaid", "must be one color")],
            _ => Vec::new(),
        }
    }

    fn warnings(&self, widget: &Widget) -> Vec<String> {
        if widget.spec.color == "beige" { vec!["spec.color: beige is dull".into()] } else { Vec::new() }
    }

    fn allow_create_on_update(&self) -> bool {
        self.create_on_update
    }

    fn allow_unconditional_update(&self) -> bool {
        !self.strict_updates
    }

    fn graceful(&self, _ctx: &RequestContext, _object: &Widget, options: &mut DeleteOptions) -> Graceful {
        if !self.graceful {
            return Graceful::No;
        }
        Graceful::Yes { grace_period_seconds: *options.grace_period_seconds.get_or_insert(30) }
    }

    async fn begin_create(
        &self,
        _ctx: &RequestContext,
        widget: &mut Widget,
        dry_run: bool,
    ) -> Result<Option<Undo>, Status> {
        if dry_run {
            return Ok(None);
        }
        let name = widget.metadata.name.clone().unwrap();
        self.allocated.lock().unwrap().insert(name.clone());
        let allocated = self.allocated.clone();
        Ok(Some(Box::new(move || {
            async move {
                allocated.lock().unwrap().remove(&name);
            }
            .boxed()
        })))
    }

    async fn after_delete(&self, widget: &Widget) {
        self.allocated.lock().unwrap().remove(widget.metadata.name.as_deref().unwrap());
    }

    fn selectable(&self, widget: &Widget) -> Vec<(&'static str, String)> {
        vec![("spec.color", widget.spec.color.clone())]
    }

    fn row(&self, widget: &Widget) -> Vec<Value> {
        vec![widget.metadata.name.clone().into()]
    }
}

pub(crate) struct Setup {
    pub(crate) registry: Arc<Registry<Widgets>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) ctx: RequestContext,
}

pub(crate) async fn setup() -> Setup {
    setup_with(Default::default(), Vec::new()).await
}

pub(crate) async fn setup_with(widgets: Widgets, admission: Vec<Arc<dyn Admission>>) -> Setup {
    let storage: Arc<dyn Storage> = Arc::new(Embedded::in_memory().await.unwrap());
    let registry = Registry::start(widgets, storage.clone(), admission, BTreeMap::new()).await.unwrap();
    let ctx = RequestContext {
        user: Arc::new(UserInfo { name: "tester".into(), ..UserInfo::default() }),
        gvr: Gvr::of("example.io", "v1", "widgets"),
        subresource: None,
        namespace: Some("default".into()),
        warnings: Default::default(),
    };
    Setup { registry, storage, ctx }
}

/// A red widget with two parts.
pub(crate) fn widget(name: &str) -> Value {
    json!({
        "apiVersion": "example.io/v1", "kind": "Widget",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"color": "red", "parts": [{"name": "a", "image": "one"}, {"name": "b"}]},
    })
}

pub(crate) fn payload(value: &Value) -> Payload {
    Payload { media: MediaType::Json, bytes: Bytes::from(value.to_string()) }
}

pub(crate) const STRICT: UpdateOptions = UpdateOptions {
    dry_run: false,
    field_manager: None,
    field_validation: FieldValidation::Strict,
    force: false,
    no_create: None,
};

impl Setup {
    /// After a restart: another registry over the same store, which remembers only what the store does.
    pub(crate) async fn again(&self) -> Self {
        let (storage, ctx) = (self.storage.clone(), self.ctx.clone());
        let registry =
            Registry::start(Widgets { ..Default::default() }, storage.clone(), Chain::default(), BTreeMap::new());
        Self { registry: registry.await.unwrap(), storage, ctx }
    }

    pub(crate) fn on(&self, subresource: &str) -> RequestContext {
        RequestContext { subresource: Some(subresource.into()), ..self.ctx.clone() }
    }

    pub(crate) async fn try_create(&self, value: &Value) -> Result<Value, Status> {
        let written = self.registry.create(&self.ctx, payload(value), CreateOptions::default()).await?;
        Ok(written.object.to_value().unwrap())
    }

    pub(crate) async fn create(&self, value: Value) -> Value {
        self.try_create(&value).await.unwrap()
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Value, Status> {
        Ok(self.registry.get(&self.ctx, name, "").await?.to_value().unwrap())
    }

    pub(crate) async fn update(&self, name: &str, value: &Value) -> Result<Value, Status> {
        self.registry.update(&self.ctx, name, payload(value), UpdateOptions::default()).await.map(object)
    }

    pub(crate) async fn patch(&self, name: &str, patch: Patch) -> Result<Value, Status> {
        self.registry.patch(&self.ctx, name, patch, UpdateOptions::default()).await.map(object)
    }

    pub(crate) async fn revision(&self) -> u64 {
        self.storage.revision().await.unwrap().0
    }
}

pub(crate) fn object(answer: Answer) -> Value {
    match answer {
        Answer::Object(Written { object, .. }) => object.to_value().unwrap(),
        Answer::Value(value) => value,
    }
}

pub(crate) fn strategic(patch: Value) -> Patch {
    Patch::Strategic(patch.to_string().into())
}

pub(crate) fn merge(patch: Value) -> Patch {
    Patch::Merge(patch.to_string().into())
}

pub(crate) fn json_patch(patch: Value) -> Patch {
    Patch::Json(patch.to_string().into())
}
