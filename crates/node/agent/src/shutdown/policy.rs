//! How long pods have when their node shuts down, and in which order they go. Pure.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::static_pods::is_static;

/// Of the system's own pods.
const CRITICAL: i32 = 2_000_000_000;

/// Pods from a priority on, up to the next band's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Band {
    pub priority: i32,
    pub time: Duration,
}

/// The bands from the lowest priority up: they go one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownPolicy(Vec<Band>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShutdownError {
    #[error("{0:?} is not of the form PRIORITY=SECONDS")]
    Form(String),
    #[error("priority {0} is said twice")]
    Twice(i32),
    #[error("no priority is said")]
    Empty,
    #[error("critical pods cannot have more time than there is for all")]
    Critical,
}

impl ShutdownPolicy {
    /// The last part of the time is the system's own pods'.
    pub fn of(all: Duration, critical: Duration) -> Result<Self, ShutdownError> {
        let others = all.checked_sub(critical).ok_or(ShutdownError::Critical)?;
        Ok(Self(vec![Band { priority: 0, time: others }, Band { priority: CRITICAL, time: critical }]))
    }

    /// Each band with its pods. Below the lowest is as good as in it.
    pub(super) fn groups(&self, pods: Vec<Arc<Pod>>) -> Vec<(Band, Vec<Arc<Pod>>)> {
        let mut groups: Vec<(Band, Vec<Arc<Pod>>)> = self.0.iter().map(|band| (*band, Vec::new())).collect();
        for pod in pods {
            let priority = priority(&pod);
            let above = self.0.partition_point(|band| band.priority <= priority);
            if let Some((_, members)) = groups.get_mut(above.saturating_sub(1)) {
                members.push(pod);
            }
        }
        groups.retain(|(_, members)| !members.is_empty());
        groups
    }
}

/// The node's own pods are the last.
fn priority(pod: &Pod) -> i32 {
    match pod.spec.as_ref().and_then(|spec| spec.priority) {
        None if is_static(pod) => i32::MAX,
        priority => priority.unwrap_or_default(),
    }
}

impl Default for ShutdownPolicy {
    fn default() -> Self {
        let (others, critical) = (Duration::from_secs(20), Duration::from_secs(10));
        Self(vec![Band { priority: 0, time: others }, Band { priority: CRITICAL, time: critical }])
    }
}

impl FromStr for ShutdownPolicy {
    type Err = ShutdownError;

    /// `0=20,2000000000=10`.
    fn from_str(text: &str) -> Result<Self, ShutdownError> {
        let band = |part: &str| {
            let (priority, seconds) = part.split_once('=')?;
            Some(Band { priority: priority.parse().ok()?, time: Duration::from_secs(seconds.parse().ok()?) })
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let mut bands: Vec<Band> = parts
            .map(|part| band(part).ok_or_else(|| ShutdownError::Form(part.to_owned())))
            .collect::<Result<_, _>>()?;
        bands.sort_unstable();
        if let Some(twice) = bands.windows(2).find(|pair| pair[0].priority == pair[1].priority) {
            return Err(ShutdownError::Twice(twice[0].priority));
        }
        if bands.is_empty() { Err(ShutdownError::Empty) } else { Ok(Self(bands)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: Option<i32>) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [], "priority": priority}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn grouped(policy: &ShutdownPolicy, pods: Vec<Arc<Pod>>) -> Vec<(u64, Vec<String>)> {
        let name = |pod: Arc<Pod>| pod.metadata.name.clone().unwrap();
        let groups = policy.groups(pods).into_iter();
        groups.map(|(band, pods)| (band.time.as_secs(), pods.into_iter().map(name).collect())).collect()
    }

    #[test]
    fn the_least_important_go_first_and_bands_without_pods_take_no_time() {
        let policy: ShutdownPolicy = "1000=5, 0=20,2000000000=10".parse().unwrap();
        let pods = vec![
            pod("below", Some(-9)),
            pod("plain", None),
            pod("edge", Some(1000)),
            pod("under", Some(999)),
            pod("critical", Some(2_000_001_000)),
        ];
        let expected = [(20, vec!["below", "plain", "under"]), (5, vec!["edge"]), (10, vec!["critical"])];
        let expected = expected.map(|(time, names)| (time, names.into_iter().map(str::to_owned).collect::<Vec<_>>()));
        assert_eq!(grouped(&policy, pods), expected);
        assert_eq!(grouped(&policy, vec![pod("edge", Some(1500))]), [(5, vec!["edge".to_owned()])]);
        assert_eq!(grouped(&policy, Vec::new()), []);
    }

    #[test]
    fn pods_of_the_nodes_own_files_are_the_last() {
        let mut own = (*pod("own", None)).clone();
        own.metadata.annotations = Some([("kubernetes.io/config.source".to_owned(), "file".to_owned())].into());
        let grouped = grouped(&ShutdownPolicy::default(), vec![Arc::new(own), pod("plain", None)]);
        assert_eq!(grouped, [(20, vec!["plain".to_owned()]), (10, vec!["own".to_owned()])]);
    }

    #[test]
    fn the_critical_pods_time_is_a_part_of_all() {
        let seconds = Duration::from_secs;
        assert_eq!(ShutdownPolicy::of(seconds(30), seconds(10)), Ok(ShutdownPolicy::default()));
        assert_eq!(ShutdownPolicy::of(seconds(5), seconds(10)), Err(ShutdownError::Critical));
    }

    #[test]
    fn what_is_no_policy_says_why() {
        let error = |text: &str| text.parse::<ShutdownPolicy>().unwrap_err().to_string();
        for text in ["10", "x=1", "1=x", "1=-1", "99999999999=1"] {
            assert_eq!(error(text), format!("{text:?} is not of the form PRIORITY=SECONDS"));
        }
        assert_eq!(error("1=2,1=3"), "priority 1 is said twice");
        assert_eq!(error(""), "no priority is said");
    }
}
