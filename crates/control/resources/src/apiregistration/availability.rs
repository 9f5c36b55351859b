//! Whether the server of an APIService can be reached, as far as objects say, and the condition that tells it. Pure.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceCondition, ServiceReference};

use crate::define;

/// What the condition `Available` says; in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) available: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { available: false, reason, message }
    }

    pub(super) fn passed() -> Self {
        Self { available: true, reason: "Passed", message: "all checks passed".to_owned() }
    }

    pub(super) fn failed(message: String) -> Self {
        Self::no("FailedDiscoveryCheck", message)
    }
}

/// Its namespace, name and port.
pub(super) fn named(service: &ServiceReference) -> (&str, &str, u16) {
    let port = service.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
    (service.namespace.as_deref().unwrap_or(""), service.name.as_deref().unwrap_or(""), port)
}

/// Why it need not even be asked; `None`: only an answer can tell.
pub(super) fn refused(
    reference: &ServiceReference,
    service: Option<&Service>,
    slices: &[EndpointSlice],
) -> Option<Verdict> {
    let (namespace, name, port) = named(reference);
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Some(Verdict::no("ServiceNotFound", message));
    };
    let spec = service.spec.as_ref()?;
    // Of the others nothing here says where they lead.
    if spec.type_.as_deref().is_some_and(|kind| kind != "ClusterIP") {
        return None;
    }
    let served = spec.ports.iter().flatten().find(|served| served.port == i32::from(port));
    let Some(served) = served else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(Verdict::no("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Verdict::no("EndpointsNotFound", message));
    }
    let port_name = served.name.as_deref().unwrap_or("");
    if slices.iter().any(|slice| serves(slice, port_name)) {
        return None;
    }
    let message =
        format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}");
    Some(Verdict::no("MissingEndpoints", message))
}

fn serves(slice: &EndpointSlice, port_name: &str) -> bool {
    let ready = |ready: Option<bool>| ready.unwrap_or(true);
    let endpoints = slice.endpoints.iter().flatten();
    let mut conditions = endpoints.map(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready));
    let mut ports = slice.ports.iter().flatten();
    conditions.any(ready) && ports.any(|port| port.name.as_deref().unwrap_or("") == port_name && port.port.is_some())
}

/// Whether it says that it is available.
pub(super) fn is_available(object: &APIService) -> bool {
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Available" && condition.status == "True")
}

/// Writes the verdict into the object; whether that changes it.
pub(super) fn tell(object: &mut APIService, verdict: &Verdict) -> bool {
    let conditions = object.status.get_or_insert_default().conditions.get_or_insert_default();
    let status = if verdict.available { "True" } else { "False" };
    let new = APIServiceCondition {
        type_: "Available".to_owned(),
        status: status.to_owned(),
        reason: Some(verdict.reason.to_owned()),
        message: Some(verdict.message.clone()),
        last_transition_time: Some(define::now()),
    };
    let Some(known) = conditions.iter_mut().find(|condition| condition.type_ == "Available") else {
        conditions.push(new);
        return true;
    };
    if known.status == new.status && known.reason == new.reason && known.message == new.message {
        return false;
    }
    // It has not turned if only the reason is another.
    let since = if known.status == new.status { known.last_transition_time.take() } else { None };
    *known = APIServiceCondition { last_transition_time: since.or(new.last_transition_time.clone()), ..new };
    true
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reference() -> ServiceReference {
        serde_json::from_value(json!({"namespace": "kube-system", "name": "api", "port": 443})).expect("a reference")
    }

    fn service(kind: &str, port: i32) -> Service {
        let spec = json!({"type": kind, "ports": [{"name": "https", "port": port}]});
        serde_json::from_value(json!({ "spec": spec })).expect("a Service")
    }

    fn slice(ready: Value, port: &str) -> EndpointSlice {
        serde_json::from_value(json!({"addressType": "IPv4", "ports": [{"name": port, "port": 8443}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]}))
        .expect("an EndpointSlice")
    }

    #[test]
    fn reasons_are_upstreams() {
        let good = service("ClusterIP", 443);
        let none = "endpointslices for service/api in \"kube-system\" have no addresses with port name \"https\"";
        let table = [
            (None, vec![], Some(("ServiceNotFound", "service/api in \"kube-system\" is not present"))),
            (
                Some(service("ClusterIP", 80)),
                vec![],
                Some(("ServicePortError", "service/api in \"kube-system\" is not listening on port 443")),
            ),
            (
                Some(good.clone()),
                vec![],
                Some(("EndpointsNotFound", "cannot find endpointslices for service/api in \"kube-system\"")),
            ),
            (Some(good.clone()), vec![slice(json!(false), "https")], Some(("MissingEndpoints", none))),
            (Some(good.clone()), vec![slice(json!(true), "other")], Some(("MissingEndpoints", none))),
            (Some(good.clone()), vec![slice(json!(false), "https"), slice(json!(null), "https")], None),
            (Some(good), vec![slice(json!(true), "https")], None),
            (Some(service("ExternalName", 80)), vec![], None),
        ];
        for (service, slices, expected) in table {
            let found = refused(&reference(), service.as_ref(), &slices);
            let found = found.as_ref().map(|verdict| (verdict.reason, verdict.message.as_str()));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let mut object = APIService::default();
        assert!(!is_available(&object));
        assert!(tell(&mut object, &Verdict::failed("one".into())));
        assert!(!tell(&mut object, &Verdict::failed("one".into())));
        let time = |object: &mut APIService| {
            let conditions = object.status.as_mut().and_then(|status| status.conditions.as_mut()).expect("conditions");
            assert_eq!(conditions.len(), 1);
            conditions[0].last_transition_time.clone()
        };
        let long_ago = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        let conditions = object.status.as_mut().and_then(|status| status.conditions.as_mut()).expect("conditions");
        conditions[0].last_transition_time = Some(long_ago.clone());
        assert!(tell(&mut object, &Verdict::failed("two".into())));
        assert_eq!(time(&mut object), Some(long_ago.clone()));
        assert!(tell(&mut object, &Verdict::passed()));
        assert_ne!(time(&mut object), Some(long_ago));
        assert!(is_available(&object));
    }
}
