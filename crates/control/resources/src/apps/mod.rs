//! `apps/v1`.

pub(crate) mod controller_revision;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod replica_set;
pub(crate) mod stateful_set;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![
        load.erased("controllerrevisions", controller_revision::ControllerRevisionStrategy).await?,
        load.erased("daemonsets", daemon_set::DaemonSetStrategy).await?,
        load.erased("deployments", deployment::DeploymentStrategy).await?,
        load.erased("replicasets", replica_set::ReplicaSetStrategy).await?,
        load.erased("statefulsets", stateful_set::StatefulSetStrategy).await?,
    ])
}
