//! The life of a pod's containers, through kubectl: ends and restarts, probes, what they are given.

mod claims;
mod debug;
mod drivers;
mod ends;
mod hooks;
mod logs;
mod probes;
mod refusals;
mod resize;
mod resources;
mod security;
mod sharing;
mod statics;
mod top;
mod users;
mod volumes;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Options, eventually, kubectls, must};

/// Starts a cluster, tests it, and asserts that nothing is left.
fn on_a_cluster(test: impl FnOnce(&mut Cluster) -> Result<()>) {
    must((|| {
        let mut cluster = Cluster::start(Options::tutorial())?;
        test(&mut cluster)?;
        cluster.finish()
    })());
}

/// Creates a pod of one busybox container; `fields` are merged into the container, `spec` into the pod's spec.
fn create(cluster: &Cluster, name: &str, fields: &Value, spec: &Value) -> Result<()> {
    let mut container = json!({"name": "main", "image": "busybox:1.37"});
    let mut pod = json!({"restartPolicy": "Never"});
    for (target, source) in [(&mut container, fields), (&mut pod, spec)] {
        for (key, value) in source.as_object().context("fields")? {
            target[key] = value.clone();
        }
    }
    pod["containers"] = json!([container]);
    let metadata = json!({"name": name, "labels": {"run": name}});
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}).to_string())
}

fn script(script: &str) -> Value {
    json!({"command": ["sh", "-c", script]})
}

fn with(mut fields: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        fields[key] = value.clone();
    }
    fields
}

/// Waits until a field of the pod has a value.
fn reaches(cluster: &Cluster, pod: &str, path: &str, value: &str) -> Result<()> {
    let condition = format!("--for=jsonpath={{.{path}}}={value}");
    let answer = cluster.kubectl(&["wait", &condition, &format!("pod/{pod}"), "--timeout=60s"])?;
    ensure!(answer.success, "{pod}: {}\n{}", answer.stderr, cluster.object(&["pod", pod])?["status"]);
    Ok(())
}

fn status(cluster: &Cluster, pod: &str) -> Result<Value> {
    Ok(cluster.object(&["pod", pod])?["status"]["containerStatuses"][0].clone())
}

fn events(cluster: &Cluster, pod: &str) -> Result<String> {
    let selector = format!("involvedObject.name={pod}");
    let columns = "-o=custom-columns=TYPE:.type,REASON:.reason,MESSAGE:.message";
    Ok(cluster.kubectl(&["get", "events", "--no-headers", "--field-selector", &selector, columns])?.ok())
}

fn has_event(cluster: &Cluster, pod: &str, wanted: &str) {
    eventually(&format!("an event {wanted:?}"), || {
        let events = events(cluster, pod)?;
        // The columns are as wide as their widest value.
        let found = events.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").contains(wanted));
        ensure!(found, "only:\n{events}");
        Ok(())
    });
}

fn log(cluster: &Cluster, pod: &str) -> Result<String> {
    Ok(cluster.kubectl(&["logs", pod])?.ok())
}

#[test]
fn containers_end_and_restart_as_the_policy_says() {
    on_a_cluster(|cluster| {
        policies(cluster)?;
        crash_loop(cluster)?;
        out_of_memory(cluster)?;
        impossible_commands(cluster)?;
        if cluster.containerd.is_some() {
            // It keeps nothing for whoever attaches later.
            return Ok(());
        }
        for kubectl in kubectls() {
            cluster.kubectl = kubectl;
            short_runs_print_once(cluster)?;
        }
        Ok(())
    });
}

fn policies(cluster: &Cluster) -> Result<()> {
    for (name, policy, code) in
        [("never-0", "Never", 0), ("never-3", "Never", 3), ("failure-0", "OnFailure", 0), ("failure-3", "OnFailure", 3)]
    {
        create(cluster, name, &script(&format!("echo said; exit {code}")), &json!({"restartPolicy": policy}))?;
    }
    create(cluster, "always-0", &script("exit 0"), &json!({"restartPolicy": "Always"}))?;
    for (name, phase, code) in [("never-0", "Succeeded", 0), ("never-3", "Failed", 3), ("failure-0", "Succeeded", 0)] {
        reaches(cluster, name, "status.phase", phase)?;
        let status = status(cluster, name)?;
        let terminated = &status["state"]["terminated"];
        assert_eq!(terminated["exitCode"], code, "{name}: {status}");
        assert_eq!(terminated["reason"], if code == 0 { "Completed" } else { "Error" }, "{name}: {status}");
        assert_eq!((&status["restartCount"], &status["ready"]), (&json!(0), &json!(false)), "{name}");
        assert_eq!(log(cluster, name)?, "said\n");
    }
    for name in ["failure-3", "always-0"] {
        reaches(cluster, name, "status.containerStatuses[0].restartCount", "1")?;
        assert_eq!(cluster.object(&["pod", name])?["status"]["phase"], "Running", "{name}");
    }
    let previous = cluster.kubectl(&["logs", "failure-3", "--previous"])?.ok();
    assert_eq!(previous, "said\n");
    cluster.kubectl(&["delete", "pod", "--all", "--grace-period=1"])?.ok();
    Ok(())
}

fn crash_loop(cluster: &Cluster) -> Result<()> {
    create(cluster, "crash", &script("echo no luck; exit 1"), &json!({"restartPolicy": "Always"}))?;
    reaches(cluster, "crash", "status.containerStatuses[0].state.waiting.reason", "CrashLoopBackOff")?;
    let status = status(cluster, "crash")?;
    let message = status["state"]["waiting"]["message"].as_str().context("a message")?;
    assert!(message.starts_with("back-off 10s restarting failed container=main pod=crash_default("), "{message}");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 1, "{status}");
    has_event(cluster, "crash", "Warning BackOff Back-off restarting failed container main in pod crash_default(");
    let listed = cluster.kubectl(&["get", "pod", "crash", "--no-headers"])?.ok();
    assert!(listed.contains(" 0/1 ") && listed.contains("CrashLoopBackOff"), "{listed}");
    cluster.kubectl(&["delete", "pod", "crash"])?.ok();
    Ok(())
}

fn out_of_memory(cluster: &Cluster) -> Result<()> {
    let hungry = json!({"command": ["tail", "/dev/zero"], "resources": {"limits": {"memory": "16Mi"}}});
    create(cluster, "hungry", &hungry, &json!({}))?;
    reaches(cluster, "hungry", "status.phase", "Failed")?;
    let status = status(cluster, "hungry")?;
    let terminated = &status["state"]["terminated"];
    assert_eq!((&terminated["reason"], &terminated["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{status}");
    Ok(())
}

fn impossible_commands(cluster: &Cluster) -> Result<()> {
    create(cluster, "absent", &json!({"command": ["/no/such/program"]}), &json!({}))?;
    reaches(cluster, "absent", "status.phase", "Failed")?;
    let status = status(cluster, "absent")?;
    let terminated = &status["state"]["terminated"];
    assert_eq!((&terminated["reason"], &terminated["exitCode"]), (&json!("StartError"), &json!(128)), "{status}");
    let message = terminated["message"].as_str().context("a message")?;
    assert!(message.contains("/no/such/program") && message.contains("no such file or directory"), "{message}");
    has_event(cluster, "absent", "Warning Failed Error: ");
    Ok(())
}

/// `kubectl run -i --rm` of what is over before it attaches, or only just not.
fn short_runs_print_once(cluster: &Cluster) -> Result<()> {
    for (index, wait) in ["", "sleep 0.1; ", "sleep 0.4; "].into_iter().cycle().take(6).enumerate() {
        let name = format!("short-{index}");
        let command = format!("echo out; {wait}echo again; exit 3");
        let arguments = ["run", &name, "--image=busybox:1.37", "-i", "--rm", "--restart=Never", "--quiet", "--"];
        let answer = cluster.kubectl(&[&arguments[..], &["sh", "-c", &command]].concat())?;
        assert_eq!(answer.stdout, "out\nagain\n", "{answer:?}");
        assert!(!answer.stderr.contains("couldn't attach"), "{answer:?}");
        assert!(answer.error().contains("terminated (Error)"));
    }
    let echo = ["run", "cat", "--image=busybox:1.37", "-i", "--rm", "--restart=Never", "--quiet", "--", "cat"];
    assert_eq!(cluster.kubectl_input(&echo, "what is typed\n")?.ok(), "what is typed\n");
    Ok(())
}

#[test]
fn a_pod_is_given_time_to_end() {
    on_a_cluster(|cluster| {
        let deaf = script("trap '' TERM; echo ready; while :; do sleep 1; done");
        let polite = script("trap 'exit 0' TERM; echo ready; sleep infinity & wait");
        create(cluster, "deaf", &deaf, &json!({"terminationGracePeriodSeconds": 3}))?;
        create(cluster, "deafer", &deaf, &json!({"terminationGracePeriodSeconds": 600}))?;
        create(cluster, "deafest", &deaf, &json!({"terminationGracePeriodSeconds": 600}))?;
        create(cluster, "polite", &polite, &json!({"terminationGracePeriodSeconds": 600}))?;
        for pod in ["deaf", "deafer", "deafest", "polite"] {
            eventually("a trap", || {
                ensure!(log(cluster, pod)? == "ready\n", "{pod} is not ready");
                Ok(())
            });
        }
        let timed = |arguments: &[&str]| -> Result<Duration> {
            let begun = Instant::now();
            cluster.kubectl(&[&["delete", "pod"], arguments].concat())?.ok();
            Ok(begun.elapsed())
        };
        let polite = timed(&["polite"])?;
        assert!(polite < Duration::from_secs(20), "{polite:?}");
        let own = timed(&["deaf"])?;
        assert!((Duration::from_secs(2)..Duration::from_secs(20)).contains(&own), "{own:?}");
        let shorter = timed(&["deafer", "--grace-period=2"])?;
        assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&shorter), "{shorter:?}");
        let forced = timed(&["deafest", "--grace-period=0", "--force"])?;
        assert!(forced < Duration::from_secs(20), "{forced:?}");
        Ok(())
    });
}

#[test]
fn probes_decide_over_endpoints_and_restarts() {
    on_a_cluster(|cluster| {
        let probe = |kind: &str, handler: Value| {
            let timing = json!({"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5});
            json!({kind: with(timing, &handler)})
        };
        let exec = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
        let http = json!({"httpGet": {"path": "/probe.html", "port": "web"}});
        let web = json!({"image": "nginx", "ports": [{"name": "web", "containerPort": 80}]});
        let page = "/usr/share/nginx/html/probe.html";
        let serve = format!("touch {page}; exec nginx -g 'daemon off;'");
        let listener = "while :; do if [ -e /listen ]; then nc -l -p 8080 -w 1 >/dev/null; else sleep 0.1; fi; done";
        let tcp = json!({"tcpSocket": {"port": 8080}});
        let always = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 1});

        create(cluster, "http", &with(web.clone(), &probe("readinessProbe", http.clone())), &always)?;
        create(cluster, "exec", &with(web.clone(), &probe("readinessProbe", exec("test -e /ready"))), &always)?;
        create(cluster, "tcp", &with(script(listener), &probe("readinessProbe", tcp)), &always)?;
        let startup = json!({"startupProbe": with(json!({"periodSeconds": 1, "failureThreshold": 60}), &http)});
        let alive = with(with(with(web, &probe("livenessProbe", http)), &startup), &script(&serve));
        create(cluster, "alive", &alive, &always)?;
        for pod in ["http", "exec"] {
            cluster.kubectl(&["expose", "pod", pod, "--port=80"])?.ok();
        }
        for pod in ["http", "exec", "tcp"] {
            reaches(cluster, pod, "status.phase", "Running")?;
            has_event(cluster, pod, "Warning Unhealthy Readiness probe failed");
            assert_eq!(status(cluster, pod)?["ready"], false, "{pod}");
        }
        let exec_in = |pod: &str, script: &str| cluster.kubectl(&["exec", pod, "--", "sh", "-c", script]);
        let ip =
            |pod: &str| -> Result<BTreeSet<_>> { Ok(cluster.pods(&format!("run={pod}"))?.into_values().collect()) };
        let none = BTreeSet::new();
        for (pod, good, bad) in [
            ("http", format!("touch {page}"), format!("rm {page}")),
            ("exec", "touch /ready".into(), "rm /ready".into()),
        ] {
            let all = ip(pod)?;
            eventually("no endpoints", || cluster.endpoints_are(pod, &none));
            exec_in(pod, &good)?.ok();
            cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"])?.ok();
            eventually("an endpoint", || cluster.endpoints_are(pod, &all));
            exec_in(pod, &bad)?.ok();
            cluster.kubectl(&["wait", "--for=condition=Ready=false", &format!("pod/{pod}"), "--timeout=60s"])?.ok();
            eventually("no endpoint any more", || cluster.endpoints_are(pod, &none));
            assert_eq!(status(cluster, pod)?["restartCount"], 0, "readiness restarts nothing");
        }
        has_event(cluster, "http", "Readiness probe failed: HTTP probe failed with statuscode: 404");
        exec_in("tcp", "touch /listen")?.ok();
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/tcp", "--timeout=60s"])?.ok();

        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/alive", "--timeout=60s"])?.ok();
        assert_eq!(status(cluster, "alive")?["restartCount"], 0);
        exec_in("alive", &format!("rm {page}"))?.ok();
        reaches(cluster, "alive", "status.containerStatuses[0].restartCount", "1")?;
        has_event(cluster, "alive", "Warning Unhealthy Liveness probe failed: HTTP probe failed with statuscode: 404");
        has_event(cluster, "alive", "Normal Killing Container main failed liveness probe, will be restarted");
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/alive", "--timeout=60s"])?.ok();
        Ok(())
    });
}

#[test]
fn containers_are_given_what_their_spec_says() {
    on_a_cluster(|cluster| {
        environment(cluster)?;
        variables_of_a_file(cluster)?;
        missing_sources_are_waited_for(cluster)?;
        arguments(cluster)?;
        names_and_resolver(cluster)?;
        resources(cluster)?;
        pull_policies(cluster)
    });
}

fn environment(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "configmap", "settings", "--from-literal=color=blue"])?.ok();
    cluster.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=word=xyzzy"])?.ok();
    let from = |kind: &str, reference: Value| json!({kind: reference});
    let field = |path: &str| from("fieldRef", json!({"fieldPath": path}));
    let env = json!([
        {"name": "LITERAL", "value": "plain $HOME"},
        {"name": "COMPOSED", "value": "$(LITERAL)/$(UNKNOWN)/$$(LITERAL)"},
        {"name": "POD", "valueFrom": field("metadata.name")},
        {"name": "LABEL", "valueFrom": field("metadata.labels['run']")},
        {"name": "IP", "valueFrom": field("status.podIP")},
        {"name": "NODE", "valueFrom": field("spec.nodeName")},
        {"name": "COLOR", "valueFrom": from("configMapKeyRef", json!({"name": "settings", "key": "color"}))},
        {"name": "WORD", "valueFrom": from("secretKeyRef", json!({"name": "hidden", "key": "word"}))},
        {"name": "ABSENT", "valueFrom": from("configMapKeyRef", json!({"name": "none", "key": "x", "optional": true}))},
        {"name": "MEMORY", "valueFrom": from("resourceFieldRef", json!({"resource": "limits.memory", "divisor": "1Mi"}))},
    ]);
    let fields = json!({
        "command": ["env"],
        "env": env,
        "envFrom": [{"prefix": "ALL_", "configMapRef": {"name": "settings"}}],
        "resources": {"limits": {"memory": "64Mi"}},
    });
    create(cluster, "env", &fields, &json!({}))?;
    reaches(cluster, "env", "status.phase", "Succeeded")?;
    let printed = log(cluster, "env")?;
    let lines: BTreeSet<&str> = printed.lines().collect();
    let object = cluster.object(&["pod", "env"])?;
    let ip = format!("IP={}", object["status"]["podIP"].as_str().context("an address")?);
    for wanted in [
        "LITERAL=plain $HOME",
        "COMPOSED=plain $HOME/$(UNKNOWN)/$(LITERAL)",
        "POD=env",
        "LABEL=env",
        &ip,
        "NODE=one",
        "COLOR=blue",
        "WORD=xyzzy",
        "MEMORY=64",
        "ALL_color=blue",
        "HOSTNAME=env",
        "KUBERNETES_SERVICE_PORT=443",
    ] {
        assert!(lines.contains(wanted), "no {wanted} in\n{printed}");
    }
    assert!(!printed.contains("ABSENT"), "{printed}");
    Ok(())
}

/// As upstream's page "Define Environment Variable Values Using An Init Container" has it.
fn variables_of_a_file(cluster: &Cluster) -> Result<()> {
    let pod = |writes: &str| {
        let mounts = json!([{"name": "config", "mountPath": "/data"}]);
        let first = json!({"name": "setup-envfile", "image": "busybox:1.37", "volumeMounts": mounts,
            "command": ["sh", "-c", writes]});
        json!({"initContainers": [first], "volumes": [{"name": "config", "emptyDir": {}}]})
    };
    let file = json!({"path": "config.env", "volumeName": "config", "key": "DB_ADDRESS"});
    let env = json!([{"name": "DB_ADDRESS", "valueFrom": {"fileKeyRef": file}}]);
    let fields = json!({"command": ["env"], "env": env});
    create(cluster, "envfile", &fields, &pod("echo \"DB_ADDRESS='address' # of the data base\" > /data/config.env"))?;
    reaches(cluster, "envfile", "status.phase", "Succeeded")?;
    let printed = log(cluster, "envfile")?;
    assert!(printed.lines().any(|line| line == "DB_ADDRESS=address"), "{printed}");
    // The node's own files are not the container's to have.
    create(cluster, "envlink", &fields, &pod("ln -s /proc/1/environ /data/config.env"))?;
    has_event(cluster, "envlink", "Warning Failed Error: couldn't parse env file");
    Ok(())
}

fn missing_sources_are_waited_for(cluster: &Cluster) -> Result<()> {
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "a"}}}]);
    create(cluster, "patient", &json!({"command": ["sh", "-c", "echo $A"], "env": env}), &json!({}))?;
    reaches(cluster, "patient", "status.containerStatuses[0].state.waiting.reason", "CreateContainerConfigError")?;
    let status = status(cluster, "patient")?;
    assert_eq!(status["state"]["waiting"]["message"], "configmap \"later\" not found", "{status}");
    has_event(cluster, "patient", "Warning Failed Error: configmap \"later\" not found");
    cluster.kubectl(&["create", "configmap", "later", "--from-literal=b=x"])?.ok();
    has_event(cluster, "patient", "Warning Failed Error: couldn't find key a in ConfigMap default/later");
    cluster.kubectl(&["patch", "configmap", "later", "-p", r#"{"data": {"a": "here"}}"#])?.ok();
    reaches(cluster, "patient", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "patient")?, "here\n");
    Ok(())
}

fn arguments(cluster: &Cluster) -> Result<()> {
    let env = json!([{"name": "WHO", "value": "the world"}]);
    let fields =
        json!({"command": ["echo", "-n"], "args": ["hello", "$(WHO)", "$$(WHO)"], "env": env, "workingDir": "/tmp"});
    create(cluster, "args", &fields, &json!({}))?;
    reaches(cluster, "args", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "args")?.trim_end(), "hello the world $(WHO)");
    create(cluster, "directory", &json!({"command": ["pwd"], "workingDir": "/tmp"}), &json!({}))?;
    reaches(cluster, "directory", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "directory")?, "/tmp\n");
    Ok(())
}

fn names_and_resolver(cluster: &Cluster) -> Result<()> {
    let show = script("hostname; hostname -f; cat /etc/hosts; echo ---; cat /etc/resolv.conf");
    let aliases = json!([{"ip": "192.0.2.7", "hostnames": ["one.test", "two.test"]}]);
    create(cluster, "named", &show, &json!({"hostname": "inside", "subdomain": "sub", "hostAliases": aliases}))?;
    let dns = json!({"nameservers": ["192.0.2.53"], "searches": ["example.test"], "options": [{"name": "ndots", "value": "2"}]});
    create(cluster, "own-dns", &show, &json!({"dnsPolicy": "None", "dnsConfig": dns}))?;
    let qualified = json!({"hostname": "inside", "subdomain": "sub", "setHostnameAsFQDN": true});
    create(cluster, "qualified", &script("hostname; echo $HOSTNAME"), &qualified)?;
    // With the cluster's own these are four, and libc reads three.
    let servers = json!({"dnsConfig": {"nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3"]}});
    create(cluster, "more-dns", &show, &servers)?;
    let long = json!({"subdomain": "s".repeat(50), "setHostnameAsFQDN": true});
    create(cluster, "too-long", &show, &long)?;
    for pod in ["named", "own-dns", "qualified", "more-dns"] {
        reaches(cluster, pod, "status.phase", "Succeeded")?;
    }
    let name = "inside.sub.default.svc.cluster.local";
    assert_eq!(log(cluster, "qualified")?, format!("{name}\n{name}\n"));
    has_event(
        cluster,
        "more-dns",
        "Warning DNSConfigForming Nameserver limits were exceeded, some nameservers have been omitted, the applied \
         nameserver line is: 10.43.0.10 192.0.2.1 192.0.2.2",
    );
    has_event(
        cluster,
        "too-long",
        "Warning FailedCreatePodSandBox Failed to create pod sandbox: failed to construct FQDN from pod hostname and \
         cluster domain, FQDN too-long.",
    );
    let printed = log(cluster, "named")?;
    let ip = cluster.pods("run=named")?.remove("named").context("the pod")?;
    assert!(printed.starts_with("inside\ninside.sub.default.svc.cluster.local\n"), "{printed}");
    for line in [
        "127.0.0.1\tlocalhost".to_owned(),
        format!("{ip}\tinside.sub.default.svc.cluster.local\tinside"),
        "192.0.2.7\tone.test\ttwo.test".to_owned(),
        "search default.svc.cluster.local svc.cluster.local cluster.local".to_owned(),
        "nameserver 10.43.0.10".to_owned(),
        "options ndots:5".to_owned(),
    ] {
        assert!(printed.lines().any(|printed| printed.starts_with(&line)), "no {line:?} in\n{printed}");
    }
    let printed = log(cluster, "own-dns")?;
    assert!(printed.starts_with("own-dns\n"), "{printed}");
    assert!(printed.ends_with("---\nsearch example.test\nnameserver 192.0.2.53\noptions ndots:2\n"), "{printed}");
    Ok(())
}

fn resources(cluster: &Cluster) -> Result<()> {
    // Whichever of the two cgroup versions the machine has.
    let show = "cd /sys/fs/cgroup; \
        cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes; \
        cat cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us | tr '\\n' ' '";
    let resources = json!({"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    create(cluster, "limited", &with(script(show), &json!({"resources": resources})), &json!({}))?;
    reaches(cluster, "limited", "status.phase", "Succeeded")?;
    assert_eq!(log(cluster, "limited")?.trim_end(), "67108864\n50000 100000");
    assert_eq!(cluster.object(&["pod", "limited"])?["status"]["qosClass"], "Burstable");

    create(cluster, "too-big", &json!({"resources": {"requests": {"cpu": "1000"}}}), &json!({}))?;
    reaches(cluster, "too-big", "status.conditions[?(@.type==\"PodScheduled\")].reason", "Unschedulable")?;
    has_event(cluster, "too-big", "Warning FailedScheduling 0/1 nodes are available: 1 Insufficient cpu.");
    Ok(())
}

fn pull_policies(cluster: &Cluster) -> Result<()> {
    create(cluster, "never", &json!({"image": "absent:1", "imagePullPolicy": "Never"}), &json!({}))?;
    reaches(cluster, "never", "status.containerStatuses[0].state.waiting.reason", "ErrImageNeverPull")?;
    has_event(cluster, "never", "Container image \"absent:1\" is not present with pull policy of Never");
    for policy in ["Never", "IfNotPresent"] {
        let name = format!("present-{}", policy.to_lowercase());
        create(cluster, &name, &with(script("echo ran"), &json!({"imagePullPolicy": policy})), &json!({}))?;
        reaches(cluster, &name, "status.phase", "Succeeded")?;
        has_event(cluster, &name, "Normal Pulled Container image \"busybox:1.37\" already present on machine");
    }
    create(cluster, "misnamed", &json!({"image": "Not/A:Name:"}), &json!({}))?;
    reaches(cluster, "misnamed", "status.containerStatuses[0].state.waiting.reason", "InvalidImageName")?;
    Ok(())
}
