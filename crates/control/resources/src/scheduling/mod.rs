//! `scheduling.k8s.io/v1`.

pub(crate) mod priority_class;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![load.erased("priorityclasses", priority_class::PriorityClassStrategy).await?])
}
