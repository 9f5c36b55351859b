//! `pods/eviction`: a delete that asks the pod's disruption budget first.
//!
//! ```text
//! ended, waiting or dying pod ──────────────────────────────▶ delete
//! no budget ────────────────────────────────────────────────▶ delete
//! not ready, and the budget is met or does not mind ────────▶ delete this very version
//! else: take one of disruptionsAllowed (compare-and-swap) ──▶ delete        none left: 429
//! two budgets ──────────────────────────────────────────────▶ 500
//! ```

use std::sync::{Arc, Weak};

use base_meta::selector::LabelSelector;
use base_meta::status::Cause;
use base_meta::{Gvr, Reason, Status, decode_value};
use http::{Request, Response, StatusCode};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions as Asked, Time};
use machinery_registry::request::Propagation;
use machinery_registry::{Body, DeleteOptions, Registry, RequestContext, Resource as _, SubresourceHandler};
use serde_json::{Value, json};

use super::PodStrategy;
use crate::define;
use crate::policy::pod_disruption_budget::PodDisruptionBudgetStrategy;

const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// Evictions that the budget's controller has not confirmed yet.
const MAX_DISRUPTED: usize = 2000;

pub(crate) struct Evict {
    pub(crate) pods: Weak<Registry<PodStrategy>>,
    pub(crate) budgets: Arc<Registry<PodDisruptionBudgetStrategy>>,
}

#[async_trait::async_trait]
impl SubresourceHandler for Evict {
    async fn handle(&self, ctx: &RequestContext, name: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let pods = self.pods.upgrade().ok_or_else(|| Status::service_unavailable("the server is shutting down"))?;
        let dry_run = define::is_dry_run(&request);
        let eviction = read(define::body(request).await?)?;
        if eviction.metadata.name.as_deref().unwrap_or("") != name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let mut options = options(eviction.delete_options.as_ref(), dry_run)?;
        let ctx = &RequestContext { subresource: None, ..ctx.clone() };
        let pod = pods.get_typed(ctx, name).await?;
        let namespace = ctx.namespace.as_deref();
        let verdict = match ignores_budgets(&pod) {
            true => Verdict::Delete,
            false => verdict(&pod, self.budgets.list_typed(namespace).await?)?,
        };
        let mut pinned = None;
        match verdict {
            Verdict::Delete => {}
            Verdict::DeleteThis(budget) => {
                if options.resource_version.is_none() {
                    options.resource_version.clone_from(&pod.metadata.resource_version);
                    pinned = Some(budget);
                }
            }
            Verdict::Ask(budget) => self.take(ctx, &budget, name, options.dry_run).await?,
        }
        if !options.dry_run && pinned.is_none() {
            let uid = pod.metadata.uid.clone();
            let marked = pods.update_with(ctx, name, |pod| {
                if pod.metadata.uid == uid {
                    mark(pod);
                }
                Ok(())
            });
            match marked.await {
                Err(status) if status.reason != Reason::NotFound => return Err(status),
                _ => {}
            }
        }
        match pods.delete(ctx, name, options).await {
            // The pod is not what was judged: it may be ready by now.
            Err(status) if status.reason == Reason::Conflict && pinned.is_some() => {
                return Err(too_many(still_processed(&pinned.unwrap_or_default()), 10));
            }
            other => other?,
        };
        let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        define::answer(StatusCode::CREATED, &success)
    }
}

impl Evict {
    async fn take(&self, ctx: &RequestContext, budget: &str, pod: &str, dry_run: bool) -> Result<(), Status> {
        let gvr = Gvr::of("policy", "v1", "poddisruptionbudgets");
        let ctx = &RequestContext { gvr, ..ctx.clone() };
        if dry_run {
            return take_one(&mut self.budgets.get_typed(ctx, budget).await?, pod, define::now());
        }
        self.budgets.update_with(ctx, budget, |budget| take_one(budget, pod, define::now())).await.map(drop)
    }
}

/// Of either version that upstream takes: v1beta1, which kubectl before 1.22 drains with, outlived the rest of its group.
fn read(mut body: Value) -> Result<Eviction, Status> {
    if !body.is_object() {
        return Err(Status::bad_request("the body does not decode: it is no object"));
    }
    match body["apiVersion"].as_str().unwrap_or_default() {
        "" | "policy/v1" | "policy/v1beta1" => {}
        other => {
            return Err(Status::bad_request(format!(
                "the API version in the data ({other}) does not match the expected API version (policy/v1)"
            )));
        }
    }
    body["apiVersion"] = "policy/v1".into();
    body["kind"] = "Eviction".into();
    decode_value(&body).map_err(|error| Status::bad_request(format!("the body does not decode: {error}")))
}

fn options(asked: Option<&Asked>, dry_run: bool) -> Result<DeleteOptions, Status> {
    let Some(asked) = asked else { return Ok(DeleteOptions { dry_run, ..DeleteOptions::default() }) };
    let preconditions = asked.preconditions.as_ref();
    let propagation = match asked.propagation_policy.as_deref() {
        None => None,
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Orphan") => Some(Propagation::Orphan),
        Some(other) => return Err(Status::bad_request(format!("propagationPolicy {other:?} is not supported"))),
    };
    Ok(DeleteOptions {
        dry_run: dry_run || asked.dry_run.iter().flatten().any(|part| part == "All"),
        grace_period_seconds: asked.grace_period_seconds,
        propagation,
        uid: preconditions.and_then(|asked| asked.uid.clone()),
        resource_version: preconditions.and_then(|asked| asked.resource_version.clone()),
    })
}

/// It serves nobody: its end disrupts nothing.
fn ignores_budgets(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("");
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, "Succeeded" | "Failed" | "Pending")
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Delete,
    /// Only as it is now; names the budget that allows it.
    DeleteThis(String),
    /// The named budget has the last word.
    Ask(String),
}

/// Pure: what the budgets of the pod's namespace make of its eviction.
fn verdict(pod: &Pod, budgets: Vec<PodDisruptionBudget>) -> Result<Verdict, Status> {
    let labels = pod.metadata.labels.as_ref();
    let covers = |budget: &PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        LabelSelector::from_typed(selector).is_ok_and(|selector| selector.matches_labels(labels))
    };
    let labelled = labels.is_some_and(|labels| !labels.is_empty());
    let mut covering = budgets.into_iter().filter(|budget| labelled && covers(budget));
    let Some(budget) = covering.next() else { return Ok(Verdict::Delete) };
    if covering.next().is_some() {
        return Err(Status::new(
            Reason::InternalError,
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let name = budget.metadata.name.clone().unwrap_or_default();
    if !api::pod::conditions::is_pod_ready(pod) {
        let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
        let status = budget.status.unwrap_or_default();
        let (have, want) = (status.current_healthy.unwrap_or(0), status.desired_healthy.unwrap_or(0));
        if policy == Some("AlwaysAllow") || (have >= want && want > 0) {
            return Ok(Verdict::DeleteThis(name));
        }
    }
    Ok(Verdict::Ask(name))
}

/// Pure: the budget with one disruption less, the pod among those about to go.
fn take_one(budget: &mut PodDisruptionBudget, pod: &str, now: Time) -> Result<(), Status> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let generation = budget.metadata.generation.unwrap_or(0);
    let status = budget.status.get_or_insert_default();
    if status.observed_generation.unwrap_or(0) < generation {
        return Err(too_many(still_processed(&name), 10));
    }
    let gvr = Gvr::of("policy", "", "poddisruptionbudget");
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if allowed < 0 {
        return Err(Status::forbidden(&gvr, &name, "pdb disruptions allowed is negative"));
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        let message = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&gvr, &name, message));
    }
    if allowed == 0 {
        return Err(too_many(denied(&name, status), 0));
    }
    status.disruptions_allowed = Some(allowed - 1);
    if allowed == 1 {
        let found = status.conditions.iter_mut().flatten().find(|condition| condition.type_ == "DisruptionAllowed");
        if let Some(condition) = found.filter(|condition| condition.status != "False") {
            condition.status = "False".to_owned();
            condition.reason = "InsufficientPods".to_owned();
            condition.last_transition_time = now.clone();
            condition.observed_generation = status.observed_generation;
        }
    }
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), now);
    Ok(())
}

fn denied(name: &str, status: &PodDisruptionBudgetStatus) -> String {
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|condition| condition.type_ == "DisruptionAllowed");
    let condition = condition.filter(|condition| condition.status == "False" && !condition.message.is_empty());
    let (have, want) = (status.current_healthy.unwrap_or(0), status.desired_healthy.unwrap_or(0));
    match condition {
        // The counts are not to be trusted then.
        Some(failed) if failed.reason == "SyncFailed" => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            failed.message
        ),
        _ if have <= want => format!("The disruption budget {name} needs {want} healthy pods and has {have} currently"),
        Some(other) => format!(
            "The disruption budget {name} does not allow evicting pods currently ({}): {}",
            other.reason, other.message
        ),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

fn still_processed(name: &str) -> String {
    format!("The disruption budget {name} is still being processed by the server.")
}

fn too_many(cause: String, retry_after_seconds: u32) -> Status {
    let mut status = Status::too_many_requests(REFUSED, retry_after_seconds).with_causes(vec![Cause {
        reason: "DisruptionBudget".into(),
        message: cause,
        field: String::new(),
    }]);
    if retry_after_seconds == 0 {
        status.details.get_or_insert_default().retry_after_seconds = None;
    }
    status
}

/// Whoever counts this pod's end knows that it did not fail of itself.
fn mark(pod: &mut Pod) {
    let target = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    };
    api::pod::set_condition(pod.status.get_or_insert_default(), target, define::now().0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: bool) -> Pod {
        let ready = if ready { "True" } else { "False" };
        serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}))
        .expect("a pod")
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"a": "b"}});
        serde_json::from_value(json!({"metadata": {"name": "x", "generation": 1}, "spec": spec, "status": status}))
            .expect("a budget")
    }

    fn cause(status: &Status) -> String {
        status.details.as_ref().expect("details").causes[0].message.clone()
    }

    #[test]
    fn evictions_of_both_versions_are_read() {
        for version in ["policy/v1", "policy/v1beta1", ""] {
            let body = json!({"apiVersion": version, "kind": "Eviction", "metadata": {"name": "p"},
                "deleteOptions": {"gracePeriodSeconds": 3}});
            let read = read(body).expect("an eviction");
            assert_eq!(read.metadata.name.as_deref(), Some("p"), "{version}");
            assert_eq!(read.delete_options.and_then(|options| options.grace_period_seconds), Some(3), "{version}");
        }
        for (body, message) in [
            (
                json!({"apiVersion": "v1", "kind": "Eviction"}),
                "the API version in the data (v1) does not match the expected API version (policy/v1)",
            ),
            (json!({"metadata": {"name": 1}}), "the body does not decode: "),
            (json!([]), "the body does not decode: it is no object"),
        ] {
            let refused = read(body).expect_err(message);
            assert!(refused.code == 400 && refused.message.starts_with(message), "{}", refused.message);
        }
    }

    #[test]
    fn who_has_the_last_word() {
        let met = json!({"currentHealthy": 2, "desiredHealthy": 2});
        let short = json!({"currentHealthy": 1, "desiredHealthy": 2});
        let always = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        let this = || Verdict::DeleteThis("x".into());
        let ask = || Verdict::Ask("x".into());
        let table = [
            (true, json!({}), met.clone(), ask()),
            (false, json!({}), met, this()),
            (false, json!({}), short.clone(), ask()),
            (false, always, short, this()),
        ];
        for (ready, spec, status, expected) in table {
            let found = verdict(&pod(ready), vec![budget(spec.clone(), status.clone())]).expect("a verdict");
            assert_eq!(found, expected, "{ready} {spec} {status}");
        }
        assert_eq!(verdict(&pod(true), Vec::new()), Ok(Verdict::Delete));
        let twice = vec![budget(json!({}), json!({})), budget(json!({}), json!({}))];
        assert_eq!(verdict(&pod(true), twice).expect_err("two").code, 500);
        let mut ended = pod(true);
        ended.status.as_mut().expect("a status").phase = Some("Succeeded".into());
        assert!(ignores_budgets(&ended) && !ignores_budgets(&pod(true)));
    }

    #[test]
    fn one_disruption_is_taken_at_a_time() {
        let mut open = budget(
            json!({}),
            json!({"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
            "desiredHealthy": 1}),
        );
        take_one(&mut open, "p", define::now()).expect("taken");
        let status = open.status.clone().expect("a status");
        assert_eq!(status.disruptions_allowed, Some(0));
        assert!(status.disrupted_pods.expect("pods").contains_key("p"));
        let refused = take_one(&mut open, "q", define::now()).expect_err("none left");
        assert_eq!((refused.code, refused.message.as_str()), (429, REFUSED));
        assert_eq!(cause(&refused), "The disruption budget x does not allow evicting pods currently");
        let mut fresh = budget(json!({}), json!({}));
        let refused = take_one(&mut fresh, "p", define::now()).expect_err("not seen yet");
        assert_eq!(cause(&refused), "The disruption budget x is still being processed by the server.");
        assert_eq!(refused.details.expect("details").retry_after_seconds, Some(10));
        let mut short = budget(json!({}), json!({"observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 1}));
        let refused = take_one(&mut short, "p", define::now()).expect_err("short");
        assert_eq!(cause(&refused), "The disruption budget x needs 1 healthy pods and has 1 currently");
    }
}
