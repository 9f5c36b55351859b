//! The tutorial "Connecting Applications with Services" from "Securing the Service" to its end, on two nodes.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use tests::{Cluster, Options, eventually, must, repository, run};

/// As `openssl req -x509 -subj /CN=my-nginx/O=my-nginx` makes it: without further names.
fn key_pair(cluster: &Cluster) -> Result<(String, String)> {
    let key = KeyPair::generate().context("a key")?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "my-nginx");
    params.distinguished_name.push(DnType::OrganizationName, "my-nginx");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).context("a certificate")?;
    Ok((cluster.write("nginx.key", &key.serialize_pem())?, cluster.write("nginx.crt", &certificate.pem())?))
}

fn example(name: &str) -> String {
    repository().join("examples").join(name).to_string_lossy().into_owned()
}

/// Asked from a node.
fn answers(cluster: &Cluster, url: &str) -> Result<()> {
    let namespace = format!("--net=/run/netns/{}", cluster.nodes()?[0].namespace);
    let page = run("nsenter", &[&namespace, "curl", "-sS", "-k", "--max-time", "5", url])?;
    ensure!(page.contains("<title>Welcome to nginx!</title>"), "{url}: {page}");
    Ok(())
}

#[test]
fn a_service_is_secured_and_exposed() {
    must((|| {
        // The node's address for the outside is one of its own here.
        let arguments = ["--node-external-ip", "172.31.7.11"].map(str::to_owned).to_vec();
        let images = vec!["nginx", "curl"];
        let cluster = Cluster::start(Options { nodes: 2, arguments, images, ..Options::default() })?;
        secrets_and_configuration(&cluster)?;
        cluster.kubectl(&["create", "-f", &example("nginx-secure-app.yaml")])?.ok();
        cluster.rolled_out("my-nginx")?;
        let ip = *cluster.pods("run=my-nginx")?.values().next().context("a pod")?;
        answers(&cluster, &format!("https://{ip}"))?;

        // By its name, verified, from a pod that mounts the certificate.
        cluster.kubectl(&["apply", "-f", &example("curlpod.yaml")])?.ok();
        cluster.rolled_out("curl-deployment")?;
        let client = cluster.pods("app=curlpod")?.into_keys().next().context("a client")?;
        let fetch = ["exec", &client, "--", "curl", "-sS", "https://my-nginx", "--cacert", "/etc/nginx/ssl/tls.crt"];
        let page = cluster.kubectl(&fetch)?.ok();
        ensure!(page.contains("<title>Welcome to nginx!</title>"), "{page}");

        exposed(&cluster)?;
        cluster.finish()
    })());
}

fn secrets_and_configuration(cluster: &Cluster) -> Result<()> {
    let (key, certificate) = key_pair(cluster)?;
    let made =
        cluster.kubectl(&["create", "secret", "tls", "nginxsecret", "--key", &key, "--cert", &certificate])?.ok();
    assert_eq!(made, "secret/nginxsecret created\n");
    let listed = cluster.kubectl(&["get", "secrets"])?.ok();
    ensure!(listed.contains("nginxsecret   kubernetes.io/tls   2"), "{listed}");
    let config = format!("--from-file={}", example("default.conf"));
    let made = cluster.kubectl(&["create", "configmap", "nginxconfigmap", &config])?.ok();
    assert_eq!(made, "configmap/nginxconfigmap created\n");
    let described = cluster.kubectl(&["describe", "configmap", "nginxconfigmap"])?.ok();
    ensure!(described.contains("default.conf:\n----\nserver {"), "{described}");
    Ok(())
}

/// By a node port, then by a load balancer.
fn exposed(cluster: &Cluster) -> Result<()> {
    let service = cluster.object(&["service", "my-nginx"])?;
    let ports = service["spec"]["ports"].as_array().context("ports")?;
    let https = ports.iter().find(|port| port["name"] == "https").context("a port named https")?;
    let port = https["nodePort"].as_u64().context("a node port")?;
    let template = "jsonpath={.items[*].status.addresses[?(@.type==\"ExternalIP\")].address}";
    let external = cluster.kubectl(&["get", "nodes", "-o", template])?.ok();
    let external: IpAddr = external.trim().parse().with_context(|| format!("{external:?}"))?;
    let outside = |url: &str| -> Result<()> {
        let page = cluster.outside("curl", &["-sS", "-k", "--max-time", "5", url])?;
        ensure!(page.success && page.stdout.contains("<title>Welcome to nginx!</title>"), "{url}: {page:?}");
        Ok(())
    };
    eventually("the node port", || outside(&format!("https://{external}:{port}")));

    // What `kubectl edit` comes down to.
    cluster.kubectl(&["patch", "service", "my-nginx", "-p", r#"{"spec": {"type": "LoadBalancer"}}"#])?.ok();
    eventually("an external address", || {
        let shown = cluster.kubectl(&["get", "service", "my-nginx"])?.ok();
        ensure!(shown.contains("LoadBalancer") && shown.contains(&external.to_string()), "{shown}");
        Ok(())
    });
    eventually("the load balancer", || outside(&format!("https://{}", SocketAddr::new(external, 443))));
    Ok(())
}
