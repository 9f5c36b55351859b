//! auth can-i, whoami and reconcile; roles and bindings; tokens of service accounts.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{Cluster, Options, eventually, must};

use crate::in_order;

#[test]
fn roles_and_tokens_say_who_may_do_what() {
    must(Cluster::start(Options::default()).and_then(|cluster| {
        asking(&cluster)?;
        granting(&cluster)?;
        tokens(&cluster)?;
        mounts(&cluster)?;
        nodes(&cluster)?;
        cluster.finish()
    }));
}

fn say(cluster: &Cluster, command: &str) -> Result<String> {
    Ok(cluster.kubectl(&command.split(' ').collect::<Vec<_>>())?.ok())
}

fn refused(cluster: &Cluster, command: &str) -> Result<String> {
    Ok(cluster.kubectl(&command.split(' ').collect::<Vec<_>>())?.error())
}

fn can(cluster: &Cluster, question: &str) -> Result<String> {
    let words: Vec<&str> = ["auth", "can-i"].into_iter().chain(question.split(' ')).collect();
    Ok(cluster.kubectl(&words)?.stdout.trim().to_owned())
}

fn asking(cluster: &Cluster) -> Result<()> {
    in_order(&say(cluster, "auth whoami")?, &["Username", "kubernetes-admin", "Groups", "system:masters"]);
    say(cluster, "create role reader --verb=get,list --resource=pods")?;
    say(cluster, "create rolebinding readers --role=reader --user=jane --serviceaccount=default:default")?;
    say(cluster, "create clusterrolebinding viewers --clusterrole=view --group=watchers")?;
    let table = [
        ("create pods", "yes"),
        ("get / --as jane", "no"),
        ("get /apis --as jane", "yes"),
        ("list pods --as jane", "yes"),
        ("list pods --as jane -n kube-system", "no"),
        ("delete pods --as jane", "no"),
        ("list services --as jane --as-group watchers -A", "yes"),
        ("list secrets --as jane --as-group watchers", "no"),
        ("list pods --as system:serviceaccount:default:default", "yes"),
        ("create pods --subresource=binding --as system:kube-scheduler", "yes"),
    ];
    for (question, expected) in table {
        // Rules come into force by event, a moment after they are written.
        eventually(question, || {
            let answer = can(cluster, question)?;
            ensure!(answer == expected, "{answer}");
            Ok(())
        });
    }
    in_order(&say(cluster, "auth can-i --list --as jane")?, &["pods", "[get list]"]);
    assert_eq!(
        refused(cluster, "get secrets --as jane")?,
        "Error from server (Forbidden): secrets is forbidden: User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"\n"
    );
    Ok(())
}

fn granting(cluster: &Cluster) -> Result<()> {
    say(cluster, "create rolebinding chiefs --clusterrole=admin --user=bob")?;
    eventually("bob is admin", || {
        ensure!(can(cluster, "create roles --as bob")? == "yes");
        Ok(())
    });
    let error = refused(cluster, "create rolebinding mine --clusterrole=cluster-admin --user=bob --as bob")?;
    in_order(
        &error,
        &[
            "rolebindings.rbac.authorization.k8s.io \"mine\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:",
            "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}",
        ],
    );
    say(cluster, "create role fine --verb=get --resource=pods --as bob")?;
    let manifest = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reader", "namespace": "default"},
        "rules": [{"verbs": ["watch"], "apiGroups": [""], "resources": ["pods"]}]});
    let path = cluster.write("role.json", &manifest.to_string())?;
    say(cluster, &format!("auth reconcile -f {path}"))?;
    let rules = cluster.object(&["role", "reader"])?;
    assert_eq!(rules["rules"].as_array().map(Vec::len), Some(2), "reconcile adds: {rules}");
    let error = refused(cluster, "patch rolebinding readers --type=merge -p {\"roleRef\":{\"name\":\"other\"}}")?;
    in_order(&error, &["roleRef: Invalid value:", "cannot change roleRef"]);
    Ok(())
}

fn tokens(cluster: &Cluster) -> Result<()> {
    account(cluster);
    let token = say(cluster, "create token default --duration=10m")?;
    let token = token.trim();
    let bearer = format!("Authorization: Bearer {token}");
    let status = |path: &str, header: &str| -> Result<String> {
        let url = format!("https://127.0.0.1:6443{path}");
        let write = "%{http_code}";
        Ok(cluster.node("curl", &["-sk", "-o", "/dev/null", "-w", write, "-H", header, &url])?.stdout)
    };
    assert_eq!(status("/api/v1/namespaces/default/pods", &bearer)?, "200");
    assert_eq!(status("/api/v1/namespaces/default/secrets", &bearer)?, "403");
    assert_eq!(status("/api/v1/namespaces/default/pods", "Authorization: Bearer nonsense")?, "401");
    let error = refused(cluster, "create token default --duration=1m")?;
    in_order(&error, &["spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"]);
    // A token ends with its account, though another of that name comes at once.
    say(cluster, "delete serviceaccount default")?;
    let code = status("/api/v1/namespaces/default/pods", &bearer)?;
    assert_eq!(code, "401");
    Ok(())
}

fn account(cluster: &Cluster) {
    eventually("the default account", || {
        ensure!(cluster.kubectl(&["get", "serviceaccount", "default"])?.success);
        Ok(())
    });
}

fn mounts(cluster: &Cluster) -> Result<()> {
    account(cluster);
    let dry = cluster.object(&["cm", "kube-root-ca.crt"])?;
    assert!(dry["data"]["ca.crt"].as_str().is_some_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE-----")));
    let made = cluster.kubectl(&["run", "p", "--image=none", "--dry-run=server", "-o", "json"])?.ok();
    let pod: serde_json::Value = serde_json::from_str(&made)?;
    let mount = &pod["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    let sources = &pod["spec"]["volumes"][0]["projected"]["sources"];
    assert_eq!(sources[0]["serviceAccountToken"], json!({"expirationSeconds": 3607, "path": "token"}));
    Ok(())
}

/// A node reads what its own pods take, and no more of it than that.
fn nodes(cluster: &Cluster) -> Result<()> {
    const NODE: &str = "--as system:node:one --as-group system:nodes";
    for name in ["mine", "other"] {
        say(cluster, &format!("create secret generic {name} --from-literal=a=b"))?;
    }
    let why = "no relationship found between node \"one\" and this object";
    in_order(&refused(cluster, &format!("get secret mine {NODE}"))?, &["(Forbidden)", why]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "takes"}, "spec": {"nodeName": "one",
        "containers": [{"name": "c", "image": "nothing", "imagePullPolicy": "Never",
            "envFrom": [{"secretRef": {"name": "mine"}}]}]}});
    cluster.apply(&pod.to_string())?;
    // At once: whoever sees the pod may read what it takes.
    in_order(&say(cluster, &format!("get secret mine {NODE}"))?, &["mine", "Opaque"]);
    in_order(&refused(cluster, &format!("get secret other {NODE}"))?, &["(Forbidden)", why]);
    in_order(&refused(cluster, &format!("get secrets {NODE}"))?, &["(Forbidden)"]);
    in_order(
        &refused(cluster, "get secret mine --as system:node:two --as-group system:nodes")?,
        &["(Forbidden)", "node \"two\" and this object"],
    );
    say(cluster, "delete pod takes --now")?;
    in_order(&refused(cluster, &format!("get secret mine {NODE}"))?, &["(Forbidden)", why]);
    Ok(())
}
