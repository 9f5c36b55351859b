//! Validating webhooks: all at once; the first refusal in their order is the answer.

use std::sync::Arc;
use std::time::Instant;

use base_meta::Status;
use futures::future::join_all;
use serde_json::Value;

use super::super::matching::Request;
use super::asked::Asked;
use super::call::call;
use super::failure::Failure;
use super::hook::{Flavour, Hook};

pub(super) async fn validate(hooks: &[Arc<Hook>], asked: &Asked<'_>, object: Option<&Value>) -> Result<(), Status> {
    let request = Request::of(asked.attributes, object);
    let mut calls = Vec::new();
    for hook in hooks {
        if let Some(shown) = asked.shown(hook, &request).await? {
            calls.push((hook, shown));
        }
    }
    let request = &request;
    let calls = calls.into_iter().enumerate().map(|(index, (hook, shown))| async move {
        let began = Instant::now();
        let answer = call(hook, Flavour::Validating, request, &shown).await;
        asked.count(hook, Flavour::Validating, began.elapsed(), &answer);
        match answer {
            Ok(_) => Ok(()),
            Err(Failure::Calling { reason, .. }) if hook.fails_open => {
                tracing::warn!(webhook = hook.name, reason, "failed calling webhook, failing open");
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                request.attributes.ctx.warnings.annotate(key, hook.name.clone());
                Ok(())
            }
            Err(failure) => Err(failure.status(&hook.name)),
        }
    });
    join_all(calls).await.into_iter().collect()
}
