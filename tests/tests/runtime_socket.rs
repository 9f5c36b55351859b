//! The embedded runtime's CRI socket, asked as crictl asks it: by another implementation of gRPC, and for streams by kubectl's
//! own code, which is crictl's.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{Cluster, Options, Session, eventually, in_order, kubectl_1_20, kubectls, must};

const PROXY: &str = "18001";
const BETWEEN: &str = "18002";

/// The ids of a list's items that are as asked.
fn ids(cluster: &Cluster, method: &str, filter: Value) -> Result<Vec<String>> {
    let answer = cluster.cri_call(method, &json!({ "filter": filter }))?;
    let items = answer["items"].as_array().or(answer["containers"].as_array()).context("a list")?;
    Ok(items.iter().filter_map(|item| item["id"].as_str()).map(ToOwned::to_owned).collect())
}

fn one(cluster: &Cluster, method: &str, filter: Value) -> Result<String> {
    let mut found = ids(cluster, method, filter)?;
    ensure!(found.len() == 1, "not one but {found:?}");
    found.pop().context("one")
}

/// The running container of that pod.
fn running(cluster: &Cluster, pod: &str) -> Result<String> {
    let labels = json!({ "io.kubernetes.pod.name": pod });
    one(cluster, "ListContainers", json!({ "labelSelector": labels, "state": { "state": "CONTAINER_RUNNING" } }))
}

fn sandbox(cluster: &Cluster, pod: &str) -> Result<String> {
    let labels = json!({ "io.kubernetes.pod.name": pod });
    one(cluster, "ListPodSandbox", json!({ "labelSelector": labels, "state": { "state": "SANDBOX_READY" } }))
}

fn status(cluster: &Cluster, container: &str) -> Result<Value> {
    let answer = cluster.cri_call("ContainerStatus", &json!({ "containerId": container, "verbose": true }))?;
    let more: Value = serde_json::from_str(answer["info"]["info"].as_str().context("more")?).context("more")?;
    ensure!(more["spec"]["args"].is_array(), "{more}");
    Ok(answer["status"].clone())
}

/// Runs two pods, which are ready then: a web server, and a shell that says a word to its log.
fn run_pods(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["run", "web", "--image=nginx", "--image-pull-policy=IfNotPresent"])?.ok();
    let shell = "echo begun; trap 'echo asked; exit 0' TERM; sleep 1000 & wait";
    let image = ["run", "shell", "--image=busybox:1.37", "--image-pull-policy=IfNotPresent"];
    cluster.kubectl(&[&image[..], &["--command", "--", "sh", "-c", shell]].concat())?.ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "pod/shell", "--timeout=60s"])?.ok();
    Ok(())
}

#[test]
fn what_pods_run_is_seen_and_used() {
    must((|| {
        let cluster = Cluster::start(Options::tutorial())?;
        let version = cluster.cri_call("Version", &json!({}))?;
        assert_eq!((&version["runtimeName"], &version["runtimeApiVersion"]), (&json!("sampan"), &json!("v1")));
        let told = cluster.cri_call("Status", &json!({}))?["status"]["conditions"].clone();
        assert_eq!((&told[0]["status"], &told[1]["status"]), (&json!(true), &json!(true)), "{told}");
        run_pods(&cluster)?;
        seen(&cluster)?;
        measured(&cluster)?;
        commands(&cluster)?;
        streams_of_kubectls_code(&cluster)?;
        cluster.finish()
    })());
}

fn seen(cluster: &Cluster) -> Result<()> {
    let pod = cluster.object(&["pod", "web"])?;
    let sandbox = sandbox(cluster, "web")?;
    let shown = cluster.cri_call("PodSandboxStatus", &json!({ "podSandboxId": &sandbox[..9], "verbose": true }))?;
    assert_eq!(shown["status"]["metadata"]["uid"], pod["metadata"]["uid"]);
    assert_eq!(shown["status"]["network"]["ip"], pod["status"]["podIP"]);
    assert_eq!(shown["status"]["linux"]["namespaces"]["options"]["pid"], "CONTAINER");
    assert_eq!(shown["containersStatuses"].as_array().context("containers")?.len(), 1);
    let container = running(cluster, "web")?;
    let known = &pod["status"]["containerStatuses"][0];
    assert_eq!(known["containerID"], format!("sampan://{container}"));
    let status = status(cluster, &container)?;
    assert_eq!((&status["metadata"]["name"], &status["stopSignal"]), (&json!("web"), &json!("SIGQUIT")));
    assert_eq!(status["imageRef"], known["imageID"]);
    assert_eq!(status["user"]["linux"]["uid"], "0", "{status}");
    in_order(&status["mounts"].to_string(), &["/etc/hosts", "/etc/resolv.conf"]);
    // crictl reads the log itself.
    let log = self::status(cluster, &running(cluster, "shell")?)?["logPath"].as_str().context("a log")?.to_owned();
    in_order(&std::fs::read_to_string(&log).with_context(|| log.clone())?, &["stdout F begun\n"]);
    let images = cluster.cri_call("ListImages", &json!({}))?["images"].clone();
    in_order(&images.to_string(), &["docker.io/library/busybox:1.37", "docker.io/library/nginx:latest"]);
    let image = cluster.cri_call("ImageStatus", &json!({ "image": { "image": "nginx" }, "verbose": true }))?;
    assert_eq!(image["image"]["id"], status["imageId"]);
    in_order(image["info"]["info"].as_str().context("more")?, &["imageSpec", "SIGQUIT"]);
    let used = cluster.cri_refusal("RemoveImage", &json!({ "image": { "image": "nginx" } }))?;
    in_order(&used, &["FAILED_PRECONDITION", &container]);
    Ok(())
}

fn measured(cluster: &Cluster) -> Result<()> {
    let number = |value: &Value| value["value"].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let container = running(cluster, "web")?;
    let stats = cluster.cri_call("ContainerStats", &json!({ "containerId": container }))?["stats"].clone();
    ensure!(number(&stats["cpu"]["usageCoreNanoSeconds"]) > 0, "{stats}");
    ensure!(number(&stats["memory"]["workingSetBytes"]) > 100_000, "{stats}");
    ensure!(number(&stats["writableLayer"]["usedBytes"]) > 0, "{stats}");
    let sandbox = sandbox(cluster, "web")?;
    let stats = cluster.cri_call("PodSandboxStats", &json!({ "podSandboxId": sandbox }))?["stats"]["linux"].clone();
    assert_eq!(stats["network"]["defaultInterface"]["name"], "eth0", "{stats}");
    ensure!(number(&stats["process"]["processCount"]) > 1, "{stats}");
    let all = cluster.cri_call("ListContainerStats", &json!({}))?["stats"].clone();
    assert_eq!(all.as_array().context("a list")?.len(), 2);
    let all = cluster.cri_call("ListPodSandboxStats", &json!({ "filter": { "id": sandbox } }))?["stats"].clone();
    assert_eq!(all.as_array().context("a list")?.len(), 1);
    let disk = cluster.cri_call("ImageFsInfo", &json!({}))?["imageFilesystems"][0].clone();
    let images = cluster.data_dir().join("images");
    assert_eq!(disk["fsId"]["mountpoint"], json!(images));
    // nginx alone is larger.
    ensure!(number(&disk["usedBytes"]) > 10 << 20, "{disk}");
    Ok(())
}

/// crictl exec, with and without `-s`, attach and port-forward, over a WebSocket.
fn commands(cluster: &Cluster) -> Result<()> {
    let web = running(cluster, "web")?;
    let command = ["sh", "-c", "echo out; echo err >&2; exit 4"];
    let ended = cluster.cri_call("ExecSync", &json!({ "containerId": web, "cmd": command, "timeout": 30 }))?;
    // Bytes are base64 in JSON.
    assert_eq!(ended, json!({ "stdout": "b3V0Cg==", "stderr": "ZXJyCg==", "exitCode": 4 }));
    // A time that no other process sleeps.
    let long = (1_000_000 + std::process::id()).to_string();
    let late = json!({ "containerId": web, "cmd": ["sleep", long], "timeout": 1 });
    in_order(&cluster.cri_refusal("ExecSync", &late)?, &["DEADLINE_EXCEEDED"]);
    eventually("the late command's end", || {
        let found = cluster.node("pgrep", &["-f", &format!("sleep {long}")])?;
        ensure!(!found.success, "{}", found.stdout);
        Ok(())
    });
    let absent = json!({ "containerId": web, "cmd": ["no-such-program"] });
    in_order(&cluster.cri_refusal("ExecSync", &absent)?, &["no-such-program", "executable file not found in $PATH"]);

    let spoken = cluster.cri(&["exec", &web, "sh", "-c", "read x; echo got $x; echo bad >&2; exit 3"], "hello\n")?;
    assert_eq!((spoken.code, &*spoken.stdout, &*spoken.stderr), (Some(3), "got hello\n", "bad\n"));
    let answer = cluster.cri(&["port-forward", &sandbox(cluster, "web")?, "80"], "GET / HTTP/1.0\r\n\r\n")?.ok();
    in_order(&answer, &["HTTP/1.1 200 OK", "Welcome to nginx!"]);
    let refused = cluster.cri(&["port-forward", &sandbox(cluster, "web")?, "81"], "x")?.error();
    in_order(&refused, &["error forwarding port 81", "connection refused"]);
    let listen = "while read line; do echo heard $line; done; echo over";
    let options = [
        "run",
        "ear",
        "--image=busybox:1.37",
        "--restart=Never",
        "--image-pull-policy=IfNotPresent",
        "--stdin",
        "--attach=false",
        "--command",
        "--",
    ];
    cluster.kubectl(&[&options[..], &["sh", "-c", listen]].concat())?.ok();
    let ear = eventually("a container that listens", || running(cluster, "ear"));
    assert_eq!(cluster.cri(&["attach", &ear], "one\ntwo\n")?.ok(), "heard one\nheard two\nover\n");
    // A URL is good once, and its token is no other's.
    let asked = json!({ "containerId": web, "cmd": ["true"], "stdout": true });
    let url = cluster.cri_call("Exec", &asked)?["url"].as_str().context("a URL")?.to_owned();
    in_order(&url, &["http://127.0.0.1:", "/exec/"]);
    let code = |url: &str| {
        Ok::<_, anyhow::Error>(cluster.node("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", url])?.ok())
    };
    assert_eq!(code(&url)?, "400", "no upgrade");
    assert_eq!(code(&url)?, "404", "used up");
    assert_eq!(code(&format!("{url}x"))?, "404");
    Ok(())
}

/// What crictl has of client-go, kubectl has too: a server between sends it to the runtime's URLs.
fn streams_of_kubectls_code(cluster: &Cluster) -> Result<()> {
    let mut proxy = cluster.session(&["proxy", &format!("--port={PROXY}")])?;
    proxy.expect("Starting to serve")?;
    let between = |arguments: &[&str]| -> Result<Session> {
        let mut between = Session::start(cluster.cri_command(&[&["kubectl", BETWEEN, PROXY], arguments].concat()))?;
        between.expect("listening")?;
        Ok(between)
    };
    let server = format!("--server=http://127.0.0.1:{BETWEEN}");
    let web = running(cluster, "web")?;
    for kubectl in [kubectl_1_20(), kubectls().remove(0)] {
        let kubectl = |arguments: &[&str]| {
            let mut command = cluster.namespace.command(&kubectl);
            // What speaks SPDY by itself before 1.31.
            command
                .envs([("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")]);
            command.arg(&server).args(arguments);
            Session::start(command)
        };
        let _between = between(&["exec", &web, "sh", "-c", "read x; echo got $x; echo bad >&2; exit 3"])?;
        let mut exec = kubectl(&["exec", "-i", "web", "--", "ignored"])?;
        exec.send("hello\n")?;
        exec.expect("got hello")?;
        let (ended, said) = exec.finish()?;
        ensure!(ended.code() == Some(3) && said.contains("bad\n"), "{ended}: {said}");
        drop(_between);
        let _between = between(&["port-forward", &sandbox(cluster, "web")?, "80"])?;
        let mut forward = kubectl(&["port-forward", "pod/web", "18080:80"])?;
        forward.expect("Forwarding from 127.0.0.1:18080")?;
        in_order(&cluster.node("curl", &["-sS", "http://127.0.0.1:18080/"])?.ok(), &["Welcome to nginx!"]);
    }
    Ok(())
}

#[test]
fn what_is_done_to_pods_is_done_and_their_specs_hold() {
    must((|| {
        let cluster = Cluster::start(Options::tutorial())?;
        run_pods(&cluster)?;
        let restarts = |wanted: u64| {
            eventually("a restart", || {
                let known = cluster.object(&["pod", "shell"])?["status"]["containerStatuses"][0].clone();
                ensure!(known["restartCount"] == wanted && known["state"]["running"].is_object(), "{known}");
                Ok(known)
            })
        };
        let first = running(&cluster, "shell")?;
        cluster.cri_call("StopContainer", &json!({ "containerId": first, "timeout": "20" }))?;
        let ended = restarts(1)["lastState"]["terminated"].clone();
        assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(0), &json!("Completed")), "{ended}");
        let second = running(&cluster, "shell")?;
        cluster.cri_call("RemoveContainer", &json!({ "containerId": second }))?;
        let ended = restarts(2)["lastState"]["terminated"].clone();
        assert_eq!(ended["exitCode"], 137, "{ended}");
        // Removing and stopping what is gone is done.
        cluster.cri_call("RemoveContainer", &json!({ "containerId": first }))?;
        cluster.cri_call("StopContainer", &json!({ "containerId": first }))?;
        let sandboxes = [("StopPodSandbox", "web"), ("RemovePodSandbox", "web")];
        for (method, pod) in sandboxes {
            let before = sandbox(&cluster, pod)?;
            let config = json!({ "metadata": { "name": "c" }, "image": { "image": "busybox:1.37" } });
            let foreign = json!({ "podSandboxId": before, "config": config });
            in_order(&cluster.cri_refusal("CreateContainer", &foreign)?, &["FAILED_PRECONDITION", "default/web"]);
            cluster.cri_call(method, &json!({ "podSandboxId": before }))?;
            let after = eventually("another sandbox", || {
                let after = sandbox(&cluster, pod)?;
                ensure!(after != before, "still the same");
                Ok(after)
            });
            eventually("its container", || running(&cluster, pod));
            eventually("the pod's new address", || {
                let shown = cluster.cri_call("PodSandboxStatus", &json!({ "podSandboxId": after }))?;
                let known = cluster.object(&["pod", pod])?["status"]["podIP"].clone();
                ensure!(known.is_string() && shown["status"]["network"]["ip"] == known, "{shown}");
                Ok(())
            });
            ensure!(!ids(&cluster, "ListPodSandbox", json!({}))?.contains(&before), "the agent removes it");
        }
        cluster.finish()
    })());
}

#[test]
fn sandboxes_of_clients_own_live_beside_pods() {
    must((|| {
        let mut cluster = Cluster::start(Options::tutorial())?;
        run_pods(&cluster)?;
        let files = cluster.data_dir().with_file_name("own");
        let logs = files.join("logs");
        let config = json!({
            "metadata": { "name": "own", "namespace": "tools", "uid": "u-1", "attempt": 1 },
            "hostname": "own-host", "logDirectory": logs, "labels": { "a": "b" }, "annotations": { "c": "d" },
            "dnsConfig": { "servers": ["10.43.0.10"], "searches": ["default.svc.cluster.local"] },
        });
        let made = cluster.cri_call("RunPodSandbox", &json!({ "config": config }))?;
        let own = made["podSandboxId"].as_str().context("an id")?.to_owned();
        let again = cluster.cri_refusal("RunPodSandbox", &json!({ "config": config }))?;
        in_order(&again, &["ALREADY_EXISTS", &own]);
        let script = "echo begun as $NAME on $(hostname); trap 'echo asked; exit 5' INT; sleep 1000 & wait";
        let container = json!({
            "metadata": { "name": "box" }, "image": { "image": "busybox:1.37" }, "command": ["sh", "-c", script],
            // Bytes are base64 in JSON.
            "envs": [{ "key": "NAME", "value": "Qm94" }], "logPath": "box.log", "stopSignal": "SIGINT",
            "mounts": [{ "containerPath": "/given", "hostPath": files.join("given") }],
            "linux": {
                "resources": { "memoryLimitInBytes": "67108864" },
                "securityContext": { "runAsUser": { "value": "0" }, "seccomp": { "profileType": "RuntimeDefault" } },
            },
        });
        let create = json!({ "podSandboxId": own, "config": container, "sandboxConfig": config });
        let made = cluster.cri_call("CreateContainer", &create)?;
        let container = made["containerId"].as_str().context("an id")?.to_owned();
        cluster.cri_call("StartContainer", &json!({ "containerId": container }))?;
        let twice = cluster.cri_refusal("StartContainer", &json!({ "containerId": container }))?;
        in_order(&twice, &["FAILED_PRECONDITION", "CONTAINER_RUNNING"]);
        eventually("its log", || {
            let text = std::fs::read_to_string(logs.join("box.log"))?;
            ensure!(text.contains("stdout F begun as Box on own-host\n"), "{text}");
            Ok(())
        });
        reaches(&cluster, &container)?;
        let wider = json!({ "containerId": container, "linux": { "memoryLimitInBytes": "134217728" } });
        cluster.cri_call("UpdateContainerResources", &wider)?;
        assert_eq!(status(&cluster, &container)?["resources"]["linux"]["memoryLimitInBytes"], "134217728");

        // The agent of the next process neither removes it nor counts it among its pods.
        cluster.stop_server(Signal::SIGTERM)?;
        ensure!(!cluster.cri_socket().exists(), "the socket goes with its server");
        cluster.start_server()?;
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])?.ok();
        let shown = eventually("the address of the sandbox", || {
            let shown = cluster.cri_call("PodSandboxStatus", &json!({ "podSandboxId": own }))?["status"].clone();
            ensure!(shown["network"]["ip"] != "", "{shown}");
            Ok(shown)
        });
        assert_eq!((&shown["state"], &shown["metadata"]), (&json!("SANDBOX_READY"), &config["metadata"]));
        assert_eq!((&shown["labels"], &shown["annotations"]), (&json!({ "a": "b" }), &json!({ "c": "d" })));
        assert_eq!(status(&cluster, &container)?["state"], "CONTAINER_RUNNING");
        reaches(&cluster, &container)?;
        let name = cluster.object(&["nodes"])?["items"][0]["metadata"]["name"].clone();
        let summary = format!("/api/v1/nodes/{}/proxy/stats/summary", name.as_str().context("a node")?);
        let summary = cluster.kubectl(&["get", "--raw", &summary])?.ok();
        ensure!(summary.contains("\"web\"") && !summary.contains("\"own\""), "{summary}");

        cluster.cri_call("StopContainer", &json!({ "containerId": container, "timeout": "20" }))?;
        let ended = status(&cluster, &container)?;
        assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(5), &json!("Error")), "{ended}");
        cluster.cri_call("RemoveContainer", &json!({ "containerId": container }))?;
        cluster.cri_call("StopPodSandbox", &json!({ "podSandboxId": own }))?;
        let stopped = json!({ "state": { "state": "SANDBOX_NOTREADY" } });
        assert_eq!(ids(&cluster, "ListPodSandbox", stopped)?, std::slice::from_ref(&own));
        cluster.cri_call("RemovePodSandbox", &json!({ "podSandboxId": own }))?;
        cluster.cri_call("RemovePodSandbox", &json!({ "podSandboxId": own }))?;
        assert_eq!(ids(&cluster, "ListPodSandbox", json!({}))?.len(), 2);
        // One that is still there goes with everything else.
        cluster.cri_call("RunPodSandbox", &json!({ "config": config }))?;
        cluster.finish()
    })());
}

/// It reaches the pods by their addresses, and the cluster's DNS.
fn reaches(cluster: &Cluster, container: &str) -> Result<()> {
    let web = cluster.object(&["pod", "web"])?["status"]["podIP"].as_str().context("an address")?.to_owned();
    let script = format!("wget -q -O - http://{web}/ && nslookup kubernetes.default.svc.cluster.local");
    eventually("the way to a pod", || {
        let asked = json!({ "containerId": container, "cmd": ["sh", "-c", script], "timeout": 30 });
        let answer = cluster.cri_call("ExecSync", &asked)?;
        ensure!(answer["exitCode"] == 0, "{answer}");
        Ok(())
    });
    Ok(())
}

#[test]
fn bad_input_is_told_and_the_server_stays() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(cluster.cri_socket())?.permissions());
        assert_eq!(mode & 0o777, 0o600);
        let found: Value = serde_json::from_str(&cluster.cri(&["spoil"], "")?.ok()).context("what came of it")?;
        let wanted = json!({
            "a method that there is not": "UNIMPLEMENTED",
            "an older version of the interface": "UNIMPLEMENTED",
            "a message cut short": "INTERNAL",
            "a field of another type": "INTERNAL",
            "text that is no UTF-8": "INTERNAL",
            "a message over the limit": "RESOURCE_EXHAUSTED",
            "afterwards": "OK",
        });
        assert_eq!(found, wanted);
        let unknown = json!({ "containerId": "x" });
        for method in ["StartContainer", "ContainerStatus", "ContainerStats", "ExecSync", "Exec", "Attach"] {
            in_order(&cluster.cri_refusal(method, &unknown)?, &["NOT_FOUND: container \"x\" not found"]);
        }
        for method in ["PodSandboxStatus", "PodSandboxStats", "PortForward", "CreateContainer"] {
            let refusal = cluster.cri_refusal(method, &json!({ "podSandboxId": "x" }))?;
            in_order(&refusal, &["NOT_FOUND: sandbox \"x\" not found"]);
        }
        assert_eq!(cluster.cri_call("ImageStatus", &json!({ "image": { "image": "absent" } }))?.get("image"), None);
        cluster.cri_call("RemoveImage", &json!({ "image": { "image": "absent" } }))?;
        let bad = cluster.cri_refusal("PullImage", &json!({ "image": { "image": "Not/A/Name" } }))?;
        in_order(&bad, &["INVALID_ARGUMENT", "invalid reference format"]);
        for (config, code) in
            [(json!({}), "INVALID_ARGUMENT"), (json!({ "metadata": { "name": "p" } }), "INVALID_ARGUMENT")]
        {
            in_order(&cluster.cri_refusal("RunPodSandbox", &json!({ "config": config }))?, &[code]);
        }
        let metadata = json!({ "name": "p", "namespace": "n", "uid": "u" });
        let handler = json!({ "config": { "metadata": metadata }, "runtimeHandler": "kata" });
        in_order(&cluster.cri_refusal("RunPodSandbox", &handler)?, &["NOT_FOUND", "kata"]);
        assert_eq!(ids(&cluster, "ListPodSandbox", json!({}))?, Vec::<String>::new());
        cluster.finish()
    })());
}
