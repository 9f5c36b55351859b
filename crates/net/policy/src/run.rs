//! Watches policies and, as long as there are any, the pods and namespaces that they may select, and keeps the kernel's
//! table up to date.

use std::net::IpAddr;
use std::time::Duration;

use base_sys::nft;
use base_tasks::{Tasks, blocking};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher;
use machinery_client::{Change, Informer, ObjectKey, informer};
use tokio::sync::{mpsc, oneshot};

use crate::kernel::{self, Kernel};
use crate::plan::Plan;
use crate::view::{self, Labels, PodView, PolicyView};
use crate::world::World;

/// After the kernel refused something: first and longest wait before everything is written anew.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Config {
    /// The nftables table (family inet), all of it ours.
    pub table: String,
    pub node_name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open nftables")]
    Open(#[source] nft::Error),
    #[error("remove the table {table}")]
    Remove {
        table: String,
        #[source]
        source: nft::Error,
    },
}

/// Running policies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policies {
    node_name: String,
    starting: mpsc::UnboundedSender<Starting>,
}

/// A pod that waits for its policies.
struct Starting {
    key: ObjectKey,
    pod: PodView,
    done: oneshot::Sender<()>,
}

impl Policies {
    /// Resolves once nothing that the policies forbid is forwarded from or to `pod`, whose addresses are `ips`; at once where
    /// there is no policy. Never, as long as the kernel refuses.
    pub async fn programmed(&self, pod: &Pod, ips: &[IpAddr]) {
        let Some(mut view) = view::pod(pod, &self.node_name) else { return };
        view.ips = ips.to_vec();
        view.local = true;
        let (done, programmed) = oneshot::channel();
        let starting = Starting { key: ObjectKey::of(pod), pod: view, done };
        if self.starting.send(starting).is_err() || programmed.await.is_err() {
            // The node is stopping, and starts no pods.
            std::future::pending::<()>().await;
        }
    }
}

/// Starts in the calling thread's network namespace. An earlier run's table stays as it is until the objects are known,
/// then one transaction replaces it.
pub fn start(tasks: &Tasks, client: kube::Client, config: Config) -> Result<Policies, Error> {
    let tasks = tasks.child("policy");
    let kernel = Kernel::open(&config.table).map_err(Error::Open)?;
    let (starting, waiting) = mpsc::unbounded_channel();
    let policies = informer(
        &tasks,
        kube::Api::<NetworkPolicy>::all(client.clone()),
        watcher::Config::default(),
        |policy: NetworkPolicy| Some(view::policy(policy)),
    );
    let driver = Driver {
        tasks: tasks.clone(),
        client,
        node_name: config.node_name.clone(),
        kernel: Some(kernel),
        world: World::default(),
        selected: None,
        waiting: Vec::new(),
    };
    tasks.spawn("drive", driver.run(policies, waiting));
    Ok(Policies { node_name: config.node_name, starting })
}

/// Deletes the table; none is fine.
pub fn remove(table: &str) -> Result<(), Error> {
    kernel::remove(table).map_err(|source| Error::Remove { table: table.into(), source })
}

/// What policies select. Nobody watches it before the first policy.
struct Selected {
    pods: mpsc::UnboundedReceiver<Change<PodView>>,
    namespaces: mpsc::UnboundedReceiver<Change<Labels>>,
}

struct Driver {
    tasks: Tasks,
    client: kube::Client,
    node_name: String,
    /// Absent only while a transaction runs on a blocking thread.
    kernel: Option<Kernel>,
    world: World,
    selected: Option<Selected>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Driver {
    async fn run(mut self, policies: Informer<PolicyView>, mut starting: mpsc::UnboundedReceiver<Starting>) {
        policies.synced().await;
        let mut policies = policies.subscribe();
        let (mut loaded, mut wait) = (false, RETRY_FIRST);
        loop {
            while let Ok(change) = policies.try_recv() {
                self.world.policy_changed(change);
            }
            if self.world.has_policies() && self.selected.is_none() {
                self.selected = Some(self.watch().await);
            }
            // One transaction for all that has come meanwhile.
            if let Some(selected) = &mut self.selected {
                while let Ok(change) = selected.namespaces.try_recv() {
                    self.world.namespace_changed(change);
                }
                while let Ok(change) = selected.pods.try_recv() {
                    self.world.pod_changed(change);
                }
            }
            while let Ok(pod) = starting.try_recv() {
                self.starts(pod);
            }
            if self.world.take_changed() || !loaded {
                match self.apply(self.world.plan()).await {
                    Ok(()) => (loaded, wait) = (true, RETRY_FIRST),
                    Err(error) => {
                        loaded = false;
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "network policies were not programmed; trying again"
                        );
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(RETRY_LONGEST);
                        continue;
                    }
                }
            }
            for done in self.waiting.drain(..) {
                // Who went away meanwhile needs no answer.
                let _ = done.send(());
            }
            tokio::select! {
                change = policies.recv() => match change {
                    Some(change) => self.world.policy_changed(change),
                    None => return,
                },
                Some(change) = next(&mut self.selected) => match change {
                    Either::Namespace(change) => self.world.namespace_changed(change),
                    Either::Pod(change) => self.world.pod_changed(change),
                },
                Some(pod) = starting.recv() => self.starts(pod),
            }
        }
    }

    fn starts(&mut self, starting: Starting) {
        // Without a policy there is nothing to wait for, and nobody who would forget the pod again.
        if self.selected.is_some() {
            self.world.pod_starts(starting.key, starting.pod);
        }
        self.waiting.push(starting.done);
    }

    async fn watch(&self) -> Selected {
        let all = watcher::Config::default;
        let node_name = self.node_name.clone();
        let pods = informer(&self.tasks, kube::Api::<Pod>::all(self.client.clone()), all(), move |pod: Pod| {
            view::pod(&pod, &node_name)
        });
        let api = kube::Api::<Namespace>::all(self.client.clone());
        let namespaces = informer(&self.tasks, api, all(), |namespace| Some(view::namespace(namespace)));
        pods.synced().await;
        namespaces.synced().await;
        Selected { pods: pods.subscribe(), namespaces: namespaces.subscribe() }
    }

    async fn apply(&mut self, plan: Plan) -> Result<(), nft::Error> {
        let mut kernel = self.kernel.take().expect("the driver awaits one transaction before the next");
        let (kernel, result) = blocking(move || {
            let result = kernel.apply(&plan);
            (kernel, result)
        })
        .await;
        self.kernel = Some(kernel);
        result
    }
}

enum Either {
    Namespace(Change<Labels>),
    Pod(Change<PodView>),
}

/// Never where nothing is watched.
async fn next(selected: &mut Option<Selected>) -> Option<Either> {
    let Some(selected) = selected else { return std::future::pending().await };
    tokio::select! {
        change = selected.namespaces.recv() => change.map(Either::Namespace),
        change = selected.pods.recv() => change.map(Either::Pod),
    }
}
