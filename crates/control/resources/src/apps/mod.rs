//! `apps/v1`.

pub(crate) mod deployment;
pub(crate) mod replica_set;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![
        load.erased("deployments", deployment::DeploymentStrategy).await?,
        load.erased("replicasets", replica_set::ReplicaSetStrategy).await?,
    ])
}
