//! Mutating webhooks: one after the other, each shown what those before it made of the object.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::sync::{Arc, LazyLock};

use base_meta::Status;
use machinery_registry::json_patch;
use serde_json::{Value, json};

use super::super::matching::Request;
use super::asked::{Asked, Shown};
use super::call::call;
use super::failure::Failure;
use super::hook::{Flavour, Hook};
use super::review::{JSON_PATCH, Response};

const NAME: &str = "MutatingAdmissionWebhook";

/// What the first round leaves to the second.
#[derive(Default)]
struct Memory {
    /// The object as the last webhook left it.
    left: Option<u64>,
    /// Who has asked to see it again, should it change.
    called: BTreeSet<String>,
    /// Of those, who is to see it again.
    again: BTreeSet<String>,
}

impl Memory {
    fn changed(&mut self) {
        self.again.append(&mut self.called);
    }
}

fn fingerprint(object: &Value) -> u64 {
    static KEYS: LazyLock<std::hash::RandomState> = LazyLock::new(Default::default);
    KEYS.hash_one(object)
}

/// `object` is `None` for a deletion, which no webhook can change.
pub(super) async fn mutate(
    hooks: &[Arc<Hook>],
    asked: &Asked<'_>,
    mut object: Option<&mut Value>,
) -> Result<(), Status> {
    let attributes = asked.attributes;
    let rounds = attributes.rounds;
    let second = rounds.is_second();
    let mut memory: Memory = rounds.take(NAME);
    if second && memory.left != object.as_deref().map(fingerprint) {
        // The plug-ins of this server have changed it since.
        memory.changed();
    }
    for (index, hook) in hooks.iter().enumerate() {
        let request = Request::of(attributes, object.as_deref());
        let Some(shown) = asked.shown(hook, &request).await? else { continue };
        // Who was not asked in the first round is not in the second.
        if second && !memory.again.contains(&hook.id) {
            continue;
        }
        let patched = match call(hook, Flavour::Mutating, &request, &shown).await {
            Ok(response) => apply(hook, &request, shown, &response).await,
            Err(failure) => Err(failure),
        };
        let place = format!("round_{}_index_{index}", u8::from(second));
        let told = &attributes.ctx.warnings;
        let changed = match (patched, &mut object) {
            (Ok(Some(patched)), Some(object)) if **object != patched => {
                **object = patched;
                true
            }
            (Ok(_), _) => false,
            (Err(Failure::Calling(reason)), _) if hook.fails_open => {
                tracing::warn!(webhook = hook.name, reason, "failed calling webhook, failing open");
                let key = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
                told.annotate(key, hook.name.clone());
                false
            }
            (Err(failure), _) => return Err(failure.status(&hook.name)),
        };
        let mutation = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
        told.annotate(format!("mutation.webhook.admission.k8s.io/{place}"), mutation.to_string());
        if changed {
            memory.changed();
            rounds.want_second();
        }
        if hook.reinvoked {
            memory.called.insert(hook.id.clone());
        }
    }
    memory.left = object.as_deref().map(fingerprint);
    rounds.keep(NAME, memory);
    Ok(())
}

/// The object of the stored version as the webhook's patch leaves it, decoded and defaulted; `None` where there is none.
async fn apply(
    hook: &Hook,
    request: &Request<'_>,
    shown: Shown<'_>,
    response: &Response,
) -> Result<Option<Value>, Failure> {
    if response.patch().is_empty() {
        return Ok(None);
    }
    let patch = json_patch::parse(response.patch()).map_err(|status| {
        Failure::Calling(format!("received undecodable patch in webhook response: {}", status.message))
    })?;
    if patch.0.is_empty() {
        return Ok(None);
    }
    let Some(object) = shown.object else {
        let name = &hook.name;
        return Err(Failure::Refused(Status::internal(format!(
            "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
        ))));
    };
    match response.patch_type.as_deref() {
        Some(JSON_PATCH) => {}
        other => {
            return Err(Failure::Calling(format!("unsupported patch type {:?}", other.unwrap_or_default())));
        }
    }
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(Status::internal(error));
    let mut object = json_patch::apply(object, &patch).map_err(|problem| refused(&problem))?;
    let versions = request.attributes.versions;
    let stored = request.stored().gvk.group_version();
    if shown.version.gvk.group_version() != stored {
        object = versions.convert(object, &stored).await.map_err(Failure::Refused)?;
    }
    versions.settle(object).map(Some).map_err(|status| refused(&status.message))
}
