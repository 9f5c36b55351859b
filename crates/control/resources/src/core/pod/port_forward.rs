//! `pods/portforward`: the nodes do not serve it yet, and this says so.

use base_meta::{Reason, Status};
use http::{Request, Response};
use machinery_registry::{Body, RequestContext, SubresourceHandler};

pub(crate) struct PortForward;

#[async_trait::async_trait]
impl SubresourceHandler for PortForward {
    async fn handle(&self, _: &RequestContext, _: &str, _: Request<Body>) -> Result<Response<Body>, Status> {
        let mut status = Status::new(Reason::ServiceUnavailable, "the nodes of this cluster do not forward ports yet");
        status.code = 501;
        Err(status)
    }
}
