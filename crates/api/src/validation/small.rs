//! Namespaces, ServiceAccounts, Events and Leases.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, ServiceAccount};

use super::{Errors, formats, said};

pub fn namespace(namespace: &Namespace) -> Errors {
    let mut errors = Errors::new();
    let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    for (index, finalizer) in finalizers.enumerate() {
        let path = Path::new("spec").child("finalizers").index(index);
        formats::invalid(&path, finalizer, names::qualified_name(finalizer), &mut errors);
        if !finalizer.contains('/') && !matches!(finalizer.as_str(), "kubernetes" | "orphan" | "foregroundDeletion") {
            errors.push(Error::invalid(
                &path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    errors
}

/// A living namespace is Active, a deleted one Terminating.
pub fn namespace_status_update(new: &Namespace, _old: &Namespace) -> Errors {
    let path = Path::new("status").child("phase");
    let phase = new.status.as_ref().map_or("", |status| said(&status.phase));
    let problem = match (new.metadata.deletion_timestamp.is_some(), phase) {
        (false, "Active") | (true, "Terminating") => return Errors::new(),
        (false, _) => "may only be 'Active' if `deletionTimestamp` is empty",
        (true, _) => "may only be 'Terminating' if `deletionTimestamp` is not empty",
    };
    vec![Error::invalid(&path, phase, problem)]
}

/// Upstream checks nothing but metadata.
pub fn service_account(_account: &ServiceAccount) -> Errors {
    Errors::new()
}

/// An event lives where its object lives; one about a cluster-scoped object in `default`, or `kube-system` if asked.
pub fn event(event: &Event) -> Errors {
    lives_with_its_object(event, "reportingComponent")
}

/// One that came through events.k8s.io: in the new style, and nothing of the old.
pub fn new_event(event: &Event) -> Errors {
    let mut errors = lives_with_its_object(event, "reportingController");
    if event.event_time.is_none() {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    if !matches!(said(&event.type_), "Normal" | "Warning") {
        let message = format!("has invalid value: {}", said(&event.type_));
        errors.push(Error::invalid(&Path::new("type"), "", message));
    }
    let source = event.source.as_ref();
    let old = [
        ("firstTimestamp", event.first_timestamp.is_some()),
        ("lastTimestamp", event.last_timestamp.is_some()),
        ("count", event.count.unwrap_or(0) != 0),
        ("source", source.is_some_and(|source| !said(&source.component).is_empty() || !said(&source.host).is_empty())),
    ];
    for (name, _) in old.into_iter().filter(|(_, set)| *set) {
        errors.push(Error::invalid(&Path::new(name), "", "needs to be unset"));
    }
    errors
}

/// Of what an event in the new style says, only its series goes on.
pub fn new_event_update(new: &Event, old: &Event) -> Errors {
    let mut errors = new_event(new);
    let mut kept = |name: &str, new: serde_json::Value, old: serde_json::Value| {
        super::immutable(&new, &old, &Path::new(name), &mut errors);
    };
    let json = |event: &Event| super::json(event);
    let (new, old) = (json(new), json(old));
    for name in [
        "involvedObject",
        "reason",
        "message",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ] {
        let shown = if name == "reportingComponent" { "reportingController" } else { name };
        kept(shown, new[name].clone(), old[name].clone());
    }
    errors
}

fn lives_with_its_object(event: &Event, reporting: &str) -> Errors {
    let mut errors = Errors::new();
    let namespace = said(&event.metadata.namespace);
    let about = said(&event.involved_object.namespace);
    let path = Path::new("involvedObject").child("namespace");
    if about.is_empty() {
        if !matches!(namespace, "" | "default" | "kube-system") {
            errors.push(Error::invalid(&path, about, "does not match event.namespace"));
        }
    } else if about != namespace {
        errors.push(Error::invalid(&path, about, "does not match event.namespace"));
    }
    if event.event_time.is_some() {
        new_style_event(event, reporting, &mut errors);
    }
    errors
}

/// What `eventTime` brings with it: the events.k8s.io fields.
fn new_style_event(event: &Event, field: &str, errors: &mut Errors) {
    let reporting = said(&event.reporting_component);
    if reporting.is_empty() {
        errors.push(Error::required(&Path::new(field), ""));
    }
    formats::invalid(&Path::new(field), reporting, names::qualified_name(reporting), errors);
    let required = [
        ("reportingInstance", said(&event.reporting_instance), 128),
        ("action", said(&event.action), 128),
        ("reason", said(&event.reason), 128),
    ];
    for (name, text, max) in required {
        if text.is_empty() {
            errors.push(Error::required(&Path::new(name), ""));
        } else if text.len() > max {
            errors.push(Error::invalid(&Path::new(name), text, format!("can have at most {max} characters")));
        }
    }
    if said(&event.message).len() > 1024 {
        errors.push(Error::invalid(&Path::new("message"), said(&event.message), "can have at most 1024 characters"));
    }
    if !matches!(said(&event.type_), "Normal" | "Warning") {
        let path = Path::new("type");
        errors.push(Error::invalid(&path, said(&event.type_), "has invalid value: should be Normal or Warning"));
    }
}

pub fn lease(lease: &Lease) -> Errors {
    let mut errors = Errors::new();
    let Some(spec) = &lease.spec else { return errors };
    let path = Path::new("spec");
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        errors.push(Error::invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
    }
    if let Some(count) = spec.lease_transitions.filter(|count| *count < 0) {
        errors.push(Error::invalid(&path.child("leaseTransitions"), count, formats::NOT_NEGATIVE));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed};
    use super::*;

    #[test]
    fn namespaces() {
        let found = printed(namespace(&object(json!({"spec": {"finalizers": ["kubernetes", "mine", "a/b"]}}))));
        assert_eq!(
            found,
            [
                "spec.finalizers[1]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"
            ]
        );
        let living: Namespace = object(json!({"status": {"phase": "Terminating"}}));
        assert_eq!(
            printed(namespace_status_update(&living, &living)),
            ["status.phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"]
        );
    }

    #[test]
    fn events_live_with_their_object() {
        let made = |namespace: &str, about: &str| -> Event {
            object(json!({"metadata": {"namespace": namespace}, "involvedObject": {"namespace": about}}))
        };
        assert!(event(&made("a", "a")).is_empty());
        assert!(event(&made("default", "")).is_empty());
        for bad in [made("a", "b"), made("a", "")] {
            assert_eq!(event(&bad).len(), 1);
        }
        let mut new_style = made("a", "a");
        new_style.event_time = object(json!("2026-01-01T00:00:00.000000Z"));
        assert!(printed(event(&new_style)).contains(&"reportingInstance: Required value".to_owned()));
    }

    #[test]
    fn what_comes_through_the_new_group_is_of_the_new_style() {
        let old_style: Event = object(json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"},
            "type": "Odd", "count": 1, "source": {"component": "c"}}));
        assert_eq!(
            printed(new_event(&old_style)),
            [
                "eventTime: Required value",
                "type: Invalid value: \"\": has invalid value: Odd",
                "count: Invalid value: \"\": needs to be unset",
                "source: Invalid value: \"\": needs to be unset",
            ]
        );
        let good = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}, "type": "Normal",
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "c", "reportingInstance": "i",
            "action": "act", "reason": "why"});
        let (old, mut new): (Event, Event) = (object(good.clone()), object(good));
        assert!(new_event_update(&new, &old).is_empty());
        new.reason = Some("else".to_owned());
        assert_eq!(printed(new_event_update(&new, &old)), ["reason: Invalid value: \"else\": field is immutable"]);
    }

    #[test]
    fn leases_last() {
        let found = printed(lease(&object(json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}))));
        assert_eq!(
            found,
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }
}
