//! What can be told of a policy's expressions before any request comes: they are checked against the schemas of what
//! the policy is about. Pure.

use machinery_cel::Ty;
use machinery_cel::admission::{PolicyEnvironments, Wanted};
use serde_json::{Value, json};

/// More are not looked at.
const MAX_TYPES: usize = 10;

/// A kind, as Go prints it, and its type.
pub(super) type Typed = (String, Ty);

/// What a policy's rules name: groups, versions and resources without wildcards and subresources.
pub(super) fn named(policy: &Value) -> Vec<[String; 3]> {
    let mut all = Vec::new();
    for rule in policy["spec"]["matchConstraints"]["resourceRules"].as_array().into_iter().flatten() {
        let mut lists = ["apiGroups", "apiVersions", "resources"].map(|name| {
            let items = rule[name].as_array().into_iter().flatten().filter_map(Value::as_str);
            let mut items: Vec<&str> = items.collect();
            items.sort_unstable();
            items
        });
        if lists[..2].iter().flatten().any(|item| item.contains('*')) {
            continue;
        }
        lists[2].retain(|resource| !resource.contains(['*', '/']));
        let [groups, versions, resources] = &lists;
        for group in groups {
            for version in versions {
                all.extend(resources.iter().map(|resource| [group, version, resource].map(|part| (*part).to_owned())));
            }
        }
    }
    all
}

/// `status.typeChecking.expressionWarnings`. `types`: what [`named`] found, sorted.
pub(super) fn warnings(policy: &Value, types: &[Typed], params: Option<&Ty>) -> Vec<Value> {
    let spec = &policy["spec"];
    let environments: Vec<(&str, PolicyEnvironments)> = types
        .iter()
        .take(MAX_TYPES)
        .map(|(kind, ty)| {
            let typed = PolicyEnvironments::new(params.is_some(), true).typed(ty.clone(), params.cloned());
            let mut typed = typed;
            for variable in spec["variables"].as_array().into_iter().flatten() {
                let text = |field: &str| variable[field].as_str().unwrap_or_default();
                // One that is wrong is told where it is used.
                drop(typed.variable(text("name"), text("expression")));
            }
            (kind.as_str(), typed)
        })
        .collect();
    let mut warnings = Vec::new();
    for (index, validation) in spec["validations"].as_array().into_iter().flatten().enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = validation[field].as_str().unwrap_or_default();
            if expression.is_empty() {
                continue;
            }
            let problems = environments.iter().filter_map(|(kind, environments)| {
                let problem = environments.expressions.compile(expression, Wanted::Any).err()?;
                let problem = problem.strip_prefix("compilation failed: ").unwrap_or(&problem);
                Some(format!("{kind}: {problem}\n"))
            });
            let problems: Vec<String> = problems.collect();
            if !problems.is_empty() {
                let place = format!("spec.validations[{index}].{field}");
                warnings.push(json!({"fieldRef": place, "warning": problems.join("\n")}));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use base_meta::Gvk;
    use machinery_cel::declare_built_in;

    use super::*;

    fn typed(group: &'static str, kind: &'static str) -> Typed {
        let gvk = Gvk::of(group, "v1", kind);
        let (group, kind) = (group.to_owned(), kind.to_owned());
        let schema = api::schema::by_gvk(&gvk).unwrap_or_else(|| panic!("{group} {kind}"));
        (gvk.to_string(), declare_built_in(schema))
    }

    #[test]
    fn a_policy_is_about_what_its_rules_name() {
        let rule = |groups: Value, versions: Value, resources: Value| {
            json!({"spec": {"matchConstraints": {"resourceRules": [
                {"apiGroups": groups, "apiVersions": versions, "resources": resources}]}}})
        };
        let found = |policy: Value| named(&policy).into_iter().map(|parts| parts.join("/")).collect::<Vec<_>>();
        assert_eq!(
            found(rule(json!(["apps"]), json!(["v1"]), json!(["replicasets", "deployments", "*", "pods/exec"]))),
            ["apps/v1/deployments", "apps/v1/replicasets"]
        );
        assert_eq!(found(rule(json!(["*"]), json!(["v1"]), json!(["pods"]))), [""; 0]);
        assert_eq!(found(rule(json!([""]), json!(["*"]), json!(["pods"]))), [""; 0]);
        assert_eq!(found(json!({"spec": {}})), [""; 0]);
    }

    #[test]
    fn what_no_object_has_is_told_for_each_kind() {
        let policy = json!({"spec": {
            "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
            "validations": [
                {"expression": "variables.replicas > 1 && object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')"},
                {"expression": "object.replicas > 1", "messageExpression": "object.metadata.nope"},
                {"expression": "object.spec.template.spec.containers.all(c, c.image.startsWith('a'))"}]}});
        let types = [typed("apps", "Deployment"), typed("apps", "DaemonSet")];
        let told = |types: &[Typed]| {
            let told = warnings(&policy, types, None);
            let text = |warning: &Value, field: &str| warning[field].as_str().map(str::to_owned).unwrap_or_default();
            told.iter().map(|warning| (text(warning, "fieldRef"), text(warning, "warning"))).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&types[..1]),
            [
                (
                    "spec.validations[1].expression".to_owned(),
                    "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n".to_owned()
                ),
                (
                    "spec.validations[1].messageExpression".to_owned(),
                    "apps/v1, Kind=Deployment: ERROR: <input>:1:16: undefined field 'nope'\n | object.metadata.nope\n | ...............^\n".to_owned()
                ),
            ]
        );
        assert!(told(&types)[0].1.contains("\n\napps/v1, Kind=DaemonSet: ERROR"), "{:?}", told(&types));
        assert_eq!(told(&[]), []);
    }

    #[test]
    fn parameters_have_a_type_too() {
        let policy = json!({"spec": {"validations": [{"expression": "params.data.max == 'a' && params.nope == 1"}]}});
        let types = [typed("", "Pod")];
        let with = warnings(&policy, &types, Some(&typed("", "ConfigMap").1));
        assert!(with.len() == 1 && with[0].to_string().contains("undefined field 'nope'"), "{with:?}");
        let without = warnings(&policy, &types, None);
        assert!(without[0].to_string().contains("undeclared reference to 'params'"), "{without:?}");
    }

    #[test]
    fn every_kind_has_a_type() {
        for kind in api::schema::kinds() {
            let gvk = Gvk::of(kind.group, kind.version, kind.kind);
            assert!(api::schema::by_gvk(&gvk).map(declare_built_in).is_some());
        }
    }
}
