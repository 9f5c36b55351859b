//! The kubelet's settings of eviction, in its syntax. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use base_meta::quantity::Quantity;
use jiff::SignedDuration;

use super::signal::{Amount, Signal, Threshold};

/// What is too short, as `--eviction-hard` and `--eviction-soft` say it: `memory.available<100Mi,nodefs.available<5%`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits(BTreeMap<Signal, Amount>);

/// How long something may be too short: `memory.available=1m30s`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graces(BTreeMap<Signal, Duration>);

/// How much is freed beyond a threshold: `nodefs.available=1Gi,imagefs.available=10%`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reclaims(BTreeMap<Signal, Amount>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvictionError {
    #[error("{text:?} is not of the form SIGNAL{operator}{value}")]
    Form { text: String, operator: char, value: &'static str },
    #[error("unsupported eviction signal {0}: {known} are there", known = Signal::ALL.map(Signal::name).join(", "))]
    Signal(String),
    #[error("{signal}: {amount:?} is neither an amount above 0 nor a percentage up to 100%")]
    Amount { signal: &'static str, amount: String },
    #[error("{signal}: {time:?} is no length of time, such as 30s or 1m30s")]
    Time { signal: &'static str, time: String },
    #[error("{0} is said twice")]
    Twice(&'static str),
    #[error("grace period must be specified for the soft eviction threshold {0}: say --eviction-soft-grace-period")]
    NoGrace(&'static str),
}

/// When pods are evicted, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct EvictionPolicy {
    pub thresholds: Vec<Threshold>,
    /// At most this long have pods to end that a soft threshold ends; `None`: what they ask for.
    pub max_grace: Option<Duration>,
    /// How long a node says that something is short after it no longer is.
    pub transition: Duration,
}

impl Default for EvictionPolicy {
    fn default() -> Self {
        Self { thresholds: Vec::new(), max_grace: None, transition: Duration::from_secs(300) }
    }
}

impl EvictionPolicy {
    /// A hard threshold of memory holds for the cgroup of all pods, too.
    pub fn thresholds(
        hard: &Limits,
        (soft, graces): (&Limits, &Graces),
        reclaims: &Reclaims,
    ) -> Result<Vec<Threshold>, EvictionError> {
        let reclaim = |signal: Signal| reclaims.0.get(&signal).copied();
        let threshold = |(signal, value): (&Signal, &Amount), grace| Threshold {
            signal: *signal,
            value: *value,
            grace,
            reclaim: reclaim(*signal),
        };
        let mut all: Vec<Threshold> = hard.0.iter().map(|one| threshold(one, None)).collect();
        let own =
            hard.0.get(&Signal::MemoryAvailable).filter(|_| !hard.0.contains_key(&Signal::AllocatableMemoryAvailable));
        all.extend(own.map(|value| Threshold {
            reclaim: reclaim(Signal::MemoryAvailable),
            ..threshold((&Signal::AllocatableMemoryAvailable, value), None)
        }));
        for one in &soft.0 {
            let grace = graces.0.get(one.0).copied().ok_or(EvictionError::NoGrace(one.0.name()))?;
            all.push(threshold(one, Some(grace).filter(|grace| !grace.is_zero())));
        }
        Ok(all)
    }

    /// What pods cannot use of a capacity: they are evicted before.
    pub fn kept(&self, signal: Signal, capacity: i64) -> Option<i64> {
        let capacity = u64::try_from(capacity).unwrap_or_default();
        let hard = self.thresholds.iter().find(|one| one.signal == signal && one.grace.is_none())?;
        i64::try_from(hard.value.of(capacity)).ok()
    }
}

impl std::str::FromStr for Limits {
    type Err = EvictionError;

    /// A threshold of 0% or 100% is none, as upstream's.
    fn from_str(text: &str) -> Result<Self, EvictionError> {
        let mut all = statements(text, '<', "AMOUNT", amount)?;
        all.retain(|_, amount| !matches!(amount, Amount::Share(share) if *share <= 0.0 || *share >= 1.0));
        Ok(Self(all))
    }
}

impl std::str::FromStr for Graces {
    type Err = EvictionError;

    fn from_str(text: &str) -> Result<Self, EvictionError> {
        let time = |signal: Signal, text: &str| {
            let parsed = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
            parsed.ok_or_else(|| EvictionError::Time { signal: signal.name(), time: text.to_owned() })
        };
        statements(text, '=', "TIME", time).map(Self)
    }
}

impl std::str::FromStr for Reclaims {
    type Err = EvictionError;

    fn from_str(text: &str) -> Result<Self, EvictionError> {
        statements(text, '=', "AMOUNT", amount).map(Self)
    }
}

fn statements<T>(
    text: &str,
    operator: char,
    value: &'static str,
    parse: impl Fn(Signal, &str) -> Result<T, EvictionError>,
) -> Result<BTreeMap<Signal, T>, EvictionError> {
    let mut all = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let form = || EvictionError::Form { text: part.to_owned(), operator, value };
        let (name, said) = part.split_once(operator).ok_or_else(form)?;
        let signal = Signal::named(name).ok_or_else(|| EvictionError::Signal(name.to_owned()))?;
        if all.insert(signal, parse(signal, said)?).is_some() {
            return Err(EvictionError::Twice(signal.name()));
        }
    }
    Ok(all)
}

fn amount(signal: Signal, text: &str) -> Result<Amount, EvictionError> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => {
            let percent = percent.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
            percent.map(|percent| Amount::Share(percent / 100.0))
        }
        None => {
            let quantity = Quantity::parse(text).ok().filter(|amount| !amount.is_negative() && !amount.is_zero());
            quantity.map(Amount::Absolute)
        }
    };
    parsed.ok_or_else(|| EvictionError::Amount { signal: signal.name(), amount: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hard: &str, soft: &str, graces: &str, reclaims: &str) -> Result<Vec<Threshold>, EvictionError> {
        let soft = (&soft.parse()?, &graces.parse()?);
        EvictionPolicy::thresholds(&hard.parse()?, soft, &reclaims.parse()?)
    }

    #[test]
    fn thresholds_are_read_in_the_kubelets_syntax() {
        let all = of(
            "memory.available<100Mi, nodefs.available<5%,imagefs.available<0%",
            "pid.available<10",
            "pid.available=1m30s",
            "memory.available=1Gi",
        );
        let quantity = |text| Amount::Absolute(Quantity::parse(text).unwrap());
        let hard = |signal, value, reclaim| Threshold { signal, value, grace: None, reclaim };
        let expected = [
            hard(Signal::MemoryAvailable, quantity("100Mi"), Some(quantity("1Gi"))),
            hard(Signal::NodeFsAvailable, Amount::Share(0.05), None),
            hard(Signal::AllocatableMemoryAvailable, quantity("100Mi"), Some(quantity("1Gi"))),
            Threshold {
                signal: Signal::PidAvailable,
                value: quantity("10"),
                grace: Some(Duration::from_secs(90)),
                reclaim: None,
            },
        ];
        assert_eq!(all.unwrap(), expected);
        assert_eq!(of("", "", "", "").unwrap(), []);
    }

    #[test]
    fn what_hard_thresholds_keep_is_not_for_pods() {
        let thresholds = of("memory.available<100Mi,nodefs.available<10%", "", "", "").unwrap();
        let policy = EvictionPolicy { thresholds, ..EvictionPolicy::default() };
        assert_eq!(policy.kept(Signal::MemoryAvailable, 1 << 30), Some(100 << 20));
        assert_eq!(policy.kept(Signal::NodeFsAvailable, 1000), Some(100));
        assert_eq!(policy.kept(Signal::PidAvailable, 1000), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |hard: &str, soft: &str, graces: &str| of(hard, soft, graces, "").unwrap_err().to_string();
        assert_eq!(error("memory.available", "", ""), "\"memory.available\" is not of the form SIGNAL<AMOUNT");
        assert!(error("gpu.available<1", "", "").starts_with("unsupported eviction signal gpu.available: memory.ava"));
        for amount in ["0", "-1Gi", "much", "101%", "-1%", "x%", ""] {
            let expected =
                format!("memory.available: {amount:?} is neither an amount above 0 nor a percentage up to 100%");
            assert_eq!(error(&format!("memory.available<{amount}"), "", ""), expected);
        }
        assert_eq!(error("pid.available<1,pid.available<2", "", ""), "pid.available is said twice");
        assert!(error("", "memory.available<1Gi", "").starts_with("grace period must be specified for the soft"));
        assert!(error("", "", "memory.available=soon").contains("\"soon\" is no length of time"));
        assert!(error("", "", "memory.available<1s").contains("is not of the form SIGNAL=TIME"));
    }
}
