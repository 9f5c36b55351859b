//! Rules as data, in the shape of RBAC's: what the node authorizer grants every node.

use machinery_apiserver::Action;

#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// `*` stands for all. A resource is `pods`, `pods/status` or `*`; `namespace` empty: any; `names` empty: any.
    Resources {
        verbs: &'static [&'static str],
        groups: &'static [&'static str],
        resources: &'static [&'static str],
        namespace: &'static str,
        names: &'static [&'static str],
    },
    /// A path that no resource serves; one that ends in `*` stands for all that begin so.
    Paths { verbs: &'static [&'static str], paths: &'static [&'static str] },
}

pub const fn resources(
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
) -> Rule {
    Rule::Resources { verbs, groups, resources, namespace: "", names: &[] }
}

impl Rule {
    pub fn allows(&self, verb: &str, action: &Action<'_>) -> bool {
        let any = |list: &[&str], wanted: &str| list.iter().any(|each| *each == "*" || *each == wanted);
        match (self, action) {
            (
                Self::Resources { verbs, groups, resources, namespace: within, names },
                Action::Resource { group, resource, subresource, namespace, name, .. },
            ) => {
                let full =
                    if subresource.is_empty() { (*resource).to_owned() } else { format!("{resource}/{subresource}") };
                any(verbs, verb)
                    && any(groups, group)
                    && any(resources, &full)
                    && (within.is_empty() || within == namespace)
                    && (names.is_empty() || names.contains(name))
            }
            (Self::Paths { verbs, paths }, Action::Path(path)) => {
                let fits = |pattern: &&str| match pattern.strip_suffix('*') {
                    Some(prefix) => path.starts_with(prefix),
                    None => pattern == path,
                };
                any(verbs, verb) && paths.iter().any(fits)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(subresource: &'static str, namespace: &'static str, name: &'static str) -> Action<'static> {
        Action::Resource { group: "", version: "v1", resource: "pods", subresource, namespace, name }
    }

    #[test]
    fn a_rule_allows_what_it_says() {
        let rule = resources(&["get", "list"], &[""], &["pods"]);
        assert!(rule.allows("get", &pods("", "a", "p")));
        assert!(!rule.allows("delete", &pods("", "a", "p")));
        assert!(!rule.allows("get", &pods("status", "a", "p")), "a subresource is another resource");
        assert!(!rule.allows("get", &Action::Path("/pods")));
        let all = resources(&["*"], &["*"], &["*"]);
        assert!(all.allows("patch", &pods("status", "a", "p")));
        let narrow =
            Rule::Resources { verbs: &["get"], groups: &[""], resources: &["pods"], namespace: "a", names: &["p"] };
        assert!(narrow.allows("get", &pods("", "a", "p")));
        assert!(!narrow.allows("get", &pods("", "b", "p")));
        assert!(!narrow.allows("get", &pods("", "a", "q")));
    }

    #[test]
    fn paths() {
        let rule = Rule::Paths { verbs: &["get"], paths: &["/version", "/api/*"] };
        assert!(rule.allows("get", &Action::Path("/version")));
        assert!(rule.allows("get", &Action::Path("/api/v1")));
        assert!(!rule.allows("get", &Action::Path("/versions")));
        assert!(!rule.allows("post", &Action::Path("/version")));
    }
}
