//! Golden plans: one line per situation, as a reader would tell the pod's life.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::plan::{Plan, plan, spec_hash};
use crate::seams::Exit;
use crate::state::{
    CrashBackoff, Ended, Failure, Health, Held, ImageState, Instance, PodState, PostStart, ProbeKind, Record, Removal,
    Running, SandboxState, Stage, Stopping, Terminal, Termination, Volumes, later,
};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_secs(seconds)
}

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "app", "image": "nginx"}]);
    }
    serde_json::from_value(json!({"metadata": {"name": "web", "uid": "u"}, "spec": spec})).unwrap()
}

fn up() -> PodState {
    PodState {
        volumes: Volumes::Mounted,
        sandbox: SandboxState::Ready { id: "s".into(), ips: Vec::new() },
        ..PodState::default()
    }
}

fn running(pod: &Pod, name: &str) -> Running {
    let spec = pod.spec.as_ref().unwrap();
    let container = api::pod::containers::find(spec, name).unwrap();
    Running {
        resources: Default::default(),
        id: format!("{name}-id"),
        image: Default::default(),
        spec_hash: spec_hash(container),
        stop_signal: None,
        started_at: at(-60),
        post_start: PostStart::Done,
        health: Health { started: true, ready: true, failed: None },
        stop: None,
    }
}

fn ended(code: i32, finished: i64) -> Instance {
    let exit = Exit {
        exit_code: code,
        signal: None,
        oom_killed: false,
        started_at: None,
        finished_at: at(finished),
        reason: None,
        message: String::new(),
    };
    Instance::Ended(Ended { id: "old".into(), image: Default::default(), exit, anew: false })
}

fn with(mut state: PodState, name: &str, record: Record) -> PodState {
    state.containers.insert(name.into(), record);
    state
}

fn live(instance: Running) -> Record {
    Record { instance: Instance::Running(instance), ..Record::default() }
}

fn present() -> ImageState {
    ImageState::Present(Box::default())
}

fn failure(reason: &'static str, seconds: i64, delay: u64) -> Failure {
    Failure { reason, message: "m".into(), delay: Duration::from_secs(delay), retry_at: at(seconds) }
}

/// The plan on one line: actions, then when to wake.
fn show(pod: &Pod, state: &PodState) -> String {
    let Plan { actions, wake_at } = plan(pod, state, now());
    let actions: Vec<_> = actions.iter().map(|action| format!("{action:?}").replace('"', "")).collect();
    let mut text = actions.join("; ");
    if let Some(at) = wake_at {
        text.push_str(&format!(" wake in {}s", at.duration_since(now()).as_secs()));
    }
    text.trim().to_owned()
}

#[test]
fn the_way_up() {
    let pod = pod(json!({}));
    let fresh = PodState::default();
    assert_eq!(show(&pod, &fresh), "MountVolumes");
    let failed = PodState { volumes: Volumes::Failed(failure("FailedMount", 3, 4)), ..fresh };
    assert_eq!(show(&pod, &failed), "wake in 3s");
    let mounted = PodState { volumes: Volumes::Mounted, ..PodState::default() };
    assert_eq!(show(&pod, &mounted), "EnsureImage { container: app }; CreateSandbox");
    let no_sandbox = PodState { sandbox: SandboxState::Failed(failure("x", 0, 1)), ..mounted.clone() };
    assert_eq!(show(&pod, &no_sandbox), "EnsureImage { container: app }; CreateSandbox");
    let pulling = with(up(), "app", Record { image: ImageState::Pulling { after: None }, ..Record::default() });
    assert_eq!(show(&pod, &pulling), "");
    let pulled = with(up(), "app", Record { image: present(), ..Record::default() });
    assert_eq!(show(&pod, &pulled), "Start { container: app, attempt: 0 }");
    assert_eq!(show(&pod, &with(up(), "app", live(running(&pod, "app")))), "");
}

#[test]
fn images_of_volumes_are_awaited_as_containers_own() {
    let pod = pod(json!({}));
    let state = |failure| {
        let volumes = Volumes::NoImage { image: "site".into(), failure };
        PodState { volumes, ..PodState::default() }
    };
    assert_eq!(show(&pod, &state(failure("ErrImagePull", 10, 10))), "wake in 2s");
    assert_eq!(show(&pod, &state(failure("ErrImagePull", 8, 10))), "AnnounceVolumeBackOff wake in 8s");
    assert_eq!(show(&pod, &state(failure("ImagePullBackOff", 0, 10))), "MountVolumes");
}

#[test]
fn drivers_let_go_of_volumes_before_the_object_goes() {
    let pod = pod(json!({}));
    let termination = Termination { grace: Duration::ZERO, deadline: at(0), object_gone: false };
    let state = |held| PodState { termination: Some(termination.clone()), held, ..PodState::default() };
    assert_eq!(show(&pod, &state(Held::Some)), "ReleaseVolumes");
    assert_eq!(show(&pod, &state(Held::Releasing { after: None })), "");
    assert_eq!(show(&pod, &state(Held::Stuck(failure("FailedUnMount", 4, 4)))), "wake in 4s");
    assert_eq!(show(&pod, &state(Held::Nothing)), "DeleteObject");
}

#[test]
fn images_that_do_not_come() {
    let pod = pod(json!({}));
    let state = |failure| with(up(), "app", Record { image: ImageState::Failed(failure), ..Record::default() });
    assert_eq!(show(&pod, &state(failure("ErrImagePull", 10, 10))), "wake in 2s");
    assert_eq!(show(&pod, &state(failure("ErrImagePull", 8, 10))), "AnnounceBackOff { container: app } wake in 8s");
    assert_eq!(show(&pod, &state(failure("ImagePullBackOff", 8, 10))), "wake in 8s");
    assert_eq!(show(&pod, &state(failure("ImagePullBackOff", 0, 10))), "EnsureImage { container: app }");
}

#[test]
fn init_containers_and_sidecars_go_first() {
    let init = |name: &str, more: Value| {
        let mut container = json!({"name": name, "image": "nginx"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        container
    };
    let pod = pod(json!({"initContainers": [
        init("first", json!({})), init("mesh", json!({"restartPolicy": "Always"})), init("second", json!({})),
    ]}));
    assert_eq!(show(&pod, &up()), "EnsureImage { container: first }");
    let first_done = with(up(), "first", Record { instance: ended(0, -5), ..Record::default() });
    assert_eq!(show(&pod, &first_done), "EnsureImage { container: mesh }");
    let first_failed = with(up(), "first", Record { instance: ended(1, 0), ..Record::default() });
    assert_eq!(show(&pod, &first_failed), "EnsureImage { container: first }");
    let mut starting = running(&pod, "mesh");
    starting.health.started = false;
    assert_eq!(show(&pod, &with(first_done.clone(), "mesh", live(starting))), "");
    let meshed = with(first_done, "mesh", live(running(&pod, "mesh")));
    assert_eq!(show(&pod, &meshed), "EnsureImage { container: second }");
    let all = with(meshed, "second", Record { instance: ended(0, -1), ..Record::default() });
    assert_eq!(show(&pod, &all), "EnsureImage { container: app }");
    // Sidecars are signalled last; their preStop hooks run with the others'.
    let busy = with(all, "app", live(running(&pod, "app")));
    let termination = Termination { grace: Duration::from_secs(8), deadline: at(8), object_gone: false };
    let deleted = PodState { termination: Some(termination), ..busy };
    let drain =
        |name: &str| format!("Drain {{ container: {name}, withdrawal: 2s, deadline: {}, cause: PodDeleted }}", at(8));
    assert_eq!(show(&pod, &deleted), format!("{}; {}", drain("app"), drain("mesh")));
    let drained = |name: &str| {
        let mut running = running(&pod, name);
        running.stop = Some(Stopping { deadline: at(8), stage: Stage::Drained });
        live(running)
    };
    let both = with(with(deleted, "app", drained("app")), "mesh", drained("mesh"));
    assert_eq!(show(&pod, &both), "Signal { container: app, kill: false } wake in 8s");
    let app_dead = with(both, "app", Record { instance: ended(0, 0), ..Record::default() });
    assert_eq!(show(&pod, &app_dead), "Signal { container: mesh, kill: false }");
}

#[test]
fn sidecars_go_down_one_by_one_the_last_first() {
    let sidecar = |name: &str| json!({"name": name, "image": "nginx", "restartPolicy": "Always"});
    let pod = pod(json!({"initContainers": [sidecar("first"), sidecar("last")]}));
    let drained = |name: &str, seconds| {
        let mut running = running(&pod, name);
        running.stop = Some(Stopping { deadline: at(seconds), stage: Stage::Drained });
        live(running)
    };
    let state = |seconds| {
        let grace = Duration::from_secs(8);
        let termination = Some(Termination { grace, deadline: at(seconds), object_gone: false });
        let dead = Record { instance: ended(0, 0), ..Record::default() };
        let state = with(PodState { termination, ..up() }, "app", dead);
        with(with(state, "first", drained("first", seconds)), "last", drained("last", seconds))
    };
    let signal = |name: &str| format!("Signal {{ container: {name}, kill: false }}");
    assert_eq!(show(&pod, &state(8)), format!("{} wake in 8s", signal("last")));
    assert_eq!(show(&pod, &state(0)), format!("{}; {}", signal("last"), signal("first")), "no time is left for turns");
}

#[test]
fn a_post_start_hook_holds_back_the_containers_after_it() {
    let hook = json!({"postStart": {"exec": {"command": ["x"]}}});
    let pod = pod(json!({"containers": [
        {"name": "app", "image": "nginx", "lifecycle": hook}, {"name": "late", "image": "nginx"},
    ]}));
    let ready = |image: ImageState| Record { image, ..Record::default() };
    let fresh = |image| with(with(up(), "app", ready(image)), "late", ready(present()));
    let start = |name: &str| format!("Start {{ container: {name}, attempt: 0 }}");
    assert_eq!(show(&pod, &fresh(present())), start("app"));
    assert_eq!(show(&pod, &fresh(ImageState::Pulling { after: None })), "");
    let absent = fresh(ImageState::Failed(failure("ImagePullBackOff", 8, 10)));
    assert_eq!(show(&pod, &absent), format!("{} wake in 8s", start("late")), "who cannot start holds back nobody");
    let mut app = running(&pod, "app");
    for (hook, plan) in [(PostStart::Pending, String::new()), (PostStart::Done, start("late"))] {
        app.post_start = hook;
        assert_eq!(show(&pod, &with(fresh(present()), "app", live(app.clone()))), plan);
    }
    app.post_start = PostStart::Failed;
    let drain = format!("Drain {{ container: app, withdrawal: 7.5s, deadline: {}, cause: PostStartFailed }}", at(30));
    let failed = with(fresh(present()), "app", live(app));
    assert_eq!(show(&pod, &failed), format!("{drain}; {}", start("late")));
}

#[test]
fn restarts_follow_the_policy_and_the_back_off() {
    let crashed = |policy: &str, code, backoff: Option<u64>| {
        let backoff = backoff.map(|delay| CrashBackoff { delay: Duration::from_secs(delay), updated: at(-10) });
        let record = Record { attempt: 4, instance: ended(code, -5), image: present(), backoff, ..Record::default() };
        show(&pod(json!({"restartPolicy": policy})), &with(up(), "app", record))
    };
    let again = "Start { container: app, attempt: 5 }";
    assert_eq!(crashed("Always", 0, None), again);
    assert_eq!(crashed("Always", 1, Some(20)), "wake in 15s");
    assert_eq!(crashed("Always", 1, Some(5)), again);
    assert_eq!(crashed("OnFailure", 1, None), again);
    assert_eq!(crashed("OnFailure", 0, None), "");
    assert_eq!(crashed("Never", 1, None), "");
}

#[test]
fn unhealthy_and_changed_containers_are_replaced() {
    let probe = json!({"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 2});
    let pod = pod(json!({"terminationGracePeriodSeconds": 10,
        "containers": [{"name": "app", "image": "nginx", "livenessProbe": probe}]}));
    let mut unhealthy = running(&pod, "app");
    unhealthy.health.failed = Some(ProbeKind::Liveness);
    let drain = |withdrawal, seconds, cause| {
        format!("Drain {{ container: app, withdrawal: {withdrawal}, deadline: {}, cause: {cause} }}", at(seconds))
    };
    let state = with(up(), "app", live(unhealthy.clone()));
    assert_eq!(show(&pod, &state), drain("500ms", 2, "ProbeFailed(Liveness)"));
    let mut changed = running(&pod, "app");
    changed.spec_hash = "other".into();
    assert_eq!(show(&pod, &with(up(), "app", live(changed))), drain("2.5s", 10, "SpecChanged"));
    // Once begun, a stop goes its way.
    unhealthy.stop = Some(Stopping { deadline: at(2), stage: Stage::Draining });
    assert_eq!(show(&pod, &with(up(), "app", live(unhealthy.clone()))), "wake in 2s");
    unhealthy.stop = Some(Stopping { deadline: at(2), stage: Stage::Drained });
    assert_eq!(show(&pod, &with(up(), "app", live(unhealthy))), "Signal { container: app, kill: false }");
}

#[test]
fn the_way_down() {
    let pod = pod(json!({}));
    let terminating = |mut state: PodState, seconds| {
        let grace = Duration::from_secs(30);
        state.termination = Some(Termination { grace, deadline: at(seconds), object_gone: false });
        state
    };
    let stopping = |stage, deadline| {
        let mut running = running(&pod, "app");
        running.stop = Some(Stopping { deadline: at(deadline), stage });
        with(up(), "app", live(running))
    };
    let signalled = |seconds| Stage::Signalled { at: at(seconds) };
    assert_eq!(show(&pod, &terminating(stopping(signalled(0), 30), 30)), "wake in 30s");
    let hasten = format!("Hasten {{ container: app, deadline: {} }}", at(5));
    assert_eq!(show(&pod, &terminating(stopping(signalled(0), 30), 5)), hasten);
    let signal = |kill: bool| format!("Signal {{ container: app, kill: {kill} }}");
    assert_eq!(show(&pod, &terminating(stopping(signalled(-2), 0), 0)), signal(true));
    // However long the preStop hook took, the process sees its signal, and has two seconds for it.
    assert_eq!(show(&pod, &terminating(stopping(Stage::Draining, 0), 0)), signal(false));
    assert_eq!(show(&pod, &terminating(stopping(signalled(0), 0), 0)), "wake in 2s");
    assert_eq!(show(&pod, &terminating(stopping(Stage::Killed, -1), -1)), "");
    let mut dead = terminating(with(up(), "app", Record { instance: ended(0, 0), ..Record::default() }), 30);
    assert_eq!(show(&pod, &dead), "RemoveSandbox");
    dead.sandbox = SandboxState::Stuck { id: "s".into(), failure: failure("x", 7, 8) };
    assert_eq!(show(&pod, &dead), "wake in 7s");
    dead.sandbox = SandboxState::Absent;
    assert_eq!(show(&pod, &dead), "DeleteObject");
    dead.removal = Removal::Requested;
    assert_eq!(show(&pod, &dead), "");
    dead.removal = Removal::Failed(failure("x", 0, 1));
    assert_eq!(show(&pod, &dead), "DeleteObject");
    dead.termination.as_mut().unwrap().object_gone = true;
    assert_eq!(show(&pod, &dead), "Finish");
}

#[test]
fn a_finished_pod_keeps_neither_sandbox_nor_volumes() {
    let pod = pod(json!({"restartPolicy": "Never"}));
    let mut state = with(up(), "app", Record { instance: ended(0, 0), ..Record::default() });
    state.terminal = Some(Terminal::Succeeded);
    assert_eq!(show(&pod, &state), "RemoveSandbox");
    state.sandbox = SandboxState::Absent;
    assert_eq!(show(&pod, &state), "RemoveVolumes");
    state.volumes = Volumes::Unmounted;
    assert_eq!(show(&pod, &state), "");
}

#[test]
fn a_lost_sandbox_is_cleared_before_another_is_made() {
    let pod = pod(json!({}));
    let mut state = with(up(), "app", Record { instance: ended(137, 0), image: present(), ..Record::default() });
    state.sandbox = SandboxState::Lost { id: "s".into() };
    assert_eq!(show(&pod, &state), "RemoveSandbox");
    state.sandbox = SandboxState::Absent;
    assert_eq!(show(&pod, &state), "CreateSandbox");
}

#[test]
fn an_object_without_a_spec_plans_nothing() {
    assert_eq!(plan(&Pod::default(), &PodState::default(), now()), Plan::default());
}

mod deletion {
    use super::*;
    use crate::plan::deleted;

    fn asked(seconds: i64, grace: i64) -> Pod {
        let mut pod = pod(json!({"terminationGracePeriodSeconds": 30}));
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(seconds)));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        pod
    }

    fn deadline(pod: &Pod, current: Option<&Termination>, gone: bool) -> i64 {
        deleted(pod, current, gone, now()).unwrap().deadline.duration_since(now()).as_secs()
    }

    #[test]
    fn grace_counts_from_the_deletion() {
        assert_eq!(deleted(&pod(json!({})), None, false, now()), None);
        assert_eq!(deadline(&asked(30, 30), None, false), 30);
        // The agent was down for the first twenty seconds, or for all of it.
        assert_eq!(deadline(&asked(10, 30), None, false), 11);
        assert_eq!(deadline(&asked(-99, 30), None, false), 1);
        // A clock ahead of ours does not prolong it.
        assert_eq!(deadline(&asked(500, 30), None, false), 30);
    }

    #[test]
    fn force_and_disappearance_leave_a_second() {
        assert_eq!(deadline(&asked(0, 0), None, false), 1);
        let gone = deleted(&pod(json!({})), None, true, now()).unwrap();
        assert_eq!((gone.grace, gone.deadline, gone.object_gone), (Duration::ZERO, at(1), true));
    }

    #[test]
    fn a_later_request_can_only_shorten() {
        let current = Termination { grace: Duration::from_secs(5), deadline: at(5), object_gone: false };
        assert_eq!(deadline(&asked(30, 30), Some(&current), false), 5);
        assert_eq!(deadline(&asked(2, 2), Some(&current), false), 2);
        let longer = later(now(), Duration::from_secs(60));
        let current = Termination { deadline: longer, ..current };
        assert_eq!(deadline(&asked(30, 30), Some(&current), false), 30);
    }
}
