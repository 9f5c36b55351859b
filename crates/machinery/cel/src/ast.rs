//! Text to syntax tree: the `cel` crate's parser, kept from running out of stack.

use cel::Env;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};

use crate::program::CompileError;

/// As cel-go's.
const MAX_CHARACTERS: usize = 100_000;
/// How deep a tree may be to be walked on any stack.
const MAX_DEPTH: usize = 120;
/// Chains (`1+1+1+…`) nest a level each, and the parser recurses over them. Pages that it does not touch cost nothing.
const STACK: usize = 512 << 20;

/// The tree, with macros left as the calls they are written as: they are evaluated, not expanded, so that each turn of
/// one can be charged for.
pub fn parse(source: &str) -> Result<IdedExpr, CompileError> {
    if source.trim().is_empty() {
        return Err(CompileError::syntax("ERROR: <input>:1:0: Syntax error: mismatched input '<EOF>'"));
    }
    if source.chars().count() > MAX_CHARACTERS {
        return Err(CompileError::syntax(format!(
            "ERROR: <input>:-1:0: expression code point size exceeds limit: size: {}, limit {MAX_CHARACTERS}",
            source.chars().count()
        )));
    }
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("cel-parse".into())
            .stack_size(STACK)
            .spawn_scoped(scope, || {
                let tree = Env::default()
                    .parser()
                    .enable_ident_escape_syntax(true)
                    .parse(source)
                    .map_err(|errors| CompileError::syntax(errors.to_string()))?;
                if deeper(&tree, MAX_DEPTH) {
                    // Dropped here, where the stack is deep enough for that too.
                    drop(tree);
                    return Err(CompileError::syntax("ERROR: <input>:-1:0: expression nested too deeply"));
                }
                Ok(tree)
            })
            .map_err(|error| CompileError::syntax(format!("starting the parser: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(CompileError::syntax("ERROR: <input>:1:0: the expression cannot be parsed")))
    })
}

fn deeper(tree: &IdedExpr, left: usize) -> bool {
    left == 0 || children(&tree.expr).into_iter().any(|child| deeper(child, left - 1))
}

/// The expressions directly inside one.
pub fn children(expr: &Expr) -> Vec<&IdedExpr> {
    match expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_children(&entry.expr)).collect(),
        Expr::Struct(structure) => structure.entries.iter().flat_map(|entry| entry_children(&entry.expr)).collect(),
        Expr::Comprehension(inner) => {
            vec![&inner.iter_range, &inner.accu_init, &inner.loop_cond, &inner.loop_step, &inner.result]
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn entry_children(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// Whether a name is read anywhere in it.
pub fn mentions(tree: &IdedExpr, name: &str) -> bool {
    matches!(&tree.expr, Expr::Ident(ident) if ident == name)
        || children(&tree.expr).into_iter().any(|child| mentions(child, name))
}

/// `sets.contains`: a call whose target is the name of a library.
pub fn qualified(target: Option<&IdedExpr>, name: &str) -> Option<String> {
    match &target?.expr {
        Expr::Ident(library) if crate::signatures::LIBRARIES.contains(&library.as_str()) => {
            Some(format!("{library}.{name}"))
        }
        _ => None,
    }
}

/// The variable a macro names.
pub fn variable(tree: &IdedExpr) -> Option<&str> {
    match &tree.expr {
        Expr::Ident(name) => Some(name),
        _ => None,
    }
}

/// The calls that bind variables or do not evaluate their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Macro {
    Has,
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    TransformMapEntry,
    OptMap,
    OptFlatMap,
}

impl Macro {
    pub fn of(call: &CallExpr) -> Option<Self> {
        let count = call.args.len();
        if call.target.is_none() {
            return (call.func_name == "has" && count == 1).then_some(Self::Has);
        }
        let found = match (call.func_name.as_str(), count) {
            ("all", 2 | 3) => Self::All,
            ("exists", 2 | 3) => Self::Exists,
            ("exists_one" | "existsOne", 2 | 3) => Self::ExistsOne,
            ("map", 2 | 3) => Self::Map,
            ("filter", 2) => Self::Filter,
            ("transformList", 3 | 4) => Self::TransformList,
            ("transformMap", 3 | 4) => Self::TransformMap,
            ("transformMapEntry", 3 | 4) => Self::TransformMapEntry,
            ("optMap", 2) => Self::OptMap,
            ("optFlatMap", 2) => Self::OptFlatMap,
            _ => return None,
        };
        Some(found)
    }
}

/// `range.all(x, …)` and its like, taken apart.
pub struct Loop<'a> {
    pub first: &'a str,
    pub second: Option<&'a str>,
    /// Of `map` with three arguments and the transforming ones with four.
    pub filter: Option<&'a IdedExpr>,
    pub body: &'a IdedExpr,
}

impl<'a> Loop<'a> {
    /// None where what should be a variable is something else.
    pub fn of(macro_: Macro, args: &'a [IdedExpr]) -> Option<Self> {
        let first = variable(args.first()?)?;
        let (second, rest) = match (macro_, args.len()) {
            (Macro::TransformList | Macro::TransformMap | Macro::TransformMapEntry, _) => {
                (Some(variable(args.get(1)?)?), &args[2..])
            }
            (Macro::All | Macro::Exists | Macro::ExistsOne, 3) => (Some(variable(&args[1])?), &args[2..]),
            _ => (None, &args[1..]),
        };
        let (filter, body) = match rest {
            [body] => (None, body),
            [filter, body] => (Some(filter), body),
            _ => return None,
        };
        Some(Self { first, second, filter, body })
    }
}
