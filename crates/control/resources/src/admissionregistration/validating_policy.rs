//! ValidatingAdmissionPolicies and their bindings.

use base_meta::field;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use super::{CATEGORIES, expressions, param_kind, param_ref};
use crate::columns::{self, AGE, NAME};
use crate::define;

const POLICY_COLUMNS: &[Column] = &[
    NAME,
    columns::integer("Validations", "How many rules it has."),
    columns::text("ParamKind", "The kind of its parameters."),
    AGE,
];

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    columns::text("PolicyName", "The policy it applies."),
    columns::text("ParamRef", "The parameters it applies it with."),
    AGE,
];

pub struct ValidatingPolicyStrategy;

impl Strategy for ValidatingPolicyStrategy {
    type Object = ValidatingAdmissionPolicy;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            categories: CATEGORIES,
            scope: Scope::Cluster,
            subresources: vec![define::status::<ValidatingAdmissionPolicy>()],
            ..define::resource::<ValidatingAdmissionPolicy>(
                "validatingadmissionpolicies",
                "validatingadmissionpolicy",
                POLICY_COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut ValidatingAdmissionPolicy) {
        api::defaults::validating_policy(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &ValidatingAdmissionPolicy) -> Vec<field::Error> {
        let mut errors = api::validation::admission_policy::validating(object);
        errors.extend(expressions::validating(object));
        errors
    }

    fn validate_status_update(
        &self,
        _: &RequestContext,
        new: &ValidatingAdmissionPolicy,
        _: &ValidatingAdmissionPolicy,
    ) -> Vec<field::Error> {
        api::validation::admission_policy::validating_status(new)
    }

    fn row(&self, object: &ValidatingAdmissionPolicy) -> Vec<Value> {
        let spec = object.spec.as_ref();
        vec![
            columns::name(&object.metadata),
            json!(spec.and_then(|spec| spec.validations.as_ref()).map_or(0, |validations| validations.len())),
            json!(param_kind(spec.and_then(|spec| spec.param_kind.as_ref()))),
            columns::age(&object.metadata),
        ]
    }
}

pub struct ValidatingBindingStrategy;

impl Strategy for ValidatingBindingStrategy {
    type Object = ValidatingAdmissionPolicyBinding;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            categories: CATEGORIES,
            scope: Scope::Cluster,
            ..define::resource::<ValidatingAdmissionPolicyBinding>(
                "validatingadmissionpolicybindings",
                "validatingadmissionpolicybinding",
                BINDING_COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut ValidatingAdmissionPolicyBinding) {
        api::defaults::validating_binding(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &ValidatingAdmissionPolicyBinding) -> Vec<field::Error> {
        api::validation::admission_policy::validating_binding(object)
    }

    fn row(&self, object: &ValidatingAdmissionPolicyBinding) -> Vec<Value> {
        vec![
            columns::name(&object.metadata),
            json!(object.spec.policy_name),
            json!(param_ref(object.spec.param_ref.as_ref())),
            columns::age(&object.metadata),
        ]
    }
}
