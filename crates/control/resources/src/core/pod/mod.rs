//! Pods: their strategy. What they print is in [`row`], their subresources beside it.

pub(crate) mod binding;
pub(crate) mod eviction;
mod row;
pub(crate) mod streams;

use base_meta::{Gvk, field};
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, PodStatus};
use machinery_registry::strategy::Graceful;
use machinery_registry::{DeleteOptions, RequestContext, ResourceDef, Strategy, Verb};
use serde_json::Value;

use crate::define;

const FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

const CONNECT: &[Verb] = &[Verb::Create, Verb::Get];

pub struct PodStrategy;

impl Strategy for PodStrategy {
    type Object = Pod;

    fn def(&self) -> ResourceDef {
        let core = |kind| Gvk::of("", "v1", kind);
        ResourceDef {
            answers_deleted: true,
            short_names: &["po"],
            categories: &["all"],
            subresources: vec![
                define::subresource("attach", core("PodAttachOptions"), CONNECT),
                define::subresource("binding", core("Binding"), &[Verb::Create]),
                define::subresource("ephemeralcontainers", core("Pod"), define::READ_AND_CHANGE),
                define::subresource("eviction", Gvk::of("policy", "v1", "Eviction"), &[Verb::Create]),
                define::subresource("exec", core("PodExecOptions"), CONNECT),
                define::subresource("log", core("Pod"), &[Verb::Get]),
                define::subresource("portforward", core("PodPortForwardOptions"), CONNECT),
                define::subresource("proxy", core("PodProxyOptions"), define::PROXY),
                define::subresource("resize", core("Pod"), define::READ_AND_CHANGE),
                define::status::<Pod>(),
            ],
            fields: FIELDS,
            ..define::resource::<Pod>("pods", "pod", row::COLUMNS)
        }
    }

    fn default(&self, object: &mut Pod) {
        api::defaults::pod(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _: &RequestContext, object: &mut Pod) {
        let mut status = PodStatus { phase: Some("Pending".to_owned()), ..PodStatus::default() };
        if let Some(spec) = &object.spec {
            status.qos_class = Some(api::pod::qos_class(spec).to_owned());
            if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
                let gated = PodCondition {
                    type_: api::pod::conditions::POD_SCHEDULED.to_owned(),
                    status: "False".to_owned(),
                    reason: Some("SchedulingGated".to_owned()),
                    message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
                    ..PodCondition::default()
                };
                status.conditions = Some(vec![gated]);
            }
        }
        object.status = Some(status);
    }

    /// Of each subresource its own part; the rest of the pod stays as it is.
    fn prepare_for_update(&self, ctx: &RequestContext, new: &mut Pod, old: &Pod) {
        match ctx.subresource.as_deref() {
            Some("ephemeralcontainers") => {
                let asked = new.spec.take().and_then(|spec| spec.ephemeral_containers);
                new.spec.clone_from(&old.spec);
                new.spec.get_or_insert_default().ephemeral_containers = asked;
                keep_metadata(new, old);
            }
            Some("resize") => {
                resized(new, old);
                keep_metadata(new, old);
            }
            _ => {}
        }
    }

    fn validate(&self, _: &RequestContext, object: &Pod) -> Vec<field::Error> {
        api::validation::pod::pod_create(object)
    }

    fn validate_update(&self, ctx: &RequestContext, new: &Pod, old: &Pod) -> Vec<field::Error> {
        match ctx.subresource.as_deref() {
            Some("ephemeralcontainers") => api::validation::pod_subresources::ephemeral_containers_update(new, old),
            Some("resize") => api::validation::pod_subresources::resize(new, old),
            _ => api::validation::pod_update::pod_update(new, old),
        }
    }

    fn validate_status_update(&self, _: &RequestContext, new: &Pod, old: &Pod) -> Vec<field::Error> {
        api::validation::pod_update::pod_status_update(new, old)
    }

    /// A pod that no agent runs, or that has ended, goes at once; any other when its agent says so.
    fn graceful(&self, _: &RequestContext, object: &Pod, options: &mut DeleteOptions) -> Graceful {
        let spec = object.spec.as_ref();
        let own = spec.and_then(|spec| spec.termination_grace_period_seconds);
        let asked = options.grace_period_seconds.or(own).unwrap_or(0);
        let scheduled = spec.and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
        let seconds = match asked {
            _ if !scheduled || api::pod::is_terminal(object) => 0,
            ..0 => 1,
            seconds => seconds,
        };
        options.grace_period_seconds = Some(seconds);
        Graceful::Yes { grace_period_seconds: seconds }
    }

    fn selectable(&self, object: &Pod) -> Vec<(&'static str, String)> {
        let said = |slot: Option<&String>| slot.cloned().unwrap_or_default();
        let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
        let ips = status.iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|ip| ip.ip.as_str());
        let values = [
            said(spec.and_then(|spec| spec.node_name.as_ref())),
            said(spec.and_then(|spec| spec.restart_policy.as_ref())),
            said(spec.and_then(|spec| spec.scheduler_name.as_ref())),
            said(spec.and_then(|spec| spec.service_account_name.as_ref())),
            (spec.and_then(|spec| spec.host_network) == Some(true)).to_string(),
            said(status.and_then(|status| status.phase.as_ref())),
            said(status.and_then(|status| status.pod_ip.as_ref())),
            ips.collect::<Vec<_>>().join(","),
            said(status.and_then(|status| status.nominated_node_name.as_ref())),
        ];
        FIELDS.iter().copied().zip(values).collect()
    }

    fn row(&self, object: &Pod) -> Vec<Value> {
        row::row(object)
    }
}

fn keep_metadata(new: &mut Pod, old: &Pod) {
    let (metadata, old) = (&mut new.metadata, &old.metadata);
    metadata.labels.clone_from(&old.labels);
    metadata.annotations.clone_from(&old.annotations);
    metadata.owner_references.clone_from(&old.owner_references);
    metadata.finalizers.clone_from(&old.finalizers);
}

/// Only what the containers may use is taken; where they are others, validation tells.
fn resized(new: &mut Pod, old: &Pod) {
    let Some(asked) = new.spec.take() else { return };
    let mut spec = old.spec.clone().unwrap_or_default();
    let init = |spec: &PodSpec| spec.init_containers.clone().unwrap_or_default();
    let (asked_init, old_init) = (init(&asked), init(&spec));
    let same = |one: &[Container], other: &[Container]| {
        one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.name == other.name)
    };
    if !same(&asked.containers, &spec.containers) || !same(&asked_init, &old_init) {
        new.spec = Some(asked);
        return;
    }
    let take = |container: &mut Container, asked: &Container| {
        container.resources.clone_from(&asked.resources);
        container.resize_policy.clone_from(&asked.resize_policy);
    };
    spec.containers.iter_mut().zip(&asked.containers).for_each(|(container, asked)| take(container, asked));
    spec.init_containers.iter_mut().flatten().zip(&asked_init).for_each(|(container, asked)| take(container, asked));
    new.spec = Some(spec);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn ctx() -> RequestContext {
        RequestContext {
            user: Arc::default(),
            gvr: PodStrategy.def().gvr(),
            subresource: None,
            namespace: None,
            warnings: Default::default(),
        }
    }

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).expect("a pod")
    }

    #[test]
    fn a_new_pod_is_pending_whatever_its_maker_says() {
        let mut made = pod(json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"phase": "Running"}}));
        PodStrategy.prepare_for_create(&ctx(), &mut made);
        let status = made.status.expect("a status");
        assert_eq!(status.phase.as_deref(), Some("Pending"));
        assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
        assert_eq!(status.conditions, None);
    }

    #[test]
    fn grace_periods() {
        let running = json!({"spec": {"nodeName": "n", "containers": [], "terminationGracePeriodSeconds": 30}});
        let ended = json!({"spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Failed"}});
        let waiting = json!({"spec": {"containers": [], "terminationGracePeriodSeconds": 30}});
        let table = [
            (&running, None, 30),
            (&running, Some(5), 5),
            (&running, Some(0), 0),
            (&running, Some(-3), 1),
            (&ended, Some(30), 0),
            (&waiting, None, 0),
        ];
        for (value, asked, expected) in table {
            let mut options = DeleteOptions { grace_period_seconds: asked, ..DeleteOptions::default() };
            let graceful = PodStrategy.graceful(&ctx(), &pod(value.clone()), &mut options);
            assert_eq!(graceful, Graceful::Yes { grace_period_seconds: expected }, "{value} {asked:?}");
            assert_eq!(options.grace_period_seconds, Some(expected));
        }
    }

    #[test]
    fn fields_can_be_selected() {
        let made =
            pod(json!({"spec": {"nodeName": "n", "containers": []}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}}));
        let fields = PodStrategy.selectable(&made);
        assert_eq!(fields.iter().map(|(name, _)| *name).collect::<Vec<_>>(), FIELDS);
        assert!(fields.contains(&("spec.nodeName", "n".into())));
        assert!(fields.contains(&("spec.hostNetwork", "false".into())));
        assert!(fields.contains(&("status.podIPs", "10.0.0.1".into())));
    }
}
