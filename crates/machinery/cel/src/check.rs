//! Types of an expression and the most it may cost.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, StructExpr};

use crate::ast::{self, Loop, Macro};
use crate::declarations::Declarations;
use crate::estimate;
use crate::made;
use crate::program::CompileError;
use crate::signatures::{self, Signature};
use crate::types::{Kind, Ty};

type Checked = Result<(Ty, u64), CompileError>;

pub struct Checker<'a> {
    source: &'a str,
    declarations: &'a Declarations,
    locals: Vec<(String, Ty)>,
    problems: Vec<CompileError>,
    /// Literals of items of several types; told where there is nothing worse.
    mixed: Vec<CompileError>,
    /// How many calls around this place take such literals.
    formats: u32,
}

/// So many problems are told at most, as cel-go does; each shows its line, so their text is bounded, too, in bytes.
const MOST: usize = 100;
const LONGEST: usize = 64 * 1024;

const TYPES: &[&str] = &[
    "int",
    "uint",
    "double",
    "bool",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "optional_type",
];

impl<'a> Checker<'a> {
    pub fn new(source: &'a str, declarations: &'a Declarations) -> Self {
        Self { source, declarations, locals: Vec::new(), problems: Vec::new(), mixed: Vec::new(), formats: 0 }
    }

    /// # Errors
    /// All problems of the expression at once.
    pub fn check(mut self, tree: &IdedExpr) -> Checked {
        match self.expr(tree) {
            Ok(checked) if self.problems.is_empty() && self.mixed.is_empty() => Ok(checked),
            Ok(_) if self.problems.is_empty() => Err(CompileError::all(self.mixed)),
            Ok(_) => Err(CompileError::all(self.problems)),
            // There were too many to go on.
            Err(_) => Err(CompileError::all(self.problems)),
        }
    }

    fn error(&self, word: &str, problem: &str) -> CompileError {
        CompileError::at(self.source, word, false, problem)
    }

    fn undeclared(&self, name: &str) -> CompileError {
        self.error(name, &format!("undeclared reference to '{name}' (in container '')"))
    }

    fn variable(&self, name: &str) -> Option<&Ty> {
        self.locals
            .iter()
            .rev()
            .find(|(local, _)| local == name)
            .map(|(_, ty)| ty)
            .or_else(|| self.declarations.get(name))
    }

    /// What has a problem is of any type to what is around it.
    fn expr(&mut self, tree: &IdedExpr) -> Checked {
        let problem = match self.typed(tree) {
            Err(problem) if room(&self.problems) => problem,
            checked => return checked,
        };
        self.problems.push(problem);
        Ok((Kind::Dyn.into(), 0))
    }

    /// cel-go's HomogeneousAggregateLiterals: items of literals are of one type, save in what is formatted. `optional`: whether
    /// some of them may be absent, and so of a type that is not told.
    fn one_type(&mut self, first: &Ty, next: &Ty, at: &IdedExpr, optional: bool) {
        if !alike(first, next, optional) && self.formats == 0 && room(&self.mixed) {
            let problem = format!("expected type '{first}' but found '{next}'");
            self.mixed.push(self.error(&word(at), &problem));
        }
    }

    fn typed(&mut self, tree: &IdedExpr) -> Checked {
        match &tree.expr {
            Expr::Literal(literal) => Ok((literal_type(literal), 0)),
            Expr::Ident(name) => match self.variable(name) {
                Some(ty) => Ok((ty.clone(), 1)),
                None if TYPES.contains(&name.as_str()) => Ok((Kind::Type.into(), 1)),
                None => Err(self.undeclared(name)),
            },
            Expr::Select(select) => self.select(select),
            Expr::List(list) => {
                let mut cost = 10;
                let (mut item, mut first): (Option<Ty>, Option<Ty>) = (None, None);
                for (index, element) in list.elements.iter().enumerate() {
                    let (mut ty, more) = self.expr(element)?;
                    if list.optional_indices.contains(&index) {
                        ty = unwrapped(&ty);
                    }
                    cost = more.saturating_add(cost);
                    match &first {
                        Some(first) => self.one_type(first, &ty, element, !list.optional_indices.is_empty()),
                        None => first = Some(ty.clone()),
                    }
                    item = Some(item.map_or(ty.clone(), |item| item.join(&ty)));
                }
                let count = list.elements.len() as u64;
                Ok((Ty::list(item.unwrap_or(Kind::Dyn.into())).at_most(Some(count)), cost))
            }
            Expr::Map(map) => {
                let mut cost = 30;
                let optional =
                    map.entries.iter().any(|entry| matches!(&entry.expr, EntryExpr::MapEntry(entry) if entry.optional));
                let mut types: Option<(Ty, Ty)> = None;
                let mut one: Option<(Ty, Ty)> = None;
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    let ((key, first), (mut value, second)) = (self.expr(&entry.key)?, self.expr(&entry.value)?);
                    if entry.optional {
                        value = unwrapped(&value);
                    }
                    cost = first.saturating_add(second).saturating_add(cost);
                    match &one {
                        Some((one_key, one_value)) => {
                            self.one_type(one_key, &key, &entry.key, false);
                            self.one_type(one_value, &value, &entry.value, optional);
                        }
                        None => one = Some((key.clone(), value.clone())),
                    }
                    types = Some(match types {
                        Some((keys, values)) => (keys.join(&key), values.join(&value)),
                        None => (key, value),
                    });
                }
                let (key, value) = types.unwrap_or((Kind::Dyn.into(), Kind::Dyn.into()));
                Ok((Ty::map(key, value).at_most(Some(map.entries.len() as u64)), cost))
            }
            Expr::Call(call) => self.call(call),
            Expr::Struct(structure) => self.structure(structure),
            Expr::Comprehension(_) | Expr::Unspecified => Err(CompileError::syntax("unexpected expression")),
        }
    }

    fn select(&mut self, select: &SelectExpr) -> Checked {
        // `google.protobuf.Timestamp` and the like are names of types.
        if let Some(name) = dotted(select)
            && TYPES.contains(&name.as_str())
        {
            return Ok((Kind::Type.into(), 1));
        }
        if let Some(name) = dotted(select)
            && let Some(ty) = self.declarations.get(&name)
            && !self.locals.iter().any(|(local, _)| name.starts_with(&format!("{local}.")))
        {
            return Ok((ty.clone(), 1));
        }
        let (operand, cost) = self.expr(&select.operand)?;
        Ok((self.field(&operand, &select.field)?, cost.saturating_add(1)))
    }

    fn structure(&mut self, structure: &StructExpr) -> Checked {
        let name = structure.type_name.as_str();
        if !self.declarations.makes() || !made::is_known(name) {
            return Err(self.undeclared(name));
        }
        let mut cost = 40u64;
        for entry in &structure.entries {
            let EntryExpr::StructField(entry) = &entry.expr else { continue };
            let (mut ty, more) = self.expr(&entry.value)?;
            cost = cost.saturating_add(more);
            if entry.optional {
                ty = unwrapped(&ty);
            }
            let field = &entry.field;
            let wanted =
                made::field(name, field).ok_or_else(|| self.error(field, &format!("undefined field '{field}'")))?;
            if !wanted.accepts(&ty) {
                let problem = format!("expected type of field '{field}' is '{wanted}' but provided type is '{ty}'");
                return Err(self.error(field, &problem));
            }
        }
        Ok((Kind::Made(name.into()).into(), cost))
    }

    fn field(&self, of: &Ty, name: &str) -> Result<Ty, CompileError> {
        match &of.kind {
            Kind::Dyn => Ok(Kind::Dyn.into()),
            Kind::Map(_, value) => Ok(value.as_ref().clone()),
            Kind::Made(structure) => made::field(structure, name)
                .ok_or_else(|| CompileError::at(self.source, name, true, &format!("undefined field '{name}'"))),
            Kind::Optional(inner) => Ok(Ty::optional(unwrapped(&self.field(inner, name)?))),
            Kind::Object(object) => object
                .fields
                .get(name)
                .cloned()
                .ok_or_else(|| CompileError::at(self.source, name, true, &format!("undefined field '{name}'"))),
            _ => {
                let problem = format!("type '{of}' does not support field selection");
                Err(CompileError::at(self.source, name, true, &problem))
            }
        }
    }

    fn call(&mut self, call: &CallExpr) -> Checked {
        if let Some(found) = Macro::of(call) {
            return self.expand(found, call);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            ("_&&_" | "_||_", args) => {
                let mut cost = 0u64;
                let mut types = Vec::new();
                for arg in args {
                    let (ty, more) = self.expr(arg)?;
                    cost = cost.saturating_add(more);
                    types.push(ty);
                }
                if types.iter().all(|ty| bool_type().accepts(ty)) {
                    return Ok((bool_type(), cost));
                }
                Err(self.no_overload(&call.func_name, None, &types))
            }
            ("_?_:_", [condition, yes, no]) => {
                let (test, cost) = self.expr(condition)?;
                let ((yes, first), (no, second)) = (self.expr(yes)?, self.expr(no)?);
                if !bool_type().accepts(&test) || !yes.accepts(&no) {
                    return Err(self.no_overload("_?_:_", None, &[test, yes, no]));
                }
                Ok((yes.join(&no), cost.saturating_add(first.max(second))))
            }
            ("_[_]" | "_[?_]", [operand, index]) => {
                let ((operand, first), (index, second)) = (self.expr(operand)?, self.expr(index)?);
                let inner = self.element(&operand, &index, &call.func_name)?;
                let inner = if call.func_name == "_[?_]" { Ty::optional(unwrapped(&inner)) } else { inner };
                Ok((inner, first.saturating_add(second).saturating_add(1)))
            }
            ("_?._", [operand, field]) => {
                let (operand, cost) = self.expr(operand)?;
                let Expr::Literal(LiteralValue::String(name)) = &field.expr else {
                    return Err(self.error("?", "unsupported optional field selection"));
                };
                let inner = self.field(&operand, name.inner())?;
                Ok((Ty::optional(unwrapped(&inner)), cost.saturating_add(1)))
            }
            _ => self.function(call),
        }
    }

    fn element(&self, operand: &Ty, index: &Ty, function: &str) -> Result<Ty, CompileError> {
        match &operand.kind {
            Kind::Dyn => Ok(Kind::Dyn.into()),
            Kind::List(item) if matches!(index.kind, Kind::Int | Kind::Uint | Kind::Double | Kind::Dyn) => {
                Ok(item.as_ref().clone())
            }
            Kind::Map(key, value) if key.accepts(index) => Ok(value.as_ref().clone()),
            Kind::Optional(inner) => Ok(Ty::optional(unwrapped(&self.element(inner, index, function)?))),
            _ => Err(self.no_overload(function, None, &[operand.clone(), index.clone()])),
        }
    }

    fn function(&mut self, call: &CallExpr) -> Checked {
        let library = ast::qualified(call.target.as_deref(), &call.func_name).filter(|name| {
            let prefix = name.split('.').next().unwrap_or_default();
            self.variable(prefix).is_none()
                && signatures::of(false, name).is_some()
                && (prefix != "jsonpatch" || self.declarations.makes())
        });
        let receiver = call.target.as_deref().filter(|_| library.is_none());
        let name = library.unwrap_or_else(|| call.func_name.clone());
        let signatures = signatures::of(receiver.is_some(), &name).ok_or_else(|| {
            // What a receiver is matters less than that nothing has such a function.
            self.undeclared(&call.func_name)
        })?;
        let mut cost = 1u64;
        let mut types = Vec::new();
        let formats = u32::from(name == "format");
        self.formats += formats;
        for argument in receiver.into_iter().chain(&call.args) {
            let (ty, more) = self.expr(argument)?;
            cost = cost.saturating_add(more);
            types.push(ty);
        }
        self.formats -= formats;
        let result = result(signatures, &types)
            .ok_or_else(|| self.no_overload(&name, receiver.is_some().then_some(()), &types))?;
        let sizes: Vec<u64> = types.iter().map(size).collect();
        let cost = cost.saturating_add(estimate::extra(&name, &sizes));
        Ok((result.at_most(Some(estimate::result_size(&name, &sizes))), cost))
    }

    fn no_overload(&self, name: &str, receiver: Option<()>, types: &[Ty]) -> CompileError {
        let texts: Vec<String> = types.iter().map(ToString::to_string).collect();
        let applied = match receiver {
            Some(()) => format!("{}.({})", texts[0], texts[1..].join(", ")),
            None => format!("({})", texts.join(", ")),
        };
        let word: &str = match name {
            "_[_]" => "[",
            "_?_:_" => "?",
            "@in" => "in",
            "_[?_]" => "[?",
            "_-_" | "-_" => "-",
            name => name.trim_matches('_'),
        };
        self.error(word, &format!("found no matching overload for '{name}' applied to '{applied}'"))
    }

    fn scoped(&mut self, variables: Vec<(&str, Ty)>, body: &IdedExpr) -> Checked {
        let before = self.locals.len();
        self.locals.extend(variables.into_iter().map(|(name, ty)| (name.to_owned(), ty)));
        let checked = self.expr(body);
        self.locals.truncate(before);
        checked
    }

    fn expand(&mut self, found: Macro, call: &CallExpr) -> Checked {
        let bad_variable = || self.error(&call.func_name, "argument must be a simple name");
        if found == Macro::Has {
            return match &call.args[0].expr {
                Expr::Select(select) => self.select(select).map(|(_, cost)| (bool_type(), cost)),
                _ => Err(self.error("has", "invalid argument to has() macro")),
            };
        }
        let looped = Loop::of(found, &call.args).ok_or_else(bad_variable)?;
        let target = call.target.as_deref().expect("macros but has are called on something");
        let (range, cost) = self.expr(target)?;
        if matches!(found, Macro::OptMap | Macro::OptFlatMap) {
            let (result, more) = self.scoped(vec![(looped.first, unwrapped(&range))], looped.body)?;
            return Ok((Ty::optional(unwrapped(&result)), cost.saturating_add(more).saturating_add(1)));
        }
        let (key, value) = match &range.kind {
            Kind::List(item) => (Ty::from(Kind::Int), item.as_ref().clone()),
            Kind::Map(key, value) => (key.as_ref().clone(), value.as_ref().clone()),
            Kind::Dyn => (Kind::Dyn.into(), Kind::Dyn.into()),
            _ => {
                let problem = format!(
                    "expression of type '{range}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                return Err(self.error(&call.func_name, &problem));
            }
        };
        let variables = || match looped.second {
            Some(second) => vec![(looped.first, key.clone()), (second, value.clone())],
            None if matches!(range.kind, Kind::Map(..)) => vec![(looped.first, key.clone())],
            None => vec![(looped.first, value.clone())],
        };
        let mut turn = 3u64;
        if let Some(filter) = looped.filter {
            let (ty, more) = self.scoped(variables(), filter)?;
            turn = turn.saturating_add(more);
            self.require_bool(&ty, &call.func_name)?;
        }
        let (body, more) = self.scoped(variables(), looped.body)?;
        turn = turn.saturating_add(more);
        let result = match found {
            Macro::Map | Macro::TransformList => Ty::list(body).at_most(Some(range.max)),
            Macro::TransformMap => Ty::map(key, body).at_most(Some(range.max)),
            Macro::TransformMapEntry => {
                if !matches!(body.kind, Kind::Map(..) | Kind::Dyn) {
                    let problem = format!("expected type 'map(dyn, dyn)' but found '{body}'");
                    return Err(self.error(&call.func_name, &problem));
                }
                body
            }
            Macro::Filter => {
                self.require_bool(&body, &call.func_name)?;
                let item = if matches!(range.kind, Kind::Map(..)) { key } else { value };
                Ty::list(item).at_most(Some(range.max))
            }
            _ => {
                self.require_bool(&body, &call.func_name)?;
                bool_type()
            }
        };
        Ok((result, cost.saturating_add(turn.saturating_mul(range.max)).saturating_add(2)))
    }

    fn require_bool(&self, ty: &Ty, word: &str) -> Result<(), CompileError> {
        if bool_type().accepts(ty) {
            return Ok(());
        }
        Err(self.error(word, &format!("expected type 'bool' but found '{ty}'")))
    }
}

/// What reading a value of the type looks at: one for scalars, the characters or items of what has a size.
fn size(ty: &Ty) -> u64 {
    match &ty.kind {
        Kind::String | Kind::Bytes | Kind::List(_) | Kind::Map(..) | Kind::Dyn => ty.max,
        Kind::Optional(inner) => size(inner),
        _ => 1,
    }
}

fn bool_type() -> Ty {
    Kind::Bool.into()
}

fn unwrapped(ty: &Ty) -> Ty {
    match &ty.kind {
        Kind::Optional(inner) => inner.as_ref().clone(),
        _ => ty.clone(),
    }
}

fn literal_type(literal: &LiteralValue) -> Ty {
    match literal {
        LiteralValue::Boolean(_) => Kind::Bool.into(),
        LiteralValue::Bytes(bytes) => Ty::from(Kind::Bytes).at_most(Some(bytes.inner().len() as u64)),
        LiteralValue::Double(_) => Kind::Double.into(),
        LiteralValue::Int(_) => Kind::Int.into(),
        LiteralValue::Null => Kind::Null.into(),
        LiteralValue::String(text) => Ty::from(Kind::String).at_most(Some(text.inner().len() as u64)),
        LiteralValue::UInt(_) => Kind::Uint.into(),
    }
}

/// Whether two types are the same. What is inside a type and could not be told (an empty list's items) is the other's.
fn alike(a: &Ty, b: &Ty, inside: bool) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Dyn, Kind::Dyn) => true,
        (Kind::Dyn, _) | (_, Kind::Dyn) => inside,
        (Kind::List(a), Kind::List(b)) | (Kind::Optional(a), Kind::Optional(b)) => alike(a, b, true),
        (Kind::Map(key, value), Kind::Map(other_key, other_value)) => {
            alike(key, other_key, true) && alike(value, other_value, true)
        }
        _ => a.to_string() == b.to_string(),
    }
}

fn room(problems: &[CompileError]) -> bool {
    problems.len() < MOST && problems.iter().map(CompileError::len).sum::<usize>() < LONGEST
}

/// What an expression is looked for by in its source.
fn word(tree: &IdedExpr) -> String {
    match &tree.expr {
        Expr::Ident(name) => name.clone(),
        Expr::Select(select) => select.field.clone(),
        Expr::Call(call) => call.func_name.trim_matches('_').to_owned(),
        Expr::Literal(LiteralValue::String(text)) => text.inner().to_owned(),
        Expr::Literal(LiteralValue::Boolean(value)) => value.inner().to_string(),
        Expr::Literal(LiteralValue::Int(value)) => value.inner().to_string(),
        Expr::Literal(LiteralValue::Null) => "null".to_owned(),
        _ => "[".to_owned(),
    }
}

/// `a.b.c` as text.
fn dotted(select: &SelectExpr) -> Option<String> {
    let inner = match &select.operand.expr {
        Expr::Ident(name) => name.clone(),
        Expr::Select(inner) => dotted(inner)?,
        _ => return None,
    };
    Some(format!("{inner}.{}", select.field))
}

/// The result of the first signature that fits; dyn where several fit and differ.
fn result(signatures: &[Signature], types: &[Ty]) -> Option<Ty> {
    let mut found: Option<Ty> = None;
    for signature in signatures.iter().filter(|signature| signature.parameters.len() == types.len()) {
        let mut bound = HashMap::new();
        if !signature.parameters.iter().zip(types).all(|(parameter, ty)| fits(parameter, ty, &mut bound)) {
            continue;
        }
        let result = filled(&signature.result, &bound);
        found = Some(found.map_or(result.clone(), |found| found.join(&result)));
    }
    found
}

fn fits(parameter: &Ty, ty: &Ty, bound: &mut HashMap<char, Ty>) -> bool {
    match (&parameter.kind, &ty.kind) {
        (Kind::Variable(_) | Kind::Dyn, Kind::Dyn) | (Kind::Dyn, _) => true,
        (Kind::Variable('<'), kind) => {
            let ordered = matches!(
                kind,
                Kind::Int
                    | Kind::Uint
                    | Kind::Double
                    | Kind::String
                    | Kind::Bytes
                    | Kind::Bool
                    | Kind::Timestamp
                    | Kind::Duration
            );
            ordered && agrees('<', ty, bound)
        }
        (Kind::Variable(name), _) => agrees(*name, ty, bound),
        (Kind::List(a), Kind::List(b)) | (Kind::Optional(a), Kind::Optional(b)) => fits(a, b, bound),
        (Kind::Map(key, value), Kind::Map(other_key, other_value)) => {
            fits(key, other_key, bound) && fits(value, other_value, bound)
        }
        _ => parameter.accepts(ty),
    }
}

/// Numbers of different types may be compared, but not equal by declaration: cel-go's rule.
fn agrees(name: char, ty: &Ty, bound: &mut HashMap<char, Ty>) -> bool {
    match bound.get(&name) {
        Some(earlier) => {
            let number = |ty: &Ty| matches!(ty.kind, Kind::Int | Kind::Uint | Kind::Double);
            let fit = earlier.accepts(ty) || name == '<' && number(earlier) && number(ty);
            if earlier.is_dyn() {
                bound.insert(name, ty.clone());
            }
            fit
        }
        None => {
            bound.insert(name, ty.clone());
            true
        }
    }
}

fn filled(ty: &Ty, bound: &HashMap<char, Ty>) -> Ty {
    let kind = match &ty.kind {
        Kind::Variable(name) => return bound.get(name).cloned().unwrap_or(Kind::Dyn.into()),
        Kind::List(item) => Kind::List(Arc::new(filled(item, bound))),
        Kind::Optional(inner) => Kind::Optional(Arc::new(filled(inner, bound))),
        Kind::Map(key, value) => Kind::Map(Arc::new(filled(key, bound)), Arc::new(filled(value, bound))),
        kind => kind.clone(),
    };
    Ty { kind, max: ty.max }
}
