//! The end of every change: compare-and-swap, or removal when nothing holds a deleted object any more.

use std::sync::Arc;

use base_meta::Status;
use bytes::Bytes;
use k8s_openapi::Metadata as _;
use machinery_storage::{Error, Expect, Object, Op};
use serde_json::Value;

use crate::codec::{Stored, bytes};
use crate::resource::Written;
use crate::update::RACES;
use crate::{Registry, RequestContext, Strategy, failure};

impl<S: Strategy> Registry<S> {
    /// A change of anything but metadata and status is a new generation.
    pub(crate) fn count_generation(&self, new: &mut S::Object, stored: &Stored<S::Object>) -> Result<(), Status> {
        if !self.strategy.has_generation() {
            return Ok(());
        }
        let canonical = self.canonical(new)?;
        let before: Value = serde_json::from_slice(stored.object.json()).map_err(Status::internal)?;
        // What an older binary stored may lack defaults that it would have now: compare after defaulting.
        if same_intent(&canonical, &before) || same_intent(&canonical, &self.canonical(&stored.typed)?) {
            return Ok(());
        }
        let generation = stored.typed.metadata().generation.unwrap_or_default() + 1;
        new.metadata_mut().generation = Some(generation);
        Ok(())
    }

    /// Stores `new` over `stored`, or removes it when this write freed the last thing that held a deleted object.
    /// A write that changes nothing is not made. `None`: lost a race.
    pub(crate) async fn put(
        &self,
        stored: &Stored<S::Object>,
        new: &S::Object,
        dry_run: bool,
    ) -> Result<Option<Written>, Status> {
        let json = bytes(&self.canonical(new)?)?;
        let old = stored.typed.metadata();
        let dying = old.deletion_timestamp.is_some() && old.deletion_grace_period_seconds.unwrap_or_default() == 0;
        if dying && !self.strategy.blocks_removal(new) {
            let gone = self.remove(&stored.object, json, new, dry_run).await?;
            return Ok(gone.map(|object| Written { object, created: false }));
        }
        if json == *stored.object.json() {
            return Ok(Some(Written { object: stored.object.clone(), created: false }));
        }
        let object = self.overwrite(stored, json, new, dry_run).await?;
        Ok(object.map(|object| Written { object, created: false }))
    }

    /// The compare-and-swap itself. `None`: lost a race.
    pub(crate) async fn overwrite(
        &self,
        stored: &Stored<S::Object>,
        json: Bytes,
        new: &S::Object,
        dry_run: bool,
    ) -> Result<Option<Arc<Object>>, Status> {
        let (key, at) = (&stored.object.key, stored.object.revision);
        let revision = if dry_run {
            at
        } else {
            match self.storage.write(key, Expect::At(at), Op::Put(json.clone())).await {
                Ok(revision) => revision,
                Err(Error::Conflict { .. }) => return Ok(None),
                Err(error) => return Err(failure::status(error)),
            }
        };
        Ok(Some(self.object(key, revision, json, new)?))
    }

    /// Takes the object out of the store; the event carries it as it ended. `None`: lost a race.
    pub(crate) async fn remove(
        &self,
        stored: &Arc<Object>,
        last: Bytes,
        typed: &S::Object,
        dry_run: bool,
    ) -> Result<Option<Arc<Object>>, Status> {
        if dry_run {
            return Ok(Some(self.object(&stored.key, stored.revision, last, typed)?));
        }
        let op = Op::Delete { last: last.clone() };
        let revision = match self.storage.write(&stored.key, Expect::At(stored.revision), op).await {
            Ok(revision) => revision,
            Err(Error::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(failure::status(error)),
        };
        self.strategy.after_delete(typed).await;
        Ok(Some(self.object(&stored.key, revision, last, typed)?))
    }

    /// For handlers in this process, which have already decided: no admission, no strategy hooks, no new generation
    /// (binding a pod is not a change of its spec by a user); a deleted object that nothing holds any more is still
    /// removed.
    /// `change` runs again on the newest version when another writer was first.
    pub async fn update_with(
        &self,
        ctx: &RequestContext,
        name: &str,
        mut change: impl FnMut(&mut S::Object) -> Result<(), Status> + Send,
    ) -> Result<S::Object, Status> {
        for _ in 0..RACES {
            let stored = self.stored(ctx, name).await?;
            let mut new = stored.typed.clone();
            change(&mut new)?;
            if let Some(written) = self.put(&stored, &new, false).await? {
                return self.typed(&written.object);
            }
        }
        Err(Status::modified(&self.gvr, name))
    }
}

/// Whether two objects of one name differ at most in metadata and status.
fn same_intent(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let intent = |name: &str| name != "metadata" && name != "status";
    one.iter().filter(|(name, _)| intent(name)).all(|(name, value)| other.get(name) == Some(value))
        && other.keys().filter(|name| intent(name)).all(|name| one.contains_key(name))
}
