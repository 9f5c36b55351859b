//! Secrets of type `kubernetes.io/service-account-token`: filled with a token that lasts as long as they do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base_meta::Status;
use base_meta::selector::FieldSelector;
use base_tasks::Tasks;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use machinery_registry::resource::WatchEvent;
use machinery_registry::{ListOptions, Patch, RequestContext, Resource, UpdateOptions};
use machinery_storage::Object;
use serde_json::{Value, json};

use super::claims::{Claims, LEGACY_ISSUER, Legacy, subject};
use super::keys::Keys;
use super::request::is_missing;
use crate::admission::Lookups;
use crate::admission::late::server_context;

const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const AGAIN: Duration = Duration::from_secs(1);

struct Filler {
    keys: Arc<Keys>,
    lookups: Arc<Lookups>,
    secrets: Arc<dyn Resource>,
    ca_pem: String,
}

/// Follows such Secrets under `tasks`.
pub fn follow(tasks: &Tasks, keys: Arc<Keys>, lookups: Arc<Lookups>, secrets: Arc<dyn Resource>, ca_pem: String) {
    let filler = Filler { keys, lookups, secrets, ca_pem };
    tasks.spawn("secrets", async move {
        loop {
            if let Err(status) = filler.follow().await {
                tracing::warn!(%status, "following the Secrets of service accounts failed");
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
}

impl Filler {
    async fn follow(&self) -> Result<(), Status> {
        let ctx = server_context(self.secrets.def().gvr(), None);
        let fields = FieldSelector::parse("type=kubernetes.io/service-account-token")
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut events = self.secrets.watch(&ctx, &ListOptions { fields, ..ListOptions::default() }).await?;
        while let Some(event) = events.next().await {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    if let Err(status) = self.fill(&object).await {
                        tracing::warn!(%status, secret = &*object.key, "a service account's Secret was not filled");
                    }
                }
                WatchEvent::Error(status) => return Err(status),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark { .. } => {}
            }
        }
        Ok(())
    }

    async fn fill(&self, object: &Object) -> Result<(), Status> {
        let secret = object.to_value().map_err(Status::internal)?;
        let namespace = object.meta.namespace.as_deref().unwrap_or("");
        let annotation = |key: &str| secret["metadata"]["annotations"][key].as_str().unwrap_or("").to_owned();
        let (account, uid) = (annotation(NAME), annotation(UID));
        if !secret["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let found = self.lookups.service_accounts.find_as_server(Some(namespace), &account).await?;
        let found = found.filter(|found| uid.is_empty() || uid == *found.meta.uid);
        let ctx: RequestContext = server_context(self.secrets.def().gvr(), Some(namespace));
        let name = &*object.meta.name;
        let Some(found) = found else {
            // As upstream's: the Secret of an account that is not there (any more) goes.
            return match self.secrets.delete(&ctx, name, Default::default()).await {
                Err(status) if !is_missing(&status) => Err(status),
                _ => Ok(()),
            };
        };
        let has = |key: &str| secret["data"][key].as_str().is_some_and(|value| !value.is_empty());
        let mut data: BTreeMap<&str, String> = BTreeMap::new();
        if secret["data"]["ca.crt"] != json!(STANDARD.encode(&self.ca_pem)) {
            data.insert("ca.crt", STANDARD.encode(&self.ca_pem));
        }
        if secret["data"]["namespace"] != json!(STANDARD.encode(namespace)) {
            data.insert("namespace", STANDARD.encode(namespace));
        }
        if !has("token") {
            let legacy = Legacy {
                namespace: namespace.to_owned(),
                secret: name.to_owned(),
                name: account.clone(),
                uid: found.meta.uid.to_string(),
            };
            let (iss, sub) = (LEGACY_ISSUER.to_owned(), subject(namespace, &account));
            let token = self.keys.sign(&Claims { iss, sub, legacy, ..Claims::default() }).map_err(Status::internal)?;
            data.insert("token", STANDARD.encode(token));
        }
        if data.is_empty() && uid == *found.meta.uid {
            return Ok(());
        }
        let annotations: Value = json!({ UID: *found.meta.uid });
        let patch = json!({"metadata": {"annotations": annotations, "uid": &*object.meta.uid}, "data": data});
        match self.secrets.patch(&ctx, name, Patch::Merge(patch.to_string().into()), UpdateOptions::default()).await {
            Err(status) if !is_missing(&status) => Err(status),
            _ => Ok(()),
        }
    }
}
