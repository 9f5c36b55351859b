//! What of the machine is not for pods. Pure.

use std::collections::BTreeMap;

use base_meta::quantity::Quantity;

/// Amounts by resource, as the kubelet's `--system-reserved` and `--kube-reserved` name them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reserved(BTreeMap<String, Quantity>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReservedError {
    #[error("{0:?} is not of the form RESOURCE=AMOUNT")]
    Form(String),
    #[error("{0:?} cannot be reserved: cpu, memory, ephemeral-storage and pid can")]
    Resource(String),
    #[error("the amount of {resource} {amount:?} is not a quantity of 0 or more")]
    Amount { resource: String, amount: String },
}

const RESOURCES: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];

impl Reserved {
    /// `cpu=100m,memory=1Gi`; the empty text reserves nothing.
    pub fn parse(text: &str) -> Result<Self, ReservedError> {
        let mut all = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (resource, amount) = part.split_once('=').ok_or_else(|| ReservedError::Form(part.to_owned()))?;
            if !RESOURCES.contains(&resource) {
                return Err(ReservedError::Resource(resource.to_owned()));
            }
            let parsed = Quantity::parse(amount).ok().filter(|amount| !amount.is_negative());
            let bad = || ReservedError::Amount { resource: resource.to_owned(), amount: amount.to_owned() };
            all.insert(resource.to_owned(), parsed.ok_or_else(bad)?);
        }
        Ok(Self(all))
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut sum = self.0.clone();
        for (resource, amount) in &other.0 {
            sum.entry(resource.clone()).and_modify(|known| *known = *known + *amount).or_insert(*amount);
        }
        Self(sum)
    }

    pub(crate) fn get(&self, resource: &str) -> Option<Quantity> {
        self.0.get(resource).copied().filter(|amount| !amount.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_added() {
        let system = Reserved::parse("cpu=100m, memory=1Gi").unwrap();
        let both = system.and(&Reserved::parse("memory=512Mi,pid=10").unwrap());
        assert_eq!(both.get("cpu").unwrap().milli_value(), 100);
        assert_eq!(both.get("memory").unwrap().value(), 1536 << 20);
        assert_eq!(both.get("pid").unwrap().value(), 10);
        assert_eq!(Reserved::parse("").unwrap(), Reserved::default());
        assert_eq!(Reserved::parse("cpu=0").unwrap().get("cpu"), None);
    }

    #[test]
    fn what_cannot_be_reserved_is_refused_by_name() {
        let error = |text: &str| Reserved::parse(text).unwrap_err().to_string();
        assert_eq!(error("cpu"), "\"cpu\" is not of the form RESOURCE=AMOUNT");
        assert_eq!(error("gpu=1"), "\"gpu\" cannot be reserved: cpu, memory, ephemeral-storage and pid can");
        for text in ["memory=much", "memory=-1"] {
            assert!(error(text).starts_with("the amount of memory"), "{}", error(text));
        }
    }
}
