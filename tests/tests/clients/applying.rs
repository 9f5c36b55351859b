//! apply on both sides, prune, diff, patch, edit, replace.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Cluster, Options, eventually, must};

use crate::{each_kubectl, field, in_order, refused, say};

fn web(replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, labels: {{app: web}}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
         spec: {{containers: [{{name: web, image: nginx}}]}}\n"
    )
}

fn map(name: &str, data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: one}}}}\ndata: {{a: '{data}'}}\n"
    )
}

#[test]
fn objects_are_applied_changed_and_replaced() {
    must(each_kubectl(&Options::default(), |cluster, minor| {
        client_side(cluster)?;
        patches(cluster)?;
        edits(cluster)?;
        replacements(cluster)?;
        server_side(cluster, minor)?;
        taken_over(cluster, minor)
    }));
}

fn client_side(cluster: &Cluster) -> Result<()> {
    let (zero, paused) =
        (cluster.write("zero.yaml", &web(0))?, cluster.write("other.yaml", &(web(0) + "  paused: true\n"))?);
    let apply = |file: &str| say(cluster, &format!("apply -f {file}"));
    assert_eq!(apply(&zero)?, "deployment.apps/web created\n");
    assert_eq!(apply(&zero)?, "deployment.apps/web unchanged\n");
    let difference = cluster.kubectl(&["diff", "-f", &paused])?;
    assert_eq!(difference.code, Some(1), "{}", difference.stderr);
    in_order(&difference.stdout, &["+  paused: true"]);
    assert_eq!(cluster.kubectl(&["diff", "-f", &zero])?.code, Some(0));
    let dry = say(cluster, &format!("apply -f {paused} --dry-run=server"))?;
    assert_eq!(dry, "deployment.apps/web configured (server dry run)\n");
    assert_eq!(apply(&paused)?, "deployment.apps/web configured\n");
    assert_eq!(field(cluster, "deploy/web", ".spec.paused")?, "true");
    in_order(&say(cluster, "apply view-last-applied deploy/web")?, &["paused: true", "replicas: 0"]);
    // What is no longer in the file goes.
    assert_eq!(apply(&zero)?, "deployment.apps/web configured\n");
    assert_eq!(field(cluster, "deploy/web", ".spec.paused")?, "");
    let wrong = cluster.write("wrong.yaml", &web(0).replace("replicas: 0", "replicas: many"))?;
    let error = refused(cluster, &format!("apply -f {wrong}"))?;
    assert!(error.contains("replicas"), "{error}");
    Ok(())
}

fn patches(cluster: &Cluster) -> Result<()> {
    let patch = |kind: &str, patch: &str| cluster.kubectl(&["patch", "deploy", "web", "--type", kind, "-p", patch]);
    let patched = "deployment.apps/web patched\n";
    let sidecar = r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"busybox"}]}}}}"#;
    assert_eq!(patch("strategic", sidecar)?.ok(), patched);
    assert_eq!(field(cluster, "deploy/web", ".spec.template.spec.containers[*].name")?, "side web");
    assert_eq!(patch("merge", r#"{"spec":{"revisionHistoryLimit":3}}"#)?.ok(), patched);
    let remove = r#"[{"op":"test","path":"/spec/revisionHistoryLimit","value":3},{"op":"remove","path":"/spec/template/spec/containers/0"}]"#;
    assert_eq!(patch("json", remove)?.ok(), patched);
    assert_eq!(field(cluster, "deploy/web", ".spec.template.spec.containers[*].name")?, "web");
    let failed = patch("json", r#"[{"op":"test","path":"/spec/revisionHistoryLimit","value":4}]"#)?.error();
    // 1.20 does not say more.
    in_order(&failed, &["The request is invalid"]);
    Ok(())
}

/// kubectl edit with a program for an editor: exit code, standard output, standard error.
fn edit(cluster: &Cluster, variable: &str, editor: &str) -> Result<(bool, String, String)> {
    let mut command = cluster.kubectl_command(&["edit", "deploy", "web"]);
    command.env_remove("KUBE_EDITOR").env_remove("EDITOR").env(variable, editor);
    let output = command.stdin(std::process::Stdio::null()).output().context("kubectl edit")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

fn edits(cluster: &Cluster) -> Result<()> {
    let editor = |name: &str, script: &str| cluster.write(name, &format!("#!/bin/sh\nsed -i '{script}' \"$1\"\n"));
    let first = editor("first", r"s/^spec:/spec:\n  minReadySeconds: 1/")?;
    let second = editor("second", "s/minReadySeconds: 1/minReadySeconds: 2/")?;
    for (variable, script, seconds) in [("KUBE_EDITOR", first, "1"), ("EDITOR", second, "2")] {
        let (edited, said, cried) = edit(cluster, variable, &format!("sh {script}"))?;
        ensure!(edited && said == "deployment.apps/web edited\n", "{said}{cried}");
        assert_eq!(field(cluster, "deploy/web", ".spec.minReadySeconds")?, seconds);
    }
    let (_, said, cried) = edit(cluster, "KUBE_EDITOR", "true")?;
    ensure!((said + &cried).contains("no changes made"), "{cried}");
    // The server's refusal is shown in the editor again; an editor that leaves it so gives up.
    let script = editor("worse", "s/  minReadySeconds: 2/  minReadySeconds: -2/")?;
    let (edited, said, cried) = edit(cluster, "KUBE_EDITOR", &format!("sh {script}"))?;
    ensure!(!edited, "{said}{cried}");
    in_order(&cried, &["deployments.apps \"web\" is invalid", "A copy of your changes has been stored to"]);
    assert_eq!(field(cluster, "deploy/web", ".spec.minReadySeconds")?, "2");
    Ok(())
}

fn replacements(cluster: &Cluster) -> Result<()> {
    let file = cluster.write("replaced.yaml", &(web(0) + "  minReadySeconds: 7\n"))?;
    assert_eq!(say(cluster, &format!("replace -f {file}"))?, "deployment.apps/web replaced\n");
    assert_eq!(field(cluster, "deploy/web", ".spec.minReadySeconds")?, "7");
    let uid = field(cluster, "deploy/web", ".metadata.uid")?;
    let said = say(cluster, &format!("replace --force -f {file}"))?;
    in_order(&said, &["deployment.apps \"web\" deleted", "deployment.apps/web replaced"]);
    assert_ne!(field(cluster, "deploy/web", ".metadata.uid")?, uid);
    let old = say(cluster, "get deploy web -o yaml")?;
    say(cluster, "annotate deploy web note=new")?;
    let old = cluster.write("old.yaml", &old)?;
    let error = refused(cluster, &format!("replace -f {old}"))?;
    in_order(&error, &["Error from server (Conflict)", "the object has been modified"]);
    assert_eq!(
        say(cluster, &format!("delete -f {file}"))?.split_whitespace().take(3).collect::<Vec<_>>(),
        ["deployment.apps", "\"web\"", "deleted"]
    );
    Ok(())
}

fn managers(cluster: &Cluster, object: &str, minor: u32) -> Result<Vec<String>> {
    let shown: &[&str] = if minor < 21 { &[] } else { &["--show-managed-fields"] };
    let text = cluster.kubectl(&[&["get", object, "-o", "json"], shown].concat())?.ok();
    let object: Value = serde_json::from_str(&text).context("an object")?;
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    Ok(entries
        .map(|entry| {
            format!(
                "{} {}",
                entry["manager"].as_str().unwrap_or_default(),
                entry["operation"].as_str().unwrap_or_default()
            )
        })
        .collect())
}

fn server_side(cluster: &Cluster, minor: u32) -> Result<()> {
    let one = cluster.write("one.yaml", &map("one", "1"))?;
    let two = cluster.write("two.yaml", &map("one", "2"))?;
    let apply = |file: &str, more: &str| format!("apply --server-side -f {file} --field-manager={more}");
    assert_eq!(say(cluster, &apply(&one, "first"))?, "configmap/one serverside-applied\n");
    assert_eq!(managers(cluster, "cm/one", minor)?, ["first Apply"]);
    let error = refused(cluster, &apply(&two, "second"))?;
    in_order(&error, &["Apply failed with 1 conflict: conflict with \"first\"", ".data.a", "--force-conflicts"]);
    assert_eq!(say(cluster, &apply(&two, "second --force-conflicts"))?, "configmap/one serverside-applied\n");
    assert_eq!(field(cluster, "cm/one", ".data.a")?, "2");
    assert_eq!(managers(cluster, "cm/one", minor)?, ["first Apply", "second Apply"]);
    let difference = cluster.kubectl(&["diff", "--server-side", "--force-conflicts", "-f", &one])?;
    assert_eq!(difference.code, Some(1), "{}", difference.stderr);
    in_order(&difference.stdout, &["-  a: \"2\"", "+  a: \"1\""]);
    Ok(())
}

/// What apply made on the client's side, apply takes on the server's.
fn taken_over(cluster: &Cluster, minor: u32) -> Result<()> {
    let one = cluster.write("mine.yaml", &map("mine", "1"))?;
    let two = cluster.write("mine-2.yaml", &map("mine", "2"))?;
    say(cluster, &format!("apply -f {one}"))?;
    assert_eq!(managers(cluster, "cm/mine", minor)?, ["kubectl-client-side-apply Update"]);
    // Of this one manager the server knows that it is the same user.
    assert_eq!(say(cluster, &format!("apply --server-side -f {two}"))?, "configmap/mine serverside-applied\n");
    assert_eq!(field(cluster, "cm/mine", ".data.a")?, "2");
    let left = managers(cluster, "cm/mine", minor)?;
    assert!(left.contains(&"kubectl Apply".into()), "{left:?}");
    if minor >= 26 {
        // Since then kubectl hands all of its older manager's fields over.
        assert!(!left.contains(&"kubectl-client-side-apply Update".into()), "{left:?}");
        // And back.
        assert_eq!(say(cluster, &format!("apply -f {one}"))?, "configmap/mine configured\n");
        assert_eq!(field(cluster, "cm/mine", ".data.a")?, "1");
    }
    Ok(())
}

#[test]
fn what_is_no_longer_in_a_set_is_pruned() {
    must(each_kubectl(&Options::default(), |cluster, minor| {
        let both = cluster.write("both.yaml", &[map("a", "1"), map("b", "1")].join("---\n"))?;
        let only = cluster.write("only.yaml", &map("a", "1"))?;
        say(cluster, "create configmap bystander")?;
        say(cluster, "label configmap bystander set=one")?;
        // The default list of 1.20 has kinds that are gone.
        let allowed = if minor < 26 { "--prune-whitelist" } else { "--prune-allowlist" };
        let apply = |file: &str| format!("apply -f {file} --prune -l set=one {allowed}=core/v1/ConfigMap");
        in_order(&say(cluster, &apply(&both))?, &["configmap/a created", "configmap/b created"]);
        in_order(&say(cluster, &apply(&only))?, &["configmap/a unchanged", "configmap/b pruned"]);
        let left = say(cluster, "get configmaps -l set=one -o name")?;
        assert_eq!(left, "configmap/a\nconfigmap/bystander\n", "what apply did not make is not its own to prune");
        if minor >= 27 {
            apply_sets(cluster, &both, &only)?;
        }
        Ok(())
    }));
}

fn apply_sets(cluster: &Cluster, both: &str, only: &str) -> Result<()> {
    say(cluster, "create namespace sets")?;
    let apply = |file: &str| -> Result<String> {
        let mut command = cluster.kubectl_command(&["apply", "-n", "sets", "-f", file, "--prune", "--applyset=set"]);
        let output = command.env("KUBECTL_APPLYSET", "true").output().context("kubectl apply")?;
        let cried = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{cried}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    in_order(&apply(both)?, &["configmap/a created", "configmap/b created"]);
    let parent = cluster.object(&["secret", "set", "-n", "sets"])?;
    let annotations = &parent["metadata"]["annotations"];
    assert_eq!(annotations["applyset.kubernetes.io/contains-group-kinds"], "ConfigMap", "{annotations}");
    in_order(&apply(only)?, &["configmap/b pruned"]);
    eventually("b is gone", || {
        let left = say(cluster, "get configmaps -n sets -l applyset.kubernetes.io/part-of -o name")?;
        ensure!(left == "configmap/a\n", "{left}");
        Ok(())
    });
    Ok(())
}
