//! The layers of an image: several fetched at once, unpacked bottom up as they arrive.

use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use oci_client::manifest::OciDescriptor;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::outcome::Failure;
use super::session::Session;
use super::{Progress, Watch};
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
                if store.layers.has(&chain) { Ok(None) } else { blob(store, session, &layer, progress).await.map(Some) }
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

/// The verified blob as a file: a name in `blobs/` only ever holds what its digest says.
async fn blob(
    store: &Inner,
    session: &Session,
    layer: &OciDescriptor,
    progress: Watch<'_>,
) -> Result<PathBuf, Failure> {
    check_type(&layer.media_type)?;
    let path = store.blob(&layer.digest);
    if tokio::fs::try_exists(&path).await.map_err(Failure::from_disk)? {
        return Ok(path);
    }
    let staged = Staged(store.staging("blob"));
    let mut file = tokio::fs::File::create_new(&staged.0).await.map_err(Failure::from_disk)?;
    let mut stream = session.stream(layer).await?;
    let total = u64::try_from(layer.size).map_err(|_| Failure::corrupt("layer of negative size"))?;
    let mut bytes = 0;
    while let Some(chunk) = stream.try_next().await.map_err(Failure::from_stream)? {
        let chunk = chunk.as_ref();
        bytes += chunk.len() as u64;
        if bytes > total {
            return Err(Failure::corrupt(format!("layer {} is longer than the {total} bytes announced", layer.digest)));
        }
        file.write_all(chunk).await.map_err(Failure::from_disk)?;
        progress(Progress::Fetched { layer: layer.digest.clone(), bytes, total });
    }
    file.flush().await.map_err(Failure::from_disk)?;
    tokio::fs::rename(&staged.0, &path).await.map_err(Failure::from_disk)?;
    Ok(path)
}

fn check_type(media_type: &str) -> Result<(), Failure> {
    let known = ["tar", "tar+gzip", "tar.gzip", "tar+zstd", "tar.zstd"];
    if known.iter().any(|known| media_type.rsplit_once("tar").is_some_and(|(_, form)| known[3..] == *form)) {
        return Ok(());
    }
    Err(Failure::Unsupported(format!("layer of type {media_type:?}")))
}

/// A file that is gone when the pull is dropped half way.
struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        // Renamed away when all went well; swept at the next start otherwise.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn layer_types_that_unpack_are_known() {
        for good in [
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ] {
            assert!(check_type(good).is_ok(), "{good}");
        }
        for bad in ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "application/wasm", ""] {
            assert!(check_type(bad).is_err(), "{bad}");
        }
    }
}
