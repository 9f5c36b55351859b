//! get, describe, explain, and what the server says about itself.

use anyhow::{Context, Result};
use tests::{Cluster, Options, eventually, must, with_every_kubectl};

use crate::{headings, in_order};

/// One object of every kind.
fn populate(cluster: &Cluster) -> Result<()> {
    cluster.run_my_nginx()?;
    cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
    let pods = cluster.pods("run=my-nginx")?.into_values().collect();
    eventually("the endpoints", || cluster.endpoints_are("my-nginx", &pods));
    cluster.kubectl(&["create", "configmap", "settings", "--from-literal=color=red", "--from-literal=size=10"])?.ok();
    cluster.kubectl(&["create", "secret", "generic", "password", "--from-literal=word=secret"])?.ok();
    Ok(())
}

#[test]
fn every_kind_is_listed_in_its_own_columns() {
    must(with_every_kubectl(&Options::tutorial(), |cluster| {
        populate(cluster)?;
        columns(cluster)?;
        selections(cluster)?;
        forms(cluster)
    }));
}

fn columns(cluster: &Cluster) -> Result<()> {
    let table: [(&str, &[&str], &[&str]); 13] = [
        ("pods", &["NAME", "READY", "STATUS", "RESTARTS", "AGE"], &["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]),
        ("deployments", &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"], &["CONTAINERS", "IMAGES", "SELECTOR"]),
        ("replicasets", &["NAME", "DESIRED", "CURRENT", "READY", "AGE"], &["CONTAINERS", "IMAGES", "SELECTOR"]),
        ("services", &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"], &["SELECTOR"]),
        ("endpoints", &["NAME", "ENDPOINTS", "AGE"], &[]),
        ("endpointslices", &["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"], &[]),
        ("configmaps", &["NAME", "DATA", "AGE"], &[]),
        ("secrets", &["NAME", "TYPE", "DATA", "AGE"], &[]),
        ("serviceaccounts", &["NAME", "SECRETS", "AGE"], &[]),
        ("namespaces", &["NAME", "STATUS", "AGE"], &[]),
        (
            "nodes",
            &["NAME", "STATUS", "ROLES", "AGE", "VERSION"],
            &["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"],
        ),
        ("events", &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"], &[]),
        ("leases", &["NAME", "HOLDER", "AGE"], &[]),
    ];
    for (kind, narrow, wide) in table {
        let namespace = if kind == "leases" { "kube-node-lease" } else { "default" };
        let listed = cluster.kubectl(&["get", kind, "-n", namespace])?.ok();
        assert_eq!(headings(&listed), narrow, "{kind}");
        assert!(listed.lines().count() > 1, "no {kind}");
        let listed = cluster.kubectl(&["get", kind, "-n", namespace, "-o", "wide"])?.ok();
        let all = [narrow, wide].concat();
        if kind == "events" {
            let expected = [
                "LAST SEEN",
                "TYPE",
                "REASON",
                "OBJECT",
                "SUBOBJECT",
                "SOURCE",
                "MESSAGE",
                "FIRST SEEN",
                "COUNT",
                "NAME",
            ];
            assert_eq!(headings(&listed), expected);
        } else {
            assert_eq!(headings(&listed), all, "{kind} -o wide");
        }
    }
    let secret = cluster.kubectl(&["get", "secret", "password", "--no-headers"])?.ok();
    assert_eq!(secret.split_whitespace().take(3).collect::<Vec<_>>(), ["password", "Opaque", "1"]);
    let settings = cluster.kubectl(&["get", "cm", "settings", "--no-headers"])?.ok();
    assert_eq!(settings.split_whitespace().take(2).collect::<Vec<_>>(), ["settings", "2"]);
    let node = cluster.kubectl(&["get", "node", "one", "--no-headers"])?.ok();
    in_order(&node, &["one", "Ready", "<none>", "v1.36"]);
    Ok(())
}

fn selections(cluster: &Cluster) -> Result<()> {
    let names = |arguments: &[&str]| -> Result<Vec<String>> {
        let listed = cluster.kubectl(&[&["get", "-o", "name"], arguments].concat())?.ok();
        Ok(listed.lines().map(str::to_owned).collect())
    };
    let pods = names(&["pods"])?;
    assert_eq!(pods.len(), 2);
    for selector in ["run=my-nginx", "run==my-nginx", "run in (my-nginx,other)", "run", "run!=other", "!other"] {
        assert_eq!(names(&["pods", "-l", selector])?, pods, "{selector}");
    }
    assert!(names(&["pods", "-l", "run notin (my-nginx)"])?.is_empty());
    for selector in ["status.phase=Running", "spec.nodeName=one", "metadata.namespace=default"] {
        assert_eq!(names(&["pods", "--field-selector", selector])?, pods, "{selector}");
    }
    assert!(names(&["pods", "--field-selector", "status.phase=Pending"])?.is_empty());
    assert_eq!(names(&["pods", "-A"])?, pods);
    assert_eq!(names(&["pods", "--chunk-size=1"])?, pods);
    assert_eq!(names(&["deploy/my-nginx", "svc/my-nginx"])?, ["deployment.apps/my-nginx", "service/my-nginx"]);
    assert_eq!(names(&["svc", "--sort-by=.spec.clusterIP"])?.first().map(String::as_str), Some("service/kubernetes"));

    let all = cluster.kubectl(&["get", "all"])?.ok();
    in_order(
        &all,
        &[
            "pod/my-nginx-",
            "service/kubernetes",
            "service/my-nginx",
            "deployment.apps/my-nginx",
            "replicaset.apps/my-nginx-",
        ],
    );
    let labels = cluster.kubectl(&["get", "pods", "-L", "run", "--show-labels"])?.ok();
    assert_eq!(headings(&labels)[5..], ["RUN", "LABELS"]);
    in_order(&labels, &["my-nginx ", "pod-template-hash=", ",run=my-nginx"]);

    let missing = cluster.kubectl(&["get", "pod", "nobody"])?;
    assert_eq!(missing.error(), "Error from server (NotFound): pods \"nobody\" not found\n");
    let ignored = cluster.kubectl(&["get", "pod", "nobody", "--ignore-not-found"])?;
    assert_eq!(ignored.ok(), "");
    let unknown = cluster.kubectl(&["get", "gadgets"])?;
    assert_eq!(unknown.error(), "error: the server doesn't have a resource type \"gadgets\"\n");
    let empty = cluster.kubectl(&["get", "pods", "-n", "kube-public"])?;
    assert_eq!(empty.stderr, "No resources found in kube-public namespace.\n");
    Ok(())
}

fn forms(cluster: &Cluster) -> Result<()> {
    let get = |form: &str| -> Result<String> { Ok(cluster.kubectl(&["get", "deploy", "my-nginx", "-o", form])?.ok()) };
    assert_eq!(get("jsonpath={.spec.template.spec.containers[*].image}")?, "nginx");
    assert_eq!(get("go-template={{.spec.replicas}}")?, "2");
    assert_eq!(get("custom-columns=N:.metadata.name,R:.status.readyReplicas")?, "N          R\nmy-nginx   2\n");
    assert_eq!(
        get("jsonpath-as-json={.spec.selector}")?.split_whitespace().collect::<String>(),
        r#"[{"matchLabels":{"run":"my-nginx"}}]"#
    );
    let yaml = get("yaml")?;
    in_order(
        &yaml,
        &[
            "apiVersion: apps/v1\nkind: Deployment\n",
            "deployment.kubernetes.io/revision: \"1\"",
            "progressDeadlineSeconds: 600",
            "revisionHistoryLimit: 10",
            "maxSurge: 25%",
            "type: RollingUpdate",
            "imagePullPolicy: Always",
            "dnsPolicy: ClusterFirst",
            "schedulerName: default-scheduler",
            "type: Available",
        ],
    );
    // What was read is accepted back, and changes nothing.
    let before = cluster.object(&["deploy", "my-nginx"])?;
    assert_eq!(cluster.kubectl_input(&["replace", "-f", "-"], &yaml)?.ok(), "deployment.apps/my-nginx replaced\n");
    let after = cluster.object(&["deploy", "my-nginx"])?;
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
    assert_eq!(before["spec"], after["spec"]);

    let mut watch = cluster.session(&["get", "configmaps", "-w", "--output-watch-events"])?;
    watch.expect("ADDED      settings")?;
    cluster.kubectl(&["label", "cm", "settings", "seen=yes"])?.ok();
    watch.expect("MODIFIED   settings")?;
    cluster.kubectl(&["delete", "cm", "settings"])?.ok();
    watch.expect("DELETED    settings")?;
    Ok(())
}

#[test]
fn every_kind_is_described() {
    must(with_every_kubectl(&Options::tutorial(), |cluster| {
        populate(cluster)?;
        let pod = cluster.kubectl(&["get", "pods", "-o", "name"])?.ok();
        let pod = pod.lines().next().context("a pod")?;
        let ip = cluster.kubectl(&["get", pod, "-o", "jsonpath={.status.podIP}"])?.ok();
        let slice = cluster
            .kubectl(&["get", "endpointslices", "-l", "kubernetes.io/service-name=my-nginx", "-o", "name"])?
            .ok();
        let slice = slice.trim();
        let endpoint = format!("{ip}:80");
        let table: [(&str, &[&str]); 13] = [
            (
                pod,
                &[
                    "Node:             one/198.51.100.10",
                    "Status:           Running",
                    &ip,
                    "Controlled By:  ReplicaSet/my-nginx-",
                    "Image:          nginx",
                    "Port:           80/TCP",
                    "State:          Running",
                    "Ready:          True",
                    "Restart Count:  0",
                    "Conditions:",
                    "Ready",
                    "True",
                    "QoS Class:",
                    "BestEffort",
                    "Events:",
                    "Scheduled",
                    "default-scheduler",
                    "Successfully assigned default/my-nginx-",
                    "Started",
                    "kubelet",
                ],
            ),
            (
                "deployment/my-nginx",
                &[
                    "Selector:               run=my-nginx",
                    "2 desired | 2 updated | 2 total | 2 available | 0 unavailable",
                    "25% max unavailable, 25% max surge",
                    "Available",
                    "MinimumReplicasAvailable",
                    "Progressing",
                    "NewReplicaSetAvailable",
                    "NewReplicaSet:   my-nginx-",
                    "ScalingReplicaSet",
                    "Scaled up replica set my-nginx-",
                ],
            ),
            (
                "rs",
                &[
                    "Controlled By:  Deployment/my-nginx",
                    "2 current / 2 desired",
                    "2 Running / 0 Waiting",
                    "SuccessfulCreate",
                ],
            ),
            (
                "svc/my-nginx",
                &[
                    "Selector:                 run=my-nginx",
                    "Type:                     ClusterIP",
                    "IP Families:              IPv4",
                    "IP:                       10.43.",
                    "80/TCP",
                    "TargetPort:               80/TCP",
                    "Endpoints:",
                    &endpoint,
                    "Session Affinity:         None",
                ],
            ),
            ("endpoints/my-nginx", &["Subsets:", "Addresses:", &ip, "NotReadyAddresses:  <none>", "80    TCP"]),
            (
                slice,
                &[
                    "AddressType:  IPv4",
                    "80    TCP",
                    "Addresses:",
                    "Ready:    true",
                    "TargetRef:  Pod/my-nginx-",
                    "NodeName:   one",
                ],
            ),
            // Its data comes in no order.
            ("cm/settings", &["Data\n====", "color:\n----\nred"]),
            ("cm/settings", &["Data\n====", "size:\n----\n10"]),
            ("secret/password", &["Type:  Opaque", "word:  6 bytes"]),
            ("sa/default", &["Name:                default"]),
            ("ns/default", &["kubernetes.io/metadata.name=default", "Status:       Active"]),
            (
                "node/one",
                &[
                    "kubernetes.io/hostname=one",
                    "Unschedulable:      false",
                    "Lease:",
                    "HolderIdentity:  one",
                    "Ready            True",
                    "InternalIP:  198.51.100.10",
                    "Capacity:",
                    "pods:               110",
                    "Non-terminated Pods:          (2 in total)",
                ],
            ),
            ("events", &["Involved Object:", "Reason:", "Type:"]),
        ];
        for (what, needles) in table {
            in_order(&cluster.kubectl(&["describe", what])?.ok(), needles);
        }
        let lease = cluster.kubectl(&["describe", "lease", "one", "-n", "kube-node-lease"])?.ok();
        in_order(&lease, &["Kind:         Lease", "Holder Identity:", "one", "Renew Time:"]);
        let missing = cluster.kubectl(&["describe", "pod", "nobody"])?;
        assert_eq!(missing.error(), "Error from server (NotFound): pods \"nobody\" not found\n");
        Ok(())
    }));
}

#[test]
fn the_server_says_what_it_serves() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        let resources = cluster.kubectl(&["api-resources", "--no-headers"])?.ok();
        let rows: Vec<Vec<&str>> = resources.lines().map(|line| line.split_whitespace().collect()).collect();
        for expected in [
            &["configmaps", "cm", "v1", "true", "ConfigMap"][..],
            &["endpoints", "ep", "v1", "true", "Endpoints"],
            &["events", "ev", "v1", "true", "Event"],
            &["namespaces", "ns", "v1", "false", "Namespace"],
            &["nodes", "no", "v1", "false", "Node"],
            &["pods", "po", "v1", "true", "Pod"],
            &["secrets", "v1", "true", "Secret"],
            &["serviceaccounts", "sa", "v1", "true", "ServiceAccount"],
            &["services", "svc", "v1", "true", "Service"],
            &["deployments", "deploy", "apps/v1", "true", "Deployment"],
            &["replicasets", "rs", "apps/v1", "true", "ReplicaSet"],
            &["leases", "coordination.k8s.io/v1", "true", "Lease"],
            &["endpointslices", "discovery.k8s.io/v1", "true", "EndpointSlice"],
        ] {
            assert!(rows.iter().any(|row| row == expected), "{expected:?} is missing:\n{resources}");
        }
        let apps = cluster.kubectl(&["api-resources", "--api-group=apps", "-o", "name"])?.ok();
        assert_eq!(
            apps,
            "controllerrevisions.apps\ndaemonsets.apps\ndeployments.apps\nreplicasets.apps\nstatefulsets.apps\n"
        );
        let wide = cluster.kubectl(&["api-resources", "--namespaced=false", "-o", "wide"])?.ok();
        in_order(&wide, &["VERBS", "namespaces", "create,delete,get,list,patch,update,watch", "nodes"]);
        let versions = cluster.kubectl(&["api-versions"])?.ok();
        in_order(&versions, &["apps/v1\n", "coordination.k8s.io/v1\n", "discovery.k8s.io/v1\n", "v1\n"]);

        let explained = cluster.kubectl(&["explain", "deployment.spec"])?.ok();
        in_order(
            &explained,
            &[
                "GROUP:      apps",
                "KIND:       Deployment",
                "VERSION:    v1",
                "FIELD: spec <DeploymentSpec>",
                "minReadySeconds\t<integer>",
                "replicas\t<integer>",
                "selector\t<LabelSelector> -required-",
                "strategy\t<DeploymentStrategy>",
                "template\t<PodTemplateSpec> -required-",
            ],
        );
        let ports = cluster.kubectl(&["explain", "pod.spec.containers.ports"])?.ok();
        in_order(
            &ports,
            &[
                "FIELD: ports <[]ContainerPort>",
                "DESCRIPTION:",
                "containerPort\t<integer> -required-",
                "0 < x < 65536",
                "protocol\t<string>",
                "Must be UDP, TCP, or SCTP",
            ],
        );
        let tree = cluster.kubectl(&["explain", "service", "--recursive"])?.ok();
        in_order(
            &tree,
            &[
                "KIND:       Service",
                "metadata\t<ObjectMeta>",
                "    labels\t<map[string]string>",
                "spec\t<ServiceSpec>",
                "    ports\t<[]ServicePort>",
                "      targetPort\t<IntOrString>",
                "status\t<ServiceStatus>",
            ],
        );
        let unknown = cluster.kubectl(&["explain", "pod.spec.colour"])?;
        assert!(unknown.error().contains("field \"colour\" does not exist"));

        let version = cluster.kubectl(&["version"])?.ok();
        in_order(&version, &["Client Version: v1.", "Server Version: v1.36."]);
        let info = cluster.kubectl(&["cluster-info"])?.ok();
        in_order(&info, &["control plane", "is running at", "https://127.0.0.1:6443"]);
        assert_eq!(cluster.kubectl(&["get", "--raw", "/readyz"])?.ok(), "ok");
        let verbose = cluster.kubectl(&["get", "--raw", "/readyz?verbose"])?.ok();
        in_order(&verbose, &["[+]ping ok", "readyz check passed"]);
        Ok(())
    }));
}
