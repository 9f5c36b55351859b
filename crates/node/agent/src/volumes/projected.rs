//! Volumes of files: several sources in one directory, or a single one, which is the same with less to say.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIProjection, DownwardAPIVolumeFile, Pod, ProjectedVolumeSource, SecretProjection,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use machinery_client::ObjectKey;

use super::files::{self, File, bits};
use super::{Context, VolumeError};
use crate::cluster::bound_token;
use crate::env::{self, EnvError, Sources};
use crate::followed::{Kind, Source};

/// What upstream's API fills in where a projection does not say.
const HOUR: i64 = 3600;

/// A configMap, secret or downwardAPI volume as a projection, and its default mode.
pub(super) fn single(volume: &Volume) -> Option<(VolumeProjection, Option<i32>)> {
    let mut projection = VolumeProjection::default();
    let mode = if let Some(source) = &volume.config_map {
        let (items, name, optional) = (source.items.clone(), source.name.clone(), source.optional);
        projection.config_map = Some(ConfigMapProjection { items, name, optional });
        source.default_mode
    } else if let Some(source) = &volume.secret {
        let (items, optional) = (source.items.clone(), source.optional);
        let name = source.secret_name.clone().unwrap_or_default();
        projection.secret = Some(SecretProjection { items, name, optional });
        source.default_mode
    } else if let Some(source) = &volume.downward_api {
        projection.downward_api = Some(DownwardAPIProjection { items: source.items.clone() });
        source.default_mode
    } else {
        return None;
    };
    Some((projection, mode))
}

fn projections(volume: &Volume) -> Vec<Cow<'_, VolumeProjection>> {
    match single(volume) {
        Some((projection, _)) => vec![Cow::Owned(projection)],
        None => volume.projected.iter().flat_map(|source| source.sources.iter().flatten()).map(Cow::Borrowed).collect(),
    }
}

/// The objects that the volume's files come from.
pub fn sources(volume: &Volume, namespace: &str) -> BTreeSet<Source> {
    let mut all = BTreeSet::new();
    for projection in projections(volume) {
        let map = projection.config_map.iter().map(|map| (Kind::ConfigMap, &map.name));
        let secret = projection.secret.iter().map(|secret| (Kind::Secret, &secret.name));
        all.extend(map.chain(secret).map(|(kind, name)| Source { kind, key: ObjectKey::new(namespace, name) }));
    }
    all
}

/// Whether the volume shows what may change of a pod that runs.
pub fn follows_pod(volume: &Volume) -> bool {
    projections(volume).iter().filter_map(|projection| projection.downward_api.as_ref()).any(|downward| {
        downward.items.iter().flatten().any(|item| match &item.field_ref {
            Some(field) => ["metadata.labels", "metadata.annotations"].iter().any(|f| field.field_path.starts_with(f)),
            None => item.resource_field_ref.is_some(),
        })
    })
}

/// The files of every source, and after how long they must be made again.
pub(super) async fn files(
    source: &ProjectedVolumeSource,
    context: Context<'_>,
) -> Result<(Vec<File>, Option<Duration>), VolumeError> {
    let (mut all, mut due) = (Vec::new(), None::<Duration>);
    for projection in source.sources.iter().flatten() {
        let (files, after) = of(projection, source.default_mode, context).await?;
        all.extend(files);
        due = due.into_iter().chain(after).min();
    }
    Ok((all, due))
}

pub(super) async fn of(
    projection: &VolumeProjection,
    default_mode: Option<i32>,
    context: Context<'_>,
) -> Result<(Vec<File>, Option<Duration>), VolumeError> {
    let mode = bits(default_mode).unwrap_or(0o644);
    let VolumeProjection { config_map, secret, downward_api, service_account_token, .. } = projection;
    let read = |kind, name: &str| {
        let (none, one) = (BTreeSet::new(), BTreeSet::from([name.to_owned()]));
        let (maps, secrets) = if kind == Kind::ConfigMap { (one, none) } else { (none, one) };
        Sources::read(maps, secrets, context.namespace(), context.cluster)
    };
    if let Some(token) = service_account_token {
        let (content, due) = issue(token, context).await?;
        // Only the pod's group reads it where the pod has one.
        let mode = if context.group().is_some() { 0o600 } else { mode };
        Ok((vec![File { path: token.path.clone(), mode, content: content.into_bytes() }], Some(due)))
    } else if let Some(ConfigMapProjection { name, items, optional }) = config_map {
        let sources = read(Kind::ConfigMap, name).await?;
        let optional = *optional == Some(true);
        let files = match sources.config_map(name) {
            Err(EnvError::NotFound { .. }) if optional => Vec::new(),
            data => files::select("ConfigMap", data?, items.as_deref().unwrap_or_default(), mode, optional)?,
        };
        Ok((files, None))
    } else if let Some(SecretProjection { name, items, optional }) = secret {
        let sources = read(Kind::Secret, name).await?;
        let optional = *optional == Some(true);
        let files = match sources.secret(name) {
            Err(EnvError::NotFound { .. }) if optional => Vec::new(),
            data => files::select("Secret", data?, items.as_deref().unwrap_or_default(), mode, optional)?,
        };
        Ok((files, None))
    } else if let Some(downward) = downward_api {
        Ok((downward_files(downward.items.as_deref().unwrap_or_default(), mode, context)?, None))
    } else {
        let value = serde_json::to_value(projection).unwrap_or_default();
        let kind = value.as_object().and_then(|object| object.keys().next().cloned()).unwrap_or_default();
        Err(VolumeError::Unsupported(format!("projected {kind}")))
    }
}

/// A token bound to this very pod, and when four fifths of its life are over.
async fn issue(token: &ServiceAccountTokenProjection, context: Context<'_>) -> Result<(String, Duration), VolumeError> {
    let seconds = token.expiration_seconds.unwrap_or(HOUR);
    let status = bound_token(context.cluster, context.pod, token.audience.as_deref(), Some(seconds)).await?;
    let life = status.expiration_timestamp.map(|end| end.0.duration_since(Timestamp::now()));
    let life = life.and_then(|life| Duration::try_from(life).ok()).unwrap_or_default();
    Ok((status.token.unwrap_or_default(), life.mul_f64(0.8).max(Duration::from_secs(1))))
}

/// Labels, annotations, names and resources of the pod as files.
fn downward_files(items: &[DownwardAPIVolumeFile], mode: u32, context: Context<'_>) -> Result<Vec<File>, VolumeError> {
    let mut all = Vec::new();
    for item in items {
        let content = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => field_of(&field.field_path, context.pod)?,
            (None, Some(resource)) => env::resource(resource, None, context.pod, context.allocatable)?,
            (None, None) => String::new(),
        };
        let mode = bits(item.mode).unwrap_or(mode);
        all.push(File { path: item.path.clone(), mode, content: content.into_bytes() });
    }
    Ok(all)
}

fn field_of(path: &str, pod: &Pod) -> Result<String, VolumeError> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let map = |map: &Option<std::collections::BTreeMap<String, String>>| {
        let lines: Vec<String> = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
        lines.join("\n")
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => map(&meta.labels),
        "metadata.annotations" => map(&meta.annotations),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        path => subscript(path, "metadata.labels", &meta.labels)
            .or_else(|| subscript(path, "metadata.annotations", &meta.annotations))
            .ok_or_else(|| VolumeError::Unsupported(format!("downwardAPI field {path}")))?,
    })
}

/// The value at `prefix['key']`.
fn subscript(path: &str, prefix: &str, map: &Option<std::collections::BTreeMap<String, String>>) -> Option<String> {
    let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
    Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
}
