//! auth, certificates and tokens.

use anyhow::{Result, ensure};
use tests::{Cluster, Options, eventually, must};

use crate::{each_kubectl, field, in_order, refused, say};

#[test]
fn rights_are_asked_for_and_granted() {
    must(each_kubectl(&Options::default(), |cluster, minor| {
        roles(cluster)?;
        certificates(cluster)?;
        if minor >= 28 {
            in_order(&say(cluster, "auth whoami")?, &["Username", "kubernetes-admin", "system:masters"]);
        }
        if minor >= 24 {
            say(cluster, "create serviceaccount robot")?;
            ensure!(say(cluster, "create token robot")?.split('.').count() == 3);
        }
        Ok(())
    }));
}

fn roles(cluster: &Cluster) -> Result<()> {
    assert_eq!(say(cluster, "auth can-i create pods")?, "yes\n");
    in_order(&say(cluster, "auth can-i --list")?, &["Resources", "Verbs", "*.*", "[*]"]);
    say(cluster, "create role reader --verb=get,list --resource=pods,pods/log")?;
    say(cluster, "create rolebinding readers --role=reader --user=jane")?;
    say(cluster, "create clusterrole lister --verb=list --resource=nodes")?;
    say(cluster, "create clusterrolebinding listers --clusterrole=lister --group=watchers")?;
    for (question, answer) in [
        ("list pods --as=jane", "yes"),
        ("get pods --subresource=log --as=jane", "yes"),
        ("delete pods --as=jane", "no"),
        ("list nodes --as=jane --as-group=watchers", "yes"),
    ] {
        // Rules come into force by event, a moment after they are written.
        eventually(question, || {
            let words: Vec<&str> = ["auth", "can-i"].into_iter().chain(question.split(' ')).collect();
            let said = cluster.kubectl(&words)?.stdout;
            ensure!(said.trim() == answer, "{said}");
            Ok(())
        });
    }
    in_order(&say(cluster, "auth can-i --list --as=jane")?, &["pods", "[get list]"]);
    let error = refused(cluster, "delete pod x --as=jane")?;
    in_order(
        &error,
        &["Error from server (Forbidden): pods \"x\" is forbidden: User \"jane\" cannot delete resource \"pods\""],
    );
    let manifest = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: default}\n\
                    rules: [{verbs: [watch], apiGroups: [''], resources: [pods]}]\n";
    let file = cluster.write("role.yaml", manifest)?;
    in_order(
        &say(cluster, &format!("auth reconcile -f {file}"))?,
        &["role.rbac.authorization.k8s.io/reader reconciled"],
    );
    ensure!(field(cluster, "role/reader", ".rules[*].verbs")?.contains("watch"));
    ensure!(field(cluster, "role/reader", ".rules[*].verbs")?.contains("list"), "reconcile takes nothing away");
    Ok(())
}

fn certificates(cluster: &Cluster) -> Result<()> {
    let (key, request) = (cluster.write("user.key", "")?, cluster.write("user.csr", "")?);
    let subject = ["-subj", "/CN=jill/O=people", "-keyout", &key, "-out", &request];
    cluster.node("openssl", &[&["req", "-new", "-newkey", "rsa:2048", "-nodes"][..], &subject].concat())?.ok();
    let encoded = cluster.node("base64", &["-w0", &request])?.ok();
    for name in ["jill", "jack"] {
        let manifest = format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\nspec:\n  \
             request: {encoded}\n  signerName: kubernetes.io/kube-apiserver-client\n  usages: [client auth]\n"
        );
        cluster.apply(&manifest)?;
    }
    in_order(
        &say(cluster, "get csr jill --no-headers")?,
        &["jill", "kubernetes.io/kube-apiserver-client", "kubernetes-admin", "Pending"],
    );
    in_order(
        &say(cluster, "certificate approve jill")?,
        &["certificatesigningrequest.certificates.k8s.io/jill approved"],
    );
    in_order(&say(cluster, "certificate deny jack")?, &["certificatesigningrequest.certificates.k8s.io/jack denied"]);
    in_order(&say(cluster, "get csr jill --no-headers")?, &["Approved"]);
    in_order(&say(cluster, "get csr jack --no-headers")?, &["Denied"]);
    in_order(
        &say(cluster, "describe csr jill")?,
        &["Name:", "jill", "Requesting User:", "kubernetes-admin", "Status:", "Approved", "Common Name:", "jill"],
    );
    let error = refused(cluster, "certificate approve nobody")?;
    in_order(&error, &["certificatesigningrequests.certificates.k8s.io \"nobody\" not found"]);
    Ok(())
}
