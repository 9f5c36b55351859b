//! Which policies a request is to pass, by which binding and with which parameters.

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::Attributes;
use machinery_registry::admission::Version;
use serde_json::Value;

use super::super::is;
use super::super::late::Late;
use super::super::matching::{Criteria, Request};
use super::super::metrics::AdmissionMetrics;
use super::index::{Active, Index};
use super::policy::{Binding, Policy};
use super::refusal::Failure;
use super::served::Served;
use crate::authorization::Chain;

/// What both plug-ins read.
pub(super) struct World {
    pub(super) index: Arc<Index>,
    pub(super) namespaces: Arc<Late>,
    pub(super) served: Arc<Served>,
    pub(super) chain: Arc<Chain>,
    pub(super) metrics: Arc<AdmissionMetrics>,
}

pub(super) struct Invocation<'i> {
    pub(super) policy: &'i Policy,
    pub(super) binding: &'i Binding,
    /// As what the policy's rules matched the request.
    pub(super) version: &'i Version,
    /// The policy is asked once for each.
    pub(super) params: Vec<Option<Value>>,
}

impl World {
    /// In the order they are asked, between them the configurations that cannot be used and must not be passed over.
    pub(super) async fn invocations<'i>(
        &self,
        active: &'i [Active],
        request: &'i Request<'_>,
    ) -> Vec<Result<Invocation<'i>, Failure>> {
        let mut all = Vec::new();
        for Active { policy, bindings } in active {
            let fail = |binding: Option<&Binding>, problem: String| {
                let what = if binding.is_some() { "binding" } else { "policy" };
                let failure = Failure {
                    policy: policy.name.clone(),
                    binding: binding.map(|binding| binding.name.clone()),
                    message: format!("failed to configure {what}: {problem}"),
                    invalid: false,
                };
                (!policy.ignore).then_some(Err(failure))
            };
            let matched = self.matches(&policy.criteria, request).await;
            let version = match matched {
                Ok(None) => continue,
                Ok(Some(version)) => self.served.known(policy.params.as_ref()).map(|()| version),
                Err(problem) => Err(problem),
            };
            let version = match version {
                Ok(version) => version,
                Err(problem) => {
                    all.extend(fail(None, problem));
                    continue;
                }
            };
            for binding in bindings {
                match self.matches(&binding.criteria, request).await {
                    Ok(None) => continue,
                    Ok(Some(_)) => {}
                    Err(problem) => {
                        all.extend(fail(Some(binding), problem));
                        continue;
                    }
                }
                let found = self.served.params(policy.params.as_ref(), binding.params.as_ref(), request.namespace);
                match found.await {
                    Ok(params) => all.push(Ok(Invocation { policy, binding, version, params })),
                    Err(problem) => all.extend(fail(Some(binding), problem)),
                }
            }
        }
        all
    }

    async fn matches<'i>(
        &self,
        criteria: &Result<Criteria, String>,
        request: &'i Request<'_>,
    ) -> Result<Option<&'i Version>, String> {
        let criteria = criteria.as_ref().map_err(Clone::clone)?;
        criteria.matches(request, &self.namespaces).await.map_err(|status| status.message)
    }

    /// What expressions see as `namespaceObject`: nothing for a Namespace itself.
    pub(super) async fn namespace(&self, attributes: &Attributes<'_>) -> Result<Option<Value>, Status> {
        let namespace = attributes.ctx.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let Some(namespace) = namespace.filter(|_| !is(attributes.gvr, "", "namespaces")) else { return Ok(None) };
        match self.namespaces.find(attributes.ctx, None, namespace).await? {
            Some(object) => object.to_value().map(Some).map_err(Status::internal),
            None => Err(Status::not_found(&Gvr::of("", "v1", "namespaces"), namespace)),
        }
    }
}
