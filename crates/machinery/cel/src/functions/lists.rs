//! Lists and sets.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Result, fail};
use crate::eval::EvalError;
use crate::value::Val;

pub fn call(name: &str, args: &[Val]) -> Option<Result> {
    let [Val::List(items), rest @ ..] = args else { return None };
    let at = |index: Option<usize>| Ok(index.map_or(Val::Int(-1), Val::from));
    Some(match (name, rest) {
        ("isSorted", []) => {
            Ok(Val::Bool(items.windows(2).all(|pair| pair[0].compare(&pair[1]).is_none_or(Ordering::is_le))))
        }
        ("sum", []) => sum(items),
        ("min", []) => extreme(items, "min", Ordering::is_lt),
        ("max", []) => extreme(items, "max", Ordering::is_gt),
        ("indexOf", [value]) => at(items.iter().position(|item| item == value)),
        ("lastIndexOf", [value]) => at(items.iter().rposition(|item| item == value)),
        ("first", []) => Ok(items.first().cloned().map_or(Val::NONE, Val::some)),
        ("last", []) => Ok(items.last().cloned().map_or(Val::NONE, Val::some)),
        ("reverse", []) => Ok(Val::list(items.iter().rev().cloned().collect())),
        ("slice", [Val::Int(from), Val::Int(to)]) => slice(items, *from, *to),
        ("distinct", []) => Ok(Val::list(
            items
                .iter()
                .enumerate()
                .filter(|(index, item)| !items[..*index].contains(item))
                .map(|(_, item)| item.clone())
                .collect(),
        )),
        ("sort", []) => sorted(items),
        ("flatten", []) => Ok(Val::list(
            items
                .iter()
                .flat_map(|item| match item {
                    Val::List(inner) => inner.as_ref().clone(),
                    other => vec![other.clone()],
                })
                .collect(),
        )),
        ("sets.contains", [Val::List(other)]) => Ok(Val::Bool(other.iter().all(|item| items.contains(item)))),
        ("sets.intersects", [Val::List(other)]) => Ok(Val::Bool(other.iter().any(|item| items.contains(item)))),
        ("sets.equivalent", [Val::List(other)]) => Ok(Val::Bool(
            other.iter().all(|item| items.contains(item)) && items.iter().all(|item| other.contains(item)),
        )),
        _ => return None,
    })
}

fn sum(items: &Arc<Vec<Val>>) -> Result {
    let Some((first, rest)) = items.split_first() else { return Ok(Val::Int(0)) };
    rest.iter().try_fold(first.clone(), |sum, item| match (&sum, item) {
        (Val::Int(a), Val::Int(b)) => a.checked_add(*b).map(Val::Int).ok_or(EvalError::Overflow),
        (Val::Uint(a), Val::Uint(b)) => a.checked_add(*b).map(Val::Uint).ok_or(EvalError::Overflow),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a + b)),
        (Val::Duration(a), Val::Duration(b)) => a.checked_add(*b).map(Val::Duration).ok_or(EvalError::Overflow),
        _ => Err(EvalError::NoSuchOverload),
    })
}

fn extreme(items: &[Val], name: &str, better: fn(Ordering) -> bool) -> Result {
    let Some((first, rest)) = items.split_first() else { return fail(format!("{name} called on empty list")) };
    rest.iter()
        .try_fold(first, |best, item| match item.compare(best) {
            Some(order) => Ok(if better(order) { item } else { best }),
            None => Err(EvalError::NoSuchOverload),
        })
        .cloned()
}

fn slice(items: &[Val], from: i64, to: i64) -> Result {
    match (usize::try_from(from), usize::try_from(to)) {
        (Ok(first), Ok(last)) if first <= last && last <= items.len() => Ok(Val::list(items[first..last].to_vec())),
        (Ok(_), Ok(_)) => fail(format!("cannot slice({from}, {to}), list is length {}", items.len())),
        _ => fail(format!("cannot slice({from}, {to}), negative indexes not supported")),
    }
}

fn sorted(items: &[Val]) -> Result {
    if items.windows(2).any(|pair| pair[0].compare(&pair[1]).is_none()) {
        return Err(EvalError::NoSuchOverload);
    }
    let mut items = items.to_vec();
    items.sort_by(|a, b| a.compare(b).unwrap_or(Ordering::Equal));
    Ok(Val::list(items))
}
