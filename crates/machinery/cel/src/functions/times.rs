//! Timestamps and durations.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use super::{Result, fail};
use crate::eval::EvalError;
use crate::value::Val;

pub fn timestamp(value: &Val) -> Result {
    match value {
        Val::Timestamp(_) => Ok(value.clone()),
        Val::Int(seconds) => Timestamp::from_second(*seconds).map(Val::Timestamp).map_err(|_| EvalError::Overflow),
        Val::String(text) => match text.parse() {
            Ok(time) => Ok(Val::Timestamp(time)),
            Err(_) => fail("type conversion error from 'string' to 'google.protobuf.Timestamp'"),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

pub fn duration(value: &Val) -> Result {
    match value {
        Val::Duration(_) => Ok(value.clone()),
        Val::Int(nanos) => Ok(Val::Duration(SignedDuration::from_nanos(*nanos))),
        Val::String(text) => match parse(text) {
            Some(span) => Ok(Val::Duration(span)),
            None => fail(format!("time: invalid duration {text:?}")),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// As Go's `time.ParseDuration`: `1h15m30.5s`.
pub fn parse(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.len() > 18 {
            return None;
        }
        if !whole.is_empty() {
            nanos = nanos.checked_add(whole.parse::<i128>().ok()?.checked_mul(scale)?)?;
        }
        if !fraction.is_empty() {
            let digits = u32::try_from(fraction.len()).ok()?;
            nanos = nanos.checked_add(fraction.parse::<i128>().ok()? * scale / 10i128.pow(digits))?;
        }
        rest = tail;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).ok()?;
    (!text.trim_matches(['+', '-']).is_empty()).then(|| SignedDuration::from_nanos(nanos))
}

/// As the language's `string()`: seconds.
pub fn print(span: SignedDuration) -> String {
    let (seconds, nanos) = (span.as_secs(), span.subsec_nanos());
    if nanos == 0 {
        return format!("{seconds}s");
    }
    let sign = if span.is_negative() { "-" } else { "" };
    let text = format!("{sign}{}.{:09}", seconds.unsigned_abs(), nanos.unsigned_abs());
    format!("{}s", text.trim_end_matches('0'))
}

pub fn call(name: &str, args: &[Val]) -> Option<Result> {
    Some(match args {
        [Val::Duration(span)] => Ok(Val::Int(match name {
            "getHours" => span.as_hours(),
            "getMinutes" => span.as_mins(),
            "getSeconds" => span.as_secs(),
            "getMilliseconds" => i64::from(span.subsec_millis()),
            _ => return None,
        })),
        [Val::Timestamp(time)] => Ok(Val::Int(part(name, &time.to_zoned(TimeZone::UTC))?)),
        [Val::Timestamp(time), Val::String(zone)] => match self::zone(zone) {
            Some(zone) => Ok(Val::Int(part(name, &time.to_zoned(zone))?)),
            None => fail(format!("unknown time zone {zone}")),
        },
        _ => return None,
    })
}

/// `-07:30` or a name.
fn zone(text: &str) -> Option<TimeZone> {
    if let Some((hours, minutes)) = text.split_once(':') {
        let negative = hours.starts_with('-');
        let (hours, minutes) =
            (hours.trim_start_matches(['+', '-']).parse::<i32>().ok()?, minutes.parse::<i32>().ok()?);
        let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
        return Offset::from_seconds(if negative { -seconds } else { seconds }).ok().map(TimeZone::fixed);
    }
    TimeZone::get(text).ok()
}

fn part(name: &str, time: &Zoned) -> Option<i64> {
    Some(match name {
        "getFullYear" => time.year().into(),
        "getMonth" => i64::from(time.month()) - 1,
        "getDate" => time.day().into(),
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDayOfWeek" => time.weekday().to_sunday_zero_offset().into(),
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getHours" => time.hour().into(),
        "getMinutes" => time.minute().into(),
        "getSeconds" => time.second().into(),
        "getMilliseconds" => time.millisecond().into(),
        _ => return None,
    })
}
