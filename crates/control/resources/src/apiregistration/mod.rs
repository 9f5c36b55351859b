//! `apiregistration.k8s.io/v1`.

pub(crate) mod api_service;
pub(crate) mod priorities;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![load.erased("apiservices", api_service::ApiServiceStrategy).await?])
}
