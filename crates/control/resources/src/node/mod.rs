//! `node.k8s.io/v1`.

pub(crate) mod runtime_class;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![load.erased("runtimeclasses", runtime_class::RuntimeClassStrategy).await?])
}
