//! `flowcontrol.apiserver.k8s.io/v1`.

pub(crate) mod flow_schema;
pub(crate) mod priority_level;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![
        load.erased("flowschemas", flow_schema::FlowSchemaStrategy).await?,
        load.erased("prioritylevelconfigurations", priority_level::PriorityLevelStrategy).await?,
    ])
}
