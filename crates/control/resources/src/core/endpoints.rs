//! Endpoints.

use base_meta::field;
use k8s_openapi::api::core::v1::Endpoints;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::Value;

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("Endpoints", "Ready addresses and their ports."), AGE];

pub struct EndpointsStrategy;

impl Strategy for EndpointsStrategy {
    type Object = Endpoints;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["ep"],
            deprecation: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into()),
            ..define::resource::<Endpoints>("endpoints", "endpoints", COLUMNS)
        }
    }

    fn default(&self, object: &mut Endpoints) {
        api::defaults::endpoints(object);
    }

    fn validate(&self, _: &RequestContext, object: &Endpoints) -> Vec<field::Error> {
        api::validation::endpoints::endpoints(object)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn row(&self, object: &Endpoints) -> Vec<Value> {
        let mut all = Vec::new();
        for subset in object.subsets.iter().flatten() {
            let ports = subset.ports.as_deref().unwrap_or_default();
            let addresses = || subset.addresses.iter().flatten();
            if ports.is_empty() {
                all.extend(addresses().map(|address| address.ip.clone()));
            }
            for port in ports {
                all.extend(addresses().map(|address| host_port(&address.ip, port.port)));
            }
        }
        vec![columns::name(&object.metadata), columns::first_three(all, "<none>"), columns::age(&object.metadata)]
    }
}

fn host_port(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_with_ports() {
        let row = |subsets: Value| {
            let object: Endpoints =
                serde_json::from_value(json!({"metadata": {"name": "e"}, "subsets": subsets})).expect("endpoints");
            EndpointsStrategy.row(&object)[1].clone()
        };
        assert_eq!(row(json!([])), "<none>");
        assert_eq!(row(json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}])), "10.0.0.1:80");
        assert_eq!(row(json!([{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}])), "[fd00::1]:80");
        assert_eq!(row(json!([{"notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}])), "<none>");
        let two = json!([{"addresses": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}], "ports": [{"port": 1}, {"port": 2}]}]);
        assert_eq!(row(two), "1.1.1.1:1,2.2.2.2:1,1.1.1.1:2 + 1 more...");
    }
}
