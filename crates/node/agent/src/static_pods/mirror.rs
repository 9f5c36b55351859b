//! The objects by which the API shows static pods: one for each, and none else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base_tasks::{Backoff, Tasks, WorkQueue};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use machinery_client::{Informer, ObjectKey};
use tokio::sync::watch;

use super::{HASH, MIRROR, Manifests, annotation, mirrored};
use crate::seams::chain;

/// What is to be done about one name.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Create,
    /// What is there is not, or no longer, the one.
    Delete,
}

fn step(wanted: Option<&Pod>, found: Option<&Pod>) -> Step {
    match (wanted, found) {
        (None, None) => Step::Nothing,
        (Some(_), None) => Step::Create,
        (None, Some(found)) if mirrored(found).is_none() => Step::Nothing,
        (None, Some(_)) => Step::Delete,
        // Somebody else's pod has the name.
        (Some(_), Some(found)) if mirrored(found).is_none() => Step::Nothing,
        (Some(wanted), Some(found)) => {
            let same = mirrored(found) == annotation(wanted, HASH) && found.metadata.deletion_timestamp.is_none();
            if same { Step::Nothing } else { Step::Delete }
        }
    }
}

pub struct Mirror {
    pub client: kube::Client,
    pub node: String,
    /// The node's pods as the API has them.
    pub pods: Informer<Arc<Pod>>,
    pub manifests: watch::Receiver<Manifests>,
}

impl Mirror {
    pub fn start(mut self, tasks: &Tasks) {
        let queue = WorkQueue::new(Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(30) });
        let (mut changes, shown) = (self.pods.subscribe(), queue.clone());
        tasks.spawn("mirror-shown", async move {
            while let Some(change) = changes.recv().await {
                shown.add(change.key().clone());
            }
        });
        let (mut manifests, wanted) = (self.manifests.clone(), queue.clone());
        tasks.spawn("mirror-wanted", async move {
            let mut known = BTreeSet::new();
            loop {
                let now: BTreeSet<ObjectKey> = manifests.borrow_and_update().keys().cloned().collect();
                // Changed ones have their names still: all are looked at.
                known.union(&now).for_each(|key| wanted.add(key.clone()));
                known = now;
                if manifests.changed().await.is_err() {
                    return;
                }
            }
        });
        tasks.spawn("mirror", async move {
            self.pods.synced().await;
            while let Some(key) = queue.next().await {
                match self.reconcile(&key).await {
                    Ok(()) => queue.forget(&key),
                    Err(error) => {
                        tracing::warn!(pod = %key, error = %chain(&error), "mirror pod not as it should be; will retry");
                        queue.retry(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }

    async fn reconcile(&mut self, key: &ObjectKey) -> Result<(), kube::Error> {
        let wanted = self.manifests.borrow().get(key).cloned();
        let found = self.pods.get(key);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        match step(wanted.as_deref(), found.as_deref().map(|pod| &**pod)) {
            Step::Nothing => Ok(()),
            Step::Create => {
                let Some(wanted) = wanted else { return Ok(()) };
                let node = Api::<Node>::all(self.client.clone()).get(&self.node).await?;
                match api.create(&PostParams::default(), &object(&wanted, &node)).await {
                    // The informer shows it in a moment.
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                    other => other.map(drop),
                }
            }
            Step::Delete => {
                let uid = found.and_then(|found| found.metadata.uid.clone());
                let preconditions = Preconditions { uid, resource_version: None };
                let params = DeleteParams::default().grace_period(0).preconditions(preconditions);
                match api.delete(&key.name, &params).await {
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
                    other => other.map(drop),
                }
            }
        }
    }
}

/// The pod as the API gets it: its node's.
fn object(pod: &Pod, node: &Node) -> Pod {
    let mut object = pod.clone();
    let hash = annotation(pod, HASH).unwrap_or_default().to_owned();
    object.metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    object.metadata.uid = None;
    object.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    object.status = None;
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_has_one_object_of_its_own() {
        let pod = |key: &str, hash: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "annotations": {key: hash}}})).unwrap()
        };
        let (wanted, shown) = (pod(HASH, "a"), pod(MIRROR, "a"));
        let mut deleted = shown.clone();
        deleted.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        let foreign = pod("other", "a");
        let table = [
            (Some(&wanted), None, Step::Create),
            (Some(&wanted), Some(&shown), Step::Nothing),
            (Some(&wanted), Some(&pod(MIRROR, "b")), Step::Delete),
            (Some(&wanted), Some(&deleted), Step::Delete),
            (Some(&wanted), Some(&foreign), Step::Nothing),
            (None, Some(&shown), Step::Delete),
            (None, Some(&foreign), Step::Nothing),
            (None, None, Step::Nothing),
        ];
        for (wanted, found, expected) in table {
            assert_eq!(step(wanted, found), expected, "{wanted:?} {found:?}");
        }
        let node = serde_json::from_value(json!({"metadata": {"name": "one", "uid": "u"}})).unwrap();
        let object = object(&wanted, &node);
        assert_eq!(mirrored(&object), Some("a"));
        assert_eq!(object.metadata.owner_references.unwrap()[0].uid, "u");
    }
}
