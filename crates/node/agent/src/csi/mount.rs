//! A driver's volume for a pod: attached, staged once for the node, published for the pod.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use api::csi::unique_name;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::CSIDriverSpec;
use machinery_client::ObjectKey;
use node_grpc::messages::csi::{
    Capability, Empty, NODE_PUBLISH_VOLUME, NODE_STAGE_VOLUME, NodePublishVolumeRequest, NodeStageVolumeRequest,
};

use super::error::{CsiError, CsiFailure, Step};
use super::place::{Phase, Place, Record};
use super::request::Wanted;
use super::{Csi, Driver};
use crate::cluster::{Cluster, bound_token};
use crate::volumes::ownership::{self, Group};

/// Between two calls for a driver that wants to be asked again and again; upstream's is as long as its look at a pod.
const REPUBLISH: Duration = Duration::from_secs(60);

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// A volume that is published.
pub struct Published {
    pub path: PathBuf,
    pub read_only: bool,
    pub due: Option<Duration>,
}

/// What a volume is published with beside its own.
struct Given<'a> {
    pod: &'a Pod,
    cluster: &'a dyn Cluster,
    spec: Option<&'a CSIDriverSpec>,
    group: Option<Group>,
    publish_context: BTreeMap<String, String>,
}

impl Csi {
    /// Brings the volume to where the pod's containers take it from; again where the driver wants that.
    pub async fn mount(
        &self,
        wanted: &Wanted,
        pod: &Pod,
        group: Option<Group>,
        cluster: &dyn Cluster,
    ) -> Result<Published, CsiFailure> {
        let failure = |step| move |error| CsiFailure { step, volume: wanted.name.clone(), error };
        let _lock = self.locks.lock(&wanted.id).await;
        let object = cluster.csi_driver(&wanted.id.driver).await.map_err(|error| failure(Step::SetUp)(error.into()))?;
        let spec = object.as_ref().map(|object| &object.spec);
        let again = spec.is_some_and(|spec| spec.requires_republish == Some(true));
        let place = self.layout.published(pod.metadata.uid.as_deref().unwrap_or_default(), &wanted.name);
        let published = Published { path: place.mount(), read_only: wanted.read_only, due: again.then_some(REPUBLISH) };
        // After a restart of the agent it is there, and its driver need not be.
        let known = place.recorded().map_err(CsiError::io("read the record of", &published.path));
        let known = known.map_err(failure(Step::SetUp))?;
        if !again && is_done(known.as_ref(), &place) {
            return Ok(published);
        }
        let step = if wanted.ephemeral { Step::SetUp } else { Step::MountDevice };
        let driver = self.driver(&wanted.id.driver).map_err(failure(step))?;
        let mut given = Given { pod, cluster, spec, group, publish_context: BTreeMap::new() };
        let record = self.record(wanted, spec);
        if wanted.ephemeral {
            ephemeral(wanted, spec).map_err(failure(step))?;
        }
        // From here on the pod's end lets go of the volume, wherever this ends.
        if known.is_none() {
            let awaited = place.record(&Record { phase: Phase::Awaited, ..record.clone() });
            awaited.map_err(CsiError::io("write the record of", &published.path)).map_err(failure(step))?;
        }
        let staging = match wanted.ephemeral {
            true => None,
            false => self.device(wanted, &driver, &mut given, &record).await.map_err(failure(step))?,
        };
        self.publish(wanted, &driver, &given, (&place, record), staging).await.map_err(failure(Step::SetUp))?;
        Ok(published)
    }

    /// What is done once for the node; answers where the volume is staged, where its driver does that.
    async fn device(
        &self,
        wanted: &Wanted,
        driver: &Driver,
        given: &mut Given<'_>,
        record: &Record,
    ) -> Result<Option<PathBuf>, CsiError> {
        if !record.attachment_id.is_empty() {
            self.attachments.hold(unique_name(&wanted.id.driver, &wanted.id.handle)).await?;
            given.publish_context = self.attachments.attached(wanted, given.cluster).await?;
        }
        match driver.can(Capability::StageUnstageVolume) {
            true => self.stage(wanted, driver, given, record).await.map(Some),
            false => Ok(None),
        }
    }

    fn record(&self, wanted: &Wanted, spec: Option<&CSIDriverSpec>) -> Record {
        // A driver that has not said that it needs no attaching needs it.
        let attached = !wanted.ephemeral && spec.is_none_or(|spec| spec.attach_required != Some(false));
        Record {
            driver_name: wanted.id.driver.clone(),
            volume_handle: wanted.id.handle.clone(),
            spec_vol_id: wanted.name.clone(),
            attachment_id: if attached { wanted.attachment(self.attachments.node()) } else { String::new() },
            volume_lifecycle_mode: if wanted.ephemeral { "Ephemeral" } else { "Persistent" }.to_owned(),
            owner: self.layout.owner().to_owned(),
            phase: Phase::Asked,
        }
    }

    async fn stage(
        &self,
        wanted: &Wanted,
        driver: &Driver,
        given: &Given<'_>,
        record: &Record,
    ) -> Result<PathBuf, CsiError> {
        let place = self.layout.staged(&wanted.id);
        let path = place.mount();
        let known = place.recorded().map_err(CsiError::io("read the record of", &path))?;
        if is_done(known.as_ref(), &place) {
            return Ok(path);
        }
        let secrets = secrets(wanted.stage_secret.as_ref(), given.cluster).await?;
        std::fs::create_dir_all(&path).map_err(CsiError::io("create", &path))?;
        place.record(record).map_err(CsiError::io("write the record of", &path))?;
        let request = NodeStageVolumeRequest {
            volume_id: wanted.id.handle.clone(),
            publish_context: given.publish_context.clone(),
            staging_target_path: text(&path),
            volume_capability: Some(wanted.capability(driver, delegated(driver, given.group))),
            secrets,
            volume_context: wanted.attributes.clone(),
        };
        let staged = driver.call::<Empty>(NODE_STAGE_VOLUME, &request).await;
        if staged.as_ref().is_err_and(|status| !status.is_uncertain()) && known.is_none() {
            place.remove().map_err(CsiError::io("remove", &path))?;
        }
        staged?;
        let done = place.record(&Record { phase: Phase::Done, ..record.clone() });
        done.map_err(CsiError::io("write the record of", &path))?;
        Ok(path)
    }

    async fn publish(
        &self,
        wanted: &Wanted,
        driver: &Driver,
        given: &Given<'_>,
        (place, record): (&Place, Record),
        staging: Option<PathBuf>,
    ) -> Result<(), CsiError> {
        let path = place.mount();
        let mut secrets = secrets(wanted.publish_secret.as_ref(), given.cluster).await?;
        let mut context = wanted.attributes.clone();
        if given.spec.is_some_and(|spec| spec.pod_info_on_mount == Some(true)) {
            context.extend(wanted.pod_info(given.pod));
        }
        if let Some(tokens) = tokens(given).await? {
            let hidden = given.spec.is_some_and(|spec| spec.service_account_token_in_secrets == Some(true));
            let goes_to = if hidden { &mut secrets } else { &mut context };
            goes_to.insert(TOKENS.to_owned(), tokens);
        }
        place.record(&record).map_err(CsiError::io("write the record of", &path))?;
        let group = delegated(driver, given.group);
        let request = NodePublishVolumeRequest {
            volume_id: wanted.id.handle.clone(),
            publish_context: given.publish_context.clone(),
            staging_target_path: staging.map(|path| text(&path)).unwrap_or_default(),
            target_path: text(&path),
            volume_capability: Some(wanted.capability(driver, group)),
            readonly: wanted.read_only,
            secrets,
            volume_context: context,
        };
        let published = driver.call::<Empty>(NODE_PUBLISH_VOLUME, &request).await;
        if published.as_ref().is_err_and(|status| !status.is_uncertain()) && !place.is_mounted().unwrap_or(true) {
            // It has not been published: its driver need not be asked to take it away.
            place
                .record(&Record { phase: Phase::Awaited, ..record.clone() })
                .map_err(CsiError::io("write the record of", &path))?;
        }
        published?;
        if let Some(group) = given.group.filter(|_| group.is_none() && wanted.owned_here(given.spec)) {
            ownership::give(path.clone(), group).await.map_err(CsiError::io("change the group of", &path))?;
        }
        place.record(&Record { phase: Phase::Done, ..record }).map_err(CsiError::io("write the record of", &path))
    }
}

/// Whether nothing is left to do; a mount that its driver has made and not answered for is not enough.
fn is_done(record: Option<&Record>, place: &Place) -> bool {
    record.is_some_and(|record| record.phase == Phase::Done) && place.is_mounted().unwrap_or_default()
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Where the driver itself gives the volume to the pod's group.
fn delegated(driver: &Driver, group: Option<Group>) -> Option<u32> {
    group.filter(|_| driver.can(Capability::VolumeMountGroup)).map(|group| group.id)
}

/// Pods may have volumes of their own only of drivers that say so.
fn ephemeral(wanted: &Wanted, spec: Option<&CSIDriverSpec>) -> Result<(), CsiError> {
    let driver = wanted.id.driver.clone();
    let Some(spec) = spec else {
        return Err(CsiError::NotEphemeral { driver, why: "no CSIDriver object".to_owned() });
    };
    let modes = spec.volume_lifecycle_modes.clone().unwrap_or_else(|| vec!["Persistent".to_owned()]);
    if modes.iter().any(|mode| mode == "Ephemeral") {
        return Ok(());
    }
    let modes: Vec<_> = modes.iter().map(|mode| format!("{mode:?}")).collect();
    Err(CsiError::NotEphemeral { driver, why: format!("only supports [{}]", modes.join(" ")) })
}

pub(super) async fn secrets(
    key: Option<&ObjectKey>,
    cluster: &dyn Cluster,
) -> Result<BTreeMap<String, String>, CsiError> {
    let Some(key) = key else { return Ok(BTreeMap::new()) };
    let secret = cluster.secret(&key.namespace, &key.name).await?.ok_or_else(|| CsiError::NoSecret(key.clone()))?;
    let data = secret.data.unwrap_or_default().into_iter();
    Ok(data.map(|(name, value)| (name, String::from_utf8_lossy(&value.0).into_owned())).collect())
}

/// The tokens that the driver asks for, by audience.
async fn tokens(given: &Given<'_>) -> Result<Option<String>, CsiError> {
    let requests = given.spec.and_then(|spec| spec.token_requests.as_ref()).filter(|requests| !requests.is_empty());
    let Some(requests) = requests else { return Ok(None) };
    let mut tokens = serde_json::Map::new();
    for asked in requests {
        let status = bound_token(given.cluster, given.pod, Some(&asked.audience), asked.expiration_seconds).await?;
        let until = status.expiration_timestamp.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let token = serde_json::json!({"token": status.token, "expirationTimestamp": until.to_string()});
        tokens.insert(asked.audience.clone(), token);
    }
    Ok(Some(serde_json::Value::Object(tokens).to_string()))
}
