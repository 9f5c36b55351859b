//! `audit.k8s.io/v1 Policy`: how much of which request is recorded. The first rule that matches counts.

use serde::Deserialize;

use crate::authorization::{Action, Attributes};

/// How much is recorded; each level includes the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    #[default]
    None,
    /// Who, what, when, and how it ended.
    Metadata,
    /// With the object of the request.
    Request,
    /// With the object of the answer.
    RequestResponse,
}

impl Level {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Of a long-running request alone.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("audit policy: not YAML of an audit.k8s.io/v1 Policy")]
    Syntax(#[source] serde_norway::Error),
    #[error("audit policy: {0}")]
    Invalid(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Rule {
    level: Option<Level>,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What is to be recorded of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl Policy {
    /// From the file's text.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = serde_norway::from_str(text).map_err(PolicyError::Syntax)?;
        let invalid = |why: String| Err(PolicyError::Invalid(why));
        if (policy.api_version.as_str(), policy.kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            return invalid(format!("{} {} is no audit.k8s.io/v1 Policy", policy.api_version, policy.kind));
        }
        if policy.rules.is_empty() {
            return invalid("it has no rules".into());
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            if rule.level.is_none() {
                return invalid(format!("rules[{index}] has no level"));
            }
            let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if of_resources && !rule.non_resource_urls.is_empty() {
                return invalid(format!("rules[{index}] applies to regular resources and non-resource URLs both"));
            }
            let bad = |url: &&String| *url != "*" && (!url.starts_with('/') || url.trim_end_matches('*').contains('*'));
            if let Some(url) = rule.non_resource_urls.iter().find(bad) {
                return invalid(format!(
                    "rules[{index}]: the non-resource URL {url:?} is no path with a trailing '*' at most"
                ));
            }
        }
        Ok(policy)
    }

    pub(super) fn wanted(&self, attributes: &Attributes<'_>) -> Wanted {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(attributes)) else { return Wanted::default() };
        Wanted {
            level: rule.level.unwrap_or_default(),
            omit_stages: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

/// An empty list means any.
fn any_of(list: &[String], value: &str) -> bool {
    list.is_empty() || list.iter().any(|one| one == value)
}

impl Rule {
    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        let user = attributes.user;
        let grouped = self.user_groups.is_empty() || self.user_groups.iter().any(|group| user.groups.contains(group));
        if !any_of(&self.users, &user.name) || !grouped || !any_of(&self.verbs, attributes.verb) {
            return false;
        }
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        match &attributes.action {
            Action::Resource { group, resource, subresource, namespace, name, .. } => {
                if !of_resources {
                    return self.non_resource_urls.is_empty();
                }
                let covers = |of: &GroupResources| of.group == *group && of.cover(resource, subresource, name);
                any_of(&self.namespaces, namespace) && (self.resources.is_empty() || self.resources.iter().any(covers))
            }
            Action::Path(path) => {
                if of_resources {
                    return false;
                }
                let covers = |url: &String| match url.strip_suffix('*') {
                    Some(start) => path.starts_with(start),
                    None => url == path,
                };
                self.non_resource_urls.is_empty() || self.non_resource_urls.iter().any(covers)
            }
        }
    }
}

impl GroupResources {
    fn cover(&self, resource: &str, subresource: &str, name: &str) -> bool {
        if self.resources.is_empty() {
            return true;
        }
        if !any_of(&self.resource_names, name) {
            return false;
        }
        self.resources.iter().any(|pattern| match pattern.split_once('/') {
            None => pattern == "*" || (subresource.is_empty() && pattern == resource),
            Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
            Some((of, "*")) => of == resource,
            Some((of, sub)) => of == resource && sub == subresource,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use machinery_registry::UserInfo;

    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: ["watch"]
  resources: [{group: "", resources: ["endpoints", "services"]}]
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: Request
  namespaces: ["kube-system"]
  resources: [{group: "", resources: ["configmaps"], resourceNames: ["one"]}]
- level: Metadata
  resources: [{group: "", resources: ["secrets", "pods/*", "*/status"]}]
  omitStages: [ResponseStarted]
- level: RequestResponse
  userGroups: ["humans"]
  resources: [{group: "apps"}]
"#;

    #[test]
    fn the_first_rule_that_matches_counts() {
        let policy = Policy::parse(POLICY).unwrap();
        let level = |user: &str, verb: &'static str, action: Action<'_>| {
            let user = UserInfo { name: user.into(), groups: vec!["humans".into()], ..UserInfo::default() };
            policy.wanted(&Attributes { user: &user, verb, action }).level
        };
        let resource = |group, resource, subresource, namespace, name| Action::Resource {
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
        };
        assert_eq!(level("system:kube-proxy", "watch", resource("", "services", "", "", "")), Level::None);
        assert_eq!(level("x", "get", Action::Path("/healthz/ping")), Level::None);
        assert_eq!(level("x", "get", resource("", "configmaps", "", "kube-system", "one")), Level::Request);
        assert_eq!(level("x", "get", resource("", "configmaps", "", "default", "one")), Level::None);
        assert_eq!(level("x", "get", resource("", "secrets", "", "a", "b")), Level::Metadata);
        assert_eq!(level("x", "create", resource("", "pods", "exec", "a", "b")), Level::Metadata);
        assert_eq!(level("x", "update", resource("", "nodes", "status", "", "b")), Level::Metadata);
        assert_eq!(level("x", "get", resource("apps", "deployments", "", "a", "b")), Level::RequestResponse);
        assert_eq!(level("x", "get", Action::Path("/apis")), Level::None);
        let user = UserInfo::default();
        let action = resource("", "secrets", "", "a", "b");
        let wanted = policy.wanted(&Attributes { user: &user, verb: "get", action });
        assert_eq!(wanted.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
    }

    #[test]
    fn bad_policies_are_refused() {
        let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
        for (text, why) in [
            ("rules: [", "not YAML"),
            ("apiVersion: v1\nkind: Policy\nrules: [{level: None}]", "is no audit.k8s.io/v1 Policy"),
            (&format!("{head}rules: []"), "no rules"),
            (&format!("{head}rules: [{{users: [a]}}]"), "has no level"),
            (&format!("{head}rules: [{{level: Everything}}]"), "not YAML"),
            (&format!("{head}rules: [{{level: None, colour: red}}]"), "not YAML"),
            (&format!("{head}rules: [{{level: None, nonResourceURLs: [healthz]}}]"), "is no path"),
            (&format!("{head}rules: [{{level: None, namespaces: [a], nonResourceURLs: [/a]}}]"), "both"),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
