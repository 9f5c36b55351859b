//! Services: their number, and of some kinds how many ports and load balancers they take.

use serde_json::Value;

use super::{Amounts, number};

pub(super) fn usage(service: &Value, used: &mut Amounts) {
    let spec = service.get("spec");
    let ports = || spec.and_then(|spec| spec.get("ports")).and_then(Value::as_array).into_iter().flatten();
    let count = |count: usize| number(i64::try_from(count).unwrap_or(i64::MAX));
    let (mut node_ports, mut balancers) = (0, 0);
    match spec.and_then(|spec| spec.get("type")).and_then(Value::as_str) {
        Some("NodePort") => node_ports = ports().count(),
        Some("LoadBalancer") => {
            balancers = 1;
            let own = |port: &&Value| port.get("nodePort").and_then(Value::as_i64).is_some_and(|port| port != 0);
            let allocated =
                spec.and_then(|spec| spec.get("allocateLoadBalancerNodePorts")) != Some(&Value::Bool(false));
            node_ports = if allocated { ports().count() } else { ports().filter(own).count() };
        }
        _ => {}
    }
    used.insert("services".into(), number(1));
    used.insert("services.nodeports".into(), count(node_ports));
    used.insert("services.loadbalancers".into(), count(balancers));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::print;
    use super::*;

    #[test]
    fn ports_and_balancers() {
        let ports = json!([{"port": 1, "nodePort": 30001}, {"port": 2}]);
        for (kind, allocate, expected) in [
            ("ClusterIP", true, "services=1,services.loadbalancers=0,services.nodeports=0"),
            ("NodePort", true, "services=1,services.loadbalancers=0,services.nodeports=2"),
            ("LoadBalancer", true, "services=1,services.loadbalancers=1,services.nodeports=2"),
            ("LoadBalancer", false, "services=1,services.loadbalancers=1,services.nodeports=1"),
        ] {
            let mut used = Amounts::new();
            let spec = json!({"type": kind, "ports": ports, "allocateLoadBalancerNodePorts": allocate});
            usage(&json!({"spec": spec}), &mut used);
            assert_eq!(print(&used), expected);
        }
        let mut used = Amounts::new();
        usage(&json!("nonsense"), &mut used);
        assert_eq!(print(&used), "services=1,services.loadbalancers=0,services.nodeports=0");
    }
}
