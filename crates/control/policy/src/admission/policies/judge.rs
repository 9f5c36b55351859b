//! What a policy says of a request with one parameter. Pure.

use std::time::{Duration, Instant};

use machinery_cel::admission::PER_POLICY_LIMIT;
use machinery_cel::{Question, Val};

use super::super::expressions::{Compiled, Scope, Stop};
use super::super::metrics::Fault;
use super::policy::{Policy, Validation};

const MAX_MESSAGE: usize = 5 * 1024;

/// One validation that does not hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denial {
    /// Which of the policy's expressions.
    pub(super) index: usize,
    pub(super) message: String,
    /// Empty where the policy gives none.
    pub(super) reason: String,
    pub(super) fault: Fault,
    pub(super) took: Duration,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) denials: Vec<Denial>,
    pub(super) annotations: Vec<(String, String)>,
    /// Annotations that could not be made: a refusal, whatever a binding's actions are.
    pub(super) broken: Vec<String>,
    /// Errors that the failure policy ignores.
    pub(super) ignored: Vec<(Fault, Duration)>,
}

impl Verdict {
    /// An error is a refusal or nothing, as the failure policy says.
    fn failed(&mut self, policy: &Policy, index: usize, message: String, fault: Fault, took: Duration) {
        match policy.ignore {
            true => self.ignored.push((fault, took)),
            false => self.denials.push(Denial { index, message, reason: String::new(), fault, took }),
        }
    }
}

type Asked<T> = Result<T, Box<Question>>;

pub(super) fn judge(policy: &Policy, scope: &Scope<'_>) -> Asked<Verdict> {
    let mut verdict = Verdict::default();
    match policy.conditions.judge(scope)? {
        Ok(true) => {}
        Ok(false) => return Ok(verdict),
        Err(problem) => {
            verdict.failed(policy, 0, problem, Fault::Invalid, Duration::ZERO);
            return Ok(verdict);
        }
    }
    scope.renew(PER_POLICY_LIMIT);
    let mut outcomes = Vec::with_capacity(policy.validations.len());
    for validation in &policy.validations {
        let began = Instant::now();
        match evaluate(scope, &validation.expression)? {
            Some(outcome) => outcomes.push((outcome, began.elapsed())),
            None => {
                verdict.failed(policy, 0, Stop::OUT_OF_BUDGET.to_owned(), Fault::OutOfBudget, began.elapsed());
                return Ok(verdict);
            }
        }
    }
    for (index, (validation, (outcome, took))) in policy.validations.iter().zip(outcomes).enumerate() {
        match outcome {
            Ok(Val::Bool(true)) => {}
            Err(problem) => {
                let fault = if validation.expression.program.is_err() { Fault::Compile } else { Fault::Invalid };
                verdict.failed(policy, index, problem, fault, took);
            }
            Ok(_) => match message(scope, validation)? {
                Some(message) => {
                    let (reason, fault) = (validation.reason.clone(), Fault::None);
                    verdict.denials.push(Denial { index, message, reason, fault, took });
                }
                None => {
                    let problem = format!("failed messageExpression: {}", Stop::OUT_OF_BUDGET);
                    verdict.failed(policy, index, problem, Fault::OutOfBudget, took);
                }
            },
        }
    }
    scope.renew(PER_POLICY_LIMIT);
    for (key, expression) in &policy.annotations {
        match evaluate(scope, expression)? {
            None => {
                let mut spent = Verdict::default();
                spent.failed(policy, 0, Stop::OUT_OF_BUDGET.to_owned(), Fault::OutOfBudget, Duration::ZERO);
                return Ok(spent);
            }
            Some(Ok(Val::String(value))) if !value.trim().is_empty() => {
                verdict.annotations.push((key.clone(), value.trim().to_owned()));
            }
            Some(Ok(Val::String(_) | Val::Null)) => {}
            Some(Ok(other)) => verdict.broken.push(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                expression.text,
                other.type_name()
            )),
            Some(Err(problem)) if !policy.ignore => verdict.broken.push(problem),
            Some(Err(_)) => {}
        }
    }
    Ok(verdict)
}

/// `None`: the budget is spent.
fn evaluate(scope: &Scope<'_>, expression: &Compiled) -> Asked<Option<Result<Val, String>>> {
    match scope.evaluate(expression) {
        Ok(outcome) => Ok(Some(outcome)),
        Err(Stop::OutOfBudget) => Ok(None),
        Err(Stop::Question(question)) => Err(question),
    }
}

/// What the expression makes, else the text, else the expression that failed. `None`: the budget is spent.
fn message(scope: &Scope<'_>, validation: &Validation) -> Asked<Option<String>> {
    if let Some(expression) = &validation.message_expression {
        let Some(made) = evaluate(scope, expression)? else { return Ok(None) };
        if let Ok(Val::String(made)) = made {
            let made = made.trim();
            if !made.is_empty() && made.len() <= MAX_MESSAGE && !made.contains('\n') {
                return Ok(Some(made.to_owned()));
            }
        }
    }
    if !validation.message.is_empty() {
        return Ok(Some(validation.message.clone()));
    }
    Ok(Some(format!("failed expression: {}", validation.expression.text.trim())))
}
