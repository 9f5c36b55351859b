//! `matchConditions`: all must be true for a webhook or policy to be asked at all.

use machinery_cel::admission::{CONDITIONS_LIMIT, Environment, Wanted};
use machinery_cel::{Question, Val};
use serde_json::Value;

use super::asking::Asking;
use super::facts::{Document, Facts};
use super::scope::{Compiled, Scope, Stop};

/// Compiled once for each generation of what they stand in.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    each: Vec<Compiled>,
    ignore: bool,
}

impl Conditions {
    /// `of` is a webhook, or a policy's spec: its `matchConditions`, and what its `failurePolicy` says of their errors.
    pub(crate) fn compile(of: &Value, environment: &Environment) -> Self {
        let conditions = of["matchConditions"].as_array().into_iter().flatten();
        let texts = conditions.map(|condition| condition["expression"].as_str().unwrap_or_default());
        Self {
            each: texts.map(|text| Compiled::new(text, Wanted::Bool, environment)).collect(),
            ignore: of["failurePolicy"] == "Ignore",
        }
    }

    /// Of a webhook: there are no parameters.
    pub(crate) fn of_webhook(webhook: &Value) -> Self {
        Self::compile(webhook, &Environment::default().with_authorizer())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Whether a webhook is to be called with `object`. An error is the request's refusal.
    pub(crate) async fn hold(&self, facts: &Facts<'_>, object: &Document<'_>, asking: &Asking) -> Result<bool, String> {
        if self.is_empty() {
            return Ok(true);
        }
        let nothing = Document::new(None);
        asking.settled(|| self.judge(&Scope::new(facts, object, &nothing, &[], asking, 0))).await
    }

    /// As [`Self::hold`], where a policy's expressions are evaluated in the same scope.
    pub(crate) fn judge(&self, scope: &Scope<'_>) -> Result<Result<bool, String>, Box<Question>> {
        scope.renew(CONDITIONS_LIMIT);
        let mut problems = Vec::new();
        let (mut failed, mut spent) = (false, None);
        for condition in &self.each {
            match scope.evaluate(condition) {
                Ok(Ok(Val::Bool(true))) => {}
                Ok(Ok(_)) => failed = true,
                Ok(Err(problem)) => problems.push(problem),
                Err(Stop::Question(question)) => return Err(question),
                Err(Stop::OutOfBudget) => {
                    spent = Some(Stop::OUT_OF_BUDGET.to_owned());
                    break;
                }
            }
        }
        // Even beside an error, one that is false is enough.
        let problem = match (spent, failed) {
            (Some(problem), _) => problem,
            (None, true) => return Ok(Ok(false)),
            (None, false) => match problems.as_slice() {
                [] => return Ok(Ok(true)),
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            },
        };
        Ok(if self.ignore { Ok(false) } else { Err(problem) })
    }
}

#[cfg(test)]
mod tests {
    use base_meta::{Gvk, Gvr};
    use machinery_registry::Operation;
    use serde_json::json;

    use super::super::super::testing::Asked;
    use super::super::testing::asking;
    use super::*;

    async fn judged(expressions: &[&str], failure: &str) -> Result<bool, String> {
        let conditions: Vec<_> = expressions.iter().map(|text| json!({"name": "a", "expression": text})).collect();
        let conditions = Conditions::of_webhook(&json!({"matchConditions": conditions, "failurePolicy": failure}));
        let (kind, resource) = (Gvk::of("", "v1", "Pod"), Gvr::of("", "v1", "pods"));
        let asked = Asked::new(resource.clone(), "here", "p", Operation::Create).by("jane", &["devs"]);
        let attributes = asked.attributes(None);
        let namespace = json!({"metadata": {"name": "here", "labels": {"team": "a"}, "managedFields": []},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let facts = Facts::new(&attributes, &kind, &resource, None, Some(&namespace));
        let object = json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"replicas": 3}});
        let asking = asking("jane");
        conditions.hold(&facts, &Document::new(Some(&object)), &asking).await
    }

    #[tokio::test]
    async fn all_must_be_true() {
        let always: &[&str] = &[
            "request.userInfo.username == 'jane' && 'devs' in request.userInfo.groups",
            "object.spec.replicas == 3 && oldObject == null && request.operation == 'CREATE'",
            "request.resource.resource == 'pods' && request.kind.kind == 'Pod' && request.name == 'p' && request.namespace == 'here'",
            "namespaceObject.metadata.labels.team == 'a' && !has(namespaceObject.metadata.annotations)",
            "!request.dryRun && request.options.kind == 'CreateOptions' && !has(request.subResource)",
            // Jane may read pods in `here`, as the world of the tests has it.
            "authorizer.group('').resource('pods').namespace('here').check('get').allowed()",
            "!authorizer.group('').resource('pods').namespace('there').check('get').allowed()",
            "authorizer.requestResource.check('get').reason().startsWith('RBAC: allowed by RoleBinding')",
            "authorizer.serviceAccount('here', 'builder').group('').resource('secrets').namespace('here').check('list').allowed()",
            "!authorizer.path('/healthz').check('get').errored() && authorizer.path('/x').check('get').error() == ''",
        ];
        for expression in always {
            assert_eq!(judged(&[expression], "Fail").await, Ok(true), "{expression}");
        }
        assert_eq!(judged(&["true", "object.spec.replicas > 5"], "Fail").await, Ok(false));
        assert_eq!(judged(&[], "Fail").await, Ok(true));
    }

    #[tokio::test]
    async fn errors_are_for_the_failure_policy() {
        const MISSING: &str = "expression 'object.spec.nope' resulted in error: no such key: nope";
        let missing = "object.spec.nope == 1";
        let told = MISSING.replace("object.spec.nope'", "object.spec.nope == 1'");
        assert_eq!(judged(&[missing], "Fail").await, Err(told.clone()));
        assert_eq!(judged(&[missing, missing], "Fail").await, Err(format!("[{told}, {told}]")));
        assert_eq!(judged(&[missing], "Ignore").await, Ok(false));
        assert_eq!(judged(&[missing, "false"], "Fail").await, Ok(false), "one that is false is enough");
        let refused = judged(&["1 +"], "Fail").await.expect_err("it does not compile");
        assert!(refused.starts_with("compilation error: compilation failed: ERROR: <input>:1:"), "{refused}");
        let unseen = judged(&["has(namespaceObject.metadata.managedFields)"], "Fail").await.expect_err("not shown");
        assert!(unseen.contains("undefined field 'managedFields'"), "{unseen}");
        let path = judged(&["authorizer.path(' ').check('get').allowed()"], "Fail").await.expect_err("no path");
        assert!(path.ends_with("resulted in error: path must not be empty"), "{path}");
    }

    #[tokio::test]
    async fn what_costs_too_much_is_refused() {
        let check = "authorizer.path('/a').check('get').allowed() == false";
        let three = [check, check, check].join(" && ");
        let told = judged(&[&three], "Fail").await.expect_err("over the limit of one expression");
        assert!(told.ends_with("resulted in error: operation cancelled: actual cost limit exceeded"), "{told}");
        let two = [check, check].join(" && ");
        let four: Vec<&str> = vec![&two; 4];
        assert_eq!(judged(&four, "Fail").await, Err(Stop::OUT_OF_BUDGET.to_owned()));
        assert_eq!(judged(&four[..3], "Fail").await, Ok(true));
    }
}
