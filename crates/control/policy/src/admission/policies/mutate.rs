//! MutatingAdmissionPolicies: one after the other, each shown what those before it made of the object.

use std::time::Instant;

use base_meta::Status;
use machinery_cel::admission::{CONDITIONS_LIMIT, PER_POLICY_LIMIT};
use machinery_registry::Attributes;
use machinery_registry::json_patch::{self, Undone};
use serde_json::Value;

use super::super::expressions::{Asking, Document, Facts, Scope, Stop};
use super::super::matching::Request;
use super::super::metrics::{AdmissionMetrics, Fault};
use super::super::rounds::Memory;
use super::super::shown::{Shown, settled};
use super::invocation::{Invocation, World};
use super::patch::{Change, change};
use super::policy::Policy;
use super::refusal::{self, Failure};

const NAME: &str = "MutatingAdmissionPolicy";

pub(super) async fn mutate(world: &World, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    let active = world.index.active();
    // Policies are matched with the object as it came.
    let before = object.clone();
    let request = Request::of(attributes, Some(&before));
    let invocations = world.invocations(&active, &request).await;
    if invocations.is_empty() {
        return Ok(());
    }
    let namespace = world.namespace(attributes).await?;
    let asking = Asking::new(world.chain.clone(), attributes.ctx.user.clone());
    let round = Round {
        attributes,
        request: &request,
        namespace: namespace.as_ref(),
        asking: &asking,
        metrics: &world.metrics,
    };
    let mut memory = Memory::of(attributes, NAME, Some(object));
    let mut failures = Vec::new();
    for invocation in invocations {
        match invocation {
            Ok(invocation) => {
                for param in &invocation.params {
                    round.invoke(&invocation, param.as_ref(), object, &mut memory, &mut failures).await?;
                }
            }
            Err(failure) => failures.push(failure),
        }
    }
    memory.keep(attributes, NAME, Some(object));
    refusal::failed(attributes, object, &failures)
}

/// What does not change while a policy's mutations are made.
struct Seen<'s> {
    facts: &'s Facts<'s>,
    params: &'s Document<'s>,
    policy: &'s Policy,
    asking: &'s Asking,
}

impl Seen<'_> {
    /// Variables are made anew for each change of the object.
    fn scope<'s>(&'s self, object: &'s Document<'s>, limit: u64) -> Scope<'s> {
        Scope::new(self.facts, object, self.params, &self.policy.variables, self.asking, limit)
    }
}

struct Round<'r> {
    attributes: &'r Attributes<'r>,
    request: &'r Request<'r>,
    namespace: Option<&'r Value>,
    asking: &'r Asking,
    metrics: &'r AdmissionMetrics,
}

impl Round<'_> {
    async fn invoke(
        &self,
        invocation: &Invocation<'_>,
        param: Option<&Value>,
        object: &mut Value,
        memory: &mut Memory,
        failures: &mut Vec<Failure>,
    ) -> Result<(), Status> {
        let Invocation { policy, binding, version, .. } = invocation;
        let fail = |message: String| {
            let (policy_name, binding) = (policy.name.clone(), Some(binding.name.clone()));
            (!policy.ignore).then_some(Failure { policy: policy_name, binding, message, invalid: true })
        };
        let before = object.clone();
        let shown = Shown::of(self.attributes, Some(&before), version).await?;
        let facts = Facts::new(self.attributes, &version.gvk, &version.gvr, shown.old(), self.namespace);
        let params = Document::new(param);
        let seen = Seen { facts: &facts, params: &params, policy, asking: self.asking };
        let mut current = shown.object().cloned().unwrap_or_default();
        if !policy.conditions.is_empty() {
            let document = Document::new(Some(&current));
            let judge = || policy.conditions.judge(&seen.scope(&document, CONDITIONS_LIMIT));
            let holds = self.asking.settled(judge).await;
            match holds {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(problem) => {
                    failures.extend(fail(problem));
                    return Ok(());
                }
            }
        }
        let id = format!("{}/{}/{}", policy.name, binding.name, identity(param));
        if !memory.wants(self.attributes, &id) {
            return Ok(());
        }
        for mutation in &policy.mutations {
            let document = Document::new(Some(&current));
            let began = Instant::now();
            let run = || change(mutation, &seen.scope(&document, PER_POLICY_LIMIT));
            let change = self.asking.settled(run).await;
            let changed = match change {
                Ok(change) => self.apply(change, &current),
                Err(problem) => Err(problem),
            };
            let fault = match &changed {
                Ok(_) => Fault::None,
                Err(_) if mutation.expression.program.is_err() => Fault::Compile,
                Err(problem) if problem == Stop::OUT_OF_BUDGET => Fault::OutOfBudget,
                Err(_) => Fault::Invalid,
            };
            self.metrics.mutated(&policy.name, &binding.name, fault, began.elapsed());
            match changed {
                Ok(changed) => current = changed,
                Err(problem) => failures.extend(fail(problem)),
            }
        }
        if shown.object() != Some(&current) {
            *object = settled(self.request, current).await?;
            memory.changed(self.attributes);
        }
        if policy.reinvoked {
            memory.called(id);
        }
        Ok(())
    }

    fn apply(&self, change: Change, current: &Value) -> Result<Value, String> {
        match change {
            Change::Configuration(mut configuration) => {
                configuration["apiVersion"] = current["apiVersion"].clone();
                configuration["kind"] = current["kind"].clone();
                let merged = self.attributes.versions.overlay(current, &configuration);
                merged.map_err(|problem| format!("error applying patch: {problem}"))
            }
            Change::Patch(patch) => match json_patch::apply(current.clone(), &patch) {
                Ok(changed) => Ok(changed),
                // Then none of it is to be applied.
                Err(Undone::Test(_)) => Ok(current.clone()),
                Err(error) => Err(format!("JSONPath: {error}")),
            },
        }
    }
}

fn identity(param: Option<&Value>) -> String {
    let metadata = |field: &str| param.and_then(|param| param["metadata"][field].as_str()).unwrap_or_default();
    format!("{}/{}", metadata("namespace"), metadata("name"))
}
