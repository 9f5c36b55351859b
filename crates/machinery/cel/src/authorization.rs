//! What `authorizer` and what is built from it are. An evaluation asks nobody: a check whose answer its caller has not
//! given yet ends it with that question, and the caller evaluates again once it knows.

use crate::eval::{EvalError, Result};
use crate::value::Val;

/// In whose name a check is, where that is another than who sent the request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceCheck {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Path(String),
    Resource(ResourceCheck),
}

/// What somebody else has to answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    pub account: Option<ServiceAccount>,
    pub verb: String,
    pub action: Action,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// A value of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    Authorizer(Option<ServiceAccount>),
    Group(Option<ServiceAccount>, String),
    Check(Option<ServiceAccount>, Action),
    Decision(Decision),
}

impl Authorization {
    pub const AUTHORIZER: &'static str = "kubernetes.authorization.Authorizer";
    pub const PATH_CHECK: &'static str = "kubernetes.authorization.PathCheck";
    pub const GROUP_CHECK: &'static str = "kubernetes.authorization.GroupCheck";
    pub const RESOURCE_CHECK: &'static str = "kubernetes.authorization.ResourceCheck";
    pub const DECISION: &'static str = "kubernetes.authorization.Decision";

    /// `authorizer`.
    pub fn authorizer() -> Val {
        Self::Authorizer(None).into()
    }

    /// `authorizer.requestResource`.
    pub fn of_resource(resource: ResourceCheck) -> Val {
        Self::Check(None, Action::Resource(resource)).into()
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Authorizer(_) => Self::AUTHORIZER,
            Self::Group(..) => Self::GROUP_CHECK,
            Self::Check(_, Action::Path(_)) => Self::PATH_CHECK,
            Self::Check(_, Action::Resource(_)) => Self::RESOURCE_CHECK,
            Self::Decision(_) => Self::DECISION,
        }
    }

    /// The question that `check(verb)` asks.
    pub(crate) fn question(&self, verb: &str) -> Option<Question> {
        match self {
            Self::Check(account, action) => {
                Some(Question { account: account.clone(), verb: verb.to_owned(), action: action.clone() })
            }
            _ => None,
        }
    }
}

impl From<Authorization> for Val {
    fn from(value: Authorization) -> Self {
        Self::Authorization(value.into())
    }
}

fn fail(problem: &str) -> Result {
    Err(EvalError::Function(problem.to_owned()))
}

pub(crate) fn call(name: &str, args: &[Val]) -> Option<Result> {
    let [Val::Authorization(of), rest @ ..] = args else { return None };
    let blank = |text: &str| text.trim().is_empty();
    Some(match (&**of, name, rest) {
        (Authorization::Authorizer(_), "path", [Val::String(path)]) if blank(path) => fail("path must not be empty"),
        (Authorization::Authorizer(account), "path", [Val::String(path)]) => {
            Ok(Authorization::Check(account.clone(), Action::Path(path.to_string())).into())
        }
        (Authorization::Authorizer(account), "group", [Val::String(group)]) => {
            Ok(Authorization::Group(account.clone(), group.to_string()).into())
        }
        (Authorization::Authorizer(_), "serviceAccount", [Val::String(namespace), Val::String(name)]) => {
            service_account(namespace, name)
        }
        (Authorization::Group(..), "resource", [Val::String(resource)]) if blank(resource) => {
            fail("resource must not be empty")
        }
        (Authorization::Group(account, group), "resource", [Val::String(resource)]) => {
            let group = group.clone();
            let check = ResourceCheck { group, resource: resource.to_string(), ..ResourceCheck::default() };
            Ok(Authorization::Check(account.clone(), Action::Resource(check)).into())
        }
        (Authorization::Check(account, Action::Resource(check)), name, [Val::String(text)]) => {
            let mut check = check.clone();
            *(match name {
                "subresource" => &mut check.subresource,
                "namespace" => &mut check.namespace,
                "name" => &mut check.name,
                "fieldSelector" => &mut check.field_selector,
                "labelSelector" => &mut check.label_selector,
                _ => return None,
            }) = text.to_string();
            Ok(Authorization::Check(account.clone(), Action::Resource(check)).into())
        }
        (Authorization::Decision(decision), name, []) => Ok(match name {
            "allowed" => Val::Bool(decision.allowed),
            "reason" => Val::from(decision.reason.as_str()),
            "errored" => Val::Bool(decision.error.is_some()),
            "error" => Val::from(decision.error.as_deref().unwrap_or_default()),
            _ => return None,
        }),
        _ => return None,
    })
}

fn service_account(namespace: &str, name: &str) -> Result {
    if !base_meta::names::dns1123_subdomain(name).is_empty() {
        return fail("Invalid service account name");
    }
    if !base_meta::names::dns1123_label(namespace).is_empty() {
        return fail("Invalid service account namespace");
    }
    let account = ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() };
    Ok(Authorization::Authorizer(Some(account)).into())
}
