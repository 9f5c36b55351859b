//! Short-lived processes that run libcontainer on the shim's behalf: one per container start, one per exec.
//! They report over the socket that the shim passed them and end; what they made becomes the shim's child.

mod binds;
mod capabilities;
mod console;
mod entry;
mod exec;
mod executor;
mod init;
mod oci;
mod report;
mod rootfs;
mod user;
mod users;

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::cgroup::{self, Cgroups, Version};
use crate::error::chain;
use crate::layout::{self, ContainerDir, ContainerRecord, SandboxRecord, ShimRecord};
use crate::spec::Processes;
use crate::status::ContainerState;
use oci::PidNamespace;
pub use oci::{MASKED, READ_ONLY};
use report::Reporter;

/// Why a helper gives up, in words for the user.
#[derive(Debug, thiserror::Error)]
enum HelperError {
    #[error("{operation}")]
    Step { operation: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{0}")]
    User(#[from] user::UserError),
    #[error(transparent)]
    Bind(#[from] binds::BindError),
    #[error("{0}")]
    Other(String),
}

fn step<E>(operation: impl Into<String>) -> impl FnOnce(E) -> HelperError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| HelperError::Step { operation: operation.into(), source: source.into() }
}

pub(crate) fn init(arguments: &[OsString]) -> i32 {
    run(arguments, init::start)
}

pub(crate) fn exec(arguments: &[OsString]) -> i32 {
    run(arguments, exec::start)
}

/// What every helper works on.
struct Job {
    directory: ContainerDir,
    sandbox: SandboxRecord,
    container: ContainerRecord,
    cgroups: Cgroups,
    reporter: Reporter,
    warnings: Vec<String>,
}

fn run(arguments: &[OsString], start: fn(&mut Job) -> Result<(), HelperError>) -> i32 {
    let [directory, socket] = arguments else { return 64 };
    let Some(socket) = socket.to_str().and_then(|s| s.parse::<RawFd>().ok()) else { return 64 };
    // A helper without its shim would make a container that nobody owns.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let Ok(reporter) = Reporter::inherit(socket) else { return 64 };
    reporter.capture_library_errors();
    let result = Job::load(ContainerDir(PathBuf::from(directory)), reporter).and_then(|mut job| start(&mut job));
    match result {
        Ok(()) => 0,
        Err(error) => {
            reporter.failed(&chain(&error), false);
            1
        }
    }
}

impl Job {
    fn load(directory: ContainerDir, reporter: Reporter) -> Result<Self, HelperError> {
        let sandbox = directory.sandbox().ok_or_else(|| HelperError::Other("no sandbox directory".to_owned()))?;
        Ok(Self {
            sandbox: layout::load(&sandbox.record()).map_err(step("read the sandbox's record"))?,
            container: layout::load(&directory.record()).map_err(step("read the container's record"))?,
            cgroups: Cgroups::discover().map_err(step("find the cgroups"))?,
            directory,
            reporter,
            warnings: Vec::new(),
        })
    }

    fn cgroup(&self) -> PathBuf {
        self.sandbox.cgroup().join(&self.container.spec.id)
    }

    fn pid_namespace(&self) -> Result<PidNamespace, HelperError> {
        if let Some(id) = &self.container.spec.processes_of {
            return self.first_process(id).map(PidNamespace::Of);
        }
        match self.sandbox.spec.processes {
            Processes::Own => Ok(PidNamespace::New),
            Processes::Host => Ok(PidNamespace::Host),
            Processes::Shared => {
                let sandbox = self.directory.sandbox();
                let record = sandbox.and_then(|sandbox| layout::load::<ShimRecord>(&sandbox.shim_record()).ok());
                let pause = record.and_then(|record| record.pause).and_then(|pid| i32::try_from(pid).ok());
                pause.map(PidNamespace::Of).ok_or_else(|| HelperError::Other("the pod has no first process".to_owned()))
            }
        }
    }

    /// Of a container of the pod.
    fn first_process(&self, id: &str) -> Result<i32, HelperError> {
        let sandbox = self.directory.sandbox().ok_or_else(|| HelperError::Other("no sandbox directory".to_owned()))?;
        let state: ContainerState =
            layout::load(&sandbox.container(id).state()).map_err(step(format!("read the state of container {id}")))?;
        match state {
            ContainerState::Running { pid, .. } => Ok(pid),
            _ => Err(HelperError::Other(format!("container {id} does not run"))),
        }
    }

    /// libcontainer enters the hierarchies with controllers; the others only group processes, and it does not
    /// know them.
    fn join_grouping_hierarchies(&self) -> Result<(), HelperError> {
        let unified = self.cgroups.is_v2();
        let grouping = |h: &cgroup::Hierarchy| match h.version {
            Version::V1 => h.controllers.iter().any(|c| c.starts_with("name=")),
            Version::V2 => !unified,
        };
        self.cgroups.join_where(&self.cgroup(), grouping).map_err(step("enter the container's cgroup"))
    }

    /// The shim's own value must not be inherited, so that there is always one to set.
    fn set_oom_score(&mut self) {
        const FILE: &str = "/proc/self/oom_score_adj";
        let wanted = self.container.spec.resources.oom_score_adj.unwrap_or(0).clamp(-1000, 1000);
        if std::fs::write(FILE, wanted.to_string()).is_err() {
            // The same words every time: they are logged once.
            self.warnings
                .push("oom_score_adj cannot be lowered without CAP_SYS_RESOURCE, the inherited one stays".to_owned());
        }
    }
}
