//! The form of `docker save`: one layer, its configuration, and the list that names them.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::rootfs::{Node, Rootfs};

/// Writes the archive. `config` is what a Dockerfile would set: Cmd, Env and so on.
pub fn write(path: &Path, rootfs: &Rootfs, config: &Value, tags: &[&str]) -> Result<()> {
    let layer = layer(rootfs)?;
    let digest = format!("{:x}", Sha256::digest(&layer));
    let config = json!({
        "architecture": architecture(),
        "config": config,
        "created": "1970-01-01T00:00:00Z",
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{:x}.json", Sha256::digest(&config));
    let layer_name = format!("{digest}/layer.tar");
    let manifest = serde_json::to_vec(&json!([{"Config": config_name, "RepoTags": tags, "Layers": [layer_name]}]))?;
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut tar = Builder::new(std::io::BufWriter::new(file));
    for (name, content) in [(config_name.as_str(), &config), (&layer_name, &layer), ("manifest.json", &manifest)] {
        let mut header = header(0o644, 0, 0, content.len());
        tar.append_data(&mut header, name, content.as_slice())?;
    }
    tar.into_inner()?.flush().with_context(|| format!("write {}", path.display()))
}

fn layer(rootfs: &Rootfs) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (path, entry) in rootfs.entries() {
        let size = if let Node::File(content) = &entry.node { content.len() } else { 0 };
        let mut header = header(entry.mode, entry.uid, entry.gid, size);
        match &entry.node {
            Node::Directory => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, path, std::io::empty())?;
            }
            Node::File(content) => tar.append_data(&mut header, path, content.as_slice())?,
            Node::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok(tar.into_inner()?)
}

/// Nothing of this day or machine: the same content is the same archive.
fn header(mode: u32, uid: u64, gid: u64, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
