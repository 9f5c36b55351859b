//! Pulling: resolve the name at the first endpoint that has it, fetch what is missing, unpack bottom up.

mod fetch;
mod layer;
mod outcome;
mod patience;
mod platform;
mod session;

use crate::disk::{Hold, sha256};
use crate::error::PullError;
use crate::image::{ConfigFile, Image, Origin};
use crate::index::Record;
use crate::name::Name;
use crate::registries::{Auth, Endpoint};
use crate::store::Inner;
use crate::unpack::ChainId;
use outcome::Failure;
pub(crate) use patience::{Patience, Silent};
pub(crate) use platform::for_this_machine;
use session::{Resolved, Session};
use std::sync::Arc;

/// How a pull is getting on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The registry named the manifest.
    Resolved { digest: String },
    /// Bytes of a compressed layer here, of those announced.
    Fetched { layer: String, bytes: u64, total: u64 },
    /// A layer is unpacked, now or before.
    Unpacked { layer: String },
}

/// For callers that do not watch.
pub fn silent(_: Progress) {}

pub(crate) type Watch<'a> = &'a (dyn Fn(Progress) + Send + Sync);

pub(crate) async fn pull(
    store: &Arc<Inner>,
    name: &Name,
    credentials: &[Auth],
    patience: Patience,
    progress: Watch<'_>,
) -> Result<Image, PullError> {
    let image = name.to_string();
    let mut last = None;
    for endpoint in store.registries.endpoints(name) {
        match from_endpoint(store, name, &endpoint, credentials, patience, progress).await {
            Ok(image) => return Ok(image),
            Err(failure) => {
                let error = failure.into_error(&image, &endpoint.host);
                if !failure_is_of_the_endpoint(&error) {
                    return Err(error);
                }
                tracing::debug!(image, endpoint = endpoint.host, %error, "endpoint does not serve the image");
                last = Some(error);
            }
        }
    }
    // The registry itself is always among the endpoints, and last: its answer is the one that counts.
    Err(last.unwrap_or(PullError::NotFound { image }))
}

/// Whether another endpoint may do better. A full disk will not be emptier.
fn failure_is_of_the_endpoint(error: &PullError) -> bool {
    !matches!(error, PullError::DiskFull { .. } | PullError::InvalidName(_))
}

async fn from_endpoint(
    store: &Arc<Inner>,
    name: &Name,
    endpoint: &Endpoint,
    credentials: &[Auth],
    patience: Patience,
    progress: Watch<'_>,
) -> Result<Image, Failure> {
    // A pod's credentials are for the registry that its image names, not for whatever mirrors the node uses.
    let offered = if endpoint.mirror_of.is_some() { &[] } else { credentials };
    let mut attempts = vec![endpoint.auth.clone()];
    attempts.extend(offered.iter().cloned().map(Some));
    let mut refused = None;
    for auth in attempts {
        let session = Session::open(name, endpoint, auth, patience).await?;
        let resolved = tokio::time::timeout(patience.answer(), session.resolve()).await;
        let late = || Failure::Unreachable(format!("no answer within {:?}", patience.answer()).into());
        match resolved.unwrap_or_else(|_| Err(late())) {
            Ok(resolved) => return complete(store, name, &session, resolved, progress).await,
            Err(failure @ (Failure::Unauthorized(_) | Failure::NotFound)) => refused = Some(failure),
            Err(failure) => return Err(failure),
        }
    }
    Err(refused.unwrap_or(Failure::NotFound))
}

async fn complete(
    store: &Arc<Inner>,
    name: &Name,
    session: &Session,
    resolved: Resolved,
    progress: Watch<'_>,
) -> Result<Image, Failure> {
    progress(Progress::Resolved { digest: resolved.digest.clone() });
    let layers = &resolved.manifest.layers;
    let _adding = {
        let store = store.clone();
        tokio::task::spawn_blocking(move || store.lock(Hold::Shared)).await??
    };
    let (id, mut config) = match known_config(store, &resolved) {
        Some(known) => known,
        None => {
            let bytes = session.small_blob(&resolved.manifest.config).await?;
            let file: ConfigFile = serde_json::from_slice(&bytes)
                .map_err(|error| Failure::Unsupported(format!("configuration is not an image's: {error}")))?;
            (sha256(&bytes), Config::Fetched(Box::new(file)))
        }
    };
    let chains = match &mut config {
        Config::Known(record) => record.layers.clone(),
        Config::Fetched(file) => {
            platform::check(&file.os, &file.architecture)?;
            let diff_ids = std::mem::take(&mut file.rootfs.diff_ids);
            if diff_ids.len() != layers.len() {
                return Err(Failure::corrupt(format!(
                    "manifest has {} layers, configuration {}",
                    layers.len(),
                    diff_ids.len()
                )));
            }
            let chains =
                ChainId::of(&diff_ids).ok_or_else(|| Failure::corrupt("configuration has a bad layer digest"))?;
            fetch::layers(store, session, layers, &diff_ids, &chains, progress).await?;
            chains
        }
    };
    let record = Record {
        references: name.digest().is_none().then(|| name.to_string()).into_iter().collect(),
        repo_digests: [name.at(&resolved.digest)].into(),
        size: layers.iter().map(|layer| layer.size.max(0) as u64).sum(),
        origin: Origin::Pulled,
        config: match config {
            Config::Known(record) => record.config.clone(),
            Config::Fetched(mut file) => file.run_config(),
        },
        layers: chains,
    };
    publish(store, id, record).await
}

enum Config {
    Known(Box<Record>),
    Fetched(Box<ConfigFile>),
}

/// An image whose manifest names a configuration that is here already, layers and all: nothing is left to fetch.
fn known_config(store: &Inner, resolved: &Resolved) -> Option<(String, Config)> {
    let contents = store.index.read().ok()?;
    let id = &resolved.manifest.config.digest;
    let record = contents.images.get(id)?;
    let here = record.layers.iter().all(|chain| store.layers.has(chain));
    here.then(|| (id.clone(), Config::Known(Box::new(record.clone()))))
}

async fn publish(store: &Arc<Inner>, id: String, record: Record) -> Result<Image, Failure> {
    let contents = store.index.read()?;
    // The usual end of a pull "Always": the registry still has what is here.
    if let Some(known) = contents.images.get(&id)
        && known.references.is_superset(&record.references)
        && known.repo_digests.is_superset(&record.repo_digests)
    {
        return Ok(store.image(&id, known));
    }
    let store = store.clone();
    Ok(tokio::task::spawn_blocking(move || store.publish(&id, record)).await??)
}
