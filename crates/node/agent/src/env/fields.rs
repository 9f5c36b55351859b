//! fieldRef and resourceFieldRef.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use base_meta::quantity::{Format, Quantity};

use crate::container::resources::parse;
use crate::env::{EnvError, PodView};

pub fn field(path: &str, view: &PodView<'_>) -> Result<String, EnvError> {
    let meta = &view.pod.metadata;
    let spec = view.pod.spec.as_ref();
    let join = |ips: &[std::net::IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[std::net::IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    if let Some(key) = subscript(path, "metadata.labels") {
        return Ok(meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default());
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Ok(meta.annotations.as_ref().and_then(|annotations| annotations.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "spec.nodeName" => view.node_name.to_owned(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => first(view.host_ips),
        "status.hostIPs" => join(view.host_ips),
        "status.podIP" => first(view.pod_ips),
        "status.podIPs" => join(view.pod_ips),
        _ => return Err(EnvError::FieldPath(path.to_owned())),
    })
}

/// `x` of `prefix['x']`.
fn subscript<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")
}

/// `own` is the container that asks, where one does. Of `allocatable` the node has so much CPU (milli) and memory (bytes).
pub fn resource(
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
    pod: &Pod,
    allocatable: (i64, i64),
) -> Result<String, EnvError> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let target = match (own, named) {
        (Some(own), None) => own,
        (_, name) => {
            let name = name.unwrap_or_default();
            let spec = pod.spec.as_ref();
            let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
            let apps = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
            let found = init.iter().chain(apps).find(|container| container.name == name);
            found.ok_or_else(|| EnvError::Container(name.to_owned()))?
        }
    };
    let resources = target.resources.as_ref();
    let (list, kind) = match selector.resource.split_once('.') {
        Some(("limits", kind)) => (resources.and_then(|resources| resources.limits.as_ref()), kind),
        Some(("requests", kind)) => (resources.and_then(|resources| resources.requests.as_ref()), kind),
        _ => return Err(EnvError::Resource(selector.resource.clone())),
    };
    let limit = selector.resource.starts_with("limits.");
    let quantity = list.and_then(|list| list.get(kind)).and_then(parse);
    let amount = match (quantity, kind) {
        (Some(amount), _) => amount,
        (None, "cpu") if limit => Quantity::from_milli(allocatable.0, Format::DecimalSi),
        (None, "memory") if limit => Quantity::from_value(allocatable.1, Format::BinarySi),
        (None, "cpu" | "memory" | "ephemeral-storage") => Quantity::from_value(0, Format::DecimalSi),
        (None, _) => return Err(EnvError::Resource(selector.resource.clone())),
    };
    let divisor = selector.divisor.as_ref().and_then(parse).filter(|divisor| !divisor.is_zero());
    // Rounded up; only CPU divides finer than whole units.
    let divided = match (kind, divisor) {
        ("cpu", Some(divisor)) => amount.milli_value().div_euclid_up(divisor.milli_value()),
        (_, Some(divisor)) => amount.value().div_euclid_up(divisor.value()),
        (_, None) => amount.value(),
    };
    Ok(divided.to_string())
}

trait DivUp {
    fn div_euclid_up(self, divisor: Self) -> Self;
}

impl DivUp for i64 {
    fn div_euclid_up(self, divisor: Self) -> Self {
        let divisor = divisor.max(1);
        self / divisor + i64::from(self % divisor != 0)
    }
}
