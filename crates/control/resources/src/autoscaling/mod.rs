//! `autoscaling`: stored as v2; v1 is a view of it.

mod first_version;
pub(crate) mod horizontal_pod_autoscaler;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    let strategy = horizontal_pod_autoscaler::HorizontalPodAutoscalerStrategy;
    let second = load.kind("horizontalpodautoscalers", strategy).await?;
    let first = first_version::view(second.core());
    Ok(vec![first, second])
}
