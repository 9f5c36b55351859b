//! A policy and a binding, read and compiled once for each version of their objects.

use base_meta::Gvk;
use base_meta::selector::LabelSelector;
use machinery_cel::admission::{PolicyEnvironments, Wanted};
use serde_json::Value;

use super::super::expressions::{Compiled, Conditions};
use super::super::matching::{Criteria, NoRules};

/// Of either kind; what the other kind has is empty.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) revision: u64,
    pub(super) criteria: Result<Criteria, String>,
    /// The kind of its parameters, as it is written and as it is looked up.
    pub(super) params: Option<ParamKind>,
    /// `failurePolicy: Ignore`.
    pub(super) ignore: bool,
    pub(super) conditions: Conditions,
    pub(super) variables: Vec<(String, Compiled)>,
    pub(super) validations: Vec<Validation>,
    /// By key.
    pub(super) annotations: Vec<(String, Compiled)>,
    pub(super) mutations: Vec<Mutation>,
    /// `reinvocationPolicy: IfNeeded`.
    pub(super) reinvoked: bool,
}

#[derive(Clone, Debug)]
pub(super) struct ParamKind {
    pub(super) api_version: String,
    pub(super) kind: String,
}

impl ParamKind {
    pub(super) fn gvk(&self) -> Option<Gvk> {
        Gvk::parse(&self.api_version, &self.kind)
    }

    /// As Go prints it in an error.
    pub(super) fn shown(&self) -> String {
        self.gvk().map_or_else(|| format!("{}, Kind={}", self.api_version, self.kind), |gvk| gvk.to_string())
    }
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Compiled,
    pub(super) message: String,
    pub(super) message_expression: Option<Compiled>,
    pub(super) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchType {
    ApplyConfiguration,
    Json,
}

#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) kind: PatchType,
    pub(super) expression: Compiled,
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

fn each<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of[name].as_array().into_iter().flatten()
}

impl Policy {
    pub(super) fn read(object: &Value, revision: u64) -> Self {
        let spec = &object["spec"];
        let params = Some(&spec["paramKind"]).filter(|kind| kind.is_object()).map(|kind| ParamKind {
            api_version: text(kind, "apiVersion").to_owned(),
            kind: text(kind, "kind").to_owned(),
        });
        let mut environments = PolicyEnvironments::new(params.is_some(), true);
        let mut variables = Vec::new();
        for variable in each(spec, "variables") {
            let (name, expression) = (text(variable, "name"), text(variable, "expression"));
            let program = environments.variable(name, expression);
            variables.push((name.to_owned(), Compiled { text: expression.to_owned(), program }));
        }
        let compile = |text: &str, wanted| Compiled::new(text, wanted, &environments.expressions);
        let validations = each(spec, "validations").map(|validation| Validation {
            expression: compile(text(validation, "expression"), Wanted::Bool),
            message: text(validation, "message").trim().to_owned(),
            message_expression: Some(text(validation, "messageExpression"))
                .filter(|expression| !expression.is_empty())
                .map(|expression| Compiled::new(expression, Wanted::String, &environments.messages)),
            reason: text(validation, "reason").to_owned(),
        });
        let annotations = each(spec, "auditAnnotations").map(|annotation| {
            let expression = text(annotation, "valueExpression").trim();
            (text(annotation, "key").to_owned(), compile(expression, Wanted::StringOrNull))
        });
        let making = environments.expressions.clone().making();
        let mutations = each(spec, "mutations").map(|mutation| {
            let (kind, field, wanted) = match text(mutation, "patchType") {
                "JSONPatch" => (PatchType::Json, "jsonPatch", Wanted::JsonPatch),
                _ => (PatchType::ApplyConfiguration, "applyConfiguration", Wanted::ApplyConfiguration),
            };
            let expression = text(&mutation[field], "expression");
            Mutation { kind, expression: Compiled::new(expression, wanted, &making) }
        });
        Self {
            name: text(&object["metadata"], "name").to_owned(),
            revision,
            criteria: Criteria::parse(&spec["matchConstraints"], NoRules::Everything),
            params,
            ignore: spec["failurePolicy"] == "Ignore",
            conditions: Conditions::compile(spec, &environments.conditions),
            validations: validations.collect(),
            annotations: annotations.collect(),
            mutations: mutations.collect(),
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            variables,
        }
    }
}

#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) criteria: Result<Criteria, String>,
    pub(super) params: Option<ParamRef>,
    pub(super) actions: Vec<String>,
}

#[derive(Debug)]
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Option<Result<LabelSelector, String>>,
    /// `parameterNotFoundAction: Deny`.
    pub(super) deny: bool,
}

impl Binding {
    pub(super) fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let reference = Some(&spec["paramRef"]).filter(|reference| reference.is_object());
        let params = reference.map(|reference| ParamRef {
            name: text(reference, "name").to_owned(),
            namespace: text(reference, "namespace").to_owned(),
            selector: Some(&reference["selector"])
                .filter(|selector| selector.is_object())
                .map(|selector| LabelSelector::from_json(selector).map_err(|error| error.to_string())),
            deny: reference["parameterNotFoundAction"] == "Deny",
        });
        Self {
            name: text(&object["metadata"], "name").to_owned(),
            policy: text(spec, "policyName").to_owned(),
            criteria: Criteria::parse(&spec["matchResources"], NoRules::Everything),
            params,
            actions: each(spec, "validationActions").filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}
