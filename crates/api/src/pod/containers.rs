//! Containers of a pod: sidecars, and which one a request without a name means.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// Names the container that `logs`, `exec` and `attach` take when the user names none.
pub const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";

/// An init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Init containers first, in the order they start.
pub fn all(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(spec.containers.iter())
}

pub fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    all(spec).find(|container| container.name == name)
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// Several containers, none named.
    #[error("a container name must be specified for pod {pod}, choose one of: {choices}")]
    Several { pod: String, choices: String },
    #[error("container {container} is not valid for pod {pod}")]
    Unknown { pod: String, container: String },
    #[error("pod {pod} has no containers")]
    None { pod: String },
}

/// The container a request means: the one it names, the only one, or the annotated default.
pub fn pick<'a>(pod: &'a Pod, asked: &str) -> Result<&'a str, Unclear> {
    let name = || pod.metadata.name.clone().unwrap_or_default();
    let Some(spec) = &pod.spec else { return Err(Unclear::None { pod: name() }) };
    let ephemeral = || spec.ephemeral_containers.iter().flatten().map(|container| container.name.as_str());
    let known = |wanted: &str| {
        all(spec).map(|container| container.name.as_str()).chain(ephemeral()).find(|have| *have == wanted)
    };
    if !asked.is_empty() {
        return known(asked).ok_or_else(|| Unclear::Unknown { pod: name(), container: asked.to_owned() });
    }
    if let [only] = spec.containers.as_slice() {
        return Ok(&only.name);
    }
    let annotated = pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CONTAINER_ANNOTATION));
    if let Some(default) = annotated.and_then(|wanted| known(wanted)) {
        return Ok(default);
    }
    if spec.containers.is_empty() {
        return Err(Unclear::None { pod: name() });
    }
    let list = |names: Vec<&str>| format!("[{}]", names.join(" "));
    let mut choices = list(spec.containers.iter().map(|container| container.name.as_str()).collect());
    let init: Vec<&str> = spec.init_containers.iter().flatten().map(|container| container.name.as_str()).collect();
    if !init.is_empty() {
        choices.push_str(&format!(" or one of the init containers: {}", list(init)));
    }
    let ephemeral: Vec<&str> = ephemeral().collect();
    if !ephemeral.is_empty() {
        choices.push_str(&format!(" or one of the ephemeral containers: {}", list(ephemeral)));
    }
    Err(Unclear::Several { pod: name(), choices })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: Value, containers: &[&str], init: &[&str]) -> Pod {
        let named = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": annotations},
            "spec": {"containers": named(containers), "initContainers": named(init)},
        }))
        .expect("a pod")
    }

    #[test]
    fn picks_the_container() {
        let one = pod(json!({}), &["a"], &["i"]);
        assert_eq!(pick(&one, ""), Ok("a"));
        assert_eq!(pick(&one, "i"), Ok("i"));
        assert_eq!(pick(&one, "x").expect_err("refused").to_string(), "container x is not valid for pod p");
        let two = pod(json!({}), &["a", "b"], &["i"]);
        assert_eq!(
            pick(&two, "").expect_err("refused").to_string(),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        let annotated = pod(json!({DEFAULT_CONTAINER_ANNOTATION: "b"}), &["a", "b"], &[]);
        assert_eq!(pick(&annotated, ""), Ok("b"));
        assert!(matches!(pick(&Pod::default(), ""), Err(Unclear::None { .. })));
    }
}
