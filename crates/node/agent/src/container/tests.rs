//! Container specs from pod specs.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::*;
use crate::seams::Resources;

fn make(pod_spec: Value, container: Value, image: &Image) -> Result<ContainerSpec, ConfigError> {
    let mut container = container;
    container["name"] = "app".into();
    let mut pod_spec = pod_spec;
    pod_spec["containers"] = json!([container]);
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "u"});
    let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "spec": pod_spec})).unwrap();
    let spec_of_pod = pod.spec.as_ref().unwrap();
    spec(Ingredients {
        pod: &pod,
        spec: spec_of_pod,
        container: &spec_of_pod.containers[0],
        attempt: 2,
        sandbox: "s",
        image,
        env: vec![("WHO".into(), "world".into())],
        mounts: Vec::new(),
        log_path: "/logs/2.log".into(),
        seccomp: None,
        processes_of: None,
        bounds: &resources::Bounds { memory: 1000 << 20, ..Default::default() },
    })
}

fn image() -> Image {
    crate::fakes::nginx()
}

fn args_of(container: Value) -> Vec<String> {
    make(json!({}), container, &image()).unwrap().args
}

#[test]
fn command_and_args_combine_with_the_images() {
    assert_eq!(args_of(json!({})), ["/entry", "nginx"]);
    assert_eq!(args_of(json!({"args": ["hi $(WHO)", "$$(WHO)"]})), ["/entry", "hi world", "$(WHO)"]);
    assert_eq!(args_of(json!({"command": ["sh"]})), ["sh"]);
    assert_eq!(args_of(json!({"command": ["sh"], "args": ["-c", "x"]})), ["sh", "-c", "x"]);
    let empty = Image { entrypoint: Vec::new(), cmd: Vec::new(), ..image() };
    assert_eq!(make(json!({}), json!({}), &empty), Err(ConfigError::NoCommand));
}

#[test]
fn labels_say_what_an_adopting_agent_needs() {
    let spec = make(json!({}), json!({"image": "nginx"}), &image()).unwrap();
    let wanted = [
        (label::POD_UID, "u"),
        (label::CONTAINER_NAME, "app"),
        (label::ATTEMPT, "2"),
        (label::IMAGE_ID, "sha256:aaaa"),
        (label::STOP_SIGNAL, "SIGQUIT"),
    ];
    for (key, value) in wanted {
        assert_eq!(spec.labels[key], value, "{key}");
    }
    assert_eq!(spec.id.len(), 32);
    assert_ne!(spec.id, identifier(&["s", "app", "3"]));
    assert_ne!(identifier(&["a", "bc"]), identifier(&["ab", "c"]));
}

#[test]
fn resources_follow_upstreams_formulas() {
    let of = |resources: Value| make(json!({}), json!({"resources": resources}), &image()).unwrap().resources;
    let best_effort = Resources { cpu_shares: 2, cpu_period: 100_000, oom_score_adj: 1000, ..Resources::default() };
    assert_eq!(of(json!({})), best_effort);
    let limits = json!({"cpu": "500m", "memory": "100Mi"});
    let guaranteed = Resources {
        cpu_shares: 512,
        cpu_quota: Some(50_000),
        cpu_period: 100_000,
        memory_limit: Some(100 << 20),
        oom_score_adj: -997,
        ..Resources::default()
    };
    assert_eq!(of(json!({"limits": limits, "requests": limits})), guaranteed);
    let burstable = of(json!({"requests": {"cpu": "2", "memory": "250Mi"}}));
    assert_eq!((burstable.cpu_shares, burstable.oom_score_adj), (2048, 750));
    assert_eq!(of(json!({"limits": {"cpu": "1m"}})).cpu_quota, Some(1000));
    // The API server refuses it; here it must only do no harm.
    assert_eq!(of(json!({"limits": {"cpu": "much"}})).cpu_quota, None);
}

#[test]
fn security_context_of_pod_and_container_combine() {
    let pod =
        json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4]}});
    let of_policy = |policy: &str| {
        let pod = json!({"securityContext": {"supplementalGroupsPolicy": policy}});
        make(pod, json!({}), &image()).unwrap().security.only_these_groups
    };
    assert!(of_policy("Strict") && !of_policy("Merge"));
    let own = json!({"securityContext": {"runAsUser": 7, "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}});
    let security = make(pod, own, &image()).unwrap().security;
    assert_eq!((security.user, security.group, security.supplemental_groups), (Some(7), Some(2000), vec![4, 3000]));
    assert!(security.no_new_privileges && security.read_only_rootfs && !security.privileged);
    assert_eq!((security.capabilities_add, security.capabilities_drop), (vec!["NET_ADMIN".into()], vec!["ALL".into()]));
}

#[test]
fn root_is_refused_where_the_spec_forbids_it() {
    let try_as = |user: Value, image_user: &str| {
        let image = Image { user: image_user.into(), ..image() };
        let security = json!({"runAsNonRoot": true, "runAsUser": user});
        make(json!({"securityContext": security}), json!({}), &image).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(try_as(Value::Null, "101:101"), Ok(()));
    assert_eq!(try_as(json!(5), ""), Ok(()));
    assert_eq!(try_as(json!(0), "101"), Err("container's runAsUser breaks non-root policy".into()));
    assert_eq!(try_as(Value::Null, ""), Err("container has runAsNonRoot and image will run as root".into()));
    let named = "container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root";
    assert_eq!(try_as(Value::Null, "nginx"), Err(named.into()));
}

#[test]
fn signals_by_any_name() {
    assert_eq!(
        ["SIGQUIT", "quit", "3", "SIGRTMIN+3", "SIGTERM"].map(signal_number),
        [Some(3), Some(3), Some(3), Some(37), Some(15)]
    );
    assert_eq!(["", "SIG", "SIGNOPE", "0", "65", "-1", "RTMIN+99"].map(signal_number), [None; 7]);
}

#[test]
fn the_hash_sees_name_and_image_only() {
    let hash = |name: &str, image: &str, args: Option<Vec<String>>| {
        crate::plan::spec_hash(&Container {
            name: name.into(),
            image: Some(image.into()),
            args,
            ..Container::default()
        })
    };
    assert_eq!(hash("a", "i", None), hash("a", "i", Some(vec!["x".into()])));
    assert_ne!(hash("a", "i", None), hash("a", "j", None));
    assert_eq!(
        hash("app", "nginx", None),
        "f80a6da626ddc790d3a5fa39c0fee6a0",
        "adopting agents compare with what older ones wrote"
    );
}
