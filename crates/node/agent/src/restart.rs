//! Which containers a pod has, and whether one that has ended is started again. Pure.

use std::borrow::Cow;

use api::pod::containers::is_sidecar;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, EphemeralContainer, PodSpec};

use crate::state::Ended;

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Init,
    Sidecar,
    App,
    /// For debugging: started once, and nobody waits for it.
    Ephemeral,
}

impl Role {
    /// The list of a pod's spec that it is in.
    pub fn list(self) -> &'static str {
        match self {
            Self::Init | Self::Sidecar => "initContainers",
            Self::App => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

pub fn role(spec: &PodSpec, name: &str) -> Role {
    match spec.init_containers.iter().flatten().find(|init| init.name == name) {
        Some(init) if is_sidecar(init) => Role::Sidecar,
        Some(_) => Role::Init,
        None if spec.ephemeral_containers.iter().flatten().any(|container| container.name == name) => Role::Ephemeral,
        None => Role::App,
    }
}

/// An ephemeral container has a container's fields, and its target's name besides.
pub fn of_ephemeral(container: &EphemeralContainer) -> Container {
    // Both are made of the same API's JSON; what has no place in a container is left out.
    serde_json::to_value(container).and_then(serde_json::from_value).unwrap_or_default()
}

pub fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<Cow<'a, Container>> {
    let plain = spec.init_containers.iter().flatten().chain(&spec.containers).find(|container| container.name == name);
    plain.map(Cow::Borrowed).or_else(|| {
        let mut ephemeral = spec.ephemeral_containers.iter().flatten();
        ephemeral.find(|container| container.name == name).map(of_ephemeral).map(Cow::Owned)
    })
}

/// Whether another instance follows this one, by the container's rules and policy before its pod's.
pub fn again(spec: &PodSpec, container: &Container, ended: &Ended) -> bool {
    let role = role(spec, &container.name);
    match role {
        Role::Sidecar => return true,
        Role::Ephemeral => return false,
        Role::Init | Role::App => {}
    }
    if ended.anew {
        return true;
    }
    if container.restart_policy_rules.iter().flatten().any(|rule| restarts(rule, ended.exit.exit_code)) {
        return true;
    }
    match container.restart_policy.as_deref().or(spec.restart_policy.as_deref()) {
        Some("Never") => false,
        Some("OnFailure") => !ended.succeeded(),
        _ => !(role == Role::Init && ended.succeeded()),
    }
}

fn restarts(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(codes) = rule.exit_codes.as_ref().filter(|_| rule.action == "Restart") else { return false };
    let listed = codes.values.iter().flatten().any(|value| *value == code);
    match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::seams::Exit;

    fn ended(exit_code: i32) -> Ended {
        let exit = Exit {
            exit_code,
            signal: None,
            oom_killed: false,
            started_at: None,
            finished_at: jiff::Timestamp::UNIX_EPOCH,
            reason: None,
            message: String::new(),
        };
        Ended { id: "c".into(), image: Default::default(), exit, anew: false }
    }

    /// For exit codes 0, 1 and 42.
    fn table(policy: &str, container: serde_json::Value) -> [bool; 3] {
        let mut container = container;
        container["name"] = "app".into();
        let spec: PodSpec =
            serde_json::from_value(json!({"restartPolicy": policy, "containers": [container]})).unwrap();
        [0, 1, 42].map(|code| again(&spec, &spec.containers[0], &ended(code)))
    }

    #[test]
    fn rules_come_before_the_containers_policy_and_that_before_the_pods() {
        assert_eq!(table("Always", json!({})), [true; 3]);
        assert_eq!(table("OnFailure", json!({})), [false, true, true]);
        assert_eq!(table("Never", json!({})), [false; 3]);
        assert_eq!(table("Always", json!({"restartPolicy": "Never"})), [false; 3]);
        assert_eq!(table("Never", json!({"restartPolicy": "OnFailure"})), [false, true, true]);
        let rule = |operator: &str| {
            let codes = json!({"operator": operator, "values": [42]});
            json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": codes}]})
        };
        assert_eq!(table("Never", rule("In")), [false, false, true]);
        assert_eq!(table("Never", rule("NotIn")), [true, true, false]);
        assert_eq!(table("Never", rule("Near")), [false; 3]);
    }

    #[test]
    fn roles_have_their_own_ways() {
        let spec: PodSpec = serde_json::from_value(json!({
            "initContainers": [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}],
            "containers": [{"name": "app", "restartPolicy": "Always"}],
            "ephemeralContainers": [{"name": "debug", "image": "i", "stdin": true, "targetContainerName": "app"}],
        }))
        .unwrap();
        let roles = ["init", "side", "app", "debug"].map(|name| role(&spec, name));
        assert_eq!(roles, [Role::Init, Role::Sidecar, Role::App, Role::Ephemeral]);
        let again = |name, code| again(&spec, &find(&spec, name).unwrap(), &ended(code));
        assert_eq!((again("init", 0), again("init", 1)), (false, true));
        assert_eq!((again("side", 0), again("debug", 1)), (true, false));
        assert_eq!(find(&spec, "debug").unwrap().stdin, Some(true));
        assert!(find(&spec, "none").is_none());
    }
}
