//! IPAddresses: which Service has which address of the service ranges.

use base_meta::field;
use k8s_openapi::api::networking::v1::IPAddress;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("ParentRef", "The object that has the address."), AGE];

pub struct IpAddressStrategy;

/// Whether it only shows what a Service holds, rather than holding the address itself.
pub(crate) fn is_of_a_service(address: &IPAddress) -> bool {
    let labels = address.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get("ipaddress.kubernetes.io/managed-by"))
        .is_some_and(|by| by == "ipallocator.k8s.io")
}

impl Strategy for IpAddressStrategy {
    type Object = IPAddress;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["ip"],
            scope: Scope::Cluster,
            ..define::resource::<IPAddress>("ipaddresses", "ipaddress", COLUMNS)
        }
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        api::validation::ip_address::name(name)
    }

    fn validate(&self, _: &RequestContext, object: &IPAddress) -> Vec<field::Error> {
        api::validation::ip_address::ip_address(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &IPAddress, old: &IPAddress) -> Vec<field::Error> {
        api::validation::ip_address::ip_address_update(new, old)
    }

    fn row(&self, object: &IPAddress) -> Vec<Value> {
        let parent = &object.spec.parent_ref;
        let said = |slot: &Option<String>| slot.clone().filter(|text| !text.is_empty());
        let group = said(&parent.group).map_or(String::new(), |group| format!(".{group}"));
        let namespace = said(&parent.namespace).map_or(String::new(), |namespace| format!("{namespace}/"));
        let text = format!("{}{group}/{namespace}{}", parent.resource, parent.name).to_lowercase();
        vec![columns::name(&object.metadata), json!(text), columns::age(&object.metadata)]
    }
}
