//! From one type to another.

use super::{Result, fail, network, times};
use crate::eval::EvalError;
use crate::value::Val;

pub fn call(name: &str, receiver: bool, args: &[Val]) -> Option<Result> {
    let [value, rest @ ..] = args else { return None };
    if receiver || !rest.is_empty() {
        return None;
    }
    Some(match name {
        "dyn" => Ok(value.clone()),
        "type" => Ok(Val::Type(value.type_name().into())),
        "int" => int(value),
        "uint" => uint(value),
        "double" => double(value),
        "string" => match value {
            Val::List(_) | Val::Map(_) | Val::Null | Val::Optional(_) | Val::Made(_) | Val::Authorization(_) => {
                Err(EvalError::NoSuchOverload)
            }
            value => Ok(Val::from(text(value))),
        },
        "bool" => match value {
            Val::Bool(flag) => Ok(Val::Bool(*flag)),
            Val::String(text) => match text.as_ref() {
                "1" | "t" | "true" | "TRUE" | "True" => Ok(Val::Bool(true)),
                "0" | "f" | "false" | "FALSE" | "False" => Ok(Val::Bool(false)),
                _ => fail("type conversion error from 'string' to 'bool'"),
            },
            _ => Err(EvalError::NoSuchOverload),
        },
        "bytes" => match value {
            Val::Bytes(_) => Ok(value.clone()),
            Val::String(text) => Ok(Val::Bytes(text.as_bytes().into())),
            _ => Err(EvalError::NoSuchOverload),
        },
        "timestamp" => times::timestamp(value),
        "duration" => times::duration(value),
        _ => return None,
    })
}

/// The value as `string()` and messages show it.
pub fn text(value: &Val) -> String {
    match value {
        Val::Null => "null".into(),
        Val::Bool(flag) => flag.to_string(),
        Val::Int(number) => number.to_string(),
        Val::Uint(number) => number.to_string(),
        Val::Double(number) => number.to_string(),
        Val::String(text) => text.to_string(),
        Val::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Val::List(_) => "[...]".into(),
        Val::Map(_) | Val::Made(_) => "{...}".into(),
        Val::Timestamp(time) => time.to_string(),
        Val::Duration(span) => times::print(*span),
        Val::Type(name) => name.to_string(),
        Val::Optional(None) => "optional.none()".into(),
        Val::Optional(Some(inner)) => format!("optional({})", text(inner)),
        Val::Quantity(quantity) => quantity.to_string(),
        Val::Ip(address) => address.to_string(),
        Val::Cidr(address, bits) => network::cidr_text(*address, *bits),
        Val::Url(url) => url.to_string(),
        Val::Semver(version) => version.to_string(),
        Val::Format(name) => (*name).into(),
        Val::Authorization(_) => value.type_name().into(),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn int(value: &Val) -> Result {
    match value {
        Val::Int(number) => Ok(Val::Int(*number)),
        Val::Uint(number) => i64::try_from(*number).map(Val::Int).map_err(|_| EvalError::Overflow),
        Val::Double(number) if number.abs() < i64::MAX as f64 => Ok(Val::Int(*number as i64)),
        Val::Double(_) => Err(EvalError::Overflow),
        Val::Timestamp(time) => Ok(Val::Int(time.as_second())),
        Val::Duration(span) => i64::try_from(span.as_nanos()).map(Val::Int).map_err(|_| EvalError::Overflow),
        Val::String(text) => match text.parse() {
            Ok(number) => Ok(Val::Int(number)),
            Err(_) => fail(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
fn uint(value: &Val) -> Result {
    match value {
        Val::Uint(number) => Ok(Val::Uint(*number)),
        Val::Int(number) => u64::try_from(*number).map(Val::Uint).map_err(|_| EvalError::Overflow),
        Val::Double(number) if (0.0..u64::MAX as f64).contains(number) => Ok(Val::Uint(*number as u64)),
        Val::Double(_) => Err(EvalError::Overflow),
        Val::String(text) => match text.parse() {
            Ok(number) => Ok(Val::Uint(number)),
            Err(_) => fail(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

#[allow(clippy::cast_precision_loss)]
fn double(value: &Val) -> Result {
    match value {
        Val::Double(number) => Ok(Val::Double(*number)),
        Val::Int(number) => Ok(Val::Double(*number as f64)),
        Val::Uint(number) => Ok(Val::Double(*number as f64)),
        Val::String(text) => match text.parse() {
            Ok(number) => Ok(Val::Double(number)),
            Err(_) => fail(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}
