//! NetworkPolicies.

use base_meta::field;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::Value;

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("Pod-Selector", "Which pods it is about."), AGE];

pub struct NetworkPolicyStrategy;

impl Strategy for NetworkPolicyStrategy {
    type Object = NetworkPolicy;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["netpol"],
            ..define::resource::<NetworkPolicy>("networkpolicies", "networkpolicy", COLUMNS)
        }
    }

    fn default(&self, object: &mut NetworkPolicy) {
        api::defaults::network_policy(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &NetworkPolicy) -> Vec<field::Error> {
        api::validation::network_policy::network_policy(object)
    }

    fn row(&self, object: &NetworkPolicy) -> Vec<Value> {
        let everything = LabelSelector::default();
        let selector = object.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref()).unwrap_or(&everything);
        vec![columns::name(&object.metadata), columns::selector(selector), columns::age(&object.metadata)]
    }
}
