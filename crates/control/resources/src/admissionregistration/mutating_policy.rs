//! MutatingAdmissionPolicies and their bindings.

use base_meta::{Gvk, field};
use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use super::{CATEGORIES, expressions, param_kind, param_ref};
use crate::columns::{self, AGE, NAME};
use crate::define;

const POLICY_COLUMNS: &[Column] = &[
    NAME,
    columns::integer("Mutations", "How many changes it makes."),
    columns::text("ParamKind", "The kind of its parameters."),
    AGE,
];

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    columns::text("PolicyName", "The policy it applies."),
    columns::text("ParamRef", "The parameters it applies it with."),
    AGE,
];

pub struct MutatingPolicyStrategy;

impl Strategy for MutatingPolicyStrategy {
    type Object = MutatingAdmissionPolicy;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            categories: CATEGORIES,
            scope: Scope::Cluster,
            stored_as: Some(Gvk::of("admissionregistration.k8s.io", "v1beta1", "MutatingAdmissionPolicy")),
            ..define::resource::<MutatingAdmissionPolicy>(
                "mutatingadmissionpolicies",
                "mutatingadmissionpolicy",
                POLICY_COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut MutatingAdmissionPolicy) {
        api::defaults::mutating_policy(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &MutatingAdmissionPolicy) -> Vec<field::Error> {
        let mut errors = api::validation::admission_policy::mutating(object);
        errors.extend(expressions::mutating(object));
        errors
    }

    fn row(&self, object: &MutatingAdmissionPolicy) -> Vec<Value> {
        let spec = object.spec.as_ref();
        vec![
            columns::name(&object.metadata),
            json!(spec.and_then(|spec| spec.mutations.as_ref()).map_or(0, |mutations| mutations.len())),
            json!(param_kind(spec.and_then(|spec| spec.param_kind.as_ref()))),
            columns::age(&object.metadata),
        ]
    }
}

pub struct MutatingBindingStrategy;

impl Strategy for MutatingBindingStrategy {
    type Object = MutatingAdmissionPolicyBinding;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            categories: CATEGORIES,
            scope: Scope::Cluster,
            stored_as: Some(Gvk::of("admissionregistration.k8s.io", "v1beta1", "MutatingAdmissionPolicyBinding")),
            ..define::resource::<MutatingAdmissionPolicyBinding>(
                "mutatingadmissionpolicybindings",
                "mutatingadmissionpolicybinding",
                BINDING_COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut MutatingAdmissionPolicyBinding) {
        api::defaults::mutating_binding(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &MutatingAdmissionPolicyBinding) -> Vec<field::Error> {
        api::validation::admission_policy::mutating_binding(object)
    }

    fn row(&self, object: &MutatingAdmissionPolicyBinding) -> Vec<Value> {
        let spec = object.spec.as_ref();
        vec![
            columns::name(&object.metadata),
            json!(spec.and_then(|spec| spec.policy_name.as_deref()).unwrap_or("")),
            json!(param_ref(spec.and_then(|spec| spec.param_ref.as_ref()))),
            columns::age(&object.metadata),
        ]
    }
}
