//! Importing archives, and sharing a store between processes.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;

use node_images::{ImageStore, ImportError, Origin, Registries};
use serde_json::json;
use support::{Blob, TestImage, chain, gzip, tar};

struct Node {
    directory: tempfile::TempDir,
    store: ImageStore,
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&directory.path().join("images"), Registries::default()).unwrap();
        Self { directory, store }
    }

    fn archive(&self, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join("archive.tar");
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn refused(&self, content: &[u8]) -> ImportError {
        let error = self.store.import(&self.archive(content)).await.unwrap_err();
        assert_eq!(self.store.list(), []);
        let staging = self.directory.path().join("images/staging");
        assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
        error
    }
}

#[tokio::test]
async fn docker_archives_are_imported_plain_or_gzip() {
    let made = TestImage::new("a");
    let archive = made.docker_archive(&["nginx:latest", "example.com/web:v2"]);
    for archive in [gzip(&archive), archive] {
        let node = Node::new();
        let images = node.store.import(&node.archive(&archive)).await.unwrap();
        assert_eq!(images.len(), 1);
        let image = &images[0];
        assert_eq!((&image.id, image.origin), (&made.config.digest(), Origin::Imported));
        assert_eq!(image.references, ["docker.io/library/nginx:latest", "example.com/web:v2"]);
        assert_eq!(image.config.cmd, ["serve"]);
        assert!(image.layers[0].join("top").exists() && image.layers[2].join("etc/base").exists());
        for name in ["nginx", "docker.io/library/nginx:latest", "example.com/web:v2"] {
            assert_eq!(node.store.get(name).as_ref(), Some(image), "{name}");
        }
        assert_eq!(node.store.get("Nginx"), None);
    }
}

#[tokio::test]
async fn oci_archives_are_imported_by_either_annotation() {
    let made = TestImage::new("a");
    for annotations in [
        json!({"io.containerd.image.name": "docker.io/library/nginx:latest", "org.opencontainers.image.ref.name": "latest"}),
        json!({"org.opencontainers.image.ref.name": "nginx:latest"}),
    ] {
        let node = Node::new();
        let images = node.store.import(&node.archive(&made.oci_archive(annotations))).await.unwrap();
        assert_eq!(images[0].id, made.config.digest());
        assert_eq!(images[0].references, ["docker.io/library/nginx:latest"]);
        assert_eq!(images[0].repo_digests, [format!("docker.io/library/nginx@{}", made.index().digest())]);
        assert!(node.store.get("nginx").is_some());
    }
}

#[tokio::test]
async fn another_process_sees_the_import() {
    let node = Node::new();
    // A second store on the same directory stands for the server.
    let server = ImageStore::open(&node.directory.path().join("images"), Registries::default()).unwrap();
    assert_eq!(server.get("nginx"), None);
    for mark in ["a", "b"] {
        let made = TestImage::new(mark);
        node.store.import(&node.archive(&made.docker_archive(&["nginx"]))).await.unwrap();
        assert_eq!(server.get("nginx").unwrap().id, made.config.digest());
    }
    // Opened anew, nothing is lost, and what nothing refers to goes.
    drop((server, node.store));
    let layers = node.directory.path().join("images/layers");
    std::fs::create_dir(layers.join("0123456789abcdef0123456789abcdef")).unwrap();
    let again = ImageStore::open(&node.directory.path().join("images"), Registries::default()).unwrap();
    assert_eq!(again.list().len(), 2);
    assert!(again.get("nginx").unwrap().layers.iter().all(|layer| layer.is_dir()));
    assert!(!layers.join("0123456789abcdef0123456789abcdef").exists());
}

#[tokio::test]
async fn concurrent_imports_lose_nothing() {
    let node = Node::new();
    let mut imports = Vec::new();
    for number in 0..6 {
        let archive = node.directory.path().join(format!("{number}.tar"));
        std::fs::write(&archive, TestImage::new(&number.to_string()).docker_archive(&[&format!("n{number}")])).unwrap();
        let store = ImageStore::open(&node.directory.path().join("images"), Registries::default()).unwrap();
        imports.push(tokio::spawn(async move { store.import(&archive).await }));
    }
    for import in imports {
        import.await.unwrap().unwrap();
    }
    assert_eq!(node.store.list().len(), 6);
}

#[tokio::test]
async fn archives_that_are_none_say_what_is_wrong() {
    let made = TestImage::new("a");
    let node = Node::new();
    let good = made.docker_archive(&["nginx"]);
    for (what, content, expected) in [
        ("no tar", b"hello".repeat(300), "read image archive"),
        ("another tar", tar(&[("x", b"1")]), "neither manifest.json nor index.json"),
        ("cut short", good[..good.len() - 3000].to_vec(), "read image archive"),
        ("cut gzip", gzip(&good)[..200].to_vec(), "expand image archive"),
        ("no name", made.docker_archive(&[]), "names no image"),
        ("bad name", made.docker_archive(&["NGINX"]), "repository name (library/NGINX) must be lowercase"),
        ("bad json", tar(&[("manifest.json", b"{")]), "parse manifest.json"),
        (
            "no config",
            tar(&[("manifest.json", br#"[{"Config":"c.json","RepoTags":["a"],"Layers":[]}]"#)]),
            "lacks c.json",
        ),
        ("oci without name", made.oci_archive(json!({"org.opencontainers.image.ref.name": "latest"})), "no image name"),
        ("link loop", good_with_loop(), "lacks c.json"),
    ] {
        let error = node.refused(&content).await;
        assert!(chain(&error).contains(expected), "{what}: {}", chain(&error));
    }
    let error = node.store.import(&node.directory.path().join("absent.tar")).await.unwrap_err();
    assert!(chain(&error).contains("absent.tar: No such file"), "{}", chain(&error));
}

fn good_with_loop() -> Vec<u8> {
    let manifest = br#"[{"Config":"c.json","RepoTags":["a"],"Layers":[]}]"#;
    let mut builder = tar::Builder::new(tar(&[("manifest.json", manifest)]));
    builder.get_mut().truncate(1024);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "c.json", "c.json").unwrap();
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn tampered_and_hostile_layers_are_refused() {
    let node = Node::new();
    let mut made = TestImage::new("a");
    made.plain[1] = tar(&[("etc/mark", b"another")]);
    let error = node.refused(&made.docker_archive(&["nginx"])).await;
    assert!(chain(&error).contains("layer digest is sha256:"), "{}", chain(&error));

    let mut hostile = tar(&[("xx/xx/evil", b"1")]);
    hostile[..10].copy_from_slice(b"../../evil");
    let sum: u32 = hostile[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    hostile[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let layer = Blob { media_type: "application/vnd.oci.image.layer.v1.tar", content: hostile.clone() };
    let error = node.refused(&TestImage::of(vec![hostile], vec![layer]).docker_archive(&["nginx"])).await;
    assert!(chain(&error).contains("refuse layer entry ../../evil"), "{}", chain(&error));
}
