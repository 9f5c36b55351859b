//! Images: what a registry or an archive holds. Needs root, as unpacking does.

use std::path::Path;
use std::sync::LazyLock;

use node_images::{ImageStore, Name, Registries};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// What a layer may unpack to here, in bytes.
const CONTENT: u64 = 1 << 20;

/// In memory where there is such a place: importing waits for the disk.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into()).collect();
    names.sort();
    names
}

/// The archive with the sums of its headers put right, which no mutation would hit.
fn summed(data: &[u8]) -> Vec<u8> {
    let mut archive = data.to_vec();
    let mut at = 0usize;
    while let Some(block) = at.checked_add(512).and_then(|end| archive.get_mut(at..end)) {
        let mut size = 0;
        if block.iter().any(|byte| *byte != 0) {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
            size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        }
        at = at.saturating_add(512).saturating_add(size.div_ceil(512).saturating_mul(512));
    }
    archive
}

/// A layer, plain or compressed: nothing of it is written beside its folder.
pub fn layer(data: &[u8]) {
    let folder = folder();
    let (root, outside) = (folder.path().join("layer"), folder.path().join("outside"));
    std::fs::create_dir(&root).expect("a folder");
    std::fs::write(&outside, "untouched").expect("a file");
    let compressed = [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd]];
    let archive = if compressed.iter().any(|head| data.starts_with(head)) { data.to_vec() } else { summed(data) };
    let _ = node_images::unpack_into(&archive, &root, CONTENT);
    assert_eq!(names(folder.path()), ["layer", "outside"]);
    assert_eq!(std::fs::read(&outside).expect("a file"), b"untouched");
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime"));

/// An archive's index, manifest and configuration, with an empty line between them. `@layer`, `@config` and `@manifest` are the digests
/// of what these are; what begins as a list is `manifest.json`, as Docker writes it, over `config.json` and `layer.tar`.
pub fn image(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, "\n\n").map(str::to_owned);
    let (mut index, mut manifest, mut config) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let layer = vec![0; 1024];
    let digest = |bytes: &[u8]| format!("sha256:{:x}", Sha256::digest(bytes));
    config = config.replace("@layer", &digest(&layer));
    manifest = manifest.replace("@layer", &digest(&layer)).replace("@config", &digest(config.as_bytes()));
    index = index.replace("@manifest", &digest(manifest.as_bytes()));
    let list = if index.trim_start().starts_with('[') { "manifest.json" } else { "index.json" };

    let mut archive = tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).expect("in memory");
    };
    put(list, index.as_bytes());
    put("config.json", config.as_bytes());
    put("layer.tar", &layer);
    for bytes in [&layer, manifest.as_bytes(), config.as_bytes()] {
        put(&format!("blobs/{}", digest(bytes).replace(':', "/")), bytes);
    }
    let archive = archive.into_inner().expect("in memory");

    let folder = folder();
    let file = folder.path().join("archive");
    std::fs::write(&file, archive).expect("a file");
    let store = ImageStore::open(&folder.path().join("store"), Registries::default()).expect("a store");
    if let Ok(images) = RUNTIME.block_on(store.import(&file)) {
        for image in images {
            for name in image.references.iter().chain(&image.repo_digests).chain([&image.id]) {
                let found = store.get(name).unwrap_or_else(|| panic!("{name} is not in the store"));
                assert!(found.layers.iter().all(|layer| layer.is_dir()));
            }
        }
    }
    assert_eq!(names(folder.path()), ["archive", "store"]);
}

pub fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = Name::parse(text) {
        let printed = name.to_string();
        assert_eq!(Name::parse(&printed).as_ref(), Ok(&name), "{printed}");
    }
}
