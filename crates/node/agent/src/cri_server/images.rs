//! The node's images.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use node_grpc::messages::cri;
use node_grpc::{Code, Status};
use serde_json::json;

use super::{Server, failed, info, shown, spec};
use crate::seams::{Credentials, Image, PullError, chain, label};
use crate::volumes;

impl Server {
    /// By a name, a digest, or the beginning of an id.
    pub(super) async fn image(&self, reference: &str) -> Result<Option<Image>, Status> {
        let images = self.machine.images.list().await;
        let found = self.machine.images.get(reference).await;
        match (found, of_prefix(reference, images)) {
            (Ok(Some(image)), _) | (_, Some(image)) => Ok(Some(image)),
            (Ok(None), None) => Ok(None),
            (Err(error), None) => Err(spec::invalid(chain(&error))),
        }
    }

    pub(super) async fn list_images(&self, request: cri::ListImagesRequest) -> Result<cri::ListImagesResponse, Status> {
        let filter = request.filter.and_then(|filter| filter.image).map(|image| image.image).unwrap_or_default();
        let images = match filter.is_empty() {
            true => self.machine.images.list().await,
            false => self.image(&filter).await?.into_iter().collect(),
        };
        Ok(cri::ListImagesResponse { images: images.iter().map(image).collect() })
    }

    pub(super) async fn image_status(
        &self,
        request: cri::ImageStatusRequest,
    ) -> Result<cri::ImageStatusResponse, Status> {
        let reference = request.image.unwrap_or_default().image;
        let Some(found) = self.image(&reference).await? else { return Ok(cri::ImageStatusResponse::default()) };
        let more = json!({
            "imageSpec": {
                "config": {
                    "Entrypoint": found.entrypoint, "Cmd": found.cmd, "Env": found.env, "WorkingDir": found.working_dir,
                    "User": found.user, "StopSignal": found.stop_signal,
                },
            },
            "layers": found.layers,
        });
        Ok(cri::ImageStatusResponse { image: Some(image(&found)), info: info(request.verbose, "info", &more) })
    }

    pub(super) async fn pull_image(&self, request: cri::PullImageRequest) -> Result<String, Status> {
        let reference = request.image.unwrap_or_default().image;
        let credentials = request.auth.map(credentials).transpose()?.flatten();
        let pulled = self.machine.images.pull(&reference, credentials.as_slice(), None).await.map_err(|error| {
            let code = match error {
                PullError::InvalidReference(_) => Code::InvalidArgument,
                PullError::Unreachable(_) => Code::Unavailable,
                PullError::Failed(_) => Code::Unknown,
            };
            Status::new(code, chain(&error))
        })?;
        self.machine.collector.look();
        Ok(pulled.digest)
    }

    /// Under all its names. Containers' root file systems are made of an image's layers: it stays as long as there are some.
    pub(super) async fn remove_image(&self, request: cri::RemoveImageRequest) -> Result<(), Status> {
        let reference = request.image.unwrap_or_default().image;
        let Some(image) = self.image(&reference).await? else { return Ok(()) };
        let sandboxes = self.sandboxes().await?;
        let mut containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
        if let Some(user) = containers.find(|container| container.labels.get(label::IMAGE_ID) == Some(&image.id)) {
            let message = format!("image {reference:?} is used by container {}", user.id);
            return Err(Status::new(Code::FailedPrecondition, message));
        }
        self.machine.images.remove(&image.digest).await.map_err(failed)
    }

    pub(super) async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse, Status> {
        let (dir, timestamp) = (self.config.images_dir.clone(), shown::nanoseconds(self.machine.clock.now()));
        let mountpoint = dir.display().to_string();
        // A walk through all files of all layers takes its time.
        let used = tokio::task::spawn_blocking(move || volumes::used(&dir)).await;
        let used = used.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        let usage = cri::FilesystemUsage {
            timestamp,
            fs_id: Some(cri::FilesystemIdentifier { mountpoint }),
            used_bytes: Some(used.bytes),
            inodes_used: Some(used.inodes),
        };
        Ok(cri::ImageFsInfoResponse { image_filesystems: vec![usage.clone()], container_filesystems: vec![usage] })
    }
}

/// The one image whose id begins so.
fn of_prefix(reference: &str, images: Vec<Image>) -> Option<Image> {
    let wanted = reference.strip_prefix("sha256:").unwrap_or(reference);
    if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut found = images
        .into_iter()
        .filter(|image| image.digest.strip_prefix("sha256:").is_some_and(|digest| digest.starts_with(wanted)));
    found.next().filter(|_| found.next().is_none())
}

fn image(image: &Image) -> cri::Image {
    // `uid`, `uid:gid`, `name` or `name:group`.
    let user = image.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    cri::Image {
        id: image.digest.clone(),
        repo_tags: image.names.iter().filter(|name| !name.contains('@')).cloned().collect(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        uid,
        spec: Some(cri::ImageSpec { image: image.digest.clone(), ..Default::default() }),
        pinned: image.imported,
    }
}

fn credentials(auth: cri::AuthConfig) -> Result<Option<Credentials>, Status> {
    if !auth.username.is_empty() {
        return Ok(Some(Credentials { username: auth.username, password: auth.password }));
    }
    if !auth.auth.is_empty() {
        let bad = || spec::invalid("the credentials are no name and password in base64");
        let text = BASE64.decode(auth.auth).map_err(|_| bad())?;
        // Upstream's writers may end it with zeros.
        let text = String::from_utf8(text).map_err(|_| bad())?;
        let (username, password) = text.split_once(':').ok_or_else(bad)?;
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(Credentials { username: username.to_owned(), password }));
    }
    if !auth.identity_token.is_empty() || !auth.registry_token.is_empty() {
        return Err(Status::new(Code::Unimplemented, "registries are shown a name and a password, no tokens"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_a_pair_in_either_form() {
        let auth = |auth: &str| credentials(cri::AuthConfig { auth: auth.into(), ..Default::default() });
        let pair = Some(Credentials { username: "me".into(), password: "p:w".into() });
        assert_eq!(auth("bWU6cDp3").unwrap(), pair);
        assert_eq!(auth("").unwrap(), None);
        for bad in ["!", "bWU="] {
            assert_eq!(auth(bad).unwrap_err().code, Code::InvalidArgument, "{bad}");
        }
        let named = cri::AuthConfig { username: "me".into(), password: "p:w".into(), ..Default::default() };
        assert_eq!(credentials(named).unwrap(), pair);
        let token = cri::AuthConfig { registry_token: "t".into(), ..Default::default() };
        assert_eq!(credentials(token).unwrap_err().code, Code::Unimplemented);
    }

    #[test]
    fn the_beginning_of_an_id_is_enough_where_only_one_has_it() {
        let image = |digest: &str| Image { digest: digest.into(), ..Image::default() };
        let find = |wanted: &str| {
            let images = vec![image("sha256:ab1"), image("sha256:ab2"), image("sha256:c3")];
            of_prefix(wanted, images).map(|image| image.digest)
        };
        assert_eq!(find("sha256:c"), Some("sha256:c3".into()));
        assert_eq!((find("ab1"), find("ab"), find("nginx"), find("")), (Some("sha256:ab1".into()), None, None, None));
    }
}
