//! `certificates.k8s.io/v1`.

pub(crate) mod signing_request;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    let requests = load.kind("certificatesigningrequests", signing_request::SigningRequestStrategy).await?;
    Ok(vec![requests])
}
