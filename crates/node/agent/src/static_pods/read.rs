//! From a file's text to the pods in it: pure.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus, Toleration, Volume};
use serde::Deserialize;
use serde_json::Value;

use crate::container::identifier;
use crate::static_pods::{HASH, SEEN, SOURCE, SOURCE_FILE};

/// Why a document of a file is no pod.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("parse document {0}")]
    Parse(usize, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("document {0}: apiVersion and kind are {1} {2}, not v1 Pod")]
    Kind(usize, String, String),
    #[error("document {0}: metadata.name: Required value")]
    NoName(usize),
    #[error("document {0}: {1}")]
    Invalid(usize, String),
    #[error("document {0}: {1}: static pods may not reference {2}")]
    Refers(usize, String, &'static str),
}

/// The pods of a file, or of its documents; a bad one costs the others nothing.
pub fn parse(path: &Path, text: &str, node: &str, now: Timestamp) -> Vec<Result<Pod, ManifestError>> {
    let mut pods = Vec::new();
    for (index, document) in serde_norway::Deserializer::from_str(text).enumerate() {
        let number = index + 1;
        match Value::deserialize(document) {
            Ok(Value::Null) => {}
            Ok(value) => pods.push(pod(path, &value, number, node, now)),
            Err(error) => {
                pods.push(Err(ManifestError::Parse(number, error.into())));
                break; // there is no telling where the next one begins
            }
        }
    }
    pods
}

fn pod(path: &Path, value: &Value, number: usize, node: &str, now: Timestamp) -> Result<Pod, ManifestError> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    if (text("apiVersion").as_str(), text("kind").as_str()) != ("v1", "Pod") {
        return Err(ManifestError::Kind(number, text("apiVersion"), text("kind")));
    }
    let parsed = serde_json::to_vec(value).and_then(|json| api::decoders::pod(&json));
    let mut pod = parsed.map_err(|error| ManifestError::Parse(number, error.into()))?;
    let meta = &mut pod.metadata;
    let name = meta.name.clone().filter(|name| !name.is_empty()).ok_or(ManifestError::NoName(number))?;
    // Two nodes may have the same file.
    meta.name = Some(format!("{name}-{node}"));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    // The same file is the same pod, also after a restart.
    let hash = identifier(&[node, &path.to_string_lossy(), &number.to_string(), &value.to_string()]);
    let uid = meta.uid.clone().filter(|uid| !uid.is_empty()).unwrap_or_else(|| hash.clone());
    meta.uid = Some(uid);
    let annotations = meta.annotations.get_or_insert_default();
    for (key, value) in [(HASH, hash), (SEEN, now.to_string()), (SOURCE, SOURCE_FILE.to_owned())] {
        annotations.insert(key.to_owned(), value);
    }
    api::defaults::pod(&mut pod);
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    // No taint moves it: there is nowhere else.
    let everything =
        Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
    if !spec.tolerations.iter().flatten().any(|toleration| *toleration == everything) {
        spec.tolerations.get_or_insert_default().push(everything);
    }
    if let Some((field, what)) = refers(spec) {
        return Err(ManifestError::Refers(number, field, what));
    }
    pod.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
    match api::validation::pod::pod(&pod).first() {
        Some(error) => Err(ManifestError::Invalid(number, error.to_string())),
        None => Ok(pod),
    }
}

/// What of the API's it would need: it runs without.
fn refers(spec: &PodSpec) -> Option<(String, &'static str)> {
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Some(("spec.serviceAccountName".into(), "service accounts"));
    }
    if spec.image_pull_secrets.as_ref().is_some_and(|secrets| !secrets.is_empty()) {
        return Some(("spec.imagePullSecrets".into(), "secrets"));
    }
    let volumes = spec.volumes.iter().flatten().enumerate();
    let mut volumes =
        volumes.filter_map(|(index, volume)| Some((format!("spec.volumes[{index}]"), of_volume(volume)?)));
    let init = spec.init_containers.iter().flatten().enumerate().map(|(index, one)| ("initContainers", index, one));
    let apps = spec.containers.iter().enumerate().map(|(index, one)| ("containers", index, one));
    let mut containers = init.chain(apps).filter_map(|(list, index, container)| {
        let values = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
        let from = || container.env_from.iter().flatten();
        let secrets = values.clone().any(|value| value.secret_key_ref.is_some())
            || from().any(|source| source.secret_ref.is_some());
        let maps = values.clone().any(|value| value.config_map_key_ref.is_some())
            || from().any(|source| source.config_map_ref.is_some());
        let what = if secrets { Some("secrets") } else { maps.then_some("configmaps") };
        Some((format!("spec.{list}[{index}].env"), what?))
    });
    volumes.next().or_else(|| containers.next())
}

fn of_volume(volume: &Volume) -> Option<&'static str> {
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let projected = projected.into_iter().find_map(|source| {
        let all = [
            (source.secret.is_some(), "secrets"),
            (source.config_map.is_some(), "configmaps"),
            (source.service_account_token.is_some(), "service accounts"),
            (source.cluster_trust_bundle.is_some(), "clustertrustbundles"),
        ];
        all.into_iter().find(|(is, _)| *is)
    });
    let own = [
        (volume.secret.is_some(), "secrets"),
        (volume.config_map.is_some(), "configmaps"),
        (volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some(), "persistentvolumeclaims"),
    ];
    own.into_iter().find(|(is, _)| *is).or(projected).map(|(_, what)| what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::chain;

    const GOOD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";

    fn read(text: &str) -> Vec<Result<Pod, String>> {
        let parsed = parse(Path::new("/etc/pods/a.yaml"), text, "one", Timestamp::UNIX_EPOCH);
        parsed.into_iter().map(|pod| pod.map_err(|error| chain(&error))).collect()
    }

    #[test]
    fn each_document_is_a_pod_of_this_node() {
        let text = format!("---\n{GOOD}---\n# nothing\n---\n{}", GOOD.replace("web", "db"));
        let pods: Vec<_> = read(&text).into_iter().map(Result::unwrap).collect();
        let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["web-one", "db-one"]);
        let (first, meta) = (&pods[0], &pods[0].metadata);
        assert_eq!(meta.namespace.as_deref(), Some("default"));
        let annotations = meta.annotations.clone().unwrap();
        assert_eq!(annotations[HASH], meta.uid.clone().unwrap());
        assert_eq!((&*annotations[SOURCE], annotations[HASH].len()), ("file", 32));
        let spec = first.spec.as_ref().unwrap();
        assert_eq!((spec.node_name.as_deref(), spec.restart_policy.as_deref()), (Some("one"), Some("Always")));
        assert_eq!(read(&text)[0].as_ref().unwrap().metadata.uid, meta.uid, "again the same");
        assert_ne!(pods[1].metadata.uid, meta.uid);
        let json = serde_json::to_string(&serde_norway::from_str::<Value>(GOOD).unwrap()).unwrap();
        assert_eq!(read(&json)[0].as_ref().unwrap().metadata.name.as_deref(), Some("web-one"));
    }

    #[test]
    fn what_is_no_pod_says_why() {
        let with = |more: &str| GOOD.replace("{containers:", &format!("{{{more}, containers:"));
        let secret = "volumes: [{name: v, secret: {secretName: s}}]";
        let table = [
            ("{".to_owned(), "parse document 1: "),
            (
                "apiVersion: apps/v1\nkind: Deployment".to_owned(),
                "document 1: apiVersion and kind are apps/v1 Deployment, not v1 Pod",
            ),
            (GOOD.replace("name: web", "labels: {}"), "document 1: metadata.name: Required value"),
            (GOOD.replace("name: c", "name: C_"), "document 1: spec.containers[0].name: Invalid value: "),
            (GOOD.replace("containers: [{name: c, image: i}]", "containers: 3"), "parse document 1: "),
            (with(secret), "document 1: spec.volumes[0]: static pods may not reference secrets"),
            (
                with("serviceAccountName: me"),
                "document 1: spec.serviceAccountName: static pods may not reference service accounts",
            ),
        ];
        for (text, wanted) in table {
            let told = read(&text)[0].clone().unwrap_err();
            assert!(told.starts_with(wanted), "{text}: {told}");
        }
        let mixed = read(&format!("kind: Other\n---\n{GOOD}"));
        assert!(mixed[0].is_err() && mixed[1].is_ok());
        assert!(read("").is_empty() && read("---\n---\n").is_empty());
    }
}
