//! The network as the node sees it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base_sys::folder::FolderWatch;
use base_sys::netns::{self, NetNs};
use base_sys::route::{self, Request, Route};
use base_tasks::{Tasks, blocking};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};

use crate::answer::{AnswerError, addresses};
use crate::capabilities::{self, CapabilityError, Dns};
use crate::chain::{Chain, ChainError};
use crate::folder::{self, FolderError, Found, first};
use crate::list::{ListError, NetworkList};
use crate::record::{Connected, Record, RecordError, Records};

const LOOPBACK: u32 = 1;
/// Between two questions to plug-ins that say that they cannot work: nothing else tells that they can.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("follow the configurations of CNI networks")]
    Folder(#[from] FolderError),
    #[error("remember what is connected")]
    Record(#[from] RecordError),
    /// In the words of the node's condition.
    #[error("{0}")]
    NotReady(String),
    #[error("bring up loopback of sandbox {sandbox}")]
    Loopback {
        sandbox: String,
        #[source]
        source: LoopbackError,
    },
    #[error("tell the plug-ins of the pod")]
    Capabilities(#[from] CapabilityError),
    #[error("the network of sandbox {sandbox} was configured by what cannot be read any more")]
    List {
        sandbox: String,
        #[source]
        source: ListError,
    },
    #[error("network {network:?}")]
    Chain {
        network: String,
        #[source]
        source: ChainError,
    },
    #[error("network {network:?}")]
    Answer {
        network: String,
        #[source]
        source: AnswerError,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    #[error("enter its network namespace")]
    NetNs(#[from] netns::Error),
    #[error("talk to the kernel's routing")]
    Route(#[from] route::Error),
}

#[derive(Clone, Debug)]
pub struct CniConfig {
    pub conf_dir: PathBuf,
    /// Where plug-ins' programs are, the first that has one counts.
    pub bin_dirs: Vec<PathBuf>,
    /// Below the data directory: what is connected.
    pub state_dir: PathBuf,
    /// A pod's primary address is of the same family.
    pub node_ip: IpAddr,
}

/// What pods are connected to, or why they cannot be.
type Now = Result<Arc<Found>, String>;

/// A handle; clones share the network.
#[derive(Clone)]
pub struct Cni {
    config: Arc<CniConfig>,
    records: Records,
    now: watch::Receiver<Now>,
    trouble: watch::Receiver<Option<String>>,
    /// Asks for another look.
    doubt: Arc<Notify>,
}

impl Cni {
    /// Begins to follow the folder of configurations.
    pub async fn start(tasks: &Tasks, config: CniConfig) -> Result<Self, Error> {
        let mut watch = FolderWatch::open(&config.conf_dir).map_err(folder::failed("watch", &config.conf_dir))?;
        let records = Records::open(config.state_dir.clone())?;
        let (config, doubt) = (Arc::new(config), Arc::new(Notify::new()));
        let (sender, now) = watch::channel(look(&config).await);
        let (why, trouble) = watch::channel(tell(&now.borrow()));
        let (followed, doubted) = (Arc::clone(&config), Arc::clone(&doubt));
        tasks.spawn("cni", async move { follow(&followed, &mut watch, &doubted, (sender, why)).await });
        Ok(Self { config, records, now, trouble, doubt })
    }

    /// Why no pod can be connected; `None` where they can.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    /// Connects a sandbox. Doing so again returns the same addresses and asks nothing but CHECK, also after a restart.
    pub async fn attach(&self, sandbox: &str, netns: &Path, pod: &Pod, dns: &Dns) -> Result<Vec<IpAddr>, Error> {
        match self.records.read(sandbox)? {
            Some(record) if matches!(record.connected, Connected::Done { .. }) => return self.again(&record).await,
            Some(_) => self.detach(sandbox).await?,
            None => {}
        }
        let found = self.now.borrow().clone().map_err(Error::NotReady)?;
        let up = loopback_up(netns.to_owned()).await;
        up.map_err(|source| Error::Loopback { sandbox: sandbox.into(), source })?;
        let mut record = Record {
            sandbox: sandbox.to_owned(),
            netns: netns.to_owned(),
            args: args(pod, sandbox),
            capabilities: capabilities::of(pod, dns)?,
            network: found.list.source.clone(),
            connected: Connected::Begun,
        };
        self.records.write(&record)?;
        let added = self.chain(&found.list).add(&record).await;
        let result = added.map_err(|source| {
            if source.is_unavailable() {
                self.doubt.notify_one();
            }
            Error::Chain { network: found.list.name.clone(), source }
        })?;
        let ips = self.addresses(&found.list, &result);
        record.connected = Connected::Done { result };
        self.records.write(&record)?;
        ips
    }

    /// What an earlier ADD gave. What CHECK finds wrong is told: whether a pod lives on is not the network's to say.
    async fn again(&self, record: &Record) -> Result<Vec<IpAddr>, Error> {
        let (list, Connected::Done { result }) = (list(record)?, &record.connected) else { return Ok(Vec::new()) };
        if let Err(error) = self.chain(&list).check(record).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                sandbox = record.sandbox,
                network = list.name,
                error,
                "a pod's network is not as it was made"
            );
        }
        self.addresses(&list, result)
    }

    /// Disconnects a sandbox. An unknown one is fine.
    pub async fn detach(&self, sandbox: &str) -> Result<(), Error> {
        let Some(record) = self.records.read(sandbox)? else { return Ok(()) };
        disconnect(&self.records, &self.config.bin_dirs, &record).await
    }

    /// Disconnects sandboxes that are not in `live`, and lets plug-ins free what they know of no live one.
    pub async fn reconcile(&self, live: &HashSet<String>) -> Result<(), Error> {
        let mut failed = None;
        for sandbox in self.records.sandboxes()?.into_iter().filter(|sandbox| !live.contains(sandbox)) {
            if let Err(error) = self.detach(&sandbox).await {
                failed.get_or_insert(error);
            }
        }
        let found = self.now.borrow().clone();
        if let Ok(found) = found {
            let valid = self.records.sandboxes()?;
            if let Err(source) = self.chain(&found.list).collect(&valid).await {
                failed.get_or_insert(Error::Chain { network: found.list.name.clone(), source });
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Disconnects everything that was connected with this folder of records, whoever did it.
    pub async fn remove_all(state_dir: &Path, bin_dirs: &[PathBuf]) -> Result<(), Error> {
        if !Records::exist(state_dir) {
            return Ok(());
        }
        let records = Records::open(state_dir.to_owned())?;
        for sandbox in records.sandboxes()? {
            if let Some(record) = records.read(&sandbox)? {
                disconnect(&records, bin_dirs, &record).await?;
            }
        }
        Ok(())
    }

    fn chain<'a>(&'a self, list: &'a NetworkList) -> Chain<'a> {
        Chain { list, folders: &self.config.bin_dirs }
    }

    fn addresses(&self, list: &NetworkList, result: &serde_json::Value) -> Result<Vec<IpAddr>, Error> {
        addresses(result, self.config.node_ip).map_err(|source| Error::Answer { network: list.name.clone(), source })
    }
}

async fn disconnect(records: &Records, folders: &[PathBuf], record: &Record) -> Result<(), Error> {
    let list = list(record)?;
    let gone = Chain { list: &list, folders }.del(record).await;
    gone.map_err(|source| Error::Chain { network: list.name.clone(), source })?;
    Ok(records.remove(&record.sandbox)?)
}

fn list(record: &Record) -> Result<NetworkList, Error> {
    let list = NetworkList::parse(record.network.as_bytes());
    list.map_err(|source| Error::List { sandbox: record.sandbox.clone(), source })
}

/// The custom of Kubernetes' runtimes.
fn args(pod: &Pod, sandbox: &str) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let metadata = &pod.metadata;
    let (namespace, name, uid) = (text(&metadata.namespace), text(&metadata.name), text(&metadata.uid));
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={sandbox};\
         K8S_POD_UID={uid}"
    )
}

async fn loopback_up(netns: PathBuf) -> Result<(), LoopbackError> {
    blocking(move || {
        NetNs::open(&netns)?.run(|| Route::open()?.apply([Request::link_up(LOOPBACK)]))??;
        Ok(())
    })
    .await
}

/// The folder's first configuration, if its plug-ins say that they can work.
async fn look(config: &CniConfig) -> Now {
    let found = first(&config.conf_dir).map_err(|error| chain_of(&error))?;
    let status = Chain { list: &found.list, folders: &config.bin_dirs }.status().await;
    status.map_err(|error| chain_of(&error))?;
    Ok(Arc::new(found))
}

async fn follow(
    config: &CniConfig,
    watch: &mut FolderWatch,
    doubt: &Notify,
    (sender, trouble): (watch::Sender<Now>, watch::Sender<Option<String>>),
) {
    loop {
        // Only a readable configuration can be bad for a reason that no event ends.
        let unwell = sender.borrow().is_err() && first(&config.conf_dir).is_ok();
        let changed = tokio::select! {
            changed = watch.changed() => changed,
            () = doubt.notified() => Ok(()),
            () = tokio::time::sleep(AGAIN), if unwell => Ok(()),
        };
        let now = match changed {
            Ok(()) => look(config).await,
            Err(error) => Err(chain_of(&folder::failed("watch", &config.conf_dir)(error))),
        };
        let lost = now.is_err() && !config.conf_dir.exists();
        if sender.send_if_modified(|before| std::mem::replace(before, now) != *before) {
            let why = tell(&sender.borrow());
            trouble.send_replace(why);
        }
        if lost {
            // It could neither be made nor watched: there is no event to wait for.
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Returns the trouble.
fn tell(now: &Now) -> Option<String> {
    match now {
        Ok(found) => {
            tracing::info!(network = found.list.name, path = %found.path.display(), "CNI plug-ins connect pods");
            None
        }
        Err(trouble) => {
            tracing::warn!(trouble, "no CNI network: the node is not ready");
            Some(trouble.clone())
        }
    }
}

fn chain_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
