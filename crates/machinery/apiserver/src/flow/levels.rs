//! Which priority level a request is of: upstream's suggested configuration, in small.

use machinery_registry::UserInfo;

use crate::authorization::{Action, Attributes};

/// In the order they are tried when a seat that belongs to nobody in particular comes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Nodes about themselves and their pods.
    System,
    /// Leases by which controllers elect their leaders.
    LeaderElection,
    /// The control plane's own controllers, and what runs in `kube-system`.
    WorkloadHigh,
    /// Every other service account.
    WorkloadLow,
    /// People, and anything else that is authenticated.
    Default,
    /// The rest.
    CatchAll,
}

impl Level {
    pub(super) const ALL: [Self; 6] =
        [Self::System, Self::LeaderElection, Self::WorkloadHigh, Self::WorkloadLow, Self::Default, Self::CatchAll];

    /// `nominalConcurrencyShares`.
    pub(super) const fn shares(self) -> usize {
        match self {
            Self::System => 30,
            Self::LeaderElection => 10,
            Self::WorkloadHigh => 40,
            Self::WorkloadLow => 100,
            Self::Default => 20,
            Self::CatchAll => 5,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::LeaderElection => "leader-election",
            Self::WorkloadHigh => "workload-high",
            Self::WorkloadLow => "workload-low",
            Self::Default => "global-default",
            Self::CatchAll => "catch-all",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// `None`: exempt. Administrators mend what is overloaded; a node whose lease waits would be taken for dead.
    pub(super) fn of(attributes: &Attributes<'_>) -> Option<Self> {
        let user = attributes.user;
        let member = |group: &str| user.groups.iter().any(|of| of == group);
        let leases =
            matches!(attributes.action, Action::Resource { group: "coordination.k8s.io", resource: "leases", .. });
        if member("system:masters") || (leases && member("system:nodes")) {
            return None;
        }
        Some(if member("system:nodes") {
            Self::System
        } else if controller(user) || member("system:serviceaccounts:kube-system") {
            if leases { Self::LeaderElection } else { Self::WorkloadHigh }
        } else if member("system:serviceaccounts") {
            Self::WorkloadLow
        } else if member("system:authenticated") {
            Self::Default
        } else {
            Self::CatchAll
        })
    }
}

fn controller(user: &UserInfo) -> bool {
    ["system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"].contains(&user.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_find_their_level() {
        let of = |name: &str, groups: &[&str], resource: &'static str| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            let user = UserInfo { name: name.into(), groups, ..UserInfo::default() };
            let group = if resource == "leases" { "coordination.k8s.io" } else { "" };
            let action = Action::Resource { group, version: "v1", resource, subresource: "", namespace: "", name: "" };
            Level::of(&Attributes { user: &user, verb: "get", action })
        };
        let authenticated = "system:authenticated";
        assert_eq!(of("admin", &["system:masters", authenticated], "pods"), None);
        assert_eq!(of("system:node:a", &["system:nodes"], "leases"), None);
        assert_eq!(of("system:node:a", &["system:nodes"], "pods"), Some(Level::System));
        assert_eq!(of("system:kube-scheduler", &[authenticated], "leases"), Some(Level::LeaderElection));
        assert_eq!(of("system:kube-scheduler", &[authenticated], "pods"), Some(Level::WorkloadHigh));
        let system = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
        assert_eq!(of("system:serviceaccount:kube-system:x", &system, "pods"), Some(Level::WorkloadHigh));
        assert_eq!(of("x", &["system:serviceaccounts", authenticated], "pods"), Some(Level::WorkloadLow));
        assert_eq!(of("jane", &[authenticated], "pods"), Some(Level::Default));
        assert_eq!(of("system:anonymous", &["system:unauthenticated"], "pods"), Some(Level::CatchAll));
    }
}
