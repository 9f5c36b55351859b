//! Starting a further process in a running container.

use std::fs;
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use serde_json::{Value, json};

use super::confinement::Confinement;
use super::console::Console;
use super::executor::Command;
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
    job.join_grouping_hierarchies()?;
    job.set_oom_score();
    let config: Value =
        layout::load(&job.directory.oci_config()).map_err(step("read the container's configuration"))?;
    let mut process = process(&config, &spec).ok_or_else(|| HelperError::Other("no process configured".to_owned()))?;
    let confinement = Confinement::of(&config, &mut process).map_err(step("read the container's seccomp profile"))?;
    if let Some(identity) = identity(&process) {
        own_standard_streams(&identity);
    }
    // libcontainer leaves sockets behind for every exec: it gets a state directory of this exec's own.
    let own = job.directory.0.join(format!("exec-{}", std::process::id()));
    let result = launch(job, &spec, &process, confinement, &own);
    let _ = fs::remove_dir_all(&own);
    result
}

fn launch(
    job: &mut Job,
    spec: &ExecSpec,
    process: &Value,
    confinement: Option<Confinement>,
    own: &Path,
) -> Result<(), HelperError> {
    let id = &job.container.spec.id;
    let state = own.join(id);
    fs::create_dir_all(&state).map_err(step("make a state directory"))?;
    fs::hard_link(job.directory.oci_state().join(id).join("state.json"), state.join("state.json"))
        .map_err(step("find the container's state"))?;
    let process_file = own.join("process.json");
    layout::save(&process_file, process).map_err(step("write the process's configuration"))?;
    let console = spec.tty.then(|| Console::listen(own)).transpose().map_err(step("listen for the terminal"))?;
    let pid = ContainerBuilder::new(id.clone(), SyscallType::default())
        .with_executor(Command { reporter: job.reporter, confinement })
        .with_root_path(own)
        .map_err(step("open the state directory"))?
        .with_console_socket(console.as_ref().map(Console::path))
        .as_tenant()
        .with_process(Some(&process_file))
        .with_detach(true)
        .build()
        .map_err(step("execute in the container"))?;
    let terminal = console.map(Console::receive).transpose().map_err(step("receive the terminal"))?;
    let warnings = std::mem::take(&mut job.warnings);
    job.reporter.started(pid.as_raw(), warnings, terminal.as_ref()).map_err(step("report the start"))
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

fn identity(process: &Value) -> Option<Identity> {
    let number = |key| process["user"][key].as_u64().and_then(|n| u32::try_from(n).ok());
    Some(Identity { uid: number("uid")?, gid: number("gid")?, additional_gids: Vec::new(), home: String::new() })
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
