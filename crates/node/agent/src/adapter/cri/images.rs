//! A foreign runtime's images as [`Images`].

use std::time::Duration;

use async_trait::async_trait;
use node_grpc::messages::cri;
use node_grpc::{Code, Status};
use serde_json::Value;

use super::{Endpoint, REQUEST, gone_is_done, state};
use crate::adapter::images::valid;
use crate::seams::{Credentials, Image, Images, PullError, SeamError, chain};

/// A large image over a slow line.
const PULL: Duration = Duration::from_secs(60 * 60);
/// How long a registry has to answer where another image would do.
const STAND_IN: Duration = Duration::from_secs(3);
/// How runtimes say that there is nobody to ask: containerd, CRI-O.
const UNREACHABLE: [&str; 2] = ["failed to do request", "pinging container registry"];

pub struct CriImages(Endpoint);

impl CriImages {
    pub fn new(endpoint: Endpoint) -> Self {
        Self(endpoint)
    }

    async fn status(&self, name: &str) -> Result<Option<Image>, SeamError> {
        let request = cri::ImageStatusRequest { image: Some(named(name)), verbose: true };
        let answer: cri::ImageStatusResponse =
            self.0.ask("find image", (cri::IMAGE_STATUS, name), &request, REQUEST).await?;
        let config = state::image_config(&answer.info);
        Ok(answer.image.map(|found| image(found, &config)))
    }
}

fn named(name: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: name.to_owned(), ..Default::default() }
}

/// What is in no registry's repository was put there by the operator.
fn image(image: cri::Image, config: &Value) -> Image {
    let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
    let list = |name: &str| {
        let items = config[name].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let imported = image.repo_digests.is_empty() || image.pinned;
    Image {
        id: image.repo_digests.first().unwrap_or(&image.id).clone(),
        digest: image.id,
        names: image.repo_tags,
        repo_digests: image.repo_digests,
        size: image.size,
        layers: Vec::new(),
        entrypoint: list("Entrypoint"),
        cmd: list("Cmd"),
        env: list("Env"),
        working_dir: text("WorkingDir"),
        user: text("User"),
        stop_signal: Some(text("StopSignal")).filter(|signal| !signal.is_empty()),
        imported,
    }
}

/// What went wrong with a pull, by what the runtime says.
fn sorted(status: &Status) -> fn(Box<dyn std::error::Error + Send + Sync>) -> PullError {
    let said = |words: &&str| status.message.contains(words);
    let alone = matches!(status.code, Code::DeadlineExceeded) || UNREACHABLE.iter().any(said);
    if alone { PullError::Unreachable } else { PullError::Failed }
}

#[async_trait]
impl Images for CriImages {
    async fn list(&self) -> Vec<Image> {
        let request = cri::ListImagesRequest::default();
        let list: Result<cri::ListImagesResponse, _> =
            self.0.ask("list", (cri::LIST_IMAGES, "images"), &request, REQUEST).await;
        match list {
            Ok(list) => list.images.into_iter().map(|found| image(found, &Value::Null)).collect(),
            Err(error) => {
                tracing::warn!(error = chain(&error), "images not listed");
                Vec::new()
            }
        }
    }

    async fn remove(&self, id: &str) -> Result<(), SeamError> {
        let request = cri::RemoveImageRequest { image: Some(named(id)) };
        gone_is_done(self.0.ask("remove image", (cri::REMOVE_IMAGE, id), &request, REQUEST).await)
    }

    async fn get(&self, reference: &str) -> Result<Option<Image>, PullError> {
        valid(reference)?;
        self.status(reference).await.map_err(|error| PullError::Failed(error.into()))
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: &[Credentials],
        stand_in: Option<&Image>,
    ) -> Result<Image, PullError> {
        valid(reference)?;
        let login = |login: &Credentials| cri::AuthConfig {
            username: login.username.clone(),
            password: login.password.clone(),
            ..Default::default()
        };
        let mut logins: Vec<_> = credentials.iter().map(|one| Some(login(one))).collect();
        if logins.is_empty() {
            logins.push(None);
        }
        let within = if stand_in.is_some() { STAND_IN } else { PULL };
        let mut last = None;
        for auth in logins {
            let request = cri::PullImageRequest { image: Some(named(reference)), auth, sandbox_config: None };
            let pulled: Result<cri::PullImageResponse, _> =
                node_grpc::call(&self.0.0, cri::PULL_IMAGE, &request, within).await;
            match pulled {
                Ok(_) => {
                    let found = self.status(reference).await.map_err(|error| PullError::Failed(error.into()))?;
                    return found.ok_or_else(|| PullError::Failed("it is gone again".into()));
                }
                Err(status) => last = Some(status),
            }
        }
        let status = last.unwrap_or_else(|| Status::new(Code::Unknown, "nothing was asked"));
        Err(sorted(&status)(Box::new(status)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_known_by_its_digest_in_a_repository() {
        let config =
            json!({"Entrypoint": ["/e"], "Cmd": ["c", 3], "Env": ["A=b"], "User": "7", "StopSignal": "SIGQUIT"});
        let pulled =
            cri::Image { id: "sha256:1".into(), repo_digests: vec!["r/n@sha256:2".into()], ..Default::default() };
        let seen = image(pulled, &config);
        assert_eq!(
            (seen.id.as_str(), seen.imported, seen.stop_signal.as_deref()),
            ("r/n@sha256:2", false, Some("SIGQUIT"))
        );
        assert_eq!(
            (seen.entrypoint, seen.cmd, seen.env),
            (vec!["/e".into()], vec!["c".into()], vec!["A=b".to_owned()])
        );
        let seen = image(cri::Image { id: "sha256:1".into(), ..Default::default() }, &Value::Null);
        assert_eq!((seen.id.as_str(), seen.imported, seen.stop_signal), ("sha256:1", true, None));
    }

    #[test]
    fn nobody_to_ask_is_told_from_an_answer() {
        let of = |code, message: &str| {
            let status = Status::new(code, message);
            matches!(sorted(&status)(Box::new(status)), PullError::Unreachable(_))
        };
        assert!(of(Code::Unknown, "failed to resolve reference: failed to do request: Head: dial tcp: lookup r"));
        assert!(of(Code::DeadlineExceeded, "context deadline exceeded"));
        assert!(!of(Code::NotFound, "failed to resolve reference: r/n: not found"));
    }
}
