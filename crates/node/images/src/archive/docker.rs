//! The form of `docker save`: manifest.json lists images, their names and layers.

use serde::Deserialize;

use super::{Archive, Found};
use crate::error::ImportError;
use crate::name::Name;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub fn images(archive: &Archive<'_>) -> Result<Vec<Found>, ImportError> {
    let items: Vec<Item> = archive.json("manifest.json", &archive.bytes("manifest.json")?)?;
    let mut found = Vec::new();
    for item in items {
        let mut references = Vec::new();
        for tag in item.repo_tags.unwrap_or_default() {
            references.push(complete(archive, &tag)?);
        }
        if references.is_empty() {
            return Err(archive.malformed("names no image: save it by name, not by id"));
        }
        let config = archive.bytes(&item.config)?;
        found.push(Found { references, repo_digests: Vec::new(), config, layers: item.layers });
    }
    Ok(found)
}

pub(super) fn complete(archive: &Archive<'_>, name: &str) -> Result<String, ImportError> {
    let name = Name::parse(name).map_err(|source| ImportError::Name { path: archive.path.to_owned(), source })?;
    Ok(name.to_string())
}
