//! Mutating webhooks: one after the other, each shown what those before it made of the object.

use std::sync::Arc;
use std::time::Instant;

use base_meta::Status;
use machinery_registry::json_patch;
use serde_json::{Value, json};

use super::super::matching::Request;
use super::super::rounds::Memory;
use super::super::shown::{Shown, settled, with_owners};
use super::asked::Asked;
use super::call::call;
use super::failure::Failure;
use super::hook::{Flavour, Hook};
use super::review::{JSON_PATCH, Response};

const NAME: &str = "MutatingAdmissionWebhook";

/// `object` is `None` for a deletion, which no webhook can change.
pub(super) async fn mutate(
    hooks: &[Arc<Hook>],
    asked: &Asked<'_>,
    mut object: Option<&mut Value>,
) -> Result<(), Status> {
    let attributes = asked.attributes;
    let mut memory = Memory::of(attributes, NAME, object.as_deref());
    for (index, hook) in hooks.iter().enumerate() {
        let request = Request::of(attributes, object.as_deref());
        let Some(shown) = asked.shown(hook, &request).await? else { continue };
        if !memory.wants(attributes, &hook.id) {
            continue;
        }
        let began = Instant::now();
        let patched = match call(hook, Flavour::Mutating, &request, &shown).await {
            Ok(response) => apply(hook, &request, shown, &response).await,
            Err(failure) => Err(failure),
        };
        asked.count(hook, Flavour::Mutating, began.elapsed(), &patched);
        let place = format!("round_{}_index_{index}", u8::from(attributes.rounds.is_second()));
        let told = &attributes.ctx.warnings;
        let mut patch = None;
        let changed = match (patched, &mut object) {
            (Ok(Some(made)), Some(object)) => {
                patch = Some(made.patch);
                let changed = **object != made.object;
                **object = made.object;
                changed
            }
            (Ok(_), _) => false,
            (Err(Failure::Calling { reason, .. }), _) if hook.fails_open => {
                tracing::warn!(webhook = hook.name, reason, "failed calling webhook, failing open");
                let key = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
                told.annotate(key, hook.name.clone());
                false
            }
            (Err(failure), _) => return Err(failure.status(&hook.name)),
        };
        if let Some(patch) = patch {
            let (configuration, webhook) = (&hook.configuration, &hook.name);
            let patch =
                json!({"configuration": configuration, "webhook": webhook, "patch": patch, "patchType": JSON_PATCH});
            told.annotate_detail(format!("patch.webhook.admission.k8s.io/{place}"), patch.to_string());
        }
        let mutation = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
        told.annotate(format!("mutation.webhook.admission.k8s.io/{place}"), mutation.to_string());
        if changed {
            memory.changed(attributes);
        }
        if hook.reinvoked {
            memory.called(hook.id.clone());
        }
    }
    memory.keep(attributes, NAME, object.as_deref());
    Ok(())
}

/// The object of the stored version as the webhook's patch leaves it, decoded and defaulted; `None` where there is none.
async fn apply(
    hook: &Hook,
    request: &Request<'_>,
    shown: Shown<'_>,
    response: &Response,
) -> Result<Option<Patched>, Failure> {
    let object = shown.object().map(|object| with_owners(object, request.attributes.owners.object));
    match patched(&hook.name, object, response)? {
        Some(Patched { object, patch }) => match settled(request, object).await {
            Ok(object) => Ok(Some(Patched { object, patch })),
            Err(status) => Err(refused(&status.message)),
        },
        None => Ok(None),
    }
}

/// An object, and the patch that made it.
pub(super) struct Patched {
    pub(super) object: Value,
    patch: json_patch::Patch,
}

fn refused(error: &dyn std::fmt::Display) -> Failure {
    Failure::Refused(Status::internal(error))
}

/// The object as the webhook of that name was shown it, patched.
pub(super) fn patched(name: &str, object: Option<Value>, response: &Response) -> Result<Option<Patched>, Failure> {
    if response.patch().is_empty() {
        return Ok(None);
    }
    let patch = json_patch::parse(response.patch()).map_err(|status| {
        let reason = format!("received undecodable patch in webhook response: {}", status.message);
        Failure::Calling { code: 503, reason }
    })?;
    if patch.0.is_empty() {
        return Ok(None);
    }
    let Some(object) = object else {
        let message = "attempted to modify the object, which is not supported for this operation";
        return Err(refused(&format_args!("admission webhook {name:?} {message}")));
    };
    match response.patch_type.as_deref() {
        Some(JSON_PATCH) => {}
        other => {
            let reason = format!("unsupported patch type {:?}", other.unwrap_or_default());
            return Err(Failure::Calling { code: 400, reason });
        }
    }
    let mut object = json_patch::apply(object, &patch).map_err(|problem| refused(&problem))?;
    // Nobody but the server says who owns what.
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(Some(Patched { object, patch }))
}
