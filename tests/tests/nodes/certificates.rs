//! A node's certificates are replaced while they are in use.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use tests::{Cluster, Node, Options, eventually, must};

use crate::one_on_each;

/// What the node's next certificates will not have: they live for a year.
const SHORT: Duration = Duration::from_secs(25);

/// As the cluster's authority would have issued them, but for their end.
fn short_lived(cluster: &Cluster, node: &Node, tls: &Path) -> Result<SystemTime> {
    let of_authority = |name: &str| std::fs::read_to_string(cluster.data_dir().join("n1/tls").join(name));
    let key = KeyPair::from_pem(&of_authority("ca.key")?).context("the authority's key")?;
    let authority = Issuer::from_ca_cert_pem(&of_authority("ca.crt")?, key).context("the authority")?;
    let begin = SystemTime::now();
    for (file, usage) in [
        ("node-client.pem", ExtendedKeyUsagePurpose::ClientAuth),
        ("node-serving.pem", ExtendedKeyUsagePurpose::ServerAuth),
    ] {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", node.name));
        let name = SanType::DnsName(node.name.as_str().try_into()?);
        params.subject_alt_names = node.addresses.iter().map(|ip| SanType::IpAddress(*ip)).chain([name]).collect();
        params.extended_key_usages = vec![usage];
        (params.not_before, params.not_after) = (begin.into(), (begin + SHORT).into());
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        std::fs::write(tls.join(file), certificate.pem() + &key.serialize_pem())?;
    }
    Ok(begin + SHORT)
}

/// Whether the certificate holds for another day.
fn holds(cluster: &Cluster, pem: &Path) -> Result<bool> {
    let path = pem.display().to_string();
    Ok(cluster.node("openssl", &["x509", "-in", &path, "-noout", "-checkend", "86400"])?.success)
}

/// Whether the one that the node shows does.
fn shown_holds(cluster: &Cluster, node: &Node) -> Result<bool> {
    let connect = format!("openssl s_client -connect {}:10250 </dev/null 2>/dev/null", node.address());
    let check = format!("{connect} | openssl x509 -noout -checkend 86400");
    Ok(cluster.node("sh", &["-c", &check])?.success)
}

fn answers(cluster: &Cluster) -> Result<()> {
    let answer = cluster.kubectl(&["exec", "echo-n2", "--", "hostname"])?;
    ensure!(answer.success && answer.stdout.trim() == "echo-n2", "{answer:?}");
    Ok(())
}

#[test]
fn a_node_replaces_its_certificates_in_time_and_goes_on() {
    must((|| {
        let cluster = Cluster::start(Options { nodes: 2, ..Options::tutorial() })?;
        one_on_each(&cluster)?;
        let node = cluster.nodes()?.into_iter().find(|node| node.name == "n2").context("n2")?;
        let tls = cluster.data_dir().join("n2/tls");
        let mut end = None;
        cluster.restart_node(&node, |_| {
            end = Some(short_lived(&cluster, &node, &tls)?);
            Ok(())
        })?;
        let end = end.context("an end")?;
        eventually("the node answers with what it was given", || answers(&cluster));
        ensure!(!shown_holds(&cluster, &node)?, "the short one is not the one that is shown");
        let files = ["node-client.pem", "node-serving.pem"].map(|file| (file, tls.join(file)));
        for (file, path) in &files {
            ensure!(!holds(&cluster, path)?, "{file} was replaced before its time");
        }
        for (file, path) in &files {
            eventually(file, || {
                ensure!(holds(&cluster, path)?, "{file} ends soon");
                Ok(())
            });
            ensure!(SystemTime::now() < end, "{file} was replaced after its end");
        }
        // Until the old ones are of no use to anybody: that is the point.
        std::thread::sleep(end.duration_since(SystemTime::now()).unwrap_or_default());
        ensure!(shown_holds(&cluster, &node)?, "the node shows what has ended");
        answers(&cluster)?;
        let renewed = |cluster: &Cluster| -> Result<String> {
            let lease = cluster.object(&["lease", "n2", "-n", "kube-node-lease"])?;
            Ok(lease["spec"]["renewTime"].as_str().context("a renewal")?.to_owned())
        };
        let last = renewed(&cluster)?;
        eventually("the node is heard of after the old end", || {
            ensure!(renewed(&cluster)? != last, "silent");
            Ok(())
        });
        cluster.kubectl(&["wait", "--for=condition=Ready", "node/n2", "--timeout=5s"])?.ok();
        let pod = cluster.object(&["pod", "echo-n2"])?;
        ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{pod:#}");
        // And what it was told since then is done by who it is now.
        cluster.kubectl(&["delete", "pod", "echo-n2"])?.ok();
        cluster.finish()
    })());
}
