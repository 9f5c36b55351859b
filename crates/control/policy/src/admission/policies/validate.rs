//! ValidatingAdmissionPolicies: all are asked; the first refusal is the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use base_meta::Status;
use machinery_cel::admission::PER_POLICY_LIMIT;
use machinery_registry::Attributes;
use serde_json::{Value, json};

use super::super::expressions::{Asking, Document, Facts, Scope};
use super::super::matching::Request;
use super::super::metrics::Fault;
use super::super::shown::Shown;
use super::invocation::World;
use super::judge::{Denial, judge};
use super::policy::{Binding, Policy};
use super::refusal;

const MAX_ANNOTATION: usize = 10 * 1024;
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// The first that refuses: policy, binding, message, reason.
type Refusal = (String, Option<String>, String, String);

pub(super) async fn validate(world: &World, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
    let active = world.index.active();
    let request = Request::of(attributes, object);
    let invocations = world.invocations(&active, &request).await;
    if invocations.is_empty() {
        return Ok(());
    }
    let namespace = world.namespace(attributes).await?;
    let asking = Asking::new(world.chain.clone(), attributes.ctx.user.clone());
    let mut refusal: Option<Refusal> = None;
    let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for invocation in invocations {
        let invocation = match invocation {
            Ok(invocation) => invocation,
            Err(failure) => {
                refusal.get_or_insert((failure.policy, failure.binding, failure.message, String::new()));
                continue;
            }
        };
        let (policy, binding, version) = (invocation.policy, invocation.binding, invocation.version);
        let shown = Shown::of(attributes, object, version).await?;
        let seen = Document::new(shown.object());
        let facts = Facts::new(attributes, &version.gvk, &version.gvr, shown.old(), namespace.as_ref());
        for param in &invocation.params {
            let param = Document::new(param.as_ref());
            let verdict = asking
                .settled(|| {
                    judge(policy, &Scope::new(&facts, &seen, &param, &policy.variables, &asking, PER_POLICY_LIMIT))
                })
                .await;
            for (fault, took) in verdict.ignored {
                world.metrics.checked(&policy.name, &binding.name, fault, "allow", took);
            }
            for denial in verdict.denials {
                for action in act(attributes, policy, binding, &denial, &mut refusal) {
                    world.metrics.checked(&policy.name, &binding.name, denial.fault, action, denial.took);
                }
            }
            for message in verdict.broken {
                world.metrics.checked(&policy.name, &binding.name, Fault::Invalid, "deny", Duration::ZERO);
                refusal.get_or_insert((policy.name.clone(), Some(binding.name.clone()), message, String::new()));
            }
            for (key, value) in verdict.annotations {
                let values = annotations.entry(format!("{}/{key}", policy.name)).or_default();
                let value = truncated(&value).to_owned();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
    }
    for (key, values) in annotations {
        attributes.ctx.warnings.annotate(key, values.join(", "));
    }
    match refusal {
        Some((policy, binding, message, reason)) => {
            Err(refusal::denied(attributes, object, &policy, binding.as_deref(), &message, &reason))
        }
        None => Ok(()),
    }
}

/// Does what the binding says is to be done about it; answers what that was, as metrics call it.
fn act(
    attributes: &Attributes<'_>,
    policy: &Policy,
    binding: &Binding,
    denial: &Denial,
    refusal: &mut Option<Refusal>,
) -> Vec<&'static str> {
    let Denial { index, message, reason, .. } = denial;
    let mut done = Vec::new();
    let told = &attributes.ctx.warnings;
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => {
                let binding = Some(binding.name.clone());
                refusal.get_or_insert((policy.name.clone(), binding, message.clone(), reason.clone()));
                done.push("deny");
            }
            "Warn" => {
                told.add(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                    policy.name, binding.name
                ));
                done.push("warn");
            }
            "Audit" => {
                let failure = json!([{
                    "message": message,
                    "policy": policy.name,
                    "binding": binding.name,
                    "expressionIndex": index,
                    "validationActions": binding.actions,
                }]);
                told.annotate(FAILURE.to_owned(), failure.to_string());
                done.push("audit");
            }
            _ => {}
        }
    }
    done
}

fn truncated(text: &str) -> &str {
    let mut end = text.len().min(MAX_ANNOTATION);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
