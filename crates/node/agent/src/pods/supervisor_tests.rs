//! The supervisor over an informer of a fake API server.

use std::convert::Infallible;
use std::sync::Arc;

use base_tasks::Tasks;
use http::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher;
use machinery_client::informer;
use serde_json::json;
use tokio::sync::mpsc;

use crate::fakes::World;
use crate::pods::{Supervisor, project};
use crate::seams::{Container, ContainerState, Exit, Runtime, RuntimeEvent, Sandbox, SandboxSpec, label};

/// Lists one pod and then keeps the watch open for ever.
fn client() -> kube::Client {
    machinery_client::over(tower::service_fn(|request: Request<kube::client::Body>| async move {
        let watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let items = json!([{"metadata": {"name": "web", "namespace": "default", "uid": "u1", "resourceVersion": "1"},
            "spec": {"nodeName": "node", "containers": [{"name": "app", "image": "nginx", "imagePullPolicy": "IfNotPresent"}]}}]);
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
        let body = if watch {
            http_body_util::Either::Left(http_body_util::StreamBody::new(futures::stream::pending::<
                Result<hyper::body::Frame<bytes::Bytes>, Infallible>,
            >()))
        } else {
            http_body_util::Either::Right(http_body_util::Full::new(bytes::Bytes::from(list.to_string())))
        };
        Ok::<_, Infallible>(Response::new(body))
    }))
}

#[tokio::test(start_paused = true)]
async fn strangers_go_pods_start_and_exits_reach_their_worker() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let machine = world.machine(dir.path());
    for gone in ["pods/u0", "logs/default_old_u0", "logs/default_web_u1"] {
        std::fs::create_dir_all(dir.path().join(gone)).unwrap();
    }
    let labels = [(label::POD_UID.to_owned(), "u0".to_owned())].into();
    let stranger = SandboxSpec {
        id: "stranger".into(),
        hostname: String::new(),
        labels,
        host_network: false,
        host_ipc: false,
        processes: crate::seams::Processes::Own,
        users: None,
        sysctls: Default::default(),
        cgroup_parent: String::new(),
        resources: Default::default(),
        privileged: false,
        log_directory: Default::default(),
    };
    let mut foreign = SandboxSpec { id: "foreign".into(), ..stranger.clone() };
    foreign.labels.insert(label::FOREIGN.to_owned(), "{}".to_owned());
    world.create_sandbox(stranger).await.unwrap();
    world.create_sandbox(foreign).await.unwrap();
    let tasks = Tasks::root("test");
    let pods = informer(&tasks, Api::<Pod>::all(client()), watcher::Config::default(), project);
    let (events, receiver) = mpsc::unbounded_channel();
    let supervisor = Supervisor::new(&tasks, Arc::clone(&machine), crate::seams::Resources::default());
    let (_manifests, none) = tokio::sync::watch::channel(Default::default());
    let running = tokio::spawn(supervisor.run(pods, none, receiver));
    world.until("pod runs", |state| state.calls.iter().any(|call| call == "start app")).await;
    {
        let state = world.state.lock().unwrap();
        assert!(!state.sandboxes.contains_key("stranger"));
        assert!(state.sandboxes.contains_key("foreign"), "a client of the CRI's socket has it");
        // The cgroups that pods share are made beside.
        let calls: Vec<_> = state.calls.iter().filter(|call| !call.starts_with("limit ")).collect();
        assert_eq!(calls[2..5], ["reconcile 2", "detach network", "remove sandbox"]);
    }
    assert!(!dir.path().join("pods/u0").exists() && !dir.path().join("logs/default_old_u0").exists());
    assert!(dir.path().join("logs/default_web_u1").exists());
    world.until("ready", |state| state.status["phase"] == "Running").await;
    let (sandbox, container) = {
        let state = world.state.lock().unwrap();
        let own = state.sandboxes.values().find(|sandbox| !sandbox.is_foreign());
        let Sandbox { id, containers, .. } = own.unwrap().clone();
        let Container { id: container, state, .. } = containers[0].clone();
        assert!(matches!(state, ContainerState::Running { .. }));
        (id, container)
    };
    let exit = Exit {
        exit_code: 2,
        signal: None,
        oom_killed: false,
        started_at: None,
        finished_at: world.clock.now(),
        reason: None,
        message: String::new(),
    };
    events.send(RuntimeEvent::ContainerExited { sandbox, container, exit }).unwrap();
    world.until("restarted", |state| state.calls.iter().any(|call| call == "create app #1")).await;
    running.abort();
}
