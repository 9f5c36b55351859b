//! What functions do. Which exist, and with which types, is in `signatures`; what they cost, in `estimate`. A function
//! that makes more than it was given charges for that first.

mod convert;
mod formats;
mod lists;
mod network;
mod operators;
mod quantities;
mod strings;
mod times;

use std::sync::Arc;

pub use convert::text;
pub use times::parse as duration;

use crate::authorization;
use crate::eval::{Budget, EvalError};
use crate::value::Val;

pub type Result<T = Val> = std::result::Result<T, EvalError>;

pub(crate) fn fail<T>(problem: impl Into<String>) -> Result<T> {
    Err(EvalError::Function(problem.into()))
}

/// `args` begin with the receiver, where there is one.
pub fn call(name: &str, receiver: bool, args: &[Val], budget: &mut Budget) -> Result {
    // None: another library may know it.
    let found = operators::call(name, args, budget)
        .or_else(|| convert::call(name, receiver, args))
        .or_else(|| optional(name, args))
        .or_else(|| times::call(name, args))
        .or_else(|| strings::call(name, args, budget))
        .or_else(|| lists::call(name, args))
        .or_else(|| quantities::call(name, args))
        .or_else(|| network::call(name, args))
        .or_else(|| formats::call(name, args))
        .or_else(|| authorization::call(name, args));
    found.unwrap_or(Err(EvalError::NoSuchOverload))
}

fn optional(name: &str, args: &[Val]) -> Option<Result> {
    Some(Ok(match (name, args) {
        ("optional.of", [value]) => Val::some(value.clone()),
        ("optional.none", []) => Val::NONE,
        ("optional.ofNonZeroValue", [value]) => {
            if is_zero(value) {
                Val::NONE
            } else {
                Val::some(value.clone())
            }
        }
        ("optional.unwrap" | "unwrapOpt", [Val::List(items)]) => {
            let present = items.iter().filter_map(|item| match item {
                Val::Optional(inner) => inner.clone().map(|inner| Ok(Arc::unwrap_or_clone(inner))),
                _ => Some(Err(EvalError::NoSuchOverload)),
            });
            return Some(present.collect::<Result<Vec<_>>>().map(Val::list));
        }
        ("hasValue", [Val::Optional(inner)]) => Val::Bool(inner.is_some()),
        ("value", [Val::Optional(inner)]) => match inner {
            Some(inner) => Arc::unwrap_or_clone(inner.clone()),
            None => return Some(Err(EvalError::Nothing)),
        },
        _ => return None,
    }))
}

fn is_zero(value: &Val) -> bool {
    match value {
        Val::Null | Val::Optional(None) | Val::Bool(false) | Val::Int(0) | Val::Uint(0) => true,
        Val::Double(number) => *number == 0.0,
        Val::String(_) | Val::Bytes(_) | Val::List(_) | Val::Map(_) | Val::Made(_) => value.weight() == 0,
        Val::Duration(duration) => duration.is_zero(),
        _ => false,
    }
}
