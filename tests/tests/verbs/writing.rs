//! create, label, annotate, patch, edit, scale, replace, diff, delete.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Options, eventually, must, repository, with_every_kubectl};

use crate::{WAITER, in_order};

fn busybox() -> Options {
    Options { images: vec!["busybox"], ..Options::default() }
}

/// A deployment of no pods: what it says, not what it runs, is looked at.
fn idle(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "deployment", "web", "--image=nginx", "--replicas=0", "--port=80"])?.ok();
    Ok(())
}

fn field(cluster: &Cluster, object: &str, path: &str) -> Result<String> {
    Ok(cluster.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")])?.ok())
}

#[test]
fn every_kind_is_created_by_its_own_command() {
    must(with_every_kubectl(&busybox(), |cluster| {
        let create =
            |arguments: &[&str]| -> Result<String> { Ok(cluster.kubectl(&[&["create"], arguments].concat())?.ok()) };
        assert_eq!(create(&["namespace", "team"])?, "namespace/team created\n");
        assert_eq!(create(&["serviceaccount", "builder", "-n", "team"])?, "serviceaccount/builder created\n");
        let from_file = cluster.write("notes.txt", "one\ntwo\n")?;
        let binary = cluster.write("blob", "\u{0}\u{1}")?;
        std::fs::write(&binary, [0xff, 0xfe, 0x00])?;
        let (notes, blob) = (format!("--from-file={from_file}"), format!("--from-file=blob={binary}"));
        assert_eq!(
            create(&["configmap", "settings", "--from-literal=color=red", &notes, &blob])?,
            "configmap/settings created\n"
        );
        let settings = cluster.object(&["cm", "settings"])?;
        assert_eq!(settings["data"], json!({ "color": "red", "notes.txt": "one\ntwo\n" }));
        assert_eq!(settings["binaryData"], json!({ "blob": "//4A" }));
        assert_eq!(create(&["secret", "generic", "password", "--from-literal=word=x"])?, "secret/password created\n");
        assert_eq!(field(cluster, "secret/password", ".data.word")?, "eA==");
        assert_eq!(field(cluster, "secret/password", ".type")?, "Opaque");
        secret_of_a_certificate(cluster)?;

        assert_eq!(create(&["service", "clusterip", "inner", "--tcp=80:8080"])?, "service/inner created\n");
        assert_eq!(
            create(&["service", "clusterip", "headless", "--clusterip=None", "--tcp=80"])?,
            "service/headless created\n"
        );
        assert_eq!(
            create(&["service", "nodeport", "outer", "--tcp=80:8080", "--node-port=30123"])?,
            "service/outer created\n"
        );
        assert_eq!(create(&["service", "nodeport", "anywhere", "--tcp=80"])?, "service/anywhere created\n");
        assert_eq!(field(cluster, "svc/headless", ".spec.clusterIP")?, "None");
        assert_eq!(field(cluster, "svc/outer", ".spec.ports[0].nodePort")?, "30123");
        let chosen: u16 = field(cluster, "svc/anywhere", ".spec.ports[0].nodePort")?.parse().context("a port")?;
        assert!((30000..=32767).contains(&chosen), "{chosen}");
        let mut addresses: Vec<String> = Vec::new();
        for service in ["inner", "outer", "anywhere", "kubernetes"] {
            addresses.push(field(cluster, &format!("svc/{service}"), ".spec.clusterIP")?);
        }
        assert!(addresses.iter().all(|address| address.starts_with("10.43.")), "{addresses:?}");
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 4, "ClusterIPs are unique");

        let made = create(&["deployment", "web", "--image=busybox:1.37", "--", "sh", "-c", WAITER])?;
        assert_eq!(made, "deployment.apps/web created\n");
        cluster.rolled_out("web")?;

        let twice = cluster.kubectl(&["create", "configmap", "settings"])?;
        assert_eq!(twice.error(), "error: failed to create configmap: configmaps \"settings\" already exists\n");
        dry_runs_change_nothing(cluster)
    }));
}

fn secret_of_a_certificate(cluster: &Cluster) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (key, certificate) = (file("key"), file("certificate"));
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=my-nginx",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    cluster.node("openssl", &arguments)?.ok();
    let (key, certificate) = (format!("--key={key}"), format!("--cert={certificate}"));
    let made = cluster.kubectl(&["create", "secret", "tls", "nginxsecret", &key, &certificate])?.ok();
    assert_eq!(made, "secret/nginxsecret created\n");
    let secret = cluster.object(&["secret", "nginxsecret"])?;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let keys: Vec<&String> = secret["data"].as_object().context("data")?.keys().collect();
    assert_eq!(keys, ["tls.crt", "tls.key"]);
    Ok(())
}

fn dry_runs_change_nothing(cluster: &Cluster) -> Result<()> {
    let tried = cluster
        .kubectl(&["create", "configmap", "tried", "--from-literal=a=b", "--dry-run=server", "-o", "yaml"])?
        .ok();
    in_order(&tried, &["a: b", "name: tried", "uid: "]);
    assert!(!tried.contains("resourceVersion"), "{tried}");
    assert!(cluster.kubectl(&["get", "cm", "tried"])?.error().contains("NotFound"));
    let deleted = cluster.kubectl(&["delete", "cm", "settings", "--dry-run=server"])?.ok();
    assert!(deleted.contains("(server dry run)"), "{deleted}");
    cluster.kubectl(&["get", "cm", "settings"])?.ok();
    Ok(())
}

#[test]
fn objects_are_changed_by_every_verb() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        idle(cluster)?;
        labels_and_annotations(cluster)?;
        patches(cluster)?;
        edits(cluster)?;
        scales(cluster)?;
        replacements(cluster)
    }));
}

fn labels_and_annotations(cluster: &Cluster) -> Result<()> {
    let web = |verb: &str, change: &str| cluster.kubectl(&[verb, "deployment/web", change]);
    assert_eq!(web("label", "tier=front")?.ok(), "deployment.apps/web labeled\n");
    assert_eq!(web("label", "tier=front")?.ok(), "deployment.apps/web not labeled\n");
    let refused = web("label", "tier=back")?.error();
    assert_eq!(refused, "error: 'tier' already has a value (front), and --overwrite is false\n");
    assert_eq!(
        cluster.kubectl(&["label", "deployments", "--all", "tier=back", "--overwrite"])?.ok(),
        "deployment.apps/web labeled\n"
    );
    assert_eq!(field(cluster, "deploy/web", ".metadata.labels")?, r#"{"app":"web","tier":"back"}"#);
    assert_eq!(web("label", "tier-")?.ok(), "deployment.apps/web unlabeled\n");
    assert!(web("label", "bad_/key=1")?.error().contains("bad_/key"));
    assert_eq!(web("annotate", "note=hello world")?.ok(), "deployment.apps/web annotated\n");
    assert_eq!(field(cluster, "deploy/web", ".metadata.annotations.note")?, "hello world");
    assert_eq!(web("annotate", "note-")?.ok(), "deployment.apps/web annotated\n");
    assert_eq!(field(cluster, "deploy/web", ".metadata.annotations.note")?, "");
    // None of it is a change of what the deployment should be.
    assert_eq!(field(cluster, "deploy/web", ".metadata.generation")?, "1");
    Ok(())
}

fn patches(cluster: &Cluster) -> Result<()> {
    let patch = |kind: &str, patch: &Value| {
        cluster.kubectl(&["patch", "deploy", "web", &format!("--type={kind}"), "-p", &patch.to_string()])
    };
    let template = || -> Result<Value> { Ok(cluster.object(&["deploy", "web"])?["spec"]["template"]["spec"].clone()) };
    assert_eq!(
        patch("json", &json!([{ "op": "replace", "path": "/spec/minReadySeconds", "value": 1 }, { "op": "add", "path": "/metadata/labels/a", "value": "b" }]))?.stderr,
        "The request is invalid: the server rejected our request due to an error in our request\n"
    );
    let added = json!([{ "op": "add", "path": "/spec/minReadySeconds", "value": 1 }]);
    assert_eq!(patch("json", &added)?.ok(), "deployment.apps/web patched\n");
    assert_eq!(patch("json", &added)?.ok(), "deployment.apps/web patched (no change)\n");
    assert_eq!(field(cluster, "deploy/web", ".spec.minReadySeconds")?, "1");
    patch("merge", &json!({ "spec": { "minReadySeconds": null, "revisionHistoryLimit": 3 } }))?.ok();
    assert_eq!(field(cluster, "deploy/web", ".spec['minReadySeconds','revisionHistoryLimit']")?, "3");

    // By name, not by place: the other container and its ports stay.
    let sidecar =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "sidecar", "image": "busybox" }] } } } });
    patch("strategic", &sidecar)?.ok();
    let env = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "nginx", "env": [{ "name": "A", "value": "1" }] }] } } } });
    patch("strategic", &env)?.ok();
    let spec = template()?;
    let names: Vec<&Value> = spec["containers"].as_array().context("containers")?.iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["sidecar", "nginx"]);
    assert_eq!(spec["containers"][1]["ports"][0]["containerPort"], 80);
    assert_eq!(spec["containers"][1]["env"], json!([{ "name": "A", "value": "1" }]));
    let gone =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "sidecar", "$patch": "delete" }] } } } });
    patch("strategic", &gone)?.ok();
    assert_eq!(template()?["containers"].as_array().map(Vec::len), Some(1));
    // A merge patch replaces the list whole.
    patch(
        "merge",
        &json!({ "spec": { "template": { "spec": { "containers": [{ "name": "only", "image": "nginx" }] } } } }),
    )?
    .ok();
    assert_eq!(template()?["containers"][0]["name"], "only");

    let before = cluster.object(&["deploy", "web"])?;
    let refused = patch("merge", &json!({ "spec": { "replicas": "many" } }))?.error();
    in_order(
        &refused,
        &[
            "The request is invalid: patch: Invalid value",
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ],
    );
    let refused = patch("merge", &json!({ "spec": { "replicas": -1 } }))?.error();
    assert_eq!(
        refused,
        "The Deployment \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0\n"
    );
    let refused = patch("merge", &json!({ "spec": { "selector": { "matchLabels": { "app": "other" } } } }))?.error();
    in_order(&refused, &["The Deployment \"web\" is invalid", "spec.selector", "field is immutable"]);
    let now = cluster.object(&["deploy", "web"])?;
    assert_eq!((&now["spec"], &now["metadata"]["generation"]), (&before["spec"], &before["metadata"]["generation"]));
    let missing = cluster.kubectl(&["patch", "cm", "nobody", "-p", "{}"])?.error();
    assert_eq!(missing, "Error from server (NotFound): configmaps \"nobody\" not found\n");
    Ok(())
}

fn edits(cluster: &Cluster) -> Result<()> {
    let edit = |script: &str| {
        let mut command = cluster.kubectl_command(&["edit", "deployment", "web"]);
        command.env("KUBE_EDITOR", format!("sed -i -e {script}"));
        let output = command.stdin(std::process::Stdio::null()).output().context("kubectl edit")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        anyhow::Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    };
    assert_eq!(edit("s/replicas:.0/replicas:\\ 2/")?.1, "deployment.apps/web edited\n");
    assert_eq!(field(cluster, "deploy/web", ".spec.replicas")?, "2");
    let (_, _, said) = edit("s/x/x/")?;
    assert!(said.contains("Edit cancelled, no changes made"), "{said}");
    let (edited, _, said) = edit("s/replicas:.2/replicas:\\ -2/")?;
    assert!(!edited && said.contains("deployments.apps \"web\" is invalid"), "{said}");
    assert_eq!(field(cluster, "deploy/web", ".spec.replicas")?, "2");
    Ok(())
}

fn scales(cluster: &Cluster) -> Result<()> {
    let scale = |arguments: &[&str]| cluster.kubectl(&[&["scale", "deploy", "web"], arguments].concat());
    let refused = scale(&["--current-replicas=7", "--replicas=1"])?.error();
    assert_eq!(refused, "error: Expected replicas to be 7, was 2\n");
    assert_eq!(scale(&["--replicas=0"])?.ok(), "deployment.apps/web scaled\n");
    assert_eq!(field(cluster, "deploy/web", ".spec.replicas")?, "0");
    let patch = ["patch", "deploy", "web", "--subresource=scale", "--type=merge", "-p", r#"{"spec":{"replicas":1}}"#];
    assert_eq!(cluster.kubectl(&patch)?.ok(), "scale.autoscaling/web patched\n");
    let shown = ["get", "deploy", "web", "--subresource=scale", "-o", "jsonpath={.kind} {.spec.replicas}"];
    assert_eq!(cluster.kubectl(&shown)?.ok(), "Scale 1");
    scale(&["--replicas=0"])?.ok();
    let sets = cluster.kubectl(&["get", "rs", "-o", "name"])?.ok();
    let set = sets.lines().next().context("a replica set")?;
    // Its deployment wants it otherwise, and has its way.
    assert_eq!(cluster.kubectl(&["scale", set, "--replicas=1"])?.ok(), format!("{set} scaled\n"));
    eventually("the deployment takes its replica set back", || {
        let replicas = field(cluster, set, ".spec.replicas")?;
        ensure!(replicas == "0", "it has {replicas}");
        Ok(())
    });
    Ok(())
}

fn replacements(cluster: &Cluster) -> Result<()> {
    let manifest =
        std::fs::read_to_string(repository().join("examples/run-my-nginx.yaml"))?.replace("replicas: 2", "replicas: 0");
    let stdin = |arguments: &[&str], text: &str| cluster.kubectl_input(&[arguments, &["-f", "-"]].concat(), text);
    assert_eq!(stdin(&["create"], &manifest)?.ok(), "deployment.apps/my-nginx created\n");
    let twice = stdin(&["create"], &manifest)?.error();
    in_order(&twice, &["Error from server (AlreadyExists)", "deployments.apps \"my-nginx\" already exists"]);
    let changed = manifest.replace("image: nginx", "image: nginx:1.22");
    let difference = stdin(&["diff"], &changed)?;
    assert!(!difference.success);
    in_order(&difference.stdout, &["-      - image: nginx\n", "+      - image: nginx:1.22\n"]);
    assert_eq!(stdin(&["replace"], &changed)?.ok(), "deployment.apps/my-nginx replaced\n");
    assert_eq!(stdin(&["diff"], &changed)?.ok(), "");
    let uid = field(cluster, "deploy/my-nginx", ".metadata.uid")?;
    let replaced = stdin(&["replace", "--force"], &changed)?.ok();
    in_order(&replaced, &["deployment.apps \"my-nginx\" deleted", "deployment.apps/my-nginx replaced"]);
    assert_ne!(field(cluster, "deploy/my-nginx", ".metadata.uid")?, uid);
    // An update from an old reading does not overwrite a newer one.
    let old = cluster.kubectl(&["get", "deploy", "my-nginx", "-o", "yaml"])?.ok();
    cluster.kubectl(&["label", "deploy", "my-nginx", "a=b"])?.ok();
    let conflict = stdin(&["replace"], &old)?.error();
    in_order(
        &conflict,
        &[
            "Error from server (Conflict)",
            "Operation cannot be fulfilled on deployments.apps \"my-nginx\"",
            "the object has been modified; please apply your changes to the latest version and try again",
        ],
    );
    let unknown = stdin(&["replace"], &changed.replace("name: my-nginx\nspec", "name: nobody\nspec"))?.error();
    in_order(&unknown, &["Error from server (NotFound)", "deployments.apps \"nobody\" not found"]);
    Ok(())
}

#[test]
fn objects_are_deleted_one_by_one_by_label_and_all() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        for (name, label) in [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")] {
            cluster.kubectl(&["create", "secret", "generic", name])?.ok();
            cluster.kubectl(&["label", "secret", name, &format!("kind={label}")])?.ok();
        }
        let delete = |arguments: &[&str]| cluster.kubectl(&[&["delete", "secret"], arguments].concat());
        let names = || -> Result<String> {
            Ok(cluster.kubectl(&["get", "secret", "-o", "jsonpath={.items[*].metadata.name}"])?.ok())
        };
        in_order(&delete(&["a"])?.ok(), &["secret \"a\" deleted"]);
        assert_eq!(names()?, "b c d");
        assert_eq!(delete(&["a"])?.error(), "Error from server (NotFound): secrets \"a\" not found\n");
        assert_eq!(delete(&["a", "--ignore-not-found"])?.ok(), "");
        in_order(&delete(&["-l", "kind=x"])?.ok(), &["secret \"b\" deleted"]);
        assert_eq!(names()?, "c d");
        in_order(&delete(&["--all"])?.ok(), &["secret \"c\" deleted", "secret \"d\" deleted"]);
        assert_eq!(names()?, "");
        assert_eq!(delete(&["--all"])?.ok(), "No resources found\n");

        // Services and pods are answered with, others with a Status.
        cluster.kubectl(&["create", "service", "clusterip", "gone", "--tcp=80"])?.ok();
        let address = field(cluster, "svc/gone", ".spec.clusterIP")?;
        let answer = cluster.kubectl(&["delete", "--raw", "/api/v1/namespaces/default/services/gone"])?.ok();
        let answer: Value = serde_json::from_str(&answer).context("JSON")?;
        assert_eq!((&answer["kind"], &answer["spec"]["clusterIP"]), (&json!("Service"), &json!(address)));
        // Its address is free again.
        let again = cluster.kubectl(&[
            "create",
            "service",
            "clusterip",
            "next",
            "--tcp=80",
            &format!("--clusterip={address}"),
        ])?;
        assert_eq!(again.ok(), "service/next created\n");
        cluster.kubectl(&["create", "configmap", "a"])?.ok();
        let answer = cluster.kubectl(&["delete", "--raw", "/api/v1/namespaces/default/configmaps/a"])?.ok();
        let answer: Value = serde_json::from_str(&answer).context("JSON")?;
        assert_eq!(
            (&answer["kind"], &answer["status"], &answer["details"]["name"]),
            (&json!("Status"), &json!("Success"), &json!("a"))
        );
        Ok(())
    }));
}
