//! One evaluation, or several that share their variables and a budget.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use machinery_cel::admission::{Environment, Wanted};
use machinery_cel::{Activation, Authorization, Budget, Decision, EvalError, PER_CALL_LIMIT, Program, Question, Val};

use super::asking::Asking;
use super::facts::{Document, Facts};

/// Variables may name earlier ones; each level takes room on the stack.
const MAX_DEPTH: u32 = 32;

/// An expression that is written in a policy or webhook. One that does not compile says so each time it is asked: what
/// then happens is for the failure policy to say.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) text: String,
    pub(crate) program: Result<Program, String>,
}

impl Compiled {
    pub(crate) fn new(text: &str, wanted: Wanted, environment: &Environment) -> Self {
        Self { text: text.to_owned(), program: environment.compile(text, wanted) }
    }
}

/// Why no further expression is evaluated.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Evaluated again once this is answered.
    Question(Box<Question>),
    OutOfBudget,
}

impl Stop {
    pub(crate) const OUT_OF_BUDGET: &'static str =
        "validation failed due to running out of cost budget, no further validation rules will be run";
}

/// What the expressions of one policy see, for one parameter.
pub(crate) struct Scope<'a> {
    facts: &'a Facts<'a>,
    object: &'a Document<'a>,
    params: &'a Document<'a>,
    variables: &'a [(String, Compiled)],
    asking: &'a Asking,
    made: RefCell<BTreeMap<&'a str, Result<Val, EvalError>>>,
    /// What variables have cost since the last expression.
    spent: Cell<u64>,
    left: Cell<u64>,
    depth: Cell<u32>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(
        facts: &'a Facts<'a>,
        object: &'a Document<'a>,
        params: &'a Document<'a>,
        variables: &'a [(String, Compiled)],
        asking: &'a Asking,
        limit: u64,
    ) -> Self {
        Self {
            facts,
            object,
            params,
            variables,
            asking,
            made: RefCell::default(),
            spent: Cell::new(0),
            left: Cell::new(limit),
            depth: Cell::new(0),
        }
    }

    /// The same variables, with another budget.
    pub(crate) fn renew(&self, limit: u64) {
        self.left.set(limit);
    }

    /// The value of an expression, or why it has none in upstream's words.
    pub(crate) fn evaluate(&self, expression: &Compiled) -> Result<Result<Val, String>, Stop> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(problem) => return Ok(Err(format!("compilation error: {problem}"))),
        };
        let mut budget = Budget::new(PER_CALL_LIMIT);
        let outcome = program.evaluate(self, &mut budget);
        if let Err(EvalError::Unanswered(question)) = outcome {
            return Err(Stop::Question(question));
        }
        let cost = (PER_CALL_LIMIT - budget.left()).saturating_add(self.spent.take());
        match self.left.get().checked_sub(cost) {
            Some(left) => self.left.set(left),
            None => return Err(Stop::OutOfBudget),
        }
        Ok(outcome.map_err(|error| format!("expression '{}' resulted in error: {error}", expression.text)))
    }

    fn variable_value(&self, name: &str) -> Option<Result<Val, EvalError>> {
        let (name, compiled) = self.variables.iter().find(|(known, _)| known == name)?;
        if let Some(made) = self.made.borrow().get(name.as_str()) {
            return Some(made.clone());
        }
        let fail = |problem: String| Err(EvalError::Function(problem));
        let made = match &compiled.program {
            Err(problem) => fail(format!("composited variable {name:?} fails to compile: {problem}")),
            Ok(_) if self.depth.get() == MAX_DEPTH => fail(format!("variable {name:?} is nested too deeply")),
            Ok(program) => {
                let limit = PER_CALL_LIMIT.min(self.left.get().saturating_sub(self.spent.get()));
                let mut budget = Budget::new(limit);
                self.depth.set(self.depth.get() + 1);
                let outcome = program.evaluate(self, &mut budget);
                self.depth.set(self.depth.get() - 1);
                self.spent.set(self.spent.get().saturating_add(limit - budget.left()));
                match outcome {
                    Err(EvalError::Unanswered(question)) => return Some(Err(EvalError::Unanswered(question))),
                    Err(error) => fail(format!("composited variable {name:?} fails to evaluate: {error}")),
                    Ok(value) => Ok(value),
                }
            }
        };
        self.made.borrow_mut().insert(name, made.clone());
        Some(made)
    }
}

impl Activation for Scope<'_> {
    fn variable(&self, name: &str) -> Option<Val> {
        Some(match name {
            "object" => self.object.value(),
            "oldObject" => self.facts.old(),
            "params" => self.params.value(),
            "request" => self.facts.request(),
            "namespaceObject" => self.facts.namespace(),
            "authorizer" => Authorization::authorizer(),
            _ => return None,
        })
    }

    fn member(&self, of: &str, name: &str, _: &mut Budget) -> Option<Result<Val, EvalError>> {
        match (of, name) {
            ("authorizer", "requestResource") => Some(Ok(Authorization::of_resource(self.facts.check()))),
            ("variables", name) => self.variable_value(name),
            _ => None,
        }
    }

    fn decision(&self, question: &Question) -> Option<Decision> {
        self.asking.known(question)
    }
}
