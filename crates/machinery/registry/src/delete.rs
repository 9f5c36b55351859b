//! DELETE: what it does to an object is planned purely, then written by compare-and-swap.

use base_meta::{Reason, Status};
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::admission::Options;
use crate::admit::Asked;
use crate::codec::{Stored, bytes};
use crate::core::Core;
use crate::dialect::Dialect;
use crate::kind::Kind;
use crate::managed::{cut, splice};
use crate::metadata::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN};
use crate::object::Erased;
use crate::request::Propagation;
use crate::resource::{Deleted, List};
use crate::strategy::Graceful;
use crate::update::RACES;
use crate::{DeleteOptions, ListOptions, Operation, RequestContext, create};

pub(crate) enum Plan {
    /// Already on its way; nothing to write.
    Pending,
    /// Stays, marked: a grace period or a finalizer holds it.
    Mark(Box<dyn Erased>),
    Remove(Box<dyn Erased>),
}

/// What deleting `stored` now means.
pub(crate) fn plan(
    kind: &dyn Kind,
    ctx: &RequestContext,
    stored: &dyn Erased,
    options: &DeleteOptions,
    now: &Time,
) -> Plan {
    let mut options = options.clone();
    // Upstream: a negative period means "at once, but gracefully".
    options.grace_period_seconds = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let mut object = stored.boxed();
    let asked = options.grace_period_seconds;
    let mut removable = true;
    let graceful = kind.graceful(ctx, stored, &mut options);
    let meta = object.metadata_mut();
    match graceful {
        Graceful::No => {}
        Graceful::Yes { grace_period_seconds } => {
            match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
                (None, _) => {
                    mark(meta, later(now, grace_period_seconds), grace_period_seconds);
                    removable = grace_period_seconds == 0;
                }
                (Some(_), None) => {}
                // Only a shorter period changes anything for an object that is already ending.
                (Some(at), Some(current)) => match asked {
                    Some(period) if period < current => {
                        meta.deletion_timestamp = Some(later(at, period - current));
                        meta.deletion_grace_period_seconds = Some(period);
                        removable = period == 0;
                    }
                    _ => return Plan::Pending,
                },
            }
        }
    }
    apply_propagation(meta, options.propagation);
    let held = kind.blocks_removal(&*object);
    if held && graceful == Graceful::No {
        let meta = object.metadata_mut();
        match &meta.deletion_timestamp {
            Some(at) if at.0 <= now.0 => meta.deletion_grace_period_seconds = Some(0),
            _ => mark(meta, now.clone(), 0),
        }
    }
    if !held && removable {
        return Plan::Remove(object);
    }
    kind.mark_deleting(&mut *object);
    Plan::Mark(object)
}

/// The first mark is a change of what the object is meant to be.
fn mark(meta: &mut ObjectMeta, at: Time, grace_period_seconds: i64) {
    if meta.deletion_timestamp.is_none() {
        meta.generation = meta.generation.map(|generation| generation + 1);
    }
    meta.deletion_timestamp = Some(at);
    meta.deletion_grace_period_seconds = Some(grace_period_seconds);
}

fn later(time: &Time, seconds: i64) -> Time {
    let moved = time.0.checked_add(SignedDuration::from_secs(seconds));
    Time(moved.unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX }))
}

fn apply_propagation(meta: &mut ObjectMeta, propagation: Option<Propagation>) {
    let wanted = match propagation {
        None => return,
        Some(Propagation::Background) => None,
        Some(Propagation::Foreground) => Some(FINALIZER_FOREGROUND),
        Some(Propagation::Orphan) => Some(FINALIZER_ORPHAN),
    };
    let finalizers = meta.finalizers.get_or_insert_default();
    finalizers.retain(|finalizer| {
        let ours = finalizer == FINALIZER_ORPHAN || finalizer == FINALIZER_FOREGROUND;
        !ours || Some(finalizer.as_str()) == wanted
    });
    if let Some(wanted) = wanted
        && !finalizers.iter().any(|finalizer| finalizer == wanted)
    {
        finalizers.push(wanted.to_owned());
    }
}

impl Core {
    pub(crate) async fn delete_one(
        &self,
        ctx: &RequestContext,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        self.delete_named(ctx, name, name, options).await
    }

    /// `told`: the name in the request, which is what plug-ins are told.
    async fn delete_named(
        &self,
        ctx: &RequestContext,
        name: &str,
        told: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let asked = Asked { ctx, operation: Operation::Delete, name: told, options: Options::Delete(options) };
        for attempt in 0..RACES {
            let stored = self.stored(ctx, name).await?;
            self.check_delete_preconditions(name, &stored, options)?;
            if attempt == 0 {
                self.admit(asked, None, Some(&stored)).await?;
            }
            match plan(&*self.kind, ctx, &*stored.typed, options, &create::now()) {
                Plan::Pending => return Ok(Deleted::Pending(stored.object)),
                Plan::Mark(object) => {
                    let json = self.with_ledger(&stored, &*object)?;
                    if json == *stored.object.json() {
                        return Ok(Deleted::Pending(stored.object));
                    }
                    if let Some(object) = self.overwrite(&stored, json, &*object, options.dry_run).await? {
                        return Ok(Deleted::Pending(object));
                    }
                }
                Plan::Remove(object) => {
                    let json = self.with_ledger(&stored, &*object)?;
                    if let Some(object) = self.remove(&stored.object, json, &*object, options.dry_run).await? {
                        return Ok(Deleted::Gone(object));
                    }
                }
            }
        }
        Err(Status::modified(&self.gvr, name))
    }

    /// A deletion owns nothing.
    fn with_ledger(&self, stored: &Stored, object: &dyn Erased) -> Result<Bytes, Status> {
        let json = bytes(&self.canonical(object)?)?;
        splice(json, cut(stored.object.json()).1).map_err(Status::internal)
    }

    fn check_delete_preconditions(&self, name: &str, stored: &Stored, options: &DeleteOptions) -> Result<(), Status> {
        if let Some(uid) = &options.uid {
            self.check_uid(name, uid, stored.typed.metadata().uid.as_deref().unwrap_or_default())?;
        }
        match &options.resource_version {
            Some(asked) if *asked != stored.object.revision.to_string() => {
                let message = format!(
                    "Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {}",
                    stored.object.revision
                );
                Err(Status::conflict(&self.gvr, name, &message))
            }
            _ => Ok(()),
        }
    }

    /// Every object that `list` selects, one by one; answered with those as they were.
    pub(crate) async fn delete_selected(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<List, Status> {
        let found = self.list_page(dialect, ctx, list).await?;
        for object in &found.items {
            let ctx = RequestContext { namespace: object.meta.namespace.clone(), ..ctx.clone() };
            match self.delete_named(&ctx, &object.meta.name, "", options).await {
                Err(status) if status.reason != Reason::NotFound => return Err(status),
                _ => {}
            }
        }
        Ok(found)
    }
}
