//! run, create, expose, set, scale, autoscale, rollout, label, annotate, delete.

use anyhow::{Result, ensure};
use tests::{Cluster, Options, eventually, must};

use crate::{each_kubectl, field, in_order, refused, say};

#[test]
fn a_workload_is_run_changed_and_deleted() {
    must(each_kubectl(&Options { images: vec!["busybox"], ..Options::default() }, |cluster, minor| {
        generators(cluster, minor)?;
        deployment(cluster)?;
        settings(cluster, minor)?;
        rollouts(cluster)?;
        deletions(cluster, minor)
    }));
}

/// What has a command of its own for making it.
fn generators(cluster: &Cluster, minor: u32) -> Result<()> {
    for (command, made) in [
        ("namespace n", "namespace/n"),
        ("serviceaccount s", "serviceaccount/s"),
        ("configmap c --from-literal=a=1", "configmap/c"),
        ("secret generic s --from-literal=a=1", "secret/s"),
        ("secret docker-registry d --docker-username=u --docker-password=p --docker-email=e", "secret/d"),
        ("quota q --hard=services.loadbalancers=3", "resourcequota/q"),
        ("priorityclass p --value=5", "priorityclass.scheduling.k8s.io/p"),
        ("service clusterip headless --clusterip=None --tcp=80", "service/headless"),
        ("service nodeport np --tcp=80", "service/np"),
        ("service externalname en --external-name=a.example", "service/en"),
        ("ingress i --rule=a.example/=np:80", "ingress.networking.k8s.io/i"),
        ("job j --image=busybox:1.37 --dry-run=server", "job.batch/j"),
        ("cronjob cj --image=busybox:1.37 --schedule=@daily", "cronjob.batch/cj"),
        ("poddisruptionbudget b --selector=a=b --min-available=1", "poddisruptionbudget.policy/b"),
    ] {
        // 1.20 makes these two in v1beta1, which is gone.
        if minor < 21 && (command.starts_with("cronjob") || command.starts_with("pod")) {
            let error = refused(cluster, &format!("create {command}"))?;
            assert!(
                error.contains("could not find the requested resource") || error.contains("no matches for kind"),
                "{error}"
            );
            continue;
        }
        let said = say(cluster, &format!("create {command}"))?;
        assert!(said.starts_with(&format!("{made} created")), "{said}");
    }
    Ok(())
}

fn deployment(cluster: &Cluster) -> Result<()> {
    let waiter = "trap 'exit 0' TERM; sleep 1000 & wait";
    cluster.kubectl(&["run", "alone", "--image=busybox:1.37", "--labels=app=alone", "--", "sh", "-c", waiter])?.ok();
    cluster
        .kubectl(&["create", "deployment", "web", "--image=busybox:1.37", "--replicas=2", "--", "sh", "-c", waiter])?
        .ok();
    say(cluster, "rollout status deploy/web --timeout=60s")?;
    say(cluster, "wait --for=condition=Available deploy/web --timeout=60s")?;
    assert_eq!(say(cluster, "expose deployment web --port=80 --target-port=8080")?, "service/web exposed\n");
    assert_eq!(say(cluster, "expose pod alone --port=80 --name=other")?, "service/other exposed\n");
    let ready = "jsonpath={.items[*].endpoints[*].conditions.ready}";
    eventually("two endpoints", || {
        let slices = say(cluster, &format!("get endpointslices -l kubernetes.io/service-name=web -o {ready}"))?;
        ensure!(slices == "true true", "{slices}");
        Ok(())
    });
    assert_eq!(say(cluster, "label pod alone tier=front")?, "pod/alone labeled\n");
    in_order(&refused(cluster, "label pod alone tier=back")?, &["--overwrite is false"]);
    assert_eq!(say(cluster, "label pod alone tier=back --overwrite")?, "pod/alone labeled\n");
    assert_eq!(say(cluster, "annotate pod alone note=x")?, "pod/alone annotated\n");
    assert_eq!(field(cluster, "pod/alone", ".metadata.labels.tier")?, "back");
    assert_eq!(say(cluster, "scale deploy/web --current-replicas=2 --replicas=1")?, "deployment.apps/web scaled\n");
    in_order(
        &refused(cluster, "scale deploy/web --current-replicas=7 --replicas=1")?,
        &["xpected replicas to be 7, was 1"],
    );
    let scaled = say(cluster, "autoscale deploy web --min=1 --max=3 --cpu-percent=80")?;
    assert_eq!(scaled, "horizontalpodautoscaler.autoscaling/web autoscaled\n");
    assert_eq!(field(cluster, "hpa/web", ".spec.maxReplicas")?, "3");
    in_order(&say(cluster, "describe hpa web")?, &["Deployment/web", "80%", "Max replicas:", "3"]);
    Ok(())
}

fn settings(cluster: &Cluster, minor: u32) -> Result<()> {
    say(cluster, "rollout pause deploy/web")?;
    for (command, path, value) in [
        ("image deploy/web busybox=none.invalid/i:1", ".image", "none.invalid/i:1"),
        ("env deploy/web A=1", ".env[*].name", "A"),
        ("env deploy/web --from=configmap/c --prefix=C_", ".env[*].name", "A C_A"),
        ("resources deploy/web --limits=cpu=200m --requests=cpu=100m", ".resources.limits.cpu", "200m"),
        ("image deploy/web busybox=busybox:1.37", ".image", "busybox:1.37"),
    ] {
        let said = say(cluster, &format!("set {command}"))?;
        in_order(&said, &["deployment.apps/web", "updated"]);
        let found = field(cluster, "deploy/web", &format!(".spec.template.spec.containers[0]{path}"))?;
        let mut names: Vec<&str> = found.split(' ').collect();
        names.sort_unstable();
        assert_eq!(names.join(" "), value, "{minor}: {command}");
    }
    say(cluster, "set serviceaccount deploy/web s")?;
    say(cluster, "set selector svc/other app=web")?;
    assert_eq!(field(cluster, "svc/other", ".spec.selector")?, r#"{"app":"web"}"#);
    in_order(&say(cluster, "set env deploy/web --list")?, &["A=1"]);
    Ok(())
}

fn rollouts(cluster: &Cluster) -> Result<()> {
    assert_eq!(say(cluster, "rollout resume deploy/web")?, "deployment.apps/web resumed\n");
    in_order(&say(cluster, "rollout status deploy/web --timeout=60s")?, &["successfully rolled out"]);
    in_order(&say(cluster, "rollout history deploy/web")?, &["REVISION", "1", "2"]);
    in_order(&say(cluster, "rollout history deploy/web --revision=2")?, &["with revision #2", "A:", "1"]);
    in_order(&say(cluster, "rollout undo deploy/web --to-revision=1")?, &["deployment.apps/web rolled back"]);
    say(cluster, "rollout status deploy/web --timeout=60s")?;
    assert_eq!(field(cluster, "deploy/web", ".spec.template.spec.containers[0].env")?, "");
    assert_eq!(say(cluster, "rollout restart deploy/web")?, "deployment.apps/web restarted\n");
    say(cluster, "rollout status deploy/web --timeout=60s")?;
    Ok(())
}

fn deletions(cluster: &Cluster, minor: u32) -> Result<()> {
    // Before 1.20 a word was not needed for what became of the children.
    say(cluster, "delete deploy web --cascade=orphan")?;
    let sets = say(cluster, "get rs -l app=web -o name")?;
    ensure!(!sets.is_empty(), "{minor}: orphans stay");
    for set in sets.lines() {
        say(cluster, &format!("delete {set} --cascade=foreground --timeout=60s"))?;
    }
    assert_eq!(say(cluster, "get pods -l app=web -o name")?, "", "in the foreground the owner is the last to go");
    say(cluster, "create deployment again --image=none.invalid/i:1")?;
    say(cluster, "delete deploy again --cascade=background")?;
    in_order(&say(cluster, "delete pod alone --grace-period=0 --force")?, &["pod \"alone\"", "deleted"]);
    say(cluster, "delete svc -l app=web")?;
    in_order(&say(cluster, "delete cm c --dry-run=server")?, &["configmap \"c\"", "deleted", "(server dry run)"]);
    in_order(&say(cluster, "delete cm,secret --field-selector=metadata.name=c")?, &["configmap \"c\""]);
    say(cluster, "delete ns n --timeout=60s")?;
    in_order(&refused(cluster, "get ns n")?, &["namespaces \"n\" not found"]);
    Ok(())
}
