//! Texts and regular expressions.

use regex::{Regex, RegexBuilder};

use super::{Result, fail, text};
use crate::eval::{Budget, EvalError};
use crate::value::Val;

/// Bounds the memory that a pattern of `x{1000}{1000}` would take.
const PATTERN_SIZE: usize = 1 << 20;

pub fn call(name: &str, args: &[Val], budget: &mut Budget) -> Option<Result> {
    let (subject, rest) = match args {
        [Val::String(subject), rest @ ..] => (subject.as_ref(), rest),
        [Val::List(items), rest @ ..] if name == "join" => return Some(join(items, rest, budget)),
        _ => return None,
    };
    Some(match (name, rest) {
        ("contains", [Val::String(part)]) => Ok(Val::Bool(subject.contains(part.as_ref()))),
        ("startsWith", [Val::String(part)]) => Ok(Val::Bool(subject.starts_with(part.as_ref()))),
        ("endsWith", [Val::String(part)]) => Ok(Val::Bool(subject.ends_with(part.as_ref()))),
        ("matches", [Val::String(pattern)]) => regex(pattern).map(|regex| Val::Bool(regex.is_match(subject))),
        ("find", [Val::String(pattern)]) => {
            regex(pattern).map(|regex| Val::from(regex.find(subject).map_or("", |found| found.as_str())))
        }
        ("findAll", [Val::String(pattern)]) => find_all(subject, pattern, -1, budget),
        ("findAll", [Val::String(pattern), Val::Int(most)]) => find_all(subject, pattern, *most, budget),
        ("lowerAscii", []) => Ok(Val::from(subject.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(Val::from(subject.to_ascii_uppercase())),
        ("trim", []) => Ok(Val::from(subject.trim())),
        ("charAt", [Val::Int(at)]) => char_at(subject, *at),
        ("substring", [Val::Int(from)]) => substring(subject, *from, None),
        ("substring", [Val::Int(from), Val::Int(to)]) => substring(subject, *from, Some(*to)),
        ("indexOf", [Val::String(part)]) => Ok(index_of(subject, part, 0)),
        ("indexOf", [Val::String(part), Val::Int(from)]) => match usize::try_from(*from) {
            Ok(from) => Ok(index_of(subject, part, from)),
            Err(_) => Err(EvalError::OutOfBounds(*from)),
        },
        ("lastIndexOf", [Val::String(part)]) => Ok(last_index_of(subject, part, usize::MAX)),
        ("lastIndexOf", [Val::String(part), Val::Int(to)]) => match usize::try_from(*to) {
            Ok(to) => Ok(last_index_of(subject, part, to)),
            Err(_) => Err(EvalError::OutOfBounds(*to)),
        },
        ("split", [Val::String(by)]) => split(subject, by, -1, budget),
        ("split", [Val::String(by), Val::Int(most)]) => split(subject, by, *most, budget),
        ("replace", [Val::String(from), Val::String(to)]) => replace(subject, from, to, -1, budget),
        ("replace", [Val::String(from), Val::String(to), Val::Int(most)]) => replace(subject, from, to, *most, budget),
        ("format", [Val::List(values)]) => format(subject, values, budget),
        ("jsonpatch.escapeKey", []) => Ok(Val::from(subject.replace('~', "~0").replace('/', "~1"))),
        ("strings.quote", []) => Ok(Val::from(format!("{subject:?}"))),
        _ => return None,
    })
}

fn regex(pattern: &str) -> Result<Regex> {
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_SIZE)
        .build()
        .or_else(|_| fail(format!("error parsing regexp: invalid pattern: `{pattern}`")))
}

/// Charged as if written letter by letter.
fn pay(budget: &mut Budget, letters: usize) -> Result<()> {
    budget.charge((letters as u64).div_ceil(10))
}

fn limit(most: i64) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX)
}

fn find_all(subject: &str, pattern: &str, most: i64, budget: &mut Budget) -> Result {
    let regex = regex(pattern)?;
    let mut found = Vec::new();
    for part in regex.find_iter(subject).take(limit(most)) {
        budget.charge(1)?;
        found.push(Val::from(part.as_str()));
    }
    Ok(Val::list(found))
}

fn char_at(subject: &str, at: i64) -> Result {
    let length = subject.chars().count();
    match usize::try_from(at) {
        Ok(at) if at < length => Ok(Val::from(subject.chars().nth(at).map(String::from).unwrap_or_default())),
        Ok(at) if at == length => Ok(Val::from("")),
        _ => Err(EvalError::OutOfBounds(at)),
    }
}

fn substring(subject: &str, from: i64, to: Option<i64>) -> Result {
    let length = subject.chars().count();
    let bounded = |at: i64| usize::try_from(at).ok().filter(|at| *at <= length).ok_or(EvalError::OutOfBounds(at));
    let (first, last) = (bounded(from)?, to.map_or(Ok(length), bounded)?);
    if first > last {
        return fail(format!("invalid substring range. start: {first}, end: {last}"));
    }
    Ok(Val::from(subject.chars().skip(first).take(last - first).collect::<String>()))
}

/// Positions count letters, not bytes.
fn index_of(subject: &str, part: &str, from: usize) -> Val {
    let Some((start, _)) = subject.char_indices().chain([(subject.len(), ' ')]).nth(from) else { return Val::Int(-1) };
    subject[start..].find(part).map_or(Val::Int(-1), |at| Val::from(from + subject[start..start + at].chars().count()))
}

fn last_index_of(subject: &str, part: &str, to: usize) -> Val {
    subject
        .rmatch_indices(part)
        .map(|(at, _)| subject[..at].chars().count())
        .find(|at| *at <= to)
        .map_or(Val::Int(-1), Val::from)
}

fn split(subject: &str, by: &str, most: i64, budget: &mut Budget) -> Result {
    let most = limit(most);
    if most == 0 {
        return Ok(Val::list(Vec::new()));
    }
    let mut parts = Vec::new();
    if by.is_empty() {
        let letters: Vec<char> = subject.chars().collect();
        budget.charge(letters.len() as u64)?;
        for (index, letter) in letters.iter().enumerate() {
            if index + 1 == most {
                parts.push(Val::from(letters[index..].iter().collect::<String>()));
                break;
            }
            parts.push(Val::from(letter.to_string()));
        }
    } else {
        for part in subject.splitn(most, by) {
            budget.charge(1)?;
            parts.push(Val::from(part));
        }
    }
    Ok(Val::list(parts))
}

fn replace(subject: &str, from: &str, to: &str, most: i64, budget: &mut Budget) -> Result {
    let count = subject.matches(from).count().min(limit(most));
    pay(budget, subject.len().saturating_add(count.saturating_mul(to.len())))?;
    Ok(Val::from(subject.replacen(from, to, count)))
}

fn join(items: &[Val], rest: &[Val], budget: &mut Budget) -> Result {
    let by = match rest {
        [] => "",
        [Val::String(by)] => by.as_ref(),
        _ => return Err(EvalError::NoSuchOverload),
    };
    let mut joined = String::new();
    for (index, item) in items.iter().enumerate() {
        let Val::String(item) = item else { return Err(EvalError::NoSuchOverload) };
        pay(budget, item.len() + by.len())?;
        if index > 0 {
            joined.push_str(by);
        }
        joined.push_str(item);
    }
    Ok(Val::from(joined))
}

/// `%s %d %f %e %b %x %X %o`, with a precision for the two of floating point.
fn format(template: &str, values: &[Val], budget: &mut Budget) -> Result {
    let mut out = String::new();
    let mut values = values.iter();
    let mut letters = template.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut precision = None;
        if letters.next_if_eq(&'.').is_some() {
            let mut digits = 0usize;
            while let Some(digit) = letters.peek().and_then(|c| c.to_digit(10)) {
                letters.next();
                digits = (digits * 10 + digit as usize).min(100);
            }
            precision = Some(digits);
        }
        let Some(verb) = letters.next() else { return fail("unexpected end of string") };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.next() else {
            return fail(format!("error during formatting: index {} out of range", values.len()));
        };
        let part = clause(verb, precision, value, budget)?;
        pay(budget, part.len())?;
        out.push_str(&part);
    }
    Ok(Val::from(out))
}

fn clause(verb: char, precision: Option<usize>, value: &Val, budget: &mut Budget) -> Result<String> {
    let digits = precision.unwrap_or(6);
    Ok(match (verb, value) {
        ('s', value) => shown(value, budget)?,
        ('d', Val::Int(_) | Val::Uint(_) | Val::Double(_)) => text(value),
        ('f', Val::Double(number)) => format!("{number:.digits$}"),
        #[allow(clippy::cast_precision_loss)]
        ('f', Val::Int(number)) => format!("{:.digits$}", *number as f64),
        ('e', Val::Double(number)) => format!("{number:.digits$e}"),
        ('b', Val::Int(number)) if *number < 0 => format!("-{:b}", number.unsigned_abs()),
        ('b', Val::Int(number)) => format!("{number:b}"),
        ('b', Val::Uint(number)) => format!("{number:b}"),
        ('b', Val::Bool(flag)) => u8::from(*flag).to_string(),
        ('o', Val::Int(number)) if *number < 0 => format!("-{:o}", number.unsigned_abs()),
        ('o', Val::Int(number)) => format!("{number:o}"),
        ('o', Val::Uint(number)) => format!("{number:o}"),
        ('x' | 'X', value) => {
            let hex = match value {
                Val::Int(number) if *number < 0 => format!("-{:x}", number.unsigned_abs()),
                Val::Int(number) => format!("{number:x}"),
                Val::Uint(number) => format!("{number:x}"),
                Val::String(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
                Val::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => return fail("error during formatting: only integers, bytes and strings can be formatted as hex"),
            };
            if verb == 'X' { hex.to_uppercase() } else { hex }
        }
        _ => {
            return fail(format!(
                "error during formatting: could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            ));
        }
    })
}

/// Lists and maps with what is inside.
fn shown(value: &Val, budget: &mut Budget) -> Result<String> {
    budget.charge(1)?;
    Ok(match value {
        Val::List(items) => {
            let parts = items.iter().map(|item| shown(item, budget)).collect::<Result<Vec<_>>>()?;
            let joined = parts.join(", ");
            pay(budget, joined.len())?;
            format!("[{joined}]")
        }
        Val::Map(entries) => {
            let mut parts = Vec::new();
            for (key, value) in entries.iter() {
                parts.push(format!("{}: {}", text(&crate::eval::key_value(key)), shown(value, budget)?));
            }
            let joined = parts.join(", ");
            pay(budget, joined.len())?;
            format!("{{{joined}}}")
        }
        value => text(value),
    })
}
