//! Events of the core group. They are kept for an hour upstream; here they stay until storage can expire keys.

use base_meta::field;
use k8s_openapi::api::core::v1::Event;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, NAME};
use crate::define;

pub(super) const COLUMNS: &[Column] = &[
    columns::text("Last Seen", "How long ago it happened last."),
    columns::text("Type", "Normal or Warning."),
    columns::text("Reason", "A short word for why."),
    columns::text("Object", "What it is about."),
    columns::wide("Subobject", "Which part of the object it is about."),
    columns::wide("Source", "Who says so."),
    columns::text("Message", "What happened."),
    columns::wide("First Seen", "How long ago it happened first."),
    columns::wide("Count", "How often it happened."),
    Column { priority: 1, ..NAME },
];

const FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

pub struct EventStrategy;

impl Strategy for EventStrategy {
    type Object = Event;

    fn def(&self) -> ResourceDef {
        ResourceDef { short_names: &["ev"], fields: FIELDS, ..define::resource::<Event>("events", "event", COLUMNS) }
    }

    fn validate(&self, ctx: &RequestContext, object: &Event) -> Vec<field::Error> {
        if is_new(ctx) {
            return api::validation::small::new_event(object);
        }
        api::validation::small::event(object)
    }

    fn validate_update(&self, ctx: &RequestContext, new: &Event, old: &Event) -> Vec<field::Error> {
        if is_new(ctx) {
            return api::validation::small::new_event_update(new, old);
        }
        api::validation::small::event(new)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn selectable(&self, object: &Event) -> Vec<(&'static str, String)> {
        let said = |slot: &Option<String>| slot.clone().unwrap_or_default();
        let about = &object.involved_object;
        let component = object.source.as_ref().and_then(|source| source.component.clone()).unwrap_or_default();
        let source = if component.is_empty() { said(&object.reporting_component) } else { component };
        let values = [
            said(&about.kind),
            said(&about.namespace),
            said(&about.name),
            said(&about.uid),
            said(&about.api_version),
            said(&about.resource_version),
            said(&about.field_path),
            said(&object.reason),
            said(&object.reporting_component),
            source,
            said(&object.type_),
        ];
        FIELDS.iter().copied().zip(values).collect()
    }

    fn row(&self, object: &Event) -> Vec<Value> {
        let at = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime| columns::since_instant(time.0);
        let unknown = || "<unknown>".to_owned();
        let first = match &object.first_timestamp {
            Some(time) => columns::since(Some(time)),
            None => object.event_time.as_ref().map_or_else(unknown, at),
        };
        let series = object.series.as_ref();
        let last = match (series.and_then(|series| series.last_observed_time.as_ref()), &object.last_timestamp) {
            (Some(time), _) => at(time),
            (None, Some(time)) => columns::since(Some(time)),
            (None, None) => first.clone(),
        };
        let count = series.and_then(|series| series.count).or(object.count).filter(|count| *count != 0).unwrap_or(1);
        let about = &object.involved_object;
        let kind = about.kind.as_deref().unwrap_or("").to_lowercase();
        let target = match about.name.as_deref() {
            Some(name) if !name.is_empty() => format!("{kind}/{name}"),
            _ => kind,
        };
        vec![
            json!(last),
            json!(object.type_.as_deref().unwrap_or("")),
            json!(object.reason.as_deref().unwrap_or("")),
            json!(target),
            json!(about.field_path.as_deref().unwrap_or("")),
            json!(source(object)),
            json!(object.message.as_deref().unwrap_or("").trim()),
            json!(first),
            json!(count),
            columns::name(&object.metadata),
        ]
    }
}

/// Through the new group, whose events are held to more.
fn is_new(ctx: &RequestContext) -> bool {
    ctx.gvr.group == "events.k8s.io"
}

/// `component, host`.
fn source(event: &Event) -> String {
    let said = |slot: Option<&String>| slot.cloned().unwrap_or_default();
    let old = event.source.as_ref();
    let component = said(old.and_then(|source| source.component.as_ref()));
    let (component, instance) = if component.is_empty() {
        (said(event.reporting_component.as_ref()), said(event.reporting_instance.as_ref()))
    } else {
        (component, said(old.and_then(|source| source.host.as_ref())))
    };
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_of_event_print() {
        let event: Event = serde_json::from_value(json!({
            "metadata": {"name": "e", "namespace": "a"}, "type": "Normal", "reason": "Started", "message": " m\n",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
            "source": {"component": "kubelet", "host": "n"}, "count": 3,
        }))
        .expect("an event");
        let row = EventStrategy.row(&event);
        assert_eq!(row.len(), COLUMNS.len());
        assert_eq!(
            row[1..],
            [
                json!("Normal"),
                json!("Started"),
                json!("pod/p"),
                json!("spec.containers{c}"),
                json!("kubelet, n"),
                json!("m"),
                json!("<unknown>"),
                json!(3),
                json!("e"),
            ]
        );
        assert_eq!(EventStrategy.selectable(&event).len(), FIELDS.len());
    }
}
