//! An expression, compiled.

use cel::common::ast::IdedExpr;

use crate::ast;
use crate::check::Checker;
use crate::declarations::{Activation, Declarations};
use crate::eval::{Budget, EvalError, Evaluation};
use crate::types::Ty;
use crate::value::Val;

/// Why an expression is refused, as cel-go prints it: `ERROR: <input>:1:6: undefined field 'foo'` and the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compilation failed: {0}")]
pub struct CompileError(String);

impl CompileError {
    pub(crate) fn syntax(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Several, one after the other.
    pub(crate) fn all(problems: Vec<Self>) -> Self {
        let texts: Vec<String> = problems.into_iter().map(|Self(text)| text).collect();
        Self(texts.join("\n"))
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A complaint about the first place where `word` stands.
    pub(crate) fn at(source: &str, word: &str, select: bool, problem: &str) -> Self {
        let offset = place(source, word, select);
        let before = &source[..offset];
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let text = source.lines().nth(line).unwrap_or_default();
        Self(format!("ERROR: <input>:{}:{}: {problem}\n | {text}\n | {}^", line + 1, column + 1, ".".repeat(column)))
    }
}

/// The parser keeps no places, so the word is looked for; a selected field is where its dot is.
fn place(source: &str, word: &str, select: bool) -> usize {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    source
        .match_indices(word)
        .find(|(at, _)| {
            let before = source[..*at].chars().next_back();
            let after = source[at + word.len()..].chars().next();
            let bounded = !word.starts_with(is_word) || !(before.is_some_and(is_word) || after.is_some_and(is_word));
            bounded && (!select || before == Some('.'))
        })
        .map_or(0, |(at, _)| if select { at - 1 } else { at })
}

#[derive(Debug)]
pub struct Program {
    source: String,
    tree: IdedExpr,
    ty: Ty,
    cost: u64,
}

impl Program {
    /// Parses and checks against the declared types.
    pub fn compile(source: &str, declarations: &Declarations) -> Result<Self, CompileError> {
        let tree = ast::parse(source)?;
        let (ty, cost) = Checker::new(source, declarations).check(&tree)?;
        Ok(Self { source: source.to_owned(), tree, ty, cost })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Of the result.
    pub fn ty(&self) -> &Ty {
        &self.ty
    }

    /// The most one evaluation is estimated to cost, for values as large as their types allow.
    pub fn estimated_cost(&self) -> u64 {
        self.cost
    }

    pub fn mentions(&self, variable: &str) -> bool {
        ast::mentions(&self.tree, variable)
    }

    /// Ends: with a value, an error, or (at the latest when `budget` is spent) [`EvalError::Budget`].
    pub fn evaluate(&self, variables: &dyn Activation, budget: &mut Budget) -> Result<Val, EvalError> {
        Evaluation::new(variables, budget).run(&self.tree)
    }
}
