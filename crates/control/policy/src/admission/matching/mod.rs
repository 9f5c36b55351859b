//! Which requests a webhook or a policy is about: rules, `matchPolicy`, `namespaceSelector`, `objectSelector`.
//!
//! ```text
//! handles: Criteria::may_match ─ no ─▶ the plug-in is not asked, nothing is converted
//!              │ perhaps
//! mutate, validate: Request::of(attributes, object) ─▶ Criteria::matches(&request, namespaces).await
//!              │ None: not about it        │ Some(version): the resource and kind that a rule named
//!              ▼                           ▼
//!          next one             versions.convert(object, &version.gvk.group_version()) where it is another
//! ```
//! How to use it: keep a [`Criteria`] for each webhook or policy, made when its object changes: of a webhook itself, or of a
//! policy's `matchConstraints` or a binding's `matchResources` ([`Criteria::parse`] says what no rules at all mean).
//! Ask [`is_exempt`] first: configurations of admission are never sent to what they configure. `matches` answers with
//! upstream's failures (a namespace that does not exist is 404), and only where the rules hold.

mod rules;

use base_meta::selector::LabelSelector;
use base_meta::{Gvr, Status};
use machinery_registry::admission::Version;
use machinery_registry::{Attributes, Operation};
use serde::Deserialize;
use serde_json::Value;

use super::late::Late;
use rules::{Rule, Subject};

/// What requests are matched by.
#[derive(Debug)]
pub(crate) struct Criteria {
    /// `None`: all are.
    rules: Option<Vec<Rule>>,
    excluded: Vec<Rule>,
    /// `matchPolicy: Equivalent`: also by another version or group of the same resource.
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

/// As webhooks and policies both write it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    /// Of webhooks.
    rules: Option<Vec<Rule>>,
    /// Of policies.
    resource_rules: Option<Vec<Rule>>,
    exclude_resource_rules: Option<Vec<Rule>>,
    match_policy: Option<String>,
    namespace_selector: Value,
    object_selector: Value,
}

/// What requests without any rule to match them are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRules {
    /// Not matched: a webhook's.
    Nothing,
    /// Matched: a policy's, and a binding's.
    #[cfg_attr(not(test), allow(dead_code))]
    Everything,
}

impl Criteria {
    /// Of a webhook, `matchConstraints` or `matchResources`; `null` is one that says nothing.
    pub(crate) fn parse(written: &Value, no_rules: NoRules) -> Result<Self, String> {
        let written = Option::<Written>::deserialize(written).map_err(|error| error.to_string())?.unwrap_or_default();
        let selector = |written: &Value| match written {
            Value::Null => Ok(LabelSelector::everything()),
            written => LabelSelector::from_json(written).map_err(|error| error.to_string()),
        };
        let rules = written.rules.or(written.resource_rules).unwrap_or_default();
        Ok(Self {
            rules: (!rules.is_empty() || no_rules == NoRules::Nothing).then_some(rules),
            excluded: written.exclude_resource_rules.unwrap_or_default(),
            equivalent: written.match_policy.as_deref() != Some("Exact"),
            namespaces: selector(&written.namespace_selector)?,
            objects: selector(&written.object_selector)?,
        })
    }

    /// Whether some request like this could match, in whatever version; says no cheaply.
    pub(crate) fn may_match(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        let subresource = subresource.unwrap_or_default();
        let mut rules = self.rules.iter().flatten();
        self.rules.is_none() || rules.any(|rule| rule.may_match(gvr, subresource, operation))
    }

    /// In which version a request matches, if it does. `namespaces` finds the request's own.
    pub(crate) async fn matches<'r>(
        &self,
        request: &'r Request<'_>,
        namespaces: &Late,
    ) -> Result<Option<&'r Version>, Status> {
        let in_namespace = self.matches_namespace(request, namespaces).await;
        if in_namespace == Ok(false) || !self.matches_object(request) {
            return Ok(None);
        }
        if self.named(&self.excluded, request).is_some() {
            return Ok(None);
        }
        let version = match &self.rules {
            None => Some(request.requested()),
            Some(rules) => self.named(rules, request),
        };
        match version {
            Some(version) => in_namespace.map(|_| Some(version)),
            // What goes wrong with a request that is none of its business is not told.
            None => Ok(None),
        }
    }

    fn named<'r>(&self, rules: &[Rule], request: &'r Request<'_>) -> Option<&'r Version> {
        let own = request.requested();
        if rules.iter().any(|rule| rule.matches(request.subject(&own.gvr))) {
            return Some(own);
        }
        if !self.equivalent {
            return None;
        }
        let others = || request.versions.iter().filter(|version| version.gvr != own.gvr);
        rules.iter().find_map(|rule| others().find(|version| rule.matches(request.subject(&version.gvr))))
    }

    fn matches_object(&self, request: &Request<'_>) -> bool {
        let matches =
            |object: Option<&Value>| object.is_some_and(|object| self.objects.matches(|key| label(object, key)));
        self.objects.is_everything() || matches(request.object) || matches(request.attributes.old)
    }

    async fn matches_namespace(&self, request: &Request<'_>, namespaces: &Late) -> Result<bool, Status> {
        let attributes = request.attributes;
        let itself = is_namespaces(attributes.gvr);
        if (request.namespace.is_empty() && !itself) || self.namespaces.is_everything() {
            return Ok(true);
        }
        // The one that is written says what it will be.
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        if itself && written && attributes.ctx.subresource.is_none() {
            let object = request.object.unwrap_or(&Value::Null);
            return Ok(self.namespaces.matches(|key| label(object, key)));
        }
        let found = namespaces.find(attributes.ctx, None, request.namespace).await?;
        let found = found.ok_or_else(|| Status::not_found(&NAMESPACES, request.namespace))?;
        Ok(self.namespaces.matches(|key| found.meta.labels.get(key).map(|value| &**value)))
    }
}

const NAMESPACES: Gvr = Gvr::of("", "v1", "namespaces");

fn is_namespaces(gvr: &Gvr) -> bool {
    super::is(gvr, "", "namespaces")
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// One request, and its object as it is now.
pub(crate) struct Request<'a> {
    pub(crate) attributes: &'a Attributes<'a>,
    pub(crate) object: Option<&'a Value>,
    pub(crate) namespace: &'a str,
    versions: Vec<Version>,
    requested: usize,
}

impl<'a> Request<'a> {
    pub(crate) fn of(attributes: &'a Attributes<'a>, object: Option<&'a Value>) -> Self {
        let versions = attributes.versions.all();
        // What this process writes itself is not always careful to name a version.
        let requested = versions.iter().position(|version| version.gvr == attributes.ctx.gvr).unwrap_or(0);
        Self { attributes, object, namespace: namespace_of(attributes), versions, requested }
    }

    /// The version that the client speaks.
    pub(crate) fn requested(&self) -> &Version {
        &self.versions[self.requested]
    }

    /// The version that objects are in unless converted.
    pub(crate) fn stored(&self) -> &Version {
        &self.versions[0]
    }

    fn subject<'s>(&'s self, gvr: &'s Gvr) -> Subject<'s> {
        Subject {
            operation: self.attributes.operation,
            gvr,
            subresource: self.attributes.ctx.subresource.as_deref().unwrap_or_default(),
            namespace: self.namespace,
            name: self.attributes.name,
        }
    }
}

/// Of a namespace its own name, of what is of the cluster nothing.
pub(crate) fn namespace_of<'a>(attributes: &Attributes<'a>) -> &'a str {
    match attributes.ctx.namespace.as_deref() {
        Some(namespace) => namespace,
        None if is_namespaces(attributes.gvr) => attributes.name,
        None => "",
    }
}

/// The kinds that configure admission are not admitted by what they configure: nobody could mend a mistake.
pub(crate) fn is_exempt(gvr: &Gvr) -> bool {
    let kinds = [
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ];
    gvr.group == "admissionregistration.k8s.io" && kinds.contains(&&*gvr.resource)
}

#[cfg(test)]
mod tests;
