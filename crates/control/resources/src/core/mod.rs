//! `v1`, the group without a name.

pub(crate) mod config_map;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod node_proxy;
pub(crate) mod pod;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![
        load.erased("configmaps", config_map::ConfigMapStrategy).await?,
        load.erased("secrets", secret::SecretStrategy).await?,
        load.erased("events", event::EventStrategy).await?,
    ])
}
