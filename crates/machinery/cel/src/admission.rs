//! The variables that an expression of the admission API sees, and the types its result may have.
//!
//! The same here for whoever checks an expression when it is written, types it against a schema, or runs it.

use std::collections::BTreeMap;

use crate::authorization::Authorization;
use crate::declarations::Declarations;
use crate::made;
use crate::program::Program;
use crate::types::{Kind, Ty};

/// What all expressions of one policy may cost together for one request and one parameter.
pub const PER_POLICY_LIMIT: u64 = 10_000_000;
/// What all conditions of one webhook or policy may cost together.
pub const CONDITIONS_LIMIT: u64 = 2_500_000;

/// Which results an expression may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Any,
    Bool,
    String,
    StringOrNull,
    ApplyConfiguration,
    JsonPatch,
}

impl Wanted {
    fn fits(self, ty: &Ty) -> bool {
        match (self, &ty.kind) {
            (Self::Any, _)
            | (Self::Bool, Kind::Bool)
            | (Self::String | Self::StringOrNull, Kind::String)
            | (Self::StringOrNull, Kind::Null) => true,
            (Self::ApplyConfiguration, Kind::Made(name)) => **name == *made::OBJECT,
            // An empty list is one of anything.
            (Self::JsonPatch, Kind::List(item)) => match &item.kind {
                Kind::Made(name) => **name == *made::JSON_PATCH,
                kind => matches!(kind, Kind::Dyn),
            },
            _ => false,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Bool => "bool",
            Self::String => "string",
            Self::StringOrNull => "one of [string null_type]",
            Self::ApplyConfiguration => made::OBJECT,
            Self::JsonPatch => "list(JSONPatch)",
        }
    }
}

/// What the expressions of one webhook or policy may name.
#[derive(Clone, Debug)]
pub struct Environment {
    declarations: Declarations,
    variables: BTreeMap<String, Ty>,
}

impl Default for Environment {
    fn default() -> Self {
        let declarations = Declarations::default()
            .with("object", Kind::Dyn.into())
            .with("oldObject", Kind::Dyn.into())
            .with("request", request())
            .with("namespaceObject", namespace());
        Self { declarations, variables: BTreeMap::new() }
    }
}

impl Environment {
    fn with(mut self, name: &str, ty: Ty) -> Self {
        self.declarations = self.declarations.with(name, ty);
        self
    }

    #[must_use]
    pub fn with_params(self, ty: Ty) -> Self {
        self.with("params", ty)
    }

    #[must_use]
    pub fn with_authorizer(self) -> Self {
        self.with("authorizer", Kind::Opaque(Authorization::AUTHORIZER).into())
            .with("authorizer.requestResource", Kind::Opaque(Authorization::RESOURCE_CHECK).into())
    }

    /// With the type that the request's object is known to have.
    #[must_use]
    pub fn with_object(self, ty: Ty) -> Self {
        self.with("object", ty.clone()).with("oldObject", ty)
    }

    /// For expressions that say what is to be changed.
    #[must_use]
    pub fn making(mut self) -> Self {
        self.declarations = self.declarations.making();
        self
    }

    /// `variables` itself; what is declared later is found in it.
    #[must_use]
    pub fn with_variables(self) -> Self {
        let fields = self.variables.clone();
        self.with("variables", Ty::object("kubernetes.variables", fields))
    }

    /// From now on `variables.name` is there.
    pub fn declare_variable(&mut self, name: &str, ty: Ty) {
        self.variables.insert(name.to_owned(), ty);
        *self = self.clone().with_variables();
    }

    /// Why an expression is refused, in upstream's words.
    pub fn compile(&self, expression: &str, wanted: Wanted) -> Result<Program, String> {
        let program = Program::compile(expression, &self.declarations).map_err(|error| error.to_string())?;
        if wanted.fits(program.ty()) {
            return Ok(program);
        }
        Err(format!("must evaluate to {} but got {}", wanted.text(), runtime_name(program.ty())))
    }
}

/// The environments of one policy's expressions.
pub struct PolicyEnvironments {
    /// Of `matchConditions`.
    pub conditions: Environment,
    /// Of everything else but messages.
    pub expressions: Environment,
    /// Of messages: they ask no authorizer.
    pub messages: Environment,
}

impl PolicyEnvironments {
    /// `params`: whether the policy has a `paramKind`. `variables`: whether there is anything named so.
    pub fn new(params: bool, variables: bool) -> Self {
        let mut messages = Environment::default();
        if params {
            messages = messages.with_params(Kind::Dyn.into());
        }
        let conditions = messages.clone().with_authorizer();
        let mut expressions = conditions.clone();
        if variables {
            (expressions, messages) = (expressions.with_variables(), messages.with_variables());
        }
        Self { conditions, expressions, messages }
    }

    /// With the types that the object and the parameters are known to have.
    #[must_use]
    pub fn typed(self, object: Ty, params: Option<Ty>) -> Self {
        let with = |environment: Environment| {
            let environment = environment.with_object(object.clone());
            params.clone().map_or(environment.clone(), |params| environment.with_params(params))
        };
        Self { conditions: with(self.conditions), expressions: with(self.expressions), messages: with(self.messages) }
    }

    /// Declares a variable for what comes after it: of any type, where its expression does not compile.
    pub fn variable(&mut self, name: &str, expression: &str) -> Result<Program, String> {
        let program = self.expressions.compile(expression, Wanted::Any);
        let ty = program.as_ref().map_or_else(|_| Kind::Dyn.into(), |program| program.ty().clone());
        self.expressions.declare_variable(name, ty.clone());
        self.messages.declare_variable(name, ty);
        program
    }
}

/// The type as its values name it: some are called otherwise in a complaint about operands.
fn runtime_name(ty: &Ty) -> String {
    match &ty.kind {
        Kind::Null => "null_type".to_owned(),
        Kind::Timestamp => "google.protobuf.Timestamp".to_owned(),
        Kind::Duration => "google.protobuf.Duration".to_owned(),
        _ => ty.to_string(),
    }
}

fn structure(name: &str, fields: &[(&str, Ty)]) -> Ty {
    Ty::object(name, fields.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())))
}

fn texts(name: &str, fields: &[&str]) -> Ty {
    Ty::object(name, fields.iter().map(|name| ((*name).to_owned(), string())))
}

fn string() -> Ty {
    Kind::String.into()
}

/// `admission.k8s.io/v1 AdmissionRequest`, without the objects, which are variables of their own.
fn request() -> Ty {
    let gvk = texts("kubernetes.GroupVersionKind", &["group", "version", "kind"]);
    let gvr = texts("kubernetes.GroupVersionResource", &["group", "version", "resource"]);
    let strings = Ty::list(string());
    let user = structure(
        "kubernetes.UserInfo",
        &[
            ("username", string()),
            ("uid", string()),
            ("groups", strings.clone()),
            ("extra", Ty::map(string(), strings)),
        ],
    );
    structure(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", gvk.clone()),
            ("resource", gvr.clone()),
            ("subResource", string()),
            ("requestKind", gvk),
            ("requestResource", gvr),
            ("requestSubResource", string()),
            ("name", string()),
            ("namespace", string()),
            ("operation", string()),
            ("userInfo", user),
            ("dryRun", Kind::Bool.into()),
            ("options", Kind::Dyn.into()),
        ],
    )
}

/// Where the object is: what upstream lets an expression see of it.
fn namespace() -> Ty {
    let strings = Ty::list(string());
    let labels = Ty::map(string(), string());
    let time = || Ty::from(Kind::Timestamp);
    let condition = structure(
        "kubernetes.NamespaceCondition",
        &[
            ("status", string()),
            ("type", string()),
            ("lastTransitionTime", time()),
            ("message", string()),
            ("reason", string()),
        ],
    );
    let metadata = structure(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", string()),
            ("generateName", string()),
            ("namespace", string()),
            ("labels", labels.clone()),
            ("annotations", labels),
            ("UID", string()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", Kind::Int.into()),
            ("deletionTimestamp", time()),
            ("generation", Kind::Int.into()),
            ("resourceVersion", string()),
            ("finalizers", strings.clone()),
        ],
    );
    let spec = structure("kubernetes.NamespaceSpec", &[("finalizers", strings)]);
    let status = structure("kubernetes.NamespaceStatus", &[("conditions", Ty::list(condition)), ("phase", string())]);
    structure("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_types_that_are_asked_for() {
        let mut environment = Environment::default().with_authorizer().with_variables().making();
        environment.declare_variable("n", Kind::Int.into());
        for (source, wanted, expected) in [
            ("object.spec.replicas <= variables.n", Wanted::Bool, ""),
            ("request.userInfo.username.startsWith('a') && oldObject == null", Wanted::Bool, ""),
            ("namespaceObject.metadata.labels['a'] == 'b'", Wanted::Bool, ""),
            ("authorizer.group('').resource('pods').namespace('a').name('b').check('get').allowed()", Wanted::Bool, ""),
            (
                "authorizer.requestResource.check('x').allowed() && !authorizer.path('/').check('get').errored()",
                Wanted::Bool,
                "",
            ),
            ("1", Wanted::Bool, "must evaluate to bool but got int"),
            ("object.spec.flag", Wanted::Bool, "must evaluate to bool but got dyn"),
            ("null", Wanted::StringOrNull, ""),
            ("true", Wanted::StringOrNull, "must evaluate to one of [string null_type] but got bool"),
            ("null", Wanted::String, "must evaluate to string but got null_type"),
            ("Object{spec: Object.spec{replicas: 1}}", Wanted::ApplyConfiguration, ""),
            ("Object.spec{}", Wanted::ApplyConfiguration, "must evaluate to Object but got Object.spec"),
            ("[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: 1}]", Wanted::JsonPatch, ""),
            ("has(object.a) ? [JSONPatch{op: 'remove', path: '/a'}] : []", Wanted::JsonPatch, ""),
            ("[1]", Wanted::JsonPatch, "must evaluate to list(JSONPatch) but got list(int)"),
            (
                "variables.m",
                Wanted::Any,
                "compilation failed: ERROR: <input>:1:10: undefined field 'm'\n | variables.m\n | .........^",
            ),
            (
                "params",
                Wanted::Any,
                "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params\n | ^",
            ),
        ] {
            let compiled = environment.compile(source, wanted);
            assert_eq!(compiled.err().unwrap_or_default(), expected, "{source}");
        }
        let refused = |source| Environment::default().compile(source, Wanted::Any).is_err();
        for source in ["Object{}", "authorizer", "jsonpatch.escapeKey('a')", "variables.n"] {
            assert!(refused(source), "{source}");
        }
        for source in ["JSONPatch{nope: 1}", "JSONPatch{op: 1}", "Other{}"] {
            assert!(environment.compile(source, Wanted::Any).is_err(), "{source}");
        }
        assert!(Environment::default().with_params(Kind::Dyn.into()).compile("params.a", Wanted::Any).is_ok());
    }
}
