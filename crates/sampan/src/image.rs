//! `sampan image`: works on the data directory's image store, whether or not a server runs on it.

use std::io::Write;

use anyhow::{Context, Result};
use node_images::{ImageStore, Registries};

use crate::config::{Image, ImageCommand};
use crate::host;

pub async fn run(options: Image) -> Result<()> {
    let root = host::data_dir(&options.data.data_dir)?.join("images");
    let registries = match &options.command {
        ImageCommand::Pull { private_registry, .. } => {
            Registries::load(private_registry).with_context(|| format!("reading {}", private_registry.display()))?
        }
        _ => Registries::default(),
    };
    let store = ImageStore::open(&root, registries).context("opening the image store")?;
    let mut out = std::io::stdout().lock();
    match options.command {
        ImageCommand::Import { archive } => {
            let imported = store.import(&archive).await.with_context(|| format!("importing {}", archive.display()))?;
            for image in imported {
                writeln!(out, "imported {} ({})", image.references.join(", "), image.id)?;
            }
        }
        ImageCommand::Pull { reference, .. } => {
            let image = store
                .pull(&reference, &[], &node_images::silent)
                .await
                .with_context(|| format!("pulling {reference}"))?;
            writeln!(out, "pulled {} ({})", image.references.join(", "), image.id)?;
        }
        ImageCommand::Ls => {
            writeln!(out, "{:<56} {:<16} {:>10}", "REFERENCE", "ID", "SIZE")?;
            for image in store.list() {
                let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
                for reference in &image.references {
                    writeln!(out, "{reference:<56} {id:<16} {:>7} MiB", image.size / (1 << 20))?;
                }
            }
        }
        ImageCommand::Rm { reference } => {
            store.remove(&reference).await.with_context(|| format!("removing {reference}"))?;
            writeln!(out, "removed {reference}")?;
        }
    }
    Ok(())
}
