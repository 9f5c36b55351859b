//! `networking.k8s.io/v1`; IPAddresses and ServiceCIDRs are loaded with Services, whose addresses they are about.

pub(crate) mod ingress;
pub(crate) mod ingress_class;
pub(crate) mod ip_address;
pub(crate) mod network_policy;
pub(crate) mod service_cidr;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![
        load.erased("ingresses", ingress::IngressStrategy).await?,
        load.erased("ingressclasses", ingress_class::IngressClassStrategy).await?,
        load.erased("networkpolicies", network_policy::NetworkPolicyStrategy).await?,
    ])
}
