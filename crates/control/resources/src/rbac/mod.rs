//! `rbac.authorization.k8s.io/v1`. Whether a caller may grant what it writes is an admission plug-in's to say.

pub(crate) mod binding;
pub(crate) mod role;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![
        load.erased("clusterroles", role::ClusterRoleStrategy).await?,
        load.erased("clusterrolebindings", binding::ClusterRoleBindingStrategy).await?,
        load.erased("roles", role::RoleStrategy).await?,
        load.erased("rolebindings", binding::RoleBindingStrategy).await?,
    ])
}
