//! Starting a further process in a running container.

use libcontainer::oci_spec::runtime::{LinuxSeccomp, Process};
use serde::Deserialize;
use serde_json::{Value, json};

use super::entry::{Entry, Namespaces};
use super::init::own_standard_streams;
use super::user::Identity;
use super::{HelperError, Job, step};
use crate::kernel;
use crate::layout;
use crate::spec::ExecSpec;

pub(super) fn start(job: &mut Job) -> Result<(), HelperError> {
    let mut buffer = vec![0; 256 << 10];
    let (length, _) = kernel::receive(job.reporter.socket(), &mut buffer).map_err(step("receive the command"))?;
    let spec: ExecSpec = serde_json::from_slice(&buffer[..length]).map_err(step("read the command"))?;
    job.cgroups.join(&job.cgroup()).map_err(step("enter the container's cgroup"))?;
    job.set_oom_score();
    let config: Value =
        layout::load(&job.directory.oci_config()).map_err(step("read the container's configuration"))?;
    let process = process(&config, &spec).ok_or_else(|| HelperError::Other("no process configured".to_owned()))?;
    let process: Process = serde_json::from_value(process).map_err(step("read the container's process"))?;
    let seccomp: Option<LinuxSeccomp> =
        Option::deserialize(&config["linux"]["seccomp"]).map_err(step("read the container's seccomp profile"))?;
    let user = process.user();
    let identity = Identity { uid: user.uid(), gid: user.gid(), additional_gids: Vec::new(), home: String::new() };
    let users = job.sandbox.spec.users;
    own_standard_streams(users, &identity);
    let container = job.first_process(&job.container.spec.id)?;
    let namespaces = Namespaces::of(container, users.is_some()).map_err(step("find the container's namespaces"))?;
    let (pid, terminal) = Entry { namespaces, process, seccomp }.start(job.reporter)?;
    let warnings = std::mem::take(&mut job.warnings);
    job.reporter.started(pid, warnings, terminal.as_ref()).map_err(step("report the start"))
}

/// The container's own process with another command.
fn process(config: &Value, spec: &ExecSpec) -> Option<Value> {
    let mut process = config.get("process")?.clone();
    let own_environment = process.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut environment: Vec<Value> = own_environment;
    if spec.tty && !environment.iter().any(|e| e.as_str().is_some_and(|e| e.starts_with("TERM="))) {
        environment.push(json!("TERM=xterm"));
    }
    environment.extend(spec.env.iter().map(|e| json!(e)));
    process["args"] = json!(spec.args);
    process["env"] = Value::Array(environment);
    process["terminal"] = json!(spec.tty);
    Some(process)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_exec_is_the_containers_process_with_another_command() {
        let config = json!({"process": {"args": ["sleep"], "env": ["PATH=/bin"], "cwd": "/w", "terminal": false}});
        let spec =
            ExecSpec { args: vec!["sh".to_owned()], env: vec!["A=1".to_owned()], tty: true, ..ExecSpec::default() };
        assert_eq!(
            process(&config, &spec).unwrap(),
            json!({"args": ["sh"], "env": ["PATH=/bin", "TERM=xterm", "A=1"], "cwd": "/w", "terminal": true})
        );
        assert_eq!(process(&json!({}), &spec), None);
    }
}
