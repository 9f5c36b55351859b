//! `admissionregistration.k8s.io/v1`.

mod expressions;
pub(crate) mod mutating_policy;
pub(crate) mod mutating_webhook;
pub(crate) mod validating_policy;
pub(crate) mod validating_webhook;

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{ParamKind, ParamRef};
use machinery_registry::Resource;

use crate::{Error, Load};

/// All of them are listed by `kubectl get api-extensions`.
const CATEGORIES: &[&str] = &["api-extensions"];

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    use mutating_policy::{MutatingBindingStrategy, MutatingPolicyStrategy};
    use validating_policy::{ValidatingBindingStrategy, ValidatingPolicyStrategy};
    Ok(vec![
        load.erased("validatingwebhookconfigurations", validating_webhook::ValidatingWebhookStrategy).await?,
        load.erased("mutatingwebhookconfigurations", mutating_webhook::MutatingWebhookStrategy).await?,
        load.erased("validatingadmissionpolicies", ValidatingPolicyStrategy).await?,
        load.erased("validatingadmissionpolicybindings", ValidatingBindingStrategy).await?,
        load.erased("mutatingadmissionpolicies", MutatingPolicyStrategy).await?,
        load.erased("mutatingadmissionpolicybindings", MutatingBindingStrategy).await?,
    ])
}

/// The cell that names the kind of a policy's parameters.
fn param_kind(kind: Option<&ParamKind>) -> String {
    let said = |slot: &Option<String>| slot.clone().unwrap_or_default();
    kind.map_or("<unset>".to_owned(), |kind| format!("{}/{}", said(&kind.api_version), said(&kind.kind)))
}

/// The cell that names a binding's parameters.
fn param_ref(reference: Option<&ParamRef>) -> String {
    let Some(reference) = reference else { return "<unset>".to_owned() };
    let said = |slot: &Option<String>| slot.clone().filter(|text| !text.is_empty());
    match (said(&reference.name), said(&reference.namespace), &reference.selector) {
        (Some(name), Some(namespace), _) => format!("{namespace}/{name}"),
        (Some(name), None, _) => name,
        (None, _, Some(selector)) => {
            crate::columns::selector(selector).as_str().map_or_else(String::new, str::to_owned)
        }
        (None, _, None) => "<unset>".to_owned(),
    }
}
