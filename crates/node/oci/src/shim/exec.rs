//! A further process in a container. Its streams belong to the client; the shim only starts and reaps it.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::client::ClientId;
use super::helper::{Helper, StandardStreams};
use crate::layout::ContainerDir;
use crate::spec::ExecSpec;
use crate::wire::StreamKind;

pub(super) struct Exec {
    /// The client's name for it.
    pub(super) id: u64,
    pub(super) client: ClientId,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    Starting { helper: Helper, request: u64, ends: Vec<(StreamKind, OwnedFd)> },
    Running { pid: i32 },
    Over,
}

impl Exec {
    pub(super) fn start(
        container: &ContainerDir,
        spec: &ExecSpec,
        id: u64,
        client: ClientId,
        request: u64,
    ) -> io::Result<Self> {
        let mut ends = Vec::new();
        let mut streams = StandardStreams { stdin: Stdio::null(), stdout: Stdio::null(), stderr: Stdio::null() };
        if !spec.tty {
            if spec.stdin {
                let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
                streams.stdin = theirs.into();
                ends.push((StreamKind::Stdin, ours));
            }
            if spec.stdout {
                let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
                streams.stdout = theirs.into();
                ends.push((StreamKind::Stdout, ours));
            }
            if spec.stderr {
                let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
                streams.stderr = theirs.into();
                ends.push((StreamKind::Stderr, ours));
            }
        }
        let helper = Helper::start_exec(container, spec, streams)?;
        Ok(Self { id, client, phase: Phase::Starting { helper, request, ends } })
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }
}
