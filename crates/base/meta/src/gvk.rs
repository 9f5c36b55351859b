//! Group, version, kind and resource names.

use std::borrow::Cow;
use std::fmt;

type Text = Cow<'static, str>;

/// An API group and version; the core group is the empty string.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    pub group: Text,
    pub version: Text,
}

impl GroupVersion {
    pub const fn of(group: &'static str, version: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version) }
    }

    /// Parses the `apiVersion` of an object: `v1` or `apps/v1`.
    pub fn parse(api_version: &str) -> Option<Self> {
        let (group, version) = match api_version.split_once('/') {
            Some((group, version)) if !group.is_empty() => (group, version),
            Some(_) => return None,
            None => ("", api_version),
        };
        if version.is_empty() || version.contains('/') {
            return None;
        }
        Some(Self { group: Cow::Owned(group.to_owned()), version: Cow::Owned(version.to_owned()) })
    }

    pub fn with_kind(&self, kind: impl Into<Text>) -> Gvk {
        Gvk { group: self.group.clone(), version: self.version.clone(), kind: kind.into() }
    }

    pub fn with_resource(&self, resource: impl Into<Text>) -> Gvr {
        Gvr { group: self.group.clone(), version: self.version.clone(), resource: resource.into() }
    }
}

/// As an object's `apiVersion` spells it.
impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.version) } else { write!(f, "{}/{}", self.group, self.version) }
    }
}

/// Which schema an object follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
}

impl Gvk {
    pub const fn of(group: &'static str, version: &'static str, kind: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version), kind: Cow::Borrowed(kind) }
    }

    /// From an object's `apiVersion` and `kind`.
    pub fn parse(api_version: &str, kind: &str) -> Option<Self> {
        let group_version = GroupVersion::parse(api_version)?;
        (!kind.is_empty()).then(|| group_version.with_kind(kind.to_owned()))
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }

    /// The `apiVersion` of an object of this kind.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }
}

/// As Go prints it: `apps/v1, Kind=Deployment`.
impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.group_version(), self.kind)
    }
}

/// Which collection a request addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvr {
    pub group: Text,
    pub version: Text,
    pub resource: Text,
}

impl Gvr {
    pub const fn of(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version), resource: Cow::Borrowed(resource) }
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }

    /// The qualified resource name that `Status` messages use: `deployments.apps`, or `pods`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.resource.to_string() } else { format!("{}.{}", self.resource, self.group) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_versions_parse_and_print() {
        for text in ["v1", "apps/v1", "discovery.k8s.io/v1"] {
            assert_eq!(GroupVersion::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "/v1", "apps/", "a/b/c"] {
            assert_eq!(GroupVersion::parse(text), None, "{text}");
        }
        assert_eq!(Gvk::parse("apps/v1", "Deployment"), Some(Gvk::of("apps", "v1", "Deployment")));
        assert_eq!(Gvk::parse("v1", ""), None);
    }
}
