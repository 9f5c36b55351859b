//! Expressions of policies and webhooks, compiled when they are written: one that cannot be evaluated is refused.

use base_meta::field::{Error, Path};
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingAdmissionPolicy, ValidatingAdmissionPolicy, Variable,
};
use machinery_cel::admission::{Environment, PolicyEnvironments, Wanted};

/// Longer audit annotations are refused before they are compiled.
const MAX_ANNOTATION: usize = 5 * 1024;

pub(super) fn validating(policy: &ValidatingAdmissionPolicy) -> Vec<Error> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let path = Path::new("spec");
    let variables = spec.variables.as_deref().unwrap_or_default();
    let mut compiling = Compiling {
        environments: PolicyEnvironments::new(spec.param_kind.is_some(), !variables.is_empty()),
        errors: Vec::new(),
    };
    compiling.conditions(spec.match_conditions.as_deref(), &path);
    compiling.variables(variables, &path);
    for (index, validation) in spec.validations.iter().flatten().enumerate() {
        let path = path.child("validations").index(index);
        compiling.expression(&validation.expression, Wanted::Bool, &path.child("expression"));
        let message = validation.message_expression.as_deref().unwrap_or_default();
        compiling.message(message, &path.child("messageExpression"));
    }
    for (index, annotation) in spec.audit_annotations.iter().flatten().enumerate() {
        let expression = &annotation.value_expression;
        if expression.trim().len() <= MAX_ANNOTATION {
            let path = path.child("auditAnnotations").index(index).child("valueExpression");
            compiling.trimmed(expression, Wanted::StringOrNull, &path);
        }
    }
    compiling.errors
}

pub(super) fn mutating(policy: &MutatingAdmissionPolicy) -> Vec<Error> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let path = Path::new("spec");
    let environments = PolicyEnvironments::new(spec.param_kind.is_some(), true);
    let mut compiling = Compiling { environments, errors: Vec::new() };
    compiling.conditions(spec.match_conditions.as_deref(), &path);
    compiling.variables(spec.variables.as_deref().unwrap_or_default(), &path);
    compiling.environments.expressions = compiling.environments.expressions.making();
    for (index, mutation) in spec.mutations.iter().flatten().enumerate() {
        let path = path.child("mutations").index(index);
        let (wanted, field, expression) = match mutation.patch_type.as_str() {
            "ApplyConfiguration" => {
                let configuration = mutation.apply_configuration.as_ref();
                let expression = configuration.and_then(|configuration| configuration.expression.as_deref());
                (Wanted::ApplyConfiguration, "applyConfiguration", expression)
            }
            "JSONPatch" => {
                let expression = mutation.json_patch.as_ref().and_then(|patch| patch.expression.as_deref());
                (Wanted::JsonPatch, "jsonPatch", expression)
            }
            _ => continue,
        };
        let path = path.child(field).child("expression");
        compiling.expression(expression.unwrap_or_default().trim(), wanted, &path);
    }
    compiling.errors
}

/// Of each webhook in turn.
pub(super) fn webhooks<'a>(conditions: impl Iterator<Item = Option<&'a [MatchCondition]>>) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, conditions) in conditions.enumerate() {
        if let Some(list) = conditions.filter(|conditions| !conditions.is_empty()) {
            let environment = Environment::default().with_authorizer();
            self::conditions(list, &environment, &Path::new("webhooks").index(index), &mut errors);
        }
    }
    errors
}

struct Compiling {
    environments: PolicyEnvironments,
    errors: Vec<Error>,
}

impl Compiling {
    fn conditions(&mut self, list: Option<&[MatchCondition]>, path: &Path) {
        conditions(list.unwrap_or_default(), &self.environments.conditions, path, &mut self.errors);
    }

    fn variables(&mut self, variables: &[Variable], path: &Path) {
        for (index, variable) in variables.iter().enumerate() {
            if blank(&variable.expression) {
                continue;
            }
            if let Err(problem) = self.environments.variable(&variable.name, &variable.expression) {
                let path = path.child("variables").index(index).child("expression");
                self.errors.push(Error::invalid(&path, &variable.expression, problem));
            }
        }
    }

    fn expression(&mut self, expression: &str, wanted: Wanted, path: &Path) {
        compile(expression, expression, wanted, &self.environments.expressions, path, &mut self.errors);
    }

    /// Shown as it was written, compiled without the space around it.
    fn trimmed(&mut self, expression: &str, wanted: Wanted, path: &Path) {
        let trimmed = expression.trim();
        compile(trimmed, expression, wanted, &self.environments.expressions, path, &mut self.errors);
    }

    fn message(&mut self, expression: &str, path: &Path) {
        compile(expression, expression, Wanted::String, &self.environments.messages, path, &mut self.errors);
    }
}

fn conditions(list: &[MatchCondition], environment: &Environment, path: &Path, errors: &mut Vec<Error>) {
    for (index, condition) in list.iter().enumerate() {
        let path = path.child("matchConditions").index(index).child("expression");
        let expression = condition.expression.trim();
        compile(expression, expression, Wanted::Bool, environment, &path, errors);
    }
}

/// What is blank has been refused for that, or may be so.
fn compile(
    expression: &str,
    shown: &str,
    wanted: Wanted,
    environment: &Environment,
    path: &Path,
    errors: &mut Vec<Error>,
) {
    if blank(expression) {
        return;
    }
    if let Err(problem) = environment.compile(expression, wanted) {
        errors.push(Error::invalid(path, shown, problem));
    }
}

fn blank(expression: &str) -> bool {
    expression.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(errors: &[Error]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn spec(pointer: &str, value: Value) -> Value {
        let mut policy = json!({"metadata": {"name": "p"}, "spec": {
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConditions": [{"name": "a", "expression": " params.data.on == 'yes' "}],
            "variables": [{"name": "n", "expression": "object.spec.replicas"}, {"name": "m", "expression": "variables.n + 1"}],
            "validations": [{"expression": "variables.m > 1 && authorizer.requestResource.check('x').allowed()",
                "messageExpression": "'is ' + string(variables.m)"}],
            "auditAnnotations": [{"key": "k", "valueExpression": "variables.m > 3 ? 'many' : 'few'"}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'test', path: '/a', value: 1}]"}},
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: variables.m}}"}}]}});
        if !pointer.is_empty() {
            *policy.pointer_mut(&format!("/spec/{pointer}")).expect("a place") = value;
        }
        policy
    }

    fn of_validating(pointer: &str, value: Value) -> Vec<String> {
        shown(&validating(&serde_json::from_value(spec(pointer, value)).expect("a policy")))
    }

    fn of_mutating(pointer: &str, value: Value) -> Vec<String> {
        shown(&mutating(&serde_json::from_value(spec(pointer, value)).expect("a policy")))
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused_where_it_stands() {
        assert_eq!(of_validating("", json!(null)), [""; 0]);
        assert_eq!(of_mutating("", json!(null)), [""; 0]);
        for (pointer, value, expected) in [
            (
                "matchConditions/0/expression",
                " 1 ",
                "spec.matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
            ),
            (
                "matchConditions/0/expression",
                "variables.n > 1",
                "spec.matchConditions[0].expression: Invalid value: \"variables.n > 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables' (in container '')",
            ),
            (
                "variables/1/expression",
                "variables.m",
                "spec.variables[1].expression: Invalid value: \"variables.m\": compilation failed: ERROR: <input>:1:10: undefined field 'm'",
            ),
            (
                "validations/0/expression",
                "object.spec.on",
                "spec.validations[0].expression: Invalid value: \"object.spec.on\": must evaluate to bool but got dyn",
            ),
            (
                "validations/0/messageExpression",
                "1",
                "spec.validations[0].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
            ),
            (
                "validations/0/messageExpression",
                "authorizer.path('/').check('get').reason()",
                "spec.validations[0].messageExpression: Invalid value: \"authorizer.path('/').check('get').reason()\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer' (in container '')",
            ),
            (
                "auditAnnotations/0/valueExpression",
                "true",
                "spec.auditAnnotations[0].valueExpression: Invalid value: \"true\": must evaluate to one of [string null_type] but got bool",
            ),
        ] {
            let found = of_validating(pointer, json!(value));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
        for (pointer, value, expected) in [
            (
                "mutations/0/jsonPatch/expression",
                "[1]",
                "spec.mutations[0].jsonPatch.expression: Invalid value: \"[1]\": must evaluate to list(JSONPatch) but got list(int)",
            ),
            (
                "mutations/1/applyConfiguration/expression",
                " {'a': 1} ",
                "spec.mutations[1].applyConfiguration.expression: Invalid value: \"{'a': 1}\": must evaluate to Object but got map(string, int)",
            ),
            (
                "mutations/1/applyConfiguration/expression",
                "Other{}",
                "spec.mutations[1].applyConfiguration.expression: Invalid value: \"Other{}\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'Other'",
            ),
        ] {
            let found = of_mutating(pointer, json!(value));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
        // Without a paramKind there are no parameters.
        let found = of_validating("paramKind", json!(null));
        assert!(found.len() == 1 && found[0].contains("undeclared reference to 'params'"), "{found:?}");
    }

    #[test]
    fn of_webhooks_too() {
        let condition = |expression: &str| vec![MatchCondition { name: "a".into(), expression: expression.into() }];
        let good = condition("request.userInfo.username != 'a' && authorizer.requestResource.check('b').allowed()");
        let params = condition("params.a == 1");
        assert_eq!(webhooks([Some(good.as_slice()), None].into_iter()), []);
        let found = shown(&webhooks([None, Some(params.as_slice())].into_iter()));
        assert!(
            found.len() == 1
                && found[0].starts_with("webhooks[1].matchConditions[0].expression: Invalid value: \"params.a == 1\""),
            "{found:?}"
        );
    }
}
