//! `pods/binding`: gives a pod to a node, once.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use base_meta::field::{self, Path};
use base_meta::{Gvk, Gvr, Status};
use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use machinery_registry::{Body, Registry, RequestContext, Resource as _, SubresourceHandler};
use serde_json::json;

use super::PodStrategy;
use crate::core::node::NodeStrategy;
use crate::define;

#[derive(Clone)]
pub(crate) struct Bind {
    pub(crate) pods: Weak<Registry<PodStrategy>>,
    pub(crate) nodes: Arc<Registry<NodeStrategy>>,
}

#[async_trait::async_trait]
impl SubresourceHandler for Bind {
    async fn handle(&self, ctx: &RequestContext, name: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let dry_run = define::is_dry_run(&request);
        let binding: Binding = define::body(request).await?;
        self.bind(ctx, name, binding, dry_run).await?;
        let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        define::answer(StatusCode::CREATED, &success)
    }
}

impl Bind {
    pub(crate) async fn bind(
        &self,
        ctx: &RequestContext,
        name: &str,
        mut binding: Binding,
        dry_run: bool,
    ) -> Result<(), Status> {
        let pods = self.pods.upgrade().ok_or_else(|| Status::service_unavailable("the server is shutting down"))?;
        check(&binding, name)?;
        let node = binding.target.name.clone().unwrap_or_default();
        let of_nodes = RequestContext { gvr: self.nodes.def().gvr(), namespace: None, ..ctx.clone() };
        if let Ok(node) = self.nodes.get(&of_nodes, &node, "0").await {
            locate(&mut binding, &node.meta.labels);
        }
        if dry_run {
            let mut pod = pods.get_typed(ctx, name).await?;
            return assign(&mut pod, &binding, name);
        }
        pods.update_with(ctx, name, |pod| assign(pod, &binding, name)).await.map(drop)
    }
}

/// The pod is to say where its node is: upstream's PodTopologyLabels.
fn locate(binding: &mut Binding, node: &BTreeMap<Arc<str>, Arc<str>>) {
    for label in ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"] {
        if let Some(value) = node.get(label) {
            let labels = binding.metadata.labels.get_or_insert_default();
            labels.entry(label.to_owned()).or_insert_with(|| value.to_string());
        }
    }
}

fn check(binding: &Binding, name: &str) -> Result<(), Status> {
    let said = binding.metadata.name.as_deref().unwrap_or("");
    if !said.is_empty() && said != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let path = Path::new("target");
    let mut errors = Vec::new();
    let kind = binding.target.kind.as_deref().unwrap_or("");
    if !matches!(kind, "" | "Node") {
        errors.push(field::Error::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding.target.name.as_deref().is_none_or(str::is_empty) {
        errors.push(field::Error::required(&path.child("name"), ""));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&Gvk::of("", "v1", "Binding"), name, &errors)) }
}

/// Pure: the pod as it is once bound.
fn assign(pod: &mut Pod, binding: &Binding, name: &str) -> Result<(), Status> {
    let conflict = |message: String| Status::conflict(&Gvr::of("", "v1", "pods/binding"), name, &message);
    if let Some(uid) = binding.metadata.uid.as_deref().filter(|uid| !uid.is_empty()) {
        let have = pod.metadata.uid.as_deref().unwrap_or("");
        if have != uid {
            return Err(conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {have}"
            )));
        }
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Err(conflict(format!("pod {name} is already assigned to node {node:?}")));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    spec.node_name.clone_from(&binding.target.name);
    let annotations = binding.metadata.annotations.iter().flatten();
    for (key, value) in annotations {
        pod.metadata.annotations.get_or_insert_default().insert(key.clone(), value.clone());
    }
    for (key, value) in binding.metadata.labels.iter().flatten() {
        pod.metadata.labels.get_or_insert_default().insert(key.clone(), value.clone());
    }
    let scheduled = PodCondition {
        type_: api::pod::conditions::POD_SCHEDULED.to_owned(),
        status: "True".to_owned(),
        ..PodCondition::default()
    };
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
    api::pod::set_condition(pod.status.get_or_insert_default(), scheduled, now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn binding(value: Value) -> Binding {
        serde_json::from_value(value).expect("a binding")
    }

    #[test]
    fn a_pod_is_given_away_once() {
        let to = binding(json!({"metadata": {"annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}}));
        let mut pod: Pod = serde_json::from_value(json!({"spec": {"containers": []}})).expect("a pod");
        assign(&mut pod, &to, "p").expect("bound");
        assert_eq!(pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()), Some("n1"));
        let status = pod.status.as_ref().expect("a status");
        assert_eq!(api::pod::conditions::condition(status, "PodScheduled").expect("there").status, "True");
        let again = assign(&mut pod, &to, "p").expect_err("bound already");
        assert_eq!(again.code, 409);
        assert_eq!(
            again.message,
            "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
        );
    }

    #[test]
    fn a_bound_pod_says_where_its_node_is() {
        let mut to =
            binding(json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "own"}}, "target": {"name": "n"}}));
        let node = [("topology.kubernetes.io/zone", "z"), ("topology.kubernetes.io/region", "r"), ("other", "x")];
        locate(&mut to, &node.into_iter().map(|(key, value)| (Arc::from(key), Arc::from(value))).collect());
        let mut pod: Pod = serde_json::from_value(json!({"spec": {"containers": []}})).expect("a pod");
        assign(&mut pod, &to, "p").expect("bound");
        assert_eq!(
            json!(pod.metadata.labels),
            json!({"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "own"})
        );
    }

    #[test]
    fn what_cannot_be_bound() {
        let to = binding(json!({"metadata": {"uid": "2"}, "target": {"name": "n1"}}));
        for value in [
            json!({"metadata": {"uid": "1"}, "spec": {"containers": []}}),
            json!({"metadata": {"uid": "2", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": []}}),
            json!({"metadata": {"uid": "2"}, "spec": {"containers": [], "schedulingGates": [{"name": "g"}]}}),
        ] {
            let mut pod: Pod = serde_json::from_value(value.clone()).expect("a pod");
            assert_eq!(assign(&mut pod, &to, "p").expect_err("refused").code, 409, "{value}");
        }
    }

    #[test]
    fn bad_bindings() {
        let table = [
            (json!({"target": {"kind": "Pod", "name": "x"}}), 422),
            (json!({"target": {"kind": "Node"}}), 422),
            (json!({"metadata": {"name": "other"}, "target": {"name": "x"}}), 400),
        ];
        for (value, code) in table {
            assert_eq!(check(&binding(value.clone()), "p").expect_err("refused").code, code, "{value}");
        }
    }
}
