//! PodSecurity: pods, and what makes pods, held against the levels that the labels of their namespace ask for. What is
//! enforced refuses pods alone; what is warned of is told of their makers as well.

mod baseline;
mod checks;
mod levels;
mod restricted;
mod subject;

use std::collections::BTreeMap;
use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::Value;

use self::checks::findings;
use self::levels::{Level, PRIVILEGED, Policy, Standard, policy};
use self::subject::{Finding, Subject};
use super::late::Fresh;
use super::{Late, aggregate, forbidden, is, items, text};

/// More are not looked at when a namespace changes its level.
const MOST_PODS: usize = 3000;
/// These change nothing of a pod that any check looks at.
const QUIET: [&str; 8] = ["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status"];

pub(super) struct PodSecurity {
    pub(super) namespaces: Arc<Late>,
    pub(super) pods: Arc<Late>,
}

#[async_trait::async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        if !matches!(operation, Operation::Create | Operation::Update) {
            return false;
        }
        match subresource {
            None => is(gvr, "", "pods") || is(gvr, "", "namespaces") || template(gvr).is_some(),
            Some(name) => is(gvr, "", "pods") && !QUIET.contains(&name),
        }
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        if is(attributes.gvr, "", "namespaces") {
            return self.namespace(attributes, object).await;
        }
        let Some(namespace) = attributes.ctx.namespace.as_deref() else { return Ok(()) };
        let Some(found) = self.namespaces.find(attributes.ctx, None, namespace).await? else { return Ok(()) };
        let (policy, errors) = policy(&found.meta.labels);
        let open = errors.is_empty() && policy.is_privileged();
        match template(attributes.gvr) {
            None if open => {
                annotate(attributes, "enforce-policy", PRIVILEGED);
                Ok(())
            }
            Some(_) if open => Ok(()),
            None => {
                if attributes.old.is_some_and(|old| !significant(object, old)) {
                    return Ok(());
                }
                unreadable(attributes, &errors);
                pod(attributes, &policy, object)
            }
            Some(pointer) => {
                if let Some(template) = object.pointer(pointer) {
                    unreadable(attributes, &errors);
                    audit(attributes, &policy, template);
                    warn(attributes, &policy, template);
                }
                Ok(())
            }
        }
    }
}

/// Where the kinds that make pods keep their template.
fn template(gvr: &Gvr) -> Option<&'static str> {
    match (&*gvr.group, &*gvr.resource) {
        ("", "podtemplates") => Some("/template"),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some("/spec/template"),
        ("batch", "cronjobs") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

fn subject(pod: &Value) -> Subject<'_> {
    const NOTHING: &Value = &Value::Null;
    Subject { metadata: pod.get("metadata").unwrap_or(NOTHING), spec: pod.get("spec").unwrap_or(NOTHING) }
}

fn told(standard: Standard, found: &[Finding]) -> String {
    let all: Vec<String> = found.iter().map(|one| format!("{} ({})", one.reason, one.detail)).collect();
    format!("violate PodSecurity \"{standard}\": {}", all.join(", "))
}

fn pod(attributes: &Attributes<'_>, policy: &Policy, pod: &Value) -> Result<(), Status> {
    annotate(attributes, "enforce-policy", policy.enforce);
    audit(attributes, policy, pod);
    let found = findings(policy.enforce, &subject(pod));
    if !found.is_empty() {
        let message = told(policy.enforce, &found).replacen("violate", "violates", 1);
        return Err(forbidden(attributes, Some(pod), &message));
    }
    warn(attributes, policy, pod);
    Ok(())
}

fn annotate(attributes: &Attributes<'_>, name: &str, value: impl std::fmt::Display) {
    attributes.ctx.warnings.annotate(format!("pod-security.kubernetes.io/{name}"), value.to_string());
}

fn unreadable(attributes: &Attributes<'_>, errors: &[base_meta::field::Error]) {
    if let Some(errors) = aggregate(errors.iter().map(ToString::to_string).collect()) {
        annotate(attributes, "error", format_args!("Failed to parse policy: {errors}"));
    }
}

fn audit(attributes: &Attributes<'_>, policy: &Policy, pod: &Value) {
    let found = findings(policy.audit, &subject(pod));
    if !found.is_empty() {
        annotate(attributes, "audit-violations", format_args!("would {}", told(policy.audit, &found)));
    }
}

fn warn(attributes: &Attributes<'_>, policy: &Policy, pod: &Value) {
    let found = findings(policy.warn, &subject(pod));
    if !found.is_empty() {
        attributes.ctx.warnings.add(format!("would {}", told(policy.warn, &found)));
    }
}

/// Whether an update changes what may be changed and is looked at: images, and annotations of seccomp.
fn significant(new: &Value, old: &Value) -> bool {
    const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/";
    let annotations = |pod: &Value| -> BTreeMap<String, Value> {
        let all = pod.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten();
        let seccomp = all.filter(|(key, _)| key.contains(SECCOMP));
        seccomp.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let images = |pod: &Value, list: &str| -> Vec<(String, String)> {
        let all = items(pod, &format!("/spec/{list}"));
        all.map(|one| (text(one, "/name").to_owned(), text(one, "/image").to_owned())).collect()
    };
    let changed = |list: &&str| images(new, list) != images(old, list);
    annotations(new) != annotations(old) || ["containers", "initContainers", "ephemeralContainers"].iter().any(changed)
}

impl PodSecurity {
    /// Its labels can be read; and if they forbid what runs in it by now, that is told.
    async fn namespace(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let (new, errors) = policy(&labels(object));
        let before = attributes.old.map(|old| policy(&labels(old)));
        let texts = |errors: &[base_meta::field::Error]| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        let known = before.as_ref().is_some_and(|(_, before)| texts(before) == texts(&errors));
        if !errors.is_empty() && !known {
            return Err(Status::invalid(attributes.gvk, text(object, "/metadata/name"), &errors));
        }
        let Some((old, _)) = before else { return Ok(()) };
        let relaxed = new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
        if new.enforce == old.enforce || new.enforce.level == Level::Privileged || relaxed {
            return Ok(());
        }
        let name = text(object, "/metadata/name");
        let pods = self.pods.list(attributes.ctx, Some(name), Fresh::Cached).await?;
        let mut by_reason: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for pod in pods.iter().take(MOST_PODS) {
            let value = pod.to_value().map_err(Status::internal)?;
            let found = findings(new.enforce, &subject(&value));
            if !found.is_empty() {
                let reasons = found.into_iter().map(|one| one.reason).collect::<Vec<_>>().join(", ");
                by_reason.entry(reasons).or_insert_with(|| (pod.meta.name.to_string(), 0)).1 += 1;
            }
        }
        let warnings = &attributes.ctx.warnings;
        if pods.len() > MOST_PODS {
            let total = pods.len();
            warnings.add(format!(
                "new PodSecurity enforce level only checked against the first {MOST_PODS} of {total} existing pods"
            ));
        }
        if !by_reason.is_empty() {
            let level = new.enforce;
            warnings.add(format!(
                "existing pods in namespace {name:?} violate the new PodSecurity enforce level \"{level}\""
            ));
        }
        let mut all: Vec<String> = by_reason
            .into_iter()
            .map(|(reason, (pod, count))| match count {
                1 => format!("{pod}: {reason}"),
                2 => format!("{pod} (and 1 other pod): {reason}"),
                _ => format!("{pod} (and {} other pods): {reason}", count - 1),
            })
            .collect();
        all.sort();
        all.into_iter().for_each(|one| warnings.add(one));
        Ok(())
    }
}

fn labels(namespace: &Value) -> BTreeMap<Arc<str>, Arc<str>> {
    let all = namespace.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(key, value)| Some((Arc::from(key.as_str()), Arc::from(value.as_str()?)))).collect()
}

#[cfg(test)]
mod tests {
    use base_meta::Reason;
    use serde_json::json;

    use super::super::testing::{Asked, objects};
    use super::*;

    fn plugin(labels: Value, pods: &[Value]) -> PodSecurity {
        let namespace = json!({"metadata": {"name": "a", "labels": labels}});
        PodSecurity { namespaces: objects(&[namespace]), pods: objects(pods) }
    }

    fn shared(name: &str) -> Value {
        json!({"metadata": {"namespace": "a", "name": name}, "spec": {"hostNetwork": true}})
    }

    const REFUSED: &str =
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    const WARNED: &str = "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";

    #[tokio::test]
    async fn pods_are_refused_and_their_makers_warned() {
        let table = [
            (json!({}), "pods", None, vec![]),
            (json!({"pod-security.kubernetes.io/enforce": "baseline"}), "pods", Some(REFUSED), vec![]),
            (json!({"pod-security.kubernetes.io/warn": "baseline"}), "pods", None, vec![WARNED.to_owned()]),
            (json!({"pod-security.kubernetes.io/enforce": "baseline"}), "replicationcontrollers", None, vec![]),
            (
                json!({"pod-security.kubernetes.io/warn": "baseline"}),
                "replicationcontrollers",
                None,
                vec![WARNED.to_owned()],
            ),
        ];
        for (labels, resource, refused, warned) in table {
            let plugin = plugin(labels, &[]);
            let asked = Asked::new(Gvr::of("", "v1", resource), "a", "p", Operation::Create);
            let object = if resource == "pods" { shared("p") } else { json!({"spec": {"template": shared("")}}) };
            assert!(plugin.handles(&Gvr::of("", "v1", resource), None, Operation::Create));
            let done = plugin.validate(&asked.attributes(None), Some(&object)).await;
            assert_eq!(done.err().map(|status| status.message).as_deref(), refused);
            assert_eq!(asked.warnings(), warned);
        }
    }

    #[tokio::test]
    async fn the_audit_log_is_told_what_was_enforced_and_what_is_not_well() {
        let key = |name: &str| format!("pod-security.kubernetes.io/{name}");
        let audited = json!({key("enforce"): "privileged", key("enforce-version"): "v1.30", key("audit"): "baseline"});
        let violations = (key("audit-violations"), WARNED.to_owned());
        let error = "Failed to parse policy: metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"x\": \
                     must be one of privileged, baseline, restricted";
        let table = [
            (json!({}), "pods", vec![(key("enforce-policy"), "privileged:latest".to_owned())]),
            (json!({}), "replicationcontrollers", vec![]),
            (audited.clone(), "pods", vec![violations.clone(), (key("enforce-policy"), "privileged:v1.30".to_owned())]),
            (audited, "replicationcontrollers", vec![violations]),
            (
                json!({key("enforce"): "baseline", key("warn"): "x"}),
                "pods",
                vec![(key("enforce-policy"), "baseline:latest".to_owned()), (key("error"), error.to_owned())],
            ),
        ];
        for (labels, resource, expected) in table {
            let plugin = plugin(labels, &[]);
            let asked = Asked::new(Gvr::of("", "v1", resource), "a", "p", Operation::Create);
            let object = if resource == "pods" { shared("p") } else { json!({"spec": {"template": shared("")}}) };
            // Refused or not, it is told.
            drop(plugin.validate(&asked.attributes(None), Some(&object)).await);
            assert_eq!(asked.told().take_annotations(false).into_iter().collect::<Vec<_>>(), expected, "{resource}");
        }
    }

    #[tokio::test]
    async fn an_update_is_judged_by_what_it_may_change() {
        let plugin = plugin(json!({"pod-security.kubernetes.io/enforce": "baseline"}), &[]);
        let asked = Asked::new(Gvr::of("", "v1", "pods"), "a", "p", Operation::Update);
        let pod = |image: &str| json!({"spec": {"hostNetwork": true, "containers": [{"name": "c", "image": image}]}});
        let old = pod("one");
        assert_eq!(plugin.validate(&asked.attributes(Some(&old)), Some(&pod("one"))).await, Ok(()));
        assert!(plugin.validate(&asked.attributes(Some(&old)), Some(&pod("two"))).await.is_err());
        assert!(!plugin.handles(&Gvr::of("", "v1", "pods"), Some("status"), Operation::Update));
        assert!(plugin.handles(&Gvr::of("", "v1", "pods"), Some("ephemeralcontainers"), Operation::Update));
    }

    #[tokio::test]
    async fn a_namespace_says_what_it_means() {
        let plugin =
            plugin(json!({}), &[shared("b"), shared("c"), json!({"metadata": {"namespace": "a", "name": "d"}})]);
        let named =
            |level: &str| json!({"metadata": {"name": "a", "labels": {"pod-security.kubernetes.io/enforce": level}}});
        let asked = Asked::new(Gvr::of("", "v1", "namespaces"), "", "a", Operation::Update);
        let refused = plugin.validate(&asked.attributes(None), Some(&named("x"))).await.expect_err("refused");
        assert_eq!(refused.reason, Reason::Invalid);
        assert_eq!(plugin.validate(&asked.attributes(Some(&named("x"))), Some(&named("x"))).await, Ok(()), "known");
        let old = named("privileged");
        assert_eq!(plugin.validate(&asked.attributes(Some(&old)), Some(&named("baseline"))).await, Ok(()));
        assert_eq!(
            asked.warnings(),
            [
                "existing pods in namespace \"a\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "b (and 1 other pod): host namespaces"
            ]
        );
    }
}
