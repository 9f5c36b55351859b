//! Ingresses.

use std::collections::BTreeSet;

use base_meta::field;
use k8s_openapi::api::networking::v1::Ingress;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Class", "Which controller implements it."),
    columns::text("Hosts", "Hosts that it serves."),
    columns::text("Address", "Where the load balancer listens."),
    columns::text("Ports", "Ports that it listens on."),
    AGE,
];

/// Upstream's way to name a class before there were classes.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub struct IngressStrategy;

impl Strategy for IngressStrategy {
    type Object = Ingress;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["ing"],
            subresources: vec![define::status::<Ingress>()],
            ..define::resource::<Ingress>("ingresses", "ingress", COLUMNS)
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, ctx: &RequestContext, object: &mut Ingress) {
        let annotated = object.metadata.annotations.iter().flatten().any(|(key, _)| key == CLASS_ANNOTATION);
        if annotated && object.spec.as_ref().is_none_or(|spec| spec.ingress_class_name.is_none()) {
            ctx.warnings.add(format!(
                "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
            ));
        }
    }

    fn validate(&self, _: &RequestContext, object: &Ingress) -> Vec<field::Error> {
        api::validation::ingress::ingress(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &Ingress, old: &Ingress) -> Vec<field::Error> {
        api::validation::ingress::ingress_update(new, old)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &Ingress, _: &Ingress) -> Vec<field::Error> {
        api::validation::ingress::ingress_status(new)
    }

    fn row(&self, object: &Ingress) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let tls = spec.and_then(|spec| spec.tls.as_ref()).is_some_and(|tls| !tls.is_empty());
        vec![
            columns::name(&object.metadata),
            json!(spec.and_then(|spec| spec.ingress_class_name.as_deref()).unwrap_or("<none>")),
            json!(hosts(object)),
            json!(addresses(object)),
            json!(if tls { "80, 443" } else { "80" }),
            columns::age(&object.metadata),
        ]
    }
}

/// The first three; a rule without a host serves all.
fn hosts(ingress: &Ingress) -> String {
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    let all: Vec<&str> = rules.filter_map(|rule| rule.host.as_deref()).filter(|host| !host.is_empty()).collect();
    match all.len() {
        0 => "*".to_owned(),
        count @ 1..=3 => all[..count].join(","),
        count => format!("{} + {} more...", all[..3].join(","), count - 3),
    }
}

/// All of them: upstream cuts them unless the client asks for the wide form, which a server's row cannot know.
fn addresses(ingress: &Ingress) -> String {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let points = status.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let said = |slot: &Option<String>| slot.clone().filter(|text| !text.is_empty());
    let all: BTreeSet<String> = points.filter_map(|point| said(&point.ip).or_else(|| said(&point.hostname))).collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_as_upstreams() {
        let made = |value| -> Ingress { serde_json::from_value(value).expect("an ingress") };
        let bare = made(json!({"metadata": {"name": "a"}, "spec": {"defaultBackend": {}}}));
        assert_eq!(IngressStrategy.row(&bare)[1..5], ["<none>", "*", "", "80"]);
        let hosts: Vec<Value> = (0..5).map(|n| json!({"host": format!("h{n}")})).collect();
        let full = made(json!({"spec": {"ingressClassName": "c", "rules": hosts, "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.2"}, {"hostname": "a.example"}]}}}));
        assert_eq!(IngressStrategy.row(&full)[1..5], ["c", "h0,h1,h2 + 2 more...", "10.0.0.2,a.example", "80, 443"]);
    }
}
