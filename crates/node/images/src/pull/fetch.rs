//! The layers of an image: several fetched at once, unpacked bottom up as they arrive.

use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use oci_client::manifest::OciDescriptor;
use tokio::sync::mpsc;

use super::outcome::Failure;
use super::session::Session;
use super::{Progress, Watch, layer};
use crate::store::Inner;
use crate::unpack::ChainId;

const AT_ONCE: usize = 3;

pub async fn layers(
    store: &Arc<Inner>,
    session: &Session,
    layers: &[OciDescriptor],
    diff_ids: &[String],
    chains: &[ChainId],
    progress: Watch<'_>,
) -> Result<(), Failure> {
    let (fetched, mut arriving) = mpsc::unbounded_channel();
    let fetch = async move {
        // Owned, as a stream over borrowed pairs is not `Send` for every lifetime.
        let wanted: Vec<(OciDescriptor, ChainId)> = layers.iter().cloned().zip(chains.iter().cloned()).collect();
        let mut blobs = futures::stream::iter(wanted)
            .map(|(layer, chain)| async move {
                if store.layers.has(&chain) {
                    Ok(None)
                } else {
                    layer::blob(store, session, &layer, progress).await.map(Some)
                }
            })
            .buffered(AT_ONCE);
        while let Some(blob) = blobs.try_next().await? {
            // The other end fails only together with this one.
            let _ = fetched.send(blob);
        }
        Ok(())
    };
    let unpack = async {
        for (position, layer) in layers.iter().enumerate() {
            let Some(blob) = arriving.recv().await else { break };
            if let Some(blob) = blob {
                let (store, diff_id) = (store.clone(), diff_ids[position].clone());
                let chains = chains[..=position].to_vec();
                tokio::task::spawn_blocking(move || unpack(&store, &blob, &diff_id, &chains)).await??;
            }
            progress(Progress::Unpacked { layer: layer.digest.clone() });
        }
        Ok(())
    };
    futures::try_join!(fetch, unpack).map(|_: ((), ())| ())
}

fn unpack(store: &Inner, blob: &PathBuf, diff_id: &str, chains: &[ChainId]) -> Result<(), Failure> {
    let Some((chain, below)) = chains.split_last() else { return Ok(()) };
    let file = std::fs::File::open(blob).map_err(Failure::from_disk)?;
    let unpacked = store.layers.add(file, diff_id, chain, below);
    // Of no use either way: unpacked, or its content will not unpack next time.
    let removed = std::fs::remove_file(blob);
    unpacked?;
    match removed {
        // Another pull of the same layer was first.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Failure::from_disk),
    }
}
