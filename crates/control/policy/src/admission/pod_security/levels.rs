//! Which levels the labels of a namespace ask for, and in which version.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base_meta::field::{Error, Path};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// By strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// Of the checks: the minor version of Kubernetes that brought them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) audit: Standard,
    pub(super) warn: Standard,
}

impl Policy {
    /// Nothing is looked at.
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|standard| standard.level == Level::Privileged)
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
            Version::Latest => write!(f, "{level}:latest"),
        }
    }
}

pub(super) const PRIVILEGED: Standard = Standard { level: Level::Privileged, version: Version::Latest };

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::Latest);
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor.bytes().all(|byte| byte.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
    minor.parse().ok().filter(|_| plain).map(Version::Minor)
}

/// What cannot be read is enforced as the strictest, and neither audited nor warned of.
pub(super) fn policy(labels: &BTreeMap<Arc<str>, Arc<str>>) -> (Policy, Vec<Error>) {
    let mut errors = Vec::new();
    let mut standard = |mode: &str, unreadable: Level| {
        let mut standard = PRIVILEGED;
        let path = Path::new("metadata").child("labels");
        let key = format!("{PREFIX}{mode}");
        if let Some(said) = labels.get(&*key) {
            standard.level = level(said).unwrap_or_else(|| {
                let message = "must be one of privileged, baseline, restricted";
                errors.push(Error::invalid(&path.key(&key), &**said, message));
                unreadable
            });
        }
        let key = format!("{PREFIX}{mode}-version");
        if let Some(said) = labels.get(&*key) {
            standard.version = version(said).unwrap_or_else(|| {
                errors.push(Error::invalid(&path.key(&key), &**said, "must be \"latest\" or \"v1.x\""));
                Version::Latest
            });
        }
        standard
    };
    let enforce = standard("enforce", Level::Restricted);
    let audit = standard("audit", Level::Privileged);
    let warn = standard("warn", Level::Privileged);
    (Policy { enforce, audit, warn }, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[(&str, &str)]) -> (String, Vec<String>) {
        let labels = labels.iter().map(|(key, value)| (Arc::from(format!("{PREFIX}{key}")), Arc::from(*value)));
        let (Policy { enforce, audit, warn }, errors) = policy(&labels.collect());
        (format!("{enforce} {audit} {warn}"), errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels() {
        let all = "privileged:latest privileged:latest privileged:latest";
        assert_eq!(read(&[]), (all.into(), vec![]));
        let some = [("enforce", "baseline"), ("enforce-version", "v1.25"), ("warn", "restricted")];
        assert_eq!(read(&some), ("baseline:v1.25 privileged:latest restricted:latest".into(), vec![]));
        let (policy, errors) = read(&[("enforce", "x"), ("warn", "x"), ("audit-version", "v1.01")]);
        assert_eq!(policy, "restricted:latest privileged:latest privileged:latest");
        assert_eq!(
            errors,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, \
                 baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"v1.01\": must be \"latest\" \
                 or \"v1.x\"",
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"x\": must be one of privileged, \
                 baseline, restricted",
            ]
        );
    }
}
