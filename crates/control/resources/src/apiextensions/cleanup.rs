//! The end of a definition: its objects are deleted, and when the last has gone, so does it.

use std::sync::Arc;
use std::time::Duration;

use base_meta::{Reason, Status};
use futures::StreamExt as _;
use machinery_registry::request::Propagation;
use machinery_registry::resource::WatchEvent;
use machinery_registry::{DeleteOptions, ListOptions, Registry, Resource};

use super::custom::CustomStrategy;
use super::definition::{CustomResourceDefinitionStrategy, FINALIZER};
use super::plan;
use super::serve::context;

/// After a failure of the store.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn run(
    definitions: &Registry<CustomResourceDefinitionStrategy>,
    name: &str,
    kind: Option<Arc<Registry<CustomStrategy>>>,
) {
    let ctx = context(definitions, None);
    let begun = definitions.update_with(&ctx, name, |stored| {
        let message = "CustomResource deletion is in progress";
        plan::set_condition(stored, "Terminating", true, "InstanceDeletionInProgress", message);
        Ok(())
    });
    if let Err(status) = begun.await {
        tracing::debug!(name, %status, "the beginning of a definition's end is not told");
    }
    loop {
        let emptied = match &kind {
            Some(kind) => empty(kind).await,
            None => Ok(()),
        };
        let ended = match emptied {
            Ok(()) => release(definitions, name).await,
            Err(status) => Err(status),
        };
        match ended {
            Ok(()) => return,
            Err(status) if status.reason == Reason::NotFound => return,
            Err(status) => tracing::warn!(name, %status, "deleting the objects of a definition"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Deletes every object and waits until their finalizers have let them go.
async fn empty(kind: &Registry<CustomStrategy>) -> Result<(), Status> {
    loop {
        let all = context(kind, None);
        let list = kind.list(&all, &ListOptions::default()).await?;
        if list.items.is_empty() {
            return Ok(());
        }
        let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        for object in &list.items {
            let Some(name) = object.key.rsplit('/').next() else { continue };
            let namespace = if kind.def().namespaced() { object.key.rsplit('/').nth(1) } else { None };
            match kind.delete(&context(kind, namespace), name, options.clone()).await {
                Err(status) if status.reason != Reason::NotFound => return Err(status),
                _ => {}
            }
        }
        let options = ListOptions { resource_version: list.revision.to_string(), ..ListOptions::default() };
        let mut events = kind.watch(&all, &options).await?;
        let mut left = list.items.len();
        while left > 0 {
            match events.next().await {
                Some(WatchEvent::Deleted(_)) => left -= 1,
                Some(WatchEvent::Error(status)) => return Err(status),
                Some(_) => {}
                None => return Err(Status::internal("the kind stopped while its objects were deleted")),
            }
        }
    }
}

async fn release(definitions: &Registry<CustomResourceDefinitionStrategy>, name: &str) -> Result<(), Status> {
    let ctx = context(definitions, None);
    let release = definitions.update_with(&ctx, name, |stored| {
        plan::set_condition(stored, "Terminating", false, "InstanceDeletionCompleted", "removed all instances");
        if let Some(finalizers) = &mut stored.metadata.finalizers {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        Ok(())
    });
    release.await.map(drop)
}
