//! logs, exec, run, attach, cp: what goes through the API server to a container and back.

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Options, eventually, must, spdy_kubectls, with_every_kubectl};

use crate::{WAITER, in_order};

const IMAGE: &str = "--image=busybox:1.37";

fn busybox() -> Options {
    Options { images: vec!["busybox"], ..Options::default() }
}

/// A pod of one container that runs a shell script, and never again.
fn run(cluster: &Cluster, name: &str, script: &str) -> Result<()> {
    cluster.kubectl(&["run", name, IMAGE, "--restart=Never", "--", "sh", "-c", script])?.ok();
    Ok(())
}

fn reach(cluster: &Cluster, pod: &str, phase: &str) {
    eventually("the pod's phase", || {
        let now = cluster.object(&["pod", pod])?["status"]["phase"].clone();
        ensure!(now == phase, "{now}");
        Ok(())
    });
}

fn wait_for(cluster: &Cluster, pod: &str, condition: &str) -> Result<()> {
    cluster.kubectl(&["wait", &format!("pod/{pod}"), &format!("--for={condition}"), "--timeout=60s"])?.ok();
    Ok(())
}

#[test]
fn logs_are_read_whole_in_part_and_as_they_come() {
    must(with_every_kubectl(&busybox(), |cluster| {
        run(cluster, "talker", "echo one; echo two; echo three; until [ -e /go ]; do sleep 0.05; done; echo last")?;
        wait_for(cluster, "talker", "condition=Ready")?;
        let mut follow = cluster.session(&["logs", "-f", "talker"])?;
        follow.expect("three\n")?;
        let logs =
            |more: &[&str]| -> Result<String> { Ok(cluster.kubectl(&[&["logs", "talker"], more].concat())?.ok()) };
        assert_eq!(logs(&[])?, "one\ntwo\nthree\n");
        assert_eq!(logs(&["--tail=1"])?, "three\n");
        assert_eq!(logs(&["--tail=0"])?, "");
        assert_eq!(logs(&["--since=1h"])?, "one\ntwo\nthree\n");
        assert_eq!(logs(&["--since-time=2100-01-01T00:00:00Z"])?, "");
        assert_eq!(logs(&["--limit-bytes=5"])?, "one\nt");
        let stamped = logs(&["--timestamps"])?;
        for (line, expected) in stamped.lines().zip(["one", "two", "three"]) {
            let (time, text) = line.split_once(' ').context("a timestamp")?;
            assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{line}");
            assert_eq!(text, expected);
        }
        assert_eq!(logs(&["--prefix"])?.lines().next(), Some("[pod/talker/talker] one"));
        cluster.kubectl(&["exec", "talker", "--", "touch", "/go"])?.ok();
        // The container's end is the log's.
        let (status, followed) = follow.finish()?;
        assert!(status.success());
        assert_eq!(followed, "one\ntwo\nthree\nlast\n");
        wait_for(cluster, "talker", "jsonpath={.status.phase}=Succeeded")?;
        assert_eq!(logs(&[])?, "one\ntwo\nthree\nlast\n");

        of_an_earlier_run(cluster)?;
        of_several_containers(cluster)?;
        of_nothing(cluster)
    }));
}

fn of_an_earlier_run(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["run", "again", IMAGE, "--", "sh", "-c", "echo run $(date +%N); exit 1"])?.ok();
    eventually("a second run", || {
        let pod = cluster.object(&["pod", "again"])?;
        let status = &pod["status"]["containerStatuses"][0];
        ensure!(status["restartCount"].as_u64() >= Some(1) && !status["lastState"]["terminated"].is_null(), "{status}");
        Ok(())
    });
    let previous = cluster.kubectl(&["logs", "again", "--previous"])?.ok();
    assert!(previous.starts_with("run ") && previous.lines().count() == 1, "{previous}");
    let never = cluster.kubectl(&["logs", "talker", "--previous"])?.error();
    in_order(&never, &["previous terminated container \"talker\" in pod \"talker\" not found"]);
    Ok(())
}

fn of_several_containers(cluster: &Cluster) -> Result<()> {
    let container = |name: &str| {
        format!("  - name: {name}\n    image: busybox:1.37\n    command: [sh, -c, \"echo I am {name}; {WAITER}\"]\n")
    };
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pair\n  labels: {{app: pair}}\nspec:\n  containers:\n{}{}",
        container("left"),
        container("right")
    );
    cluster.apply(&manifest)?;
    wait_for(cluster, "pair", "condition=Ready")?;
    let logs = |arguments: &[&str]| cluster.kubectl(&[&["logs"], arguments].concat());
    let answer = logs(&["pair"])?;
    assert!(answer.stderr.contains("Defaulted container \"left\" out of: left, right"), "{}", answer.stderr);
    assert_eq!(answer.ok(), "I am left\n");
    assert_eq!(logs(&["pair", "-c", "right"])?.ok(), "I am right\n");
    // kubectl asks for several containers in no order.
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(logs(&["pair", "--all-containers"])?.ok()), ["I am left", "I am right"]);
    let selected = logs(&["-l", "app=pair", "--all-containers", "--prefix"])?.ok();
    assert_eq!(sorted(selected), ["[pod/pair/left] I am left", "[pod/pair/right] I am right"]);
    let wrong = logs(&["pair", "-c", "middle"])?.error();
    in_order(&wrong, &["container middle is not valid for pod pair"]);
    // The raw API has no default where there is a choice.
    let raw = cluster.kubectl(&["get", "--raw", "/api/v1/namespaces/default/pods/pair/log"])?.error();
    in_order(&raw, &["a container name must be specified for pod pair, choose one of: [left right]"]);
    let hostname = |arguments: &[&str]| cluster.kubectl(&[&["exec", "pair"], arguments, &["--", "hostname"]].concat());
    assert_eq!(hostname(&[])?.ok(), "pair\n");
    assert_eq!(hostname(&["-c", "right"])?.ok(), "pair\n");
    Ok(())
}

fn of_nothing(cluster: &Cluster) -> Result<()> {
    let missing = cluster.kubectl(&["logs", "nobody"])?.error();
    in_order(&missing, &["(NotFound)", "pods \"nobody\" not found"]);
    cluster.kubectl(&["run", "waiting", "--image=localhost/none:1"])?.ok();
    eventually("the pod waits for its image", || {
        let answer = cluster.kubectl(&["logs", "waiting"])?;
        let expected = "container \"waiting\" in pod \"waiting\" is waiting to start: ";
        ensure!(answer.stderr.contains("(BadRequest)") && answer.stderr.contains(expected), "{}", answer.stderr);
        ensure!(answer.stderr.contains("image"), "{}", answer.stderr);
        Ok(())
    });
    Ok(())
}

#[test]
fn commands_run_in_containers() {
    must(with_every_kubectl(&busybox(), |cluster| {
        boxes(cluster)?;
        commands(cluster)
    }));
}

/// Runs `test` with every kubectl that speaks SPDY, in one cluster.
fn over_spdy(prepare: impl Fn(&Cluster) -> Result<()>, test: impl Fn(&Cluster) -> Result<()>) -> Result<()> {
    let mut cluster = Cluster::start(busybox())?;
    prepare(&cluster)?;
    let scripts = tempfile::tempdir().context("a folder for scripts")?;
    for kubectl in spdy_kubectls(scripts.path())? {
        let path = kubectl.display().to_string();
        cluster.kubectl = kubectl;
        test(&cluster).with_context(|| format!("with {path}"))?;
    }
    cluster.finish()
}

#[test]
fn commands_run_in_containers_over_spdy() {
    must(over_spdy(boxes, commands));
}

/// A pod that runs, and one that has.
fn boxes(cluster: &Cluster) -> Result<()> {
    run(cluster, "box", WAITER)?;
    run(cluster, "done", "true")?;
    wait_for(cluster, "box", "condition=Ready")?;
    reach(cluster, "done", "Succeeded");
    Ok(())
}

fn commands(cluster: &Cluster) -> Result<()> {
    let exec = |command: &[&str]| cluster.kubectl(&[&["exec", "box", "--"], command].concat());
    assert_eq!(exec(&["echo", "a  b", "$HOME"])?.ok(), "a  b $HOME\n");
    let both = exec(&["sh", "-c", "echo out; echo err >&2"])?;
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    let failed = exec(&["sh", "-c", "exit 7"])?;
    assert_eq!((failed.code, failed.stderr.as_str()), (Some(7), "command terminated with exit code 7\n"));
    in_order(&exec(&["nosuchprogram"])?.error(), &["nosuchprogram", "executable file not found in $PATH"]);
    let text: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    let echoed = cluster.kubectl_input(&["exec", "-i", "box", "--", "cat"], &text)?.ok();
    assert!(echoed == text, "{} bytes of {} came back", echoed.len(), text.len());
    let counted = cluster.kubectl_input(&["exec", "-i", "box", "--", "wc", "-c"], &text)?.ok();
    assert_eq!(counted.trim(), text.len().to_string());

    let mut shell = cluster.terminal(&["exec", "-it", "box", "--", "sh"])?;
    shell.expect("# ")?;
    shell.send("tty; stty size\n")?;
    shell.expect("/dev/pts/")?;
    shell.expect("40 132")?;
    shell.send("exit 5\n")?;
    assert_eq!(shell.finish()?.0.code(), Some(5));

    in_order(
        &cluster.kubectl(&["exec", "box", "-c", "nobody", "--", "ls"])?.error(),
        &["container nobody is not valid for pod box"],
    );
    assert_eq!(
        cluster.kubectl(&["exec", "nobody", "--", "ls"])?.error(),
        "Error from server (NotFound): pods \"nobody\" not found\n"
    );
    in_order(&cluster.kubectl(&["exec", "done", "--", "ls"])?.error(), &["cannot exec", "completed pod"]);
    copied(cluster)
}

fn copied(cluster: &Cluster) -> Result<()> {
    let text = "some text\n".repeat(10_000);
    let file = cluster.write("sent", &text)?;
    cluster.kubectl(&["cp", &file, "box:/tmp/received"])?.ok();
    assert!(cluster.kubectl(&["exec", "box", "--", "cat", "/tmp/received"])?.ok() == text);
    let back = format!("{file}-back");
    cluster.kubectl(&["cp", "box:/tmp/received", &back])?.ok();
    assert!(std::fs::read_to_string(back)? == text);
    Ok(())
}

#[test]
fn pods_are_run_in_the_foreground_and_removed() {
    must(with_every_kubectl(&busybox(), in_the_foreground));
}

#[test]
fn pods_are_run_in_the_foreground_and_removed_over_spdy() {
    must(over_spdy(|_| Ok(()), in_the_foreground));
}

fn in_the_foreground(cluster: &Cluster) -> Result<()> {
    let gone = |name: &str| -> Result<()> {
        assert_eq!(
            cluster.kubectl(&["get", "pod", name])?.error(),
            format!("Error from server (NotFound): pods \"{name}\" not found\n")
        );
        Ok(())
    };
    let piped = ["run", "pipe", IMAGE, "-i", "--rm", "--restart=Never", "--", "tr", "a-z", "A-Z"];
    let answer = cluster.kubectl_input(&piped, "hello\n")?.ok();
    in_order(&answer, &["HELLO\n", "pod \"pipe\" deleted"]);
    gone("pipe")?;

    let mut shell = cluster.terminal(&["run", "shell", IMAGE, "-i", "--tty", "--rm", "--restart=Never", "--", "sh"])?;
    // The first prompt may be printed before kubectl has attached.
    shell.send("\n")?;
    shell.expect("# ")?;
    shell.send("echo I am $(hostname)\n")?;
    shell.expect("I am shell")?;
    shell.send("tty\n")?;
    shell.expect("/dev/pts/0")?;
    shell.send("exit 3\n")?;
    let (status, said) = shell.finish()?;
    assert_eq!(status.code(), Some(3), "{said}");
    in_order(&said, &["pod \"shell\" deleted"]);
    gone("shell")?;

    let failing = ["run", "failing", IMAGE, "-i", "--rm", "--restart=Never", "--", "sh", "-c", "read line; exit 4"];
    let failed = cluster.kubectl_input(&failing, "go\n")?;
    assert_eq!(failed.code, Some(4), "{failed:?}");
    gone("failing")?;

    let labelled = cluster
        .kubectl(&["run", "web", IMAGE, "--labels=a=b", "--env=C=d", "--port=80", "--dry-run=server", "-o", "json"])?
        .ok();
    in_order(&labelled, &["\"containerPort\": 80", "\"name\": \"C\"", "\"value\": \"d\""]);
    Ok(())
}

#[test]
fn a_running_container_is_attached_to() {
    must(with_every_kubectl(&busybox(), attached));
}

#[test]
fn a_running_container_is_attached_to_over_spdy() {
    must(over_spdy(|_| Ok(()), attached));
}

fn attached(cluster: &Cluster) -> Result<()> {
    cluster.apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: echo}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: echo\n    \
             image: busybox:1.37\n    stdin: true\n    \
             command: [sh, -c, 'while read line; do echo \"got $line\"; [ \"$line\" = end ] && exit 6; done']\n",
        )?;
    wait_for(cluster, "echo", "condition=Ready")?;
    let mut first = cluster.session(&["attach", "-i", "echo"])?;
    first.send("one\n")?;
    first.expect("got one\n")?;
    // Both see what the container prints.
    let mut second = cluster.session(&["attach", "-i", "echo"])?;
    second.send("two\n")?;
    second.expect("got two\n")?;
    first.expect("got two\n")?;
    drop(first);
    second.send("end\n")?;
    second.expect("got end\n")?;
    let (_, said) = second.finish()?;
    assert!(!said.contains("rror"), "{said}");
    reach(cluster, "echo", "Failed");
    let code = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    assert_eq!(cluster.kubectl(&["get", "pod", "echo", "-o", code])?.ok(), "6");
    assert_eq!(cluster.kubectl(&["logs", "echo"])?.ok(), "got one\ngot two\ngot end\n");
    in_order(&cluster.kubectl(&["attach", "echo"])?.error(), &["cannot attach", "completed pod"]);
    cluster.kubectl(&["delete", "pod", "echo"])?.ok();
    Ok(())
}
