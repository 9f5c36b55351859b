//! The network with plug-ins that write down what they are asked, and fail as they are told to.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base_sys::netns::NetNs;
use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use net_cni::{Cni, CniConfig, Dns};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Notes its environment and what it is told; fails while a file named after what it is asked is there; ADD answers one
/// address, or what the plug-in before has answered.
const PLUG_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
told=$(cat)
echo "$(basename "$0") $CNI_COMMAND $CNI_CONTAINERID ${CNI_NETNS:+netns }$CNI_IFNAME $CNI_ARGS $told" >> "$here/asked"
if [ -e "$here/$(basename "$0")-$CNI_COMMAND" ]; then
    cat "$here/$(basename "$0")-$CNI_COMMAND"
    exit 1
fi
if [ "$CNI_COMMAND" = ADD ]; then
    echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.42.0.7/24","interface":0}]}'
fi
"#;

struct Host {
    directory: TempDir,
    netns: NetNs,
    tasks: Tasks,
}

impl Host {
    fn new(version: &str) -> Self {
        let host = Self {
            directory: tempfile::tempdir().unwrap(),
            netns: NetNs::create().unwrap(),
            tasks: Tasks::root("test"),
        };
        std::fs::create_dir(host.path("bin")).unwrap();
        std::fs::create_dir(host.path("conf")).unwrap();
        for name in ["first", "second"] {
            let program = host.path("bin").join(name);
            std::fs::write(&program, PLUG_IN).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        host.configure(version);
        host
    }

    fn configure(&self, version: &str) {
        let list = json!({
            "cniVersion": version, "name": "pods",
            "plugins": [{"type": "first"}, {"type": "second", "capabilities": {"dns": true}}],
        });
        std::fs::write(self.path("conf").join("10-pods.conflist"), list.to_string()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self) -> CniConfig {
        CniConfig {
            conf_dir: self.path("conf"),
            bin_dirs: vec![self.path("none"), self.path("bin")],
            state_dir: self.path("state"),
            node_ip: [192, 0, 2, 1].into(),
        }
    }

    async fn start(&self) -> Cni {
        Cni::start(&self.tasks, self.config()).await.unwrap()
    }

    async fn attach(&self, cni: &Cni) -> Result<String, String> {
        let netns = PathBuf::from(format!("/proc/self/fd/{}", self.netns.fd().as_raw_fd()));
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "till", "uid": "u1"}})).unwrap();
        let dns = Dns { servers: vec!["10.43.0.10".into()], ..Dns::default() };
        let ips = cni.attach("s1", &netns, &pod, &dns).await.map_err(|error| chain(&error))?;
        Ok(format!("{ips:?}"))
    }

    /// What was asked since the last look.
    fn asked(&self) -> Vec<String> {
        let path = self.path("bin").join("asked");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(ToOwned::to_owned).collect()
    }

    fn verbs(&self) -> Vec<String> {
        let two = |line: &String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        self.asked().iter().map(two).collect()
    }

    fn fail(&self, what: &str) {
        std::fs::write(self.path("bin").join(what), json!({"code": 50, "msg": "not today"}).to_string()).unwrap();
    }

    fn mend(&self, what: &str) {
        std::fs::remove_file(self.path("bin").join(what)).unwrap();
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn told(line: &str) -> Value {
    serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()
}

#[tokio::test]
async fn a_chain_is_asked_in_order_and_let_go_in_the_other_with_the_same_words() {
    let host = Host::new("1.0.0");
    let cni = host.start().await;
    assert!(host.asked().is_empty(), "version 1.0.0 has no STATUS");
    assert_eq!(host.attach(&cni).await.unwrap(), "[10.42.0.7]");
    let asked = host.asked();
    let about = "s1 netns eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=till;K8S_POD_INFRA_CONTAINER_ID=s1;\
                 K8S_POD_UID=u1 ";
    assert!(asked[0].starts_with(&format!("first ADD {about}")), "{asked:?}");
    assert!(asked[1].starts_with(&format!("second ADD {about}")), "{asked:?}");
    let (first, second) = (told(&asked[0]), told(&asked[1]));
    assert_eq!(
        (&first["name"], &first["cniVersion"], &first["type"]),
        (&json!("pods"), &json!("1.0.0"), &json!("first"))
    );
    assert_eq!((&first["prevResult"], &first["runtimeConfig"]), (&Value::Null, &Value::Null));
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.42.0.7/24");
    assert_eq!(second["runtimeConfig"]["dns"]["servers"], json!(["10.43.0.10"]));
    assert!(second.get("capabilities").is_none());
    // Another run, and the configuration is gone: DEL is told what ADD was, and the result.
    let _ = std::fs::remove_file(host.path("conf").join("10-pods.conflist"));
    let cni = host.start().await;
    assert!(cni.trouble().borrow().as_ref().unwrap().contains("no network config found in"));
    assert_eq!(host.attach(&cni).await.unwrap(), "[10.42.0.7]", "connected already");
    assert_eq!(host.verbs(), ["first CHECK", "second CHECK"]);
    cni.detach("s1").await.unwrap();
    let asked = host.asked();
    assert!(asked[0].starts_with(&format!("second DEL {about}")), "{asked:?}");
    assert!(asked[1].starts_with(&format!("first DEL {about}")), "{asked:?}");
    assert_eq!(told(&asked[1])["prevResult"]["ips"][0]["address"], "10.42.0.7/24");
    assert_eq!(told(&asked[0])["runtimeConfig"]["dns"]["servers"], json!(["10.43.0.10"]));
    cni.detach("s1").await.unwrap();
    assert!(host.asked().is_empty(), "let go once");
    let refused = host.attach(&cni).await.unwrap_err();
    assert!(refused.contains("no network config found in"), "{refused}");
}

#[tokio::test]
async fn what_fails_to_let_go_is_asked_again_also_by_another_run() {
    let host = Host::new("0.3.1");
    let cni = host.start().await;
    host.fail("second-ADD");
    let refused = host.attach(&cni).await.unwrap_err();
    assert_eq!(refused, "network \"pods\": plugin type=\"second\" failed (add): not today");
    host.asked();
    host.fail("second-DEL");
    let refused = chain(&cni.detach("s1").await.unwrap_err());
    assert_eq!(refused, "network \"pods\": plugin type=\"second\" failed (del): not today");
    let asked = host.asked();
    assert_eq!(asked.len(), 2, "the others are asked all the same: {asked:?}");
    assert!(told(&asked[1]).get("prevResult").is_none(), "0.3.1 has none for DEL");
    let cni = host.start().await;
    assert!(cni.reconcile(&HashSet::new()).await.is_err());
    host.mend("second-DEL");
    host.mend("second-ADD");
    host.asked();
    // What was only begun is let go before it is begun again.
    assert_eq!(host.attach(&cni).await.unwrap(), "[10.42.0.7]");
    assert_eq!(host.verbs(), ["second DEL", "first DEL", "first ADD", "second ADD"]);
    cni.reconcile(&HashSet::from(["s1".to_owned()])).await.unwrap();
    assert!(host.asked().is_empty(), "a live one stays");
    cni.reconcile(&HashSet::new()).await.unwrap();
    assert_eq!(host.verbs(), ["second DEL", "first DEL"]);
    Cni::remove_all(&host.path("state"), &host.config().bin_dirs).await.unwrap();
    assert!(host.asked().is_empty());
}

#[tokio::test]
async fn from_version_1_1_plug_ins_say_whether_they_can_work_and_free_what_is_left() {
    let host = Host::new("1.1.0");
    host.fail("second-STATUS");
    let cni = host.start().await;
    let mut trouble = cni.trouble();
    let said = trouble.borrow_and_update().clone().unwrap();
    assert_eq!(said, "plugin type=\"second\" failed (status): not today");
    assert!(host.attach(&cni).await.unwrap_err().contains("not today"));
    host.mend("second-STATUS");
    // Written again: the folder is an event, the plug-ins' mending is none.
    host.configure("1.1.0");
    trouble.changed().await.unwrap();
    assert_eq!(*trouble.borrow_and_update(), None);
    host.attach(&cni).await.unwrap();
    host.asked();
    cni.reconcile(&HashSet::from(["s1".to_owned()])).await.unwrap();
    let asked = host.asked();
    let valid = json!([{"containerID": "s1", "ifname": "eth0"}]);
    assert_eq!(
        asked.iter().map(|line| told(line)["cni.dev/valid-attachments"].clone()).collect::<Vec<_>>(),
        [valid.clone(), valid.clone()]
    );
    assert!(asked[0].starts_with("first GC"), "{asked:?}");
    // A plug-in that turns out not to be able is asked at once whether any can.
    host.fail("first-ADD");
    host.fail("first-STATUS");
    cni.detach("s1").await.unwrap();
    host.attach(&cni).await.unwrap_err();
    trouble.changed().await.unwrap();
    assert_eq!(trouble.borrow().as_deref(), Some("plugin type=\"first\" failed (status): not today"));
}

#[tokio::test]
async fn the_first_configuration_counts_also_when_it_is_wrong_and_every_change_is_seen() {
    let host = Host::new("1.0.0");
    let cni = host.start().await;
    let mut trouble = cni.trouble();
    assert_eq!(*trouble.borrow_and_update(), None);
    std::fs::write(host.path("conf").join("00-notes.txt"), "no configuration").unwrap();
    std::fs::write(host.path("conf").join("05-bad.conf"), "{\"name\": \"x\"}").unwrap();
    while trouble.borrow_and_update().as_deref().is_none_or(|said| !said.contains("type: is required")) {
        trouble.changed().await.unwrap();
    }
    assert!(trouble.borrow().as_ref().unwrap().contains("05-bad.conf"));
    std::fs::remove_file(host.path("conf").join("05-bad.conf")).unwrap();
    trouble.changed().await.unwrap();
    assert_eq!(*trouble.borrow_and_update(), None);
    std::fs::remove_dir_all(host.path("conf")).unwrap();
    trouble.changed().await.unwrap();
    assert!(trouble.borrow_and_update().is_some());
    while !host.path("conf").exists() {
        tokio::task::yield_now().await;
    }
    host.configure("1.0.0");
    while trouble.borrow_and_update().is_some() {
        trouble.changed().await.unwrap();
    }
}

#[tokio::test]
async fn programs_that_do_not_keep_to_the_rules_are_told_of() {
    let host = Host::new("1.0.0");
    let cni = host.start().await;
    let first = host.path("bin").join("first");
    let mut said = Vec::new();
    for script in [
        "#!/bin/sh\necho broken >&2\nexit 3\n",
        "#!/bin/sh\nhead -c 2000000 /dev/zero\n",
        "#!/bin/sh\necho '[]'\n",
        "#!/nowhere\n",
    ] {
        std::fs::write(&first, script).unwrap();
        said.push(host.attach(&cni).await.unwrap_err());
        std::fs::write(&first, PLUG_IN).unwrap();
        cni.detach("s1").await.unwrap();
    }
    std::fs::remove_file(&first).unwrap();
    said.push(host.attach(&cni).await.unwrap_err());
    let ends = ["exit status: 3: broken", "more than 1048576 bytes", "must be an object", "No such file", "/bin"];
    for (said, end) in said.iter().zip(ends) {
        assert!(said.contains("plugin type=\"first\" failed (add)") && said.contains(end), "{said}");
    }
}
