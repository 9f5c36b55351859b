//! HorizontalPodAutoscalers.

use base_meta::field;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Reference", "What is scaled."),
    columns::text("Targets", "What is measured, and what is wanted."),
    columns::text("MinPods", "The fewest pods."),
    columns::text("MaxPods", "The most pods."),
    columns::text("Replicas", "The pods there are."),
    AGE,
];

pub struct HorizontalPodAutoscalerStrategy;

impl Strategy for HorizontalPodAutoscalerStrategy {
    type Object = HorizontalPodAutoscaler;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["hpa"],
            categories: &["all"],
            subresources: vec![define::status::<HorizontalPodAutoscaler>()],
            ..define::resource::<HorizontalPodAutoscaler>(
                "horizontalpodautoscalers",
                "horizontalpodautoscaler",
                COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut HorizontalPodAutoscaler) {
        api::defaults::horizontal_pod_autoscaler(object);
    }

    fn validate(&self, _: &RequestContext, object: &HorizontalPodAutoscaler) -> Vec<field::Error> {
        api::validation::autoscaler::horizontal_pod_autoscaler(object)
    }

    fn validate_status_update(
        &self,
        _: &RequestContext,
        new: &HorizontalPodAutoscaler,
        _: &HorizontalPodAutoscaler,
    ) -> Vec<field::Error> {
        api::validation::autoscaler::horizontal_pod_autoscaler_status_update(new)
    }

    fn row(&self, object: &HorizontalPodAutoscaler) -> Vec<Value> {
        let (spec, status) = (&object.spec, object.status.clone().unwrap_or_default());
        let target = &spec.scale_target_ref;
        vec![
            columns::name(&object.metadata),
            json!(format!("{}/{}", target.kind, target.name)),
            json!(metrics(spec.metrics.as_deref().unwrap_or_default(), status.current_metrics.as_deref())),
            json!(spec.min_replicas.map_or("<unset>".to_owned(), |least| least.to_string())),
            json!(spec.max_replicas),
            json!(status.current_replicas.unwrap_or(0)),
            columns::age(&object.metadata),
        ]
    }
}

/// Two at most, and how many more.
fn metrics(specs: &[MetricSpec], statuses: Option<&[MetricStatus]>) -> String {
    const SHOWN: usize = 2;
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let statuses = statuses.unwrap_or_default();
    let shown = specs.iter().enumerate().take(SHOWN).map(|(index, spec)| metric(spec, statuses.get(index)));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match specs.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

const UNKNOWN: &str = "<unknown>";

fn metric(spec: &MetricSpec, status: Option<&MetricStatus>) -> String {
    match spec.type_.as_str() {
        "External" => {
            let current = status.and_then(|status| status.external.as_ref()).map(|status| &status.current);
            spec.external.as_ref().map_or(String::new(), |source| amount(&source.target, current))
        }
        "Object" => {
            let current = status.and_then(|status| status.object.as_ref()).map(|status| &status.current);
            spec.object.as_ref().map_or(String::new(), |source| amount(&source.target, current))
        }
        "Pods" => {
            let current = status.and_then(|status| status.pods.as_ref());
            let current = current.map_or(UNKNOWN, |status| quantity(status.current.average_value.as_ref()));
            let target = spec.pods.as_ref().and_then(|source| source.target.average_value.as_ref());
            format!("{current}/{}", quantity(target))
        }
        "Resource" => {
            let current = status.and_then(|status| status.resource.as_ref()).map(|status| &status.current);
            spec.resource.as_ref().map_or(String::new(), |source| resource(&source.name, &source.target, current))
        }
        "ContainerResource" => {
            let current = status.and_then(|status| status.container_resource.as_ref()).map(|status| &status.current);
            let source = spec.container_resource.as_ref();
            source.map_or(String::new(), |source| resource(&source.name, &source.target, current))
        }
        _ => "<unknown type>".to_owned(),
    }
}

fn quantity(amount: Option<&Quantity>) -> &str {
    amount.map_or("0", |amount| amount.0.as_str())
}

fn amount(target: &MetricTarget, current: Option<&MetricValueStatus>) -> String {
    match &target.average_value {
        Some(target) => {
            let current = current.and_then(|current| current.average_value.as_ref());
            format!("{}/{} (avg)", current.map_or(UNKNOWN, |current| &current.0), target.0)
        }
        None => {
            let current = current.map_or(UNKNOWN, |current| quantity(current.value.as_ref()));
            format!("{current}/{}", quantity(target.value.as_ref()))
        }
    }
}

fn resource(name: &str, target: &MetricTarget, current: Option<&MetricValueStatus>) -> String {
    if let Some(target) = &target.average_value {
        let current = current.map_or(UNKNOWN, |current| quantity(current.average_value.as_ref()));
        return format!("{name}: {current}/{}", target.0);
    }
    let percent = |number: Option<i32>| number.map(|number| format!("{number}%"));
    let current = percent(current.and_then(|current| current.average_utilization));
    let target = percent(target.average_utilization);
    format!("{name}: {}/{}", current.as_deref().unwrap_or(UNKNOWN), target.as_deref().unwrap_or("<auto>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_print_as_upstreams() {
        let object: HorizontalPodAutoscaler = serde_json::from_value(json!({
            "spec": {"maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "3"}}}]},
            "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                "current": {"averageUtilization": 12}}}], "desiredReplicas": 1, "currentReplicas": 2},
        }))
        .expect("an autoscaler");
        let row = HorizontalPodAutoscalerStrategy.row(&object);
        assert_eq!(
            row[1..6],
            [
                json!("Deployment/web"),
                json!("cpu: 12%/80%, <unknown>/10 + 1 more..."),
                json!("<unset>"),
                json!(5),
                json!(2),
            ]
        );
    }
}
