//! `apiextensions.k8s.io/v1`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::{pointer, text};

/// Names that follow from others, no conversion, and where a webhook listens.
pub fn custom_resource_definition(definition: &mut CustomResourceDefinition) {
    let spec = &mut definition.spec;
    let kind = spec.names.kind.clone();
    if !kind.is_empty() {
        text(&mut spec.names.singular, &kind.to_lowercase());
        text(&mut spec.names.list_kind, &format!("{kind}List"));
    }
    let conversion = spec.conversion.get_or_insert_default();
    if conversion.strategy.is_empty() {
        conversion.strategy = "None".to_owned();
    }
    let config = conversion.webhook.as_mut().and_then(|webhook| webhook.client_config.as_mut());
    if let Some(service) = config.and_then(|config| config.service.as_mut()) {
        pointer(&mut service.port, 443);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_follow_from_the_kind() {
        let mut made: CustomResourceDefinition =
            serde_json::from_value(json!({"spec": {"names": {"kind": "Widget", "plural": "widgets"}}})).expect("a CRD");
        custom_resource_definition(&mut made);
        let names = &made.spec.names;
        assert_eq!((names.singular.as_deref(), names.list_kind.as_deref()), (Some("widget"), Some("WidgetList")));
        assert_eq!(made.spec.conversion.expect("conversion").strategy, "None");
    }
}
