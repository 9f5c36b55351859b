//! Fields that describe one thing twice, or that an update may leave out because the server filled them in.
//! Pure; upstream's `NormalizeClusterIPs`, `patchAllocatedValues` and `dropTypeDependentFields`.

use api::service::{
    ServiceType, cluster_ip, externally_accessible, needs_cluster_ip, needs_health_check_node_port, needs_node_ports,
};
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

/// On create: `clusterIP` alone stands for a list of one.
pub(super) fn list_cluster_ip(spec: &mut ServiceSpec) {
    if !cluster_ip(spec).is_empty() && spec.cluster_ips.as_ref().is_none_or(Vec::is_empty) {
        spec.cluster_ips = Some(vec![cluster_ip(spec).to_owned()]);
    }
}

/// An update that says nothing of an allocated value keeps it.
pub(super) fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(new) && needs_cluster_ip(old) {
        if cluster_ip(new).is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.as_ref().is_none_or(Vec::is_empty) && cluster_ip(new) == cluster_ip(old) {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if new.ip_families.as_ref().is_none_or(Vec::is_empty) {
            new.ip_families.clone_from(&old.ip_families);
        }
        if new.ip_family_policy.is_none() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
    }
    if needs_node_ports(new) && needs_node_ports(old) {
        for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.unwrap_or(0) == 0) {
            let same = |other: &&ServicePort| other.port == port.port && other.protocol == port.protocol;
            port.node_port = old.ports.iter().flatten().find(same).and_then(|old| old.node_port);
        }
    }
    if needs_health_check_node_port(new)
        && needs_health_check_node_port(old)
        && new.health_check_node_port.unwrap_or(0) == 0
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// A changed `clusterIP` is the list's first, unless the list was changed as well.
pub(super) fn follow_cluster_ip(new: &mut ServiceSpec, old: &ServiceSpec) {
    let list = |spec: &ServiceSpec| spec.cluster_ips.clone().unwrap_or_default();
    if cluster_ip(new) == cluster_ip(old) || list(new) != list(old) {
        list_cluster_ip(new);
        return;
    }
    if cluster_ip(new).is_empty() {
        new.cluster_ips = None;
    } else {
        let first = cluster_ip(new).to_owned();
        match new.cluster_ips.as_mut().and_then(|list| list.first_mut()) {
            Some(slot) => *slot = first,
            None => new.cluster_ips = Some(vec![first]),
        }
    }
}

/// What the former type brought along and the new one cannot have goes, where the user left it as it was.
pub(super) fn drop_of_former_type(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if new.cluster_ip == old.cluster_ip && new.cluster_ips == old.cluster_ips {
            (new.cluster_ip, new.cluster_ips) = (None, None);
        }
        if new.ip_families == old.ip_families {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
        if new.internal_traffic_policy == old.internal_traffic_policy {
            new.internal_traffic_policy = None;
        }
    }
    if needs_node_ports(old) && !needs_node_ports(new) && node_ports(new) == node_ports(old) {
        new.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
    }
    if needs_health_check_node_port(old)
        && !needs_health_check_node_port(new)
        && new.health_check_node_port == old.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    let balancer = |spec: &ServiceSpec| ServiceType::of(spec) == Some(ServiceType::LoadBalancer);
    if balancer(old) && !balancer(new) {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if externally_accessible(old)
        && !externally_accessible(new)
        && new.external_traffic_policy == old.external_traffic_policy
    {
        new.external_traffic_policy = None;
    }
}

fn node_ports(spec: &ServiceSpec) -> Vec<i32> {
    let mut all: Vec<i32> = spec.ports.iter().flatten().filter_map(|port| port.node_port).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> ServiceSpec {
        serde_json::from_value(value).expect("a service spec")
    }

    fn old() -> ServiceSpec {
        spec(json!({"type": "NodePort", "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}))
    }

    fn updated(value: Value) -> Value {
        let mut new = spec(value);
        keep_allocated(&mut new, &old());
        follow_cluster_ip(&mut new, &old());
        drop_of_former_type(&mut new, &old());
        serde_json::to_value(new).expect("JSON")
    }

    #[test]
    fn an_update_need_not_repeat_what_was_allocated() {
        let new = updated(json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81}]}));
        assert_eq!((&new["clusterIP"], &new["clusterIPs"]), (&json!("10.43.0.7"), &json!(["10.43.0.7"])));
        assert_eq!(new["ports"][0]["nodePort"], 30080);
        assert_eq!(new["ports"][1]["nodePort"], Value::Null);
        assert_eq!(new["ipFamilyPolicy"], "SingleStack");
    }

    #[test]
    fn a_former_types_fields_go() {
        let mut kept = serde_json::to_value(old()).expect("JSON");
        kept["type"] = json!("ClusterIP");
        let new = updated(kept.clone());
        assert_eq!(new["ports"][0]["nodePort"], Value::Null);
        assert_eq!(new["externalTrafficPolicy"], Value::Null);
        assert_eq!(new["clusterIP"], "10.43.0.7");
        kept["type"] = json!("ExternalName");
        let new = updated(kept);
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            assert_eq!(new[field], Value::Null, "{field}");
        }
    }

    #[test]
    fn the_list_follows_the_field() {
        let mut kept = serde_json::to_value(old()).expect("JSON");
        kept["clusterIP"] = json!("10.43.0.8");
        assert_eq!(updated(kept)["clusterIPs"], json!(["10.43.0.8"]));
        let mut made = spec(json!({"clusterIP": "None"}));
        list_cluster_ip(&mut made);
        assert_eq!(made.cluster_ips, Some(vec!["None".to_owned()]));
    }
}
