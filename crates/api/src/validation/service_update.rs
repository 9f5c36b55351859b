//! What of a Service may change.

use base_meta::field::{Error, Path};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{Errors, formats, json, said, service};
use crate::service::{ServiceType, needs_cluster_ip};

pub fn service_update(new: &Service, old: &Service) -> Errors {
    let mut errors = Errors::new();
    let empty = ServiceSpec::default();
    let (after, before) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    let path = Path::new("spec");
    addresses(after, before, &path, &mut errors);
    if ServiceType::of(after) == Some(ServiceType::LoadBalancer)
        && ServiceType::of(before) == Some(ServiceType::LoadBalancer)
        && after.load_balancer_class != before.load_balancer_class
    {
        errors.push(Error::invalid(
            &path.child("loadBalancerClass"),
            said(&after.load_balancer_class),
            "may not change once set",
        ));
    }
    errors.extend(service::service(new));
    errors
}

/// The primary address and family stay while the service has any; a second one may come and go.
fn addresses(after: &ServiceSpec, before: &ServiceSpec, path: &Path, errors: &mut Errors) {
    if !needs_cluster_ip(after) || !needs_cluster_ip(before) {
        return;
    }
    let first = |list: &Option<Vec<String>>| list.as_ref().and_then(|list| list.first().cloned());
    let pairs = [
        ("clusterIPs", &after.cluster_ips, &before.cluster_ips),
        ("ipFamilies", &after.ip_families, &before.ip_families),
    ];
    for (name, after, before) in pairs {
        if let Some(held) = first(before).filter(|held| !held.is_empty())
            && first(after) != Some(held)
        {
            let list = after.clone().unwrap_or_default();
            errors.push(Error::invalid(&path.child(name).index(0), &json(&list), "may not change once set"));
        }
    }
}

pub fn service_status_update(new: &Service, _old: &Service) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let balancer = new.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let is_balancer = new.spec.as_ref().is_some_and(|spec| ServiceType::of(spec) == Some(ServiceType::LoadBalancer));
    if !is_balancer && !ingress.is_empty() {
        errors.push(Error::forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'"));
    }
    for (index, each) in ingress.iter().enumerate() {
        if let Some(ip) = each.ip.as_deref().filter(|ip| !ip.is_empty())
            && let Some(problem) = formats::ip(ip)
        {
            errors.push(Error::invalid(&path.index(index).child("ip"), ip, problem));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> Service {
        let base = json!({"spec": {"ports": [{"port": 80}], "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}});
        let mut made = object(with(&base, changes));
        crate::defaults::service(&mut made);
        made
    }

    #[test]
    fn the_address_stays_for_the_services_lifetime() {
        let moved = made(&[("/spec/clusterIP", json!("10.43.0.8")), ("/spec/clusterIPs", json!(["10.43.0.8"]))]);
        assert_eq!(
            printed(service_update(&moved, &made(&[]))),
            ["spec.clusterIPs[0]: Invalid value: [\"10.43.0.8\"]: may not change once set"]
        );
        let external = made(&[
            ("/spec/type", json!("ExternalName")),
            ("/spec/externalName", json!("a.example")),
            ("/spec/clusterIP", Value::Null),
            ("/spec/clusterIPs", Value::Null),
        ]);
        assert_eq!(printed(service_update(&external, &made(&[]))), Vec::<String>::new());
        assert!(service_update(&made(&[("/spec/type", json!("NodePort"))]), &made(&[])).is_empty());
    }

    #[test]
    fn only_load_balancers_have_ingress() {
        let mut new = made(&[]);
        new.status = object(json!({"loadBalancer": {"ingress": [{"ip": "x"}]}}));
        assert_eq!(printed(service_status_update(&new, &made(&[]))).len(), 2);
    }
}
