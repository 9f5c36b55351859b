//! Images from a real registry: Debian's `docker-registry`, on loopback in the cluster's own namespace, as the mirror of
//! Docker Hub.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Cluster, Options, eventually, image, must};

const REGISTRY: &str = "127.0.0.1:5000";
const PRIVATE: &str = "127.0.0.1:5001";
const LOGIN: &str = "me:secret";

struct Registry {
    address: &'static str,
    directory: TempDir,
    process: Option<Child>,
}

impl Registry {
    /// The mirror of Docker Hub.
    fn new() -> Result<Self> {
        let registry = Self::at(REGISTRY, None)?;
        let mirror = format!("mirrors:\n  docker.io:\n    endpoint: [\"http://{REGISTRY}\"]\n");
        std::fs::write(registry.directory.path().join("registries.yaml"), mirror).context("the node's settings")?;
        Ok(registry)
    }

    /// One that asks who one is.
    fn private() -> Result<Self> {
        // `secret`, as bcrypt has it.
        Self::at(PRIVATE, Some("me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"))
    }

    fn at(address: &'static str, users: Option<&str>) -> Result<Self> {
        let directory = tempfile::tempdir().context("the registry's directory")?;
        let place = |name: &str| directory.path().join(name);
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": place("storage")}},
            "http": {"addr": address},
        });
        if let Some(users) = users {
            std::fs::write(place("users"), users).context("the registry's users")?;
            config["auth"] = json!({"htpasswd": {"realm": "private", "path": place("users")}});
        }
        std::fs::write(place("config.yml"), config.to_string()).context("the registry's settings")?;
        Ok(Self { address, directory, process: None })
    }

    /// What the node is to know of it.
    fn settings(&self) -> String {
        self.directory.path().join("registries.yaml").to_string_lossy().into_owned()
    }

    fn start(&mut self, cluster: &Cluster) -> Result<()> {
        let mut command = cluster.namespace.command("docker-registry");
        command.arg("serve").arg(self.directory.path().join("config.yml"));
        // Names of Debian's own set-up that it would warn about.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(process.context("starting docker-registry")?);
        eventually("the registry", || {
            let answer = cluster.node("curl", &["-sS", &format!("http://{}/v2/", self.address)])?;
            ensure!(answer.success, "{}", answer.stderr);
            Ok(())
        });
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the registry runs")?;
        process.kill().context("ending the registry")?;
        process.wait().context("ending the registry")?;
        Ok(())
    }

    /// Uploads what is in a `docker save` archive by the registry's own API, as curl does it.
    fn push(&self, cluster: &Cluster, archive: &Path, repository: &str, tag: &str) -> Result<()> {
        let members = Members::of(archive)?;
        let address = self.address;
        let index: Value = serde_json::from_slice(&members.read("manifest.json")?).context("the archive's index")?;
        let name = |value: &Value| value.as_str().map(ToOwned::to_owned).context("a name in the archive's index");
        let config = name(&index[0]["Config"])?;
        let layer = name(&index[0]["Layers"][0])?;
        let blob = |path: &str, digest: &str, media_type: &str| -> Result<Value> {
            let file = members.path(path);
            let digest = format!("sha256:{digest}");
            let uploads = format!("http://{address}/v2/{repository}/blobs/uploads/");
            let started = cluster
                .node("curl", &["-sSf", "-u", LOGIN, "-X", "POST", "-D", "-", "-o", "/dev/null", &uploads])?
                .ok();
            let location =
                started.lines().find_map(|line| line.strip_prefix("Location: ")).context("a place to put it")?;
            let place = format!("{}&digest={digest}", location.trim());
            let data = format!("@{}", file.display());
            let octets = "Content-Type: application/octet-stream";
            cluster
                .node("curl", &["-sSf", "-u", LOGIN, "-X", "PUT", "-H", octets, "--data-binary", &data, &place])?
                .ok();
            let size = std::fs::metadata(&file).context("a blob")?.len();
            Ok(json!({"mediaType": media_type, "digest": digest, "size": size}))
        };
        // The archive's names are the digests.
        let config = blob(&config, config.trim_end_matches(".json"), "application/vnd.oci.image.config.v1+json")?;
        let layer = blob(&layer, layer.trim_end_matches("/layer.tar"), "application/vnd.oci.image.layer.v1.tar")?;
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
        let url = format!("http://{address}/v2/{repository}/manifests/{tag}");
        let header = format!("Content-Type: {media_type}");
        cluster
            .node("curl", &["-sSf", "-u", LOGIN, "-X", "PUT", "-H", &header, "-d", &manifest.to_string(), &url])?
            .ok();
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// An archive, unpacked.
struct Members(TempDir);

impl Members {
    fn of(archive: &Path) -> Result<Self> {
        let directory = tempfile::tempdir().context("a directory")?;
        let unpacked =
            std::process::Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(directory.path()).status();
        ensure!(unpacked.context("starting tar")?.success(), "{} cannot be unpacked", archive.display());
        Ok(Self(directory))
    }

    fn path(&self, member: &str) -> PathBuf {
        self.0.path().join(member)
    }

    fn read(&self, member: &str) -> Result<Vec<u8>> {
        std::fs::read(self.path(member)).with_context(|| format!("reading {member}"))
    }
}

fn run(cluster: &Cluster, name: &str, image: &str, policy: &str, command: &[&str]) -> Result<()> {
    let (image, policy) = (format!("--image={image}"), format!("--image-pull-policy={policy}"));
    let arguments = ["run", name, &image, &policy, "--restart=Never", "--command", "--"];
    cluster.kubectl(&[&arguments[..], command].concat())?.ok();
    Ok(())
}

fn reaches(cluster: &Cluster, pod: &str, path: &str, value: &str) -> Result<()> {
    let condition = format!("--for=jsonpath={{.{path}}}={value}");
    cluster.kubectl(&["wait", &condition, &format!("pod/{pod}"), "--timeout=60s"])?.ok();
    Ok(())
}

/// The pod's Events, message by reason.
fn events(cluster: &Cluster, pod: &str) -> Result<BTreeMap<String, String>> {
    let list = cluster.object(&["events", "--field-selector", &format!("involvedObject.name={pod}")])?;
    let items = list["items"].as_array().context("a list has items")?;
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    Ok(items.iter().map(|event| (text(event, "reason"), text(event, "message"))).collect())
}

fn event(cluster: &Cluster, pod: &str, reason: &str, message: &str) {
    eventually(reason, || {
        let events = events(cluster, pod)?;
        ensure!(events.get(reason).is_some_and(|found| found.contains(message)), "{events:#?}");
        Ok(())
    });
}

/// As `crictl pull` and `crictl rmi` have it.
#[test]
fn the_runtimes_socket_pulls_and_removes() {
    must((|| {
        let mut registry = Registry::private()?;
        let cluster = Cluster::start(Options::default())?;
        registry.start(&cluster)?;
        registry.push(&cluster, &image("busybox"), "team/fetched", "1")?;
        let name = format!("{PRIVATE}/team/fetched:1");
        let named = |name: &str| json!({"image": {"image": name}});
        let refused = cluster.cri_refusal("PullImage", &named(&name))?;
        ensure!(refused.starts_with("UNKNOWN: "), "{refused}");
        let (username, password) = LOGIN.split_once(':').context("a login")?;
        let request = json!({"image": {"image": name}, "auth": {"username": username, "password": password}});
        let pulled = cluster.cri_call("PullImage", &request)?["imageRef"].as_str().context("an id")?.to_owned();
        let known = cluster.cri_call("ImageStatus", &named(&pulled[..20]))?["image"].clone();
        assert_eq!((&known["id"], &known["pinned"]), (&json!(pulled), &json!(false)));
        assert_eq!(known["repoTags"], json!([name]));
        let digest = known["repoDigests"][0].as_str().context("a digest")?;
        ensure!(digest.starts_with(&format!("{PRIVATE}/team/fetched@sha256:")), "{known}");
        assert_eq!(cluster.cri_call("ListImages", &json!({"filter": named(digest)}))?["images"][0]["id"], pulled);
        cluster.cri_call("RemoveImage", &named(&pulled))?;
        cluster.cri_call("RemoveImage", &named(&pulled))?;
        assert_eq!(cluster.cri_call("ListImages", &json!({}))?["images"], json!([]));
        cluster.finish()
    })());
}

#[test]
fn images_come_from_a_registry() {
    must((|| {
        let mut registry = Registry::new()?;
        let arguments = vec!["--private-registry".to_owned(), registry.settings()];
        let cluster = Cluster::start(Options { arguments, images: vec!["nginx"], ..Options::default() })?;
        registry.start(&cluster)?;
        registry.push(&cluster, &image("busybox"), "library/fetched", "1")?;

        run(&cluster, "first", "fetched:1", "IfNotPresent", &["echo", "from the registry"])?;
        reaches(&cluster, "first", "status.phase", "Succeeded")?;
        assert_eq!(cluster.kubectl(&["logs", "first"])?.ok(), "from the registry\n");
        event(&cluster, "first", "Pulling", "Pulling image \"fetched:1\"");
        event(&cluster, "first", "Pulled", "Successfully pulled image \"fetched:1\" in ");
        let status = cluster.object(&["pod", "first"])?["status"]["containerStatuses"][0].clone();
        let id = status["imageID"].as_str().context("an image id")?;
        assert!(id.starts_with("docker.io/library/fetched@sha256:"), "{status}");
        run(&cluster, "second", "fetched:1", "IfNotPresent", &["true"])?;
        reaches(&cluster, "second", "status.phase", "Succeeded")?;
        event(&cluster, "second", "Pulled", "already present on machine");
        assert!(cluster.sampan(&["image", "ls"])?.ok().contains("docker.io/library/fetched:1"));

        what_the_registry_has_not_is_reported(&cluster)?;
        an_operator_pulls(&cluster, &registry)?;
        registry.stop()?;
        without_the_registry(&cluster)?;
        registry.start(&cluster)?;
        // What could not be had before is tried again, and found.
        cluster.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/fetched", "--timeout=60s"])?.ok();
        cluster.finish()
    })());
}

fn what_the_registry_has_not_is_reported(cluster: &Cluster) -> Result<()> {
    let name = format!("{REGISTRY}/no-such-image:7");
    run(cluster, "unknown", &name, "Always", &["true"])?;
    let waiting = "status.containerStatuses[0].state.waiting.reason";
    event(cluster, "unknown", "Pulling", &format!("Pulling image {name:?}"));
    reaches(cluster, "unknown", waiting, "ImagePullBackOff")?;
    event(cluster, "unknown", "BackOff", &format!("Back-off pulling image {name:?}"));
    let list = cluster.object(&["events", "--field-selector", "involvedObject.name=unknown,reason=Failed"])?;
    let failures = list["items"].to_string();
    let missing = format!("{name}: not found");
    for wanted in [&*missing, "Error: ErrImagePull", "Error: ImagePullBackOff"] {
        assert!(failures.contains(wanted), "no {wanted:?} in {failures}");
    }
    let message = cluster.object(&["pod", "unknown"])?["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    assert!(message["message"].to_string().contains(&*name), "{message}");
    cluster.kubectl(&["delete", "pod", "unknown"])?.ok();
    Ok(())
}

fn an_operator_pulls(cluster: &Cluster, registry: &Registry) -> Result<()> {
    registry.push(cluster, &image("busybox"), "library/wanted", "2")?;
    let pull = |name: &str| cluster.sampan(&["image", "pull", name, "--private-registry", &registry.settings()]);
    let printed = pull("wanted:2")?.ok();
    assert!(printed.contains("docker.io/library/wanted:2"), "{printed}");
    let refused = pull(&format!("{REGISTRY}/wanted:3"))?.error();
    assert!(refused.contains("/wanted:3: not found"), "{refused}");
    assert!(cluster.sampan(&["image", "rm", "wanted:2"])?.success);
    assert!(!cluster.sampan(&["image", "ls"])?.ok().contains("wanted"));
    Ok(())
}

/// What the operator imported stands in; what was pulled once does not.
fn without_the_registry(cluster: &Cluster) -> Result<()> {
    run(cluster, "imported", "nginx", "Always", &["echo", "stood in"])?;
    reaches(cluster, "imported", "status.phase", "Succeeded")?;
    event(cluster, "imported", "UsingLocalImage", "The registry of image \"nginx\" cannot be reached");
    assert_eq!(cluster.kubectl(&["logs", "imported"])?.ok(), "stood in\n");
    run(cluster, "fetched", "fetched:1", "Always", &["true"])?;
    reaches(cluster, "fetched", "status.containerStatuses[0].state.waiting.reason", "ImagePullBackOff")?;
    Ok(())
}

#[test]
fn images_of_a_private_registry_need_a_login() {
    must((|| {
        let mut registry = Registry::private()?;
        let providers = tempfile::tempdir().context("the providers' directory")?;
        let arguments = vec![
            "--image-credential-provider-config".to_owned(),
            provider(providers.path())?,
            "--image-credential-provider-bin-dir".to_owned(),
            providers.path().to_string_lossy().into_owned(),
        ];
        let cluster = Cluster::start(Options { arguments, ..Options::default() })?;
        registry.start(&cluster)?;
        for repository in ["team/web", "machines/web"] {
            registry.push(&cluster, &image("busybox"), repository, "1")?;
        }
        let (name, waiting) = (format!("{PRIVATE}/team/web:1"), "status.containerStatuses[0].state.waiting.reason");
        run(&cluster, "stranger", &name, "Always", &["true"])?;
        reaches(&cluster, "stranger", waiting, "ImagePullBackOff")?;
        let waits = cluster.object(&["pod", "stranger"])?["status"]["containerStatuses"][0]["state"].to_string();
        assert!(waits.contains("pull access denied"), "{waits}");
        // The node's programs are for other images of it.
        run(&cluster, "machine", &format!("{PRIVATE}/machines/web:1"), "Always", &["true"])?;
        reaches(&cluster, "machine", "status.phase", "Succeeded")?;

        let server = format!("--docker-server={PRIVATE}");
        let secret = ["create", "secret", "docker-registry", "mine", &server, "--docker-username=me"];
        cluster.kubectl(&[&secret[..], &["--docker-password=secret"]].concat())?.ok();
        let overrides = r#"--overrides={"spec":{"imagePullSecrets":[{"name":"absent"},{"name":"mine"}]}}"#;
        let arguments = ["run", "friend", &format!("--image={name}"), "--restart=Never", overrides];
        cluster.kubectl(&[&arguments[..], &["--command", "--", "true"]].concat())?.ok();
        reaches(&cluster, "friend", "status.phase", "Succeeded")?;
        event(&cluster, "friend", "FailedToRetrieveImagePullSecret", "(absent)");
        cluster.finish()
    })());
}

/// A program that knows the login for a part of the registry, and the configuration that says so.
fn provider(directory: &Path) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let version = "credentialprovider.kubelet.k8s.io/v1";
    let answer = json!({
        "apiVersion": version,
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "auth": {PRIVATE: {"username": "me", "password": "secret"}},
    });
    let program = directory.join("machines");
    std::fs::write(&program, format!("#!/bin/sh\ncat <<EOF\n{answer}\nEOF\n")).context("the program")?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).context("the program")?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [{
            "name": "machines",
            "apiVersion": version,
            "matchImages": [format!("{PRIVATE}/machines")],
            "defaultCacheDuration": "1m",
        }],
    });
    let path = directory.join("config.json");
    std::fs::write(&path, config.to_string()).context("the configuration")?;
    Ok(path.to_string_lossy().into_owned())
}

/// Any disk is fuller than this node wants it: what no pod needs goes, and what the operator imported stays.
#[test]
fn unused_images_go_when_the_disk_fills() {
    must((|| {
        let mut registry = Registry::new()?;
        let mut arguments = vec!["--private-registry".to_owned(), registry.settings()];
        let marks = ["--image-gc-high-threshold=1", "--image-gc-low-threshold=0", "--minimum-image-ttl-duration=0"];
        arguments.extend(marks.map(str::to_owned));
        let cluster = Cluster::start(Options { arguments, images: vec!["curl"], ..Options::default() })?;
        registry.start(&cluster)?;
        registry.push(&cluster, &image("busybox"), "library/first", "1")?;
        registry.push(&cluster, &image("nginx"), "library/second", "1")?;
        let listed = || Ok::<_, anyhow::Error>(cluster.sampan(&["image", "ls"])?.ok());
        run(&cluster, "first", "first:1", "IfNotPresent", &["sleep", "infinity"])?;
        reaches(&cluster, "first", "status.phase", "Running")?;
        assert!(listed()?.contains("library/first:1"));
        // Another image comes while the first is in use.
        run(&cluster, "second", "second:1", "IfNotPresent", &["sleep", "infinity"])?;
        reaches(&cluster, "second", "status.phase", "Running")?;
        assert!(listed()?.contains("library/first:1") && listed()?.contains("library/second:1"));
        cluster.kubectl(&["delete", "pod", "second", "--grace-period=0", "--force"])?.ok();
        eventually("the second image's end", || {
            let listed = listed()?;
            ensure!(!listed.contains("library/second:1"), "{listed}");
            Ok(())
        });
        let listed = listed()?;
        assert!(listed.contains("library/first:1") && listed.contains("curl"), "{listed}");
        cluster.finish()
    })());
}

#[test]
fn marks_that_contradict_each_other_are_refused() {
    let cluster =
        Cluster::start(Options { arguments: vec!["--image-gc-high-threshold=50".to_owned()], ..Options::default() });
    let error = format!("{:#}", cluster.err().expect("80 is not below 50"));
    assert!(error.contains("--image-gc-low-threshold 80 must be below --image-gc-high-threshold 50"), "{error}");
}
