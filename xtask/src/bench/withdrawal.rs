//! From a pod's deletion to its address's withdrawal from EndpointSlice and Endpoints, as one client sees all three.

use std::time::Instant;

use anyhow::{Context, Result};
use harness::{Cluster, Options};
use hyper::Method;
use serde_json::Value;
use tokio::sync::mpsc;

use super::Setting;
use super::api::{Api, Event};
use super::disk::durable_write;
use super::inside::inside;
use super::report::Report;
use super::stats::{median, milliseconds, percentile};
use super::tutorial::{NAMESPACE, PATIENCE, Pods, kubectl, manifest};

const DELETIONS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Pod,
    Slice,
    Endpoints,
}

pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let cluster = Cluster::start(setting.options(Options::tutorial()))?;
    let file = cluster.write("my-nginx.yaml", &manifest(2))?;
    let api = Api::new(&cluster.data_dir().join("kubeconfig.yaml"))?;
    inside(&cluster.namespace, || async {
        let mut pods = Pods::watch(&api).await?;
        kubectl(&cluster, &["apply", "-f", &file]).await?;
        let (mut from_event, mut from_request) = (Vec::new(), Vec::new());
        for _ in 0..DELETIONS {
            let victim = pods.ready(2).await?.remove(0);
            let (event, request) = delete(&api, &victim).await?;
            from_event.push(event);
            from_request.push(request);
            pods.replaced(&victim, 2).await?;
        }
        let value = median(&from_event).context("no deletions")?;
        let worst = percentile(&from_event, 1.0).unwrap_or(value);
        let request = median(&from_request).unwrap_or(value);
        let detail = format!(
            "{DELETIONS} deletions, from the pod's event to the later of the two; worst {worst:.2} ms; \
             from sending the DELETE {request:.2} ms; a durable write of the disk alone {:.2} ms",
            durable_write(&cluster.data_dir())?
        );
        report.measured("withdrawal", value, detail);
        Ok(())
    })
}

/// Milliseconds until both are withdrawn: since the pod's own event arrived, and since the request was sent.
async fn delete(api: &Api, pod: &str) -> Result<(f64, f64)> {
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for (what, collection, query) in [
        (Watched::Pod, format!("{NAMESPACE}/pods"), format!("&fieldSelector=metadata.name%3D{pod}")),
        (
            Watched::Slice,
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices".to_owned(),
            "&labelSelector=kubernetes.io%2Fservice-name%3Dmy-nginx".to_owned(),
        ),
        (Watched::Endpoints, format!("{NAMESPACE}/endpoints"), "&fieldSelector=metadata.name%3Dmy-nginx".to_owned()),
    ] {
        let mut events = api.watch(&collection, &query).await?;
        let seen = seen.clone();
        tasks.spawn(async move {
            while let Ok(event) = events.next().await {
                if seen.send((Instant::now(), what, event)).is_err() {
                    return;
                }
            }
        });
    }
    let mut state = State::default();
    let all = async {
        while !state.serving(pod) {
            let (_, what, event) = arrivals.recv().await.context("a watch ended")?;
            state.seen(what, event);
        }
        let sent = Instant::now();
        let mut connection = api.connect().await?;
        connection.call(Method::DELETE, &format!("{NAMESPACE}/pods/{pod}"), "").await?;
        let mut times = [None; 3];
        while times.contains(&None) {
            let (at, what, event) = arrivals.recv().await.context("a watch ended")?;
            state.seen(what, event);
            if state.withdrawn(what, pod) {
                times[what as usize].get_or_insert(at);
            }
        }
        let [pod, slice, endpoints] = times.map(|time| time.unwrap_or(sent));
        let last = slice.max(endpoints);
        anyhow::Ok((milliseconds(last.saturating_duration_since(pod)), milliseconds(last - sent)))
    };
    tokio::time::timeout(PATIENCE, all).await.with_context(|| format!("{pod} was not withdrawn in time"))?
}

/// The latest of each object that was seen.
#[derive(Default)]
struct State {
    pod: Value,
    slice: Value,
    endpoints: Value,
}

impl State {
    fn seen(&mut self, what: Watched, event: Event) {
        match what {
            Watched::Pod => self.pod = event.object,
            Watched::Slice => self.slice = event.object,
            Watched::Endpoints => self.endpoints = event.object,
        }
    }

    fn serving(&self, pod: &str) -> bool {
        !self.pod.is_null() && !self.withdrawn(Watched::Slice, pod) && !self.withdrawn(Watched::Endpoints, pod)
    }

    fn withdrawn(&self, what: Watched, pod: &str) -> bool {
        match what {
            Watched::Pod => self.pod.pointer("/metadata/deletionTimestamp").is_some(),
            Watched::Slice => {
                let endpoints = self.slice["endpoints"].as_array().into_iter().flatten();
                !endpoints.filter(|e| e["conditions"]["ready"] != false).any(|e| e["targetRef"]["name"] == pod)
            }
            Watched::Endpoints => {
                let subsets = self.endpoints["subsets"].as_array().into_iter().flatten();
                let addresses = subsets.filter_map(|subset| subset["addresses"].as_array()).flatten();
                !addresses.into_iter().any(|address| address["targetRef"]["name"] == pod)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_serves_until_both_objects_withdraw_it() {
        let mut state = State::default();
        let event = |object| Event { gone: false, object };
        assert!(!state.serving("a"));
        state.seen(Watched::Pod, event(json!({"metadata": {"name": "a"}})));
        let slice = |ready: bool| json!({"endpoints": [{"conditions": {"ready": ready}, "targetRef": {"name": "a"}}]});
        state.seen(Watched::Slice, event(slice(true)));
        let endpoints = |list: &str| json!({"subsets": [{list: [{"targetRef": {"name": "a"}}]}]});
        state.seen(Watched::Endpoints, event(endpoints("addresses")));
        assert!(state.serving("a") && !state.serving("b"));
        state.seen(Watched::Slice, event(slice(false)));
        assert!(state.withdrawn(Watched::Slice, "a"));
        state.seen(Watched::Endpoints, event(endpoints("notReadyAddresses")));
        assert!(state.withdrawn(Watched::Endpoints, "a") && !state.withdrawn(Watched::Pod, "a"));
    }
}
