//! `node_images` as [`Images`].

use async_trait::async_trait;
use node_images::{Auth, ImageStore, Name, Origin, silent};

use crate::seams::{Credentials, Image, Images, PullError, SeamError};

pub struct LocalImages(pub ImageStore);

fn image(image: node_images::Image) -> Image {
    Image {
        // What upstream shows: the digest in its repository where there is one.
        id: image.repo_digests.first().unwrap_or(&image.id).clone(),
        digest: image.id,
        names: image.references,
        repo_digests: image.repo_digests,
        size: image.size,
        layers: image.layers,
        entrypoint: image.config.entrypoint,
        cmd: image.config.cmd,
        env: image.config.env,
        working_dir: image.config.working_dir,
        user: image.config.user,
        stop_signal: image.config.stop_signal,
        imported: image.origin == Origin::Imported,
    }
}

/// Whether that is the name of an image at all.
pub(super) fn valid(reference: &str) -> Result<(), PullError> {
    Name::parse(reference).map(drop).map_err(|invalid| PullError::InvalidReference(invalid.to_string()))
}

#[async_trait]
impl Images for LocalImages {
    async fn list(&self) -> Vec<Image> {
        self.0.list().into_iter().map(image).collect()
    }

    async fn remove(&self, id: &str) -> Result<(), SeamError> {
        self.0.remove(id).await.map_err(|error| SeamError::new("remove image", id, error))
    }

    async fn get(&self, reference: &str) -> Result<Option<Image>, PullError> {
        let found = self.0.get(reference);
        if found.is_none() {
            valid(reference)?;
        }
        Ok(found.map(image))
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: &[Credentials],
        stand_in: Option<&Image>,
    ) -> Result<Image, PullError> {
        let login =
            |login: &Credentials| Auth::Basic { username: login.username.clone(), password: login.password.clone() };
        let credentials: Vec<_> = credentials.iter().map(login).collect();
        let pulled = match stand_in {
            Some(_) => self.0.refresh(reference, &credentials, &silent).await,
            None => self.0.pull(reference, &credentials, &silent).await,
        };
        match pulled {
            Ok(pulled) => Ok(image(pulled)),
            Err(node_images::PullError::InvalidName(invalid)) => Err(PullError::InvalidReference(invalid.to_string())),
            Err(error @ node_images::PullError::Unreachable { .. }) => Err(PullError::Unreachable(error.into())),
            Err(error) => Err(PullError::Failed(error.into())),
        }
    }
}
