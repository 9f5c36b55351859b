//! One container as the shim sees it, from the start of its helper to the report of its exit.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::attach::{Attached, ClientEnds};
use super::client::ClientId;
use super::early::Early;
use super::helper::{Helper, StandardStreams};
use super::log::Log;
use super::output::{Output, ReadResult, Sink, Stream};
use crate::cgroup;
use crate::layout::{self, ContainerDir};
use crate::spec::ContainerSpec;
use crate::status::{ContainerState, ExitStatus};

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
}

pub(super) enum Phase {
    Starting {
        helper: Helper,
        client: ClientId,
        request: u64,
    },
    Running {
        pid: i32,
        started_at: Timestamp,
    },
    /// Dead, but its output is not read to the end.
    Ending {
        started_at: Timestamp,
        finished_at: Timestamp,
        ending: Ending,
    },
    Exited,
}

pub(super) struct Container {
    pub(super) id: String,
    directory: ContainerDir,
    pub(super) tty: bool,
    /// Among the processes of another container.
    pub(super) joined: bool,
    stdin_once: bool,
    oom_counter: Option<PathBuf>,
    pub(super) phase: Phase,
    pub(super) stdin: Option<Sink>,
    /// The client that was to give all input has closed its side.
    stdin_ended: bool,
    pub(super) outputs: Vec<Output>,
    terminal: Option<OwnedFd>,
    log: Option<Log>,
    pub(super) attached: Vec<Attached>,
    /// For the one client that a container with a single input waits for: the output before it came.
    early: Option<Early>,
    pub(super) forgotten: bool,
}

impl Container {
    /// Spawns the helper that makes the container.
    pub(super) fn start(
        directory: ContainerDir,
        spec: &ContainerSpec,
        oom_counter: Option<PathBuf>,
        client: ClientId,
        request: u64,
    ) -> io::Result<Self> {
        let log = spec.log_path.clone().map(|path| Log::open(path, spec.log_limit)).transpose()?;
        let (mut stdin, mut outputs) = (None, Vec::new());
        let mut streams = StandardStreams { stdin: Stdio::null(), stdout: Stdio::null(), stderr: Stdio::null() };
        if !spec.tty {
            if spec.stdin {
                let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
                stdin = Some(Sink::new(ours)?);
                streams.stdin = theirs.into();
            }
            let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
            outputs.push(Output::new(Stream::Stdout, ours)?);
            streams.stdout = theirs.into();
            let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
            outputs.push(Output::new(Stream::Stderr, ours)?);
            streams.stderr = theirs.into();
        }
        let helper = Helper::start_container(&directory, streams)?;
        Ok(Self {
            id: spec.id.clone(),
            directory,
            tty: spec.tty,
            joined: spec.processes_of.is_some(),
            stdin_once: spec.stdin_once,
            oom_counter,
            phase: Phase::Starting { helper, client, request },
            stdin,
            stdin_ended: false,
            outputs,
            terminal: None,
            log,
            attached: Vec::new(),
            early: spec.stdin_once.then(Early::default),
            forgotten: false,
        })
    }

    pub(super) fn pid(&self) -> Option<i32> {
        match &self.phase {
            Phase::Starting { helper, .. } => helper.pid,
            Phase::Running { pid, .. } => Some(*pid),
            Phase::Ending { .. } | Phase::Exited => None,
        }
    }

    pub(super) fn has_exited(&self) -> bool {
        matches!(self.phase, Phase::Exited)
    }

    /// The command has been executed. A terminal takes the place of the pipes.
    pub(super) fn started(&mut self, pid: i32, terminal: Option<OwnedFd>) -> io::Result<Timestamp> {
        if let Some(terminal) = terminal {
            self.outputs.push(Output::new(Stream::Stdout, terminal.try_clone()?)?);
            self.stdin = Some(Sink::new(terminal.try_clone()?)?);
            self.terminal = Some(terminal);
        }
        let started_at = Timestamp::now();
        self.phase = Phase::Running { pid, started_at };
        self.save(&ContainerState::Running { pid, started_at })?;
        Ok(started_at)
    }

    /// It could not be started; the exit code is the one containerd gives.
    pub(super) fn start_failed(&mut self, message: &str) -> ExitStatus {
        let status = ExitStatus {
            exit_code: 128,
            signal: None,
            oom_killed: false,
            started_at: None,
            finished_at: Timestamp::now(),
            reason: Some("StartError".to_owned()),
            message: Some(message.to_owned()),
        };
        self.outputs.clear();
        self.exit(status)
    }

    /// Its first process is dead, and with it every other: by its pid namespace, else the server kills them.
    pub(super) fn reaped(&mut self, ending: Ending) {
        if let Phase::Running { started_at, .. } = self.phase {
            self.phase = Phase::Ending { started_at, finished_at: Timestamp::now(), ending };
            self.stdin = None;
        }
    }

    /// Reads one output once; takes it out at its end.
    pub(super) fn read_output(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        match self.outputs[index].read(buffer) {
            ReadResult::Data(n) => {
                let output = &mut self.outputs[index];
                if let Some(log) = &mut self.log {
                    log.append(output, &buffer[..n]);
                }
                for attached in &mut self.attached {
                    attached.push(output.stream, &buffer[..n]);
                }
                let logged = self.log.as_ref().map(Log::size);
                let stream = self.outputs[index].stream;
                self.early.take_if(|early| !early.push(stream, &buffer[..n], logged));
                true
            }
            ReadResult::Nothing => false,
            ReadResult::End => {
                self.end_output(index);
                false
            }
        }
    }

    fn end_output(&mut self, index: usize) {
        let mut output = self.outputs.remove(index);
        if let Some(log) = &mut self.log {
            log.finish(&mut output);
        }
    }

    /// Once dead: reads what is left. A pipe holds all of it by now; a terminal is read until it ends.
    /// Returns the final state when everything has been read.
    pub(super) fn finish(&mut self, buffer: &mut [u8]) -> Option<ExitStatus> {
        let Phase::Ending { started_at, finished_at, ending } = self.phase else { return None };
        let mut index = 0;
        while index < self.outputs.len() {
            let before = self.outputs.len();
            while self.read_output(index, buffer) {}
            if self.outputs.len() < before {
                continue;
            }
            if self.tty {
                index += 1;
            } else {
                self.end_output(index);
            }
        }
        if !self.outputs.is_empty() {
            return None;
        }
        let oom_killed = self.oom_counter.as_deref().is_some_and(|file| cgroup::oom_kills(file) > 0);
        Some(self.exit(ExitStatus {
            exit_code: ending.code,
            signal: ending.signal,
            oom_killed,
            started_at: Some(started_at),
            finished_at,
            reason: None,
            message: None,
        }))
    }

    /// Recorded before anybody can notice, so that whoever has noticed finds the record.
    fn exit(&mut self, status: ExitStatus) -> ExitStatus {
        // Were it not written (a full disk), a later client would take the container for running.
        let _ = self.save(&ContainerState::Exited(status.clone()));
        self.phase = Phase::Exited;
        self.stdin = None;
        self.terminal = None;
        self.log = None;
        for attached in &mut self.attached {
            attached.close();
        }
        status
    }

    /// `seen` is how much of its log the client knows.
    pub(super) fn attach(&mut self, seen: u64) -> io::Result<ClientEnds> {
        let (mut attached, ends) = Attached::new(self.stdin.is_some(), self.terminal.as_ref())?;
        for (stream, data) in self.early.take().into_iter().flat_map(|early| early.after(seen)) {
            attached.push(stream, &data);
        }
        self.attached.push(attached);
        Ok(ends)
    }

    /// Moves what an attached client typed; only while the container takes it.
    pub(super) fn read_attached(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(source) = &self.attached[index].stdin else { return };
        match super::output::read(source, buffer) {
            ReadResult::Data(n) => {
                if self.stdin.as_mut().is_none_or(|sink| sink.push(&buffer[..n]).is_err()) {
                    self.stdin = None;
                    self.attached[index].stdin = None;
                }
            }
            ReadResult::Nothing => {}
            ReadResult::End => {
                self.attached[index].stdin = None;
                self.stdin_ended |= self.stdin_once && !self.tty;
            }
        }
        self.close_ended_stdin();
    }

    pub(super) fn flush_stdin(&mut self) {
        if self.stdin.as_mut().is_some_and(|sink| sink.flush().is_err()) {
            self.stdin = None;
        }
        self.close_ended_stdin();
    }

    fn close_ended_stdin(&mut self) {
        if self.stdin_ended && self.stdin.as_ref().is_some_and(|sink| !sink.is_full()) {
            self.stdin = None;
        }
    }

    /// Whether an attached client must catch up before more of this stream is read.
    pub(super) fn is_held_back(&self, stream: Stream) -> bool {
        matches!(self.phase, Phase::Running { .. }) && self.attached.iter().any(|a| a.is_full(stream))
    }

    pub(super) fn directory(&self) -> &ContainerDir {
        &self.directory
    }

    fn save(&self, state: &ContainerState) -> io::Result<()> {
        layout::save(&self.directory.state(), state)
    }
}
