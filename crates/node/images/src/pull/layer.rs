//! One compressed layer as a file: it goes on where a connection broke, and has its name once it is verified.

use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use oci_client::manifest::OciDescriptor;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use super::outcome::Failure;
use super::session::Session;
use super::{Progress, Watch};
use crate::disk::Hashing;
use crate::store::Inner;

/// The verified blob: a name in `blobs/` only ever holds what its digest says.
pub async fn blob(
    store: &Inner,
    session: &Session,
    layer: &OciDescriptor,
    progress: Watch<'_>,
) -> Result<PathBuf, Failure> {
    check_type(&layer.media_type)?;
    let path = store.blob(&layer.digest);
    if fs::try_exists(&path).await.map_err(Failure::from_disk)? {
        return Ok(path);
    }
    let total = u64::try_from(layer.size).map_err(|_| Failure::corrupt("layer of negative size"))?;
    let mut part = Part::take(store, layer, total).await?;
    match fetch(&mut part, session, progress).await {
        Ok(()) => {
            fs::rename(&part.staged, &path).await.map_err(Failure::from_disk)?;
            Ok(path)
        }
        Err(failure) => {
            part.useful = matches!(failure, Failure::Unreachable(_));
            Err(failure)
        }
    }
}

async fn fetch(part: &mut Part<'_>, session: &Session, progress: Watch<'_>) -> Result<(), Failure> {
    while part.bytes < part.total {
        let before = part.bytes;
        match part.append(session, progress).await {
            // The connection broke. Worth another one for as long as each brings something.
            Err(Failure::Unreachable(_)) if part.bytes > before => {}
            other => other?,
        }
    }
    part.verify().await
}

/// What is here of a layer: a file of this call's own, left for the next call when it is dropped half way.
struct Part<'a> {
    store: &'a Inner,
    layer: &'a OciDescriptor,
    staged: PathBuf,
    file: File,
    bytes: u64,
    total: u64,
    /// The client has verified it, which it does to an answer from the start to the end.
    verified: bool,
    useful: bool,
}

impl<'a> Part<'a> {
    /// With what an earlier call left, if it left something.
    async fn take(store: &'a Inner, layer: &'a OciDescriptor, total: u64) -> Result<Self, Failure> {
        let staged = store.staging("blob");
        // Renamed, so that nobody else goes on with it.
        match fs::rename(store.part(&layer.digest), &staged).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::from_disk(error)),
            _ => {}
        }
        let file = File::options().create(true).append(true).open(&staged).await.map_err(Failure::from_disk)?;
        let bytes = file.metadata().await.map_err(Failure::from_disk)?.len();
        let mut part = Self { store, layer, staged, file, bytes, total, verified: false, useful: true };
        if bytes > total {
            part.restart().await?;
        }
        Ok(part)
    }

    /// Appends what the registry sends until the end or a failure; `bytes` counts what is in the file either way.
    async fn append(&mut self, session: &Session, progress: Watch<'_>) -> Result<(), Failure> {
        let (mut stream, from) = session.stream_from(self.layer, self.bytes).await?;
        if from != self.bytes {
            self.restart().await?;
        }
        let outcome = loop {
            match stream.try_next().await {
                Ok(Some(chunk)) => {
                    let chunk = chunk.as_ref();
                    if self.bytes + chunk.len() as u64 > self.total {
                        let (digest, total) = (&self.layer.digest, self.total);
                        break Err(Failure::corrupt(format!(
                            "layer {digest} is longer than the {total} bytes announced"
                        )));
                    }
                    self.file.write_all(chunk).await.map_err(Failure::from_disk)?;
                    self.bytes += chunk.len() as u64;
                    let layer = self.layer.digest.clone();
                    progress(Progress::Fetched { layer, bytes: self.bytes, total: self.total });
                }
                Ok(None) if self.bytes < self.total => {
                    break Err(Failure::Unreachable("the registry's answer ended early".into()));
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(Failure::from_stream(error)),
            }
        };
        self.file.flush().await.map_err(Failure::from_disk)?;
        self.verified = from == 0 && outcome.is_ok();
        outcome
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        self.file.set_len(0).await.map_err(Failure::from_disk)?;
        self.bytes = 0;
        Ok(())
    }

    async fn verify(&self) -> Result<(), Failure> {
        if self.verified {
            return Ok(());
        }
        let staged = self.staged.clone();
        let digest = tokio::task::spawn_blocking(move || digest_of(&staged)).await?.map_err(Failure::from_disk)?;
        if digest == self.layer.digest {
            return Ok(());
        }
        Err(Failure::corrupt(format!("layer {} came with the digest {digest}", self.layer.digest)))
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        // Renamed away when all went well; swept at the next start when this fails.
        let _ = if self.useful && self.bytes > 0 {
            std::fs::rename(&self.staged, self.store.part(&self.layer.digest))
        } else {
            std::fs::remove_file(&self.staged)
        };
    }
}

fn digest_of(path: &Path) -> std::io::Result<String> {
    let mut hashing = Hashing::new(std::fs::File::open(path)?);
    std::io::copy(&mut hashing, &mut std::io::sink())?;
    Ok(hashing.digest())
}

fn check_type(media_type: &str) -> Result<(), Failure> {
    let known = ["tar", "tar+gzip", "tar.gzip", "tar+zstd", "tar.zstd"];
    if known.iter().any(|known| media_type.rsplit_once("tar").is_some_and(|(_, form)| known[3..] == *form)) {
        return Ok(());
    }
    Err(Failure::Unsupported(format!("layer of type {media_type:?}")))
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
