//! Schedules of CronJobs: the five fields and the descriptors that robfig's parser takes, with its messages.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::{ToSpan as _, Zoned};

/// When something happens, in the time zone of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    /// `@every 90m`
    Every(Duration),
}

/// One bit for each value that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Neither kind of day is `*`: either may match.
    either_day: bool,
}

/// What is wrong, in the parser's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

fn refuse<T>(message: impl Into<String>) -> Result<T, CronError> {
    Err(CronError(message.into()))
}

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.is_empty() {
            return refuse("empty spec string");
        }
        let mut text = text;
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            let (zone, rest) = text.split_once(' ').unwrap_or((text, ""));
            let zone = zone.split_once('=').map_or("", |(_, zone)| zone);
            if !is_time_zone(zone) {
                return refuse(format!("provided bad location {zone}: unknown time zone {zone}"));
            }
            text = rest.trim();
        }
        if text.starts_with('@') {
            return descriptor(text);
        }
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return refuse(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
        };
        let (minute, _) = field(minute, &MINUTES)?;
        let (hour, _) = field(hour, &HOURS)?;
        let (day, any_day) = field(day, &DAYS)?;
        let (month, _) = field(month, &MONTHS)?;
        let (weekday, any_weekday) = field(weekday, &WEEKDAYS)?;
        Ok(Self::Fields(Fields { minute, hour, day, month, weekday, either_day: !any_day && !any_weekday }))
    }

    /// The first time after `now` in its time zone; `None` where there is none within five years (30 February).
    pub fn next_after(&self, now: &Zoned) -> Option<Zoned> {
        let fields = match self {
            Self::Every(period) => {
                let whole = now.timestamp().as_second().checked_add(i64::try_from(period.as_secs()).ok()?)?;
                return Some(jiff::Timestamp::from_second(whole).ok()?.to_zoned(now.time_zone().clone()));
            }
            Self::Fields(fields) => fields,
        };
        let start = now.datetime();
        let mut at = DateTime::new(start.year(), start.month(), start.day(), start.hour(), start.minute(), 0, 0)
            .ok()?
            .checked_add(1.minute())
            .ok()?;
        let last = start.checked_add(5.years()).ok()?;
        while at <= last {
            if !has(fields.month, at.month()) {
                at = at.date().first_of_month().checked_add(1.month()).ok()?.to_datetime(jiff::civil::Time::midnight());
            } else if !fields.has_day(at) {
                at = at.date().tomorrow().ok()?.to_datetime(jiff::civil::Time::midnight());
            } else if !has(fields.hour, at.hour()) {
                at = at.date().at(at.hour(), 0, 0, 0).checked_add(1.hour()).ok()?;
            } else if !has(fields.minute, at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                // An hour that a clock skips does not match.
                let zoned = at.to_zoned(now.time_zone().clone()).ok()?;
                if zoned.datetime() == at && zoned > *now {
                    return Some(zoned);
                }
                at = at.checked_add(1.minute()).ok()?;
            }
        }
        None
    }
}

impl Fields {
    fn has_day(&self, at: DateTime) -> bool {
        let day = has(self.day, at.day());
        let weekday = has(self.weekday, at.weekday().to_sunday_zero_offset());
        if self.either_day { day || weekday } else { day && weekday }
    }
}

fn has(bits: u64, value: i8) -> bool {
    bits & (1 << value) != 0
}

/// Whether the database of time zones has it, spelt so.
pub fn is_time_zone(name: &str) -> bool {
    matches!(name, "" | "UTC") || jiff::tz::db().get(name).is_ok_and(|zone| zone.iana_name() == Some(name))
}

fn descriptor(text: &str) -> Result<Schedule, CronError> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => match text.strip_prefix("@every ") {
            Some(period) => return every(text, period),
            None => return refuse(format!("unrecognized descriptor: {text}")),
        },
    };
    Schedule::parse(fields)
}

fn every(text: &str, period: &str) -> Result<Schedule, CronError> {
    match duration(period) {
        // Less than a second is a second; fractions of one do not count.
        Some(period) => Ok(Schedule::Every(Duration::from_secs(period.as_secs().max(1)))),
        None => refuse(format!("failed to parse duration {text}: time: invalid duration {period:?}")),
    }
}

/// Go's: `1h30m`, `1.5s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        rest = &rest[end..];
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    Some(total)
}

/// The values that match, and whether it was `*`.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), CronError> {
    let mut all = (0, false);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (bits, star) = range(part, bounds)?;
        all = (all.0 | bits, all.1 || star);
    }
    Ok(all)
}

fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), CronError> {
    let (span, step) = match text.split('/').collect::<Vec<_>>()[..] {
        [span] => (span, None),
        [span, step] => (span, Some(step)),
        _ => return refuse(format!("too many slashes: {text}")),
    };
    let ends: Vec<&str> = span.split('-').collect();
    let mut star = false;
    let (low, mut high) = match ends[..] {
        ["*" | "?", ..] => {
            star = true;
            (bounds.min, bounds.max)
        }
        [one] => {
            let one = value(one, bounds)?;
            (one, one)
        }
        [low, high] => (value(low, bounds)?, value(high, bounds)?),
        _ => return refuse(format!("too many hyphens: {text}")),
    };
    let step = match step {
        None => 1,
        Some(step) => {
            let step = number(step)?;
            // `5/10` goes on to the end.
            if ends.len() == 1 {
                high = bounds.max;
            }
            if step > 1 {
                star = false;
            }
            step
        }
    };
    if low < bounds.min {
        return refuse(format!("beginning of range ({low}) below minimum ({}): {text}", bounds.min));
    }
    if high > bounds.max {
        return refuse(format!("end of range ({high}) above maximum ({}): {text}", bounds.max));
    }
    if low > high {
        return refuse(format!("beginning of range ({low}) beyond end of range ({high}): {text}"));
    }
    if step == 0 {
        return refuse(format!("step of range should be a positive number: {text}"));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    Ok(((low..=high).step_by(step).fold(0, |bits, value| bits | 1 << value), star))
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, CronError> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(index) => Ok(bounds.min + u32::try_from(index).unwrap_or(0)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, CronError> {
    let parsed: i64 = match text.parse() {
        Ok(number) => number,
        Err(_) => {
            return refuse(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"));
        }
    };
    match u32::try_from(parsed) {
        Ok(number) => Ok(number),
        Err(_) => refuse(format!("negative number ({parsed}) not allowed: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_as_upstream_says_it() {
        let table = [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
            ("@fortnightly", "unrecognized descriptor: @fortnightly"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("TZ=Nowhere/Land * * * * *", "provided bad location Nowhere/Land: unknown time zone Nowhere/Land"),
        ];
        for (text, expected) in table {
            assert_eq!(Schedule::parse(text).expect_err(text).to_string(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_next_time() {
        let table = [
            ("*/15 * * * *", "2026-01-01T00:15:00"),
            ("30 4 * * *", "2026-01-01T04:30:00"),
            ("0 0 29 2 *", "2028-02-29T00:00:00"),
            ("0 12 * jan-mar mon", "2026-01-05T12:00:00"),
            ("0 0 13 * FRI", "2026-01-02T00:00:00"),
            ("5/20 1,2 * * ?", "2026-01-01T01:05:00"),
            ("@weekly", "2026-01-04T00:00:00"),
            ("@every 1h30m", "2026-01-01T01:30:30"),
            ("TZ=UTC @daily", "2026-01-02T00:00:00"),
        ];
        let now: Zoned = "2026-01-01T00:00:30[UTC]".parse().expect("a time");
        for (text, expected) in table {
            let schedule = Schedule::parse(text).expect(text);
            let next = schedule.next_after(&now).expect("a next time");
            assert_eq!(next.datetime().to_string(), expected, "{text}");
        }
        let never = Schedule::parse("0 0 30 2 *").expect("parses");
        assert_eq!(never.next_after(&now), None);
    }

    #[test]
    fn an_hour_that_the_clock_skips_does_not_come() {
        let now: Zoned = "2026-03-28T12:00:00[Europe/Rome]".parse().expect("a time");
        let next = Schedule::parse("30 2 * * *").expect("parses").next_after(&now).expect("a next time");
        assert_eq!(next.datetime().to_string(), "2026-03-30T02:30:00");
    }

    #[test]
    fn time_zones_are_spelt_right() {
        for name in ["UTC", "Europe/Rome", "Etc/UTC"] {
            assert!(is_time_zone(name), "{name}");
        }
        for name in ["europe/rome", "Europe/Atlantis", "Mars"] {
            assert!(!is_time_zone(name), "{name}");
        }
    }
}
