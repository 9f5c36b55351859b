//! No namespace uses more than its quotas allow.
//!
//! What an object counts for is charged to the status of every quota it falls under, by compare-and-swap, after every
//! other check and before the object is stored; a write that then fails gives it back. A controller recounts what is
//! used when objects go, and after a crash. It must not recount while a charged object is on its way into the store: who
//! writes a quota's status first waits for such writes to end. So: read the quota, write its status as a dry run (which
//! waits), list the objects, write the status over the version that was read. Whatever was charged before the first read
//! is in the list; whatever is charged after it makes the write a conflict.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use api::quota::{self, Amounts, Kind, amounts_of, print};
use base_meta::{Gvr, Reason, Status};
use futures::FutureExt as _;
use k8s_openapi::jiff::Timestamp;
use machinery_registry::strategy::Undo;
use machinery_registry::{Admission, Attributes, Operation};
use machinery_storage::Object;
use serde_json::{Value, json};

use super::late::{Fresh, is_server, server_context};
use super::{Late, forbidden, is, text};

/// Other writers of one quota's status than this process are few.
const RACES: usize = 64;

pub(super) struct ResourceQuota {
    quotas: Arc<Late>,
    gates: Mutex<HashMap<Arc<str>, Weak<Gate>>>,
}

/// Of one namespace that has quotas.
#[derive(Default)]
struct Gate {
    /// One charge at a time: those of this process do not race each other.
    turn: tokio::sync::Mutex<()>,
    /// Held for reading from before an object is charged until it is stored, or is not.
    writes: Arc<tokio::sync::RwLock<()>>,
}

/// What one quota was charged.
struct Charged {
    quota: String,
    amounts: Amounts,
}

impl ResourceQuota {
    pub(super) fn new(quotas: Arc<Late>) -> Self {
        Self { quotas, gates: Mutex::default() }
    }

    fn gate(&self, namespace: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(namespace).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(Gate::default());
        gates.insert(namespace.into(), Arc::downgrade(&gate));
        gate
    }

    async fn charge(&self, attributes: &Attributes<'_>, namespace: &str, new: &Value) -> Result<Vec<Charged>, Status> {
        let kind = Kind::new(&attributes.gvr.group, &attributes.gvr.resource);
        for _ in 0..RACES {
            let found = self.quotas.list(attributes.ctx, Some(namespace), Fresh::Latest).await?;
            // Each version is read about once: nothing is kept of it.
            let read = |quota: &Arc<Object>| quota.to_value().map_err(Status::internal);
            let quotas = found.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            let plan = plan(&kind, &quotas, new, attributes.old, Timestamp::now());
            let plan = plan.map_err(|message| forbidden(attributes, Some(new), &message))?;
            if attributes.dry_run {
                return Ok(Vec::new());
            }
            let mut charged = Vec::new();
            let mut lost = false;
            for (quota, amounts) in plan {
                let name = text(quota, "/metadata/name");
                match self.quotas.put_status(Some(namespace), name, &moved(quota, &amounts, true)).await {
                    Ok(()) => charged.push(Charged { quota: name.to_owned(), amounts }),
                    // It constrains nothing any more.
                    Err(status) if status.reason == Reason::NotFound => {}
                    Err(status) if status.reason == Reason::Conflict => lost = true,
                    Err(status) => {
                        give_back(&self.quotas, namespace, &charged).await;
                        return Err(status);
                    }
                }
                if lost {
                    break;
                }
            }
            if !lost {
                return Ok(charged);
            }
            give_back(&self.quotas, namespace, &charged).await;
        }
        Err(Status::modified(&Gvr::of("", "v1", "resourcequotas"), namespace))
    }
}

fn charges(gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
    match (subresource, operation) {
        // Too many, and none of the user's.
        (None, Operation::Create) => gvr.resource != "events",
        (None, Operation::Update) => is(gvr, "", "services") || is(gvr, "", "persistentvolumeclaims"),
        (Some("resize"), Operation::Update) => is(gvr, "", "pods"),
        _ => false,
    }
}

#[async_trait::async_trait]
impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        let status = is(gvr, "", "resourcequotas") && subresource == Some("status");
        (status && operation == Operation::Update) || charges(gvr, subresource, operation)
    }

    /// Waits until what was charged so far has been stored, or has not.
    async fn validate(&self, attributes: &Attributes<'_>, _: Option<&Value>) -> Result<(), Status> {
        let status =
            is(attributes.gvr, "", "resourcequotas") && attributes.ctx.subresource.as_deref() == Some("status");
        if let Some(namespace) = attributes.ctx.namespace.as_deref().filter(|_| status)
            && !is_server(&attributes.ctx.user)
        {
            drop(self.gate(namespace).writes.write().await);
        }
        Ok(())
    }

    fn reserves(&self) -> bool {
        true
    }

    async fn reserve(&self, attributes: &Attributes<'_>, object: &Value) -> Result<Option<Undo>, Status> {
        let subresource = attributes.ctx.subresource.as_deref();
        let Some(namespace) = attributes.ctx.namespace.as_deref() else { return Ok(None) };
        if !charges(attributes.gvr, subresource, attributes.operation)
            || self.quotas.list(attributes.ctx, Some(namespace), Fresh::Cached).await?.is_empty()
        {
            return Ok(None);
        }
        let gate = self.gate(namespace);
        let write = gate.writes.clone().read_owned().await;
        let charged = {
            let _turn = gate.turn.lock().await;
            self.charge(attributes, namespace, object).await?
        };
        if charged.is_empty() {
            return Ok(None);
        }
        let (quotas, namespace) = (self.quotas.clone(), namespace.to_owned());
        Ok(Some(Box::new(move || {
            async move {
                let _turn = gate.turn.lock().await;
                give_back(&quotas, &namespace, &charged).await;
                drop(write);
            }
            .boxed()
        })))
    }
}

/// Pure: what each quota is charged, or why it cannot be.
fn plan<'a>(
    kind: &Kind,
    quotas: &'a [Value],
    new: &Value,
    old: Option<&Value>,
    now: Timestamp,
) -> Result<Vec<(&'a Value, Amounts)>, String> {
    let mut concerned = Vec::new();
    for quota in quotas {
        let hard = amounts_of(quota.pointer("/status/hard"));
        let own: Vec<&str> =
            hard.keys().map(String::as_str).filter(|name| quota::kind_of(name).as_ref() == Some(kind)).collect();
        if own.is_empty() || !quota::in_scope(kind, quota, new) {
            continue;
        }
        let name = text(quota, "/metadata/name");
        if let Some(unsaid) = quota::unsaid(kind, own.iter().copied(), new) {
            return Err(format!("failed quota: {name}: {unsaid}"));
        }
        let used = amounts_of(quota.pointer("/status/used"));
        if own.iter().any(|name| !used.contains_key(*name)) {
            return Err(format!("status unknown for quota: {name}, resources: {}", own.join(",")));
        }
        concerned.push((quota, hard, used));
    }
    if concerned.is_empty() {
        return Ok(Vec::new());
    }
    let asked = quota::usage(kind, new, now);
    let negative: Vec<&str> =
        asked.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let before = old.map(|old| quota::usage(kind, old, now));
    let mut charges = Vec::new();
    for (quota, hard, used) in concerned {
        let before = before.as_ref().filter(|_| old.is_some_and(|old| quota::in_scope(kind, quota, old)));
        let mut more = asked.clone();
        for (name, amount) in before.into_iter().flatten() {
            if let Some(slot) = more.get_mut(name) {
                *slot = (*slot - *amount).max(Default::default());
            }
        }
        more.retain(|name, amount| !amount.is_zero() && hard.contains_key(name));
        let sum = |name: &str, amount| used.get(name).copied().unwrap_or_default() + amount;
        let mut over = more.clone();
        over.retain(|name, amount| hard.get(name).is_some_and(|most| sum(name, *amount) > *most));
        if !over.is_empty() {
            let part = |all: &Amounts| {
                let mut part = all.clone();
                part.retain(|name, _| over.contains_key(name));
                print(&part)
            };
            return Err(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                text(quota, "/metadata/name"),
                print(&over),
                part(&used),
                part(&hard)
            ));
        }
        if !more.is_empty() {
            charges.push((quota, more));
        }
    }
    Ok(charges)
}

/// The quota with so much more, or less, in use.
fn moved(quota: &Value, amounts: &Amounts, charge: bool) -> Value {
    let mut quota = quota.clone();
    let mut used = amounts_of(quota.pointer("/status/used"));
    for (name, amount) in amounts {
        if let Some(slot) = used.get_mut(name) {
            *slot = if charge { *slot + *amount } else { (*slot - *amount).max(Default::default()) };
            quota["status"]["used"][name] = json!(slot.to_string());
        }
    }
    quota
}

/// Never fails: the controller recounts what is not given back here.
async fn give_back(quotas: &Late, namespace: &str, charged: &[Charged]) {
    let ctx = server_context(Gvr::of("", "v1", "resourcequotas"), Some(namespace));
    for Charged { quota, amounts } in charged {
        for _ in 0..RACES {
            let found = quotas.list(&ctx, Some(namespace), Fresh::Latest).await.unwrap_or_default();
            let Some(found) = found.iter().find(|found| *found.meta.name == **quota) else { break };
            let Ok(value) = found.to_value() else { break };
            match quotas.put_status(Some(namespace), quota, &moved(&value, amounts, false)).await {
                Err(status) if status.reason == Reason::Conflict => {}
                Err(status) if status.reason != Reason::NotFound => {
                    tracing::warn!(namespace, quota, %status, "a charge is not given back");
                    break;
                }
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
