//! The server as a tower service, for callers in this process.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use machinery_registry::{Body, UserInfo};

use crate::authentication::Caller;
use crate::server::Inner;

/// Made by [`ApiServer::in_process`](crate::ApiServer::in_process); always ready, never fails.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<Inner>,
    user: Arc<UserInfo>,
}

impl InProcess {
    pub(crate) fn new(server: Arc<Inner>, user: Arc<UserInfo>) -> Self {
        Self { server, user }
    }
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.server.clone().serve(Caller::InProcess(self.user.clone()), request);
        Box::pin(async move { Ok(answer.await) })
    }
}
