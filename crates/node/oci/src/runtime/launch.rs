//! Bringing a sandbox into being, and finding those of an earlier life of this binary.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use base_sys::crash;
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::UnboundedSender;

use super::connection::{self, CallError, Connection, Receiver};
use super::sandbox::Sandbox;
use super::{blocking, teardown};
use crate::cgroup::Cgroups;
use crate::executable::{Executable, Role};
use crate::layout::{self, SandboxDir, SandboxRecord, ShimRecord};
use crate::status::{Event, SandboxState};
use crate::wire::{self, Operation, Reply};
use crate::{Error, RuntimeConfig, SandboxSpec, shim};

/// Makes the sandbox, or nothing.
pub(super) async fn create(
    config: Arc<RuntimeConfig>,
    spec: SandboxSpec,
    events: UnboundedSender<Event>,
) -> Result<Arc<Sandbox>, Error> {
    let directory = SandboxDir(config.root.join(&spec.id));
    let record = SandboxRecord { spec, created_at: Timestamp::now(), cgroup_root: config.cgroup_root.clone() };
    // Making the directory is claiming the id: whoever fails here must not undo another's work below.
    if let Err(e) = DirBuilder::new().mode(0o700).create(&directory.0) {
        return Err(match e.kind() {
            ErrorKind::AlreadyExists => Error::Exists { what: "sandbox", id: record.spec.id },
            _ => Error::io("make the directory", &directory.0)(e),
        });
    }
    match launch(&config, &directory, &record).await {
        Ok((connection, receiver)) => {
            let sandbox = Sandbox::new(directory, record, Some(connection), SandboxState::Ready, events);
            sandbox.follow(receiver);
            hello(&sandbox).await?;
            Ok(sandbox)
        }
        Err(error) => {
            let undo = move || {
                teardown::kill_shims(&directory.0).map_err(Error::io("kill the shim of", &directory.0))?;
                teardown::remove_sandbox(&directory, Some(&record), &Cgroups::discover()?)
            };
            if let Err(error) = blocking(undo).await {
                tracing::warn!(error = crate::error::chain(&error), "a failed sandbox could not be removed");
            }
            Err(error)
        }
    }
}

async fn launch(
    config: &RuntimeConfig,
    directory: &SandboxDir,
    record: &SandboxRecord,
) -> Result<(Connection, Receiver), Error> {
    let (files, contents) = (directory.clone(), record.clone());
    blocking(move || write_files(&files, &contents)).await?;
    let sandbox = &record.spec.id;
    let failed = |message: String| Error::ShimStart { sandbox: sandbox.clone(), message };
    let executable = Executable::open(&config.binary).map_err(Error::io("prepare for execution", &config.binary))?;
    let mut command = executable.command(Role::Shim);
    command.arg(&directory.0).current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Dropped, not awaited: the shim is to outlive us. As long as we live, tokio reaps it.
    let mut child = tokio::process::Command::from(command).spawn().map_err(|e| failed(e.to_string()))?;
    crash::point("shim spawned");
    let mut said = String::new();
    if let Some(output) = &mut child.stdout {
        output.read_to_string(&mut said).await.map_err(|e| failed(e.to_string()))?;
    }
    match said.trim() {
        shim::READY => connection::connect(&directory.0).map_err(Error::io("reach the shim in", &directory.0)),
        "" => Err(failed("it ended without a word".to_owned())),
        message => Err(failed(message.to_owned())),
    }
}

fn write_files(directory: &SandboxDir, record: &SandboxRecord) -> Result<(), Error> {
    let spec = &record.spec;
    let make = |path: &Path| DirBuilder::new().mode(0o700).create(path).map_err(Error::io("make the directory", path));
    make(&directory.containers())?;
    make(&directory.shm())?;
    let hostname = if spec.host_network {
        nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
    } else {
        spec.hostname.clone()
    };
    for (path, text) in [
        (directory.hostname(), &format!("{hostname}\n")),
        (directory.hosts(), &spec.hosts),
        (directory.resolv_conf(), &spec.resolv_conf),
    ] {
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    layout::save(&directory.record(), record).map_err(Error::io("write", directory.record()))?;
    let cgroups = Cgroups::discover()?;
    let pod = record.cgroup();
    cgroups.create(&pod)?;
    cgroups.limit(&pod, &spec.resources)?;
    crash::point("sandbox recorded");
    Ok(())
}

/// Finds one sandbox directory's sandbox again. `None`: it was never finished and has been removed.
pub(super) async fn recover(
    directory: SandboxDir,
    events: UnboundedSender<Event>,
) -> Result<Option<Arc<Sandbox>>, Error> {
    let record: Option<SandboxRecord> = layout::load(&directory.record()).ok();
    let shim: Option<ShimRecord> = layout::load(&directory.shim_record()).ok();
    let (Some(record), Some(shim)) = (record.clone(), shim) else {
        blocking(move || {
            teardown::kill_shims(&directory.0).map_err(Error::io("kill the shim of", &directory.0))?;
            teardown::remove_sandbox(&directory, record.as_ref(), &Cgroups::discover()?)
        })
        .await?;
        return Ok(None);
    };
    let id = record.spec.id.clone();
    if shim.protocol != wire::VERSION {
        return Err(Error::ProtocolVersion { sandbox: id, theirs: shim.protocol, ours: wire::VERSION });
    }
    let connected = connection::connect(&directory.0).ok();
    if connected.is_none() {
        let (directory, record) = (directory.clone(), record.clone());
        blocking(move || teardown::write_off(&directory, &record, &Cgroups::discover()?)).await?;
    }
    let ready = connected.is_some() && !directory.stopped().exists();
    let state = if ready { SandboxState::Ready } else { SandboxState::NotReady };
    let (connection, receiver) = connected.unzip();
    let lost = connection.is_none();
    let sandbox = Sandbox::new(directory, record, connection, state, events.clone());
    if let Some(receiver) = receiver {
        sandbox.follow(receiver);
        // Once it has answered, it announces every exit to us too.
        hello(&sandbox).await?;
    }
    sandbox.load()?;
    if lost {
        let _ = events.send(Event::ShimLost { sandbox: id });
    }
    Ok(Some(sandbox))
}

/// Learns whether the shim can be understood.
async fn hello(sandbox: &Sandbox) -> Result<(), Error> {
    match sandbox.call(Operation::Hello { version: wire::VERSION }).await {
        Ok((Reply::Hello { version: wire::VERSION }, _)) => Ok(()),
        Ok((Reply::Hello { version }, _)) => {
            Err(Error::ProtocolVersion { sandbox: sandbox.id.clone(), theirs: version, ours: wire::VERSION })
        }
        Ok(_) | Err(CallError::Gone) => Err(sandbox.gone()),
        Err(CallError::Failed(failure)) => {
            Err(Error::Sandbox { sandbox: sandbox.id.clone(), message: failure.message })
        }
    }
}
