//! The cgroups that pods share, by class of service, as upstream lays them out below our own:
//!
//! ```text
//!  kubepods                 what of the node is for pods
//!  ├─ pod…                  guaranteed
//!  ├─ burstable/pod…        shares: what these pods ask for together
//!  └─ besteffort/pod…       the least there is
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use crate::container::resources::{parent, shares};
use crate::seams::{Resources, Runtime, chain};

/// What the burstable pods ask for; their shared cgroup follows.
pub struct Classes {
    /// CPU in thousandths, by uid.
    burstable: HashMap<String, i64>,
    shares: watch::Sender<u64>,
}

impl Classes {
    /// `all`: of the cgroup of all pods.
    pub fn start(tasks: &Tasks, runtime: Arc<dyn Runtime>, all: Resources) -> Self {
        let (sender, mut follow) = watch::channel(shares(0));
        tasks.spawn("classes", async move {
            let limit = async |group: &str, resources: &Resources| {
                if let Err(error) = runtime.limit_group(group, resources).await {
                    tracing::warn!(error = %chain(&error), "pods of one class of service are not weighed together");
                }
            };
            limit("kubepods", &all).await;
            let weighed = |cpu_shares| Resources { cpu_shares, ..Resources::default() };
            limit("kubepods/besteffort", &weighed(shares(0))).await;
            loop {
                let now = *follow.borrow_and_update();
                limit("kubepods/burstable", &weighed(now)).await;
                if follow.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { burstable: HashMap::new(), shares: sender }
    }

    pub fn seen(&mut self, uid: &str, pod: &Pod) {
        let Some(spec) = &pod.spec else { return };
        if parent(spec) != "kubepods/burstable" {
            return;
        }
        let asked = api::pod::requests::requests(spec).get("cpu").map_or(0, |cpu| cpu.milli_value());
        if self.burstable.insert(uid.to_owned(), asked) != Some(asked) {
            self.told();
        }
    }

    pub fn ended(&mut self, uid: &str) {
        if self.burstable.remove(uid).is_some() {
            self.told();
        }
    }

    fn told(&self) {
        let now = shares(self.burstable.values().sum());
        self.shares.send_if_modified(|shares| std::mem::replace(shares, now) != now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fakes::World;

    #[tokio::test(start_paused = true)]
    async fn burstable_pods_are_weighed_by_what_they_ask_for_together() {
        let (world, tasks) = (World::new(), Tasks::root("test"));
        let all = Resources { cpu_shares: 2048, ..Resources::default() };
        let mut classes = Classes::start(&tasks, world.clone(), all);
        let pod = |cpu: &str| -> Pod {
            let container = json!({"name": "a", "resources": {"requests": {"cpu": cpu}}});
            serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap()
        };
        world.until("the first", |state| state.calls.iter().any(|call| call == "limit kubepods/burstable 2")).await;
        classes.seen("one", &pod("500m"));
        classes.seen("two", &pod("500m"));
        classes.seen("none", &serde_json::from_value(json!({"spec": {"containers": [{"name": "a"}]}})).unwrap());
        world.until("both", |state| state.calls.iter().any(|call| call == "limit kubepods/burstable 1024")).await;
        classes.ended("one");
        world.until("one", |state| state.calls.iter().any(|call| call == "limit kubepods/burstable 512")).await;
        let state = world.state.lock().unwrap();
        assert_eq!(state.calls[..2], ["limit kubepods 2048", "limit kubepods/besteffort 2"]);
    }
}
