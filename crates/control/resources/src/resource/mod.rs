//! `resource.k8s.io/v1`.

pub(crate) mod claim;
pub(crate) mod claim_template;
pub(crate) mod device_class;
pub(crate) mod slice;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![
        load.erased("resourceclaims", claim::ResourceClaimStrategy).await?,
        load.erased("resourceclaimtemplates", claim_template::ResourceClaimTemplateStrategy).await?,
        load.erased("deviceclasses", device_class::DeviceClassStrategy).await?,
        load.erased("resourceslices", slice::ResourceSliceStrategy).await?,
    ])
}
