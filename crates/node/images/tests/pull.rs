//! Pulling from registries that behave, and from those that do not.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use node_images::{Auth, Image, ImageStore, Origin, Progress, PullError, Registries, silent};
use support::registry::{Access, Breaks, Registry};
use support::{Blob, TestImage, chain, tar};

struct Node {
    directory: tempfile::TempDir,
    store: ImageStore,
}

impl Node {
    fn new() -> Self {
        Self::with("")
    }

    fn with(registries: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registries.yaml");
        std::fs::write(&file, registries).unwrap();
        let store = ImageStore::open(&directory.path().join("images"), Registries::load(&file).unwrap()).unwrap();
        Self { directory, store }
    }

    async fn pull(&self, name: &str) -> Result<Image, PullError> {
        self.store.pull(name, &[], &silent).await
    }

    fn files(&self, place: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path().join("images").join(place)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn assert_no_remains(&self) {
        for place in ["staging", "blobs"] {
            assert_eq!(self.files(place), [""; 0], "{place}");
        }
    }
}

fn has(layer: &Path, file: &str) -> bool {
    layer.join(file).exists()
}

#[tokio::test]
async fn an_image_is_pulled_unpacked_and_found() {
    let registry = Registry::start(Access::Open).await;
    let made = TestImage::new("a");
    registry.push("team/web", "v1", &made);
    let node = Node::new();
    let name = format!("{}/team/web:v1", registry.host);
    let seen = std::sync::Mutex::new(Vec::new());
    let image = node.store.pull(&name, &[], &|progress| seen.lock().unwrap().push(progress)).await.unwrap();

    assert_eq!(image.id, made.config.digest());
    assert_eq!(image.references, [name.as_str()]);
    assert_eq!(image.repo_digests, [format!("{}/team/web@{}", registry.host, made.manifest.digest())]);
    assert_eq!((image.origin, image.config.stop_signal.as_deref()), (Origin::Pulled, Some("SIGQUIT")));
    assert_eq!((&image.config.cmd[..], &image.config.env[..]), (&["serve".to_owned()][..], &["A=b".to_owned()][..]));
    assert_eq!(image.size, made.layers.iter().map(|layer| layer.content.len() as u64).sum::<u64>());
    // Topmost first.
    assert!(has(&image.layers[0], "top") && has(&image.layers[1], "etc/mark") && has(&image.layers[2], "etc/base"));
    for key in [&name, &image.id, &image.repo_digests[0]] {
        assert_eq!(node.store.get(key).as_ref(), Some(&image), "{key}");
    }
    assert_eq!(node.store.list(), [image]);
    assert_eq!(node.store.get("nginx"), None);
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen[0], Progress::Resolved { digest: made.manifest.digest() });
    assert_eq!(seen.iter().filter(|progress| matches!(progress, Progress::Unpacked { .. })).count(), 3);
    node.assert_no_remains();
}

#[tokio::test]
async fn what_is_here_is_not_fetched_again() {
    let registry = Registry::start(Access::Open).await;
    registry.push("web", "v1", &TestImage::new("a"));
    let node = Node::new();
    let name = format!("{}/web:v1", registry.host);
    let first = node.pull(&name).await.unwrap();
    let blobs = registry.count("/blobs/");
    assert_eq!(node.pull(&name).await.unwrap(), first);
    assert_eq!(registry.count("/blobs/"), blobs);
    // A new image under the name: the layer they share at the bottom stays.
    registry.push("web", "v1", &TestImage::new("b"));
    let second = node.pull(&name).await.unwrap();
    assert_eq!(second.layers[2], first.layers[2]);
    assert_eq!(registry.count("/blobs/"), blobs + 3, "its configuration and the two layers above the change");
    assert_eq!(node.store.get(&first.id).unwrap().references, [""; 0]);
}

#[tokio::test]
async fn pulls_at_the_same_time_fetch_once() {
    let registry = Registry::start(Access::Open).await;
    registry.push("web", "v1", &TestImage::new("a"));
    let node = Node::new();
    let name = format!("{}/web:v1", registry.host);
    let (one, two) = tokio::join!(node.pull(&name), node.pull(&name));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(registry.count("/blobs/"), 4);
}

#[tokio::test]
async fn indexes_lead_to_this_machine() {
    let registry = Registry::start(Access::Open).await;
    let made = TestImage::new("a");
    registry.push("web", "plain", &made);
    registry.put("/v2/web/manifests/v1".to_owned(), &made.index());
    let node = Node::new();
    let image = node.pull(&format!("{}/web:v1", registry.host)).await.unwrap();
    assert_eq!(image.id, made.config.digest());
    assert_eq!(image.repo_digests, [format!("{}/web@{}", registry.host, made.index().digest())]);
    // By digest: no name but the digest.
    let by_digest = format!("{}/web@{}", registry.host, made.manifest.digest());
    let image = node.pull(&by_digest).await.unwrap();
    assert!(image.repo_digests.contains(&by_digest));
    assert_eq!(node.store.get(&by_digest), Some(image));

    let foreign = made.index().content;
    let foreign = String::from_utf8(foreign).unwrap().replace("amd64", "mips").replace("arm64", "mips");
    let foreign = Blob { media_type: "application/vnd.oci.image.index.v1+json", content: foreign.into() };
    registry.put("/v2/web/manifests/foreign".to_owned(), &foreign);
    let error = node.pull(&format!("{}/web:foreign", registry.host)).await.unwrap_err();
    assert!(matches!(error, PullError::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("no match for platform linux/"), "{error}");
}

#[tokio::test]
async fn tokens_are_fetched_for_anonymous_pulls() {
    let registry = Registry::start(Access::Token).await;
    registry.push("web", "v1", &TestImage::new("a"));
    Node::new().pull(&format!("{}/web:v1", registry.host)).await.unwrap();
    assert!(registry.count("/token?scope=repository%3Aweb%3Apull") > 0);
}

#[tokio::test]
async fn credentials_are_tried_in_order() {
    // me:secret
    let registry = Registry::start(Access::Basic("Basic bWU6c2VjcmV0")).await;
    registry.push("web", "v1", &TestImage::new("a"));
    let name = format!("{}/web:v1", registry.host);
    let node = Node::new();
    let error = node.pull(&name).await.unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
    assert!(error.to_string().contains("pull access denied, repository does not exist or may require authorization"));
    let auth = |password: &str| Auth::Basic { username: "me".to_owned(), password: password.to_owned() };
    let error = node.store.pull(&name, &[auth("wrong")], &silent).await.unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
    node.store.pull(&name, &[auth("wrong"), auth("secret")], &silent).await.unwrap();

    let configured = format!("configs: {{'{}': {{auth: {{username: me, password: secret}}}}}}", registry.host);
    Node::with(&configured).pull(&name).await.unwrap();
}

#[tokio::test]
async fn missing_images_and_bad_names_say_so() {
    let registry = Registry::start(Access::Open).await;
    let node = Node::new();
    let name = format!("{}/web:v1", registry.host);
    let error = node.pull(&name).await.unwrap_err();
    assert!(matches!(error, PullError::NotFound { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": {name}: not found"
        )
    );
    let error = node.pull("Web:v1").await.unwrap_err();
    assert!(matches!(error, PullError::InvalidName(_)), "{error:?}");
    assert!(error.to_string().starts_with("couldn't parse image name \"Web:v1\": invalid reference format"));
}

#[tokio::test]
async fn an_unreachable_registry_is_found_out_quickly() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let node = Node::new();
    let begun = Instant::now();
    let error = node.pull(&format!("{closed}/web")).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }), "{error:?}");
    assert!(chain(&error).contains("Connection refused"), "{}", chain(&error));
    let error = node.pull("registry.invalid/web").await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn an_unreachable_registry_is_not_asked_again_at_once_where_an_image_can_stand_in() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let node = Node::new();
    let name = format!("{closed}/web");
    let refresh = async |name: &str| node.store.refresh(name, &[], &silent).await.unwrap_err();
    assert!(chain(&refresh(&name).await).contains("Connection refused"));
    // Another image of that registry, too.
    let error = refresh(&format!("{closed}/other")).await;
    assert!(matches!(error, PullError::Unreachable { .. }), "{error:?}");
    assert!(chain(&error).contains("it could not be reached a moment ago"), "{}", chain(&error));
    // Who has nothing else asks.
    assert!(chain(&node.pull(&name).await.unwrap_err()).contains("Connection refused"));
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_given_up_soon_where_an_image_can_stand_in() {
    // Connections are made, by the kernel, and nobody takes them.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::new();
    let begun = Instant::now();
    let name = format!("{}/web", mute.local_addr().unwrap());
    let error = node.store.refresh(&name, &[], &silent).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_imported_image_stands_in_and_stays_imported() {
    let made = TestImage::new("a");
    let registry = Registry::start(Access::Open).await;
    let node = Node::new();
    let name = format!("{}/web:v1", registry.host);
    let archive = node.directory.path().join("web.tar");
    std::fs::write(&archive, made.docker_archive(&[&name])).unwrap();
    let imported = node.store.import(&archive).await.unwrap();
    assert_eq!(imported[0].origin, Origin::Imported);
    assert!(matches!(node.pull(&name).await, Err(PullError::NotFound { .. })));
    assert_eq!(node.store.get(&name).as_ref(), imported.first());
    registry.push("web", "v1", &made);
    let pulled = node.pull(&name).await.unwrap();
    assert_eq!((pulled.origin, &pulled.layers), (Origin::Imported, &imported[0].layers));
    assert_eq!(registry.count("/blobs/"), 0, "the manifest names the configuration that was imported");
}

#[tokio::test]
async fn corrupt_content_is_refused_and_not_kept() {
    let made = TestImage::new("a");
    let layer = made.layers[1].digest();
    for (what, path) in [
        ("layer", format!("/v2/web/blobs/{layer}")),
        ("configuration", format!("/v2/web/blobs/{}", made.config.digest())),
    ] {
        let registry = Registry::start(Access::Open).await;
        registry.push("web", "v1", &made);
        registry.tamper(&path, |content| content[0] ^= 1);
        let node = Node::new();
        let error = node.pull(&format!("{}/web:v1", registry.host)).await.unwrap_err();
        assert!(matches!(error, PullError::Corrupt { .. }), "{what}: {error:?}");
        assert!(chain(&error).contains(&path[14..]), "{what}: {}", chain(&error));
        assert_eq!(node.store.list(), []);
        // Of others, parts may be.
        let digest = path[14..].replace(':', "-");
        assert!(!node.files("staging").contains(&digest) && !node.files("blobs").contains(&digest), "{what}");
    }
}

#[tokio::test]
async fn a_layer_goes_on_where_its_connection_broke() {
    let made = TestImage::new("a");
    let (layer, length) = (made.layers[0].digest(), made.layers[0].content.len());
    let path = format!("/v2/web/blobs/{layer}");
    let start = async |breaks: Breaks| {
        let registry = Registry::start(Access::Open).await;
        registry.push("web", "v1", &made);
        registry.breaks(breaks);
        (format!("{}/web:v1", registry.host), registry)
    };
    // At once, as long as each connection brings something.
    let breaks = Breaks { path: path.clone(), after: length / 4, times: 3, ranges: true };
    let (name, registry) = start(breaks.clone()).await;
    let node = Node::new();
    node.pull(&name).await.unwrap();
    assert_eq!(registry.count(&layer), 4);
    node.assert_no_remains();

    // At the next pull otherwise.
    let (name, registry) = start(breaks.clone()).await;
    let node = Node::new();
    registry.breaks(Breaks { after: 0, times: usize::MAX, ..breaks.clone() });
    let error = node.pull(&name).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }), "{error:?}");
    assert_eq!(registry.count(&layer), 1);
    let broken = node.directory.path().join("images/staging").join(layer.replace(':', "-"));
    assert!(!broken.exists(), "nothing came");
    std::fs::write(&broken, &made.layers[0].content[..length / 2]).unwrap();
    registry.breaks(Breaks { after: length, times: 0, ..breaks.clone() });
    registry.tamper(&path, |content| content[0] ^= 1);
    node.pull(&name).await.unwrap();
    node.assert_no_remains();

    // From the start where the registry serves no ranges, or what was there is not the layer's.
    let (name, _registry) = start(Breaks { ranges: false, times: 1, ..breaks.clone() }).await;
    Node::new().pull(&name).await.unwrap();
    let (name, _registry) = start(Breaks { times: 0, ..breaks }).await;
    let node = Node::new();
    let broken = node.directory.path().join("images/staging").join(layer.replace(':', "-"));
    std::fs::write(&broken, b"something else").unwrap();
    let error = node.pull(&name).await.unwrap_err();
    assert!(matches!(error, PullError::Corrupt { .. }), "{error:?}");
    node.pull(&name).await.unwrap();
    node.assert_no_remains();
}

#[tokio::test]
async fn lying_manifests_are_refused() {
    // A digest that is a path, a layer that is not what the configuration says, one longer than announced.
    let made = TestImage::new("a");
    let manifest = String::from_utf8(made.manifest.content.clone()).unwrap();
    let other = TestImage::of(vec![tar(&[("x", b"1")])], TestImage::new("a").layers.drain(..1).collect());
    let long = made.layers[0].content.len();
    for (what, manifest) in [
        ("path", manifest.replace(&made.layers[0].digest(), "sha256:../../../../etc/passwd")),
        ("other layer", String::from_utf8(other.manifest.content.clone()).unwrap()),
        ("length", manifest.replace(&format!("\"size\":{long}"), "\"size\":3")),
    ] {
        let registry = Registry::start(Access::Open).await;
        registry.push("web", "v1", &made);
        registry.push("web", "other", &other);
        let manifest = Blob { media_type: made.manifest.media_type, content: manifest.into() };
        registry.put("/v2/web/manifests/v1".to_owned(), &manifest);
        let node = Node::new();
        let error = node.pull(&format!("{}/web:v1", registry.host)).await.unwrap_err();
        assert!(matches!(error, PullError::Corrupt { .. }), "{what}: {error:?}");
        assert_eq!(node.store.list(), [], "{what}");
        assert_eq!(node.files("layers"), [""; 0], "{what}");
    }
}

#[tokio::test]
async fn mirrors_are_tried_in_order_and_told_what_they_mirror() {
    let mirror = Registry::start(Access::Open).await;
    mirror.push("hub/nginx", "latest", &TestImage::new("a"));
    let empty = Registry::start(Access::Open).await;
    let node = Node::with(&format!(
        "mirrors: {{docker.io: {{endpoint: ['http://127.0.0.1:1', 'http://{}', 'http://{}'], \
         rewrite: {{'^library/(.*)$': 'hub/$1'}}}}}}",
        empty.host, mirror.host
    ));
    let image = node.pull("nginx").await.unwrap();
    assert_eq!(image.references, ["docker.io/library/nginx:latest"]);
    assert_eq!(empty.count("/v2/hub/nginx/manifests/latest?ns=docker.io"), 1);
    assert!(node.store.get("nginx:latest").is_some());
}

#[tokio::test]
async fn a_full_disk_is_named_and_the_store_goes_on() {
    let registry = Registry::start(Access::Open).await;
    let big = tar(&[("big", &vec![7; 8 << 20])]);
    let layer = Blob { media_type: "application/vnd.oci.image.layer.v1.tar", content: big.clone() };
    let big = TestImage::of(vec![big], vec![layer]);
    registry.push("big", "v1", &big);
    registry.push("web", "v1", &TestImage::new("a"));
    let disk = SmallDisk::mount();
    let store = ImageStore::open(disk.directory.path(), Registries::default()).unwrap();
    let error = store.pull(&format!("{}/big:v1", registry.host), &[], &silent).await.unwrap_err();
    assert!(matches!(error, PullError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("no space left"), "{error}");
    store.pull(&format!("{}/web:v1", registry.host), &[], &silent).await.unwrap();
}

/// Four megabytes of memory as a disk. Needs root.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(directory.path()).status().unwrap();
        assert!(status.success());
        Self { directory }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.directory.path()).status();
    }
}

#[tokio::test]
async fn removal_deletes_layers_that_nothing_else_uses() {
    let registry = Registry::start(Access::Open).await;
    let (a, b) = (TestImage::new("a"), TestImage::new("b"));
    registry.push("a", "v1", &a);
    registry.push("b", "v1", &b);
    let node = Node::new();
    let first = node.pull(&format!("{}/a:v1", registry.host)).await.unwrap();
    let second = node.pull(&format!("{}/b:v1", registry.host)).await.unwrap();
    assert_eq!(node.files("layers").len(), 5);
    node.store.remove(&first.references[0]).await.unwrap();
    assert_eq!(node.store.list(), std::slice::from_ref(&second));
    assert!(second.layers.iter().all(|layer| layer.is_dir()));
    assert_eq!(node.files("layers").len(), 3);
    node.store.remove(&second.id).await.unwrap();
    assert_eq!(node.files("layers"), [""; 0]);
    let error = node.store.remove("nginx").await.unwrap_err();
    assert_eq!(error.to_string(), "image \"nginx\" is not in the store");
}
