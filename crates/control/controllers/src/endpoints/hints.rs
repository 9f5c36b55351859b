//! Whom an endpoint is meant for first, as `spec.trafficDistribution` asks.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointHints, ForNode, ForZone};

/// The distributions that keep traffic near, as upstream spells them; the first is the older name of the second.
const SAME_ZONE: [&str; 2] = ["PreferClose", "PreferSameZone"];
const SAME_NODE: &str = "PreferSameNode";

/// Only ready endpoints have hints; the node's own zone comes second to the node.
pub fn of(service: &Service, ready: bool, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let asked = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref())?;
    let same_node = asked == SAME_NODE;
    if !ready || !(same_node || SAME_ZONE.contains(&asked)) {
        return None;
    }
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let for_nodes = node.filter(|_| same_node).map(|node| vec![ForNode { name: node.to_owned() }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_zones, for_nodes })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hints(distribution: Value, ready: bool, zone: Option<&str>, node: Option<&str>) -> Value {
        let service = json!({"spec": {"trafficDistribution": distribution}});
        let service = serde_json::from_value(service).expect("a Service");
        serde_json::to_value(of(&service, ready, zone, node)).expect("JSON")
    }

    #[test]
    fn by_distribution() {
        let (zone, node) = (Some("a"), Some("n1"));
        let for_zone = json!({"forZones": [{"name": "a"}]});
        assert_eq!(hints(Value::Null, true, zone, node), Value::Null);
        assert_eq!(hints(json!("PreferClose"), true, zone, node), for_zone);
        assert_eq!(hints(json!("PreferSameZone"), true, zone, node), for_zone);
        let both = json!({"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]});
        assert_eq!(hints(json!("PreferSameNode"), true, zone, node), both);
        assert_eq!(hints(json!("PreferSameNode"), true, None, node), json!({"forNodes": [{"name": "n1"}]}));
        assert_eq!(hints(json!("PreferSameZone"), true, None, node), Value::Null);
        assert_eq!(hints(json!("PreferSameZone"), false, zone, node), Value::Null);
        assert_eq!(hints(json!("Elsewhere"), true, zone, node), Value::Null);
    }
}
