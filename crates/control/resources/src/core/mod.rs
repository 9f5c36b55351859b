//! `v1`, the group without a name.

pub(crate) mod binding;
pub(crate) mod component_status;
pub(crate) mod config_map;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod limit_range;
pub(crate) mod namespace;
mod new_event;
pub(crate) mod node;
pub(crate) mod node_proxy;
pub(crate) mod persistent_volume;
pub(crate) mod persistent_volume_claim;
pub(crate) mod pod;
pub(crate) mod pod_template;
pub(crate) mod proxy;
pub(crate) mod replication_controller;
pub(crate) mod resource_quota;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::computed::Computed;
use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    let events = load.kind("events", event::EventStrategy).await?;
    Ok(vec![
        Arc::new(Computed(component_status::ComponentStatuses::new())),
        new_event::view(events.core()),
        events,
        load.erased("configmaps", config_map::ConfigMapStrategy).await?,
        load.erased("secrets", secret::SecretStrategy).await?,
        load.erased("limitranges", limit_range::LimitRangeStrategy).await?,
        load.erased("persistentvolumeclaims", persistent_volume_claim::PersistentVolumeClaimStrategy).await?,
        load.erased("persistentvolumes", persistent_volume::PersistentVolumeStrategy).await?,
        load.erased("podtemplates", pod_template::PodTemplateStrategy).await?,
        load.erased("replicationcontrollers", replication_controller::ReplicationControllerStrategy).await?,
        load.erased("resourcequotas", resource_quota::ResourceQuotaStrategy).await?,
    ])
}
