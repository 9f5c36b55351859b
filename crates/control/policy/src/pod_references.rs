//! What of the API a pod takes by name: its node may read that much, and a pod that a node makes takes none of it.

use std::collections::BTreeSet;

use machinery_storage::Object;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    ServiceAccount,
    Secret,
    ConfigMap,
    ClusterTrustBundle,
    PersistentVolumeClaim,
    ResourceClaim,
}

/// All of the pod's own namespace, save trust bundles, which have none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References(BTreeSet<(Kind, String)>);

/// Where the types of volumes that need a Secret name it.
const SECRETS_OF_VOLUMES: [&str; 10] = [
    "/secret/secretName",
    "/azureFile/secretName",
    "/cephfs/secretRef/name",
    "/cinder/secretRef/name",
    "/csi/nodePublishSecretRef/name",
    "/flexVolume/secretRef/name",
    "/iscsi/secretRef/name",
    "/rbd/secretRef/name",
    "/scaleIO/secretRef/name",
    "/storageos/secretRef/name",
];

impl References {
    pub(crate) fn of(pod: &Value) -> Self {
        let mut all = Self::default();
        let spec = &pod["spec"];
        all.add(Kind::ServiceAccount, &spec["serviceAccountName"]);
        for secret in items(&spec["imagePullSecrets"]) {
            all.add(Kind::Secret, &secret["name"]);
        }
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            for container in items(&spec[list]) {
                for env in items(&container["env"]) {
                    all.add(Kind::Secret, &env["valueFrom"]["secretKeyRef"]["name"]);
                    all.add(Kind::ConfigMap, &env["valueFrom"]["configMapKeyRef"]["name"]);
                }
                for from in items(&container["envFrom"]) {
                    all.add(Kind::Secret, &from["secretRef"]["name"]);
                    all.add(Kind::ConfigMap, &from["configMapRef"]["name"]);
                }
            }
        }
        for volume in items(&spec["volumes"]) {
            all.volume(pod, volume);
        }
        for claim in items(&spec["resourceClaims"]) {
            all.add(Kind::ResourceClaim, &claim["resourceClaimName"]);
        }
        // Those made of templates have names that only the status tells.
        for claim in items(&pod["status"]["resourceClaimStatuses"]) {
            all.add(Kind::ResourceClaim, &claim["resourceClaimName"]);
        }
        all
    }

    /// Of a stored pod, found once per version.
    pub(crate) fn of_stored(pod: &Object) -> Result<std::sync::Arc<Self>, serde_json::Error> {
        pod.try_form("references", || pod.to_value().map(|pod| Self::of(&pod)))
    }

    pub(crate) fn has(&self, kind: Kind, name: &str) -> bool {
        self.0.iter().any(|(found, named)| *found == kind && named == name)
    }

    /// In the order of [`Kind`].
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.0.iter().map(|(kind, _)| *kind)
    }

    fn volume(&mut self, pod: &Value, volume: &Value) {
        for pointer in SECRETS_OF_VOLUMES {
            self.add(Kind::Secret, volume.pointer(pointer).unwrap_or(&Value::Null));
        }
        self.add(Kind::ConfigMap, &volume["configMap"]["name"]);
        self.add(Kind::PersistentVolumeClaim, &volume["persistentVolumeClaim"]["claimName"]);
        if !volume["ephemeral"].is_null()
            && let (Some(pod), Some(volume)) = (pod["metadata"]["name"].as_str(), volume["name"].as_str())
        {
            self.0.insert((Kind::PersistentVolumeClaim, format!("{pod}-{volume}")));
        }
        for source in items(&volume["projected"]["sources"]) {
            self.add(Kind::Secret, &source["secret"]["name"]);
            self.add(Kind::ConfigMap, &source["configMap"]["name"]);
            let bundle = &source["clusterTrustBundle"];
            self.add(Kind::ClusterTrustBundle, &bundle["name"]);
            // Any that this signer has.
            self.add(Kind::ClusterTrustBundle, &bundle["signerName"]);
        }
    }

    fn add(&mut self, kind: Kind, name: &Value) {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            self.0.insert((kind, name.to_owned()));
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_of_a_name_is_looked_at() {
        let env = |secret: &str, map: &str| {
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": map, "key": "k"}}}, {"name": "C", "value": "c"}])
        };
        let mut volumes: Vec<Value> = SECRETS_OF_VOLUMES
            .iter()
            .enumerate()
            .map(|(number, pointer)| {
                let mut inner = json!(format!("volume-{number}"));
                for part in pointer.split('/').skip(1).collect::<Vec<_>>().into_iter().rev() {
                    inner = json!({ part: inner });
                }
                inner
            })
            .collect();
        volumes.extend([
            json!({"name": "m", "configMap": {"name": "map"}}),
            json!({"name": "c", "persistentVolumeClaim": {"claimName": "claim"}}),
            json!({"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}),
            json!({"name": "p", "projected": {"sources": [{"secret": {"name": "projected"}},
                {"configMap": {"name": "projected-map"}}, {"clusterTrustBundle": {"name": "bundle", "path": "p"}},
                {"serviceAccountToken": {"path": "t"}}]}}),
            json!({"name": "e", "emptyDir": {}}),
        ]);
        let pod = json!({"metadata": {"name": "web"}, "spec": {
            "serviceAccountName": "account", "imagePullSecrets": [{"name": "pull"}, {}],
            "containers": [{"env": env("env", "env-map"), "envFrom": [{"secretRef": {"name": "from"}}]}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "from-map"}}]}],
            "ephemeralContainers": [{"env": env("debug", "debug-map")}],
            "resourceClaims": [{"name": "r", "resourceClaimName": "device"}], "volumes": volumes},
            "status": {"resourceClaimStatuses": [{"name": "t", "resourceClaimName": "made"}]}});
        let found = References::of(&pod);
        let names = |kind| -> Vec<&str> {
            found.0.iter().filter(|(found, _)| *found == kind).map(|(_, name)| name.as_str()).collect()
        };
        let mut secrets: Vec<String> = (0..SECRETS_OF_VOLUMES.len()).map(|number| format!("volume-{number}")).collect();
        secrets.extend(["debug", "env", "from", "projected", "pull"].map(str::to_owned));
        secrets.sort();
        assert_eq!(names(Kind::Secret), secrets);
        assert_eq!(names(Kind::ConfigMap), ["debug-map", "env-map", "from-map", "map", "projected-map"]);
        assert_eq!(names(Kind::ServiceAccount), ["account"]);
        assert_eq!(names(Kind::PersistentVolumeClaim), ["claim", "web-scratch"]);
        assert_eq!(names(Kind::ClusterTrustBundle), ["bundle"]);
        assert_eq!(names(Kind::ResourceClaim), ["device", "made"]);
        assert!(found.has(Kind::Secret, "pull") && !found.has(Kind::ConfigMap, "pull"));
    }

    #[test]
    fn a_plain_pod_takes_nothing() {
        assert_eq!(References::of(&json!({"spec": {"containers": [{"name": "c"}]}})), References::default());
    }
}
