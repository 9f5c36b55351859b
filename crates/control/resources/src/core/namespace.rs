//! Namespaces: deleted in two steps. DELETE turns the phase to Terminating; once its content is gone, the namespace
//! controller takes the finalizer out of `spec` through the `finalize` subresource, and that removes the object.

use std::sync::Weak;

use base_meta::{Gvk, Status, field};
use http::{Request, Response, StatusCode};
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use machinery_registry::{
    Body, Column, Registry, RequestContext, ResourceDef, Scope, Strategy, SubresourceHandler, Verb,
};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("Status", "Active or Terminating."), AGE];

/// Every verb but deletecollection, as upstream.
const VERBS: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

/// Held by the namespace controller until nothing is left in the namespace.
pub const FINALIZER: &str = "kubernetes";

pub struct NamespaceStrategy;

impl Strategy for NamespaceStrategy {
    type Object = Namespace;

    fn def(&self) -> ResourceDef {
        let gvk = Gvk::of(Namespace::GROUP, Namespace::VERSION, Namespace::KIND);
        ResourceDef {
            short_names: &["ns"],
            scope: Scope::Cluster,
            verbs: VERBS,
            subresources: vec![define::subresource("finalize", gvk, &[Verb::Update]), define::status::<Namespace>()],
            fields: &["status.phase"],
            ..define::resource::<Namespace>("namespaces", "namespace", COLUMNS)
        }
    }

    fn default(&self, object: &mut Namespace) {
        api::defaults::namespace(object);
    }

    fn prepare_for_create(&self, _: &RequestContext, object: &mut Namespace) {
        object.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), ..NamespaceStatus::default() });
        let finalizers = object.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        // A generated name is known only now.
        api::defaults::namespace(object);
    }

    fn prepare_for_update(&self, _: &RequestContext, new: &mut Namespace, old: &Namespace) {
        new.spec.get_or_insert_default().finalizers = old.spec.as_ref().and_then(|spec| spec.finalizers.clone());
    }

    fn validate(&self, _: &RequestContext, object: &Namespace) -> Vec<field::Error> {
        api::validation::small::namespace(object)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &Namespace, old: &Namespace) -> Vec<field::Error> {
        api::validation::small::namespace_status_update(new, old)
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        base_meta::names::dns1123_label(name)
    }

    fn blocks_removal(&self, object: &Namespace) -> bool {
        let held = |list: Option<&Vec<String>>| list.is_some_and(|list| !list.is_empty());
        held(object.metadata.finalizers.as_ref())
            || held(object.spec.as_ref().and_then(|spec| spec.finalizers.as_ref()))
    }

    fn mark_deleting(&self, object: &mut Namespace) {
        object.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        // Upstream's namespaces show none: what takes the time is their content.
        object.metadata.deletion_grace_period_seconds = None;
    }

    fn selectable(&self, object: &Namespace) -> Vec<(&'static str, String)> {
        vec![("status.phase", phase(object).to_owned())]
    }

    fn row(&self, object: &Namespace) -> Vec<Value> {
        vec![columns::name(&object.metadata), json!(phase(object)), columns::age(&object.metadata)]
    }
}

fn phase(namespace: &Namespace) -> &str {
    namespace.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

/// `PUT …/finalize`: changes `spec.finalizers` and nothing else.
pub(crate) struct Finalize(pub(crate) Weak<Registry<NamespaceStrategy>>);

#[async_trait::async_trait]
impl SubresourceHandler for Finalize {
    async fn handle(&self, ctx: &RequestContext, name: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let registry = self.0.upgrade().ok_or_else(|| Status::service_unavailable("the server is shutting down"))?;
        let asked: Namespace = define::body(request).await?;
        let errors = api::validation::small::namespace(&asked);
        if !errors.is_empty() {
            return Err(Status::invalid(&registry.strategy().def().gvk, name, &errors));
        }
        let finalizers = asked.spec.and_then(|spec| spec.finalizers);
        let version = asked.metadata.resource_version.filter(|version| !version.is_empty());
        let gvr = registry.strategy().def().gvr();
        let written = registry
            .update_with(ctx, name, |namespace| {
                if version.is_some() && namespace.metadata.resource_version != version {
                    return Err(Status::modified(&gvr, name));
                }
                namespace.spec.get_or_insert_default().finalizers.clone_from(&finalizers);
                Ok(())
            })
            .await?;
        define::answer(StatusCode::OK, &written)
    }
}
