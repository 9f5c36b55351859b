//! The end of every change: compare-and-swap, or removal when nothing holds a deleted object any more.

use std::borrow::Cow;
use std::sync::Arc;

use base_meta::Status;
use bytes::Bytes;
use machinery_storage::{Error, Expect, Object, Op};
use serde_json::Value;

use crate::codec::{Stored, bytes, meta};
use crate::core::Core;
use crate::failure;
use crate::managed::{cut, splice};
use crate::object::Erased;
use crate::ownership::Ownership;
use crate::resource::Written;

impl Core {
    /// A change of anything but metadata and status is a new generation. `value` is `new`, canonical, and follows.
    pub(crate) fn count_generation(
        &self,
        new: &mut dyn Erased,
        value: &mut Value,
        stored: &Stored,
    ) -> Result<(), Status> {
        // What an older binary stored may lack defaults that it would have now: compared after defaulting.
        if !self.kind.has_generation() || same_intent(value, self.value_of(stored)?) {
            return Ok(());
        }
        let generation = stored.typed.metadata().generation.unwrap_or_default() + 1;
        new.metadata_mut().generation = Some(generation);
        value["metadata"]["generation"] = generation.into();
        Ok(())
    }

    /// For handlers in this process, which have already decided. `None`: lost a race.
    pub(crate) async fn put_changed(&self, stored: &Stored, new: &dyn Erased) -> Result<Option<Written>, Status> {
        self.put(stored, new, &self.canonical(new)?, Ownership::Same, false).await
    }

    /// Stores `new` over `stored`, or removes it when this write freed the last thing that held a deleted object.
    /// A write that changes nothing is not made. `None`: lost a race.
    pub(crate) async fn put(
        &self,
        stored: &Stored,
        new: &dyn Erased,
        value: &Value,
        ownership: Ownership,
        dry_run: bool,
    ) -> Result<Option<Written>, Status> {
        let json = bytes(value)?;
        let (known, ledger) = cut(stored.object.json());
        let same = json[..] == *known;
        let ledger = match ownership {
            Ownership::Changed(new) if !(same && new.same_but_for_times(&stored.ledger())) => Some(new.print().into()),
            _ => ledger.map(Cow::Borrowed),
        };
        let json = splice(json, ledger.as_deref()).map_err(Status::internal)?;
        let old = stored.typed.metadata();
        let dying = old.deletion_timestamp.is_some() && old.deletion_grace_period_seconds.unwrap_or_default() == 0;
        if dying && !self.kind.blocks_removal(new) {
            let gone = self.remove(&stored.object, json, new, dry_run).await?;
            return Ok(gone.map(|object| Written { object, created: false }));
        }
        if json == *stored.object.json() {
            return Ok(Some(Written { object: stored.object.clone(), created: false }));
        }
        let object = self.overwrite(stored, json, new, dry_run).await?;
        Ok(object.map(|object| Written { object, created: false }))
    }

    /// `None`: lost a race.
    pub(crate) async fn overwrite(
        &self,
        stored: &Stored,
        json: Bytes,
        new: &dyn Erased,
        dry_run: bool,
    ) -> Result<Option<Arc<Object>>, Status> {
        let (key, at) = (&stored.object.key, stored.object.revision);
        if dry_run {
            return Ok(Some(self.object(key, at, json, new)?));
        }
        self.commit(key, Expect::At(at), Op::Put(json), new).await
    }

    /// Takes the object out of the store; the event carries it as it ended. `None`: lost a race.
    pub(crate) async fn remove(
        &self,
        stored: &Arc<Object>,
        last: Bytes,
        typed: &dyn Erased,
        dry_run: bool,
    ) -> Result<Option<Arc<Object>>, Status> {
        if dry_run {
            return Ok(Some(self.object(&stored.key, stored.revision, last, typed)?));
        }
        let gone = self.commit(&stored.key, Expect::At(stored.revision), Op::Delete { last }, typed).await?;
        if gone.is_some() {
            self.kind.after_delete(typed).await;
        }
        Ok(gone)
    }

    /// The compare-and-swap itself: the object as it is now stored, or `None` for a lost race.
    pub(crate) async fn commit(
        &self,
        key: &str,
        expect: Expect,
        op: Op,
        typed: &dyn Erased,
    ) -> Result<Option<Arc<Object>>, Status> {
        let json = match &op {
            Op::Put(json) | Op::Delete { last: json } => json.clone(),
        };
        let meta = meta(&*self.kind, typed);
        self.pending.announce(&json, &meta);
        match self.storage.write(key, expect, op).await {
            Ok(revision) => {
                let object = Object::new(key.into(), revision, meta, json);
                Ok(Some(Arc::new(object.map_err(Status::internal)?)))
            }
            Err(error) => {
                self.pending.take(&json);
                match error {
                    Error::Conflict { .. } => Ok(None),
                    error => Err(failure::status(error)),
                }
            }
        }
    }
}

fn is_intent(name: &str) -> bool {
    name != "metadata" && name != "status"
}

/// Whether two objects of one name differ at most in metadata and status.
fn same_intent(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    one.iter().filter(|(name, _)| is_intent(name)).all(|(name, value)| other.get(name) == Some(value))
        && other.keys().filter(|name| is_intent(name)).all(|name| one.contains_key(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_and_status_are_no_intent() {
        let one = json!({"kind": "X", "metadata": {"name": "a"}, "spec": {"a": 1}, "status": {}});
        for (other, same) in [
            (json!({"kind": "X", "metadata": {}, "spec": {"a": 1}}), true),
            (json!({"kind": "X", "metadata": {}, "spec": {"a": 2}}), false),
            (json!({"kind": "X", "metadata": {}}), false),
            (json!({"kind": "X", "metadata": {}, "spec": {"a": 1}, "more": 1}), false),
        ] {
            assert_eq!(same_intent(&one, &other), same, "{other}");
        }
    }
}
