//! Arithmetic, comparison, membership, size.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Result;
use crate::eval::{Budget, EvalError};
use crate::value::Val;

pub fn call(name: &str, args: &[Val], budget: &mut Budget) -> Option<Result> {
    Some(match (name, args) {
        ("_==_", [a, b]) => Ok(Val::Bool(a == b)),
        ("_!=_", [a, b]) => Ok(Val::Bool(a != b)),
        ("_<_", [a, b]) => ordered(a, b, Ordering::is_lt),
        ("_<=_", [a, b]) => ordered(a, b, Ordering::is_le),
        ("_>_", [a, b]) => ordered(a, b, Ordering::is_gt),
        ("_>=_", [a, b]) => ordered(a, b, Ordering::is_ge),
        ("!_", [Val::Bool(flag)]) => Ok(Val::Bool(!flag)),
        ("-_", [Val::Int(number)]) => number.checked_neg().map(Val::Int).ok_or(EvalError::Overflow),
        ("-_", [Val::Double(number)]) => Ok(Val::Double(-number)),
        ("_+_", [a, b]) => add(a, b, budget),
        ("_-_" | "_*_" | "_/_" | "_%_", [a, b]) => arithmetic(name, a, b),
        ("@in", [value, Val::List(items)]) => Ok(Val::Bool(items.contains(value))),
        ("@in", [value, Val::Map(entries)]) => Ok(Val::Bool(value.key().is_some_and(|key| entries.contains_key(&key)))),
        ("size", [Val::String(text)]) => Ok(Val::from(text.chars().count())),
        ("size", [value @ (Val::Bytes(_) | Val::List(_) | Val::Map(_))]) => {
            Ok(Val::Int(i64::try_from(value.weight()).unwrap_or(i64::MAX)))
        }
        _ => return None,
    })
}

fn ordered(a: &Val, b: &Val, fits: fn(Ordering) -> bool) -> Result {
    let structured = matches!(a, Val::List(_) | Val::Map(_) | Val::Null | Val::Quantity(_) | Val::Semver(_));
    match a.compare(b) {
        Some(order) if !structured => Ok(Val::Bool(fits(order))),
        // Not a number compares with nothing.
        None if matches!((a, b), (Val::Double(_), _) | (_, Val::Double(_))) => Ok(Val::Bool(false)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn add(a: &Val, b: &Val, budget: &mut Budget) -> Result {
    Ok(match (a, b) {
        (Val::Int(a), Val::Int(b)) => Val::Int(a.checked_add(*b).ok_or(EvalError::Overflow)?),
        (Val::Uint(a), Val::Uint(b)) => Val::Uint(a.checked_add(*b).ok_or(EvalError::Overflow)?),
        (Val::Double(a), Val::Double(b)) => Val::Double(a + b),
        (Val::String(a), Val::String(b)) => Val::from(format!("{a}{b}")),
        (Val::Bytes(a), Val::Bytes(b)) => Val::Bytes([a.as_ref(), b.as_ref()].concat().into()),
        (Val::List(a), Val::List(b)) => {
            // An item is larger than a letter.
            budget.charge((a.len() + b.len()) as u64)?;
            Val::List(Arc::new(a.iter().chain(b.iter()).cloned().collect()))
        }
        (Val::Timestamp(time), Val::Duration(span)) | (Val::Duration(span), Val::Timestamp(time)) => {
            Val::Timestamp(time.checked_add(*span).map_err(|_| EvalError::Overflow)?)
        }
        (Val::Duration(a), Val::Duration(b)) => Val::Duration(a.checked_add(*b).ok_or(EvalError::Overflow)?),
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn arithmetic(operator: &str, a: &Val, b: &Val) -> Result {
    let whole = |found: Option<i64>| found.map(Val::Int).ok_or(EvalError::Overflow);
    let natural = |found: Option<u64>| found.map(Val::Uint).ok_or(EvalError::Overflow);
    match (operator, a, b) {
        ("_/_", _, Val::Int(0) | Val::Uint(0)) => Err(EvalError::DivisionByZero),
        ("_%_", _, Val::Int(0) | Val::Uint(0)) => Err(EvalError::ModulusByZero),
        ("_-_", Val::Int(a), Val::Int(b)) => whole(a.checked_sub(*b)),
        ("_*_", Val::Int(a), Val::Int(b)) => whole(a.checked_mul(*b)),
        ("_/_", Val::Int(a), Val::Int(b)) => whole(a.checked_div(*b)),
        ("_%_", Val::Int(a), Val::Int(b)) => whole(a.checked_rem(*b)),
        ("_-_", Val::Uint(a), Val::Uint(b)) => natural(a.checked_sub(*b)),
        ("_*_", Val::Uint(a), Val::Uint(b)) => natural(a.checked_mul(*b)),
        ("_/_", Val::Uint(a), Val::Uint(b)) => natural(a.checked_div(*b)),
        ("_%_", Val::Uint(a), Val::Uint(b)) => natural(a.checked_rem(*b)),
        ("_-_", Val::Double(a), Val::Double(b)) => Ok(Val::Double(a - b)),
        ("_*_", Val::Double(a), Val::Double(b)) => Ok(Val::Double(a * b)),
        ("_/_", Val::Double(a), Val::Double(b)) => Ok(Val::Double(a / b)),
        ("_-_", Val::Timestamp(a), Val::Timestamp(b)) => Ok(Val::Duration(a.duration_since(*b))),
        ("_-_", Val::Timestamp(a), Val::Duration(b)) => {
            a.checked_sub(*b).map(Val::Timestamp).map_err(|_| EvalError::Overflow)
        }
        ("_-_", Val::Duration(a), Val::Duration(b)) => a.checked_sub(*b).map(Val::Duration).ok_or(EvalError::Overflow),
        _ => Err(EvalError::NoSuchOverload),
    }
}
