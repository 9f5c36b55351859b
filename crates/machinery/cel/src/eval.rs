//! Running an expression, with every step charged to a budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr};

use crate::ast::{self, Loop, Macro};
use crate::authorization::{Authorization, Question};
use crate::declarations::Activation;
use crate::made::Made;
use crate::value::{Key, Val};
use crate::{estimate, functions, signatures};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    #[error("no such key: {0}")]
    NoSuchKey(String),
    #[error("no such attribute(s): {0}")]
    NoSuchAttribute(String),
    #[error("no such overload")]
    NoSuchOverload,
    #[error("division by zero")]
    DivisionByZero,
    #[error("modulus by zero")]
    ModulusByZero,
    #[error("integer overflow")]
    Overflow,
    #[error("index out of bounds: {0}")]
    OutOfBounds(i64),
    #[error("optional.none() dereference")]
    Nothing,
    /// What a function says about its arguments.
    #[error("{0}")]
    Function(String),
    #[error("operation cancelled: actual cost limit exceeded")]
    Budget,
    /// Evaluated again once this is answered.
    #[error("an authorization check is not answered yet")]
    Unanswered(Box<Question>),
}

impl EvalError {
    /// Ends the whole evaluation, whatever stands beside it.
    fn ends(&self) -> bool {
        matches!(self, Self::Budget | Self::Unanswered(_))
    }
}

/// What may still be spent.
#[derive(Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Self { left: limit }
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    pub fn charge(&mut self, cost: u64) -> Result<()> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvalError::Budget)
            }
        }
    }
}

pub type Result<T = Val> = std::result::Result<T, EvalError>;

pub struct Evaluation<'a> {
    variables: &'a dyn Activation,
    locals: Vec<(&'a str, Val)>,
    budget: &'a mut Budget,
}

impl<'a> Evaluation<'a> {
    pub fn new(variables: &'a dyn Activation, budget: &'a mut Budget) -> Self {
        Self { variables, locals: Vec::new(), budget }
    }

    pub fn run(mut self, tree: &'a IdedExpr) -> Result {
        self.expr(tree)
    }

    fn local(&self, name: &str) -> Option<&Val> {
        self.locals.iter().rev().find(|(local, _)| *local == name).map(|(_, value)| value)
    }

    fn named(&self, name: &str) -> Option<Val> {
        self.local(name).cloned().or_else(|| self.variables.variable(name))
    }

    /// `variables.a` and its like, which are no fields.
    fn member(&mut self, select: &'a SelectExpr) -> Option<Result> {
        let of = ast::variable(&select.operand).filter(|of| self.local(of).is_none())?;
        self.variables.member(of, &select.field, self.budget)
    }

    fn expr(&mut self, tree: &'a IdedExpr) -> Result {
        match &tree.expr {
            Expr::Literal(literal) => Ok(self::literal(literal)),
            Expr::Ident(name) => {
                self.budget.charge(1)?;
                Ok(match self.named(name) {
                    Some(value) => value,
                    None => Val::Type(name.as_str().into()),
                })
            }
            Expr::Select(select) => {
                self.budget.charge(1)?;
                if let Some(name @ ("google.protobuf.Timestamp" | "google.protobuf.Duration")) =
                    dotted(&tree.expr).as_deref()
                {
                    return Ok(Val::Type(name.into()));
                }
                if let Some(value) = self.member(select) {
                    return value;
                }
                field(&self.expr(&select.operand)?, &select.field)
            }
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => self.literal_of_many(&tree.expr),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(_) | Expr::Unspecified => Err(EvalError::NoSuchOverload),
        }
    }

    fn literal_of_many(&mut self, expr: &'a Expr) -> Result {
        match expr {
            Expr::List(list) => {
                self.budget.charge(10)?;
                let mut items = Vec::with_capacity(list.elements.len());
                for (index, element) in list.elements.iter().enumerate() {
                    match self.expr(element)? {
                        Val::Optional(inner) if list.optional_indices.contains(&index) => {
                            items.extend(inner.map(Arc::unwrap_or_clone));
                        }
                        value => items.push(value),
                    }
                }
                Ok(Val::list(items))
            }
            Expr::Map(map) => {
                self.budget.charge(30)?;
                let mut entries = BTreeMap::new();
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    let key = self.expr(&entry.key)?.key().ok_or(EvalError::NoSuchOverload)?;
                    let value = match self.expr(&entry.value)? {
                        Val::Optional(Some(inner)) if entry.optional => Arc::unwrap_or_clone(inner),
                        Val::Optional(None) if entry.optional => continue,
                        value => value,
                    };
                    entries.insert(key, value);
                }
                Ok(Val::Map(Arc::new(entries)))
            }
            Expr::Struct(structure) => {
                self.budget.charge(40)?;
                let mut fields = BTreeMap::new();
                for entry in &structure.entries {
                    let EntryExpr::StructField(field) = &entry.expr else { continue };
                    let value = match self.expr(&field.value)? {
                        Val::Optional(Some(inner)) if field.optional => Arc::unwrap_or_clone(inner),
                        Val::Optional(None) if field.optional => continue,
                        value => value,
                    };
                    fields.insert(field.field.clone(), value);
                }
                Ok(Val::Made(Arc::new(Made { name: structure.type_name.as_str().into(), fields })))
            }
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Result {
        if let Some(found) = Macro::of(call) {
            return self.expand(found, call);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            ("_&&_", args) => self.logic(args, false),
            ("_||_", args) => self.logic(args, true),
            ("_?_:_", [condition, yes, no]) => match self.expr(condition)? {
                Val::Bool(true) => self.expr(yes),
                Val::Bool(false) => self.expr(no),
                _ => Err(EvalError::NoSuchOverload),
            },
            ("_[_]", [operand, index]) => {
                self.budget.charge(1)?;
                let operand = self.expr(operand)?;
                let index = self.expr(index)?;
                element(&operand, &index)
            }
            ("_[?_]", [operand, index]) => {
                self.budget.charge(1)?;
                let operand = self.expr(operand)?;
                let index = self.expr(index)?;
                Ok(optional(element(&operand, &index)))
            }
            ("_?._", [operand, name]) => {
                self.budget.charge(1)?;
                let operand = self.expr(operand)?;
                let Expr::Literal(LiteralValue::String(name)) = &name.expr else {
                    return Err(EvalError::NoSuchOverload);
                };
                Ok(optional(field(&operand, name.inner())))
            }
            // Only the side that is needed.
            ("or" | "orValue", [other]) if call.target.is_some() => {
                self.budget.charge(1)?;
                match call.target.as_deref().map(|target| self.expr(target)) {
                    Some(Ok(found @ Val::Optional(Some(_)))) if call.func_name == "or" => Ok(found),
                    Some(Ok(Val::Optional(Some(inner)))) => Ok(Arc::unwrap_or_clone(inner)),
                    Some(Ok(Val::Optional(None))) => self.expr(other),
                    Some(Err(error)) => Err(error),
                    _ => Err(EvalError::NoSuchOverload),
                }
            }
            _ => self.function(call),
        }
    }

    /// `&&` and `||`: one side that decides is enough, even beside an error.
    fn logic(&mut self, args: &'a [IdedExpr], decisive: bool) -> Result {
        let mut failed = None;
        for arg in args {
            match self.expr(arg) {
                Ok(Val::Bool(value)) if value == decisive => return Ok(Val::Bool(decisive)),
                Ok(Val::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(EvalError::NoSuchOverload)),
                Err(error) if error.ends() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Val::Bool(!decisive)), Err)
    }

    fn function(&mut self, call: &'a CallExpr) -> Result {
        let library = ast::qualified(call.target.as_deref(), &call.func_name).filter(|name| {
            let prefix = name.split('.').next().unwrap_or_default();
            self.named(prefix).is_none() && signatures::of(false, name).is_some()
        });
        let name = library.as_deref().unwrap_or(&call.func_name);
        let receiver = call.target.as_deref().filter(|_| library.is_none());
        let mut values = Vec::with_capacity(call.args.len() + 1);
        for argument in receiver.into_iter().chain(&call.args) {
            values.push(self.expr(argument)?);
        }
        let equality = matches!(name, "_==_" | "_!=_" | "@in" | "indexOf" | "lastIndexOf");
        let left = self.budget.left();
        let sizes: Vec<u64> =
            values.iter().map(|value| if equality { value.deep_weight(left) } else { value.weight() }).collect();
        self.budget.charge(estimate::extra(name, &sizes).saturating_add(1))?;
        match (name, values.as_slice()) {
            ("check", [Val::Authorization(check), Val::String(verb)]) => self.ask(check, verb),
            _ => functions::call(name, receiver.is_some(), &values, self.budget),
        }
    }

    fn ask(&self, check: &Authorization, verb: &str) -> Result {
        let question = check.question(verb).ok_or(EvalError::NoSuchOverload)?;
        match self.variables.decision(&question) {
            Some(decision) => Ok(Authorization::Decision(decision).into()),
            None => Err(EvalError::Unanswered(Box::new(question))),
        }
    }

    fn expand(&mut self, found: Macro, call: &'a CallExpr) -> Result {
        self.budget.charge(1)?;
        if found == Macro::Has {
            let Expr::Select(select) = &call.args[0].expr else { return Err(EvalError::NoSuchOverload) };
            if let Some(value) = self.member(select) {
                return value.map(|value| Val::Bool(!matches!(value, Val::Optional(None))));
            }
            let operand = self.expr(&select.operand)?;
            return Ok(Val::Bool(
                field(&operand, &select.field).is_ok_and(|value| !matches!(value, Val::Optional(None))),
            ));
        }
        let looped = Loop::of(found, &call.args).ok_or(EvalError::NoSuchOverload)?;
        let target = call.target.as_deref().ok_or(EvalError::NoSuchOverload)?;
        let range = self.expr(target)?;
        if matches!(found, Macro::OptMap | Macro::OptFlatMap) {
            return match range {
                Val::Optional(None) => Ok(Val::NONE),
                Val::Optional(Some(inner)) => {
                    let value = self.scoped([(looped.first, Arc::unwrap_or_clone(inner))], looped.body)?;
                    Ok(if found == Macro::OptMap { Val::some(value) } else { value })
                }
                _ => Err(EvalError::NoSuchOverload),
            };
        }
        match range {
            Val::List(items) => {
                let turns =
                    items.iter().enumerate().map(|(index, item)| (Val::from(index), item.clone(), item.clone()));
                self.turns(found, &looped, turns)
            }
            Val::Map(entries) => {
                let turns = entries.iter().map(|(key, value)| (key_value(key), value.clone(), key_value(key)));
                self.turns(found, &looped, turns)
            }
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn scoped<const N: usize>(&mut self, variables: [(&'a str, Val); N], body: &'a IdedExpr) -> Result {
        let before = self.locals.len();
        self.locals.extend(variables);
        let value = self.expr(body);
        self.locals.truncate(before);
        value
    }

    /// Each turn is a key, its value, and the one that a macro with a single variable binds.
    fn turns(&mut self, found: Macro, looped: &Loop<'a>, turns: impl Iterator<Item = (Val, Val, Val)>) -> Result {
        let (mut list, mut map, mut count, mut failed) = (Vec::new(), BTreeMap::new(), 0u32, None);
        for (key, value, single) in turns {
            self.budget.charge(3)?;
            let mut run = |body: &'a IdedExpr| match looped.second {
                Some(second) => self.scoped([(looped.first, key.clone()), (second, value.clone())], body),
                None => self.scoped([(looped.first, single.clone())], body),
            };
            if let Some(filter) = looped.filter {
                match run(filter)? {
                    Val::Bool(true) => {}
                    Val::Bool(false) => continue,
                    _ => return Err(EvalError::NoSuchOverload),
                }
            }
            match (found, run(looped.body)) {
                (_, Err(error)) if error.ends() => return Err(error),
                (Macro::All, Ok(Val::Bool(false))) => return Ok(Val::Bool(false)),
                (Macro::Exists, Ok(Val::Bool(true))) => return Ok(Val::Bool(true)),
                (Macro::All | Macro::Exists, Ok(Val::Bool(_))) => {}
                (Macro::All | Macro::Exists, Err(error)) => failed = failed.or(Some(error)),
                (_, Err(error)) => return Err(error),
                (Macro::ExistsOne, Ok(Val::Bool(fits))) => count += u32::from(fits),
                (Macro::Filter, Ok(Val::Bool(fits))) => {
                    if fits {
                        list.push(single);
                    }
                }
                (Macro::Map | Macro::TransformList, Ok(value)) => list.push(value),
                (Macro::TransformMapEntry, Ok(Val::Map(entries))) => {
                    for (key, value) in entries.iter() {
                        if map.insert(key.clone(), value.clone()).is_some() {
                            let key = functions::text(&key_value(key));
                            return Err(EvalError::Function(format!("insert failed: key {key} already exists")));
                        }
                    }
                }
                (Macro::TransformMap, Ok(value)) => {
                    map.insert(key.key().ok_or(EvalError::NoSuchOverload)?, value);
                }
                _ => failed = failed.or(Some(EvalError::NoSuchOverload)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(match found {
            Macro::All => Val::Bool(true),
            Macro::Exists => Val::Bool(false),
            Macro::ExistsOne => Val::Bool(count == 1),
            Macro::TransformMap | Macro::TransformMapEntry => Val::Map(Arc::new(map)),
            _ => Val::list(list),
        })
    }
}

fn literal(literal: &LiteralValue) -> Val {
    match literal {
        LiteralValue::Boolean(flag) => Val::Bool(*flag.inner()),
        LiteralValue::Bytes(bytes) => Val::Bytes(bytes.inner().into()),
        LiteralValue::Double(number) => Val::Double(*number.inner()),
        LiteralValue::Int(number) => Val::Int(*number.inner()),
        LiteralValue::Null => Val::Null,
        LiteralValue::String(text) => Val::String(text.inner().into()),
        LiteralValue::UInt(number) => Val::Uint(*number.inner()),
    }
}

pub fn key_value(key: &Key) -> Val {
    match key {
        Key::Bool(flag) => Val::Bool(*flag),
        Key::Int(number) => {
            i64::try_from(*number).map_or_else(|_| u64::try_from(*number).map_or(Val::Null, Val::Uint), Val::Int)
        }
        Key::String(text) => Val::String(text.clone()),
    }
}

fn field(of: &Val, name: &str) -> Result {
    match of {
        Val::Map(entries) => {
            entries.get(&Key::String(name.into())).cloned().ok_or_else(|| EvalError::NoSuchKey(name.to_owned()))
        }
        Val::Made(made) => made.fields.get(name).cloned().ok_or_else(|| EvalError::NoSuchKey(name.to_owned())),
        Val::Optional(None) => Ok(Val::NONE),
        Val::Optional(Some(inner)) => Ok(optional(field(inner, name))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn element(of: &Val, index: &Val) -> Result {
    match of {
        Val::List(items) => {
            let Some(Key::Int(at)) = index.key() else { return Err(EvalError::NoSuchOverload) };
            let found = usize::try_from(at).ok().and_then(|at| items.get(at));
            found.cloned().ok_or_else(|| EvalError::OutOfBounds(i64::try_from(at).unwrap_or(i64::MAX)))
        }
        Val::Map(entries) => {
            let key = index.key().ok_or(EvalError::NoSuchOverload)?;
            entries.get(&key).cloned().ok_or_else(|| EvalError::NoSuchKey(functions::text(index)))
        }
        Val::Optional(None) => Ok(Val::NONE),
        Val::Optional(Some(inner)) => Ok(optional(element(inner, index))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// What was found as an optional; an optional inside stays one.
fn optional(found: Result) -> Val {
    match found {
        Ok(value @ Val::Optional(_)) => value,
        Ok(value) => Val::some(value),
        Err(_) => Val::NONE,
    }
}

fn dotted(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if select.operand.expr != Expr::Unspecified => {
            // Three segments are the longest name there is.
            match &select.operand.expr {
                Expr::Ident(first) => Some(format!("{first}.{}", select.field)),
                Expr::Select(inner) => match &inner.operand.expr {
                    Expr::Ident(first) if first == "google" => {
                        Some(format!("{first}.{}.{}", inner.field, select.field))
                    }
                    _ => None,
                },
                _ => None,
            }
        }
        _ => None,
    }
}
