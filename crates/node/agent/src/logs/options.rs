//! Query options of `/containerLogs`, checked as upstream checks PodLogOptions.

use jiff::{SignedDuration, Timestamp};

use crate::logs::line::Stream;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub since: Option<Timestamp>,
    pub tail: Option<usize>,
    pub limit_bytes: Option<u64>,
    pub stream: Option<Only>,
}

/// One stream alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only(pub(super) Stream);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOption {
    #[error("invalid value {value:?} for {name}")]
    Value { name: &'static str, value: String },
    #[error("at most one of `sinceTime` or `sinceSeconds` may be specified")]
    TwoSince,
}

impl LogOptions {
    /// All of standard output.
    pub fn stdout() -> Self {
        Self { stream: Some(Only(Stream::Stdout)), ..Self::default() }
    }

    /// Whether everything is shown, so far.
    pub fn is_whole(&self) -> bool {
        !self.previous
            && self.since.is_none()
            && self.tail.is_none()
            && self.limit_bytes.is_none()
            && self.stream.is_none()
    }

    /// All of standard error.
    pub fn stderr() -> Self {
        Self { stream: Some(Only(Stream::Stderr)), ..Self::default() }
    }

    pub fn parse<'a>(pairs: impl Iterator<Item = (&'a str, String)>, now: Timestamp) -> Result<Self, BadOption> {
        let mut options = Self::default();
        let mut since = 0;
        for (name, value) in pairs.filter(|(_, value)| !value.is_empty()) {
            let bad = |name| BadOption::Value { name, value: value.clone() };
            let flag = |name| match value.as_str() {
                "true" | "1" | "True" | "TRUE" | "t" | "T" => Ok(true),
                "false" | "0" | "False" | "FALSE" | "f" | "F" => Ok(false),
                _ => Err(bad(name)),
            };
            match name {
                "follow" => options.follow = flag("follow")?,
                "previous" => options.previous = flag("previous")?,
                "timestamps" => options.timestamps = flag("timestamps")?,
                "tailLines" => options.tail = Some(value.parse().map_err(|_| bad("tailLines"))?),
                "limitBytes" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    options.limit_bytes = Some(limit.ok_or_else(|| bad("limitBytes"))?);
                }
                "sinceSeconds" => {
                    since += 1;
                    let seconds = value.parse::<i64>().ok().filter(|seconds| *seconds > 0);
                    let seconds = SignedDuration::from_secs(seconds.ok_or_else(|| bad("sinceSeconds"))?);
                    options.since = Some(now.checked_sub(seconds).unwrap_or(Timestamp::MIN));
                }
                "sinceTime" => {
                    since += 1;
                    options.since = Some(value.parse().map_err(|_| bad("sinceTime"))?);
                }
                "stream" => {
                    options.stream = match value.as_str() {
                        "All" => None,
                        "Stdout" => Some(Only(Stream::Stdout)),
                        "Stderr" => Some(Only(Stream::Stderr)),
                        _ => return Err(bad("stream")),
                    };
                }
                _ => {}
            }
        }
        if since > 1 { Err(BadOption::TwoSince) } else { Ok(options) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&'static str, &str)]) -> Result<LogOptions, BadOption> {
        LogOptions::parse(query.iter().map(|(name, value)| (*name, (*value).to_owned())), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn options_parse_and_bad_ones_name_themselves() {
        let options = parse(&[("follow", "true"), ("tailLines", "0"), ("unknown", "x"), ("previous", "")]).unwrap();
        assert_eq!((options.follow, options.tail, options.previous), (true, Some(0), false));
        for (name, value) in [
            ("tailLines", "-1"),
            ("limitBytes", "0"),
            ("sinceSeconds", "x"),
            ("sinceTime", "soon"),
            ("follow", "maybe"),
        ] {
            assert_eq!(parse(&[(name, value)]), Err(BadOption::Value { name, value: value.into() }));
        }
        assert_eq!(parse(&[("sinceSeconds", "5"), ("sinceTime", "2026-01-01T00:00:00Z")]), Err(BadOption::TwoSince));
    }
}
