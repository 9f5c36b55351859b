//! Starting a helper (libcontainer in a fresh process) and reading what it reports. The report socket stays
//! open in the started process until it executes its command, so its end without an error means success.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Stdio;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use crate::executable::{Role, same_binary};
use crate::kernel;
use crate::layout::ContainerDir;
use crate::spec::ExecSpec;

/// Sent by the helper, and by the process that it made until that executes its command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// With the terminal's descriptor if there is one.
    Started { pid: i32, warnings: Vec<String> },
    /// `exact`: the cause itself, in the words for the user.
    Failed { message: String, exact: bool },
    /// What a library logged as an error before it failed.
    Detail { text: String },
}

/// A helper at work.
pub(super) struct Helper {
    socket: OwnedFd,
    pub(super) pid: Option<i32>,
    pub(super) warnings: Vec<String>,
    pub(super) terminal: Option<OwnedFd>,
    failure: Option<String>,
    detail: Option<String>,
}

pub(super) struct StandardStreams {
    pub(super) stdin: Stdio,
    pub(super) stdout: Stdio,
    pub(super) stderr: Stdio,
}

/// What became of the process.
pub(super) enum Outcome {
    Pending,
    Executed,
    Failed(String),
}

impl Helper {
    pub(super) fn start_container(container: &ContainerDir, streams: StandardStreams) -> io::Result<Self> {
        Self::spawn(Role::Init, container, streams)
    }

    pub(super) fn start_exec(container: &ContainerDir, spec: &ExecSpec, streams: StandardStreams) -> io::Result<Self> {
        let helper = Self::spawn(Role::Exec, container, streams)?;
        // Fits in the socket or fails at once: nobody has read yet.
        kernel::send(helper.socket.as_fd(), &serde_json::to_vec(spec)?, &[])?;
        Ok(helper)
    }

    fn spawn(role: Role, container: &ContainerDir, streams: StandardStreams) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        kernel::set_nonblocking(ours.as_fd())?;
        kernel::make_inheritable(theirs.as_fd())?;
        let mut command = same_binary(role);
        command.arg(&container.0).arg(theirs.as_raw_fd().to_string());
        command.stdin(streams.stdin).stdout(streams.stdout).stderr(streams.stderr);
        command.spawn()?; // reaped with all other children
        Ok(Self { socket: ours, pid: None, warnings: Vec::new(), terminal: None, failure: None, detail: None })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Reads all that was reported until now.
    pub(super) fn progress(&mut self) -> Outcome {
        let mut buffer = [0; 32 << 10];
        loop {
            match kernel::receive(self.socket.as_fd(), &mut buffer) {
                Ok((0, _)) => {
                    return match (self.failure.take(), self.pid) {
                        (Some(message), _) => Outcome::Failed(message),
                        (None, Some(_)) => Outcome::Executed,
                        (None, None) => Outcome::Failed("the helper process ended without a report".to_owned()),
                    };
                }
                Ok((n, descriptors)) => match serde_json::from_slice(&buffer[..n]) {
                    Ok(Report::Started { pid, warnings }) => {
                        self.pid = Some(pid);
                        self.warnings = warnings;
                        self.terminal = descriptors.into_iter().next();
                    }
                    // The first is the most precise: what follows reports that something before it failed.
                    Ok(Report::Failed { message, exact }) if self.failure.is_none() => {
                        self.failure = Some(match self.detail.take().filter(|_| !exact) {
                            Some(detail) => format!("{message}: {detail}"),
                            None => message,
                        });
                    }
                    Ok(Report::Failed { .. }) => {}
                    Ok(Report::Detail { text }) => {
                        self.detail.get_or_insert(text);
                    }
                    Err(e) => {
                        self.failure.get_or_insert(format!("the helper's report is not understood: {e}"));
                    }
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Outcome::Pending,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Outcome::Failed(format!("cannot read the helper's report: {e}")),
            }
        }
    }
}
