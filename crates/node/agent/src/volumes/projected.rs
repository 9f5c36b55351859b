//! Projected volumes: files of several sources in one directory, among them the pod's own token.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};

use super::VolumeError;
use super::files::{self, File, bits};
use crate::cluster::Cluster;
use crate::env::Sources;

/// What upstream's API fills in where a projection does not say.
const HOUR: i64 = 3600;

/// The files of every source, and after how long they must be made again.
pub(super) async fn files(
    source: &ProjectedVolumeSource,
    pod: &Pod,
    group: Option<u32>,
    cluster: &dyn Cluster,
) -> Result<(Vec<File<'static>>, Option<Duration>), VolumeError> {
    let mode = bits(source.default_mode).unwrap_or(0o644);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (mut all, mut due) = (Vec::new(), None);
    for projection in source.sources.iter().flatten() {
        let VolumeProjection { config_map, secret, downward_api, service_account_token, .. } = projection;
        if let Some(token) = service_account_token {
            let (content, after) = issue(token, pod, cluster).await?;
            // Only the pod's group reads it where the pod has one.
            let mode = if group.is_some() { 0o600 } else { mode };
            all.push(File { path: token.path.clone(), mode, content: content.into_bytes().into() });
            due = Some(due.map_or(after, |due: Duration| due.min(after)));
        } else if let Some(map) = config_map {
            let name = map.name.clone();
            let sources = Sources::read(BTreeSet::from([name.clone()]), BTreeSet::new(), namespace, cluster).await?;
            let optional = map.optional == Some(true);
            let data = match sources.config_map(&name) {
                Err(_) if optional => continue,
                other => other?,
            };
            let items = map.items.as_deref().unwrap_or_default();
            all.extend(owned(files::select("ConfigMap", data, items, source.default_mode, optional)?));
        } else if let Some(secret) = secret {
            let name = secret.name.clone();
            let sources = Sources::read(BTreeSet::new(), BTreeSet::from([name.clone()]), namespace, cluster).await?;
            let optional = secret.optional == Some(true);
            let data = match sources.secret(&name) {
                Err(_) if optional => continue,
                other => other?,
            };
            let items = secret.items.as_deref().unwrap_or_default();
            all.extend(owned(files::select("Secret", data, items, source.default_mode, optional)?));
        } else if let Some(downward) = downward_api {
            all.extend(downward_files(downward.items.as_deref().unwrap_or_default(), mode, pod)?);
        } else {
            let value = serde_json::to_value(projection).unwrap_or_default();
            let kind = value.as_object().and_then(|object| object.keys().next().cloned()).unwrap_or_default();
            return Err(VolumeError::Unsupported(format!("projected {kind}")));
        }
    }
    Ok((all, due))
}

fn owned(files: Vec<File<'_>>) -> impl Iterator<Item = File<'static>> {
    files.into_iter().map(|file| File { path: file.path, mode: file.mode, content: file.content.into_owned().into() })
}

/// A token bound to this very pod, and when four fifths of its life are over.
async fn issue(
    token: &ServiceAccountTokenProjection,
    pod: &Pod,
    cluster: &dyn Cluster,
) -> Result<(String, Duration), VolumeError> {
    let meta = &pod.metadata;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: token.audience.clone().filter(|audience| !audience.is_empty()).map(|audience| vec![audience]),
            expiration_seconds: Some(token.expiration_seconds.unwrap_or(HOUR)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let status = cluster.token(namespace, account, &request).await?;
    let life = status.expiration_timestamp.map(|end| end.0.duration_since(Timestamp::now()));
    let life = life.and_then(|life| Duration::try_from(life).ok()).unwrap_or_default();
    Ok((status.token.unwrap_or_default(), life.mul_f64(0.8).max(Duration::from_secs(1))))
}

/// Labels, annotations and names of the pod as files.
pub(super) fn downward_files(
    items: &[DownwardAPIVolumeFile],
    mode: u32,
    pod: &Pod,
) -> Result<Vec<File<'static>>, VolumeError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let mut all = Vec::new();
    for item in items {
        let Some(field) = &item.field_ref else {
            return Err(VolumeError::Unsupported("downwardAPI resourceFieldRef".into()));
        };
        let map = |map: &Option<std::collections::BTreeMap<String, String>>| {
            let lines: Vec<String> = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
            lines.join("\n")
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let content = match field.field_path.as_str() {
            "metadata.name" => text(&meta.name),
            "metadata.namespace" => text(&meta.namespace),
            "metadata.uid" => text(&meta.uid),
            "metadata.labels" => map(&meta.labels),
            "metadata.annotations" => map(&meta.annotations),
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
            path => match subscript(path, "metadata.labels", &meta.labels)
                .or_else(|| subscript(path, "metadata.annotations", &meta.annotations))
            {
                Some(value) => value,
                None => return Err(VolumeError::Unsupported(format!("downwardAPI field {path}"))),
            },
        };
        let mode = bits(item.mode).unwrap_or(mode);
        all.push(File { path: item.path.clone(), mode, content: content.into_bytes().into() });
    }
    Ok(all)
}

/// The value at `prefix['key']`.
fn subscript(path: &str, prefix: &str, map: &Option<std::collections::BTreeMap<String, String>>) -> Option<String> {
    let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
    Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
}
