//! Services: what the API keeps in step (addresses, families, node ports) around what the user writes.

pub(crate) mod address;
pub mod allocations;
mod families;
mod fields;
pub mod ranges;
pub mod repair;
mod row;
mod take;

use std::sync::Arc;

use base_meta::{Gvk, Status, field};
use k8s_openapi::api::core::v1::Service;
use machinery_registry::strategy::Undo;
use machinery_registry::{RequestContext, ResourceDef, Strategy};
use serde_json::Value;

use crate::define;
use allocations::Allocations;

pub struct ServiceStrategy {
    pub(crate) allocations: Arc<Allocations>,
}

#[async_trait::async_trait]
impl Strategy for ServiceStrategy {
    type Object = Service;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            answers_deleted: true,
            short_names: &["svc"],
            categories: &["all"],
            subresources: vec![
                define::subresource("proxy", Gvk::of("", "v1", "ServiceProxyOptions"), define::PROXY),
                define::status::<Service>(),
            ],
            fields: &["spec.clusterIP", "spec.type"],
            ..define::resource::<Service>("services", "service", row::COLUMNS)
        }
    }

    fn default(&self, object: &mut Service) {
        api::defaults::service(object);
    }

    fn prepare_for_create(&self, _: &RequestContext, object: &mut Service) {
        object.status = Some(Default::default());
        if let Some(spec) = &mut object.spec {
            fields::list_cluster_ip(spec);
        }
    }

    fn prepare_for_update(&self, _: &RequestContext, new: &mut Service, old: &Service) {
        if let (Some(new), Some(old)) = (&mut new.spec, &old.spec) {
            fields::keep_allocated(new, old);
            fields::follow_cluster_ip(new, old);
            fields::drop_of_former_type(new, old);
        }
    }

    fn validate(&self, _: &RequestContext, object: &Service) -> Vec<field::Error> {
        api::validation::service::service(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &Service, old: &Service) -> Vec<field::Error> {
        api::validation::service_update::service_update(new, old)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &Service, old: &Service) -> Vec<field::Error> {
        api::validation::service_update::service_status_update(new, old)
    }

    /// A name in DNS.
    fn validate_name(&self, name: &str) -> Vec<String> {
        base_meta::names::dns1123_label(name)
    }

    fn allocates(&self) -> bool {
        true
    }

    async fn begin_create(
        &self,
        _: &RequestContext,
        object: &mut Service,
        dry_run: bool,
    ) -> Result<Option<Undo>, Status> {
        take::for_create(&self.allocations, object, dry_run).await
    }

    async fn begin_update(
        &self,
        _: &RequestContext,
        new: &mut Service,
        old: &Service,
        dry_run: bool,
    ) -> Result<Option<Undo>, Status> {
        take::for_update(&self.allocations, new, old, dry_run).await
    }

    async fn after_update(&self, old: &Service, new: &Service) {
        let kept = take::held(new);
        for each in take::held(old).into_iter().filter(|each| !kept.contains(each)) {
            self.allocations.release(each, &take::owner(old)).await;
        }
    }

    async fn after_delete(&self, object: &Service) {
        for each in take::held(object) {
            self.allocations.release(each, &take::owner(object)).await;
        }
    }

    fn selectable(&self, object: &Service) -> Vec<(&'static str, String)> {
        let said = |slot: Option<&String>| slot.cloned().unwrap_or_default();
        let spec = object.spec.as_ref();
        vec![
            ("spec.clusterIP", said(spec.and_then(|spec| spec.cluster_ip.as_ref()))),
            ("spec.type", said(spec.and_then(|spec| spec.type_.as_ref()))),
        ]
    }

    fn row(&self, object: &Service) -> Vec<Value> {
        row::row(object)
    }
}
