//! What an object counts for in a ResourceQuota: the plug-in that charges quotas and the controller that recounts them
//! measure by the same rules, which are upstream's evaluators.

mod claims;
mod pods;
mod scopes;
mod services;

use base_meta::quantity::{Format, Quantity};
use jiff::Timestamp;
use serde_json::Value;

pub use self::claims::storage_class;
pub use crate::pod::requests::{Amounts, amounts_of};

const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Counted by their plain names as well.
const PLAIN: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

/// A kind as quotas tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    pub group: String,
    pub resource: String,
}

impl Kind {
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }

    fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }

    /// `count/deployments.apps`
    fn count(&self) -> String {
        if self.group.is_empty() {
            format!("count/{}", self.resource)
        } else {
            format!("count/{}.{}", self.resource, self.group)
        }
    }

    /// Whether more than their number has to be known of its objects to recount them.
    pub fn is_measured(&self) -> bool {
        self.is("", "pods")
            || self.is("", "services")
            || self.is("", "persistentvolumeclaims")
            || self.is("resource.k8s.io", "resourceclaims")
    }
}

/// The kind whose objects count towards the constraint of this name; `None`: nothing does.
pub fn kind_of(name: &str) -> Option<Kind> {
    if let Some(counted) = name.strip_prefix("count/") {
        let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Some(Kind::new(group, resource));
    }
    if name.ends_with(DEVICES) {
        return Some(Kind::new("resource.k8s.io", "resourceclaims"));
    }
    if matches!(name, "persistentvolumeclaims" | "requests.storage") || name.contains(STORAGE_CLASS) {
        return Some(Kind::new("", "persistentvolumeclaims"));
    }
    if matches!(name, "services" | "services.nodeports" | "services.loadbalancers") {
        return Some(Kind::new("", "services"));
    }
    if PLAIN.contains(&name) {
        return Some(Kind::new("", name));
    }
    pods::tracks(name).then(|| Kind::new("", "pods"))
}

/// What this object uses, by the names of constraints. `now` tells whether a pod has outlived its grace period.
pub fn usage(kind: &Kind, object: &Value, now: Timestamp) -> Amounts {
    let mut used = Amounts::from([(kind.count(), number(1))]);
    if kind.is("", "pods") {
        pods::usage(object, now, &mut used);
    } else if kind.is("", "services") {
        services::usage(object, &mut used);
    } else if kind.is("", "persistentvolumeclaims") {
        claims::volumes(object, &mut used);
    } else if kind.is("resource.k8s.io", "resourceclaims") {
        claims::devices(object, &mut used);
    } else if kind.group.is_empty() && PLAIN.contains(&&*kind.resource) {
        used.insert(kind.resource.clone(), number(1));
    }
    used
}

/// Whether a quota with these scopes is about the object.
pub fn in_scope(kind: &Kind, quota: &Value, object: &Value) -> bool {
    scopes::of(quota).iter().all(|scope| {
        if kind.is("", "pods") {
            scope.takes_pod(object)
        } else {
            kind.is("", "persistentvolumeclaims") && scope.takes_claim(object)
        }
    })
}

/// A quota on cpu or memory wants every container to say how much it takes: what is missing, in upstream's words.
pub fn unsaid<'a>(kind: &Kind, constrained: impl Iterator<Item = &'a str>, object: &Value) -> Option<String> {
    if kind.is("", "pods") { pods::unsaid(constrained, object) } else { None }
}

/// `a=1,b=2`
pub fn print(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

pub(crate) fn number(count: i64) -> Quantity {
    Quantity::from_value(count, Format::DecimalSi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_constraint_a_name_is() {
        let kind = |name| kind_of(name).map(|kind| kind.count());
        for (name, expected) in [
            ("pods", Some("count/pods")),
            ("cpu", Some("count/pods")),
            ("limits.ephemeral-storage", Some("count/pods")),
            ("requests.hugepages-2Mi", Some("count/pods")),
            ("requests.nvidia.com/gpu", Some("count/pods")),
            ("requests.storage", Some("count/persistentvolumeclaims")),
            ("gold.storageclass.storage.k8s.io/requests.storage", Some("count/persistentvolumeclaims")),
            ("services.nodeports", Some("count/services")),
            ("configmaps", Some("count/configmaps")),
            ("count/widgets.example.com", Some("count/widgets.example.com")),
            ("gpu.deviceclass.resource.k8s.io/devices", Some("count/resourceclaims.resource.k8s.io")),
            ("limits.nvidia.com/gpu", None),
            ("nonsense", None),
        ] {
            assert_eq!(kind(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn objects_count() {
        let used = |group, resource| print(&usage(&Kind::new(group, resource), &Value::Null, Timestamp::UNIX_EPOCH));
        assert_eq!(used("", "configmaps"), "configmaps=1,count/configmaps=1");
        assert_eq!(used("apps", "deployments"), "count/deployments.apps=1");
    }
}
