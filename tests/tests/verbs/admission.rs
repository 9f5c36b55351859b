//! What admission fills in, counts and refuses: limits, quotas, priorities, classes, the security of pods; and who takes
//! the finalizers off again that it puts on.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{Api, Cluster, Options, eventually, must, with_every_kubectl};

use crate::in_order;

fn say(cluster: &Cluster, command: &str) -> Result<String> {
    Ok(cluster.kubectl(&command.split(' ').collect::<Vec<_>>())?.ok())
}

fn account(cluster: &Cluster, namespace: &str) -> Result<()> {
    let found = cluster.kubectl(&["get", "sa", "default", "-n", namespace])?;
    ensure!(found.success, "{}", found.stderr);
    Ok(())
}

fn refused(cluster: &Cluster, manifest: &Value) -> Result<String> {
    Ok(cluster.kubectl_input(&["create", "-f", "-"], &manifest.to_string())?.error())
}

fn pod(namespace: &str, name: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = "c".into();
    container["image"] = "none.example/none".into();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name},
        "spec": {"containers": [container]}})
}

/// Made, with the account its pods run as.
fn namespace(cluster: &Cluster, name: &str) -> Result<()> {
    say(cluster, &format!("create namespace {name}"))?;
    eventually("it has its account", || account(cluster, name));
    Ok(())
}

#[test]
fn limits_are_filled_in_and_kept() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        namespace(cluster, "limited")?;
        cluster.apply(
            &json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"namespace": "limited", "name": "range"},
            "spec": {"limits": [{"type": "Container", "default": {"cpu": "200m"}, "max": {"cpu": "1"}},
                {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}})
            .to_string(),
        )?;
        cluster.apply(&pod("limited", "plain", json!({})).to_string())?;
        let made = cluster.object(&["pod", "plain", "-n", "limited"])?;
        assert_eq!(
            made["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "200m"}, "requests": {"cpu": "200m"}})
        );
        assert_eq!(
            made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
            "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
        );
        let big = pod("limited", "big", json!({"resources": {"limits": {"cpu": "2"}}}));
        in_order(
            &refused(cluster, &big)?,
            &["pods \"big\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"],
        );
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "limited", "name": "c"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
        in_order(
            &refused(cluster, &claim)?,
            &["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"],
        );
        in_order(
            &say(cluster, "describe limits range -n limited")?,
            &["Type", "Container", "cpu", "-", "1", "200m", "200m"],
        );
        say(cluster, "delete namespace limited --timeout=30s").map(drop)
    }));
}

/// Until the quota says this of itself.
fn used(cluster: &Cluster, name: &str, wanted: &Value) {
    eventually("what is used is told", || {
        let quota = cluster.object(&["quota", name, "-n", "q"])?;
        ensure!(quota["status"]["used"] == *wanted, "{}", quota["status"]);
        Ok(())
    });
}

#[test]
fn quotas_are_charged_told_and_given_back() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        namespace(cluster, "q")?;
        say(cluster, "create quota q -n q --hard=pods=2,cpu=1,services.nodeports=1,count/configmaps=3")?;
        // Every namespace has its authority's certificate in a ConfigMap.
        used(cluster, "q", &json!({"pods": "0", "cpu": "0", "services.nodeports": "0", "count/configmaps": "1"}));
        let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        in_order(
            &refused(cluster, &pod("q", "silent", json!({})))?,
            &["pods \"silent\" is forbidden: failed quota: q: must specify cpu for: c"],
        );
        cluster.apply(&pod("q", "one", asks("600m")).to_string())?;
        in_order(
            &refused(cluster, &pod("q", "two", asks("600m")))?,
            &["pods \"two\" is forbidden: exceeded quota: q, requested: cpu=600m, used: cpu=600m, limited: cpu=1"],
        );
        let dry = pod("q", "dry", asks("100m")).to_string();
        cluster.kubectl_input(&["create", "--dry-run=server", "-f", "-"], &dry)?.ok();
        // A name that is taken is not charged.
        refused(cluster, &pod("q", "one", asks("100m")))?;
        say(cluster, "create service nodeport open -n q --tcp=80")?;
        in_order(
            &cluster.kubectl(&["create", "service", "nodeport", "more", "-n", "q", "--tcp=80"])?.error(),
            &[
                "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1",
            ],
        );
        say(cluster, "create configmap a -n q")?;
        say(cluster, "create configmap b -n q")?;
        assert!(cluster.kubectl(&["create", "configmap", "c", "-n", "q"])?.error().contains("count/configmaps=1"));
        used(cluster, "q", &json!({"pods": "1", "cpu": "600m", "services.nodeports": "1", "count/configmaps": "3"}));
        in_order(
            &say(cluster, "describe quota q -n q")?,
            &["Resource", "Used", "Hard", "count/configmaps", "3", "3", "cpu", "600m", "1", "pods", "1", "2"],
        );
        // What goes, or weighs less, is free again.
        say(cluster, "delete configmap a -n q")?;
        say(cluster, "patch service open -n q --type=merge -p {\"spec\":{\"type\":\"ClusterIP\"}}")?;
        say(cluster, "delete pod one -n q --now")?;
        used(cluster, "q", &json!({"pods": "0", "cpu": "0", "services.nodeports": "0", "count/configmaps": "2"}));

        // A Deployment beyond its quota says why it has not what it wants.
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod("q", "x", asks("100m"))["spec"]});
        let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "q", "name": "web"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
        cluster.apply(&web.to_string())?;
        eventually("the Deployment tells of its failure", || {
            let web = cluster.object(&["deployment", "web", "-n", "q"])?;
            let conditions = web["status"]["conditions"].as_array().context("conditions")?;
            let failed = conditions.iter().find(|one| one["type"] == "ReplicaFailure").context("ReplicaFailure")?;
            ensure!(failed["status"] == "True" && failed["reason"] == "FailedCreate", "{failed}");
            let told = failed["message"].as_str().unwrap_or("");
            ensure!(told.contains("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"), "{told}");
            Ok(())
        });
        say(cluster, "delete namespace q --timeout=30s").map(drop)
    }));
}

#[test]
fn many_at_once_get_what_the_quota_has_and_no_more() {
    const MAKERS: usize = 8;
    const EACH: usize = 10;
    const ROOM: usize = 25;
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        namespace(&cluster, "q")?;
        say(&cluster, &format!("create quota q -n q --hard=count/secrets={ROOM}"))?;
        used(&cluster, "q", &json!({"count/secrets": "0"}));
        let api = Api::new(&cluster)?;
        let made = thread::scope(|scope| {
            let maker = |maker: usize| {
                let api = &api;
                scope.spawn(move || -> Result<usize> {
                    let mut made = 0;
                    for number in 0..EACH {
                        let name = format!("s-{maker}-{number}");
                        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
                        let reply = api.post("/api/v1/namespaces/q/secrets", &secret)?;
                        ensure!(matches!(reply.code, 201 | 403), "{}", reply.text);
                        made += usize::from(reply.code == 201);
                        // Some go again meanwhile, so that what is used is recounted while others are made.
                        if reply.code == 201 && number % 3 == 0 {
                            api.request("DELETE", &format!("/api/v1/namespaces/q/secrets/{name}"), &[], "")?;
                        }
                        let list = api.get("/api/v1/namespaces/q/secrets")?;
                        let count = list.body["items"].as_array().context("a list")?.len();
                        ensure!(count <= ROOM, "{count} of {ROOM}");
                    }
                    Ok(made)
                })
            };
            let makers: Vec<_> = (0..MAKERS).map(maker).collect();
            makers.into_iter().map(|maker| maker.join().expect("it does not panic")).sum::<Result<usize>>()
        })?;
        ensure!(made >= ROOM, "{made} were made");
        let left = api.get("/api/v1/namespaces/q/secrets")?.body["items"].as_array().context("a list")?.len();
        used(&cluster, "q", &json!({"count/secrets": left.to_string()}));
        cluster.finish()
    })());
}

#[test]
fn classes_are_assigned_and_storage_in_use_is_kept() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        namespace(cluster, "classes")?;
        say(cluster, "create priorityclass high --value=1000 --preemption-policy=Never")?;
        let mut high = pod("classes", "high", json!({}));
        high["spec"]["priorityClassName"] = "high".into();
        high["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
        cluster.apply(&high.to_string())?;
        let spec = cluster.object(&["pod", "high", "-n", "classes"])?["spec"].clone();
        assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(1000), &json!("Never")));
        high["metadata"]["name"] = "low".into();
        high["spec"]["priorityClassName"] = "low".into();
        in_order(&refused(cluster, &high)?, &["pods \"low\" is forbidden: no PriorityClass with name low was found"]);
        say(cluster, "create priorityclass everyone --value=5 --global-default")?;
        in_order(
            &cluster.kubectl(&["create", "priorityclass", "two", "--value=6", "--global-default"])?.error(),
            &["PriorityClass everyone is already marked as default. Only one default can exist"],
        );

        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "a.example/b",
            "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
        cluster.apply(&class.to_string())?;
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "classes", "name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        cluster.apply(&claim.to_string())?;
        let made = cluster.object(&["pvc", "data", "-n", "classes"])?;
        assert_eq!(made["spec"]["storageClassName"], "standard");
        assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));

        // The claim stays while a pod uses it, and goes with the pod.
        say(cluster, "delete pvc data -n classes --wait=false")?;
        in_order(&say(cluster, "get pvc data -n classes")?, &["data", "Terminating"]);
        say(cluster, "delete pod high -n classes --now")?;
        say(cluster, "wait --for=delete pvc/data -n classes --timeout=20s")?;
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp"}}});
        cluster.apply(&volume.to_string())?;
        assert_eq!(cluster.object(&["pv", "v"])?["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
        say(cluster, "delete pv v --timeout=20s")?;
        for object in ["priorityclass high everyone", "storageclass standard", "namespace classes"] {
            say(cluster, &format!("delete {object} --timeout=30s"))?;
        }
        Ok(())
    }));
}

#[test]
fn a_namespace_says_how_secure_its_pods_are() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        namespace(cluster, "strict")?;
        cluster.apply(&pod("strict", "before", json!({"securityContext": {"privileged": true}})).to_string())?;
        let warned = cluster.kubectl(&["label", "ns", "strict", "pod-security.kubernetes.io/enforce=restricted"])?;
        in_order(
            &warned.stderr,
            &[
                "Warning: existing pods in namespace \"strict\" violate the new PodSecurity enforce level \"restricted:latest\"",
                "Warning: before: privileged, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile",
            ],
        );
        warned.ok();
        in_order(
            &refused(cluster, &pod("strict", "after", json!({})))?,
            &[
                "pods \"after\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ],
        );
        let mut hardened = pod(
            "strict",
            "hardened",
            json!({"securityContext": {"allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}}}),
        );
        hardened["spec"]["securityContext"] =
            json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        cluster.apply(&hardened.to_string())?;
        in_order(
            &cluster
                .kubectl(&["label", "ns", "strict", "--overwrite", "pod-security.kubernetes.io/enforce=none"])?
                .error(),
            &["Invalid value: \"none\": must be one of privileged, baseline, restricted"],
        );
        say(cluster, "label ns strict pod-security.kubernetes.io/warn=baseline")?;
        let made = cluster.kubectl(&["create", "deployment", "web", "-n", "strict", "--image=none.example/none"])?;
        made.ok();
        say(cluster, "delete namespace strict --timeout=30s").map(drop)
    }));
}

#[test]
fn who_makes_by_updating_needs_to_be_let_make() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        say(&cluster, "create role changer --verb=get,patch,update --resource=configmaps,leases.coordination.k8s.io")?;
        say(&cluster, "create rolebinding changers --role=changer --user=jane")?;
        eventually("jane may change", || {
            let answer = cluster.kubectl(&["auth", "can-i", "patch", "configmaps", "--as", "jane"])?;
            ensure!(answer.stdout.trim() == "yes");
            Ok(())
        });
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "b"}});
        let apply = || cluster.kubectl_input(&["apply", "--server-side", "--as", "jane", "-f", "-"], &map.to_string());
        in_order(&apply()?.error(), &["configmaps \"m\" is forbidden"]);
        say(&cluster, "create configmap m")?;
        apply()?.ok();
        let lease =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}}).to_string();
        let api = Api::new(&cluster)?;
        let put = |who: &[&str]| {
            let headers: Vec<&str> = [&["Content-Type: application/json"], who].concat();
            api.request("PUT", "/apis/coordination.k8s.io/v1/namespaces/default/leases/l", &headers, &lease)
        };
        assert_eq!(put(&["Impersonate-User: jane"])?.code, 403);
        assert_eq!(put(&[])?.code, 201);
        // By now it is an update, and refused for another reason: it names no resourceVersion.
        assert_eq!(put(&["Impersonate-User: jane"])?.code, 422);
        cluster.finish()
    })());
}
